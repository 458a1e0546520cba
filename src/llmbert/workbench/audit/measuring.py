"""A run, canaries and texts → what it gives away of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.bootstrap import percentile_interval, resampled_sums
from llmbert.metrics.detection import roc_points
from llmbert.protocols import Progress, silent
from llmbert.runs import Run
from llmbert.tasks.anomalies import oddness, scored_tokens
from llmbert.trust.canaries import Canaries, exposure, extrapolated_exposure, split_secret
from llmbert.trust.membership import Scores, membership_figures, membership_scores
from llmbert.trust.provenance import TraceIndex, letters_before, trace_text
from llmbert.workbench.audit.planting import Planted

RESAMPLES = 2000
SPAN = 50  # letters that a copied span has at least; an ideograph counts for more, see `trust.provenance.spans`
SAMPLE_LETTERS = 200  # that a drawn text has at most, whatever the tokeniser: as many tokens as these take on average
MEASURED = 1 << 16  # bytes of training text that this average is of
EXTRA_TOKENS = 40  # room for the rest of a secret


def total_oddness(run: Run, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float64]:
    """How odd the run finds each text as a whole (N,): -log of its probability, where the family has one."""
    return _whole(run, texts, oddness(run, texts, progress))


def _whole(run: Run, texts: Sequence[str], found: NDArray[np.float64]) -> NDArray[np.float64]:
    if hasattr(run.model, "discriminator"):
        return found
    return found * scored_tokens(run, np.array([len(run.document_ids(text)) for text in texts]))


def canary_figures(run: Run, canaries: Canaries, progress: Progress = silent, seed: int = 0) -> dict[str, Any]:
    """By how often a canary was planted: exposure (bits; mean, interval, each) and the share of secrets the run says.

    "control" has the exposures of those never planted, 1.44 on average where nothing is amiss. seed: of the ranks
    among equals, which are drawn for each run anew.
    """
    planted = [text for texts in canaries.planted.values() for text in texts]
    texts = [*planted, *canaries.controls, *canaries.candidates]
    scores = total_oddness(run, texts, progress)
    first, second = len(planted), len(planted) + len(canaries.controls)
    candidates = scores[second:]
    bits = exposure(scores[:second], candidates, seed=crc32(f"{seed} {run.folder.name}".encode()))
    beyond = extrapolated_exposure(scores[:first], candidates, canaries.space.bits)
    said = extracted(run, planted, canaries, progress)
    rows, begin = [], 0
    for repeats, some in canaries.planted.items():
        part = slice(begin, begin + len(some))
        begin += len(some)
        rows.append(
            {
                "repeats": repeats,
                "exposure": mean_of(bits[part]),
                "extrapolated": mean_of(beyond[part]),
                "extracted": None if said is None else float(np.mean(said[part])),
            }
        )
    return {
        "planted": rows,
        "control": mean_of(bits[first:second]),
        "most": float(np.log2(len(candidates) + 1)),
        "space": canaries.space.bits,
    }


def mean_of(values: NDArray[np.float64]) -> dict[str, Any]:
    """A mean with the middle 95 % of a bootstrap over the values, and the values."""
    means = resampled_sums(values[:, None], RESAMPLES, seed=0)[:, 0] / len(values)
    return {
        "mean": float(values.mean()),
        "interval": list(percentile_interval(means, 0.95)),
        "values": [round(float(value), 4) for value in values],
    }


def extracted(
    run: Run, texts: Sequence[str], canaries: Canaries, progress: Progress = silent
) -> NDArray[np.bool_] | None:
    """Whether the run, asked with a canary's prefix and a quarter of its secret, says the rest (N,); greedy decoding.

    None for a family that writes nothing behind a prompt.
    """
    if not hasattr(run.model, "step") or run.reads_source:
        return None
    parts = [split_secret(text, canaries.space) for text in texts]
    longest = max(len(run.document_ids(rest)) for _, rest in parts) + EXTRA_TOKENS
    written = run.generate_many([prompt for prompt, _ in parts], temperature=0.0, max_tokens=longest, progress=progress)
    pairs = zip(written, (rest for _, rest in parts), strict=True)
    return np.array([_as_written(run, text).startswith(_as_written(run, rest)) for text, rest in pairs])


def _as_written(run: Run, text: str) -> str:
    """A text as the run's tokeniser gives it back: jieba's joins what it has taken apart."""
    tokeniser = run.tokeniser
    return text if tokeniser.lossless else tokeniser.decode(tokeniser.encode(text))


def verbatim(run: Run, index: TraceIndex, count: int, seed: int, progress: Progress = silent) -> dict[str, Any] | None:
    """How much of `count` texts that the run draws stands word for word in the training text: the share of characters
    in spans of SPAN letters or more, with an interval over texts, and the longest span in characters. None for what
    draws no texts."""
    if run.reads_source or run.fills_gaps or not hasattr(run.model, "step"):
        return None
    return copied_share(draw_texts(run, index, count, seed, progress), index)


def draw_texts(run: Run, index: TraceIndex, count: int, seed: int, progress: Progress = silent) -> list[str]:
    """Texts that the run writes from nothing, of SAMPLE_LETTERS at most: spans are counted by letters, and so many
    tokens of one tokeniser would be a fifth of the text that they are of another."""
    known = b"".join(block.text[:MEASURED] for block in index.blocks[:1]).decode(errors="ignore")
    each = letters_before(known)[-1] / max(1, len(run.tokeniser.encode(known)))
    tokens = max(1, math.ceil(SAMPLE_LETTERS / each)) if each else SAMPLE_LETTERS
    texts = run.generate_many([""] * count, max_tokens=tokens, temperature=1.0, seed=seed, progress=progress)
    return [text[: int(np.searchsorted(letters_before(text), SAMPLE_LETTERS, "right")) - 1] for text in texts]


def copied_share(texts: Sequence[str], index: TraceIndex) -> dict[str, Any]:
    """The same of given texts: of held-out ones it says what people repeat."""
    found = [trace_text(index, text, letters=SPAN, most=1) for text in texts if text]
    rows = np.array([[each["verbatim"] * each["characters"], each["characters"]] for each in found])
    if not len(rows):
        return {"share": 0.0, "interval": [0.0, 0.0], "longest": 0, "texts": 0}
    sums = resampled_sums(rows, RESAMPLES, seed=0)
    return {
        "share": float(rows[:, 0].sum() / rows[:, 1].sum()),
        "interval": list(percentile_interval(sums[:, 0] / np.maximum(1, sums[:, 1]), 0.95)),
        "longest": max((span["length"] for each in found for span in each["spans"]), default=0),
        "texts": len(found),
    }


def membership(
    run: Run, planted: Planted, reference: Run | None, seed: int, progress: Progress = silent
) -> tuple[dict[str, Any], dict[str, list[tuple[float, float]]]]:
    """Figures of each attack on a run (see `trust.membership`), and their ROC curves."""

    def odd(texts: Sequence[str]) -> NDArray[np.float64]:
        return oddness(run, texts, progress)

    def other(texts: Sequence[str], odd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Nats a byte: the two have tokenisers of their own, so their tokens are of different sizes."""
        assert reference is not None
        sizes = np.array([max(1, len(text.encode())) for text in texts])
        return (total_oddness(reference, texts) - _whole(run, texts, odd)) / sizes

    comparable = reference is not None and not hasattr(run.model, "discriminator")
    count = min(len(planted.members), len(planted.others))
    scores: dict[str, Scores] = membership_scores(
        odd, planted.members[:count], planted.others[:count], other if comparable else None, seed
    )
    curves = {name: roc_points(others, members, 60) for name, (members, others) in scores.items()}
    return membership_figures(scores), curves
