"""Whether a classifier is right as often as it says, and the one number that mends most of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.segments import SegmentStatistics, describe_score
from llmbert.protocols import LLMBertError, UsageError

BINS = 15
COLDEST, HOTTEST = 1e-2, 1e2


def calibration_scores(
    scores: Any, labels: Any, temperature: float = 1.0, *, bins: int = BINS, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """ece of a classifier's scores (N, C) before softmax, divided by `temperature`, for true classes (N,), in %.

    The expected calibration error (Guo et al. 2017, equation 3): in `bins` of equal width, how far the share that is
    right lies from the mean confidence, weighed by how many are there; lower is better. As `describe_score` gives it.

    Raises LLMBertError where there is nothing to score, UsageError for a temperature that is not positive.
    """
    z, own = _checked(scores, labels)
    if not temperature > 0:
        raise UsageError(f"a temperature is positive, not {temperature}")
    shares = softmax(z / temperature)
    confidence, right = shares.max(1), shares.argmax(1) == own
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bin b: ((b - 1) / bins, b / bins]
    rows = np.zeros((len(z), 2, bins))
    rows[np.arange(len(z)), 0, place] = 1
    rows[np.arange(len(z)), 1, place] = confidence - right

    def error(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        counted, apart = sums[:, :bins].sum(1), np.abs(sums[:, bins:]).sum(1)
        return 100 * apart / counted

    statistics = SegmentStatistics(rows.reshape(len(z), -1), error, {"bins": bins}, lower_is_better=True)
    return {"ece": describe_score("ece", statistics, resamples=resamples, seed=seed)}


def fit_temperature(scores: Any, labels: Any) -> float:
    """The temperature at which scores (N, C) make the true classes (N,) likeliest (Guo et al. 2017, section 4.2).

    Between 0.01 and 100. The likelihood is concave in 1 / T, so its slope is bisected. Which class is the most probable
    stays the same. Raises LLMBertError where there is nothing to fit.
    """
    z, own = _checked(scores, labels)
    true = z[np.arange(len(z)), own]

    def slope(cold: float) -> float:
        return float((true - (softmax(cold * z) * z).sum(1)).sum())

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(1 / np.sqrt(low * high))


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities (N, C) of scores (N, C)."""
    shares = np.exp(scores - scores.max(1, keepdims=True), dtype=np.float64)
    return shares / shares.sum(1, keepdims=True)


def _checked(scores: Any, labels: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    z, own = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if z.ndim != 2 or own.shape != z.shape[:1] or not len(z):
        raise LLMBertError(f"there are scores {z.shape} and labels {own.shape}; give one label for each row of scores")
    if not np.isfinite(z).all():
        raise LLMBertError("some scores are not finite; a classifier that fell apart cannot be calibrated")
    return z - z.max(1, keepdims=True), own
