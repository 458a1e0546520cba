"""How the vocabulary grows with the text: Heaps' law V(n) = K n^β, fitted to the new words of each stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
LEAST = 100  # words from which on growth is fitted: a text's first words are all new


def fit_heaps(points: Sequence[tuple[int, int]]) -> dict[str, Any] | None:
    """Heaps' law (Heaps 1978, section 7.5) from points (n words, V different ones), both growing; None below four.

    The new words of a stretch are taken as Poisson with mean K (n_i^β - n_{i-1}^β), whose likelihood is maximised: a
    power law process (Crow 1974) in groups. Words come in clumps, so the stretches scatter more than Poisson; the 95 %
    interval is widened by that scatter (Pearson's χ² over its degrees of freedom, where above 1). Holds exponent,
    interval, factor, dispersion, and error: the largest |ln V - ln K n^β| over the points.
    """
    kept = [(n, v) for n, v in points if n >= LEAST]
    if len(kept) < 4 or kept[-1][1] <= kept[0][1]:
        return None
    n, v = np.array(kept, dtype=np.float64).T
    low, high, new = np.log(n[:-1]), np.log(n[1:]), np.diff(v)
    first, seen = low[0], v[0]
    low, high, new = np.append(-math.inf, low), np.append(first, high), np.append(seen, new)
    total, end = new.sum(), high[-1]

    def shares(beta: float) -> np.ndarray:
        return np.exp(beta * (high - end)) - np.exp(beta * (low - end))

    def slope(beta: float) -> float:
        """The derivative of the log-likelihood: of Σ new · ln share, the shares adding up to 1."""
        tops, bottoms = np.exp(beta * (high - end)), np.exp(beta * (low - end))
        fall = np.where(np.isfinite(low), low - end, 0.0) * bottoms
        return float((new * ((high - end) * tops - fall) / (tops - bottoms)).sum())

    beta = _zero(slope, 1e-4, 5.0)
    step = 1e-4 * beta
    information = (slope(beta - step) - slope(beta + step)) / (2 * step)
    expected = total * shares(beta)
    dispersion = float(((new - expected) ** 2 / expected).sum() / max(1, len(new) - 2))
    error = Z * math.sqrt(max(1.0, dispersion) / information) if information > 0 else math.inf
    factor = math.exp(math.log(total) - beta * end)
    return {
        **{"exponent": beta, "interval": [max(0.0, beta - error), beta + error], "factor": factor},
        "dispersion": dispersion,
        "error": float(np.abs(np.log(v) - math.log(factor) - beta * np.log(n)).max()),
    }


def _zero(function: Any, low: float, high: float) -> float:
    """Where a falling function crosses zero, by halves; the nearer end where it does not."""
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return 0.5 * (low + high)
