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
