"""Zipf's, Heaps's and a power law: simulated exponents come back, tops are tops, and slow sums agree."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmbert.metrics.corpus import frequencies
from llmbert.metrics.corpus.frequencies import fit_power_law, fit_zipf
from llmbert.metrics.corpus.growth import fit_heaps


def zipf_counts(s: float, q: float, ranks: int, words: int, seed: int = 0) -> np.ndarray:
    """Counts by true rank; the fit sorts them itself."""
    shares = (np.arange(1, ranks + 1) + q) ** -s
    return np.random.default_rng(seed).multinomial(words, shares / shares.sum())


@pytest.mark.parametrize(("s", "q"), [(0.8, 0.0), (1.0, 0.0), (1.4, 0.0), (1.1, 3.0)])
def test_a_simulated_exponent_comes_back(s: float, q: float) -> None:
    found = fit_zipf(zipf_counts(s, q, 300, 4_000_000), mandelbrot=q > 0)
    assert found is not None
    assert found["interval"][0] - 0.002 <= s <= found["interval"][1] + 0.002
    assert found["shift"] == pytest.approx(q, abs=0.1) and found["ks"] < 0.002


@pytest.mark.parametrize("mandelbrot", [False, True])
def test_no_neighbour_is_likelier(mandelbrot: bool) -> None:
    counts = np.sort(zipf_counts(1.0, 2.0, 2000, 50_000))[::-1]
    counts = counts[counts > 0]

    def likelihood(s: float, q: float) -> float:
        logs = np.log(np.arange(1, len(counts) + 1) + q)
        return float(-s * (counts @ logs) / counts.sum() - math.log(np.exp(-s * logs).sum()))

    found = fit_zipf(counts, mandelbrot)
    assert found is not None
    s, q = found["exponent"], found["shift"]
    assert likelihood(s, q) == pytest.approx(found["log_likelihood"])
    for ds, dq in ((0.002, 0), (-0.002, 0), *(((0, 0.02), (0, -0.02)) if mandelbrot else ())):
        assert likelihood(s + ds, q + dq) <= likelihood(s, q)
    assert not mandelbrot or found["ks"] < fit_zipf(counts)["ks"]  # type: ignore[index]


def test_sums_over_many_ranks_are_those_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for s, q in ((0.7, 0.0), (1.0, 0.0), (1.3, 12.5)):
        quick = frequencies._power_sums(s, q, 300_000)
        monkeypatch.setattr(frequencies, "HEAD", 1_000_000)
        assert quick == pytest.approx(frequencies._power_sums(s, q, 300_000), rel=1e-7)
        monkeypatch.undo()


def test_the_interval_narrows_with_the_root_of_the_words() -> None:
    widths = []
    for words in (10_000, 1_000_000):
        found = fit_zipf(zipf_counts(1.0, 0.0, 50, words))
        assert found is not None
        widths.append(found["interval"][1] - found["interval"][0])
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.05)


def power_law(alpha: float, least: int, count: int, seed: int = 0) -> np.ndarray:
    """Whole numbers of a discrete power law, by drawing from its cumulative shares."""
    values = np.arange(least, 200_000)
    shares = values**-alpha
    return np.random.default_rng(seed).choice(values, count, p=shares / shares.sum())


@pytest.mark.parametrize("alpha", [1.9, 2.6])
def test_a_power_law_comes_back_with_its_least_value(alpha: float) -> None:
    known = fit_power_law(power_law(alpha, 5, 20_000), least=5)
    assert known is not None and known["interval"][0] <= alpha <= known["interval"][1] and known["ks"] < 0.01
    body = np.random.default_rng(1).integers(1, 20, 60_000)
    found = fit_power_law(np.concatenate([body, power_law(alpha, 20, 20_000)]))
    assert found is not None and 19 <= found["least"] <= 40
    assert found["exponent"] == pytest.approx(alpha, abs=0.1)
    assert found["zipf"] == pytest.approx(1 / (found["exponent"] - 1))


def test_too_few_words_have_no_law() -> None:
    assert fit_zipf(np.array([3, 2, 1])) is None and fit_zipf(np.array([])) is None
    assert fit_power_law(np.array([4, 4, 4])) is None and fit_power_law(np.array([])) is None
    assert fit_heaps([(100, 50), (200, 80)]) is None and fit_heaps([(n, 5) for n in (100, 200, 400, 800)]) is None


def marks(start: int = 1, end: int = 6, per: int = 12) -> list[int]:
    return sorted({round(10 ** (i / per)) for i in range(start * per, end * per + 1)})


@pytest.mark.parametrize(("k", "beta"), [(10.0, 0.55), (40.0, 0.4), (1.5, 0.9)])
def test_simulated_growth_comes_back_within_its_interval(k: float, beta: float) -> None:
    hits = 0
    for seed in range(20):
        places = np.array(marks())
        means = np.diff(k * places.astype(float) ** beta, prepend=0.0)
        seen = np.cumsum(np.random.default_rng(seed).poisson(means))
        found = fit_heaps(list(zip(places.tolist(), seen.tolist(), strict=True)))
        assert found is not None and found["factor"] == pytest.approx(k, rel=0.3)
        hits += found["interval"][0] <= beta <= found["interval"][1]
    assert hits >= 17


def test_growth_is_fitted_where_no_neighbour_is_likelier_and_clumps_widen_the_interval() -> None:
    places = np.array(marks())
    means = np.diff(20 * places.astype(float) ** 0.5, prepend=0.0)
    generator = np.random.default_rng(2)
    new = generator.poisson(means)
    clumped = generator.poisson(means * generator.gamma(4, 1 / 4, len(means)))
    found, wide = (
        fit_heaps(list(zip(places.tolist(), np.cumsum(each).tolist(), strict=True))) for each in (new, clumped)
    )
    assert found is not None and wide is not None and wide["dispersion"] > 5 * found["dispersion"]
    assert np.diff(wide["interval"])[0] > 2 * np.diff(found["interval"])[0]
    kept = [(n, v) for n, v in zip(places.tolist(), np.cumsum(new).tolist(), strict=True) if n >= 100]
    n, v = np.array(kept, dtype=float).T

    def likelihood(beta: float) -> float:
        shares = np.diff((n / n[-1]) ** beta, prepend=0.0)
        return float(np.diff(v, prepend=0.0) @ np.log(shares))

    assert max(likelihood(found["exponent"] + step) for step in (-0.003, 0.003)) < likelihood(found["exponent"])


def test_a_vocabulary_of_a_text_whose_next_word_is_new_by_the_law_has_its_exponent() -> None:
    """Pitman and Yor's process with discount d: V(n) grows as n^d."""
    generator, discount, counts, points = np.random.default_rng(5), 0.6, 0, []
    wanted = set(marks(2, 5))
    new = generator.random(100_000)
    for n in range(100_000):
        counts += new[n] < (10 + discount * counts) / (10 + n)
        if n + 1 in wanted:
            points.append((n + 1, counts))
    found = fit_heaps(points)
    assert found is not None and found["exponent"] == pytest.approx(discount, abs=0.06)
