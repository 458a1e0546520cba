"""Sentences and paragraphs: the parts joined are the text, and they end where a reader would end them."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import CHINESE, ENGLISH, shared

from llmbert.text.sentences import guess_language, split_paragraphs, split_sentences

# "|" marks where the sentences end.
CASES = {
    "en": [
        "Dr. Smith paid $3.14 to J. R. R. Tolkien at 5 p.m. |He left.",
        'He said "No." |Then he went. |"Really?" he asked.',
        "He lives in the U.S. |The end... |And so it went.",
        "See Fig. 2 and pp. 3 to 4, e.g. the U.S. Army, i.e. this. |No. 5 is alive.",
        "I said no. |That was 1990. |5 people came! |(It works.) |Ok?",
        "Visit example.com or Yahoo! for more. |What?! |Yes.",
        "1. First of all it rains. |2. Then it stops.",
        "A heading\nwith a line end\n\n|Another paragraph.",
        "Good morning , sir . |Is there a bank ? |Mr . Meng is here .",
        "She is the wife of George W. Bush. |They met in St. Louis. |He said: “No.” |“Yes.”",
        "It costs 3. |5 of them are red. |Gen. 3 is out.",
    ],
    "de": [
        "Am 3. Oktober kam z. B. Herr Dr. Müller. |Der 2. Weltkrieg endete 1945. |Das war gut.",
        "Die Häuser, d.h. alle, brannten usw. |Er sagte: „Komm her!“ |Dann ging er.",
        "Ludwig XIV. regierte lange, vgl. Abb. 3 auf S. 12 unten. |Nr. 5 lebt. |Im 19. Jahrhundert war es anders.",
        "Das kostet ca. 3,50 Euro inkl. MwSt. bei uns. |»Wirklich?« |Ja.",
    ],
    "zh": [
        "“走吧！”他笑着说。|然后他们走了。|“你好吗？”|她没有回答。",
        "嗯……|后来呢？|她走了！！|真的？！|圆周率是3.14。|他说：“好。”|她点头。",
        "提出了新的方法.|仿真结果表明有效.|好吧!|Yes, I do.",
        "他问：“为什么？”，没人回答。|（完）",
        "第一段\n\n|第二段。",
        CHINESE.replace("。", "。|").removesuffix("|"),
    ],
}


@pytest.mark.parametrize(("language", "marked"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_sentences_end_where_a_reader_ends_them(language: str, marked: str) -> None:
    assert split_sentences(marked.replace("|", ""), language) == marked.split("|")


@pytest.mark.parametrize(("text", "language"), [(ENGLISH, "en"), (CHINESE, "zh"), (CASES["de"][0], "de"), ("", "en")])
def test_a_language_is_guessed(text: str, language: str) -> None:
    assert guess_language(text) == language
    assert split_sentences(text) == split_sentences(text, language)


TEXTS = st.text(alphabet=st.one_of(st.sampled_from(" .!?…。！？”“\"')]\n\r\t，3iI中e"), st.characters(codec="utf-8")))


@settings(deadline=None)
@given(TEXTS, st.sampled_from(["en", "de", "zh", "fr", None]), st.booleans())
def test_joined_sentences_are_the_text(text: str, language: str | None, uncased: bool) -> None:
    parts = split_sentences(text, language, uncased)
    assert "".join(parts) == text
    assert all(parts)
    assert len(parts) <= 1 or all(part.strip() for part in parts[1:])


@settings(deadline=None)
@given(TEXTS)
def test_joined_paragraphs_are_the_text_and_breaks_are_white(text: str) -> None:
    parts = split_paragraphs(text)
    assert "".join(parts) == text
    assert len(parts) % 2 == 1
    assert all("\n" in gap and not gap.strip() for gap in parts[1::2])
    assert not any("\n" in line for line in parts[::2])


def test_paragraphs_keep_breaks_and_indentation_apart_from_lines() -> None:
    assert split_paragraphs("a b\n\n  c \nd\n") == ["a b", "\n\n  ", "c", " \n", "d", "\n", ""]
    assert split_paragraphs("") == [""]


def test_lower_cased_text_is_split_where_it_was() -> None:
    text = "Dr. Smith came. Then he left! Was that all?"
    lower = [part.lower() for part in split_sentences(text, "en")]
    assert split_sentences(text.lower(), "en", uncased=True) == lower
    assert len(split_sentences(text.lower(), "en")) == 1


def test_a_long_text_without_a_sentence_takes_no_time() -> None:
    for text in ("." * 200_000 + " B", " " * 200_000, '"' * 200_000 + "a", "a.b" * 100_000, "…" * 200_000 + "a"):
        assert "".join(split_sentences(text, "en")) == text
        assert "".join(split_paragraphs(text)) == text


def test_abstracts_are_cut_where_their_authors_cut_them() -> None:
    """Of the ends found, 99 % are ends in SciTLDR; the ends it has inside sentences (clauses, lists) are not ours."""
    with gzip.open(shared("scitldr_a/dev.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [[part.strip() for part in json.loads(line)["source"] if part.strip()] for line in lines]
    right = found = in_all = 0
    for row in rows:
        ends = {len(" ".join(row[: i + 1])) for i in range(len(row))}
        at, mine = 0, set()
        for sentence in split_sentences(" ".join(row), "en"):
            mine.add(at + len(sentence.rstrip()))
            at += len(sentence)
        right, found, in_all = right + len(ends & mine), found + len(mine), in_all + len(ends)
    assert right / found > 0.99
    assert right / in_all > 0.92
