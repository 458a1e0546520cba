"""Calibration: the error by brute force, and the temperature that undoes another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.metrics.calibration import calibration_scores, fit_temperature, softmax
from llmbert.protocols import LLMBertError, UsageError


def drawn(count: int, classes: int, heat: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are `heat` times too sure, and classes drawn from what they should have said."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(count, classes)) * 2
    labels = (softmax(scores).cumsum(1) < random.random(count)[:, None]).sum(1)
    return scores * heat, labels


@given(seed=st.integers(0, 50), classes=st.integers(2, 5), count=st.integers(1, 40), bins=st.integers(1, 10))
def test_the_error_is_the_papers(seed: int, classes: int, count: int, bins: int) -> None:
    scores, labels = drawn(count, classes, 1.5, seed)
    shares = softmax(scores)
    expected = 0.0
    for b in range(1, bins + 1):
        inside = [i for i in range(count) if (b - 1) / bins < shares[i].max() <= b / bins]
        if inside:
            right = np.mean([shares[i].argmax() == labels[i] for i in inside])
            expected += len(inside) / count * abs(right - np.mean([shares[i].max() for i in inside]))
    found = calibration_scores(scores, labels, bins=bins, resamples=2)["ece"]
    assert found["score"] == pytest.approx(100 * expected)


@pytest.mark.parametrize("heat", [0.2, 1.0, 3.0, 10.0])
def test_a_temperature_undoes_another(heat: float) -> None:
    scores, labels = drawn(20_000, 4, heat)
    temperature = fit_temperature(scores, labels)
    assert temperature == pytest.approx(heat, rel=0.05)
    before = calibration_scores(scores, labels, resamples=50)["ece"]
    after = calibration_scores(scores, labels, temperature, resamples=50)["ece"]
    assert after["score"] < 1.5 and (heat == 1.0 or before["score"] > 5)
    assert after["interval"][0] <= after["score"] + 1 and "bins:15" in after["signature"]


@given(seed=st.integers(0, 30))
def test_no_other_temperature_is_likelier(seed: int) -> None:
    scores, labels = drawn(60, 3, 2.0, seed)
    best = fit_temperature(scores, labels)

    def likelihood(temperature: float) -> float:
        return float(np.log(softmax(scores / temperature)[np.arange(60), labels]).sum())

    assert all(likelihood(best) >= likelihood(best * factor) - 1e-9 for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


def test_where_all_is_right_it_is_as_cold_as_may_be() -> None:
    assert fit_temperature([[3.0, 0.0], [0.0, 1.0]], [0, 1]) == pytest.approx(0.01)
    assert fit_temperature([[3.0, 0.0], [0.0, 1.0]], [1, 0]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("scores", "labels"), [([], []), ([[1.0, 2.0]], [0, 1]), ([[np.nan, 1.0]], [0]), ([1.0, 2.0], [0, 1])]
)
def test_what_cannot_be_scored(scores: list, labels: list) -> None:
    with pytest.raises(LLMBertError):
        calibration_scores(scores, labels)
    with pytest.raises(LLMBertError):
        fit_temperature(scores, labels)
    with pytest.raises(UsageError, match="positive"):
        calibration_scores([[1.0, 2.0]], [0], 0.0)
