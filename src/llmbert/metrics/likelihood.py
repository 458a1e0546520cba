"""How probable a model finds a text: perplexity and bits a byte, with intervals and signature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmbert.metrics.bootstrap import percentile_interval, resampled_sums, two_sided_p
from llmbert.metrics.signature import build_signature
from llmbert.protocols import Likelihood, LLMBertError

LEAST_DOCUMENTS = 30  # fewer are too few to resample
BLOCK_TOKENS = 512
LEAST_BLOCK_TOKENS = 16
LEVEL = 0.95


@dataclass(frozen=True)
class TokenNats:
    """The nats of every token of some documents, as a `Scorer` gives them.

    nats: float32 (N,), 0 at each document's begin token; starts: int64 (documents + 1,);
    document_bytes, document_characters: (documents,) of the original texts in UTF-8; unknown: how many tokens stand
    for text outside the vocabulary; cut: of how many documents only the first tokens are here; part: which part of a
    text these documents are, in words, "" for all of it. The first token of every document is its begin token, which is
    not scored.

    Raises LLMBertError where the figures do not fit together or are not numbers.
    """

    nats: np.ndarray
    starts: np.ndarray
    document_bytes: np.ndarray
    document_characters: np.ndarray
    unknown: int = 0
    cut: int = 0
    part: str = ""

    def __post_init__(self) -> None:
        starts = np.asarray(self.starts, dtype=np.int64)
        object.__setattr__(self, "starts", starts)
        object.__setattr__(self, "document_bytes", np.asarray(self.document_bytes, dtype=np.int64))
        object.__setattr__(self, "document_characters", np.asarray(self.document_characters, dtype=np.int64))
        if len(starts) < 2:
            raise LLMBertError("There is no document to score; give data that holds at least one.")
        if starts[0] != 0 or starts[-1] != len(self.nats) or (np.diff(starts) < 2).any():
            raise LLMBertError(
                f"{len(self.nats)} token scores do not fit documents that end at {int(starts[-1])}; "
                "every document needs its begin token and at least one scored token."
            )
        if not len(self.document_bytes) == len(self.document_characters) == self.documents:
            raise LLMBertError(
                f"{self.documents} documents were scored, but the sizes of {len(self.document_bytes)} are known; "
                "score the same data."
            )
        if np.isnan(self.nats).any():
            raise LLMBertError("The model's scores are not numbers; its training diverged: train it again.")
        if np.any(self.nats[starts[:-1]]):
            raise LLMBertError("A document's begin token has a score, but it is given: its nats must be 0.")

    @property
    def documents(self) -> int:
        return len(self.starts) - 1

    @property
    def is_whole(self) -> bool:
        """Whether the tokens are all of the original text, so that its bytes and characters may divide their nats."""
        return not (self.unknown or self.cut)

    @property
    def document_tokens(self) -> np.ndarray:
        """Scored tokens of each document, int64 (documents,)."""
        return np.diff(self.starts) - 1

    def without_ends(self) -> TokenNats:
        """The same without each document's last token, its end: what a model that is given the end is scored on.

        Documents of no token but the end are left out. Raises LLMBertError where none is left.
        """
        kept = np.diff(self.starts) > 2
        inside = np.repeat(kept, np.diff(self.starts))
        inside[self.starts[1:] - 1] = False
        starts = np.concatenate(([0], np.cumsum(np.diff(self.starts)[kept] - 1)))
        sizes = self.document_bytes[kept], self.document_characters[kept]
        return TokenNats(self.nats[inside], starts, *sizes, self.unknown, self.cut, self.part)

    def per_document(self) -> np.ndarray:
        """Nats, tokens, bytes and characters of each document: float64 (documents, 4)."""
        sums = np.add.reduceat(self.nats, self.starts[:-1], dtype=np.float64)
        return np.stack(
            [sums, self.document_tokens, self.document_bytes, self.document_characters], axis=1, dtype=float
        )

    def per_block(self, blocks: np.ndarray) -> np.ndarray:
        """The same, of each document cut into `blocks` (documents,) runs of tokens as even as can be: (sum, 4).

        Where a token's bytes lie is not known, so a block's bytes and characters are its document's, in proportion of
        tokens.
        """
        document = np.repeat(np.arange(self.documents), blocks)
        place = np.arange(len(document)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        tokens = self.document_tokens[document]
        first, last = tokens * place // blocks[document], tokens * (place + 1) // blocks[document]
        # begin tokens score 0, so a block may run up to the next one's start
        sums = np.add.reduceat(self.nats, self.starts[document] + 1 + first, dtype=np.float64)
        share = (last - first) / tokens
        sizes = [share * self.document_bytes[document], share * self.document_characters[document]]
        return np.stack([sums, last - first, *sizes], axis=1, dtype=float)


def likelihood_scores(
    text: TokenNats,
    *,
    likelihood: Likelihood,
    tokeniser: str,
    context: str,
    unit: str = "token+end",
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of one text under one model, as JSON can hold them.

    nats_per_token, perplexity (its exponential), bits_per_character, bits_per_byte, tokens (scored: end tokens are,
    begin tokens are not), documents, bytes, characters, unknown, cut, infinite_tokens, likelihood, interval, signature,
    and part, if only part of the text was read. `tokeniser` ("words-1a2b3c4d"), `context` ("sliding-64-8", "document"),
    `unit` and, if there are any, the number of cut documents and the part go into the signature.

    Bits by byte or character divide by the original text and are None if anything of it was unknown or cut off, since
    then it is not that text's probability. Where the model gave a token no probability, nats are infinite:
    `infinite_tokens` counts them, and all figures that would be infinite are None. An exponential too large for a float
    is None too.

    Raises LLMBertError where `text` cannot be scored.
    """
    units, unit_name = bootstrap_units(text)
    totals = text.per_document().sum(axis=0)
    figures = _figures(totals, text.is_whole)
    infinite = int(np.isposinf(text.nats).sum())
    part = {"part": text.part} if text.part else {}
    return {
        **figures,
        "tokens": int(totals[1]),
        "documents": text.documents,
        "bytes": int(totals[2]),
        "characters": int(totals[3]),
        "unknown": int(text.unknown),
        "cut": int(text.cut),
        **part,
        "infinite_tokens": infinite,
        "likelihood": likelihood,
        "interval": _interval(units, unit_name, text.is_whole, resamples, seed),
        "signature": build_signature(
            "nll",
            likelihood=likelihood,
            tokeniser=tokeniser,
            unit=unit,
            context=context,
            **({"cut": text.cut} if text.cut else {}),
            **part,
            bootstrap=f"{unit_name}-{resamples}-seed{seed}",
        ),
    }


def bootstrap_units(text: TokenNats) -> tuple[np.ndarray, str]:
    """What is resampled, (n, 4) as `TokenNats.per_document`, and its name for the signature.

    Documents where there are at least 30. Otherwise blocks of about 512 tokens, shorter ones (at least 16) where 512
    would make fewer than 30: words near each other are alike, so short blocks make an interval a little too narrow.
    """
    if text.documents >= LEAST_DOCUMENTS:
        return text.per_document(), "documents"
    size = _block_size(int(text.document_tokens.sum()))
    return text.per_block(-(-text.document_tokens // size)), f"blocks{size}"


def _block_size(tokens: int) -> int:
    return min(BLOCK_TOKENS, max(LEAST_BLOCK_TOKENS, tokens // LEAST_DOCUMENTS))


def _figures(totals: np.ndarray, is_whole: bool) -> dict[str, float | None]:
    """The four figures of summed nats, tokens, bytes and characters (4,)."""
    nats, tokens, size, characters = (float(value) for value in totals)
    bits = nats / math.log(2)
    return {
        "nats_per_token": _finite(nats / tokens),
        "perplexity": perplexity(nats / tokens),
        "bits_per_character": _finite(bits / characters) if is_whole and characters else None,
        "bits_per_byte": _finite(bits / size) if is_whole and size else None,
    }


def _interval(units: np.ndarray, unit_name: str, is_whole: bool, resamples: int, seed: int) -> dict[str, Any]:
    """The interval of each figure, None where the figure is None or there are fewer than two units."""
    described: dict[str, Any] = {
        "level": LEVEL,
        "method": f"percentile bootstrap over {unit_name}",
        "units": len(units),
        "resamples": resamples,
        "seed": seed,
    }
    figures: dict[str, list[float] | None] = dict.fromkeys(_figures(np.ones(4), True))
    if len(units) >= 2 and np.isfinite(units[:, 0]).all():
        nats, tokens, size, characters = resampled_sums(units, resamples, seed).T
        low, high = percentile_interval(nats / tokens, LEVEL)
        figures["nats_per_token"] = [low, high]
        exponentials = [perplexity(low), perplexity(high)]
        figures["perplexity"] = None if None in exponentials else exponentials  # type: ignore[assignment]
        for name, divisor in (("bits_per_character", characters), ("bits_per_byte", size)):
            if is_whole and divisor.min() > 0:
                figures[name] = list(percentile_interval(nats / math.log(2) / divisor, LEVEL))
    return {**described, **figures}


def paired_difference(a: TokenNats, b: TokenNats, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Whether run `a` needs more bits a byte than run `b` on the same documents: a paired bootstrap (Koehn 2004).

    Both runs are resampled together, so what makes a document hard for both cancels out. The tokenisers may differ:
    with fewer than 30 documents each is cut into as many blocks in both runs, even in tokens.

    Returns difference (bits/byte, a - b: negative where a is better), interval {level, method, units, difference},
    p (two-sided) and better ("a", "b" or None where the interval holds 0). All None where anything was unknown, cut off
    or infinite. Raises LLMBertError where the documents differ.
    """
    if a.documents != b.documents or (a.document_bytes != b.document_bytes).any():
        raise LLMBertError("The two runs were scored on different documents; evaluate both on the same data.")
    units, unit_name = _paired_units(a, b)
    method = f"paired percentile bootstrap over {unit_name}, {resamples} resamples, seed {seed}"
    interval: dict[str, Any] = {"level": LEVEL, "method": method, "units": len(units), "difference": None}
    result: dict[str, Any] = {"difference": None, "interval": interval, "p": None, "better": None}
    size = int(a.document_bytes.sum())
    if not (a.is_whole and b.is_whole) or not size or not np.isfinite(units).all():
        return result
    to_bits = math.log(2)
    result["difference"] = float((units[:, 0].sum() - units[:, 1].sum()) / to_bits / size)
    sums = resampled_sums(units, resamples, seed)
    if len(units) < 2 or sums[:, 2].min() <= 0:
        return result
    differences = (sums[:, 0] - sums[:, 1]) / to_bits / sums[:, 2]
    low, high = percentile_interval(differences, LEVEL)
    interval["difference"] = [low, high]
    result["p"] = two_sided_p(differences)
    result["better"] = "a" if high < 0 else "b" if low > 0 else None
    return result


def _paired_units(a: TokenNats, b: TokenNats) -> tuple[np.ndarray, str]:
    """Nats of a, nats of b and bytes of each unit, float64 (n, 3), and the units' name."""
    if a.documents >= LEAST_DOCUMENTS:
        of_a, of_b, name = a.per_document(), b.per_document(), "documents"
    else:
        fewer = np.minimum(a.document_tokens, b.document_tokens)
        size = _block_size(int(fewer.sum()))
        blocks = -(-fewer // size)
        of_a, of_b, name = a.per_block(blocks), b.per_block(blocks), f"blocks{size}"
    sizes = (of_a[:, 2] + of_b[:, 2]) / 2  # where the two disagree on where in the text a block ends
    return np.stack([of_a[:, 0], of_b[:, 0], sizes], axis=1), name


def same_kind(scores: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all scores (by name) state one likelihood: only then may they stand in one column."""
    return len({each["likelihood"] for each in scores.values()}) <= 1


def perplexity(nats: float | None) -> float | None:
    """e to the power of nats/token; None where there are none, or it is beyond all numbers."""
    return _finite(math.exp(nats)) if nats is not None and nats < 700 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
