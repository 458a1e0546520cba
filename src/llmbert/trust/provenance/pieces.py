"""Documents → pieces that fit a block, and which pieces share one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from llmbert.data.suffixes import SEPARATOR
from llmbert.protocols import LLMBertError

_HASH_BITS = 64


@dataclass(frozen=True)
class Given:
    """A document to index: UTF-8 in parts of any length, which may end inside a character.

    exact: it is the text as it stood in its file, not what a tokeniser left of it.
    """

    id: str
    parts: Iterable[bytes]
    exact: bool = True


@dataclass(frozen=True)
class Piece:
    """A stretch of a document. byte: where it begins there; owned: its first bytes that no later piece begins with."""

    text: bytes
    byte: int
    owned: int


def cut_document(document: Given, most: int, overlap: int) -> Iterator[Piece]:
    """The document in pieces of at most `most` bytes, cut between characters; one piece of a short one.

    A piece begins at least `overlap` bytes before the one in front of it ends. So a stretch of up to `overlap` bytes
    stands whole in the piece that owns its first byte, and a longer one shows its first `overlap` bytes there: none is
    lost at a cut, and each place is owned by one piece. Raises LLMBertError for bytes that are no text.
    """
    held, byte = bytearray(), 0
    for part in document.parts:
        if SEPARATOR in part:
            raise LLMBertError(f"{document.id} holds a byte that is no UTF-8; convert it to UTF-8 first")
        held += part
        while len(held) > most:
            end = _border(held, most)
            owned = _border(held, end - overlap)
            yield Piece(bytes(held[:end]), byte, owned)
            del held[:owned]
            byte += owned
    yield Piece(bytes(held), byte, len(held))


def _border(text: bytearray, place: int) -> int:
    """The last place up to `place` where a character begins."""
    while text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def hash_piece(document_id: str, byte: int) -> int:
    """Where in the order of all pieces one stands: 64 bits that depend on nothing but its own name and place."""
    name = f"{document_id}\0{byte}".encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(name, digest_size=_HASH_BITS // 8).digest(), "big")


def partition(hashes: NDArray[np.uint64], sizes: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Pieces in the order of their hashes → blocks [begin, end) of at most `most` bytes (a larger piece is alone).

    The pieces are halved by the next bit of their hashes until they fit (extendible hashing, Fagin et al. 1979). So
    the blocks depend on which pieces there are and on nothing else: taking some away leaves the same as never having
    had them, and touches only blocks that held them, or that now fit together.
    """
    ends = np.concatenate([[0], np.cumsum(sizes)])
    found: list[tuple[int, int]] = []
    waiting = [(0, len(hashes), 0, _HASH_BITS - 1)]
    while waiting:
        begin, end, prefix, bit = waiting.pop()
        if begin == end:
            continue
        if end - begin == 1 or bit < 0 or ends[end] - ends[begin] <= most:
            found.append((begin, end))
            continue
        pivot = prefix | 1 << bit
        middle = begin + int(np.searchsorted(hashes[begin:end], np.uint64(pivot)))
        waiting += [(middle, end, pivot, bit - 1), (begin, middle, prefix, bit - 1)]
    return found
