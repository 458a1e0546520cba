"""The n-gram family: maximum likelihood, additive (MAP), and interpolated modified Kneser-Ney, of any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from llmbert.models.ngram.counts import CountLevel, check_documents, count_ngrams, give_back
from llmbert.models.ngram.private import private_counts
from llmbert.models.ngram.smoothing import estimate
from llmbert.models.ngram.storage import NGramConfig, levels_from_tensors, tensors_of
from llmbert.models.ngram.trie import (
    Level,
    context_lengths,
    fill_children,
    link,
    pick,
    score_backoff,
    score_flat,
    walk,
)
from llmbert.protocols import Condition, Likelihood, LLMBertError, Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

# How many tokens a state can forget again, beyond those that predict the next one.
_REWINDABLE = 64
# Tokens scored at once, and cells of a (rows, V) block of logits filled at once: they bound the memory in use.
_SCORED_AT_ONCE = 1 << 18
_CELLS_AT_ONCE = 1 << 22
_NOTHING = np.empty(0, np.int32)


class NGramSettings(BaseModel):
    """What an n-gram model is to be.

    order: the longest n-gram counted, in tokens (each length costs a table as long as the text); smoothing:
    "kneser-ney" (interpolated modified), "ml" (maximum likelihood) or "additive"; alpha: what additive smoothing adds
    to every count; noise: 0, or of counts that keep every single document private, by `contributions` and `delta`, see
    `private.private_counts`.
    """

    model_config = ConfigDict(extra="forbid")

    order: int = Field(5, ge=1, le=64)
    smoothing: Literal["kneser-ney", "ml", "additive"] = "kneser-ney"
    alpha: float = Field(0.01, gt=0, allow_inf_nan=False)
    noise: float = Field(0.0, ge=0, allow_inf_nan=False)
    contributions: int = Field(100, ge=1)
    delta: float = Field(1e-6, gt=0, lt=1)


class NGramState:
    """The last tokens of B texts: enough to predict the next one, and to rewind up to 64 tokens.

    history: (B, K) int64, each row's last tokens at its right end, padding before them;
    remembered: (B,) how many of them are there; lengths: (B,) tokens taken in so far; needed: tokens a context has;
    padding_id: what stands where there is no token.
    """

    def __init__(self, history: Tensor, remembered: Tensor, lengths: Tensor, needed: int, padding_id: int) -> None:
        self.history = history
        self.remembered = remembered
        self.lengths = lengths
        self.needed = needed
        self.padding_id = padding_id

    def select(self, rows: Tensor) -> NGramState:
        """The rows at indices `rows` (K,), in that order."""
        rows = rows.to(self.lengths.device)
        return self._with(self.history[rows], self.remembered[rows], self.lengths[rows])

    def extend(self, other: NGramState) -> NGramState:
        """These rows, then those of `other`, a state of the same model."""
        import torch

        if other.history.shape[1] != self.history.shape[1]:
            raise LLMBertError("the states of two n-gram models of different orders cannot be joined")
        return self._with(
            torch.cat([self.history, other.history]),
            torch.cat([self.remembered, other.remembered]),
            torch.cat([self.lengths, other.lengths]),
        )

    def rewind(self, tokens: int | Tensor) -> NGramState:
        """Forget each row's last `tokens` tokens: a number, or (B,) one for each row.

        Raises LLMBertError where a row has fewer tokens, or the context left would lie further back than is kept.
        """
        import torch

        back = torch.as_tensor(tokens, dtype=torch.int64, device="cpu").expand(self.lengths.shape)
        lengths, remembered = self.lengths - back, self.remembered - back
        if bool((back < 0).any()) or bool((lengths < 0).any()):
            raise LLMBertError("a text can be rewound by 0 tokens up to as many as it has")
        if bool((remembered < lengths.clamp(max=self.needed)).any()):
            raise LLMBertError(f"an n-gram state can rewind {_REWINDABLE} tokens, not {int(back.max())}")
        places = torch.arange(self.history.shape[1]) - back[:, None]
        history = torch.where(places >= 0, self.history.gather(1, places.clamp(min=0)), self.padding_id)
        return self._with(history, remembered, lengths)

    def _with(self, history: Tensor, remembered: Tensor, lengths: Tensor) -> NGramState:
        return NGramState(history, remembered, lengths, self.needed, self.padding_id)


class NGram:
    """An n-gram model: a Stepper and a Scorer whose likelihood is exact.

    With "kneser-ney", and in a model read from an ARPA file, a word not seen after a context is looked up after a
    shorter one, times the longer one's backoff weight. With "additive", the longest context there is (order - 1
    tokens, or back to the begin token) decides alone: p(w|h) = (c(hw) + α) / (c(h) + αV), uniform after a context
    never seen. With "ml", p(w|h) = c(hw) / c(h) after the longest context seen in training; every other word has
    probability zero: its logit is -inf, its nats are inf.

    Begin and padding are never predicted: their logits are -inf, their nats 0. Make one with `fit`, `from_tensors`
    or `llmbert.models.ngram.arpa.read_arpa`.
    """

    likelihood: ClassVar[Likelihood] = "exact"
    max_length: ClassVar[None] = None

    def __init__(self, levels: list[Level], config: NGramConfig) -> None:
        self._levels = levels
        self.settings = config
        self.vocabulary_size = config.vocabulary_size
        self.order = config.order
        self.scoring_signature = f"order-{config.order}"

    @classmethod
    def fit(
        cls,
        ids: np.ndarray,
        starts: np.ndarray,
        vocabulary_size: int,
        settings: NGramSettings | None = None,
        progress: Progress = silent,
        *,
        begin_id: int = 2,
        end_id: int = 3,
        padding_id: int = 0,
        unknown_id: int = 1,
    ) -> NGram:
        """Count and estimate a model; the same ids always give the same one.

        ids: (N,) documents one after another, each from its begin token to its end token (it may be a memmap);
        starts: (documents + 1,) where each begins, and N. No n-gram crosses documents.
        Raises LLMBertError where the documents are not of that form or hold nothing to count.
        """
        settings = settings or NGramSettings()
        special = {"begin_id": begin_id, "end_id": end_id, "padding_id": padding_id, "unknown_id": unknown_id}
        config = NGramConfig.from_dict({**settings.model_dump(), "vocabulary_size": vocabulary_size, **special})
        levels = _estimated(_counted(ids, np.asarray(starts), config, progress), config, progress)
        give_back()
        return cls(levels, config)

    @cached_property
    def levels(self) -> list[Level]:
        """From the shortest n-grams to the longest, with the keys that they are found by: a model that is saved and not
        asked has no need of these."""
        link(self._levels, self.vocabulary_size)
        return self._levels

    def counts(self) -> list[int]:
        """How many distinct n-grams the model holds of each length; of length 1, those with a probability."""
        return [int(np.isfinite(self._levels[0].log_probability).sum()), *(len(level) for level in self._levels[1:])]

    # --- Stepper ---

    def start(self, batch: int, condition: Condition | None = None) -> NGramState:
        """The state before the first token of `batch` texts; an n-gram model takes no condition."""
        import torch

        needed = self.order - 1
        history = torch.full((batch, needed + _REWINDABLE), self.settings.padding_id, dtype=torch.int64)
        zeros = torch.zeros(batch, dtype=torch.int64)
        return NGramState(history, zeros, zeros.clone(), needed, self.settings.padding_id)

    def step(self, ids: Tensor, state: NGramState) -> tuple[Tensor, NGramState]:
        """Take in `ids` (B, T); return natural-log probabilities (B, T, V) float32 as logits, and the new state."""
        import torch

        new = ids.to("cpu", torch.int64)
        self._check(new.numpy())
        seen = torch.cat([state.history, new], 1)
        width = max(self.order - 2, 0) + new.shape[1]
        rows = seen[:, seen.shape[1] - width :].numpy()
        logits = self._logits(rows, _last(rows, new.shape[1])).reshape(*new.shape, self.vocabulary_size)
        kept = state.history.shape[1]
        remembered = (state.remembered + new.shape[1]).clamp(max=kept)
        state = state._with(seen[:, -kept:], remembered, state.lengths + new.shape[1])
        return torch.from_numpy(logits).to(ids.device), state

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """Natural-log probabilities (B, T, V) float32: [:, t] predicts the token after `ids[:, t]`."""
        return self.step(ids, self.start(ids.shape[0]))[0]

    def logits_at(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """`logits` (N, V) at the N places of ids (B, T) that are wanted, (B, T) bool; the others cost nothing."""
        import torch

        rows = ids.to("cpu", torch.int64).numpy()
        self._check(rows)
        before = ((0, 0), (max(self.order - 2, 0), 0))
        chosen = np.pad(wanted.cpu().numpy(), before)
        rows = np.pad(rows, before, constant_values=self.settings.padding_id)
        return torch.from_numpy(self._logits(rows, chosen)).to(ids.device)

    def next_distribution(self, contexts: Sequence[Sequence[int] | np.ndarray] | np.ndarray) -> np.ndarray:
        """The probabilities (B, V) float64 of every next token after each of B contexts of token ids.

        A context may be empty, and longer than the model looks back.
        """
        rows = np.full((len(contexts), max(self.order - 1, 1)), self.settings.padding_id, np.int64)
        for row, context in zip(rows, contexts, strict=True):
            last = np.asarray(context, dtype=np.int64)[-len(row) :]
            row[len(row) - len(last) :] = last
        self._check(rows)
        return np.exp(self._logits(rows, _last(rows, 1)).astype(np.float64))

    def _logits(self, rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Log probabilities (N, V) float32 of the token after each of the N chosen places, (R, W) bool, of `rows`."""
        config = self.settings
        lengths = context_lengths(rows, config.begin_id, config.padding_id)
        nodes = walk(self.levels, rows, lengths, self.order - 1)
        contexts = [level[chosen] for level in nodes]
        lengths = lengths[chosen]
        logits = np.empty((len(lengths), self.vocabulary_size), np.float32)
        at_once = max(1, _CELLS_AT_ONCE // self.vocabulary_size)
        fill = self._fill_flat if config.smoothing == "additive" else self._fill_backoff
        for i in range(0, len(logits), at_once):
            part = slice(i, i + at_once)
            fill(logits[part], [context[part] for context in contexts], lengths[part])
        return logits

    def _fill_backoff(self, logits: np.ndarray, contexts: list[np.ndarray], lengths: np.ndarray) -> None:
        """From the shortest context to the longest, each written over the shorter ones.

        What a context writes is multiplied by the backoff weights of all longer ones.
        """
        weights = np.zeros((self.order, len(logits)), np.float32)
        for n in range(self.order - 1, 0, -1):
            backoff = self.levels[n - 1].backoff
            assert backoff is not None
            weights[n - 1] = weights[n] + pick(backoff, contexts[n - 1], 0)
        np.add(self.levels[0].log_probability, weights[0][:, None], out=logits)
        for n in range(1, self.order):
            fill_children(logits, self.levels[n - 1], self.levels[n], contexts[n - 1], weights[n])

    def _fill_flat(self, logits: np.ndarray, contexts: list[np.ndarray], lengths: np.ndarray) -> None:
        """The longest context there is decides alone."""
        unigrams = self.levels[0].log_probability
        possible = np.isfinite(unigrams)
        logits[:] = unigrams
        longest = np.minimum(lengths, self.order - 1)
        for n in range(1, self.order):
            rows = np.flatnonzero(longest == n)
            unseen = self.levels[n - 1].backoff
            assert unseen is not None
            context = contexts[n - 1][rows]
            flat = pick(unseen, context, self._uniform())
            logits[rows] = np.where(possible, flat[:, None], -np.inf)
            here = np.where(longest == n, contexts[n - 1], -1)
            fill_children(logits, self.levels[n - 1], self.levels[n], here)

    def _uniform(self) -> float:
        return -float(np.log(np.isfinite(self.levels[0].log_probability).sum()))

    def _check(self, ids: np.ndarray) -> None:
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= self.vocabulary_size):
            raise LLMBertError(f"a token id lies outside the model's vocabulary of {self.vocabulary_size}")

    # --- Scorer ---

    def token_nats(self, ids: np.ndarray, starts: np.ndarray, progress: Progress = silent) -> np.ndarray:
        """Nats of every token of many documents: float32 (N,), 0 at each document's first token, which is given.

        ids: (N,) documents one after another; starts: (documents + 1,) where each begins, and N.
        inf where the model gives a token no probability ("ml" only).
        """
        starts = np.asarray(starts)
        check_documents(ids, starts, self.vocabulary_size)
        nats = np.zeros(len(ids), np.float32)
        first = np.zeros(len(ids), bool)
        first[starts[:-1][starts[1:] > starts[:-1]]] = True
        for i in range(0, len(ids), _SCORED_AT_ONCE):
            begun, wanted, end = max(0, i - self.order), max(i, 1), min(i + _SCORED_AT_ONCE, len(ids))
            scores = self._score(np.asarray(ids[begun:end]).astype(np.int64), first[begun:end])
            nats[wanted:end] = -scores[wanted - begun - 1 :]
            progress("scoring", end, len(ids))
        given = first | np.isin(ids, (self.settings.begin_id, self.settings.padding_id))
        nats[given] = 0
        return nats

    def _score(self, row: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Log probability (W - 1,) of every token of `row` (W,) but its first, which documents begin where `first`."""
        rows, config = row[None], self.settings
        lengths = context_lengths(rows, config.begin_id, config.padding_id)
        places = np.arange(len(row))
        since = places - np.maximum.accumulate(np.where(first, places, 0)) + 1
        np.minimum(lengths[0], since, out=lengths[0])
        nodes = walk(self.levels, rows, lengths, self.order)
        if config.smoothing == "additive":
            return score_flat(self.levels, rows, lengths, nodes, self._uniform())[0]
        return score_backoff(self.levels, rows, nodes)[0]

    # --- Saving ---

    def config(self) -> dict[str, Any]:
        """What `from_tensors` needs beside the tensors, fit for JSON."""
        return self.settings.model_dump(mode="json")

    def tensors(self) -> dict[str, Tensor]:
        """The model as tensors, fit for safetensors; see `llmbert.models.ngram.storage` for their names."""
        return tensors_of(self._levels)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> NGram:
        """The model that `tensors()` and `config()` describe.

        Raises LLMBertError, in one sentence, where they do not fit together or an index leads nowhere.
        """
        checked = NGramConfig.from_dict(config)
        return cls(levels_from_tensors(tensors, checked), checked)


def _last(rows: np.ndarray, places: int) -> np.ndarray:
    """True at so many last places of `rows`."""
    return np.broadcast_to(np.arange(rows.shape[1]) >= rows.shape[1] - places, rows.shape)


def _estimated(counted: list[CountLevel], config: NGramConfig, progress: Progress) -> list[Level]:
    """The levels of a model, from counts that are gone afterwards; their number and discounts go into `config`."""
    config.order = len(counted)
    levels: list[Level] = []
    estimates = estimate(counted, config.smoothing, config.alpha, config.begin_id, config.padding_id)
    for n, (level, estimated) in enumerate(zip(counted, estimates, strict=True), 1):
        if n > 1:
            lower = levels[-1]
            lower.children = np.bincount(level.parents, minlength=len(lower)).astype(np.int32)
            lower.backoff = _log(estimated.lower_backoff)
        levels.append(Level(_log(estimated.probability), level.words))
        if estimated.discounts:
            config.discounts.append(estimated.discounts)
        level.parents = level.suffixes = level.counts = _NOTHING  # nobody asks for them any more
        give_back()
        progress("estimating n-grams", n, config.order)
    return levels


def _counted(ids: np.ndarray, starts: np.ndarray, config: NGramConfig, progress: Progress) -> list[CountLevel]:
    """The counts a model is estimated from: all of them, or noisy ones."""
    if not config.noise:
        special = {"begin_id": config.begin_id, "padding_id": config.padding_id}
        return count_ngrams(ids, starts, config.vocabulary_size, config.order, **special, progress=progress)
    return private_counts(
        ids,
        starts,
        config.vocabulary_size,
        config.order,
        noise=config.noise,
        contributions=config.contributions,
        delta=config.delta,
        begin_id=config.begin_id,
        padding_id=config.padding_id,
        progress=progress,
    )


def _log(probability: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probability).astype(np.float32)
