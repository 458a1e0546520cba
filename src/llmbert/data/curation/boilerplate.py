"""Lines that stand in many documents: headers, footers, signatures, "Forwarded by …"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np

_BITS = 22
_HELD = 1 << 16
_LOW = np.uint64((1 << 32) - 1)


class LineCounts:
    """In how many documents each line stands, at least: never too few, seldom more, in 32 MB whatever the text.

    Two rows of counters, of which the smaller holds (a count-min sketch, Cormode and Muthukrishnan 2005).
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 1 << _BITS), np.uint32)
        self._held: list[bytes] = []

    def add(self, lines: Iterable[str]) -> None:
        """Take in the lines of a document, each once."""
        self._held += [_hash(line) for line in lines]
        if len(self._held) >= _HELD:
            self._flush()

    def _flush(self) -> None:
        for row, places in enumerate(_places(self._held)):
            np.add.at(self._counts[row], places, 1)
        self._held = []

    def frequent(self, lines: list[str], least: int) -> Iterator[str]:
        """Of some lines those that may stand in `least` documents or more."""
        if self._held:
            self._flush()
        if lines:
            rows = zip(self._counts, _places([_hash(line) for line in lines]), strict=True)
            counts = np.minimum.reduce([row[places] for row, places in rows])
            yield from (lines[at] for at in np.flatnonzero(counts >= least).tolist())


def _hash(line: str) -> bytes:
    return blake2b(line.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _places(hashes: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    values = np.frombuffer(b"".join(hashes), np.uint64)
    shift = np.uint64(32 - _BITS)
    return (values & _LOW) >> shift, values >> np.uint64(64 - _BITS)


def lines_of(text: str, least_bytes: int) -> list[str]:
    """The different lines of a text that may be boilerplate, without white space around them; none where the text is
    one line, which is then all it says."""
    lines = [line.strip() for line in text.split("\n")]
    if sum(map(bool, lines)) < 2:
        return []
    return [line for line in dict.fromkeys(lines) if len(line.encode("utf-8", "surrogatepass")) >= least_bytes]


def without_lines(text: str, lines: Counter[str], least: int) -> tuple[str, list[str]]:
    """The text without lines that stand in `least` documents or more, and which those are."""
    kept, gone = list[str](), list[str]()
    for line in text.split("\n"):
        bare = line.strip()
        (gone if lines.get(bare, 0) >= least else kept).append(line)
    return ("\n".join(kept), [line.strip() for line in gone]) if gone else (text, [])
