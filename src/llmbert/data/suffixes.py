"""Text and its sorted suffixes → where any stretch of bytes stands, and how long a match goes on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from mmap import mmap

import numpy as np
from numpy.typing import NDArray

from llmbert.protocols import LLMBertError

SEPARATOR = 0xFF
"""A byte that no UTF-8 text holds: between documents, so that nothing found crosses from one into another."""
LARGEST = (1 << 31) - 1  # bytes that places of 32 bits reach
_FIRST_LOOK, _GROWTH = 32, 8
_WORD, _ALL = 8, np.uint64(2**64 - 1)


def suffix_array(text: bytes) -> NDArray[np.int32]:
    """Where each suffix of the text begins, the suffixes in the order of their bytes: (bytes,) int32.

    Manber & Myers 1993; sorted by libdivsufsort (Mori 2006) in O(n log n), 5 bytes of memory for each of the text.
    Raises LLMBertError for more text than 2 GiB, or where pydivsufsort is missing.
    """
    if len(text) > LARGEST:
        raise LLMBertError(f"{len(text):,} bytes are too many for one suffix array; cut the text into smaller blocks")
    if not text:
        return np.zeros(0, np.int32)
    try:
        from pydivsufsort import divsufsort
    except ImportError as error:
        raise LLMBertError(
            "sorting suffixes needs the package pydivsufsort, which is not installed; pip install 'llmbert[curate]'"
        ) from error
    return np.asarray(divsufsort(text), np.int32)


def find_range(text: bytes | mmap, suffixes: Sequence[int], pattern: bytes) -> tuple[int, int]:
    """The suffixes that begin with a pattern: suffixes[first:last], empty where it does not stand in the text.

    Two binary searches, O(m log n). suffixes: best as a memoryview, whose items cost least.
    """
    length = len(pattern)

    def beginning(place: int) -> bytes:
        return text[place : place + length]

    first = bisect_left(suffixes, pattern, key=beginning)
    return first, bisect_right(suffixes, pattern, first, key=beginning)


def longest_match(text: bytes | mmap, suffixes: Sequence[int], pattern: bytes) -> int:
    """How many of a pattern's first bytes stand in the text as they are.

    The suffix with the longest common beginning stands beside the place where the pattern would be sorted in. It is
    sought by the first few bytes, and by more among those that share them.
    """
    low, high, width = 0, len(suffixes), _FIRST_LOOK
    while True:
        wanted = pattern[:width]
        end = len(wanted)

        def beginning(place: int, end: int = end) -> bytes:
            return text[place : place + end]

        at = bisect_left(suffixes, wanted, low, high, key=beginning)
        near = [place for place in (at - 1, at) if low <= place < high]
        best = max((common_length(wanted, beginning(suffixes[place])) for place in near), default=0)
        if best < end or end == len(pattern):
            return best
        low, high = at, bisect_right(suffixes, wanted, at, high, key=beginning)
        width *= _GROWTH


def stand(
    text: NDArray[np.uint8],
    suffixes: NDArray[np.int32],
    data: bytes,
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which of many stretches of `data`, [begins, ends), stand in a text that ends in SEPARATOR: (stretches,) bool.

    All are searched for together, eight bytes at a time, as numbers that are ordered as the bytes are: a processor
    waits for memory in each step of a binary search, and so waits for many at once.
    """
    padded = np.frombuffer(data + bytes(_WORD), np.uint8)
    low, high = np.zeros(len(begins), np.int64), np.full(len(begins), len(suffixes), np.int64)
    done, alive = 0, np.arange(len(begins))
    while (alive := alive[(low[alive] < high[alive]) & (begins[alive] + done < ends[alive])]).size:
        rest = _ALL << (_WORD - np.minimum(ends[alive] - begins[alive] - done, _WORD)).astype(np.uint64) * np.uint64(8)
        wanted = _words(padded, begins[alive] + done) & rest
        for bound, beyond in ((low, False), (high, True)):
            bound[alive] = _bounds(text, suffixes, wanted, rest, done, low[alive], high[alive], beyond)
        done += _WORD
    return low < high


def _bounds(
    text: NDArray[np.uint8],
    suffixes: NDArray[np.int32],
    wanted: NDArray[np.uint64],
    kept: NDArray[np.uint64],
    skipped: int,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    beyond: bool,
) -> NDArray[np.int64]:
    """The first suffix of each range whose word behind `skipped` bytes is not below (beyond: is above) the wanted one.

    kept: the bits of a word that count.
    """
    while (open_ := np.flatnonzero(low < high)).size:
        middle = (low[open_] + high[open_]) // 2
        found = _words(text, suffixes[middle].astype(np.int64) + skipped) & kept[open_]
        lower = found <= wanted[open_] if beyond else found < wanted[open_]
        low[open_[lower]] = middle[lower] + 1
        high[open_[~lower]] = middle[~lower]
    return low


def _words(text: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The eight bytes at each place as a number, the first as the highest; behind the end stand zeros."""
    if len(text) < _WORD:
        text = np.concatenate([text, np.zeros(_WORD, np.uint8)])
    words = np.ndarray((len(text) - _WORD + 1,), ">u8", text, strides=(1,))
    inside = np.minimum(places, len(words) - 1)
    over = np.minimum(places - inside, _WORD - 1).astype(np.uint64) * np.uint64(8)
    return np.where(places < len(text), words[inside].astype(np.uint64) << over, np.uint64(0))


def common_length(first: bytes, second: bytes) -> int:
    """How many bytes two texts begin with in common."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    difference = int.from_bytes(first[:length], "little") ^ int.from_bytes(second[:length], "little")
    return ((difference & -difference).bit_length() - 1) // 8


def count_characters(text: NDArray[np.uint8]) -> int:
    """How many characters begin in some bytes of UTF-8."""
    return int(np.count_nonzero((text & 0xC0) != 0x80))
