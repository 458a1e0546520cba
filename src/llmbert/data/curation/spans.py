"""Stretches of text that stand in a corpus more than once, found by a suffix array (Lee et al. 2022, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmbert.protocols import LLMBertError, UsageError

LEAST = 100
BLOCK = 1 << 24
"""Bytes of text that are sorted together, at about 20 times that in memory. A stretch that two blocks have once each
is not seen."""
_SHORTEST = 8  # bytes of a stretch: less is found everywhere
_BREAK = 0xFF  # between texts; no byte of UTF-8


class Cut(NamedTuple):
    """A later occurrence, in bytes of its text's UTF-8; the earliest one is in the text `twin` of the same block."""

    start: int
    end: int
    twin: int


def check_least(least: int) -> int:
    """Raises UsageError for a length of spans that means nothing."""
    if least < _SHORTEST:
        raise UsageError(f"spans are of at least {_SHORTEST} bytes, not {least}; {LEAST} is usual")
    return least


def in_blocks(texts: Iterable[bytes], size: int = BLOCK) -> Iterator[list[tuple[int, int, bytes]]]:
    """Texts as (number, offset, bytes), together at most about `size` bytes a block; longer ones come in pieces."""
    block: list[tuple[int, int, bytes]] = []
    room = size
    for number, text in enumerate(texts):
        at = 0
        while at < len(text) or not at:
            end = _border(text, at + size) if len(text) - at > size else len(text)
            if end - at > room and block:
                yield block
                block, room = [], size
            block.append((number, at, text[at:end]))
            room -= end - at
            at = max(end, 1)
    if block:
        yield block


def repeated_spans(texts: Sequence[bytes], least: int = LEAST) -> list[list[Cut]]:
    """Of each text (UTF-8) of a block what to cut, so that afterwards no `least` bytes stand twice in the block.

    Of stretches of `least` bytes or more that are equal the earliest stays whole, unless an earlier one holds a part
    of it; cuts lie between characters, a little inside the stretch. What is joined by a cut is looked at again, until
    nothing is left. Nothing is cut that does not stand earlier in the block.

    Raises LLMBertError where pydivsufsort is not installed.
    """
    text = np.frombuffer(b"".join(each + bytes([_BREAK]) for each in texts), np.uint8)
    bounds = np.cumsum([0, *(len(each) + 1 for each in texts)])
    cuts: list[list[Cut]] = [[] for _ in texts]
    alive = np.arange(len(text), dtype=np.int32 if len(text) < 2**31 else np.int64)
    while True:
        kept, found = _later(text, least)
        if not found:
            break
        for start, end, first in found:
            owner, twin = (int(np.searchsorted(bounds, alive[at], "right")) - 1 for at in (start, first))
            for one, other in _stretches(alive[start:end]):
                cuts[owner].append(Cut(one - int(bounds[owner]), other - int(bounds[owner]), twin))
        text, alive = text[kept], alive[kept]
    return [sorted(each) for each in cuts]


def cut_out(text: bytes, cuts: Iterable[Cut]) -> bytes:
    """The text without what is to be cut."""
    parts, at = [], 0
    for start, end, _ in cuts:
        parts.append(text[at:start])
        at = end
    return b"".join([*parts, text[at:]])


def _stretches(places: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Runs of places that follow one another, as (start, end): a cut may go across an earlier one."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    for run in np.split(places, breaks):
        yield int(run[0]), int(run[-1]) + 1


def _later(text: NDArray[np.uint8], least: int) -> tuple[NDArray[np.bool_], list[tuple[int, int, int]]]:
    """What stays (n,), and later occurrences as (start, end, start of an earliest one), between characters."""
    if len(text) <= least:
        return np.ones(len(text), bool), []
    later, firsts = _matches(text, least)
    steps = np.zeros(len(text) + 1, np.int32)
    # Where an occurrence overlaps the earliest one, only what goes beyond that is too much.
    np.add.at(steps, np.maximum(later, firsts + least), 1)
    np.add.at(steps, later + least, -1)
    marked = np.cumsum(steps[:-1]) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    order = np.argsort(later)
    later, firsts = later[order], firsts[order]
    kept = np.ones(len(text), bool)
    found = []
    for start, end in edges.reshape(-1, 2).tolist():
        at = min(int(np.searchsorted(later, start)), len(later) - 1)
        at -= int(later[at] > start)
        first = int(firsts[at]) + max(0, start - int(later[at]))
        start, end = _between_characters(text, start, end)
        kept[start:end] = False
        found.append((start, end, first))
    return kept, found


def _matches(text: NDArray[np.uint8], least: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places whose next `least` bytes, within one text, stand earlier too; and the earliest place of each."""
    suffixes, common = _sorted_suffixes(text)
    # room[i]: bytes from i to the end of its text
    breaks = np.flatnonzero(text == _BREAK)
    alike = common[: len(suffixes) - 1] >= least  # with the next suffix
    inside = np.flatnonzero(alike)
    if not len(inside):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.ones(len(inside), bool)
    new[1:] = np.diff(inside) > 1
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], len(inside))
    # A run of k pairs of neighbours is a group of k + 1 suffixes.
    owner = np.repeat(np.arange(len(begins)), ends - begins + 1)
    bounds = np.concatenate([[0], np.cumsum(ends - begins + 1)])
    places = suffixes[inside[begins][owner] + np.arange(len(owner)) - bounds[owner]].astype(np.int64)
    firsts = np.minimum.reduceat(places, bounds[:-1])[owner]
    whole = breaks[np.searchsorted(breaks, places)] - places >= least
    later = whole & (places != firsts)
    return places[later], firsts[later]


def _sorted_suffixes(text: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The suffix array, and of each suffix how much it has in common with the next (Kasai et al. 2001)."""
    sort, kasai = _library()
    data = text.copy()  # the library wants to be able to write
    suffixes = sort(data)
    return suffixes, kasai(data, suffixes)


def _library() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from pydivsufsort import divsufsort, kasai
    except ImportError as error:
        raise LLMBertError(
            "repeated spans need the package pydivsufsort, which is not installed; pip install 'llmbert[curate]', "
            "or say --spans 0"
        ) from error
    return divsufsort, kasai


def _border(text: Any, at: int) -> int:
    """The last place up to `at` where a character begins."""
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _between_characters(text: NDArray[np.uint8], start: int, end: int) -> tuple[int, int]:
    """The whole characters inside a stretch; where there is none, those it touches."""
    first = start
    while text[first] & 0xC0 == 0x80:
        first += 1
    last = _border(text, end)
    if first < last:
        return first, last
    start = _border(text, start)
    while text[end] & 0xC0 == 0x80:
        end += 1
    return start, end
