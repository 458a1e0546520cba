"""Loops go, other texts stay; sentences are finished; baselines need no model."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmbert.tasks.baselines import is_dialogue, lead_sentences, longest_utterances, most_frequent
from llmbert.tasks.endings import complete_sentence, cut_repeats, without_repeats


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a man in a red shirt in a red shirt in a red shirt in a", "a man in a red shirt"),
        ("fine. Thank you. Thank you. thank you. Thank", "fine. Thank you."),
        ("no no no no no", "no"),
        ("我很好我很好我很好我", "我很好"),
        ("好的。哈哈哈哈哈哈", "好的。哈"),
        ("x: a b a b c, a b a b c, a b a b c, a b a b c,", "x: a b a b c,"),
    ],
)
def test_a_loop_at_the_end_leaves_its_first_copy(text: str, cut: str) -> None:
    assert cut_repeats(text) == cut


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ha ha ha ha",
        "very, very good",
        "again and again",
        "the cat saw the cat",
        "哈哈哈",
        "1 1 2 3 ...",
        "a a b a a b ",
        "the mask is 255.255.255.255",
        "version 1.1.1.1",
        "00:00:00:00",
        "1,000,000,000,000",
        "|---|---|---|",
        "to be continued......",
    ],
)
def test_text_without_a_loop_is_left_alone(text: str) -> None:
    assert cut_repeats(text) == text


WORDS = st.lists(st.sampled_from(["a", "b", "c", " ", " ", ". ", "中", "A", "文", "!", ".", "-"]), max_size=40).map(
    "".join
)


@settings(deadline=None, max_examples=400)
@given(WORDS, WORDS, st.integers(1, 6))
def test_cutting_twice_is_cutting_once_and_keeps_a_beginning(before: str, phrase: str, times: int) -> None:
    text = before + phrase * times
    cut = cut_repeats(text)
    assert cut_repeats(cut) == cut
    assert text.startswith(cut)
    assert cut or not text


@settings(deadline=None)
@given(st.lists(st.integers(), unique=True))
def test_texts_whose_words_all_differ_are_never_cut(words: list[int]) -> None:
    text = " ".join(map(str, words)).replace("-", "m")
    assert cut_repeats(text) == text


@settings(deadline=None, max_examples=400)
@given(WORDS, WORDS, st.integers(1, 6), st.integers(1, 5))
@example(". aa中中a中. 中. 中", ". aa中中a中. 中. 中", 2, 1)
def test_a_stream_is_cut_as_the_whole_is(before: str, phrase: str, times: int, size: int) -> None:
    text = before + phrase * times
    whole = cut_repeats(text.strip())
    pieces = list(without_repeats(text[at : at + size] for at in range(0, len(text), size)))
    joined = "".join(pieces)
    assert all(pieces)
    assert joined.startswith(whole)
    if joined != whole:  # a loop ended within another: cutting the one brought the other to the end
        assert text.strip().startswith(joined)
        marked = text.strip()[: len(joined) + 1]  # the inner loop may have been one by the mark that follows alone
        assert whole in (cut_repeats(joined), cut_repeats(marked))


def test_a_stream_shows_text_before_it_ends() -> None:
    pieces = without_repeats(iter(["one ", "two ", "three ", "four ", *["five "] * 100]))
    assert "".join(next(pieces) for _ in range(3)) == "one two three"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("He came. He saw and he", "He came. He saw and he."),
        ("He came and sat down. He saw", "He came and sat down."),
        ("He came,", "He came."),
        ("他来了，坐下了。他", "他来了，坐下了。"),
        ("他来了，", "他来了。"),
        ("All is well.", "All is well."),
        ('"Yes!"', '"Yes!"'),
        ("  ", "  "),
    ],
)
def test_an_unfinished_sentence_is_cut_or_finished(text: str, whole: str) -> None:
    assert complete_sentence(text) == whole
    assert complete_sentence(whole) == whole


def test_baselines_take_what_is_there() -> None:
    text = "Mr. A came. He saw. He won."
    assert lead_sentences(text, 2) == "Mr. A came. He saw."
    assert lead_sentences(text, 9) == text
    dialogue = "A: hi\r\nB: how are you today\r\n\r\nA: fine thanks\r\nB: good"
    assert longest_utterances(dialogue, 2) == "B: how are you today\nA: fine thanks"
    assert longest_utterances(dialogue, 0) == lead_sentences(text, 0) == ""
    assert is_dialogue(dialogue) and is_dialogue("甲：你好\n乙：你好吗")
    assert not any(map(is_dialogue, (text, "", "A: alone", f"London: {text}\n{text}\n{text}")))
    assert most_frequent(["b", "a", "a", "b", "c"]) == "b"
