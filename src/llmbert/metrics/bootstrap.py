"""Intervals: how far a score would move had the text, or the seed, been another one of its kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np

MOST_UNITS = 100_000
STUDENT = (12.7062, 4.3027, 3.1824, 2.7764)  # the 97.5 % point of Student's t with 1, 2, 3 and 4 degrees of freedom
NORMAL = 1.959964  # the normal distribution's


def resampled_sums(units: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Column sums of `units` (n, c) float64 under `resamples` draws of n units with replacement: (resamples, c).

    The bootstrap of Efron 1979. More than 100,000 units are first joined with their neighbours, evenly, to at most
    that many: the spread of a sum stays the same. Memory: O(n), time: about resamples * n * 5 ns.
    """
    units = merge_units(np.asarray(units, dtype=np.float64))
    generator = np.random.default_rng(seed)
    count = len(units)
    sums = np.empty((resamples, units.shape[1]))
    for row in range(resamples):
        drawn = generator.integers(0, count, size=count, dtype=np.int32)
        sums[row] = np.bincount(drawn, minlength=count) @ units
    return sums


def merge_units(units: np.ndarray, most: int = MOST_UNITS) -> np.ndarray:
    """Sums of neighbouring rows so that at most `most` rows remain; fewer pass unchanged."""
    if len(units) <= most:
        return units
    edges = np.linspace(0, len(units), most + 1).astype(np.int64)[:-1]
    return np.add.reduceat(units, edges, axis=0)


def percentile_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """The middle `level` of resampled values (resamples,): Efron's percentile interval."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def two_sided_p(differences: np.ndarray) -> float:
    """Twice the share of resampled differences on the rarer side of 0, each side counting itself once (so never 0).

    Davison and Hinkley 1997, section 4.2: (1 + count) / (1 + resamples).
    """
    at_most, at_least = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (1 + min(at_most, at_least)) / (1 + len(differences)))


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of two values or more, each from a seed of its own: Student 1908."""
    half = _student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t; from five degrees of freedom on by Fisher's expansion, to 0.003."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
