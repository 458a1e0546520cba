"""BLEU, chrF and TER by sacreBLEU, and NIST: scores of translations."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np

from llmbert.metrics.generation.words import Convention, Texts, load_sacrebleu, ngram_counts
from llmbert.metrics.segments import SegmentStatistics, ratio

ORDER = 4
NIST_ORDER = 5
# mteval: the penalty is 1/2 where the output has two thirds of the words of the reference
NIST_BETA = math.log(0.5) / math.log(1.5) ** 2


def bleu(texts: Texts) -> SegmentStatistics:
    """Corpus BLEU (Papineni et al. 2002), 0-100, as sacreBLEU has it: exponential smoothing, closest reference length.

    With the tokeniser "tok" nothing is smoothed. Parts: precisions (4, in %), brevity_penalty, hypothesis_words,
    reference_words.
    """
    convention = texts.convention
    smooth = "none" if convention.tokeniser == "tok" else "exp"
    name = "none" if convention.tokeniser == "tok" else convention.tokeniser
    metric = load_sacrebleu().metrics.BLEU(lowercase=convention.lower, tokenize=name, smooth_method=smooth, force=True)
    rows = _segment_rows(metric, texts)
    return SegmentStatistics(rows, partial(bleu_of_sums, smooth=smooth), _signature(metric, convention), _bleu_parts)


def bleu_of_sums(sums: np.ndarray, smooth: str = "exp") -> np.ndarray:
    """BLEU (r,) of summed statistics (r, 10): hypothesis and reference length, 4 matches, 4 totals.

    smooth: "exp" (each order without a match counts as 1/2, 1/4, ... of one, NIST's way) or "none".
    """
    matches, totals = sums[:, 2 : 2 + ORDER], sums[:, 2 + ORDER :]
    missed = (matches == 0) & (totals > 0)
    precisions = ratio(matches, totals)
    if smooth == "exp":
        precisions = np.where(missed, ratio(0.5 ** np.cumsum(missed, axis=1), totals), precisions)
    known = np.asarray((precisions > 0).all(axis=1) & (matches > 0).any(axis=1))
    logarithms = np.log(np.where(known[:, None], precisions, 1.0)).mean(axis=1)
    return np.where(known, 100 * _brevity_penalty(sums) * np.exp(logarithms), 0.0)


def _brevity_penalty(sums: np.ndarray) -> np.ndarray:
    """(r,): exp(1 - r/c) where the output is shorter (c words) than the references (r words), else 1."""
    lengths, wanted = sums[:, 0], sums[:, 1]
    penalty = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(lengths, 1e-9)))
    return np.where((lengths == 0) & (wanted > 0), 0.0, penalty)


def _bleu_parts(sums: np.ndarray) -> dict[str, Any]:
    return {
        "precisions": [float(each) for each in 100 * ratio(sums[2 : 2 + ORDER], sums[2 + ORDER :])],
        "brevity_penalty": float(_brevity_penalty(sums[None])[0]),
        "hypothesis_words": int(sums[0]),
        "reference_words": int(sums[1]),
    }


def chrf(texts: Texts, word_order: int = 0) -> SegmentStatistics:
    """chrF2 (Popović 2015), 0-100, character n-grams up to 6; with word_order 2: chrF++ (Popović 2017)."""
    metric = load_sacrebleu().metrics.CHRF(word_order=word_order, lowercase=texts.convention.lower)
    return SegmentStatistics(
        _segment_rows(metric, texts), partial(chrf_of_sums, beta=metric.beta), _signature(metric, texts.convention)
    )


def chrf_of_sums(sums: np.ndarray, beta: float = 2) -> np.ndarray:
    """chrF (r,) of summed statistics (r, 3 * orders): n-grams of hypothesis, of reference, and matches, by order.

    Precision and recall are averaged over the orders that both sides have, then joined to one F.
    """
    of_hypothesis, of_reference, matches = (sums[:, place::3] for place in range(3))
    known = (of_hypothesis > 0) & (of_reference > 0)
    orders = known.sum(axis=1)
    precision = ratio((ratio(matches, of_hypothesis) * known).sum(axis=1), orders)
    recall = ratio((ratio(matches, of_reference) * known).sum(axis=1), orders)
    return 100 * ratio((1 + beta**2) * precision * recall, beta**2 * precision + recall)


def ter(texts: Texts) -> SegmentStatistics:
    """TER (Snover et al. 2006), in edits per 100 reference words: lower is better, and more than 100 is possible.

    Case is ignored, as by default in tercom and sacreBLEU. Chinese and Japanese are cut to characters unless they are
    segmented or tokenised already. Parts: edits, reference_words (the mean where there are several references). The
    search for shifts takes about 10 ms for each text and reference of a few dozen words, far more than all else here.
    """
    convention = texts.convention
    cut = convention.code in ("zh", "ja") and convention.tokeniser not in ("none", "tok")
    metric = load_sacrebleu().metrics.TER(normalized=cut, asian_support=cut)
    rows = _segment_rows(metric, texts)
    return SegmentStatistics(rows, ter_of_sums, _signature(metric, convention), _ter_parts, lower_is_better=True)


def ter_of_sums(sums: np.ndarray) -> np.ndarray:
    """TER (r,) of summed edits and reference words (r, 2); 100 for edits against empty references."""
    edits, words = sums[:, 0], sums[:, 1]
    return 100 * np.where(words > 0, ratio(edits, words), np.where(edits > 0, 1.0, 0.0))


def _ter_parts(sums: np.ndarray) -> dict[str, Any]:
    return {"edits": int(sums[0]), "reference_words": float(sums[1])}


def _segment_rows(metric: Any, texts: Texts) -> np.ndarray:
    """sacreBLEU's statistics of each segment, float64 (n, k)."""
    hypotheses, references = texts.segmented
    streams = list(zip_longest(*references))  # sacreBLEU takes stream by stream, None where a segment has fewer
    # sacreBLEU has no public call for them
    return np.asarray(metric._extract_corpus_statistics(hypotheses, streams), dtype=np.float64)


def _signature(metric: Any, convention: Convention) -> dict[str, str | int | float]:
    """sacreBLEU's own signature, its version under "sacrebleu", before language and segmentation."""
    pairs = [part.split(":", 1) for part in str(metric.get_signature()).split("|")]
    return {**{"sacrebleu" if name == "version" else name: value for name, value in pairs}, **convention.signature}


def nist(texts: Texts) -> SegmentStatistics:
    """NIST (Doddington 2002), n-grams up to 5, with the brevity penalty of mteval; about 0-15, higher is better.

    Matches weigh by their information over all references, log2(count(w1..wn-1) / count(w1..wn)), which resampling
    leaves as it is. With several references matches are clipped by the largest count, and the reference length is
    the mean (mteval-v13a). Parts: by_order (5), brevity_penalty, hypothesis_words, reference_words.
    """
    information = _information(texts.reference_words)
    rows = np.zeros((len(texts.hypotheses), 2 * NIST_ORDER + 2))
    for row, words, references in zip(rows, texts.hypothesis_words, texts.reference_words, strict=True):
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= ngram_counts(reference, NIST_ORDER)
        for ngram, count in ngram_counts(words, NIST_ORDER).items():
            row[len(ngram) - 1] += min(count, most[ngram]) * information.get(ngram, 0.0)
            row[NIST_ORDER + len(ngram) - 1] += count
        row[-2:] = len(words), sum(map(len, references)) / len(references)
    signature = {"order": NIST_ORDER, "penalty": "mteval", **texts.convention.word_signature}
    return SegmentStatistics(rows, nist_of_sums, signature, _nist_parts)


def nist_of_sums(sums: np.ndarray) -> np.ndarray:
    """NIST (r,) of summed statistics (r, 12): information matched and n-grams by order, both lengths."""
    by_order = ratio(sums[:, :NIST_ORDER], sums[:, NIST_ORDER : 2 * NIST_ORDER])
    return by_order.sum(axis=1) * _nist_penalty(sums)


def _nist_penalty(sums: np.ndarray) -> np.ndarray:
    relative = np.minimum(1.0, np.where(sums[:, -1] > 0, ratio(sums[:, -2], sums[:, -1]), 1.0))
    return np.where(relative > 0, np.exp(NIST_BETA * np.log(np.maximum(relative, 1e-300)) ** 2), 0.0)


def _nist_parts(sums: np.ndarray) -> dict[str, Any]:
    return {
        "by_order": [float(each) for each in ratio(sums[:NIST_ORDER], sums[NIST_ORDER : 2 * NIST_ORDER])],
        "brevity_penalty": float(_nist_penalty(sums[None])[0]),
        "hypothesis_words": int(sums[-2]),
        "reference_words": float(sums[-1]),
    }


def _information(references: list[list[list[str]]]) -> dict[tuple[str, ...], float]:
    """Doddington 2002, equation 2: bits that the last word of each n-gram of the references adds to those before."""
    counts: Counter[tuple[str, ...]] = Counter()
    words = 0
    for reference in (reference for group in references for reference in group):
        counts.update(ngram_counts(reference, NIST_ORDER))
        words += len(reference)
    return {
        ngram: math.log2((counts[ngram[:-1]] if len(ngram) > 1 else words) / count) for ngram, count in counts.items()
    }
