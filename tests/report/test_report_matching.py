"""Words in common: every character kept, equal words found in one order, Chinese by character, references ranked."""

from __future__ import annotations

import gzip
import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import shared

from llmbert.report.matching import MOST_WORDS, Stretch, closest, match_texts, split_words

HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940"


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


def common(one: str, other: str) -> list[str]:
    return [part.text for part in match_texts(one, other)[0] if part.shared]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man, 2.5 m tall.", ["A", "man", ",", "2", ".", "5", "m", "tall", "."]),
        ("GPT模型很大", ["GPT", "模", "型", "很", "大"]),
        ("card_arrival #Person1#", ["card_arrival", "#", "Person1", "#"]),
        ("Ärger cafe\u0301s", ["Ärger", "cafe\u0301s"]),  # a mark goes with its letter
        (f"{HINDI} \u0e01\u0e34\u0e19", [HINDI, "\u0e01\u0e34", "\u0e19"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("  \n\t\u3000", []),
        ("", []),
    ],
)
def test_words_of_every_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_words_are_all_of_the_text_but_its_space(text: str) -> None:
    spans = split_words(text)
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    inside = {place for start, end in spans for place in range(start, end)}
    assert all(character.isspace() for place, character in enumerate(text) if place not in inside)


@given(st.text("ab ,.中文\n", max_size=40), st.text("ab ,.中文\n", max_size=40))
def test_both_texts_come_back_whole_and_shared_words_are_the_same_on_both_sides(one: str, other: str) -> None:
    first, second = match_texts(one, other)
    assert "".join(part.text for part in first) == one and "".join(part.text for part in second) == other
    sides = ["".join(part.text for part in parts if part.shared) for parts in (first, second)]
    kept = [[word for word in words(side) if word.isalnum()] for side in sides]
    assert "".join(kept[0]) == "".join(kept[1])
    for parts in (first, second):
        assert all(part.text for part in parts)
        assert all(any(c.isalnum() for c in part.text) for part in parts if part.shared)


@given(st.text("abc 中", min_size=1, max_size=40))
def test_a_text_shares_all_of_its_words_with_itself(text: str) -> None:
    assert [word for part in match_texts(text, text)[0] if part.shared for word in words(part.text)] == words(text)


def test_equal_words_lie_in_one_stretch_and_the_others_stand_out() -> None:
    parts, _ = match_texts("A brown dog runs after the dog.", "a black dog runs after the dog .")
    assert parts == [
        Stretch("A", True),
        Stretch(" brown ", False),
        Stretch("dog runs after the dog.", True),
    ]


def test_chinese_matches_by_character() -> None:
    assert common("他们坐在长椅边上", "她们坐在椅子的上。") == ["们坐在", "椅", "上"]


def test_order_counts_and_a_lone_comma_is_no_match() -> None:
    assert common("b a", "a b") in (["a"], ["b"])
    assert common("x, y.", "u, v.") == []


def test_the_nearest_reference_shares_most_words() -> None:
    references = ["no match here", "a man sleeps on a sofa", "a man sleeps on a couch", "a man sleeps on a couch"]
    assert closest("A man sleeps on a couch.", references) == 2
    assert closest("anything", []) == -1 and closest("", ["", "a"]) == 0


def longest(one: list[str], other: list[str]) -> int:
    """The length of a longest common subsequence, by its definition."""
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + longest(one[:-1], other[:-1])
    return max(longest(one[:-1], other), longest(one, other[:-1]))


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_as_many_words_are_shared_as_can_be(one: str, other: str) -> None:
    parts, _ = match_texts(" ".join(one), " ".join(other))
    assert sum(len(words(part.text)) for part in parts if part.shared) == longest(list(one), list(other))


def test_loops_that_a_model_fell_into_are_compared_at_once() -> None:
    began = time.perf_counter()
    text = "the cat " * 20 * MOST_WORDS
    parts, _ = match_texts(text, "the dog " * 20 * MOST_WORDS)
    assert time.perf_counter() - began < 10
    assert "".join(part.text for part in parts) == text
    assert sum(part.shared for part in parts) == MOST_WORDS // 2  # beyond them nothing is compared


def test_summaries_of_real_dialogues_share_names_with_each_other() -> None:
    path = shared("dialogsum/dev.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(next(file)) for _ in range(20)]
    for row in rows:
        first, second = match_texts(row["dialogue"], row["summary"])
        assert "".join(part.text for part in first) == row["dialogue"]
        assert any("Person1" in part.text for part in second if part.shared) or "Person1" not in row["summary"]
