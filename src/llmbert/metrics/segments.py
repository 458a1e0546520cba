"""A corpus score as a function of sums over its segments: one way to its interval and to comparing two systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmbert.metrics.bootstrap import merge_units, percentile_interval, resampled_sums, two_sided_p
from llmbert.metrics.signature import build_signature
from llmbert.protocols import LLMBertError

LEVEL = 0.95
SWAPPED_AT_ONCE = 64  # resamples of an approximate randomisation that are held in memory together


def _no_parts(sums: np.ndarray) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class SegmentStatistics:
    """What each segment adds to a score of the whole.

    rows: float64 (n, k), sufficient statistics of each segment; score: from sums of rows (r, k) to r scores (r,);
    parts: from the sums of all rows (k,) to named figures that JSON can hold; signature: the parts of the signature
    that say how the statistics were made; lower_is_better: true for an error rate; segments: how many there are, where
    neighbours share a row.
    """

    rows: np.ndarray
    score: Callable[[np.ndarray], np.ndarray]
    signature: dict[str, str | int | float] = field(default_factory=dict)
    parts: Callable[[np.ndarray], dict[str, Any]] = _no_parts
    lower_is_better: bool = False
    segments: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", self.segments or len(self.rows))

    @property
    def sums(self) -> np.ndarray:
        """(k,)"""
        return self.rows.sum(axis=0)

    @property
    def value(self) -> float:
        return float(self.score(self.sums[None])[0])


def mean_statistics(
    values: np.ndarray,
    signature: dict[str, str | int | float],
    *,
    scale: float = 1.0,
    also: dict[str, np.ndarray] | None = None,
    lower_is_better: bool = False,
) -> SegmentStatistics:
    """A score that is `scale` times the mean of `values` (n,); the means of `also` (n,) become parts, scaled too."""
    named = {name: np.asarray(column, dtype=np.float64) for name, column in (also or {}).items()}
    rows = np.stack([np.ones(len(values)), np.asarray(values, dtype=np.float64), *named.values()], axis=1)

    def parts(sums: np.ndarray) -> dict[str, Any]:
        return {name: float(scale * sums[2 + i] / sums[0]) for i, name in enumerate(named)}

    return SegmentStatistics(rows, lambda sums: scale * sums[:, 1] / sums[:, 0], signature, parts, lower_is_better)


def describe_score(
    metric: str, statistics: SegmentStatistics, *, resamples: int = 1000, seed: int = 0, empty: int = 0
) -> dict[str, Any]:
    """One score as JSON can hold it: score, interval, n, empty, signature, and the parts of its metric.

    interval: [low, high], the middle 95 % of a bootstrap over segments (Efron 1979), None for fewer than two
    segments; n: segments scored; empty: how many of the hypotheses held no text.
    """
    interval = None
    if len(statistics.rows) >= 2:
        scores = statistics.score(resampled_sums(statistics.rows, resamples, seed))
        interval = list(percentile_interval(scores, LEVEL))
    return {
        "score": statistics.value,
        "interval": interval,
        "n": statistics.segments,
        "empty": empty,
        **statistics.parts(statistics.sums),
        "signature": build_signature(metric, **statistics.signature, bootstrap=f"segments-{resamples}-seed{seed}"),
    }


def compare_statistics(
    metric: str, a: SegmentStatistics, b: SegmentStatistics, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Whether system `a` scores better than system `b` on the same segments, as JSON can hold it.

    a, b: the two scores; difference: a - b; interval [low, high] and p (two-sided) of the difference by the paired
    bootstrap (Koehn 2004); p_randomisation: by approximate randomisation; better: "a" or "b" where the interval
    leaves out 0 (for an error rate the lower one is better), else None; n; signature. With fewer than two segments
    interval, both p and better are None. Raises LLMBertError where the two differ in segments.
    """
    if a.rows.shape != b.rows.shape:
        raise LLMBertError(
            f"System a has {a.segments} segments and system b has {b.segments}; "
            "compare two systems on the same segments."
        )
    test = "paired-bootstrap+approximate-randomisation"
    result: dict[str, Any] = {
        "a": a.value,
        "b": b.value,
        "difference": a.value - b.value,
        "interval": None,
        "p": None,
        "p_randomisation": None,
        "better": None,
        "n": a.segments,
        "signature": build_signature(metric, **a.signature, test=test, resamples=f"{resamples}-seed{seed}"),
    }
    if len(a.rows) < 2:
        return result
    differences = paired_bootstrap(a, b, resamples=resamples, seed=seed)
    low, high = percentile_interval(differences, LEVEL)
    result["interval"] = [low, high]
    result["p"] = two_sided_p(differences)
    result["p_randomisation"] = approximate_randomisation(a, b, resamples=resamples, seed=seed)
    if low > 0 or high < 0:
        result["better"] = "a" if (low > 0) != a.lower_is_better else "b"
    return result


def paired_bootstrap(a: SegmentStatistics, b: SegmentStatistics, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Differences of the two scores, a - b, (resamples,), where both systems are resampled on the same segments.

    Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation", section 4.
    """
    sums = resampled_sums(np.concatenate([a.rows, b.rows], axis=1), resamples, seed)
    width = a.rows.shape[1]
    return a.score(sums[:, :width]) - b.score(sums[:, width:])


def approximate_randomisation(
    a: SegmentStatistics, b: SegmentStatistics, *, resamples: int = 1000, seed: int = 0
) -> float:
    """Two-sided p that both systems are one: how often they differ as much once outputs are swapped at random.

    Noreen 1989; Riezler and Maxwell 2005: each segment's outputs change sides with probability 1/2, and
    p = (1 + swaps with |difference| at least the observed) / (1 + resamples).
    """
    both = merge_units(np.concatenate([a.rows, b.rows], axis=1))
    width = a.rows.shape[1]
    of_a, of_b = both[:, :width], both[:, width:]
    apart = of_a - of_b
    total_a, total_b = of_a.sum(axis=0), of_b.sum(axis=0)
    observed = abs(float(a.score(total_a[None])[0] - b.score(total_b[None])[0]))
    generator = np.random.default_rng(seed)
    as_far = 0
    for begun in range(0, resamples, SWAPPED_AT_ONCE):
        size = (min(SWAPPED_AT_ONCE, resamples - begun), len(both))
        moved = generator.integers(0, 2, size=size, dtype=np.int8).astype(np.float64) @ apart
        differences = a.score(total_a - moved) - b.score(total_b + moved)
        # sums in another order end in other digits: a swap of equals must not count as nearer
        as_far += int((np.abs(differences) >= observed - 1e-9 * max(1.0, observed)).sum())
    return (1 + as_far) / (1 + resamples)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, element by element, 0 where `below` is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    return np.divide(above, below, out=np.zeros(above.shape), where=below != 0)


def f1_of(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Harmonic mean, element by element, 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)
