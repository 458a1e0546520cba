"""ROUGE by rouge-score, with a tokeniser of ours for every language that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from llmbert.metrics.generation.words import Convention, Texts, any_words, stemmer, unspaced_words
from llmbert.metrics.segments import SegmentStatistics, mean_statistics
from llmbert.protocols import LLMBertError

LONGER_THAN = 3  # shorter words are not stemmed (rouge-score, after ROUGE-1.5.5)


def rouge(texts: Texts, kind: str) -> SegmentStatistics:
    """ROUGE (Lin 2004), 0-100: the mean F1 over segments; `kind` is "rouge1", "rouge2", ..., "rougeL" or "rougeLsum".

    English is tokenised as rouge-score does it (letters and digits of ASCII); every other language to words of its
    own letters, Chinese and Japanese to characters, or to the words of `Convention.segment`. Of several references
    the one with the best F1 counts, for each kind by itself. For rougeLsum the sentences of a text stand on lines of
    their own. Parts: precision and recall of the references that counted.

    Raises LLMBertError where English is asked for and most references hold none of its letters.
    """
    name = tokeniser_name(texts.convention)
    tokens = tokeniser(name, texts.convention.stemmer)
    hypotheses, references = texts.segmented
    if name == "rouge-score":
        _check_english(references, tokens)
    scorer = _rouge_scorer().RougeScorer([kind], tokenizer=tokens)
    figures = np.array(
        [scorer.score_multi(group, text)[kind] for group, text in zip(references, hypotheses, strict=True)],
        dtype=np.float64,
    )
    precision, recall, f1 = figures.T
    signature: dict[str, str | int | float] = {
        "tok": name,
        "stem": texts.convention.stemmer or "no",
        "case": "lc",
        "average": "mean-f1",
        "rouge-score": _version(),
        **texts.convention.signature,
    }
    return mean_statistics(f1, signature, scale=100, also={"precision": precision, "recall": recall})


def tokeniser_name(convention: Convention) -> str:
    """ "words" of text that is segmented, else "rouge-score" for English, else "words+characters"."""
    if convention.segment is not None:
        return "words"
    return "rouge-score" if convention.code == "en" else "words+characters"


class Tokeniser:
    """What rouge-score asks for tokens: `tokenize(text)`; it remembers texts, since each kind of ROUGE asks again."""

    def __init__(self, cut: Callable[[str], list[str]]) -> None:
        self.tokenize = lru_cache(maxsize=1 << 13)(cut)


@cache
def tokeniser(name: str, stem: str | None) -> Tokeniser:
    """The tokeniser of that name (`tokeniser_name`) with that stemmer, a value of STEMMERS."""
    shorten = stemmer(stem) if stem else None
    if name == "rouge-score":
        from rouge_score import tokenize

        holder = _Stemmer(shorten) if shorten else None
        return Tokeniser(lambda text: tokenize.tokenize(text, holder))
    cut = any_words if name == "words" else unspaced_words

    def words(text: str) -> list[str]:
        found = cut(text.lower())
        return [shorten(word) if len(word) > LONGER_THAN else word for word in found] if shorten else found

    return Tokeniser(words)


class _Stemmer:
    def __init__(self, stem: Callable[[str], str]) -> None:
        self.stem = stem


def _check_english(references: list[list[str]], tokens: Tokeniser) -> None:
    """A text of other letters has no English token, and would score 0 without a word."""
    worded = [text for group in references for text in group if unspaced_words(text)]
    foreign = sum(not tokens.tokenize(text) for text in worded)
    if foreign * 2 > len(worded):
        raise LLMBertError(
            f"{foreign} of {len(worded)} references hold no letter that English ROUGE counts; "
            "give their language (zh, de, ...)."
        )


def _rouge_scorer() -> Any:
    try:
        from rouge_score import rouge_scorer
    except ImportError as error:
        raise LLMBertError("ROUGE needs the package rouge-score; pip install rouge-score.") from error
    return rouge_scorer


def _version() -> str:
    from importlib.metadata import version

    return version("rouge-score")
