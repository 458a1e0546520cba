"""Membership inference: four attacks by oddness, on an oracle that knows who was there and on one that does not."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmbert.trust.membership import membership_figures, membership_scores, neighbours

PAIRS = [("old", "man"), ("red", "cat")] * 60
TEXTS = [f"the {a} {b} of number {i} said that it was {a}" for i, (a, b) in enumerate(PAIRS)]
MEMBERS, OTHERS = TEXTS[:60], TEXTS[60:]


def memorising(texts: Sequence[str]) -> NDArray[np.float64]:
    """Odd is what it did not learn from, to the letter."""
    return np.array([1.0 if text in MEMBERS else 3.0 for text in texts])


def blind(texts: Sequence[str]) -> NDArray[np.float64]:
    """How odd it finds a text says nothing of whether it has seen it."""
    return np.array([zlib.crc32(text.encode()) / 2**32 for text in texts])


def blind_beside(texts: Sequence[str], odd: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much it finds them odder than the other model, in the other's unit."""
    return blind(texts) - odd


def test_what_memorises_gives_its_texts_away() -> None:
    figures = membership_figures(membership_scores(memorising, MEMBERS, OTHERS, reference=blind_beside))
    assert set(figures) == {"loss", "compression", "reference", "neighbourhood", "blind"}
    for attack in ("loss", "compression", "reference", "neighbourhood"):
        assert figures[attack]["auc"]["score"] == 100.0, attack
        assert figures[attack]["tpr"]["score"] == 100.0, attack
    assert figures["blind"]["auc"]["score"] < 100.0


def test_what_memorises_nothing_gives_nothing_away() -> None:
    figures = membership_figures(membership_scores(blind, MEMBERS, OTHERS))
    assert "reference" not in figures
    for attack in ("loss", "neighbourhood"):
        low, high = figures[attack]["auc"]["interval"]
        assert low <= 50.0 <= high, attack


def test_neighbours_differ_in_some_words_alone() -> None:
    first, second = neighbours(TEXTS[:3], seed=1), neighbours(TEXTS[:3], seed=1)
    assert first == second and len(first) == 3 and len(first[0]) == 4
    for text, some in zip(TEXTS[:3], first, strict=True):
        for other in some:
            before, after = text.split(), other.split()
            assert len(before) == len(after)
            assert sum(a != b for a, b in zip(before, after, strict=True)) <= round(0.15 * len(before))


def test_neighbours_of_chinese_differ_in_characters() -> None:
    text = "今天天气很好我们去公园散步吧"
    for other in neighbours([text], seed=2)[0]:
        assert len(other) == len(text) and re.fullmatch(r"[\u3400-\u9fff]+", other)
    assert neighbours(["", "  "], seed=0) == [[""] * 4, ["  "] * 4]
