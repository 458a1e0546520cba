"""Texts → the sets of their shingles, as hashes, many texts at once.

A word is a run of letters, digits and combining marks; a character of a script written without spaces (Han, kana) is
a word of its own. So a shingle of 5 is five words of English or five characters of Chinese, as the text itself has it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.hashes import Hashes, hash_stretches, mix
from llmbert.text.normalise import normalise_spaces

SHINGLE = 5
_OTHER, _LETTER, _ALONE = 0, 1, 2
# Kana, Han of all planes, and the iteration and closing marks used like them.
_UNSPACED = ((0x3005, 0x3008), (0x3040, 0x3100), (0x31F0, 0x3200), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00))
_PLANES = (0x20000, 0x40000)
_FACTOR = np.uint64(0xD6E8FEB86659FD93)


def normalise(text: str) -> str:
    """The form in which two texts count as the same: Unicode's compatible composition (NFKC), letters without case,
    marks without width gone, every run of white space one space, none at the ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", normalise_spaces(text)).casefold())
    return " ".join(text.lower().split())


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """Of every code point: part of a word, a word alone, or neither."""
    kinds = np.zeros(0x110000, np.uint8)
    for code in (*range(0x20000), *range(0xE0100, 0xE01F0)):
        character = chr(code)
        kinds[code] = _LETTER if character.isalnum() or unicodedata.category(character)[0] == "M" else _OTHER
    for first, end in (*_UNSPACED, _PLANES):
        kinds[first:end] = _ALONE
    return kinds


def word_bounds(text: str) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """A text's code points, where its words (W,) start and end in them, and which are characters that stand alone."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[codes]
    letters = kinds == _LETTER
    before, after = np.zeros_like(letters), np.zeros_like(letters)
    before[1:], after[:-1] = letters[:-1], letters[1:]
    starts = np.flatnonzero((letters & ~before) | (kinds == _ALONE))
    ends = np.flatnonzero((letters & ~after) | (kinds == _ALONE)) + 1
    return codes, starts, ends, kinds[starts] == _ALONE


def words_of(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """The words of many texts: their hashes (W,) one after another, and where each text's begin (texts + 1,)."""
    codes, starts, ends, _ = word_bounds("\n".join([*texts, ""]))
    borders = np.cumsum([0, *(len(text) + 1 for text in texts)])
    return hash_stretches(codes, starts, ends), np.searchsorted(starts, borders)


def shingle_sets(texts: Sequence[str], size: int = SHINGLE) -> tuple[Hashes, NDArray[np.int64]]:
    """Of each text the set of all its runs of `size` words, as hashes (S,) in rising order, and where each text's
    begin (texts + 1,). A text of fewer words has one shingle, all of them; one of none has no shingle.

    Two runs have one hash where they are equal; that unequal ones do has a probability of about 2^-64 a pair.
    """
    words, starts = words_of(texts)
    lengths = np.diff(starts)
    counts = np.where(lengths == 0, 0, np.maximum(1, lengths - size + 1))
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    owner = np.repeat(np.arange(len(texts)), counts)
    first = starts[owner] + np.arange(bounds[-1]) - bounds[owner]
    last = starts[1:][owner]
    hashes = np.zeros(len(owner), np.uint64)
    padded = np.append(words, np.zeros(size, np.uint64))
    for step in range(size):
        hashes = mix(hashes * _FACTOR + np.where(first + step < last, padded[first + step], np.uint64(0)))
    return _distinct(hashes, owner, len(texts))


def _distinct(hashes: Hashes, owner: NDArray[Any], texts: int) -> tuple[Hashes, NDArray[np.int64]]:
    order = np.argsort(hashes)
    order = order[np.argsort(owner[order], kind="stable")]
    hashes, owner = hashes[order], owner[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    return hashes[new], np.searchsorted(owner[new], np.arange(texts + 1))
