"""A text's statistics: what one pass counts is what a slow count gives, in bounded memory, the same each time."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import CHINESE, ENGLISH, shared

import llmbert
from llmbert.data.read import Document
from llmbert.protocols import UsageError
from llmbert.text.sentences import split_sentences
from llmbert.workbench.curation.statistics import tally as tallying
from llmbert.workbench.curation.statistics.cutting import cut_marks, open_cut
from llmbert.workbench.curation.statistics.measure import Sampled, sentence_lengths
from llmbert.workbench.curation.statistics.page import page_content
from llmbert.workbench.curation.statistics.tally import Sample, Tally, Words, tally

texts = st.lists(st.text("ab c。你好.\n", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=12)


def counted(some: list[str], way: str = "marks") -> Tally:
    return tally([Document(str(i), iter([text]), "x") for i, text in enumerate(some)], way)


@given(texts)
def test_a_pass_counts_what_is_there(some: list[str]) -> None:
    found = counted(some)
    words = [cut_marks(text) for text in some]
    assert found.documents == len(some) and found.words == sum(map(len, words))
    assert found.characters == sum(map(len, some)) and found.bytes == sum(len(text.encode()) for text in some)
    assert found.vocabulary.counts == Counter(word for each in words for word in each)
    assert found.document_words == Counter(map(len, words))
    assert found.word_characters == Counter(len(word) for each in words for word in each)
    assert found.facts["chinese"] == sum("你" in text or "好" in text for text in some)
    seen = [word for each in words for word in each]
    for n, different in found.growth:
        assert different == len(set(seen[:n]))
    sampled = Sampled(found) if found.words else None
    if sampled:
        assert [sampled.vocabulary[i] for i in sampled.words] == seen
        assert [chr(sampled.alphabet[i]) for i in sampled.characters] == list("".join(some))


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [" ".join(ENGLISH.split()[i % 9 :]) + CHINESE for i in range(60)]
    whole = counted(some)
    monkeypatch.setattr(tallying, "BATCH", 50)
    small = counted(some)
    assert (small.growth, small.vocabulary.counts, small.codes.tolist()) == (
        *(whole.growth, whole.vocabulary.counts),
        whole.codes.tolist(),
    )


def test_words_are_cut_as_the_text_asks() -> None:
    assert open_cut("words", "a mill , and a town .")[0] == "space"
    assert (
        open_cut("words", "thanks")[0] == "marks" and open_cut("words", "it does n't <unk> mr. gray 's")[0] == "space"
    )
    assert open_cut("words", ENGLISH)[0] == "marks" and open_cut("words", CHINESE)[0] == "marks"
    assert cut_marks("Don't cut 3.14, the <unk> co-op... (U.S.)") == [
        *("Don't", "cut", "3.14", ",", "the", "<unk>", "co-op", "...", "(", "U.S", ".", ")")
    ]
    assert cut_marks("我们在2024年GPT，很好。") == ["我们", "在", "2024", "年", "GPT", "，", "很", "好", "。"]
    assert open_cut("chars", "")[1]("a b\n你") == ["a", "b", "你"]
    with pytest.raises(UsageError, match="'wrods'"):
        open_cut("wrods", "")


@pytest.mark.parametrize(
    ("first", "others", "way"),
    [("Thanks", CHINESE, "marks"), ("1", ENGLISH, "marks"), ("1", "a mill , a town .", "space")],
)
def test_the_way_is_the_whole_beginnings_and_not_the_first_documents(first: str, others: str, way: str) -> None:
    found = counted([first, others], "words")
    assert found.way == way and found.vocabulary.counts == counted([first, others], way).vocabulary.counts


def test_the_text_compared_with_is_cut_the_same_way(prose: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_text("people built a mill , and a town .\n" * 40)
    found = llmbert.statistics(prose, against=tmp_path / "cut.txt")
    assert (found["tokenizer"], found["against"]["tokenizer"]) == ("marks", "marks")


@given(st.lists(st.integers(0, 400), min_size=1, max_size=3000), st.integers(20, 200))
def test_counters_in_bounded_room_lack_no_more_than_they_say(numbers: list[int], most: int) -> None:
    words, true = Words(most), Counter(map(str, numbers))
    for i in range(0, len(numbers), 50):
        words.add(list(map(str, numbers[i : i + 50])))
        assert len(words.counts) <= most
    assert all(0 <= count - words.counts[word] <= words.lacking for word, count in true.items())
    assert bool(words.lacking) <= (len(true) > most)
    assert len(words) == len(true), "so few hashes are all kept"


def test_many_different_words_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallying, "MOST_HASHES", 4000)
    words = Words(1000)
    for start in range(0, 100_000, 500):
        words.add([f"w{i}" for i in range(start, start + 500)] * 2)
    assert words.lacking and len(words.hashes) <= 4000
    assert len(words) == pytest.approx(100_000, rel=5 * 1.2 / math.sqrt(4000))


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 8))
def test_the_sample_is_even_and_bounded(lengths: list[int], most: int) -> None:
    sample = Sample(most, room=tallying.BLOCK)
    for i, length in enumerate(lengths):
        sample.add("x" * (length * 1000), [str(i)], True, True)
    assert len(sample.blocks) <= most + 1
    starts, length = [0], 0
    for i, each in enumerate(lengths):
        length += each * 1000
        if length >= tallying.BLOCK:
            starts.append(i + 1)
            length = 0
    names = list(sample.vocabulary)
    firsts = [int(names[block[0].words[0]]) for block in sample.blocks]
    assert firsts == [start for start in starts[:: sample.stride] if start < len(lengths)]
    assert sample.stride == 1 or len(sample.blocks) >= most // 2


def test_sentences_are_measured_in_the_words_of_the_text() -> None:
    sampled = Sampled(counted([ENGLISH, CHINESE]))
    slow = Counter(len(cut_marks(s)) for s in (*split_sentences(ENGLISH), *split_sentences(CHINESE)))
    assert sentence_lengths(sampled, False) == slow


def test_a_sentence_cut_by_the_edge_of_a_stretch_is_left_out() -> None:
    found = counted([ENGLISH])
    only = next(found.sample.stretches())
    only.ends = False
    lengths = [len(cut_marks(sentence)) for sentence in split_sentences(ENGLISH)]
    assert sentence_lengths(Sampled(found), False) == Counter(lengths[:-1])


def figures_of(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [figure for value in found.values() for figure in figures_of(value)]
    if isinstance(found, list):
        return [figure for value in found for figure in figures_of(value)]
    return [found] if isinstance(found, float) else []


def test_the_same_seed_gives_the_same_figures_and_json_holds_them(prose: Path) -> None:
    once, again = (llmbert.statistics(prose, lines=True, against=prose) for _ in range(2))
    assert once == again and np.isfinite(figures_of(once)).all()
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    apart = once["against"]["divergence"]
    assert apart["words"]["js"] == 0 and apart["differing"][0]["bits"] == 0
    assert apart["words"]["chance"]["mean"] > 0 and apart["words"]["chance"]["p"] == 1, "a text is itself"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_any_text_has_a_page(tmp_path: Path, language: str) -> None:
    for name, text in (
        ("one", "a"),
        ("two", "好\n好"),
        ("same", "x x x\n" * 200),
        ("odd", "🙂 e\u0301 \x00 <b>\n" * 30),
    ):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": text}), "utf-8")
        found = llmbert.statistics(tmp_path / f"{name}.jsonl", out=tmp_path / name, language=language)
        assert page_content(found, language)["figures"]
        assert (tmp_path / name / "report.html").stat().st_size < 1_000_000
        assert json.loads((tmp_path / name / "statistics.json").read_text("utf-8"))["words"] == found["words"]


def test_the_treebank_is_measured_as_it_is_known() -> None:
    found = llmbert.statistics(shared("ptb/valid.txt.gz"), lines=True)
    assert (found["documents"], found["words"], found["tokenizer"]) == (3370, 70_390, "space")
    assert 0.8 < found["frequencies"]["zipf"]["exponent"] < 1.1
    assert found["lengths"]["document_words"]["families"][0]["name"] == "negative binomial"
    assert 4.2 < found["entropy"]["characters"]["corrected"] < 4.4
