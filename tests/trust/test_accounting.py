"""The privacy accountant: published figures, and what means nothing."""

from __future__ import annotations

import math

import pytest

from llmbert.protocols import UsageError
from llmbert.trust.accounting import spent

pytest.importorskip("opacus", reason="opacus, which keeps account, is not installed")


@pytest.mark.parametrize(
    ("noise", "epochs", "classic", "tight"), [(1.3, 15, 1.16, 0.92), (1.1, 60, 2.91, 2.51), (0.7, 45, 6.86, 6.11)]
)
def test_published_epsilons(noise: float, epochs: int, classic: float, tight: float) -> None:
    """DP-SGD with a rate of 0.004 and a δ of 1e-5 (Mironov et al. 2019's setting)."""
    found = spent(noise, 0.004, round(epochs / 0.004), 1e-5)
    assert found.classic == pytest.approx(classic, abs=0.006)
    assert found.tight == pytest.approx(tight, abs=0.02)


def test_one_gaussian_mechanism_in_closed_form() -> None:
    """All documents at once: the Rényi divergence at order α is α / (2 σ²)."""
    best = min(alpha / 8 + math.log(1e5) / (alpha - 1) for alpha in [1 + x / 10 for x in range(1, 100)])
    assert spent(2.0, 1.0, 1, 1e-5).classic == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("wrong", [(0.0, 0.1, 1, 1e-5), (1.0, 0.0, 1, 1e-5), (1.0, 1.5, 1, 1e-5), (1.0, 0.1, 1, 1.0)])
def test_figures_that_mean_nothing_are_refused(wrong: tuple[float, float, int, float]) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        spent(*wrong)
