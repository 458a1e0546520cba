"""Families of distributions of whole numbers: the likeliest parameters, the most probable ones under a prior, both in
closed form where there is one, with intervals and the two functions that judge a fit.

A prior is worth `weight` observations of a guess that knows nothing of the data: conjugate, beta for a probability,
gamma for a rate, normal-inverse-gamma for mean and variance. As the weight falls to 0 the mode of the posterior becomes
the maximum of the likelihood. Continuous families stand for their value rounded to a whole number, so that all families
say how probable a number is and can be compared; with rounding the likelihood has no closed form, and is climbed.
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
ENDLESS = 1e7  # where the search for a size ends (and 100 times the largest): there the family is a Poisson
NARROW = 0.1  # of a step between whole numbers: a deviation below it would round to one number anyway


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
    prior: the prior in words; edges: of a continuous one, between which values (k,) of a normal variable a number lies.
    """

    names: tuple[str, ...]
    fit: Callable[[Histogram], Parameters]
    mode: Callable[[Histogram, Prior], Parameters]
    errors: Callable[[Histogram, Parameters], Parameters]
    scipy: str
    arguments: Callable[..., tuple[float, ...]]
    prior: Callable[[Histogram, Prior], str]
    least: int = 0
    edges: Callable[[Numbers], tuple[Numbers, Numbers]] | None = None

    def log_probability(self, values: Numbers, parameters: Parameters) -> Numbers:
        """Of each value (k,), in nats."""
        if self.edges is not None:
            return _cells(*self.edges(values), *parameters)[0]
        return self._scipy().logpmf(values, *self.arguments(*parameters))

    def cumulative(self, values: Numbers, parameters: Parameters) -> Numbers:
        """The probability of at most each value (k,)."""
        return self._scipy().cdf(values + 0.5 if self.edges else values, *self.arguments(*parameters))

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

    end = max(ENDLESS, 100 * largest)
    if data.variance >= mean:
        return end
    low, high = largest, end
    while high - low > 8:
        left, right = (round(low * (high / low) ** share) for share in (0.382, 0.618))
        low, high = (low, right) if likelihood(left) >= likelihood(right) else (left, high)
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


# ---- normal ones, rounded ------------------------------------------------------------------------------------------


def plain_edges(values: Numbers) -> tuple[Numbers, Numbers]:
    return values - 0.5, values + 0.5


def log_edges(values: Numbers) -> tuple[Numbers, Numbers]:
    """Of the logarithm of a positive variable; what is rounded to 0 lies below one half."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(values - 0.5, 0.0)), np.log(values + 0.5)


def _cells(low: Numbers, high: Numbers, mean: float, deviation: float) -> tuple[Numbers, Numbers, Numbers]:
    """ln of a normal variable's probability between edges (k,), and its slopes in the mean and in ln deviation."""
    from scipy.special import log_ndtr

    a, b = (low - mean) / deviation, (high - mean) / deviation
    flipped = a > 0  # above the mean the upper tail is the exact one
    near, far = log_ndtr(np.where(flipped, -a, b)), log_ndtr(np.where(flipped, -b, a))
    logs = near + np.log(-np.expm1(np.minimum(far - near, -1e-300)))

    def density(z: Numbers) -> Numbers:
        return np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - logs)

    inner = np.where(np.isfinite(a), a, 0.0)
    at_low, at_high = np.where(np.isfinite(a), density(inner), 0.0), density(b)
    return logs, (at_low - at_high) / deviation, inner * at_low - b * at_high


def _climbed(data: Histogram, edges: Any, prior: Prior | None) -> Parameters:
    """Mean and deviation where the likelihood of rounded values is greatest, times the prior's density where given.

    The prior is normal-inverse-gamma in mean and variance (Murphy 2007, section 6) with κ = weight,
    α = weight / 2 - 3 / 2 and β = weight · spread² / 2: with weight 0 it is flat in both.
    """
    from scipy.optimize import minimize

    low, high = edges(data.values)
    middles = np.where(np.isfinite(low), 0.5 * (low + high), high)
    mean = float(data.counts @ middles) / data.total
    deviation = max(math.sqrt(float(data.counts @ (middles - mean) ** 2) / data.total), 0.05)
    unit, weight = deviation, 0.0 if prior is None else prior.weight

    def loss(place: Numbers) -> tuple[float, Numbers]:
        m, log_s = mean + unit * float(place[0]), float(place[1])
        s = math.exp(log_s)
        logs, by_mean, by_log = _cells(low, high, m, s)
        value, slopes = float(data.counts @ logs), [float(data.counts @ by_mean), float(data.counts @ by_log)]
        if prior is not None and weight:
            away = (m - prior.guess) ** 2 + prior.spread**2
            value += -weight * log_s - 0.5 * weight * away / s**2
            slopes[0] -= weight * (m - prior.guess) / s**2
            slopes[1] += weight * away / s**2 - weight
        return -value / data.total, -np.array([unit * slopes[0], slopes[1]]) / data.total

    narrowest = math.log(NARROW * (1.0 if edges is plain_edges else 1 / max(1.0, float(data.values[-1]))))
    with np.errstate(all="ignore"):
        found = minimize(
            loss,
            np.array([0.0, math.log(deviation)]),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-20.0, 20.0), (min(narrowest, math.log(deviation)), 40.0)],
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 100},
        )
    return mean + unit * float(found.x[0]), math.exp(float(found.x[1]))


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
        lambda n, p: (int(n), p),
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
        lambda data: _climbed(data, plain_edges, None),
        lambda data, prior: _climbed(data, plain_edges, prior),
        _normal_errors,
        "norm",
        lambda mean, deviation: (mean, deviation),
        _normal_prior,
        edges=plain_edges,
    ),
    "log-normal": Family(
        ("mean of ln", "deviation of ln"),
        lambda data: _climbed(data, log_edges, None),
        lambda data, prior: _climbed(data, log_edges, _in_logs(prior)),
        _normal_errors,
        "lognorm",
        lambda mean, deviation: (deviation, 0.0, math.exp(mean)),
        lambda data, prior: _normal_prior(data, _in_logs(prior), "mean, variance of ln"),
        edges=log_edges,
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
