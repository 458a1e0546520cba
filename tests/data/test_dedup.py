"""Duplicates: shingles, true Jaccard and greedy keeping against plain sets; spans against a plain count of windows."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data.curation.deduplicate import Found, deduplicate
from llmbert.data.curation.near import MISSED, SIGNATURE, choose_bands, shared_count
from llmbert.data.curation.output import Outputs
from llmbert.data.curation.records import Record
from llmbert.data.curation.shingles import normalise, shingle_sets, words_of
from llmbert.data.curation.spans import cut_out, in_blocks, repeated_spans
from llmbert.protocols import UsageError

HAN = re.compile(r"[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
ENGLISH = re.findall(r"\w+", "the river rises in hills and runs to sea where it bends people built a mill town")
CHINESE = "春江潮水连海平上明月共生滟随波千万里何处无流宛转绕芳甸照花林皆似霰"


def words(text: str) -> list[str]:
    """The definition of a word, character by character."""
    found: list[str] = []
    inside = False
    for character in text:
        if HAN.match(character):
            found.append(character)
            inside = False
        elif character.isalnum() or unicodedata.category(character)[0] == "M":
            found[len(found) - inside :] = [(found[-1] if inside else "") + character]
            inside = True
        else:
            inside = False
    return found


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    cut = words(text)
    return {tuple(cut[at : at + size]) for at in range(max(1, len(cut) - size + 1))} if cut else set()


def jaccard(first: set[Any], second: set[Any]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0


def run(texts: list[str], folder: Path, **options: Any) -> tuple[list[str], list[dict[str, Any]], Found]:
    """The kept texts, what was noted, and the figures."""
    records = [Record(number, text, {}, str(number)) for number, text in enumerate(texts)]
    with Outputs(folder / "out", lines=False, overwrite=True) as outputs:
        found = deduplicate(records, outputs, **{"spans": 0, **options})
    kept = [json.loads(line)["text"] for line in outputs.kept.read_text("utf-8").splitlines()]
    return kept, [json.loads(line) for line in outputs.removed.read_text("utf-8").splitlines()], found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dedup")


# ---- shingles ------------------------------------------------------------------------------------------------------

mixed = st.text(alphabet="ab c\u0301-É江海 ー𠀀1_", max_size=30)


@given(st.lists(mixed, min_size=1, max_size=6), st.integers(1, 5))
@settings(max_examples=200)
def test_shingles_are_those_of_plain_sets(texts: list[str], size: int) -> None:
    hashes, starts = shingle_sets(texts, size)
    sets = [hashes[a:b] for a, b in pairwise(starts)]
    plain = [shingles(text.replace("𠀀", "一"), size) for text in texts]
    for one, own in zip(sets, plain, strict=True):
        assert len(one) == len(own)
        assert (np.diff(one.astype(object)) > 0).all()
        for other, theirs in zip(sets, plain, strict=True):
            assert shared_count(one, other) == len(own & theirs)


def test_words_of_english_are_words_and_of_chinese_characters() -> None:
    _, starts = words_of(["Two words, or five?", "五个汉字吗", "GPT模型2个", "", "हिन्दी"])
    assert np.diff(starts).tolist() == [4, 5, 5, 0, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [("The  mill\n", "the mill"), ("ＧＰＴ", "gpt"), ("Straße", "STRASSE"), ("a\u200bb", "ab"), ("é", "e\u0301")],
)
def test_what_differs_in_form_alone_is_the_same(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), [("a mill", "a hill"), ("a b", "ab"), ("3.5", "35"), ("他", "她")])
def test_what_differs_otherwise_is_not(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


# ---- near duplicates -----------------------------------------------------------------------------------------------


def corpus(seed: int, documents: int = 60) -> list[str]:
    """Texts in English and Chinese, many of them an earlier one with a few words replaced, dropped or put in."""
    draw = random.Random(seed)
    texts: list[list[str]] = []
    for _ in range(documents):
        if texts and draw.random() < 0.7:
            cut = list(draw.choice(texts))
            vocabulary = ENGLISH if cut[0] in ENGLISH else list(CHINESE)
            for _ in range(draw.choice([0, 1, 1, 2, 4, 8])):
                at = draw.randrange(len(cut))
                cut[at : at + draw.choice([0, 1, 1])] = draw.choice([[], [draw.choice(vocabulary)]])
                cut = cut or [vocabulary[0]]
        else:
            cut = draw.choices(draw.choice([ENGLISH, list(CHINESE)]), k=draw.randrange(3, 60))
        texts.append(cut)
    return [("" if set(cut) <= set(CHINESE) else " ").join(cut) for cut in texts]


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_kept_are_those_of_a_plain_comparison_of_all_pairs(seed: int, threshold: float, folder: Path) -> None:
    texts = corpus(seed)
    sets = [shingles(normalise(text), 3) for text in texts]
    kept: list[int] = []
    for number, own in enumerate(sets):
        same = [k for k in kept if normalise(texts[k]) == normalise(texts[number])]
        if not same and all(jaccard(own, sets[k]) < threshold for k in kept):
            kept.append(number)
    found, notes, _ = run(texts, folder, threshold=threshold, shingle=3)
    assert found == [texts[number] for number in kept]
    for note in notes:
        own, twin = sets[note["id"]], sets[note["twin"]]
        assert note["twin"] in kept and note["twin"] < note["id"]
        if note["reason"] == "near":
            assert note["jaccard"] == pytest.approx(jaccard(own, twin), abs=1e-4) and jaccard(own, twin) >= threshold
            assert note["containment"] == pytest.approx(len(own & twin) / len(own), abs=1e-4)
        else:
            assert normalise(texts[note["id"]]) == normalise(texts[note["twin"]])


@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.4, 0.7, 0.8]))
@settings(max_examples=40)
def test_what_was_cleared_of_duplicates_has_none(seed: int, threshold: float, folder: Path) -> None:
    once, _, _ = run(corpus(seed, 40), folder, threshold=threshold, shingle=2)
    twice, notes, _ = run(once, folder, threshold=threshold, shingle=2)
    assert twice == once
    assert not notes


@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(1, 4), min_size=20, max_size=20))
@settings(max_examples=40)
def test_how_often_a_copy_stands_there_changes_nothing(seed: int, counts: list[int], folder: Path) -> None:
    texts = corpus(seed, 20)
    repeated = [text for text, count in zip(texts, counts, strict=True) for _ in range(count)]
    assert run(texts, folder, shingle=2)[0] == run([*repeated, *texts], folder, shingle=2)[0]


def test_two_texts_as_similar_as_the_threshold_are_found_as_often_as_said(folder: Path) -> None:
    """Of 400 pairs with a Jaccard similarity of exactly 0.8, at most three times MISSED are missed."""
    draw = random.Random(1)
    texts = []
    for pair in range(400):
        shared = [f"{pair}s{draw.randrange(10**9)}" for _ in range(80)]
        texts += [" ".join([*shared, *(f"{pair}{side}{i}" for i in range(10))]) for side in "ab"]
    kept, notes, found = run(texts, folder, threshold=0.8, shingle=1)
    assert found.removed["exact"] == 0
    assert {note["jaccard"] for note in notes} == {0.8}
    assert len(kept) <= 400 * (1 + 3 * MISSED)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_are_as_wide_as_their_promise_allows(threshold: float) -> None:
    def missed(bands: int, rows: int) -> float:
        return (1 - threshold**rows) ** bands

    bands, rows = choose_bands(threshold)
    assert bands * rows <= SIGNATURE and missed(bands, rows) <= MISSED
    assert rows == SIGNATURE or missed(SIGNATURE // (rows + 1), rows + 1) > MISSED


@pytest.mark.parametrize("threshold", [0.0, 0.05, 1.1, float("nan")])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"between 0\.1 and 1"):
        choose_bands(threshold)


def test_a_copy_of_what_is_left_out_names_the_twin_that_is_kept(folder: Path) -> None:
    first = " ".join(ENGLISH)
    near = f"{first} again"
    _, notes, _ = run([first, near, near.upper()], folder)
    assert [(note["id"], note["reason"], note["twin"]) for note in notes] == [(1, "near", 0), (2, "near", 0)]


def test_texts_without_a_word_are_duplicates_only_when_equal(folder: Path) -> None:
    assert run(["!!!", "???", "!!!", "。。。"], folder)[0] == ["!!!", "???", "。。。"]


# ---- spans ---------------------------------------------------------------------------------------------------------

texts_of_two = st.lists(st.text(alphabet="ab", max_size=60), min_size=1, max_size=6)
texts_of_han = st.lists(st.text(alphabet="a江汕é", max_size=40), min_size=1, max_size=6)


def windows(texts: list[bytes], least: int) -> list[bytes]:
    return [text[at : at + least] for text in texts for at in range(len(text) - least + 1)]


@given(st.one_of(texts_of_two, texts_of_han), st.integers(8, 14))
@settings(max_examples=300)
def test_no_span_is_left_twice_and_nothing_is_lost(texts: list[str], least: int) -> None:
    block = [text.encode() for text in texts]
    cuts = repeated_spans(block, least)
    left = [cut_out(text, some) for text, some in zip(block, cuts, strict=True)]
    for text in left:
        text.decode()  # a cut within a character would raise
    found = windows(left, least)
    assert len(found) == len(set(found))
    if len(set(windows(block, least))) == len(windows(block, least)):
        assert not any(cuts)
    for some in cuts:
        assert all(a.end <= b.start for a, b in pairwise(some))
        assert all(0 <= cut.twin < len(texts) for cut in some)


def test_the_earliest_occurrence_stays_and_later_ones_go() -> None:
    passage = "It was the best of times, it was the worst of times."
    block = [f"before {passage} after".encode(), b"nothing", f"elsewhere: {passage}".encode()]
    cuts = repeated_spans(block, 20)
    assert [len(some) for some in cuts] == [0, 0, 1]
    assert cut_out(block[2], cuts[2]) == b"elsewhere:"
    assert cuts[2][0].twin == 0


def test_what_repeats_itself_at_once_keeps_one_span() -> None:
    (cuts,) = repeated_spans([b"a" * 200], 50)
    assert cut_out(b"a" * 200, cuts) == b"a" * 50


def test_texts_that_follow_one_another_twice_are_not_one_span() -> None:
    assert not any(repeated_spans([b"one two", b"three", b"one two", b"three"], 8))


@given(st.lists(st.text(alphabet="ab江", max_size=30), max_size=10), st.integers(4, 40))
def test_blocks_hold_all_text_in_order_between_characters(texts: list[str], size: int) -> None:
    given_ = [text.encode() for text in texts]
    joined = [b""] * len(texts)
    for block in in_blocks(given_, size):
        assert len(block) == 1 or sum(len(piece) for *_, piece in block) <= size
        for number, offset, piece in block:
            assert offset == len(joined[number]) and len(piece) <= size
            piece.decode()
            joined[number] += piece
    assert joined == given_


def test_a_document_of_nothing_but_repeats_is_left_out_and_others_are_shortened(folder: Path) -> None:
    passage = "".join(CHINESE[i % 30] + CHINESE[(i * 7) % 31] for i in range(30))
    kept, notes, found = run([f"前{passage}", passage, f"后{passage}后"], folder, spans=100, near=False)
    assert kept == [f"前{passage}", "后后"]
    assert [(n["id"], n["action"], n["reason"]) for n in notes] == [(1, "removed", "spans"), (2, "changed", "spans")]
    assert notes[1]["cut"] == [[1, 1 + len(passage), 0]]
    assert found.cut_bytes == 2 * len(passage.encode())
