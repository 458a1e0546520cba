"""How a model's text ends: loops taken out, the last sentence finished."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from llmbert.text.normalise import ends_sentence
from llmbert.text.sentences import guess_language, is_wide, split_sentences

_WIDE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_JOINTS = ".,:/-"
"""Marks that hold a number, a time or an address together: 255.255.255.255 is one token, so no loop."""
_TOKEN = re.compile(rf"[{_WIDE}]|[^\W{_WIDE}]+(?:[{_JOINTS}][^\W{_WIDE}]+)*|[^\w\s]")
_SENTENCE_MARKS = (".", "!", "?", "。", "！", "？")
COPIES = 3
"""A phrase that stands so many times in a row at the end is a loop; a single word ("ha ha ha ha") may, up to this:"""
COPIES_OF_WORD = 5


def cut_repeats(text: str) -> str:
    """The text without a loop at its end: of a phrase that comes three times or more in a row, the first one stays.

    The last copy may be cut short. Words and marks are compared without case, Chinese character by character; one
    word or character must come five times; marks alone (a rule of a table, a line of dots) are no phrase. Text without
    such an end is returned as it is; idempotent; linear in the length for each loop found.
    """
    while (end := _loop_end(text)) is not None:
        text = text[:end]
    return text


def _loop_end(text: str) -> int | None:
    """Where the first copy of the loop at the end of the text ends; None where there is none."""
    spans = [match.span() for match in _TOKEN.finditer(text)]
    backwards = [text[start:end].lower() for start, end in reversed(spans)]
    marks = next((at for at, token in enumerate(backwards) if _is_word(token)), len(backwards))  # that stand at the end
    for period, matched in enumerate(_prefix_lengths(backwards)):
        needed = COPIES_OF_WORD if period == 1 else COPIES
        if period > marks and matched >= (needed - 1) * period:
            first = len(spans) - matched - 1  # the loop is the last `matched + period` tokens
            follows = text[slice(*spans[first + 1])] if period > 1 else ""
            return spans[first + 1][1] if follows in _SENTENCE_MARKS else spans[first][1]
    return None


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"


def _prefix_lengths(tokens: list[str]) -> list[int]:
    """For every place how many tokens from there equal those from the start (the Z function, Gusfield 1997, 1.4)."""
    found = [0] * len(tokens)
    left = right = 0
    for at in range(1, len(tokens)):
        length = min(right - at, found[at - left]) if at < right else 0
        while at + length < len(tokens) and tokens[length] == tokens[at + length]:
            length += 1
        found[at] = length
        if at + length > right:
            left, right = at, at + length
    return found


def without_repeats(pieces: Iterable[str]) -> Iterator[str]:
    """`cut_repeats` of a text that comes piece by piece, white space at its two ends dropped.

    Held back is the longest end that stood in the text before, since it may become a loop, and the last word. The
    same as `cut_repeats` of the whole, unless one loop ends within another: what was shown stays shown.
    """
    text, shown = "", 0
    for piece in pieces:
        text = (text + piece) if text else piece.lstrip()
        certain = _certain_end(text)
        if certain > shown:
            yield text[shown:certain]
            shown = certain
    whole = cut_repeats(text.rstrip())
    if len(whole) > shown:
        yield whole[shown:]


def _certain_end(text: str) -> int:
    """Up to where `cut_repeats` leaves the text alone, whatever follows it."""
    spans = [match.span() for match in _TOKEN.finditer(text)]
    growing = 1  # the last word may be cut short, and a mark behind it may join it to the next
    if len(spans) > 1 and text[-1] in _JOINTS and spans[-2][1] == spans[-1][0] and _is_word(text[spans[-2][0] :]):
        growing = 2
    backwards = [text[start:end].lower() for start, end in reversed(spans[:-growing])]
    held = growing + max(_prefix_lengths(backwards), default=0)
    return spans[-held - 1][1] if held < len(spans) else 0


def complete_sentence(text: str, language: str | None = None, least: float = 0.6) -> str:
    """A text that ends within a sentence, cut back to the last whole one, or with a full stop where that would leave
    less than `least` of it. Idempotent; text that ends a sentence is returned as it is."""
    if not text.strip() or ends_sentence(text):
        return text
    whole = "".join(split_sentences(text, language)[:-1]).rstrip()
    if len(whole) >= least * len(text) and ends_sentence(whole):
        return whole
    bare = text.rstrip().rstrip(",;:，；：、-–— ")
    if not bare:
        return text
    wide = is_wide(bare[-1]) or (language or guess_language(bare)) == "zh"
    return bare + ("。" if wide else ".")
