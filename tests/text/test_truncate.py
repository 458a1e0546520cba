"""Texts made to fit: each policy keeps its part, nothing is longer than allowed, and what went is counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import CHINESE, ENGLISH

from llmbert.protocols import UsageError
from llmbert.text.truncate import GAP, TRUNCATIONS, fit_texts, split_to_fit


def words(text: str) -> int:
    return len(text.split())


TEXTS = st.text(alphabet=st.sampled_from("ab 中，. \n、e"), max_size=60)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30), st.sampled_from(list(TRUNCATIONS)))
def test_nothing_is_longer_than_allowed_and_what_fits_is_left_alone(text: str, limit: int, policy: str) -> None:
    fitted = fit_texts([text], limit, len, policy)
    assert len(fitted.texts[0]) <= limit
    assert fitted.cut == (len(text) > limit)
    assert fitted.removed == len(text) - len(fitted.texts[0])
    if len(text) <= limit:
        assert fitted.texts == [text]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30))
def test_each_policy_keeps_its_part(text: str, limit: int) -> None:
    head, tail = (fit_texts([text], limit, len, policy).texts[0] for policy in ("head", "tail"))
    assert text.startswith(head)
    assert text.endswith(tail)
    both = fit_texts([text], limit, len, "head+tail").texts[0]
    if GAP in both and GAP not in text:
        first, last = both.split(GAP)
        assert text.startswith(first)
        assert text.endswith(last)


def test_head_and_tail_are_cut_between_words_and_lead_between_sentences() -> None:
    by = {policy: fit_texts([ENGLISH], 30, words, policy).texts[0] for policy in TRUNCATIONS}
    assert by["head"] == " ".join(ENGLISH.split()[:30])
    assert by["tail"] == " ".join(ENGLISH.split()[-30:])
    assert by["lead"] == ENGLISH[: ENGLISH.index(" In spring")]
    first, last = by["head+tail"].split(GAP)
    assert (words(first), words(last)) == (14, 14)
    assert fit_texts([CHINESE], 30, len, "lead").texts == [CHINESE[: CHINESE.index("。") + 1]]
    assert fit_texts([ENGLISH], 3, words, "lead").texts == ["The river rises"]  # no sentence is so short
    assert fit_texts(["x" * 50], 20, len, "head").texts == ["x" * 20]  # no place to cut


def test_what_was_cut_is_said() -> None:
    fitted = fit_texts([ENGLISH, "short"], 20, words)
    assert (fitted.cut, fitted.total, fitted.removed) == (1, words(ENGLISH) + 1, words(ENGLISH) - 20)
    assert fitted.sentence("words") == "1 of 2 texts were too long and cut: 28 words (57%)"
    assert fit_texts([ENGLISH], None, words).sentence() == ""


def test_unknown_ways_and_no_room_are_refused() -> None:
    with pytest.raises(UsageError, match=r"middle.*head\+tail"):
        fit_texts(["a"], 5, len, "middle")
    with pytest.raises(UsageError, match="0"):
        fit_texts(["a"], 0, len)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 20))
def test_a_sentence_cut_to_fit_is_whole_when_joined(text: str, limit: int) -> None:
    pieces = split_to_fit(text, limit, len)
    assert "".join(pieces) == text
    assert all(len(piece.strip()) <= limit for piece in pieces)


def test_a_sentence_is_cut_at_clauses_first() -> None:
    assert split_to_fit("one two, three four, five six.", 12, len) == ["one two, ", "three four, ", "five six."]
    assert split_to_fit("海上明月，共潮生；滟滟随波，千万里", 9, len) == ["海上明月，共潮生；", "滟滟随波，千万里"]
