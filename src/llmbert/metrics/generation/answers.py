"""Exact match and token F1: scores of short answers."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

import numpy as np

from llmbert.metrics.generation.words import TOKENISER_OF, Texts, any_words, unspaced_words
from llmbert.metrics.segments import SegmentStatistics, mean_statistics

ARTICLES = re.compile(r"\b(a|an|the)\b")
ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(texts: Texts) -> SegmentStatistics:
    """Share of outputs, in %, that equal one of their references once both are normalised (`normalise_answer`).

    Labels (`Convention.verbatim`) keep their punctuation and articles.
    """
    verbatim = texts.convention.verbatim

    def normalised(text: str) -> str:
        if verbatim:
            return text.strip().casefold()
        answer = normalise_answer(text, texts.convention.code)
        return "".join(answer.split()) if texts.convention.code in TOKENISER_OF else answer  # spaces mean nothing there

    values = [
        float(normalised(text) in map(normalised, group))
        for text, group in zip(texts.hypotheses, texts.required, strict=True)
    ]
    signature = _signature(texts) | ({"normalisation": "strip+casefold"} if verbatim else {})
    return mean_statistics(np.array(values), signature, scale=100)


def token_f1(texts: Texts) -> SegmentStatistics:
    """Mean F1, in %, of the tokens an output shares with its best reference (Rajpurkar et al. 2016, SQuAD).

    Chinese counts by character, or by the words of `Convention.segment`. Where either side has no token the F1 is 1
    if neither has, else 0 (SQuAD 2.0).
    """
    hypotheses, references = texts.segmented
    values = []
    for text, group in zip(hypotheses, references, strict=True):
        words = answer_tokens(text, texts)
        values.append(max(overlap_f1(words, answer_tokens(reference, texts)) for reference in group))
    signature = {**_signature(texts), "tokens": "words" if _by_words(texts) else "words+characters"}
    return mean_statistics(np.array(values), signature, scale=100)


def normalise_answer(text: str, code: str) -> str:
    """Lower case, no punctuation, one space between words; in English no articles either (SQuAD's normalisation).

    English loses ASCII punctuation only, as in the script of SQuAD; every other language all of Unicode's.
    """
    text = text.lower()
    if code == "en":
        return " ".join(ARTICLES.sub(" ", text.translate(ASCII_PUNCTUATION)).split())
    kept = "".join(sign for sign in text if not unicodedata.category(sign).startswith("P"))
    return " ".join(kept.translate(ASCII_PUNCTUATION).split())


def answer_tokens(text: str, texts: Texts) -> list[str]:
    """Tokens of a normalised answer: words in English, else words, and characters where a script has no spaces."""
    normalised = normalise_answer(text, texts.convention.code)
    if texts.convention.code == "en":
        return normalised.split()
    return any_words(normalised) if _by_words(texts) else unspaced_words(normalised)


def overlap_f1(words: list[str], wanted: list[str]) -> float:
    """F1 of two bags of tokens, 0-1."""
    if not words or not wanted:
        return float(words == wanted)
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted))


def _by_words(texts: Texts) -> bool:
    return texts.convention.code == "en" or texts.convention.segment is not None


def _signature(texts: Texts) -> dict[str, str | int | float]:
    kind = "squad" if texts.convention.code == "en" else "unicode-punctuation"
    return {"normalisation": kind, "references": "best", **texts.convention.signature}
