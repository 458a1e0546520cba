"""Telling odd texts from others: the area under the ROC curve is the share of pairs in the right order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.metrics.detection import detection_scores, roc_points
from llmbert.protocols import LLMBertError

few_levels = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


def by_pairs(normal: list[float], odd: list[float]) -> float:
    wins = sum((b > a) + 0.5 * (b == a) for a in normal for b in odd)
    return 100 * wins / (len(normal) * len(odd))


def by_thresholds(normal: list[float], odd: list[float], share: float) -> float:
    best = 0.0
    for threshold in {*normal, *odd}:
        if sum(value >= threshold for value in normal) <= share * len(normal):
            best = max(best, 100 * sum(value >= threshold for value in odd) / len(odd))
    return best


@settings(max_examples=60, deadline=None)
@given(normal=few_levels, odd=few_levels, share=st.sampled_from([0.0, 0.1, 0.5]))
def test_the_figures_are_what_they_are_called(normal: list[float], odd: list[float], share: float) -> None:
    found = detection_scores(normal, odd, false_positives=share, resamples=20)
    assert found["auc"]["score"] == pytest.approx(by_pairs(normal, odd))
    assert found["tpr"]["score"] == pytest.approx(by_thresholds(normal, odd, share))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Scores normal with means 0 and 1: the area is Φ(1/√2) (Green & Swets 1966)."""
    truth, held = 100 * 0.5 * (1 + math.erf(0.5)), 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        found = detection_scores(random.normal(0, 1, 80), random.normal(1, 1, 60), resamples=200, seed=seed)
        low, high = found["auc"]["interval"]
        held += low <= truth <= high
    assert 50 <= held <= 60


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(0)
    normal, odd = random.normal(size=50), random.normal(0.5, 1, 40)
    first = detection_scores(normal, odd, seed=3)
    assert first == detection_scores(normal, odd, seed=3)
    assert first["auc"]["interval"] != detection_scores(normal, odd, seed=4)["auc"]["interval"]
    assert "bootstrap:texts-1000-seed3" in first["auc"]["signature"] and "fpr:1%" in first["tpr"]["signature"]


def test_infinite_scores_are_the_highest_there_are() -> None:
    assert detection_scores([1.0, 2.0], [math.inf, math.inf])["auc"]["score"] == 100
    assert detection_scores([1.0, math.inf], [math.inf])["auc"]["score"] == 75


def test_the_curve_goes_from_corner_to_corner() -> None:
    random = np.random.default_rng(0)
    normal, odd = random.normal(size=3000), random.normal(1, 1, 2000)
    points = roc_points(normal, odd)
    assert points[0] == (0.0, 0.0) and points[-1] == (1.0, 1.0) and len(points) <= 201
    assert points == sorted(points)
    xs, ys = zip(*points, strict=True)
    assert 100 * np.trapezoid(ys, xs) == pytest.approx(detection_scores(normal, odd)["auc"]["score"], abs=0.1)


@pytest.mark.parametrize(("normal", "odd", "said"), [([], [1.0], "no normal"), ([1.0], [], "no odd")])
def test_a_side_without_texts_is_refused(normal: list[float], odd: list[float], said: str) -> None:
    with pytest.raises(LLMBertError, match=said):
        detection_scores(normal, odd)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(LLMBertError, match="1 odd texts have a score that is not a number"):
        detection_scores([1.0], [math.nan])
