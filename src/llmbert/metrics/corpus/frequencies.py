"""How often words are used: Zipf's law over ranks and the power law of the frequencies, by maximum likelihood.

Ranks come from the same counts that are fitted, so a rank's frequency can only fall: some of the fit is by make
(Piantadosi 2014). The distribution of frequencies over words has no such tie, so both stand side by side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.corpus.growth import Z, _zero

Numbers = NDArray[Any]
HEAD = 4096  # ranks summed one by one; beyond, sums are integrals by the midpoint rule, good to about 1e-8
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
FARTHEST = 5000.0  # most of a Zipf-Mandelbrot shift
CANDIDATES = 60  # least frequencies that are tried for the power law
TAIL = 50  # fewest words in its tail


def fit_zipf(counts: Numbers, mandelbrot: bool = False) -> dict[str, Any] | None:
    """p(r) ∝ (r + q)^-s over ranks r = 1 … V, by maximum likelihood; q is 0 (Zipf) or fitted (Mandelbrot 1953).

    counts: (V,) how often each word was met. Holds exponent s, shift q, interval (95 %, from the observed information;
    it takes words as drawn one by one, so it is too narrow for text), log_likelihood (nats a word) and ks, the largest
    difference between the cumulative shares of words up to a rank, measured and fitted. None below ten words.
    """
    counts = np.sort(np.asarray(counts)[np.asarray(counts) > 0])[::-1]
    if len(counts) < 10:
        return None
    shift = _best_shift(counts) if mandelbrot else 0.0
    s = _exponent(counts, shift)
    z, *_ = _power_sums(s, shift, len(counts))
    total = float(counts.sum())
    logs = np.log(np.arange(1, len(counts) + 1) + shift)
    weights = np.exp(-s * logs) / z
    empirical = np.cumsum(counts) / total
    return {
        **{"exponent": s, "shift": shift, "interval": _interval(s, logs, weights, total, mandelbrot)},
        "log_likelihood": -s * float(counts @ logs) / total - math.log(z),
        "ks": float(np.abs(np.cumsum(weights) - empirical).max()),
        "top": math.exp(math.log(total) - math.log(z)),  # the fitted count is top · (r + q)^-s
    }


def _interval(s: float, logs: Numbers, weights: Numbers, total: float, mandelbrot: bool) -> list[float]:
    """The exponent's interval from the Fisher information: the covariance of ln(r + q) and s / (r + q)."""

    def covariance(a: Numbers, b: Numbers) -> float:
        return float(weights @ (a * b) - (weights @ a) * (weights @ b))

    information = covariance(logs, logs)
    if mandelbrot:
        slopes = s * np.exp(-logs)
        information -= covariance(logs, slopes) ** 2 / max(covariance(slopes, slopes), 1e-300)
    error = Z / math.sqrt(total * information) if information > 0 else math.inf
    return [s - error, s + error]


def _power_sums(s: float, q: float, ranks: int) -> tuple[float, float, float]:
    """Σ (r + q)^-s over ranks 1 … `ranks`, and mean and variance of ln(r + q) under it."""
    head = np.log(np.arange(1, min(ranks, HEAD) + 1) + q)
    logs, weights = head, np.exp(-s * head)
    if ranks > HEAD:
        low, high = math.log(HEAD + 0.5 + q), math.log(ranks + 0.5 + q)
        nodes = 0.5 * (high - low) * NODES + 0.5 * (high + low)
        logs = np.append(head, nodes)
        weights = np.append(weights, 0.5 * (high - low) * WEIGHTS * np.exp((1 - s) * nodes))
    total = float(weights.sum())
    mean = float(weights @ logs) / total
    return total, mean, float(weights @ (logs - mean) ** 2) / total


def _mean_log(counts: Numbers, q: float) -> float:
    return float(counts @ np.log(np.arange(1, len(counts) + 1) + q)) / float(counts.sum())


def _exponent(counts: Numbers, q: float) -> float:
    """The likeliest s for a shift: where the mean of ln(r + q) is the one measured."""
    wanted = _mean_log(counts, q)
    return _zero(lambda s: _power_sums(s, q, len(counts))[1] - wanted, 0.0, 30.0)


def _best_shift(counts: Numbers) -> float:
    """The likeliest shift, by golden sections over ln(1 + q)."""

    def loss(place: float) -> float:
        q = math.expm1(place)
        s = _exponent(counts, q)
        return s * _mean_log(counts, q) + math.log(_power_sums(s, q, len(counts))[0])

    low, high, ratio = 0.0, math.log1p(FARTHEST), (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    losses = loss(left), loss(right)
    for _ in range(32):
        if losses[0] <= losses[1]:
            high, right, left = right, left, right - ratio * (right - low)
            losses = loss(left), losses[0]
        else:
            low, left, right = left, right, left + ratio * (high - left)
            losses = losses[1], loss(right)
    best = 0.5 * (low + high)
    return math.expm1(best) if loss(best) < loss(0.0) else 0.0


def fit_power_law(counts: Numbers, least: int | None = None) -> dict[str, Any] | None:
    """P(f) ∝ f^-α for words met f ≥ f_min times, after Clauset, Shalizi and Newman 2009 (equations 3.5 and 3.9).

    counts: (V,); least: f_min, else the one with the smallest KS distance of those with 50 words or more. Holds
    exponent α, interval (95 %, observed information), least, words (in the tail) and ks. Zipf's exponent that it
    amounts to is 1 / (α - 1). None where no tail is long enough.
    """
    values, words = np.unique(np.asarray(counts)[np.asarray(counts) > 0], return_counts=True)
    above = np.cumsum(words[::-1])[::-1]
    enough = np.flatnonzero((above >= min(TAIL, int(words.sum()))) & (values < values[-1:].max(initial=0)))
    if not len(enough):
        return None
    if least is None:
        picked = enough[np.unique(np.geomspace(1, len(enough), CANDIDATES).astype(int) - 1)]
    else:
        picked = np.searchsorted(values, [least])
    fits = [_power_law_tail(values[i:], words[i:]) for i in picked]
    return min(fits, key=lambda fit: fit["ks"])


def _power_law_tail(values: Numbers, words: Numbers) -> dict[str, Any]:
    from scipy.optimize import minimize_scalar
    from scipy.special import zeta

    least, n = float(values[0]), float(words.sum())
    logs = float(words @ np.log(values))

    def loss(alpha: float) -> float:
        return n * math.log(zeta(alpha, least)) + alpha * logs

    alpha = float(minimize_scalar(loss, bounds=(1.01, 8.0), method="bounded", options={"xatol": 1e-9}).x)
    step = 1e-3
    curvature = (loss(alpha + step) - 2 * loss(alpha) + loss(alpha - step)) / step**2
    error = Z / math.sqrt(curvature) if curvature > 0 else math.inf
    fitted = 1 - zeta(alpha, values + 1.0) / zeta(alpha, least)
    ks = float(np.abs(fitted - np.cumsum(words) / n).max())
    return {
        **{"exponent": alpha, "interval": [alpha - error, alpha + error], "least": int(least), "words": int(n)},
        **{"ks": ks, "zipf": 1 / (alpha - 1)},
    }
