"""Spaces, quotes and case: one form of each, and capitals back where they can be known."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import shared

from llmbert.text.normalise import cased_words, ends_sentence, normalise_quotes, normalise_spaces, true_case

TEXTS = st.text(alphabet=st.one_of(st.sampled_from(" .!?i'‘’`\"“\n\u00a0\u200b\tß"), st.characters(codec="utf-8")))


def test_spaces_and_line_ends_have_one_form() -> None:
    assert normalise_spaces("\ufeff a\u00a0\t b \r\nso\u00adft\u200b \r c\u3000d ") == "a b\nsoft\nc d"


def test_quotes_and_dashes_become_ascii_but_chinese_keeps_its_own() -> None:
    text = "„Ja“, ‘it’s’ ``so'' – 3…"
    assert normalise_quotes(text) == '"Ja", \'it\'s\' "so" - 3...'
    assert normalise_quotes("‘‘hi’’, `‘hi’'") == '"hi", "hi"'
    assert normalise_quotes("“ＡＢ３”——好…", "zh") == "“AB3”——好…"


@settings(deadline=None)
@given(TEXTS, st.sampled_from(["en", "zh"]))
def test_normalising_twice_changes_nothing(text: str, language: str) -> None:
    once = normalise_spaces(text)
    assert normalise_spaces(once) == once
    once = normalise_quotes(text, language)
    assert normalise_quotes(once, language) == once


def test_capitals_come_back_at_starts_of_i_and_of_known_names() -> None:
    lower = "“hello,” i said. i’m in berlin, dr. who has an iphone. 3 men came."
    known = cased_words("Er wohnt in Berlin und hat ein iPhone. Wo?", "de")
    assert known == {"berlin": "Berlin", "iphone": "iPhone"}
    assert true_case(lower, "en", known) == "“Hello,” I said. I’m in Berlin, dr. who has an iPhone. 3 men came."


@settings(deadline=None)
@given(TEXTS, st.sampled_from(["en", "de"]))
def test_true_casing_changes_case_alone_and_only_once(text: str, language: str) -> None:
    lower = text.lower()
    once = true_case(lower, language)
    assert once.lower() == lower.lower()
    assert true_case(once, language) == once


def test_captions_get_their_capitals_back() -> None:
    with gzip.open(shared("multi30k_ende/val.en.txt.gz"), "rt", encoding="utf-8") as lines:
        captions = [line.rstrip("\n") for line in lines]
    assert sum(true_case(caption.lower()) == caption for caption in captions) > 0.9 * len(captions)


@pytest.mark.parametrize("text", ["He came.", "他来了。”", "Oh! ", '"Why?"', "so…", "(Yes.)", "„Ja!“"])
def test_a_finished_sentence_is_known(text: str) -> None:
    assert ends_sentence(text)
    assert not ends_sentence(text + " and")
