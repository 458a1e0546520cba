"""What tells a text worth learning from from rubbish: the rules of Gopher (Rae et al. 2021, appendix A.1), also for
Chinese.

A word is what `shingles` calls one: a character of Chinese is a word. Where most words are such, the rules on the
lengths of words and on function words ask other things (`LIMITS`), and n-grams and the least length to be judged are
three times as long: then the abstracts of papers are as seldom left out in Chinese (CSL, 2.7 %) as in English (SciTLDR,
1.0 %), while twice as long would leave out 9.3 %. Function words are not asked of other languages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmbert.data.curation.languages import language_of
from llmbert.data.curation.shingles import word_bounds
from llmbert.data.hashes import hash_stretches, mix
from llmbert.protocols import LLMBertError

LIMITS: dict[str, float] = {
    "least_words": 5,  # Gopher: 50, for pages of the web
    "most_words": 100_000,
    "judged_words": 50,  # shorter texts are not judged by the rules below (Chinese: 150 characters)
    "shortest_mean_word": 3,
    "longest_mean_word": 10,
    "least_letters": 0.8,  # share of words between spaces with a letter in them, lone punctuation aside
    "least_letters_zh": 0.6,  # of Chinese: share of characters that are letters
    "least_function_words": 2,  # of the, be, to, of, and, that, have, with; of Chinese: of _FUNCTION_CHARACTERS
    "most_symbols": 0.1,  # of # and … a word
    "most_bullets": 0.9,  # share of lines that begin with one
    "most_ellipses": 0.3,  # share of lines that end with one
    "duplicate_lines": 0.30,  # share of lines that stood before
    "duplicate_line_characters": 0.20,
    "duplicate_paragraphs": 0.30,
    "duplicate_paragraph_characters": 0.20,
    "top_2_gram": 0.20,  # share of characters that the most frequent one covers
    "top_3_gram": 0.18,
    "top_4_gram": 0.16,
    "duplicate_5_grams": 0.15,  # share of characters in n-grams that occur more than once
    "duplicate_6_grams": 0.14,
    "duplicate_7_grams": 0.13,
    "duplicate_8_grams": 0.12,
    "duplicate_9_grams": 0.11,
    "duplicate_10_grams": 0.10,
}
CHARACTERS_A_WORD = 3
_FUNCTION_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
_FUNCTION_CHARACTERS = "的了是在和不有这与为对以及等中上"
_BULLETS = ("•", "-", "*", "‣", "◦", "●", "▪", "·")
_ELLIPSES = ("...", "…")
_PUNCTUATION = re.compile(r"[^\w\s#$%&*+/<=>@\\^_`|~\u00a2-\uffff]+|@[-.,]@")  # and WikiText's marks within words
_SYMBOLS = re.compile(r"#|…|\.\.\.")


class Fault(NamedTuple):
    """A limit that a text does not keep: its name, the text's value, and the limit."""

    name: str
    value: float
    limit: float


class _Text:
    """A text with its words. english: it may be English."""

    def __init__(self, text: str, english: bool = True) -> None:
        self.text, self.english = text, english
        self.codes, self.starts, self.ends, alone = word_bounds(text)
        self.lengths = self.ends - self.starts
        self.words = len(self.starts)
        self.is_chinese = 2 * int(alone.sum()) > self.words
        self.factor = CHARACTERS_A_WORD if self.is_chinese else 1


def first_fault(text: str, rules: Mapping[str, Any], limits: Mapping[str, float], english: bool = True) -> Fault | None:
    """The first limit that a text does not keep, of the rules of RULES that are asked for; None where it keeps all.

    english: function words of English are asked for, unless the text is told to be in another language.
    """
    known = _Text(text, english)
    judged = known.words >= max(1, limits["judged_words"] * known.factor)
    for name, measure in RULES.items():
        if name in rules and (name == "length" or judged):
            for fault in measure(known, limits):
                return fault
    return None


def _length(text: _Text, limits: Mapping[str, float]) -> Iterator[Fault]:
    if text.words < limits["least_words"]:
        yield Fault("least_words", text.words, limits["least_words"])
    if text.words > limits["most_words"]:
        yield Fault("most_words", text.words, limits["most_words"])


def _words(text: _Text, limits: Mapping[str, float]) -> Iterator[Fault]:
    if text.is_chinese:
        shown = [character for character in text.text if not character.isspace()]
        yield from _least(limits, "least_letters_zh", sum(map(str.isalpha, shown)) / len(shown))
        found = len({*_FUNCTION_CHARACTERS} & {*text.text})
        yield from _least(limits, "least_function_words", found)
        return
    mean = float(text.lengths.mean())
    yield from _least(limits, "shortest_mean_word", mean)
    yield from _most(limits, "longest_mean_word", mean)
    words = [word for word in text.text.split() if not _PUNCTUATION.fullmatch(word)] or [""]
    yield from _least(limits, "least_letters", sum(any(map(str.isalpha, word)) for word in words) / len(words))
    if text.english and (text.text.isascii() or _is_plain(words)):
        lower = [word.lower() for word in words]
        for fault in _least(limits, "least_function_words", len(_FUNCTION_WORDS.intersection(lower))):
            if len(_short_again(lower)) < fault.limit or not _is_other_language(text.text):
                yield fault


def _short_again(words: list[str]) -> set[str]:
    """Short words that occur more than once: any language's own function words are among them."""
    counts = Counter(bare for word in words if (bare := word.strip(",.;:!?")).isalpha() and len(bare) <= 4)
    return {word for word, count in counts.items() if count > 1}


def _is_plain(words: list[str]) -> bool:
    """Whether nearly all words are of plain letters, as in English."""
    return sum(map(str.isascii, words)) > 0.97 * len(words)


def _is_other_language(text: str) -> bool:
    """Whether a text is told to be in another language than English, which rubbish may be told to be too."""
    try:
        return language_of(text) not in (None, "en")
    except LLMBertError:  # lingua, which this rule alone does not ask anyone to install, is not there
        return False


def _symbols(text: _Text, limits: Mapping[str, float]) -> Iterator[Fault]:
    yield from _most(limits, "most_symbols", len(_SYMBOLS.findall(text.text)) / text.words)
    lines = [line.strip() for line in text.text.split("\n") if line.strip()]
    yield from _most(limits, "most_bullets", sum(line.startswith(_BULLETS) for line in lines) / len(lines))
    yield from _most(limits, "most_ellipses", sum(line.endswith(_ELLIPSES) for line in lines) / len(lines))


def _repetition(text: _Text, limits: Mapping[str, float]) -> Iterator[Fault]:
    for name, cut in (("line", r"\n"), ("paragraph", r"\n\s*\n")):
        parts = [part.strip() for part in re.split(cut, text.text) if part.strip()]
        again = [part for part, count in Counter(parts).items() for _ in range(count - 1)]
        yield from _most(limits, f"duplicate_{name}s", len(again) / len(parts))
        characters = sum(map(len, again)) / sum(map(len, parts))
        yield from _most(limits, f"duplicate_{name}_characters", characters)
    hashes = hash_stretches(text.codes, text.starts, text.ends)
    whole = max(1, int(text.lengths.sum()))
    for size in range(2, 11):
        kinds, counts = _grams(hashes, size * text.factor)
        if not len(counts) or counts.max() < 2:
            return  # longer ones occur once too
        if size < 5:
            yield from _most(limits, f"top_{size}_gram", _top(text, kinds, counts, size) / whole)
        else:
            covered = _covered(text, counts[kinds] > 1, size * text.factor)
            yield from _most(limits, f"duplicate_{size}_grams", covered / whole)


def _grams(hashes: NDArray[np.uint64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each n-gram (W - size + 1,) which one it is, and of each how often it occurs."""
    count = len(hashes) - size + 1
    if count < 1:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rolled = np.zeros(count, np.uint64)
    for step in range(size):
        rolled = mix(rolled + hashes[step : step + count])
    _, kinds, counts = np.unique(rolled, return_inverse=True, return_counts=True)
    return kinds, counts


def _top(text: _Text, kinds: NDArray[np.int64], counts: NDArray[np.int64], size: int) -> int:
    """Characters of the most frequent n-gram, in all its occurrences; of equally frequent ones the longest counts."""
    size *= text.factor
    sums = np.concatenate([[0], np.cumsum(text.lengths)])
    lengths = sums[size:] - sums[:-size]
    return int((lengths * counts[kinds])[counts[kinds] == counts.max()].max())


def _covered(text: _Text, repeated: NDArray[np.bool_], size: int) -> int:
    """Characters of words in n-grams that occur more than once, each counted once."""
    steps = np.zeros(text.words + 1, np.int64)
    at = np.flatnonzero(repeated)
    np.add.at(steps, at, 1)
    np.add.at(steps, at + size, -1)
    return int(text.lengths[np.cumsum(steps[:-1]) > 0].sum())


def _least(limits: Mapping[str, float], name: str, value: float) -> Iterator[Fault]:
    if value < limits[name]:
        yield Fault(name, value, limits[name])


def _most(limits: Mapping[str, float], name: str, value: float) -> Iterator[Fault]:
    if value > limits[name]:
        yield Fault(name, value, limits[name])


RULES: dict[str, Callable[[_Text, Mapping[str, float]], Iterator[Fault]]] = {
    "length": _length,
    "words": _words,
    "symbols": _symbols,
    "repetition": _repetition,
}
