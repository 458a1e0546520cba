"""Hashes of stretches of a long row, all at once: polynomials modulo 2^64 by differences of one running sum."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT = np.uint64(29)


def mix(values: Hashes) -> Hashes:
    """Each value stirred, so that near ones lie far apart (the finaliser of SplitMix, Steele et al. 2014)."""
    values = (values ^ (values >> _SHIFT)) * _FACTORS[0]
    return (values ^ (values >> _SHIFT)) * _FACTORS[1]


@lru_cache(maxsize=2)
def powers(count: int) -> tuple[Hashes, Hashes]:
    """The base's powers from 0 on, and their inverses, modulo 2^64 (it is odd, so it has one)."""
    bases = np.full((2, count), [[_BASE], [pow(_BASE, -1, 2**64)]], np.uint64)
    bases[:, 0] = 1
    found = np.cumprod(bases, axis=1, dtype=np.uint64)
    return found[0], found[1]


def hash_stretches(values: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """A hash (K,) of each stretch values[starts[k]:ends[k]] (Karp and Rabin 1987): equal stretches have equal ones.

    values: (n,) whole numbers, mixed first, as the result is mixed last; they take 40 bytes of memory each.
    """
    up, down = powers(1 << max(10, len(values) - 1).bit_length())
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(mix(values.astype(np.uint64) + np.uint64(1)) * up[: len(values)], out=sums[1:])
    return mix((sums[ends] - sums[starts]) * down[starts])
