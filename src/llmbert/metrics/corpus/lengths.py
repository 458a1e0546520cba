"""Lengths → which family of distributions fits them best, and how well that is.

Families are ranked by Schwarz's criterion (BIC). Where parameters were fitted to the same data the usual p-values are
wrong, so they come from a parametric bootstrap: data drawn from the fit, fitted anew (Stute, Gonzáles Manteiga and
Presedo Quindimil 1993). With a million lengths every p is near 0 since no family is true; then the Kolmogorov-Smirnov
distance says how far off the fit is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.corpus.families import ENDLESS, FAMILIES, Family, Histogram, Parameters, Prior, intervals
from llmbert.protocols import Progress, silent

Numbers = NDArray[Any]
LEAST = 20  # lengths from which on families are fitted
EXPECTED = 5.0  # fewest lengths expected in a cell of the chi-square test
CELLS = 60  # most cells of it
WIDEST = 20_000  # largest length up to which the bootstrap draws whole histograms
MOST_DRAWN = 5_000_000  # lengths drawn one by one, where the histogram is wider


def fit_lengths(
    data: Histogram,
    prior: Prior | None = None,
    *,
    resamples: int = 99,
    seed: int = 0,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Every family that can give such lengths, the best (lowest BIC) first; [] below LEAST lengths.

    Each row holds name, parameters {name: value} by maximum likelihood (mle) and a posteriori (map) with the prior in
    words, intervals of the former, log_likelihood (nats, all lengths), aic, bic, ks (the largest difference between
    the cumulative shares), ks_p, chi_square {statistic, degrees, cells, p}, p from `resamples` draws (None where a
    draw would take too long) and limit, true where the size is endless, so that the family is no more than a Poisson.
    """
    if data.total < LEAST or len(data.values) < 2:
        return []
    known = {name: family for name, family in FAMILIES.items() if data.values[0] >= family.least}
    rows = []
    for done, (name, family) in enumerate(known.items(), 1):
        fitted = family.fit(data)
        likelihood = float(data.counts @ family.log_probability(data.values, fitted))
        free = len(family.names)
        mode = family.mode(data, prior or Prior())
        ends = intervals(family, data, fitted)
        rows.append(
            {
                **{"name": name, "log_likelihood": likelihood, "aic": 2 * free - 2 * likelihood},
                **{
                    "bic": free * math.log(data.total) - 2 * likelihood,
                    "limit": family.names[0] in ("n", "r") and fitted[0] > 0.99 * ENDLESS,
                },
                "mle": dict(zip(family.names, fitted, strict=True)),
                "map": dict(zip(family.names, mode, strict=True)),
                "intervals": dict(zip(family.names, ends, strict=True)),
                "prior": family.prior(data, prior or Prior()),
                **_goodness(family, data, fitted, resamples, np.random.default_rng([seed, done])),
            }
        )
        progress("fitting lengths", done, len(known))
    return sorted(rows, key=lambda row: row["bic"])


def fitted_shares(name: str, parameters: Parameters, values: Numbers) -> Numbers:
    """The probability that a family gives each whole number (k,)."""
    family = FAMILIES[name]
    return family.cumulative(values, parameters) - family.cumulative(values - 1, parameters)


def ks_distance(family: Family, data: Histogram, parameters: Parameters) -> float:
    """The largest difference between the shares at or below any whole number, measured and fitted.

    Between two lengths that were met the measured share stands still, so it is largest at one of them or just before.
    """
    measured = data.cumulative()
    before = np.append(0.0, measured[:-1])
    at, short = (family.cumulative(values, parameters) for values in (data.values, data.values - 1))
    return float(max(np.abs(measured - at).max(), np.abs(before - short).max()))


def chi_square_cells(family: Family, data: Histogram, parameters: Parameters) -> Numbers:
    """Upper ends (c,) of cells of neighbouring lengths that hold EXPECTED or more by the fit; the last is open."""
    inner = np.unique(np.linspace(0, len(data.values) - 1, 4 * CELLS).astype(int))
    ends = data.values[inner].astype(np.float64)
    below = data.total * family.cumulative(ends, parameters)
    least = max(EXPECTED, data.total / CELLS)
    kept, last = [], 0.0
    for end, count in zip(ends, below, strict=True):
        if count - last >= least and data.total - count >= EXPECTED:
            kept.append(end)
            last = count
    return np.array([*kept, math.inf])


def chi_square(family: Family, data: Histogram, parameters: Parameters, cells: Numbers) -> float:
    """Pearson's statistic over cells that end at `cells` (c,)."""
    reached = np.append(0, np.cumsum(data.counts))[np.searchsorted(data.values, cells, side="right")]
    measured = np.diff(reached, prepend=0)
    below = np.append(family.cumulative(cells[:-1], parameters), 1.0)
    expected = np.maximum(data.total * np.diff(below, prepend=0.0), 1e-9)
    return float(((measured - expected) ** 2 / expected).sum())


def _goodness(
    family: Family, data: Histogram, fitted: Parameters, resamples: int, generator: np.random.Generator
) -> dict[str, Any]:
    cells = chi_square_cells(family, data, fitted)
    ks, statistic = ks_distance(family, data, fitted), chi_square(family, data, fitted, cells)
    worse, drawn = np.zeros(2, dtype=int), 0
    wide = data.values[-1] > WIDEST
    if not wide or resamples * data.total <= MOST_DRAWN:
        draw = _drawer(family, data, fitted, generator, wide)
        for _ in range(resamples):
            again = draw()
            if len(again.values) > 1:
                drawn += 1
                refitted = family.fit(again)
                worse += (
                    ks_distance(family, again, refitted) >= ks,
                    chi_square(family, again, refitted, cells) >= statistic,
                )
    shares = [float((1 + count) / (1 + drawn)) if drawn else None for count in worse]
    return {
        **{"ks": ks, "ks_p": shares[0]},
        "chi_square": {
            **{"statistic": statistic, "cells": len(cells)},
            **{"degrees": max(0, len(cells) - 1 - len(family.names)), "p": shares[1]},
        },
    }


def _drawer(family: Family, data: Histogram, fitted: Parameters, generator: np.random.Generator, wide: bool) -> Any:
    """What draws as many lengths as there are from the fit: all at once as counts, or one by one."""
    total = int(data.total)
    if wide:

        def one_by_one() -> Histogram:
            values, counts = np.unique(family.draw(fitted, total, generator), return_counts=True)
            return Histogram(values, counts)

        return one_by_one
    reach = max(int(data.values[-1]) * 2, family.least + 1)
    support = np.arange(family.least, reach + 1)
    below = family.cumulative(support, fitted)
    below[-1] = 1.0
    shares = np.maximum(np.diff(below, prepend=0.0), 0.0)
    shares /= shares.sum()

    def together() -> Histogram:
        counts = generator.multinomial(total, shares)
        met = np.flatnonzero(counts)
        return Histogram(support[met], counts[met])

    return together
