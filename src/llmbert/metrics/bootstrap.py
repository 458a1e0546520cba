"""Intervals by resampling: how far a score would move had the text been another one of its kind."""

from __future__ import annotations

import numpy as np

MOST_UNITS = 100_000


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
