"""How much of the validation text also stands in the training text: whole documents, and spans of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.hashes import Hashes, mix, powers
from llmbert.data.shards import Shard
from llmbert.protocols import Progress, silent

SPAN_BYTES = 50
MOST_VALID_TOKENS = 1 << 20
"""Beyond this, evenly spread blocks of the validation tokens stand for all of them."""

_CHUNK = 1 << 16


def measure_overlap(train: Shard, valid: Shard, progress: Progress = silent) -> dict[str, Any]:
    """The overlap of valid with train.

    duplicate_documents: validation documents whose text is also a training document, and their share;
    shared_tokens: the share of validation tokens inside a span of `window` tokens (about SPAN_BYTES bytes) of one
    document that stands in a training document too, found by 64-bit hashes. Memory is bounded, whatever the sizes.
    """
    duplicates = int(np.isin(valid.digests, train.digests).sum())
    content = len(train.ids) - 2 * train.documents
    window = max(4, round(SPAN_BYTES * content / max(1, int(train.document_bytes.sum()))))
    blocks = _blocks(len(valid.ids))
    covered, measured = _covered(train, valid, blocks, window, progress)
    return {
        "duplicate_documents": duplicates,
        "duplicate_document_share": duplicates / valid.documents,
        "window": window,
        "shared_tokens": covered / measured if measured else 0.0,
        "measured_tokens": measured,
        "signature": f"documents:exact|tokens:spans of {window} in one document|hash:64 bits|v1",
    }


def _blocks(tokens: int) -> list[tuple[int, int]]:
    """Spans of the validation ids to measure: all of it, or 64 evenly spread ones."""
    if tokens <= MOST_VALID_TOKENS:
        return [(0, tokens)]
    size = MOST_VALID_TOKENS // 64
    return [(start, start + size) for start in np.linspace(0, tokens - size, 64).astype(int).tolist()]


def _covered(
    train: Shard, valid: Shard, blocks: list[tuple[int, int]], window: int, progress: Progress
) -> tuple[int, int]:
    """How many tokens of the blocks lie in a span that train has too, and how many there are."""
    wanted = np.unique(np.concatenate([h for block in blocks for _, h in _windows(valid, *block, window)]))
    found = _search(train, wanted, window, progress)
    covered = measured = 0
    for start, end in blocks:
        steps = np.zeros(end - start + 1, np.int32)
        for places, hashes in _windows(valid, start, end, window):
            shared = places[found[np.searchsorted(wanted, hashes)]] - start
            np.add.at(steps, shared, 1)
            np.add.at(steps, shared + window, -1)
        covered += int(np.count_nonzero(np.cumsum(steps)[:-1]))
        measured += int(np.count_nonzero(~_is_border(valid.read(start, end), _borders(valid))))
    return covered, measured


def _search(train: Shard, wanted: Hashes, window: int, progress: Progress) -> NDArray[np.bool_]:
    """Which of the wanted hashes (sorted) the windows of train have."""
    found = np.zeros(len(wanted), bool)
    if not len(wanted):
        return found
    bits = max(10, int(len(wanted) * 8).bit_length())
    table = np.zeros(1 << bits, bool)  # a quick sieve before the search
    shift = np.uint64(64 - bits)
    table[wanted >> shift] = True
    for places, hashes in _windows(train, 0, len(train.ids), window):
        candidates = hashes[table[hashes >> shift]]
        at = np.minimum(np.searchsorted(wanted, candidates), len(wanted) - 1)
        found[at[wanted[at] == candidates]] = True
        if len(places):
            progress("measuring overlap", int(places[-1]), len(train.ids))
    return found


def _is_border(ids: NDArray[Any], borders: tuple[int, int]) -> NDArray[np.bool_]:
    return (ids == borders[0]) | (ids == borders[1])


def _borders(shard: Shard) -> tuple[int, int]:
    """The begin and the end token of a shard's documents."""
    first = shard.read(0, int(shard.starts[1]))
    return int(first[0]), int(first[-1])


def _windows(shard: Shard, start: int, end: int, window: int) -> Iterator[tuple[NDArray[np.int64], Hashes]]:
    """The windows inside one document of shard.ids[start:end], chunk by chunk: where they begin, and their hashes."""
    for first in range(start, max(start + 1, end - window + 1), _CHUNK):
        chunk = shard.read(first, min(first + _CHUNK + window - 1, end))
        if len(chunk) < window:
            yield np.empty(0, np.int64), np.empty(0, np.uint64)
            return
        borders = np.concatenate([[0], np.cumsum(_is_border(chunk, _borders(shard)))])
        inside = np.flatnonzero(borders[window:] == borders[:-window])
        yield inside + first, _hash_windows(chunk, window)[inside]


def _hash_windows(ids: NDArray[Any], window: int) -> Hashes:
    """Hashes (n - window + 1,) of all windows of ids (n,): polynomials modulo 2^64, by differences of one running sum
    (Karp and Rabin 1987), over token values that are mixed first and a result that is mixed last."""
    base_powers, inverses = powers(len(ids) if len(ids) < _CHUNK else _CHUNK + window)
    sums = np.zeros(len(ids) + 1, np.uint64)
    np.cumsum(mix(ids.astype(np.uint64) + np.uint64(1)) * base_powers[: len(ids)], out=sums[1:])
    return mix((sums[window:] - sums[:-window]) * inverses[: len(ids) - window + 1])
