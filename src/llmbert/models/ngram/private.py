"""N-gram counts that no single document shows in: bounded contributions, Gaussian noise, a threshold for the rare."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from llmbert.models.ngram.counts import CountLevel, check_documents, count_level
from llmbert.protocols import LLMBertError, Progress, silent


def private_counts(
    ids: np.ndarray,
    starts: np.ndarray,
    vocabulary_size: int,
    order: int,
    *,
    noise: float,
    contributions: int,
    delta: float,
    begin_id: int = 2,
    padding_id: int = 0,
    random: np.random.Generator | None = None,
    progress: Progress = silent,
) -> list[CountLevel]:
    """What `count_ngrams` gives, but of documents counted, and differentially private for each document.

    Of each length a document counts once for each of at most `contributions` different n-grams, drawn at random, so
    that it changes a table by at most √contributions in the Euclidean norm; every count gets Gaussian noise of `noise`
    times that. An n-gram of two tokens or more that a single document brought in stays above the threshold with a
    probability of at most `delta` in all tables together (Korolova et al. 2009); n-grams whose own parts fell out fall
    out too. ε is that of `order` Gaussian mechanisms of this noise, see `trust.accounting.spent`; `delta` comes on top.
    Lengths of which nothing is left are not among the levels.

    random: None draws the noise from the system; noise from a seed that is written down would hide nothing.
    Raises LLMBertError for documents that `count_ngrams` would refuse, and where nothing is left.
    """
    check_documents(ids, starts, vocabulary_size)
    random = random or np.random.default_rng()
    tokens = np.asarray(ids)
    documents = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    begins = tokens == begin_id
    spread = noise * math.sqrt(contributions)
    rare = 1 + spread * NormalDist().inv_cdf(1 - delta / (contributions * max(1, order - 1)))
    noisy, _ = _noisy(tokens, documents, vocabulary_size, contributions, spread, random)
    noisy[padding_id] = 0.0
    none = np.empty(0, np.int32)
    words = np.arange(vocabulary_size, dtype=np.int32)
    levels = [CountLevel(words, none, none, np.maximum(0, np.rint(noisy)).astype(np.int64))]
    if not levels[0].counts.any():
        raise LLMBertError("no token is left above the noise; give more documents, or less noise")
    within = np.ones(len(tokens), bool)
    nodes, size, places = tokens.astype(np.int64), vocabulary_size, words.astype(np.int64)
    for n in range(2, order + 1):
        progress("counting n-grams", n - 1, order)
        within[1:] = within[:-1] & ~begins[1:]
        within[0] = False
        level, above = count_level(tokens, nodes, within, vocabulary_size, size, True)
        noisy, counted = _noisy(above[within], documents[within], len(level), contributions, spread, random)
        # What no document was drawn for must not come through by its noise alone: a long document has any number of it.
        kept = (noisy > rare) & (counted > 0) & (places[level.parents] >= 0) & (places[level.suffixes] >= 0)
        if not kept.any():
            break
        levels.append(
            CountLevel(
                level.words[kept],
                places[level.parents[kept]].astype(np.int32),
                places[level.suffixes[kept]].astype(np.int32),
                np.maximum(1, np.rint(noisy[kept])).astype(np.int64),
            )
        )
        nodes, size = above, len(level)
        places = np.where(kept, np.cumsum(kept) - 1, -1)
    progress("counting n-grams", order, order)
    return levels


def _noisy(
    nodes: np.ndarray, documents: np.ndarray, size: int, contributions: int, spread: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """In how many documents each of `size` nodes stands, each document counting for so many at most: with noise,
    float64, and without."""
    pairs = random.permutation(np.unique(documents * np.int64(size) + nodes))
    owners = pairs // size
    order = np.argsort(owners, kind="stable")
    owners = owners[order]
    ranks = np.arange(len(owners)) - np.searchsorted(owners, owners)
    counts = np.bincount((pairs % size)[order][ranks < contributions], minlength=size)
    return counts + random.normal(0.0, spread, size), counts
