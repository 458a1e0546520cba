"""A text and an index → the spans of it that stand in the indexed text word for word, and where."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.suffixes import common_length, find_range, longest_match, stand
from llmbert.protocols import LLMBertError, UsageError
from llmbert.trust.provenance.index import TraceIndex

LEAST = 20  # characters of a span, where nothing is said
IDEOGRAPH = 2.5
"""Letters that one character of Chinese, Japanese or Korean counts for, where no number of characters is given: 8 of
them are a span."""
_TOGETHER = 256  # places that are looked up at once
_WIDE = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def trace_text(
    index: TraceIndex, text: str, *, least: int | None = None, letters: int = LEAST, most: int = 5
) -> dict[str, Any]:
    """Where a text stands in the indexed documents as it is: its maximal spans, and their occurrences.

    least: characters of a span (None: `letters`, of which an ideograph counts for IDEOGRAPH); most: occurrences that
    are listed of each span. A span is maximal: with one character more on either side it stands nowhere. Spans
    may overlap, for one may begin in one document and the next go on in another.

    Returns text; characters; verbatim: the share of them that lie in a span; spans: start, length (characters), text,
    count (of all occurrences, overlapping ones too), documents: [{id, character (where in it), length}, ...].
    Matching statistics (Chang & Lawler 1994) by binary search in the suffix array of each block: O(log n) comparisons a
    character, and far fewer inside a span, whose end holds for all that begins in it; only where a stretch as short as
    may be listed stands at all.

    Raises UsageError for least or most below 1, LLMBertError for a text with half a character in it.
    """
    if least is not None and least < 1:
        raise UsageError(f"least is {least}; a span has 1 character or more")
    if most < 1:
        raise UsageError(f"most is {most}; list 1 occurrence or more of a span")
    matcher = _Matcher(index, text)
    spans: list[dict[str, Any]] = []
    weights = letters_before(text) if least is None else np.arange(len(text) + 1, dtype=np.float64)
    for start, end in matcher.spans(weights, float(least or letters)):
        count, places = matcher.occurrences(start, end, most)
        spans.append(
            {"start": start, "length": end - start, "text": text[start:end], "count": count, "documents": places}
        )
    covered = np.zeros(len(text) + 1, np.int64)
    for span in spans:
        covered[span["start"]] += 1
        covered[span["start"] + span["length"]] -= 1
    inside = int((np.cumsum(covered)[:-1] > 0).sum())
    return {
        "text": text,
        "characters": len(text),
        "verbatim": inside / len(text) if text else 0.0,
        "spans": spans,
    }


def letters_before(text: str) -> NDArray[np.float64]:
    """How many letters the characters before each place count for, ideographs for IDEOGRAPH: (characters + 1,)."""
    counts = np.ones(len(text))
    codes = np.array([ord(character) for character in text], np.int64)
    for first, last in _WIDE:
        counts[(codes >= first) & (codes <= last)] = IDEOGRAPH
    return np.concatenate([[0.0], np.cumsum(counts)])


class _Matcher:
    """A text being looked for. Places are in characters here; borders: the byte that each begins at."""

    def __init__(self, index: TraceIndex, text: str) -> None:
        self._index = index
        try:
            self._data = text.encode()
        except UnicodeEncodeError as error:
            raise LLMBertError(
                f"the text holds half a character (U+{ord(text[error.start]):04X}); remove or replace it"
            ) from error
        first = np.flatnonzero((np.frombuffer(self._data, np.uint8) & 0xC0) != 0x80)
        self._borders = np.append(first, len(self._data))
        self._length = len(text)
        self._reach = cache(self._find_reach)

    def spans(self, weights: NDArray[np.float64], least: float) -> Iterator[tuple[int, int]]:
        """The maximal spans [start, end) that count for `least`, in order."""
        start = farthest = 0
        ends = np.searchsorted(weights, weights + least - 1e-9)  # where a span has to reach, if it begins there
        last = int(np.searchsorted(ends, len(weights)))
        for first in range(0, last, _TOGETHER):
            places = np.arange(first, min(first + _TOGETHER, last))
            if start > places[-1]:
                continue
            for place in places[self._stand(places, ends[places])].tolist():
                if place < start:
                    continue
                end = self._reach(place)
                if end > farthest and weights[end] - weights[place] >= least:
                    yield place, end
                    farthest = end
                    start = self._next_beyond(place, end)

    def _stand(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which stretches stand in any block; of a long one its first `overlap` bytes."""
        begins = self._borders[starts]
        until = np.minimum(self._borders[ends], begins + self._index.overlap)
        found = np.zeros(len(starts), bool)
        for block in self._index.blocks:
            left = np.flatnonzero(~found)
            found[left] = stand(block.bytes, block.places, self._data, begins[left], until[left])
        return found

    def _next_beyond(self, start: int, end: int) -> int:
        """The first place behind `start` whose match goes beyond `end`: reaches never fall, so it can be halved."""
        low, step = start, 1
        while (high := min(low + step, self._length)) < self._length and self._reach(high) <= end:
            low, step = high, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._reach(middle) <= end else (low, middle)
        return high

    def _find_reach(self, start: int) -> int:
        """Where the longest match that begins at a character ends, at a border of characters."""
        begin, overlap = int(self._borders[start]), self._index.overlap
        pattern = self._data[begin : begin + overlap]
        length = max((longest_match(b.text, b.suffixes, pattern) for b in self._index.blocks), default=0)
        if length == overlap:
            rest = self._data[begin:]
            places = (place for number in range(len(self._index.blocks)) for place in self._places(number, pattern))
            length = max((self._follow(*place, rest) for place in places), default=length)
        return int(np.searchsorted(self._borders, begin + length, "right")) - 1

    def _places(self, number: int, pattern: bytes) -> Iterator[tuple[int, int]]:
        """Where a pattern of at most `overlap` bytes stands in a block, each place once: (block, place)."""
        block = self._index.blocks[number]
        first, last = find_range(block.text, block.suffixes, pattern)
        yield from ((number, int(place)) for place in np.sort(block.owned(block.places[first:last])))

    def _follow(self, number: int, place: int, wanted: bytes) -> int:
        """How far a document goes on as `wanted` does, from a place on and through all its pieces."""
        length = 0
        for stretch in self._index.bytes_after(number, place):
            found = common_length(stretch, wanted[length : length + len(stretch)])
            length += found
            if found < len(stretch) or length == len(wanted):
                break
        return length

    def occurrences(self, start: int, end: int, most: int) -> tuple[int, list[dict[str, Any]]]:
        """How often a span stands in the index, and the first `most` places of it."""
        wanted = self._data[int(self._borders[start]) : int(self._borders[end])]
        pattern, count = wanted[: self._index.overlap], 0
        found: list[tuple[int, int]] = []
        for number, block in enumerate(self._index.blocks):
            if len(wanted) > len(pattern):
                whole = [each for each in self._places(number, pattern) if self._follow(*each, wanted) == len(wanted)]
                count += len(whole)
                found += whole[: most - len(found)]
                continue
            first, last = find_range(block.text, block.suffixes, pattern)
            places = block.owned(block.places[first:last])
            count += len(places)
            room = min(most - len(found), len(places))
            if room > 0:
                nearest = np.sort(places if room == len(places) else np.partition(places, room - 1)[:room])
                found += [(number, int(place)) for place in nearest]
        return count, [self._named(*each, end - start) for each in islice(found, most)]

    def _named(self, number: int, place: int, length: int) -> dict[str, Any]:
        block = self._index.blocks[number]
        piece = int(block.piece_at(place))
        return {"id": block.ids[piece], "character": block.character_of(piece, place), "length": length}
