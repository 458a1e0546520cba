"""Exact match and token F1: SQuAD's in English, by character in Chinese."""

import pytest

from llmbert.metrics import score_texts
from llmbert.metrics.generation.answers import normalise_answer, overlap_f1

BOTH = ("exact-match", "token-f1")


def both(hypothesis, references, **given):
    scores = score_texts([hypothesis], [references], BOTH, **given)
    return [scores[name]["score"] for name in BOTH]


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower", [100, 100]),
        ("in Paris, a city", ["Paris", "in Paris"], [0, 100 * 4 / 5]),
        ("a cat cat", "the cat", [0, 100 * 2 / 3]),
        ("", "", [100, 100]),
        ("the", "", [100, 100]),
        ("", "cat", [0, 0]),
        ("U.S.A.", "usa", [100, 100]),
        ("anthem", "them", [0, 0]),
        ("“cat”", "cat", [0, 0]),  # SQuAD's script knows no curly quotes
    ],
)
def test_english_is_squads(answer, references, expected):
    assert both(answer, references) == [pytest.approx(each) for each in expected]


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("《红楼梦》", "红楼梦", [100, 100]),
        ("北京 大学", "北京大学。", [100, 100]),
        ("北京大学", ["北京", "清华"], [0, 100 * 4 / 6]),
        ("GPT模型", "GPT", [0, 100 * 2 / 4]),
        ("上海", "北京", [0, 0]),
    ],
)
def test_chinese_goes_by_character(answer, references, expected):
    assert both(answer, references, language="zh") == [pytest.approx(each) for each in expected]


def test_chinese_by_word_where_a_segmenter_is_given():
    words = {"北京大学": "北京 大学", "北京": "北京"}
    result = score_texts(["北京大学"], ["北京"], ("token-f1",), language="zh", segment=words.__getitem__)["token-f1"]
    assert result["score"] == pytest.approx(100 * 2 / 3) and "|tokens:words|" in result["signature"]


def test_other_languages_keep_their_articles_and_lose_all_punctuation():
    assert normalise_answer("«Der, die—das»", "de") == "der diedas"
    assert normalise_answer("The  A an", "de") == "the a an" and normalise_answer("The  A an", "en") == ""
    assert both("the Haus", "Haus", language="de") == [0, pytest.approx(100 * 2 / 3)]


@pytest.mark.parametrize(
    ("label", "other"), [("C++", "C#"), ("A", ""), ("the", "a"), ("非常好!", "非常好"), ("not-ok", "notok")]
)
def test_labels_are_right_as_they_stand_or_not_at_all(label, other):
    for language in ("en", "zh"):
        given = {"metrics": ("exact-match",), "language": language, "verbatim": True}
        scores = score_texts([other, f" {label.lower()}\n"], [label, label], **given)["exact-match"]
        assert scores["score"] == 50 and "|normalisation:strip+casefold|" in scores["signature"]


def test_bags_of_tokens():
    assert overlap_f1(list("aab"), list("abb")) == pytest.approx(2 / 3)
    assert overlap_f1([], []) == 1 and overlap_f1([], ["a"]) == overlap_f1(["a"], []) == 0
