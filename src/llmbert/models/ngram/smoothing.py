"""Turning n-gram counts into probabilities: modified Kneser-Ney, maximum likelihood, additive (MAP)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from llmbert.models.ngram.counts import CountLevel

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""D1, D2, D3+ where the counts of counts give none or impossible ones (KenLM's `--discount_fallback`)."""


@dataclass
class Estimate:
    """The probabilities of one level, in float64.

    probability: (M,) of each n-gram's last word after the words before it;
    lower_backoff: (nodes of level n-1,) of each context of this level, the share of probability that it leaves to
    words never seen after it; for additive smoothing, the probability of each one such word. Level 1: empty.
    discounts: D1, D2, D3+ (Kneser-Ney only).
    """

    probability: np.ndarray
    lower_backoff: np.ndarray
    discounts: tuple[float, float, float] | None = None


def estimate(
    levels: list[CountLevel], smoothing: str, alpha: float, begin_id: int, padding_id: int
) -> Iterator[Estimate]:
    """The levels' probabilities from level 1 upwards."""
    if smoothing == "kneser-ney":
        return kneser_ney(levels, begin_id, padding_id)
    if smoothing == "additive":
        return additive(levels, alpha, begin_id, padding_id)
    return maximum_likelihood(levels, begin_id)


def kneser_ney(levels: list[CountLevel], begin_id: int, padding_id: int) -> Iterator[Estimate]:
    """Interpolated modified Kneser-Ney (Chen & Goodman 1999, eq. 27-29), as KenLM's `lmplz` estimates it.

    The highest order, and n-grams that open with the begin token, are counted as they occur; every other n-gram by
    the number of distinct words seen before it. Unigrams are interpolated with the uniform distribution over the
    words that can be predicted: all but begin and padding.
    """
    predicted = _predicted(len(levels[0]), begin_id, padding_id)
    begins = (begin_id, begin_id + 1)  # the range of nodes that open with the begin token, level by level
    lower = predicted / predicted.sum()
    for n, level in enumerate(levels, 1):
        counts = level.counts if n == len(levels) else _left_extensions(level, levels[n], begins)
        # Of noisy counts an n-gram may have lost all that it ends; of whole ones each ends something.
        counts = np.where(predicted, counts, 0) if n == 1 else np.maximum(counts, 1)
        discounts = modified_discounts(counts)
        taken = np.array([0.0, *discounts])[np.minimum(counts, 3)]
        if n == 1:
            total = counts.sum()
            probability = (counts - taken) / total + taken.sum() / total * lower
            backoff = np.empty(0)
        else:
            totals, left = (_sum_by_parent(level, values, len(lower)) for values in (counts, taken))
            backoff = np.divide(left, totals, out=np.ones_like(left), where=totals > 0)
            probability = (counts - taken) / totals[level.parents]
            probability += backoff[level.parents] * lower[level.suffixes]
        yield Estimate(probability, backoff, discounts)
        lower = probability
        if n < len(levels):
            begins = tuple(np.searchsorted(levels[n].parents, begins))


def modified_discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """D1, D2, D3+ from adjusted counts (Chen & Goodman 1999, eq. 26), or the fallback where they give none.

    A discount of 0 falls back too: it could leave unseen words without any probability.
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if all(0 < discount <= j for j, discount in enumerate(discounts, 1)):
        return discounts
    return FALLBACK_DISCOUNTS


def maximum_likelihood(levels: list[CountLevel], begin_id: int) -> Iterator[Estimate]:
    """c(hw) / c(h). A context seen in training leaves nothing to other words; one never seen leaves everything."""
    counts = levels[0].counts.copy()
    counts[begin_id] = 0
    yield Estimate(counts / counts.sum(), np.empty(0))
    for below, level in pairwise(levels):
        totals = _sum_by_parent(level, level.counts, len(below))
        yield Estimate(level.counts / totals[level.parents], np.where(totals > 0, 0.0, 1.0))


def additive(levels: list[CountLevel], alpha: float, begin_id: int, padding_id: int) -> Iterator[Estimate]:
    """(c(hw) + α) / (c(h) + αV), V the words that can be predicted.

    The most probable distribution (MAP) under a symmetric Dirichlet prior of parameter α + 1; the mean under α.
    """
    predicted = _predicted(len(levels[0]), begin_id, padding_id)
    spread = alpha * predicted.sum()
    counts = np.where(predicted, levels[0].counts, 0)
    yield Estimate(np.where(predicted, (counts + alpha) / (counts.sum() + spread), 0.0), np.empty(0))
    for below, level in pairwise(levels):
        totals = _sum_by_parent(level, level.counts, len(below)) + spread
        yield Estimate((level.counts + alpha) / totals[level.parents], alpha / totals)


def _predicted(vocabulary_size: int, begin_id: int, padding_id: int) -> np.ndarray:
    predicted = np.ones(vocabulary_size, bool)
    predicted[[begin_id, padding_id]] = False
    return predicted


def _left_extensions(level: CountLevel, above: CountLevel, begins: tuple[int, int]) -> np.ndarray:
    """For each n-gram, how many distinct words were seen before it; its plain count if it opens with begin."""
    counts = np.bincount(above.suffixes, minlength=len(level))
    counts[slice(*begins)] = level.counts[slice(*begins)]
    return counts


def _sum_by_parent(level: CountLevel, values: np.ndarray, contexts: int) -> np.ndarray:
    """Sums of `values` (M,) over the words seen after each context: float64 (contexts,), 0 where there is none."""
    sums = np.bincount(level.parents, weights=values, minlength=contexts)
    return sums.astype(np.float64, copy=False)  # of nothing at all, NumPy makes integers
