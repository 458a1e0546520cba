"""A text and an index → the passages that are nearest to it by their words, though no stretch is the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.suffixes import find_range
from llmbert.protocols import UsageError
from llmbert.trust.provenance.block import Block
from llmbert.trust.provenance.index import TraceIndex

PASSAGE = 1000  # bytes; a longer document is searched in stretches of so many
COMMON = 200_000  # places of a term beyond which it tells nothing
SHORTLIST = 200
SATURATION, LENGTH = 1.2, 0.75  # k1 and b
_TERM = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+|[^\W_]+")
_WORDLIKE = np.isin(np.arange(256), [ord(c) for c in "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"])

Represent = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts → a vector each, (texts, D)."""


def nearest_passages(
    index: TraceIndex, text: str, count: int, represent: Represent | None = None
) -> list[dict[str, Any]]:
    """The `count` passages nearest to a text: id, character (where in the document), text, score; best first.

    By BM25 (Robertson & Zaragoza 2009, eq. 3.15) over words, and over pairs of characters where words have no spaces
    between; the terms are counted in the suffix arrays, so no other index is needed, and those that stand in more than
    COMMON places are left out. represent: then the SHORTLIST best of these are ranked by the cosine of their vectors
    and the text's instead. Raises UsageError for a count below 1.
    """
    if count < 1:
        raise UsageError(f"neighbours is {count}; ask for 1 or more")
    scored = _scored(index, _terms(text))
    ranked = sorted(scored, key=lambda place: (-scored[place], place))[: SHORTLIST if represent else count]
    passages = [_passage(index.blocks[number], number_of) | {"score": scored[number, number_of]}
                for number, number_of in ranked]  # fmt: skip
    if represent is None or not passages:
        return passages
    vectors = np.asarray(represent([text, *(passage["text"] for passage in passages)]), np.float64)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    for passage, cosine in zip(passages, (vectors[1:] @ vectors[0]) / (lengths[1:] * lengths[0]), strict=True):
        passage["score"] = float(cosine)
    return sorted(passages, key=lambda passage: -passage["score"])[:count]


def _terms(text: str) -> dict[str, set[str]]:
    """Words, and of a row of ideographs each pair that stands together; each with how it may be written: in small or
    capital letters, capitalised, or as the text has it (iPhone)."""
    found: dict[str, set[str]] = {}
    for run in _TERM.findall(text):
        wide = ord(run[0]) >= 0x3040
        for term in [run[i : i + 2] for i in range(max(1, len(run) - 1))] if wide else [run.lower()]:
            spellings = {term} if wide else {term, term.capitalize(), term.upper(), run}
            found.setdefault(term, set()).update(spellings)
    return dict(sorted(found.items()))


def _scored(index: TraceIndex, terms: Mapping[str, set[str]]) -> dict[tuple[int, int], float]:
    """The BM25 score of each passage (block, number) that shares a term with the text."""
    layouts = [_Layout(block) for block in index.blocks]
    total = sum(layout.count for layout in layouts)
    mean = sum(float(layout.block.rows["owned"].sum()) for layout in layouts) / max(1, total)
    scores: dict[tuple[int, int], float] = {}
    for spellings in terms.values():
        counted = [layout.count_term(spellings) for layout in layouts]
        if sum(each[2] for each in counted) > COMMON:
            continue
        having = sum(len(numbers) for numbers, _, _ in counted)
        weight = math.log(1 + (total - having + 0.5) / (having + 0.5))
        for number, (numbers, counts, _) in enumerate(counted):
            lengths = layouts[number].lengths(numbers) / max(mean, 1e-9)
            damped = counts + SATURATION * (1 - LENGTH + LENGTH * lengths)
            for passage, score in zip(numbers.tolist(), weight * counts * (SATURATION + 1) / damped, strict=True):
                scores[number, passage] = scores.get((number, passage), 0.0) + float(score)
    return scores


class _Layout:
    """A block's passages: of each piece as many as its own bytes fill."""

    def __init__(self, block: Block) -> None:
        self.block = block
        each = np.maximum(1, -(-block.rows["owned"] // PASSAGE))
        self.first = np.concatenate([[0], np.cumsum(each)])
        self.count = int(self.first[-1])

    def count_term(self, spellings: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """The passages with a term, however spelled, how often each has it, and in how many places it stands at all."""
        found, stands = [], 0
        for written in spellings:
            pattern = written.encode()
            first, last = find_range(self.block.text, self.block.suffixes, pattern)
            stands += last - first
            if last - first <= COMMON:
                found.append(self._whole_words(self.block.owned(self.block.places[first:last]), pattern))
        if stands > COMMON:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), stands
        places = np.concatenate(found).astype(np.int64)
        pieces = self.block.piece_at(places)
        numbers = self.first[pieces] + (places - self.block.starts[pieces]) // PASSAGE
        return *np.unique(numbers, return_counts=True), stands

    def _whole_words(self, places: NDArray[Any], pattern: bytes) -> NDArray[Any]:
        """The places where a word is not part of a longer one."""
        if ord(pattern.decode()[0]) >= 0x3040:
            return places
        text = self.block.bytes
        before = np.where(places > 0, text[np.maximum(places, 1) - 1], 0)
        return places[~_WORDLIKE[before] & ~_WORDLIKE[text[places + len(pattern)]]]

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of the passages."""
        pieces = np.searchsorted(self.first, numbers, "right") - 1
        return np.minimum(PASSAGE, self.block.rows["owned"][pieces] - PASSAGE * (numbers - self.first[pieces]))


def _passage(block: Block, number: int) -> dict[str, Any]:
    """A passage with its place; it begins and ends between characters."""
    layout = _Layout(block)
    piece = int(np.searchsorted(layout.first, number, "right")) - 1
    row, text = block.rows[piece], block.text
    start, end = int(row["start"]), int(row["start"] + row["owned"])
    begin = start + PASSAGE * (number - int(layout.first[piece]))
    stop = min(begin + PASSAGE, end)
    while begin < stop and text[begin] & 0xC0 == 0x80:
        begin += 1
    while stop < end and text[stop] & 0xC0 == 0x80:
        stop += 1
    shown = text[begin:stop].decode("utf-8", "replace")
    return {"id": block.ids[piece], "character": block.character_of(piece, begin), "text": shown}
