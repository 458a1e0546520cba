"""Sorted suffixes find what a search from byte to byte finds, and say how long a match goes on."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.data.suffixes import common_length, count_characters, find_range, longest_match, stand, suffix_array
from llmbert.protocols import LLMBertError

texts = st.lists(st.sampled_from([b"a", b"b", "春".encode(), b"\xff", b"\x00"]), max_size=120).map(b"".join)


@given(text=texts)
def test_suffixes_are_in_order(text: bytes) -> None:
    assert suffix_array(text).tolist() == sorted(range(len(text)), key=lambda place: text[place:])


@given(text=texts, pattern=texts.filter(bool))
def test_a_range_holds_every_place_and_no_other(text: bytes, pattern: bytes) -> None:
    suffixes = memoryview(suffix_array(text))
    first, last = find_range(text, suffixes, pattern)
    places = [place for place in range(len(text)) if text.startswith(pattern, place)]
    assert sorted(suffixes[first:last]) == places


@given(text=texts, before=texts, after=texts, cut=st.integers(0, 200))
def test_the_longest_match_is_the_longest(text: bytes, before: bytes, after: bytes, cut: int) -> None:
    pattern = text[cut : cut + 100] + after
    suffixes = memoryview(suffix_array(text))
    expected = max(length for length in range(len(pattern) + 1) if pattern[:length] in text)
    assert longest_match(text, suffixes, pattern) == expected


@given(text=texts, data=texts.map(lambda data: data.replace(b"\xff", b"ab")), draw=st.data())
def test_of_many_stretches_those_stand_that_are_in_the_text(text: bytes, data: bytes, draw: st.DataObject) -> None:
    text += b"\xff"
    data += text.replace(b"\xff", b"a")[:60]
    places = st.integers(0, len(data))
    begins = np.array(draw.draw(st.lists(places, max_size=20)), np.int64)
    ends = np.minimum(begins + draw.draw(st.integers(1, 30)), len(data))
    found = stand(np.frombuffer(text, np.uint8), suffix_array(text), data, begins, ends)
    assert found.tolist() == [data[b:e] in text for b, e in zip(begins, ends, strict=True)]


@given(first=texts, second=texts)
def test_a_common_length_is_that_of_the_common_beginning(first: bytes, second: bytes) -> None:
    length = common_length(first, second)
    assert first[:length] == second[:length]
    assert first[length : length + 1] != second[length : length + 1] or length == min(len(first), len(second))


def test_characters_are_counted_by_their_first_bytes() -> None:
    assert count_characters(np.frombuffer("aé春🌊".encode(), np.uint8)) == 4


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydivsufsort", None)
    with pytest.raises(LLMBertError, match=r"pip install 'llmbert\[curate\]'"):
        suffix_array(b"text")
