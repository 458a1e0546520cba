"""Families of lengths: the likeliest parameters are at the top, priors weaken into them, simulated ones come back."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llmbert.metrics.corpus.families import ENDLESS, FAMILIES, Histogram, Prior, fit_bernoulli
from llmbert.metrics.corpus.lengths import (
    chi_square,
    chi_square_cells,
    fit_lengths,
    fitted_shares,
    ks_distance,
)

TRUE: dict[str, tuple[float, ...]] = {
    "poisson": (7.3,),
    "binomial": (40, 0.3),
    "geometric": (0.13,),
    "negative binomial": (3.5, 0.2),
    "uniform": (3, 31),
    "normal": (24.0, 5.0),
    "log-normal": (2.6, 0.5),
}
SMOOTH = {name: pair for name, pair in TRUE.items() if name != "uniform"}


def drawn(name: str, count: int = 4000, seed: int = 0) -> Histogram:
    return Histogram.of(Counter(FAMILIES[name].draw(TRUE[name], count, np.random.default_rng(seed)).tolist()))


def likelihood(name: str, data: Histogram, parameters: tuple[float, ...]) -> float:
    return float(data.counts @ FAMILIES[name].log_probability(data.values, parameters))


def log_prior(name: str, data: Histogram, parameters: tuple[float, ...], prior: Prior) -> float:
    """The prior's density from scipy's own distributions, up to a constant, by the hyperparameters that are stated."""
    w, guess = prior.weight, prior.guess
    if name == "poisson":
        return float(stats.gamma.logpdf(parameters[0], 1 + w * guess, scale=1 / w))
    if name == "geometric":
        return float(stats.beta.logpdf(parameters[0], 1 + w, 1 + w * (guess - 1)))
    if name == "binomial":
        return float(stats.beta.logpdf(parameters[1], 1 + w * guess, 1 + w * (parameters[0] - guess)))
    if name == "negative binomial":
        return float(stats.beta.logpdf(parameters[1], 1 + w * parameters[0], 1 + w * guess))
    mean, deviation = parameters
    centre, spread = (guess, prior.spread) if name == "normal" else (math.log(guess), 1.0)
    variance = stats.invgamma.logpdf(deviation**2, w / 2 - 1.5, scale=w * spread**2 / 2)
    return float(variance + stats.norm.logpdf(mean, centre, deviation / math.sqrt(w)))


@pytest.mark.parametrize("name", SMOOTH)
def test_no_neighbour_is_likelier_and_the_slope_is_zero(name: str) -> None:
    data = drawn(name, 700)
    fitted = FAMILIES[name].fit(data)
    best = likelihood(name, data, fitted)
    for i, value in enumerate(fitted):
        step = 1.0 if (name, i) == ("binomial", 0) else 1e-3 * abs(value)
        moved = [likelihood(name, data, (*fitted[:i], value + sign * step, *fitted[i + 1 :])) for sign in (-1, 1)]
        assert max(moved) <= best + 1e-9
        if step < 1:  # the fall to either side is alike: the top of a parabola, where the slope is zero
            falls = [best - each for each in moved]
            assert falls[0] == pytest.approx(falls[1], rel=0.05)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("weight", [4.0, 60.0])
def test_the_mode_is_the_top_of_likelihood_times_prior(name: str, weight: float) -> None:
    data, prior = drawn(name, 60), Prior(weight)

    def posterior(parameters: tuple[float, ...]) -> float:
        return likelihood(name, data, parameters) + log_prior(name, data, parameters, prior)

    mode = FAMILIES[name].mode(data, prior)
    held = 1 if name in ("binomial", "negative binomial") else 0  # their size stays the likeliest one
    for i in range(held, len(mode)):
        for factor in (0.99, 1.01):
            assert posterior((*mode[:i], mode[i] * factor, *mode[i + 1 :])) <= posterior(mode) + 1e-9


@pytest.mark.parametrize("name", TRUE)
def test_the_mode_comes_to_the_likeliest_as_the_prior_weakens(name: str) -> None:
    data = drawn(name, 200)
    fitted = np.array(FAMILIES[name].fit(data))
    off = [
        float(np.abs(np.array(FAMILIES[name].mode(data, Prior(weight))) - fitted).max()) for weight in (20, 1, 0.01, 0)
    ]
    assert off == sorted(off, reverse=True) and off[-1] == pytest.approx(0, abs=1e-5)
    assert name == "uniform" or off[0] > 1e-3


@pytest.mark.parametrize("name", TRUE)
def test_simulated_parameters_lie_in_their_intervals_and_their_family_is_the_best(name: str) -> None:
    hits, first = np.zeros(len(TRUE[name])), 0
    for seed in range(20):
        rows = fit_lengths(drawn(name, 2000, seed), resamples=0)
        row = next(row for row in rows if row["name"] == name)
        first += rows[0]["name"] == name
        for i, (ends, true) in enumerate(zip(row["intervals"].values(), TRUE[name], strict=True)):
            hits[i] += ends is None or ends[0] <= true <= ends[1]
    conditional = name in ("negative binomial", "binomial")  # p's interval takes the size as known
    assert (hits >= 16).all() or (conditional and hits[0] >= 16)
    assert first >= 17


@pytest.mark.parametrize("name", TRUE)
def test_families_give_whole_numbers_probabilities_that_add_up(name: str) -> None:
    values = np.arange(0, 2000)
    log = FAMILIES[name].log_probability(values, TRUE[name])
    assert np.exp(log).sum() == pytest.approx(1, abs=2e-6)
    assert np.exp(log) == pytest.approx(fitted_shares(name, TRUE[name], values), abs=1e-9)


def test_probabilities_far_out_stay_finite() -> None:
    for name, parameters in (("normal", (60.0, 5.0)), ("log-normal", (2.0, 0.1))):
        assert np.isfinite(FAMILIES[name].log_probability(np.array([1, 60, 4000]), parameters)).all()


def test_nearly_equal_lengths_do_not_make_a_density_a_probability() -> None:
    data = Histogram.of({1: 9200, 2: 780, 3: 20})
    rows = {row["name"]: row for row in fit_lengths(data, resamples=0)}
    assert all(row["log_likelihood"] < 0 for row in rows.values())
    entropy = -sum(n / 10_000 * math.log(n / 10_000) for n in (9200, 780, 20))
    assert all(-row["log_likelihood"] >= 10_000 * entropy - 1e-6 for row in rows.values()), "nothing beats the shares"


def test_a_size_without_end_is_called_a_limit() -> None:
    rows = {row["name"]: row for row in fit_lengths(drawn("geometric", 500), resamples=0)}
    assert rows["binomial"]["limit"] and rows["binomial"]["mle"]["n"] == ENDLESS
    assert rows["binomial"]["log_likelihood"] == pytest.approx(rows["poisson"]["log_likelihood"], rel=1e-4)
    narrow = {row["name"]: row for row in fit_lengths(drawn("binomial", 3000), resamples=0)}
    assert narrow["negative binomial"]["limit"] and not narrow["binomial"]["limit"]


@given(st.dictionaries(st.integers(1, 60), st.integers(1, 40), min_size=2, max_size=30))
@settings(max_examples=30)
def test_the_ks_distance_is_the_largest_over_all_whole_numbers(counted: dict[int, int]) -> None:
    data = Histogram.of(counted)
    everywhere = np.arange(0, 200)
    measured = np.array([data.counts[data.values <= k].sum() for k in everywhere]) / data.total
    for name in ("poisson", "geometric", "normal"):
        family = FAMILIES[name]
        fitted = family.fit(data)
        slow = np.abs(measured - family.cumulative(everywhere, fitted)).max()
        assert ks_distance(family, data, fitted) == pytest.approx(slow, abs=1e-9)


def test_the_chi_square_statistic_is_scipys_over_the_same_cells() -> None:
    data, family = drawn("poisson", 900), FAMILIES["poisson"]
    fitted = family.fit(data)
    cells = chi_square_cells(family, data, fitted)
    raw = np.repeat(data.values, data.counts)
    below = np.append(-1, cells)
    measured = [((raw > low) & (raw <= high)).sum() for low, high in zip(below, cells, strict=False)]
    shares = np.diff(np.append(0, np.append(stats.poisson.cdf(cells[:-1], *fitted), 1.0)))
    assert min(900 * shares) >= 5 and len(cells) > 5
    expected = stats.chisquare(measured, 900 * shares).statistic
    assert chi_square(family, data, fitted, cells) == pytest.approx(expected)


def test_p_values_of_true_families_are_spread_and_of_wrong_ones_small() -> None:
    shares: list[float] = []
    for seed in range(12):
        rows = {row["name"]: row for row in fit_lengths(drawn("poisson", 300, seed), resamples=39, seed=seed)}
        shares.append(rows["poisson"]["ks_p"])
        assert rows["uniform"]["ks_p"] == rows["uniform"]["chi_square"]["p"] == 1 / 40
    assert sum(p > 0.5 for p in shares) >= 2 and sum(p <= 0.05 for p in shares) <= 3


def test_the_same_seed_gives_the_same_figures_and_few_lengths_give_none() -> None:
    data = drawn("normal", 150)
    assert fit_lengths(data, resamples=9, seed=3) == fit_lengths(data, resamples=9, seed=3)
    assert fit_lengths(Histogram.of({5: 10, 6: 9})) == [] and fit_lengths(Histogram.of({5: 1000})) == []


def test_lengths_of_any_reach_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Histogram.of({1: 30, 50_000: 20, 900_000: 1})
    rows = fit_lengths(wide, resamples=5)
    assert rows[0]["ks_p"] is not None and all(np.isfinite(row["bic"]) for row in rows)
    monkeypatch.setattr("llmbert.metrics.corpus.lengths.MOST_DRAWN", 10)
    assert all(row["ks_p"] is None for row in fit_lengths(wide, resamples=5))


@given(st.integers(0, 400), st.integers(1, 400))
def test_a_yes_or_no_has_the_beta_posterior(hits: int, more: int) -> None:
    found: dict[str, Any] = fit_bernoulli(hits, hits + more)
    assert found["mle"] == hits / (hits + more)
    assert found["map"] == pytest.approx((hits + 2) / (hits + more + 4))
    low, high = found["interval"]
    assert stats.beta.cdf([low, high], hits + 3, more + 3) == pytest.approx([0.025, 0.975])
    weak = fit_bernoulli(hits, hits + more, Prior(1e-9))
    assert weak["map"] == pytest.approx(weak["mle"], abs=1e-6)
