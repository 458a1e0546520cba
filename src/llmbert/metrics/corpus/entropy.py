"""Counts and sequences → entropy in bits, and how much one symbol says about another some way off.

All estimates are plug-in ones, which are too low where symbols are many and the text is short; Miller and Madow's
correction takes the first term of that bias away, and `seen_once` says how far even that can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.protocols import Progress, silent

Numbers = NDArray[Any]
KEY_LIMIT = 1 << 62
COVERED = 0.1  # share of blocks met only once from which a block entropy is called undersampled
ALPHABET = (16, 1024)  # different symbols of a joint table, at least and at most; the rarer ones count as one
CELL = 10  # symbols of the text for each cell of it


def entropy_bits(counts: Numbers) -> float:
    """The plug-in entropy of counts (k,), in bits; 0 for none."""
    known = np.asarray(counts, dtype=np.float64)
    known = known[known > 0]
    total = known.sum()
    return max(0.0, float(math.log2(total) - (known @ np.log2(known)) / total)) if len(known) else 0.0


def miller_madow_bits(counts: Numbers) -> float:
    """The plug-in entropy plus (k - 1) / 2N nats, in bits, for k symbols met in N (Miller 1955)."""
    known = np.asarray(counts)[np.asarray(counts) > 0]
    return entropy_bits(known) + (len(known) - 1) / (2 * float(known.sum()) * math.log(2)) if len(known) else 0.0


def block_entropies(
    ids: Numbers, documents: Numbers, most: int = 5, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Entropy of blocks of n = 1 … `most` symbols within a document, and of a block's last symbol given the others.

    ids: (N,) symbols, numbered from 0; documents: (N,) the document of each, equal ones side by side. Each row holds
    n, blocks (how many), kinds (different ones), entropy and conditional with their Miller-Madow forms (bits),
    seen_once (the share of blocks that are the only one of their kind: 1 - seen_once is Good's coverage) and
    undersampled, true where that is above a tenth: the entropy is then too low by an amount that cannot be known.
    The conditional entropy is H_n - H_{n-1} (Shannon 1951), both over the same places of the text.
    """
    rows: list[dict[str, Any]] = []
    base = int(ids.max(initial=0)) + 1
    keys = np.zeros(len(ids), dtype=np.int64)
    for n in range(1, min(most, len(ids)) + 1):
        if n > 1:
            keys = keys[:-1]
            if int(keys.max(initial=0)) >= KEY_LIMIT // base:
                keys = np.unique(keys, return_inverse=True)[1]
        keys = keys * base
        keys += ids[n - 1 :]
        within = keys[documents[: len(keys)] == documents[n - 1 :]]
        if len(within) < 2:
            break
        rows.append({"n": n} | _block_row(within, base))
        progress("measuring blocks", n, most)
    return rows


def _block_row(keys: Numbers, base: int) -> dict[str, Any]:
    """What blocks say that are numbered by their first symbols times `base` plus the last; puts the keys in order."""
    keys.sort()
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    kinds, counts = keys[starts], np.diff(starts, append=len(keys))
    before = np.add.reduceat(counts, np.flatnonzero(np.diff(kinds // base, prepend=-1)))
    once = float((counts == 1).sum() / len(keys))
    entropy, corrected = entropy_bits(counts), miller_madow_bits(counts)
    return {
        **{"blocks": len(keys), "kinds": len(kinds), "entropy": entropy, "corrected": corrected},
        "conditional": max(0.0, entropy - entropy_bits(before)),
        "conditional_corrected": max(0.0, corrected - miller_madow_bits(before)),
        **{"seen_once": once, "undersampled": once > COVERED},
    }


def mutual_information_bits(joint: Numbers) -> float:
    """The plug-in mutual information of a table of counts (k, m), in bits: H(rows) + H(columns) - H(cells)."""
    return max(0.0, entropy_bits(joint.sum(axis=1)) + entropy_bits(joint.sum(axis=0)) - entropy_bits(joint.ravel()))


def information_at_distances(
    ids: Numbers,
    documents: Numbers,
    distances: Sequence[int],
    *,
    seed: int = 0,
    least: int = 1000,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """How many bits a symbol says about the one d places on in the same document, for each d (Li 1990).

    The baseline is the same text with its symbols shuffled: nothing is left to say, so what the estimate still finds
    is its bias, and `bits` - `shuffled` is what stands above it. So that the bias stays small there are CELL symbols of
    text for each cell of the table of pairs: all but the most frequent kinds count as one (`alphabet` is how many are
    told apart), which can only lower the figure. Distances with fewer than `least` pairs are left out.
    """
    most = min(ALPHABET[1], max(ALPHABET[0], math.isqrt(len(ids) // CELL)))
    symbols, base = merged_alphabet(ids, most)
    shuffled = np.random.default_rng(seed).permutation(symbols)
    rows = []
    for done, d in enumerate(distances):
        within = documents[d:] == documents[: len(documents) - d] if d < len(documents) else np.zeros(0, dtype=bool)
        pairs = int(within.sum())
        if pairs >= least:
            bits, floor = (_information(one, d, within, base) for one in (symbols, shuffled))
            rows.append(
                {
                    "distance": d,
                    "pairs": pairs,
                    "bits": bits,
                    "shuffled": floor,
                    "above": bits - floor,
                    "alphabet": base,
                }
            )
        progress("measuring distances", done + 1, len(distances))
    return rows


def merged_alphabet(ids: Numbers, most: int) -> tuple[Numbers, int]:
    """The ids numbered anew by falling count, the rarer ones all as `most` - 1; and how many numbers there are."""
    counts = np.bincount(ids)
    order = np.lexsort((np.arange(len(counts)), -counts))
    numbers = np.empty(len(counts), dtype=np.int32)
    numbers[order] = np.minimum(np.arange(len(counts)), most - 1)
    return numbers[ids], min(most, max(1, int((counts > 0).sum())))


def _information(symbols: Numbers, d: int, within: Numbers, base: int) -> float:
    joint = symbols[:-d] * np.int32(base) + symbols[d:]
    counts = np.bincount(joint if within.all() else joint[within], minlength=base * base)
    return mutual_information_bits(counts.reshape(base, base))
