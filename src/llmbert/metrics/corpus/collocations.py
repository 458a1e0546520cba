"""Pairs of neighbouring words that are met more often than chance: PMI, its normalised form, and a likelihood ratio.

PMI is highest for pairs of rare words whose count is chance itself, so a pair needs a least count; normalised PMI
(Bouma 2009) leans less that way, and Dunning's log-likelihood ratio (1993) weighs the evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


def pair_counts(ids: Numbers, documents: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Neighbours within documents: first (p,), second (p,) and how often (p,). ids, documents: (N,)."""
    within = documents[1:] == documents[:-1]
    base = int(ids.max(initial=0)) + 1
    keys = ids[:-1][within].astype(np.int64) * base + ids[1:][within]
    kinds, counts = np.unique(keys, return_counts=True)
    return kinds // base, kinds % base, counts


def score_pairs(first: Numbers, second: Numbers, counts: Numbers) -> dict[str, Numbers]:
    """PMI (bits), normalised PMI (-1 to 1) and log-likelihood ratio (G², nats) of each pair: (p,) each.

    A pair's table is (both, first with another, another with second, neither), over all pairs given.
    """
    total = float(counts.sum())
    firsts = np.bincount(first, weights=counts)[first]
    seconds = np.bincount(second, weights=counts)[second]
    both = counts.astype(np.float64)
    pmi = np.log2(both * total / (firsts * seconds))
    certain = both >= total
    npmi = np.where(certain, 1.0, pmi / np.where(certain, 1.0, -np.log2(both / total)))
    cells = (both, firsts - both, seconds - both, total - firsts - seconds + both)
    rows, others = (firsts, total - firsts), (seconds, total - seconds)
    margins = ((0, 0), (0, 1), (1, 0), (1, 1))
    ratio = sum(_part(cell, rows[i] * others[j] / total) for cell, (i, j) in zip(cells, margins, strict=True))
    return {"pmi": pmi, "npmi": npmi, "ratio": 2 * np.maximum(ratio, 0.0)}


def _part(observed: Numbers, expected: Numbers) -> Numbers:
    """observed · ln(observed / expected), 0 where nothing was observed."""
    known = observed > 0
    safe = np.where(known, observed, 1.0)
    return np.where(known, safe * np.log(safe / np.where(known, expected, 1.0)), 0.0)
