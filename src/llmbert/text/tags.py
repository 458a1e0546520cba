"""Tags of words (B-PER, I-PER, O): their schemes; and the words of a text with their places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

SCHEMES: dict[str, str] = {"BIO": "BIIB", "BIOES": "BIES", "BMES": "BMES", "BMEW": "BMEW", "BILOU": "BILU"}
"""How a span of words is written: the letters of its first word, those inside, its last one, and of one alone."""

_GOES_ON = set("IMEL")
_ENDED = set("OELSUW")


def find_scheme(tags: Iterable[str]) -> str | None:
    """The first scheme whose letters these tags keep to, or None where they mark no spans (parts of speech)."""
    tags = set(tags)
    parts = [tag.partition("-") for tag in tags if tag != "O"]
    if not parts or not all(len(letter) == 1 and kind for letter, _, kind in parts):
        return None
    letters = {letter for letter, _, _ in parts}
    return next((name for name, known in SCHEMES.items() if letters <= set(known)), None)


def all_tags(tags: Iterable[str], scheme: str) -> list[str]:
    """O and every tag of the scheme for the kinds of span that these tags name, sorted."""
    kinds = {tag.partition("-")[2] for tag in tags if tag != "O"}
    return sorted({"O", *(f"{letter}-{kind}" for kind in kinds for letter in SCHEMES[scheme])})


def mend_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """The same spans written as the scheme writes them, where some begin or end amiss (an I after an O, as in IOB1).

    A tag that goes on without a span of its kind begins one, as conlleval reads it.
    """
    parts = [tag.partition("-") for tag in tags]
    goes_on = [False] * (len(parts) + 1)
    for i in range(1, len(parts)):
        before, here = parts[i - 1], parts[i]
        goes_on[i] = here[0] in _GOES_ON and here[2] == before[2] and before[0] not in _ENDED
    letters = dict(zip(((False, True), (True, True), (True, False), (False, False)), SCHEMES[scheme], strict=True))
    return [
        "O" if letter == "O" else f"{letters[goes_on[i], goes_on[i + 1]]}-{kind}"
        for i, (letter, _, kind) in enumerate(parts)
    ]


_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(
    rf"[{_IDEOGRAPH}]"
    rf"|[@#]?(?:(?![{_IDEOGRAPH}])\w)+(?:[.,](?=\d)\d+|[-_](?:(?![{_IDEOGRAPH}])\w)+)*"  # 3.5, 1,000, state-of-the-art
    rf"|['’](?:(?![{_IDEOGRAPH}])\w)+"  # 's
    r"|\S"
)
_CHARACTER = re.compile(r"\S")


def find_words(text: str, characters: bool = False) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, as offsets in characters; white space belongs to none.

    A word is an ideograph, a run of other letters and digits (with an @ or # before it, or hyphens inside), an
    apostrophe with what follows it, or any other single character. characters: every character is a word.
    """
    return [match.span() for match in (_CHARACTER if characters else _WORD).finditer(text)]


def are_characters(rows: Iterable[Sequence[str]]) -> bool:
    """Whether nine words in ten are single characters, as where Chinese is tagged character by character."""
    words = single = 0
    for row in rows:
        words += len(row)
        single += sum(len(word) == 1 for word in row)
    return single > 0.9 * words


def space_words(words: Sequence[str], characters: bool = False) -> list[str]:
    """The words with the space before each that stood in the text: none between ideographs, none for characters."""
    if characters or not words:
        return list(words)
    return [
        words[0],
        *(word if _touch(before, word) else " " + word for before, word in pairwise(words)),
    ]


def _touch(before: str, word: str) -> bool:
    return bool(before and word and _HAN_ENDS.match(before[-1]) and _HAN_ENDS.match(word[0]))


_HAN_ENDS = re.compile(f"[{_IDEOGRAPH}\u3000-\u303f\uff00-\uffef]")
