"""How much a system's outputs repeat themselves and each other, and how close they come to a pool of real texts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmbert.metrics.generation.words import Texts, ngram_counts
from llmbert.metrics.segments import SegmentStatistics, mean_statistics, ratio

POOL = 1000  # outputs that self-BLEU looks at; more of them would make it rise, so the number is fixed
UNSEEN = 0.1  # what an order without a match counts (method 1 of Chen and Cherry 2014)


def distinct(texts: Texts, order: int) -> SegmentStatistics:
    """distinct-n (Li et al. 2016), 0-1: different n-grams over all n-grams of the outputs. It falls as texts get more.

    Repeating a segment adds nothing new, so a plain bootstrap would be off: each segment stands for its influence by
    the jackknife (Efron 1982), whose mean is the score. Parts: different, total (n-grams), per_word (different
    n-grams over words, the scaling that Li et al. write down; the same for n = 1).
    """
    owners: dict[tuple[str, ...], int] = {}
    totals = np.zeros(len(texts.hypotheses))
    for i, words in enumerate(texts.hypothesis_words):
        grams = [tuple(words[j : j + order]) for j in range(len(words) - order + 1)]
        totals[i] = len(grams)
        for gram in set(grams):
            owners[gram] = -1 if gram in owners else i  # -1: several segments have it
    alone = np.bincount([owner for owner in owners.values() if owner >= 0], minlength=len(totals))
    different, total = len(owners), float(totals.sum())
    score = different / total if total else 0.0
    without = ratio(different - alone, total - totals)
    influence = score + (len(totals) - 1) * (without.mean() - without)
    influence += score - influence.mean()  # no rounding in the score itself
    words_in_all = sum(map(len, texts.hypothesis_words))
    counted = {
        "different": different,
        "total": int(total),
        "per_word": different / words_in_all if words_in_all else 0.0,
    }
    signature: dict[str, Any] = {"order": order, "per": "ngram", "texts": len(totals), "units": "jackknife-influence"}
    made = mean_statistics(influence, {**signature, **texts.convention.word_signature})
    return SegmentStatistics(made.rows, made.score, made.signature, lambda sums: counted)


def self_bleu(texts: Texts, order: int = 4) -> SegmentStatistics:
    """Self-BLEU (Zhu et al. 2018), 0-1: the mean BLEU of each output against all others; lower is more diverse.

    Orders without a match count 0.1 n-grams (method 1 of Chen and Cherry 2014). It rises with the number of outputs:
    of more than 1,000 as many are drawn with the convention's seed, and the signature states the number.
    """
    texts_words = texts.hypothesis_words
    drawn = ""
    if len(texts_words) > POOL:
        chosen = np.random.default_rng(texts.convention.seed).choice(len(texts_words), POOL, replace=False)
        texts_words = [texts_words[i] for i in np.sort(chosen)]
        drawn = f"-of-{len(texts.hypotheses)}-seed{texts.convention.seed}"
    signature: dict[str, Any] = {"order": order, "smooth": "method1", "pool": f"{len(texts_words)}{drawn}"}
    scores = bleu_among(texts_words, order)
    return mean_statistics(scores, {**signature, **texts.convention.word_signature}, lower_is_better=True)


def pool_bleu(hypotheses: list[list[str]], pool: list[list[str]], order: int = 4) -> np.ndarray:
    """BLEU, 0-1, of each tokenised output against all texts of a pool as its references: (n,).

    The "test BLEU" of text GANs (Zhu et al. 2018), smoothed as in `self_bleu`. It rises with the size of the pool.
    """
    most: Counter[tuple[str, ...]] = Counter()
    for words in pool:
        most |= ngram_counts(words, order)
    lengths = Counter(map(len, pool))
    matches, totals = np.zeros((2, len(hypotheses), order))
    for i, words in enumerate(hypotheses):
        for gram, count in ngram_counts(words, order).items():
            matches[i, len(gram) - 1] += min(count, most[gram])
            totals[i, len(gram) - 1] += count
    sizes = np.array([len(words) for words in hypotheses])
    return _sentence_bleu(matches, totals, sizes, _closest(sizes, lengths, without_itself=False))


def bleu_among(texts: list[list[str]], order: int = 4) -> np.ndarray:
    """BLEU, 0-1, of each tokenised text against all others as its references: (n,). Time is linear in their words."""
    if len(texts) < 2:
        return np.zeros(len(texts))
    counted = [ngram_counts(words, order) for words in texts]
    top: dict[tuple[str, ...], _Top] = {}
    for i, grams in enumerate(counted):
        for gram, count in grams.items():
            known = top.get(gram)
            top[gram] = _Top(count, i, 0) if known is None else known.joined(count, i)
    matches, totals = np.zeros((2, len(texts), order))
    for i, grams in enumerate(counted):
        for gram, count in grams.items():
            matches[i, len(gram) - 1] += min(count, top[gram].without(i))
            totals[i, len(gram) - 1] += count
    sizes = np.array([len(words) for words in texts])
    return _sentence_bleu(matches, totals, sizes, _closest(sizes, Counter(sizes.tolist()), without_itself=True))


@dataclass(frozen=True, slots=True)
class _Top:
    """The largest count of an n-gram in any text, that text, and the largest in the others."""

    first: int
    owner: int
    second: int

    def joined(self, count: int, text: int) -> _Top:
        if count > self.first:
            return _Top(count, text, self.first)
        return _Top(self.first, self.owner, max(self.second, count))

    def without(self, text: int) -> int:
        return self.second if text == self.owner else self.first


def _closest(sizes: np.ndarray, lengths: Counter[int], without_itself: bool) -> np.ndarray:
    """The reference length nearest to each text's own (n,), the shorter of two as near."""
    nearest = {}
    for size in set(sizes.tolist()):
        others = [length for length, count in lengths.items() if count > (without_itself and length == size)]
        nearest[size] = min(others, key=lambda length: (abs(length - size), length))
    return np.array([nearest[size] for size in sizes.tolist()])


def _sentence_bleu(matches: np.ndarray, totals: np.ndarray, sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Sentence BLEU (n,) of matches and totals (n, order) with method 1 of Chen and Cherry 2014."""
    precisions = np.where(matches > 0, matches, UNSEEN) / np.maximum(totals, 1)
    penalty = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(sizes, 1)))
    return np.where(matches[:, 0] > 0, penalty * np.exp(np.log(precisions).mean(axis=1)), 0.0)
