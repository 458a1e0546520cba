"""Counting n-grams: a trie held level by level in sorted arrays, built from token ids without a loop over tokens.

Level n holds every distinct n-gram, sorted by its words from first to last, so that the continuations of one context
lie side by side. A node of level n is named by its place there; the nodes of level 1 are the words themselves.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from llmbert.protocols import LLMBertError, Progress, silent

# A key `parent * V + word` and every offset must fit int64.
_LARGEST_KEY = 2**63 - 1
# Tokens looked at together where an array of them all would take much more memory than the text.
_BLOCK = 1 << 20


@dataclass
class CountLevel:
    """The distinct n-grams of one length.

    words: (M,) last word of each; parents: (M,) node of its first n-1 words, in level n-1;
    suffixes: (M,) node of its last n-1 words, in level n-1; counts: (M,) how often each occurs.
    Level 1 holds all V words, seen or not, and its parents and suffixes are empty.
    """

    words: np.ndarray
    parents: np.ndarray
    suffixes: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.words)


def check_documents(ids: np.ndarray, starts: np.ndarray, vocabulary_size: int) -> None:
    """Raise LLMBertError unless `ids` (N,) and `starts` (documents + 1,) describe documents over the vocabulary."""
    if ids.ndim != 1 or starts.ndim != 1 or ids.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        raise LLMBertError("token ids and document starts must be one-dimensional arrays of integers")
    if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(ids) or np.any(starts[1:] < starts[:-1]):
        raise LLMBertError(f"document starts must rise from 0 to the number of tokens, {len(ids)}")
    if len(ids) and (int(ids.max()) >= vocabulary_size or int(ids.min()) < 0):
        raise LLMBertError(f"a token id lies outside the vocabulary of {vocabulary_size}; was another tokeniser used?")


def count_ngrams(
    ids: np.ndarray,
    starts: np.ndarray,
    vocabulary_size: int,
    order: int,
    *,
    begin_id: int = 2,
    padding_id: int = 0,
    progress: Progress = silent,
) -> list[CountLevel]:
    """Count all n-grams of 1 to `order` words that lie within one document.

    ids: (N,) documents one after another, each from its begin token to its end token; starts: (documents + 1,).
    A begin token is only ever the first word of an n-gram; one in the middle of a document starts afresh.
    Raises LLMBertError where a document does not open with the begin token, holds padding, or nothing is to count.
    """
    check_documents(ids, starts, vocabulary_size)
    tokens = np.asarray(ids)
    begins = tokens == begin_id
    opened = starts[:-1][starts[1:] > starts[:-1]]
    if not begins[opened].all():
        raise LLMBertError(f"every document to count must open with the begin token, id {begin_id}")
    if (tokens == padding_id).any():
        raise LLMBertError(f"documents to count must not hold the padding token, id {padding_id}")
    if begins.all():
        raise LLMBertError("there is not one token to count n-grams in; give a corpus that is not empty")
    counts = np.zeros(vocabulary_size, np.int64)
    for i in range(0, len(tokens), _BLOCK):
        counts += np.bincount(tokens[i : i + _BLOCK], minlength=vocabulary_size)
    none = np.empty(0, np.int32)
    levels = [CountLevel(np.arange(vocabulary_size, dtype=np.int32), none, none, counts)]
    within = np.ones(len(tokens), bool)
    nodes = tokens
    for n in range(2, order + 1):
        progress("counting n-grams", n - 1, order)
        within[1:] = within[:-1] & ~begins[1:]
        within[0] = False
        level, nodes = count_level(tokens, nodes, within, vocabulary_size, len(levels[-1]), n < order)
        levels.append(level)
        give_back()
    progress("counting n-grams", order, order)
    return levels


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return None


def give_back() -> None:
    """Hand free memory back to the system where the C library knows how (glibc): it keeps what lies below something in
    use, which after arrays of many sizes is as much as is in use."""
    trim = _trim()
    if trim is not None:
        trim(0)


def count_level(
    tokens: np.ndarray, nodes: np.ndarray, within: np.ndarray, vocabulary_size: int, parents: int, numbered: bool
) -> tuple[CountLevel, np.ndarray]:
    """The level above that of `nodes`, and, if `numbered`, its node at each position of the text.

    nodes: (N,) the node of the n-gram that ends at each position; within: (N,) whether an n+1-gram ends there.
    """
    if parents * vocabulary_size > _LARGEST_KEY:
        raise LLMBertError(f"{parents} contexts over {vocabulary_size} words are more than 64 bits can number")
    packs = parents * vocabulary_size * len(tokens) <= _LARGEST_KEY
    small = np.int32 if len(tokens) < 2**31 else np.int64
    above = np.zeros(len(tokens) if numbered else 0, small)
    keys, places, firsts = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    known, seen, last = 0, 0, -1
    for key, place in (_packed if packs else _argsorted)(tokens, nodes, within, vocabulary_size):
        new = np.diff(key, prepend=last) > 0
        if numbered:
            above[place] = np.cumsum(new) + (known - 1)
        keys.append(key[new])
        places.append(place[new].astype(small))
        firsts.append((np.flatnonzero(new) + seen).astype(small))
        known, seen, last = known + len(keys[-1]), seen + len(key), int(key[-1])
    kind = np.int32 if max(parents, known) < 2**31 else np.int64
    # One array after the other, each let go as soon as it can be: this is where counting takes the most memory.
    suffixes = nodes[_joined(places)].astype(kind, copy=False)  # any occurrence has the same suffix
    counts = np.diff(_joined(firsts), append=small(seen))
    key = _joined(keys)
    contexts = (key // vocabulary_size).astype(kind)
    key %= vocabulary_size
    return CountLevel(key.astype(np.int32), contexts, suffixes, counts), above


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; the list is empty afterwards."""
    if not parts:
        return np.empty(0, np.int64)
    whole = np.concatenate(parts)
    parts.clear()
    return whole


Blocks = Iterator[tuple[np.ndarray, np.ndarray]]


def _packed(tokens: np.ndarray, nodes: np.ndarray, within: np.ndarray, vocabulary_size: int) -> Blocks:
    """Every n-gram as (key, place where it ends), ordered by key, in blocks: int64 each.

    Key and place share one integer, so that 8 bytes a token are sorted where they lie.
    """
    packed = np.empty(int(within.sum()), np.int64)
    done = 0
    for i in range(0, len(tokens), _BLOCK):
        ends = np.flatnonzero(within[i : i + _BLOCK]) + i
        part = packed[done : done + len(ends)]
        part[:] = nodes[ends - 1]
        part *= vocabulary_size
        part += tokens[ends]
        part *= len(tokens)
        part += ends
        done += len(ends)
    packed.sort()
    for i in range(0, len(packed), _BLOCK):
        yield np.divmod(packed[i : i + _BLOCK], len(tokens))


def _argsorted(tokens: np.ndarray, nodes: np.ndarray, within: np.ndarray, vocabulary_size: int) -> Blocks:
    """The same where 64 bits cannot hold both, in five times the memory."""
    ends = np.flatnonzero(within)
    keys = nodes[ends - 1] * np.int64(vocabulary_size)
    keys += tokens[ends]
    by_key = np.argsort(keys)
    for i in range(0, len(keys), _BLOCK):
        yield keys[by_key[i : i + _BLOCK]], ends[by_key[i : i + _BLOCK]]
