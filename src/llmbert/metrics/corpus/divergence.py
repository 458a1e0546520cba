"""Two corpora's counts → how far apart their distributions are, in bits, with an interval and what chance does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.bootstrap import percentile_interval

Numbers = NDArray[Any]
ADDED = 0.5  # what each count is smoothed by for a Kullback-Leibler divergence (Jeffreys' prior)


def jensen_shannon_bits(first: Numbers, second: Numbers) -> float:
    """The Jensen-Shannon divergence of two count vectors (k,), in bits: 0 for equal shares, 1 for nothing in common.

    Lin 1991, both weighing half. A plug-in estimate: too high for short texts, as halves of one text show.
    """
    p, q = (np.asarray(counts, dtype=np.float64) / max(1.0, float(np.sum(counts))) for counts in (first, second))
    return float(np.clip(contributions(p, q).sum(), 0.0, 1.0))


def contributions(p: Numbers, q: Numbers) -> Numbers:
    """What each symbol adds to the Jensen-Shannon divergence of two distributions (k,), in bits: (k,), none below 0."""
    middle = 0.5 * (p + q)
    return 0.5 * (_weighed(p, middle) + _weighed(q, middle))


def kullback_leibler_bits(first: Numbers, second: Numbers, added: float = ADDED) -> float:
    """KL(first ‖ second) of count vectors (k,), in bits, each count smoothed by `added` (Lidstone)."""
    p, q = (np.asarray(counts, dtype=np.float64) + added for counts in (first, second))
    return float(_weighed(p / p.sum(), q / q.sum()).sum())


def _weighed(p: Numbers, q: Numbers) -> Numbers:
    known = p > 0
    safe = np.where(known, p, 1.0)
    return np.where(known, safe * np.log2(safe / np.where(known, q, 1.0)), 0.0)


def divergence_interval(
    first: Any, second: Any, *, resamples: int = 200, seed: int = 0, level: float = 0.95
) -> tuple[float, list[float]] | None:
    """The Jensen-Shannon divergence without its bias, and its interval, by resampling units (documents).

    first (n, k), second (m, k): counts of each unit, any matrices that multiply (dense or scipy's sparse). A text is
    further from another than its source is, since rare words are left to chance; drawing units again adds as much once
    more. So the estimate is 2 θ - the mean of the draws and the interval the basic one, 2 θ - their quantiles (Davison
    and Hinkley 1997, sections 2.1 and 5.2.1): the plug-in θ may lie above it. None for fewer than two units on a side.
    """
    if min(first.shape[0], second.shape[0]) < 2:
        return None
    whole = jensen_shannon_bits(_sums(first), _sums(second))
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for i in range(resamples):
        drawn[i] = jensen_shannon_bits(*(_resampled(side, generator) for side in (first, second)))
    low, high = percentile_interval(drawn, level)
    ends = (2 * whole - float(drawn.mean()), 2 * whole - high, 2 * whole - low)
    corrected, *interval = (min(1.0, max(0.0, end)) for end in ends)
    return corrected, interval


def split_half_bits(units: Any, *, splits: int = 20, seed: int = 0) -> float | None:
    """The mean divergence between random halves of one corpus's units (n, k): what chance makes of equal sources.

    None for fewer than two units.
    """
    count = units.shape[0]
    if count < 2:
        return None
    generator = np.random.default_rng(seed)
    found = []
    whole = _sums(units)
    for _ in range(splits):
        weights = np.zeros(count)
        weights[generator.permutation(count)[: count // 2]] = 1.0
        half = np.asarray(units.T @ weights).ravel()
        found.append(jensen_shannon_bits(half, whole - half))
    return math.fsum(found) / len(found)


def _sums(units: Any) -> Numbers:
    return np.asarray(units.T @ np.ones(units.shape[0])).ravel()


def _resampled(units: Any, generator: np.random.Generator) -> Numbers:
    count = units.shape[0]
    weights = np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)
    return np.asarray(units.T @ weights).ravel()
