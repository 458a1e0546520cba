"""Texts as streams → the same texts without personal data, in bounded memory, and how many finds of each kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from llmbert.data.personal.find import Find
from llmbert.data.personal.pseudonyms import Replace

Finder = Callable[[str], list[Find]]
"""A text → its finds, in order and apart."""

BLOCK = 1 << 16
"""Characters that are searched at once."""
REACH = 1 << 10
"""No find is longer, and none depends on what stands farther from it."""
_QUIET = re.compile(r"[^0-9０-９@＠:：%+＋]+")
QUIET = 200


def scrub_text(text: str, found: list[Find], replace: Replace, counts: Counter[str]) -> str:
    """The text with its finds replaced; counts: how many of each kind there were, added to what it holds."""
    return _replaced(text, found, 0, len(text), replace, counts) if found else text


def scrub_pieces(
    pieces: Iterable[str], find: Finder, replace: Replace, counts: Counter[str], block: int = BLOCK
) -> Iterator[str]:
    """A long text's pieces, scrubbed, with about two blocks of it held at a time.

    Each block is searched together with REACH characters before and after it, so that a find across the ends of pieces
    or blocks is found as in the whole; it ends where for QUIET characters nothing looks like personal data, if it can.
    A tagger sees the text a block at a time.
    """
    stream, held, at, ended = iter(pieces), "", 0, False
    while True:
        while not ended and len(held) - at < block + REACH:
            piece = next(stream, None)
            ended = piece is None
            held, at = held[max(0, at - REACH) :] + (piece or ""), min(at, REACH)
        if at == len(held):
            return
        begin, end = max(0, at - REACH), min(len(held), at + block + REACH)
        window = held[begin:end]
        found = find(window)
        stop = len(window) if ended and end == len(held) else _stop(window, at - begin, found, block)
        if made := _replaced(window, found, at - begin, stop, replace, counts):
            yield made
        at = begin + stop


def _stop(window: str, start: int, found: list[Find], block: int) -> int:
    """Where a block ends: in a quiet place of its last half, or where the find across its end begins."""
    stop = min(start + block, len(window) - REACH)
    runs = _QUIET.finditer(window, max(start + 1, stop - block // 2), stop)
    quiet = next((run.start() + QUIET // 2 for run in runs if run.end() - run.start() >= QUIET), stop)
    return _clear(quiet, found, start)


def _clear(stop: int, found: list[Find], start: int) -> int:
    across = next((find.start for find in found if find.start < stop < find.end), stop)
    return across if across > start else stop


def _replaced(text: str, found: list[Find], start: int, stop: int, replace: Replace, counts: Counter[str]) -> str:
    """text[start:stop] with its finds replaced; one that began before start is none of it but for its end."""
    parts, at = [], start
    for kind, begin, end in found:
        if end > at and begin < stop:
            if begin < at:
                at = end  # its beginning was replaced with the block before
                continue
            parts += [text[at:begin], replace(kind, text[begin:end])]
            counts[kind] += 1
            at = end
    return "".join([*parts, text[at:stop]])
