"""Building a model's trie from n-grams listed in any order, as an ARPA file lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmbert.models.ngram.storage import NGramConfig
from llmbert.models.ngram.trie import Level, find, score_backoff, walk
from llmbert.protocols import LLMBertError


@dataclass
class Entries:
    """N-grams of one length: words (M, n) int64 ids; log_probability and backoff (M,) float32, natural.

    lines: int64 (M,), where each was written; -1: nowhere, it is only the beginning of a longer one.
    """

    words: np.ndarray
    log_probability: np.ndarray
    backoff: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def join(cls, parts: Sequence[Entries], n: int) -> Entries:
        """The n-grams of all `parts`, in their order."""
        empty = cls(np.empty((0, n), np.int64), np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
        together = [empty, *parts]
        return cls(
            np.concatenate([part.words for part in together]),
            np.concatenate([part.log_probability for part in together]),
            np.concatenate([part.backoff for part in together]),
            np.concatenate([part.lines for part in together]),
        )

    def take(self, rows: np.ndarray) -> Entries:
        """The n-grams at `rows`, indices or a mask."""
        return Entries(self.words[rows], self.log_probability[rows], self.backoff[rows], self.lines[rows])


def levels_from_entries(sections: list[Entries], config: NGramConfig, source: str) -> list[Level]:
    """The trie of a model that backs off.

    N-grams that can never be met (begin anywhere but first, padding) are dropped; where the beginning of an n-gram is
    missing, it is added with the value that backing off gives it; words without a unigram share the unknown token's
    probability evenly with it. Raises LLMBertError where `source`, the file, lists an n-gram twice.
    """
    sections = [_reachable(entries, config) for entries in sections]
    while True:
        levels = [_unigrams(sections[0], config, source)]
        for entries in sections[1:]:
            missing = _add_level(levels, entries, source)
            if len(missing):
                _add_beginnings(sections, missing)
                break
        else:
            levels[-1].children = levels[-1].backoff = None
            return levels


def _reachable(entries: Entries, config: NGramConfig) -> Entries:
    later = entries.words[:, 1:]
    wrong = (later == config.begin_id).any(1) | (entries.words == config.padding_id).any(1)
    return entries.take(~wrong)


def _unigrams(entries: Entries, config: NGramConfig, source: str) -> Level:
    size = config.vocabulary_size
    words = entries.words[:, 0]
    by_word = np.argsort(words, kind="stable")
    _refuse_repeats(words[by_word], entries.lines[by_word], source)
    logs, backoff = np.full(size, -np.inf, np.float32), np.zeros(size, np.float32)
    logs[words], backoff[words] = entries.log_probability, entries.backoff
    absent = np.ones(size, bool)
    absent[words] = False
    absent[[config.begin_id, config.padding_id, config.end_id]] = False
    absent[config.unknown_id] = True
    logs[absent] = logs[config.unknown_id] - np.float32(np.log(absent.sum()))
    logs[[config.begin_id, config.padding_id]] = -np.inf
    return Level(logs, np.arange(size, dtype=np.int32), np.zeros(size, np.int32), backoff)


def _add_level(levels: list[Level], entries: Entries, source: str) -> np.ndarray:
    """Append the next level; or, where beginnings of its n-grams are missing, return their words (K, n - 1)."""
    n, size = entries.words.shape[1], len(levels[0])
    parents = entries.words[:, 0]
    for place, level in enumerate(levels[1:], 1):
        parents = np.where(parents < 0, -1, find(level.keys, parents * size + entries.words[:, place]))
    if (parents < 0).any():
        missing: np.ndarray = entries.words[parents < 0, :-1]
        return missing
    keys = parents * size + entries.words[:, -1]
    # Inferred n-grams come after the written ones, so that the first of equal keys is the one to keep.
    by_key = np.argsort(keys, kind="stable")
    keys, kept = keys[by_key], entries.take(by_key)
    _refuse_repeats(keys, kept.lines, source)
    new = np.diff(keys, prepend=-1) > 0
    keys, kept = keys[new], kept.take(new)
    logs = kept.log_probability
    inferred = kept.lines < 0
    if inferred.any():
        logs[inferred] = _backed_off(levels, kept.words[inferred], keys[inferred] // size)
    levels[-1].children = np.bincount(keys // size, minlength=len(levels[-1])).astype(np.int32)
    words = kept.words[:, -1].astype(np.int32)
    levels.append(Level(logs, words, np.zeros(len(words), np.int32), kept.backoff, keys))
    return np.empty((0, n - 1), np.int64)


def _backed_off(levels: list[Level], words: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """The log probability (M,) of n-grams `words` (M, n) that the levels below theirs give."""
    lengths = np.broadcast_to(np.arange(1, words.shape[1] + 1), words.shape)
    shorter = score_backoff(levels, words, walk(levels, words, lengths, len(levels)))[:, -1]
    weight = levels[-1].backoff
    assert weight is not None
    return shorter + weight[contexts]


def _add_beginnings(sections: list[Entries], missing: np.ndarray) -> None:
    """Add what lacks for `missing` (K, n) to be reached, to the sections of length 2 … n."""
    for n in range(2, missing.shape[1] + 1):
        words = np.unique(missing[:, :n], axis=0)
        zeros = np.zeros(len(words), np.float32)
        inferred = Entries(words, zeros, zeros.copy(), np.full(len(words), -1, np.int64))
        sections[n - 1] = Entries.join([sections[n - 1], inferred], n)


def _refuse_repeats(keys: np.ndarray, lines: np.ndarray, source: str) -> None:
    """Raise LLMBertError where two of the sorted `keys` are equal and both written in the file."""
    repeated = np.flatnonzero((keys[1:] == keys[:-1]) & (lines[1:] >= 0))
    if len(repeated):
        first, again = lines[repeated[0]], lines[repeated[0] + 1]
        raise LLMBertError(f"{source}, line {again}: the n-gram of line {first} is listed again; remove one of them")
