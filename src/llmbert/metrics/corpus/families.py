"""Families of distributions of whole numbers: the likeliest parameters, the most probable ones under a prior, both in
closed form where there is one, with intervals and the two functions that judge a fit.

A prior is worth `weight` observations of a guess that knows nothing of the data: conjugate, beta for a probability,
gamma for a rate, normal-inverse-gamma for mean and variance. As the weight falls to 0 the mode of the posterior becomes
the maximum of the likelihood. Continuous families stand for their value rounded to a whole number: their density there
is the probability of the number, their distribution function is taken half a step on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.corpus.growth import Z, _zero

Numbers = NDArray[Any]
GUESS = 10.0  # the length, in whatever unit, that a prior's observations have
SPREAD = 10.0  # and their standard deviation
ENDLESS = 1e7  # where the search for a size ends: there a binomial or negative binomial is a Poisson


@dataclass(frozen=True)
class Histogram:
    """Whole numbers and how often each was met: values (k,) rising, counts (k,) above 0."""

    values: Numbers
    counts: Numbers

    @classmethod
    def of(cls, counted: Any) -> Histogram:
        """From a mapping of values to counts."""
        kept = sorted((value, count) for value, count in counted.items() if count > 0)
        values, counts = zip(*kept, strict=True) if kept else ((), ())
        return cls(np.array(values, dtype=np.int64), np.array(counts, dtype=np.int64))

    @property
    def total(self) -> float:
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        return float(self.counts @ self.values) / self.total

    @property
    def variance(self) -> float:
        """Over all, not all but one."""
        return float(self.counts @ (self.values - self.mean) ** 2) / self.total

    def logs(self) -> Histogram:
        return Histogram(np.log(self.values), self.counts)

    def cumulative(self) -> Numbers:
        """The share of all at or below each value (k,)."""
        return np.cumsum(self.counts) / self.total


@dataclass(frozen=True)
class Prior:
    """`weight` observations that lie at `guess` with standard deviation `spread`; weight 0 says nothing."""

    weight: float = 4.0
    guess: float = GUESS
    spread: float = SPREAD


Parameters = tuple[float, ...]


@dataclass(frozen=True)
class Family:
    """One family; `least` is the smallest number it can give, `free` how many parameters are fitted.

    names: of its parameters; fit: their likeliest values; mode: the most probable ones under a prior; errors: standard
    errors of the fit (0 for what has none); scipy: what scipy calls it; arguments: the parameters as scipy takes them;
    prior: the prior in words.
    """

    names: tuple[str, ...]
    fit: Callable[[Histogram], Parameters]
    mode: Callable[[Histogram, Prior], Parameters]
    errors: Callable[[Histogram, Parameters], Parameters]
    scipy: str
    arguments: Callable[..., tuple[float, ...]]
    prior: Callable[[Histogram, Prior], str]
    least: int = 0
    continuous: bool = False

    def log_probability(self, values: Numbers, parameters: Parameters) -> Numbers:
        """Of each value (k,), in nats."""
        known = self._scipy()
        score = known.logpdf if self.continuous else known.logpmf
        return score(values, *self.arguments(*parameters))

    def cumulative(self, values: Numbers, parameters: Parameters) -> Numbers:
        """The probability of at most each value (k,)."""
        return self._scipy().cdf(values + 0.5 if self.continuous else values, *self.arguments(*parameters))

    def draw(self, parameters: Parameters, count: int, generator: np.random.Generator) -> Numbers:
        """Whole numbers (count,) as the fit would give them, none below `least`."""
        drawn = self._scipy().rvs(*self.arguments(*parameters), size=count, random_state=generator)
        return np.maximum(np.rint(drawn), self.least).astype(np.int64)

    def _scipy(self) -> Any:
        from scipy import stats

        return getattr(stats, self.scipy)


# ---- sizes that have no closed form --------------------------------------------------------------------------------


def binomial_size(data: Histogram) -> float:
    """The likeliest number of trials: the profile likelihood has one top (Olkin, Petkau and Zidek 1981)."""
    from scipy.special import gammaln

    largest, mean = float(data.values.max()), data.mean

    def likelihood(n: float) -> float:
        chosen = gammaln(n + 1) - gammaln(data.values + 1) - gammaln(n - data.values + 1)
        tail = (n - mean) * math.log1p(-mean / n) if n > mean else 0.0
        return float(data.counts @ chosen) / data.total + mean * math.log(mean / n) + tail

    if data.variance >= mean:
        return ENDLESS
    low, high = largest, ENDLESS
    while high - low > 2:
        left, right = (math.floor(math.exp(math.log(low) + t * math.log(high / low))) for t in (0.382, 0.618))
        left, right = (left, right) if left < right else (left, left + 1)
        low, high = (low, right) if likelihood(left) >= likelihood(right) else (left, high)
        if right - left == 1 and high - low <= 3:
            break
    return float(max(np.arange(low, high + 1), key=likelihood))


def negative_binomial_size(data: Histogram) -> float:
    """The likeliest r: where the derivative of the profile likelihood is zero (Johnson, Kemp and Kotz 2005, 5.8.3)."""
    if data.variance <= data.mean:
        return ENDLESS
    return math.exp(_zero(lambda place: _size_slope(data, math.exp(place)), math.log(1e-6), math.log(ENDLESS)))


def _size_slope(data: Histogram, r: float) -> float:
    from scipy.special import psi

    return float(data.counts @ (psi(data.values + r) - psi(r))) / data.total - math.log1p(data.mean / r)


def _size_error(data: Histogram, r: float) -> float:
    step = 1e-4 * r
    curvature = (_size_slope(data, r - step) - _size_slope(data, r + step)) / (2 * step)
    return 1 / math.sqrt(data.total * curvature) if curvature > 0 and r < ENDLESS / 2 else 0.0


# ---- normal ones ---------------------------------------------------------------------------------------------------


def _normal(data: Histogram) -> Parameters:
    return data.mean, math.sqrt(max(data.variance, 1e-12))


def _normal_mode(data: Histogram, prior: Prior) -> Parameters:
    """Mean and standard deviation at the mode of a normal-inverse-gamma posterior (Murphy 2007, section 6).

    κ = weight, α = weight / 2 - 3 / 2 and β = weight · spread² / 2: with weight 0 the prior is flat in both.
    """
    n, w = data.total, prior.weight
    mean = (n * data.mean + w * prior.guess) / (n + w)
    squares = n * data.variance + n * w / (n + w) * (data.mean - prior.guess) ** 2 + w * prior.spread**2
    return mean, math.sqrt(max(squares / (n + w), 1e-12))


def _normal_errors(data: Histogram, fitted: Parameters) -> Parameters:
    return fitted[1] / math.sqrt(data.total), fitted[1] / math.sqrt(2 * data.total)


def _normal_prior(data: Histogram, prior: Prior, of: str = "μ, σ²") -> str:
    w, a, b = prior.weight, prior.weight / 2 - 1.5, prior.weight * prior.spread**2 / 2
    return f"normal-inverse-gamma({of}; μ₀ = {prior.guess:.3g}, κ = {w:g}, α = {a:g}, β = {b:.3g})"


def _in_logs(prior: Prior) -> Prior:
    return Prior(prior.weight, math.log(prior.guess), 1.0)


# ---- all of them ---------------------------------------------------------------------------------------------------


def _beta(of: str, hits: float, misses: float) -> str:
    return f"beta({of}; {1 + hits:g}, {1 + misses:g})"


FAMILIES: dict[str, Family] = {
    "poisson": Family(
        ("rate",),
        lambda data: (data.mean,),
        lambda data, prior: ((data.total * data.mean + prior.weight * prior.guess) / (data.total + prior.weight),),
        lambda data, fitted: (math.sqrt(fitted[0] / data.total),),
        "poisson",
        lambda rate: (rate,),
        lambda data, prior: f"gamma(rate; shape {1 + prior.weight * prior.guess:g}, rate {prior.weight:g})",
    ),
    "binomial": Family(
        ("n", "p"),
        lambda data: ((n := binomial_size(data)), data.mean / n),
        lambda data, prior: (
            (n := binomial_size(data)),
            (data.total * data.mean + prior.weight * min(prior.guess, n)) / (n * (data.total + prior.weight)),
        ),
        lambda data, fitted: (0.0, math.sqrt(fitted[1] * (1 - fitted[1]) / (fitted[0] * data.total))),
        "binom",
        lambda n, p: (n, p),
        lambda data, prior: _beta(
            "p", prior.weight * prior.guess, prior.weight * max(0.0, binomial_size(data) - prior.guess)
        ),
    ),
    "geometric": Family(
        ("p",),
        lambda data: (1 / data.mean,),
        lambda data, prior: (
            (data.total + prior.weight) / (data.total * data.mean + prior.weight * max(1.0, prior.guess)),
        ),
        lambda data, fitted: (fitted[0] * math.sqrt(max(0.0, 1 - fitted[0]) / data.total),),
        "geom",
        lambda p: (p,),
        lambda data, prior: _beta("p", prior.weight, prior.weight * (prior.guess - 1)),
        least=1,
    ),
    "negative binomial": Family(
        ("r", "p"),
        lambda data: ((r := negative_binomial_size(data)), r / (r + data.mean)),
        lambda data, prior: (
            (r := negative_binomial_size(data)),
            r
            * (data.total + prior.weight)
            / (r * (data.total + prior.weight) + data.total * data.mean + prior.weight * prior.guess),
        ),
        lambda data, fitted: (
            _size_error(data, fitted[0]),
            fitted[1] * math.sqrt((1 - fitted[1]) / (fitted[0] * data.total)),
        ),
        "nbinom",
        lambda r, p: (r, p),
        lambda data, prior: _beta("p", prior.weight * negative_binomial_size(data), prior.weight * prior.guess),
    ),
    "uniform": Family(
        ("least", "most"),
        lambda data: (float(data.values.min()), float(data.values.max())),
        lambda data, prior: (float(data.values.min()), float(data.values.max())),
        lambda data, fitted: (0.0, 0.0),
        "randint",
        lambda least, most: (int(least), int(most) + 1),
        lambda data, prior: "flat",
    ),
    "normal": Family(
        ("mean", "deviation"),
        _normal,
        _normal_mode,
        _normal_errors,
        "norm",
        lambda mean, deviation: (mean, deviation),
        _normal_prior,
        continuous=True,
    ),
    "log-normal": Family(
        ("mean of ln", "deviation of ln"),
        lambda data: _normal(data.logs()),
        lambda data, prior: _normal_mode(data.logs(), _in_logs(prior)),
        lambda data, fitted: _normal_errors(data, fitted),
        "lognorm",
        lambda mean, deviation: (deviation, 0.0, math.exp(mean)),
        lambda data, prior: _normal_prior(data, _in_logs(prior), "mean, variance of ln"),
        least=1,
        continuous=True,
    ),
}


def fit_bernoulli(hits: int, trials: int, prior: Prior | None = None) -> dict[str, Any]:
    """How probable a yes is: its share (the likeliest value), the mode and the middle 95 % of its beta posterior.

    The prior is worth `weight` observations (4), half of them yes: beta(3, 3).
    """
    from scipy.stats import beta

    weight = (prior or Prior()).weight
    a, b = 1 + hits + weight / 2, 1 + trials - hits + weight / 2
    ends = beta.ppf([0.025, 0.975], a, b)
    return {
        **{"hits": hits, "trials": trials, "mle": hits / trials, "map": (a - 1) / (a + b - 2)},
        **{"interval": [float(end) for end in ends], "prior": _beta("p", weight / 2, weight / 2)},
    }


def intervals(family: Family, data: Histogram, fitted: Parameters) -> list[list[float] | None]:
    """Wald's 95 % interval of each likeliest parameter; None for one that has no standard error."""
    errors = family.errors(data, fitted)
    return [[p - Z * e, p + Z * e] if e > 0 else None for p, e in zip(fitted, errors, strict=True)]
