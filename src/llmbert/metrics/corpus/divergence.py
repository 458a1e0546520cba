"""Two corpora's counts → how far apart their distributions are, in bits, beside what chance makes of one source."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.bootstrap import percentile_interval

Numbers = NDArray[Any]
ADDED = 0.5  # what each count is smoothed by for a Kullback-Leibler divergence (Jeffreys' prior)


def jensen_shannon_bits(first: Numbers, second: Numbers) -> float:
    """The Jensen-Shannon divergence of two count vectors (k,), in bits: 0 for equal shares, 1 for nothing in common.

    Lin 1991, both weighing half. A plug-in estimate: rare words, which either text has or lacks by chance, make it too
    high, so it is to be read beside `chance_bits`.
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


def chance_bits(
    first: Any, second: Any, *, deals: int = 200, seed: int = 0, level: float = 0.95
) -> dict[str, Any] | None:
    """What chance alone makes of the Jensen-Shannon divergence of these texts, were their units of one source.

    first (n, k), second (m, k): counts of each unit (document), any matrices that multiply (dense or scipy's sparse).
    All units are pooled and dealt again at random to two sides of as many symbols as before, over and over. Returns
    mean and interval (the middle `level`) of the divergences that this gives, and p: how often one is as large as that
    of the texts, which counts itself (a permutation test, Davison and Hinkley 1997, section 4.3). It takes no bias
    away: what rare words add is in both figures. None for fewer than two units on a side.
    """
    units = first.shape[0], second.shape[0]
    if min(units) < 2:
        return None
    sums = [_sums(side) for side in (first, second)]
    whole, room = sums[0] + sums[1], float(sums[0].sum())
    sizes = np.concatenate([np.asarray(side.sum(axis=1), dtype=np.float64).ravel() for side in (first, second)])
    generator = np.random.default_rng(seed)
    found = np.empty(deals)
    for deal in range(deals):
        order = generator.permutation(len(sizes))
        filled = np.cumsum(sizes[order]) - sizes[order] / 2  # a unit goes where the greater part of it has room
        dealt = np.zeros(len(sizes))
        dealt[order[: max(1, min(int((filled < room).sum()), len(sizes) - 1))]] = 1.0
        one = np.asarray(first.T @ dealt[: units[0]] + second.T @ dealt[units[0] :]).ravel()
        found[deal] = jensen_shannon_bits(one, whole - one)
    as_far = int((found >= jensen_shannon_bits(*sums) - 1e-12).sum())
    low, high = percentile_interval(found, level)
    return {"mean": float(found.mean()), "interval": [low, high], "p": (1 + as_far) / (1 + deals)}


def _sums(units: Any) -> Numbers:
    return np.asarray(units.T @ np.ones(units.shape[0])).ravel()
