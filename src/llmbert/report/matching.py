"""Two texts → which of their words stand in both, in one order."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_WORDS = 1500  # of a text that is compared: the time grows with their square
# Thai, Lao, Myanmar, Khmer, radicals, kana, Han: scripts without spaces, where each character counts by itself.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Stretch(NamedTuple):
    """Part of a text; `shared`: its words stand in the other text too."""

    text: str
    shared: bool


def split_words(text: str) -> list[tuple[int, int]]:
    """Where the words lie, (start, end): runs of letters, marks, digits and "_"; every other sign but space by itself.

    Of a script without spaces each character is a word, with the marks on it.
    """
    spans: list[tuple[int, int]] = []
    open_word = False  # whether a letter goes on with the word before it
    for place, character in enumerate(text):
        kind = unicodedata.category(character)[0]
        if kind == "M" and spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
            continue
        if character.isspace():
            open_word = False
            continue
        letter = (kind in "LN" or character == "_") and not _UNSPACED.match(character)
        if letter and open_word:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
        open_word = letter
    return spans


def match_texts(one: str, other: str) -> tuple[list[Stretch], list[Stretch]]:
    """Both texts taken apart, each joined again gives the text; shared are the words of their longest common
    subsequence, as ROUGE-L counts them (Lin 2004).

    Case is ignored. Of texts beyond MOST_WORDS the first words are compared.
    """
    spans = [split_words(text)[:MOST_WORDS] for text in (one, other)]
    pairs = _common_subsequence(_folded(one, spans[0]), _folded(other, spans[1]))
    first = _stretches(one, spans[0], {i for i, _ in pairs})
    return first, _stretches(other, spans[1], {j for _, j in pairs})


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of the words of a longest common subsequence, the later ones first."""
    numbers = {word: i for i, word in enumerate(dict.fromkeys([*one, *other]))}
    columns = np.array([numbers[word] for word in other], dtype=np.int64)
    lengths = np.zeros((len(one) + 1, len(other) + 1), dtype=np.int16)
    for i, word in enumerate(one):
        longer = lengths[i, :-1] + (columns == numbers[word])
        np.maximum.accumulate(np.maximum(lengths[i, 1:], longer), out=lengths[i + 1, 1:])
    pairs = []
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:  # never worse than leaving either out
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif lengths[i - 1, j] >= lengths[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs


def closest(text: str, references: Sequence[str]) -> int:
    """The index of the reference that shares most words with the text, of equally near ones the first.

    By the F1 of the two bags of words; -1 where there is no reference.
    """
    words = Counter(_folded(text, split_words(text)))

    def likeness(place: int) -> float:
        others = Counter(_folded(references[place], split_words(references[place])))
        return 2 * (words & others).total() / max(1, words.total() + others.total())

    return max(range(len(references)), key=likeness, default=-1)


def _folded(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    return [text[start:end].casefold() for start, end in spans]


def _stretches(text: str, spans: Sequence[tuple[int, int]], hits: set[int]) -> list[Stretch]:
    """The text at the edges of its runs of hits; a run that holds neither letter nor digit is none."""
    found: list[Stretch] = []
    done = place = 0
    while place < len(spans):
        end = place
        while end in hits:
            end += 1
        if end == place:
            place += 1
            continue
        first, last = spans[place][0], spans[end - 1][1]
        if any(character.isalnum() for character in text[first:last]):
            found += [Stretch(text[done:first], False), Stretch(text[first:last], True)]
            done = last
        place = end
    return [stretch for stretch in [*found, Stretch(text[done:], False)] if stretch.text]
