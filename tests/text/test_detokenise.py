"""Tokens back to text: Moses, Penn Treebank, Chinese words; and the way there and back on real captions."""

from __future__ import annotations

import gzip
import re

import pytest
from tests.conftest import shared

from llmbert.text.detokenise import detokenise

CASES = [
    ("en", "`` I do n't know , '' he said ( Mr. Smith 's dog ) .", "\"I don't know,\" he said (Mr. Smith's dog)."),
    ("en", "the price is $ 5 , or £ 30 ( 5 % ) .", "the price is $5, or £30 (5%)."),
    ("en", "a well @-@ known &quot; star &quot; &amp; it &apos;s ok", 'a well-known "star" & it\'s ok'),
    ("en", "-LRB- see the dogs ' tails ; ' hello ' , he said -RRB-", "(see the dogs' tails; 'hello', he said)"),
    ("en", 'He said " yes " and " no " .\ni can not , gon na go !', 'He said "yes" and "no".\ni cannot, gonna go!'),
    ("en", "I don ’ t know , let ' s go .", "I don’t know, let's go."),
    ("de", "Er sagte : „ Komm her ! “ Das sind 5 % .", "Er sagte: „Komm her!“ Das sind 5 %."),
    ("de", "wie geht &apos;s , » Freund « ?", "wie geht's, »Freund«?"),
    ("zh", "我 用 Python 3 编程 ， 很 好 。 It works fine .", "我用Python 3编程，很好。It works fine."),
    ("zh", "他 说 ： “ 好 。 ”", "他说：“好。”"),
]


@pytest.mark.parametrize(("language", "tokens", "text"), CASES)
def test_tokens_become_the_text_they_stand_for(language: str, tokens: str, text: str) -> None:
    assert detokenise(tokens, language) == text


@pytest.mark.parametrize(("language", "text"), [(language, text) for language, _, text in CASES if language != "de"])
def test_text_that_is_no_longer_tokens_stays(language: str, text: str) -> None:
    assert detokenise(text, language) == text


def test_hyphens_that_were_cut_are_joined_where_asked_for() -> None:
    tokens = "a family - friendly place , £ 20- £ 25 or 3 - 5"
    assert detokenise(tokens, hyphens=True) == "a family-friendly place, £20-£25 or 3-5"
    assert "family - friendly" in detokenise(tokens)


@pytest.mark.parametrize("language", ["en", "de"])
def test_captions_come_back_from_their_tokens(language: str) -> None:
    """99 of 100 at least: what is lost is initials (J.P.) and German hyphens that hang (Obst- und Gemüse)."""
    with gzip.open(shared(f"multi30k_ende/val.{language}.txt.gz"), "rt", encoding="utf-8") as lines:
        captions = [" ".join(line.split()) for line in lines]
    cut = re.compile(r"\w+(?=n't)|n't|'(?:s|re|ve|ll|d|m)\b|\w+(?:-\w+)*|\.\.\.|[^\w\s]")
    back = [detokenise(" ".join(cut.findall(caption)), language) for caption in captions]
    assert sum(a == b for a, b in zip(captions, back, strict=True)) > 0.99 * len(captions)
