"""How well a score tells some texts from others: area under the ROC curve, and what is found at few false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.bootstrap import percentile_interval
from llmbert.metrics.signature import build_signature
from llmbert.protocols import LLMBertError

LEVEL = 0.95
ENTRIES = 4_000_000  # of a table of resampled counts held at once


def detection_scores(
    normal: Any, odd: Any, *, false_positives: float = 0.01, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How well a score that should be higher for odd texts tells them from normal ones; normal (N,), odd (M,).

    auc: the chance in % that an odd text scores above a normal one, ties counting half (Hanley & McNeil 1982); 50 is
    guessing. tpr: the share of odd texts in % above a threshold that at most `false_positives` of the normal ones
    pass. Each with the middle 95 % of a bootstrap over the texts of either side, and a signature. An infinite score
    is the highest there is.

    Raises LLMBertError where a side has no text, or a score is not a number.
    """
    below, above = (np.asarray(side, dtype=np.float64) for side in (normal, odd))
    for side, name in ((below, "normal"), (above, "odd")):
        if side.ndim != 1 or not len(side):
            raise LLMBertError(f"there is no {name} text; to tell two kinds apart takes both")
        if np.isnan(side).any():
            raise LLMBertError(f"{int(np.isnan(side).sum())} {name} texts have a score that is not a number")
    levels, places = np.unique(np.concatenate([below, above]), return_inverse=True)
    sides = (places[: len(below)], places[len(below) :])
    whole = tuple(np.bincount(side, minlength=len(levels))[None] for side in sides)
    random = np.random.default_rng(seed)
    drawn: dict[str, list[NDArray[np.float64]]] = {"auc": [], "tpr": []}
    rows = max(1, ENTRIES // (len(below) + len(above)))
    for first in range(0, resamples, rows):
        some = min(rows, resamples - first)
        fewer, more = (_resampled(side, len(levels), some, random) for side in sides)
        drawn["auc"].append(_areas(fewer, more))
        drawn["tpr"].append(_found(fewer, more, false_positives))
    values = {"auc": _areas(whole[0], whole[1]), "tpr": _found(whole[0], whole[1], false_positives)}
    stated: dict[str, dict[str, Any]] = {"auc": {}, "tpr": {"fpr": f"{100 * false_positives:g}%"}}
    return {
        name: {
            "score": 100 * float(value[0]),
            "interval": [100 * end for end in percentile_interval(np.concatenate(drawn[name]), LEVEL)],
            "normal": len(below),
            "odd": len(above),
            "signature": build_signature(name, **stated[name], bootstrap=f"texts-{resamples}-seed{seed}"),
        }
        for name, value in values.items()
    }


def roc_points(normal: Any, odd: Any, most: int = 200) -> list[tuple[float, float]]:
    """The ROC curve as at most about `most` points (false positives, true positives), shares from (0, 0) to (1, 1)."""
    below, above = (np.sort(np.asarray(side, dtype=np.float64)) for side in (normal, odd))
    levels = np.unique(np.concatenate([below, above]))[::-1]
    passed = [(len(side) - np.searchsorted(side, levels)) / len(side) for side in (below, above)]
    kept = np.unique(np.linspace(0, len(levels) - 1, most).round().astype(int))
    points = [(float(x), float(y)) for x, y in zip(passed[0][kept], passed[1][kept], strict=True)]
    return [(0.0, 0.0), *points]


def _resampled(
    places: NDArray[np.int64], levels: int, resamples: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """How often each level is drawn when as many texts are drawn anew, (resamples, levels)."""
    size = len(places)
    drawn = places[random.integers(size, size=(resamples, size))] + levels * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * levels).reshape(resamples, levels)


def _areas(normal: NDArray[Any], odd: NDArray[Any]) -> NDArray[np.float64]:
    """Areas under ROC curves of counts by level, (R, levels) each → (R,)."""
    lower = np.cumsum(normal, axis=1) - normal
    wins = (odd * (lower + 0.5 * normal)).sum(1)
    return wins / (normal.sum(1) * odd.sum(1))


def _found(normal: NDArray[Any], odd: NDArray[Any], false_positives: float) -> NDArray[np.float64]:
    """The share of odd texts above the lowest level that no more than `false_positives` of the normal ones reach."""
    alarms = np.cumsum(normal[:, ::-1], axis=1) / normal.sum(1, keepdims=True)
    hits = np.cumsum(odd[:, ::-1], axis=1) / odd.sum(1, keepdims=True)
    allowed = (alarms <= false_positives).sum(1)
    return np.where(allowed > 0, hits[np.arange(len(hits)), np.maximum(allowed - 1, 0)], 0.0)
