"""Labelled examples: every form they come in, what is wrong said in one sentence, rows, batches that can be resumed."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import shared

from llmbert.data.batches import IGNORED
from llmbert.data.labelled import (
    Examples,
    LabelledBatch,
    LabelledBatches,
    MixedBatches,
    check_labels,
    encode_examples,
    encode_texts,
    encode_words,
    gather_batch,
    label_names,
    read_examples,
    split_examples,
    split_folds,
)
from llmbert.metrics.labels import spans_of
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.tokenisers import train_tokeniser


def write(path: Path, content: str) -> str:
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "label\ttext\nyes\tone two\nno\t三 four\n"),
        ("a.tsv.gz", "label\ttext\r\nyes\tone two\r\nno\t三 four\r\n"),
        ("a.csv", 'text,label\n"one two",yes\n"三 four",no\n'),
        ("a.jsonl", lines({"text": "one two", "label": "yes"}, {"text": "三 four", "label": "no", "more": 1})),
        ("a.json", json.dumps([{"text": "one two", "label": "yes"}, {"text": "三 four", "label": "no"}])),
    ],
)
def test_every_form_gives_the_same_examples(name: str, content: str, tmp_path: Path) -> None:
    found = read_examples([write(tmp_path / name, content)], "classify")
    assert (found.texts, found.labels, found.others) == (["one two", "三 four"], ["yes", "no"], None)
    assert label_names(found) == ["no", "yes"]
    assert found.counts() == {"no": 1, "yes": 1}


def test_fields_say_what_is_called_what_also_inside_others(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        lines(
            {"left": {"name": "x", "label": "?"}, "right": {"name": "y"}, "match": 1},
            {"left": {"name": "u"}, "right": {"name": "v"}, "match": 0},
        ),
    )
    found = read_examples([path], "classify", {"text": "left.name", "text_b": "right.name", "label": "match"})
    assert (found.texts, found.others, found.labels) == (["x", "u"], ["y", "v"], ["1", "0"])


def test_several_classes_are_a_list_or_divided_by_a_bar(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "text\tlabel\na\tx|y\nb\t\nc\ty | z\n")
    records = write(
        tmp_path / "a.jsonl",
        lines({"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": ["y", "z"]}),
    )
    for path in (table, records):
        found = read_examples([path], "multilabel")
        assert found.labels == [["x", "y"], [], ["y", "z"]]
        assert found.counts() == {"y": 2, "x": 1, "z": 1}


def test_numbers_and_pairs(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "text,text_b,label\na,b,2.5\nc,d,-1\n")
    assert read_examples([table], "regress").labels == [2.5, -1.0]
    alike = read_examples([table], "embed")
    assert (alike.texts, alike.others, alike.labels) == (["a", "c"], ["b", "d"], [2.5, -1.0])
    pairs = read_examples([write(tmp_path / "b.csv", "text,text_b\na,b\nc,d\n")], "embed")
    assert (pairs.others, pairs.labels) == (["b", "d"], None)


CONLL = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nGerman JJ I-MISC\nPeter NNP I-PER\nBlack NNP I-PER\n"


@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.bio.gz"])
def test_columns_and_tags_that_begin_amiss_are_mended_and_counted(name: str, tmp_path: Path) -> None:
    found = read_examples([write(tmp_path / name, CONLL)], "tag")
    assert found.texts == [["EU", "rejects"], ["German", "Peter", "Black"]]
    assert found.labels == [["B-ORG", "O"], ["B-MISC", "B-PER", "I-PER"]]
    assert found.notes["mended"] == 1
    assert label_names(found) == sorted(["O", *(f"{a}-{b}" for a in "BI" for b in ("MISC", "ORG", "PER"))])
    speech = read_examples([write(tmp_path / name, CONLL)], "tag", {"tags": "1"})
    assert speech.labels == [["NNP", "VBZ"], ["JJ", "NNP", "NNP"]]
    assert label_names(speech) == ["JJ", "NNP", "VBZ"]


def test_blank_texts_are_passed_over_and_counted(tmp_path: Path) -> None:
    found = read_examples([write(tmp_path / "a.tsv", "text\tlabel\na\tx\n \ty\nb\tz\n")], "classify")
    assert (found.texts, found.notes) == (["a", "b"], {"blank": 1})


@pytest.mark.parametrize(
    ("task", "name", "content", "fields", "sentence"),
    [
        ("classify", "a.tsv", "text\tclass\na\tx\n", None, r"a.tsv, line 2 has no field 'label' but 'text', 'class'"),
        ("classify", "a.tsv", "text\tlabel\na\n", None, r"line 2 has no field 'label'"),
        ("classify", "a.jsonl", lines({"text": "a", "label": None}), None, r"line 1 holds no label .* None"),
        ("classify", "a.jsonl", lines({"text": 3, "label": "x"}), None, r"holds no text in field 'text' but 3"),
        ("classify", "a.jsonl", '{"text": "\\ud800", "label": "x"}\n', None, r"half a character \(U\+D800\)"),
        ("classify", "a.jsonl", "[1]\n", None, r"line 1 is a list"),
        ("classify", "a.tsv", "text\tlabel\n \tx\n", None, r"no labelled example"),
        ("classify", "a.txt", "a\n", None, r"holds no fields"),
        ("multilabel", "a.jsonl", lines({"text": "a", "label": 1}), None, r"no list of labels"),
        ("regress", "a.tsv", "text\tlabel\na\thigh\n", None, r"line 2 holds no number .* 'high'"),
        ("regress", "a.tsv", "text\tlabel\na\tnan\n", None, r"no number"),
        ("embed", "a.tsv", "text\tlabel\na\tx\n", None, r"no field 'text_b'"),
        (
            "embed",
            "a.jsonl",
            lines({"text": "a", "text_b": "b"}, {"text": "a", "text_b": "b", "label": 1}),
            None,
            "none",
        ),
        (
            "embed",
            "a.jsonl",
            lines({"text": "a", "text_b": "b", "label": 1}, {"text": "a", "text_b": "b"}),
            None,
            "none",
        ),
        ("tag", "a.jsonl", lines({"tokens": ["a"], "tags": ["O", "O"]}), None, r"1 tokens and 2 tags"),
        ("tag", "a.jsonl", lines({"tokens": [1], "tags": ["O"]}), None, r"list of strings in field 'tokens'"),
        ("tag", "a.conll", "a O\nb\n", None, r"line 2 has 1 columns where 2"),
        ("tag", "a.conll", "a\nb\n", None, r"line 1 has 1 columns where 2"),
        ("tag", "a.conll", "a O\n", {"tags": "2"}, r"columns"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    task: str, name: str, content: str, fields: dict[str, str] | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(LLMBertError, match=sentence):
        read_examples([write(tmp_path / name, content)], task, fields)


def test_what_is_asked_wrongly_is_a_usage_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "a O\n")
    with pytest.raises(UsageError, match="no task 'parse'"):
        read_examples([path], "parse")
    with pytest.raises(UsageError, match="takes the fields tokens, tags"):
        read_examples([path], "tag", {"text": "x"})
    with pytest.raises(UsageError, match="numbers"):
        read_examples([path], "tag", {"tags": "last"})
    with pytest.raises(LLMBertError, match="does not exist"):
        read_examples([str(tmp_path / "b.tsv")], "classify")


def test_an_unknown_label_is_refused_by_name() -> None:
    train = Examples("classify", ["a", "b"], None, ["x", "y"])
    check_labels(Examples("classify", ["c"], None, ["x"]), label_names(train), "valid.tsv")
    with pytest.raises(LLMBertError, match=r"valid.tsv has the label 'u' and 1 more, which no training example has"):
        check_labels(Examples("classify", ["c", "d", "e"], None, ["x", "v", "u"]), label_names(train), "valid.tsv")
    with pytest.raises(LLMBertError, match="two classes"):
        label_names(Examples("classify", ["a"], None, ["x"]))


def test_the_real_sets() -> None:
    resume = read_examples([str(shared("resume_ner/train.jsonl.gz"))], "tag")
    assert (len(resume), resume.notes["mended"]) == (3821, 4)
    assert len(label_names(resume)) == 4 * 8 + 1  # every tag of BMES, also those that never occur
    tweets = read_examples([str(shared("wnut17/train.jsonl.gz"))], "tag")
    assert (len(tweets), len(label_names(tweets))) == (3394, 13)
    questions = read_examples([str(shared("trec/train.tsv.gz"))], "classify", {"text": "question", "label": "coarse"})
    assert questions.counts() == {"ENTY": 1250, "HUM": 1223, "DESC": 1162, "NUM": 896, "LOC": 835, "ABBR": 86}


# ---- splits --------------------------------------------------------------------------------------------------------


def examples(count: int) -> Examples:
    return Examples("classify", [f"text {i // 2}" for i in range(count)], None, [str(i % 3) for i in range(count)])


def test_a_text_is_on_one_side_of_the_split_however_often_it_occurs() -> None:
    train, valid = split_examples(examples(2000), 0.1)
    assert len(train) + len(valid) == 2000
    assert 140 < len(valid) < 260
    assert not set(train.texts) & set(valid.texts)
    assert split_examples(examples(2000), 0.1)[1].texts == valid.texts
    few = Examples("classify", ["a", "b", "c", "a", "b", "c"], None, ["x", "y"] * 3)
    assert [len(part) for part in split_examples(few, 1e-6)] == [4, 2]
    with pytest.raises(LLMBertError, match="too few"):
        split_examples(examples(2), 0.1)


def test_what_was_noted_of_all_that_was_read_is_told_once() -> None:
    read = examples(200)
    read.notes = {"blank": 3}
    assert sum(part.notes.get("blank", 0) for part in split_examples(read, 0.1)) == 3
    assert read.take([1, 0]).notes == {}


def test_a_label_that_occurs_once_is_learned_from() -> None:
    found = examples(300)
    found.labels = [*(found.labels or [])[:-40], *(f"only {i}" for i in range(40))]
    train, valid = split_examples(found, 0.3)
    check_labels(valid, label_names(train), "the held-out part")
    assert len(valid) > 50


def test_equal_texts_are_held_out_in_the_same_fold() -> None:
    texts = [f"text {n % 13}" for n in range(60)]
    folds = split_folds(Examples("classify", texts, None, ["a", "b"] * 30, {}), 5, seed=1)
    assert all(valid.texts and not {*train.texts} & {*valid.texts} for train, valid in folds)
    assert sum(len(valid) for _, valid in folds) == 60
    with pytest.raises(UsageError, match="the 13 different texts, not 14"):
        split_folds(Examples("classify", texts, None, ["a", "b"] * 30, {}), 14, seed=1)


def test_each_example_is_held_out_in_one_fold() -> None:
    found = examples(50)
    folds = split_folds(found, 7, seed=3)
    assert sorted(text for _, valid in folds for text in valid.texts) == sorted(found.texts)
    assert all(len(train) + len(valid) == 50 for train, valid in folds)
    assert {len(valid) for _, valid in folds} == {6, 8}  # every text stands there twice
    with pytest.raises(UsageError, match="folds"):
        split_folds(found, 51, seed=0)


# ---- rows ----------------------------------------------------------------------------------------------------------

TEXTS = ["the river rises in the hills", "春江潮水连海平", "where it bends, a mill", "a"]
TOKENISER = train_tokeniser("chars", TEXTS)
LETTERS = train_tokeniser("chars", ["a. "])


def read_back(ids: np.ndarray) -> str:
    return TOKENISER.decode(ids)


def test_a_text_stands_between_begin_and_end() -> None:
    rows = encode_texts(TEXTS, None, TOKENISER, None)
    assert [read_back(ids) for ids in rows.ids] == TEXTS
    assert all((ids[0], ids[-1]) == (2, 3) for ids in rows.ids)
    assert (rows.truncated, rows.second, rows.origin) == (0, None, [0, 1, 2, 3])


def test_what_is_too_long_is_cut_and_counted() -> None:
    rows = encode_texts(TEXTS, None, TOKENISER, 9)
    assert [read_back(ids) for ids in rows.ids] == ["the riv", "春江潮水连海平", "where i", "a"]
    assert rows.truncated == 2


@given(a=st.integers(1, 30), b=st.integers(1, 30), limit=st.integers(6, 40), separators=st.integers(1, 2))
@settings(max_examples=100, deadline=None)
def test_of_a_pair_the_longer_is_cut_first(a: int, b: int, limit: int, separators: int) -> None:
    rows = encode_texts(["a" * a], ["r" * b], TOKENISER, limit, separators)
    ids, (second,) = rows.ids[0], rows.second or [0]
    kept_a, kept_b = (int((ids == TOKENISER.encode(letter)[0]).sum()) for letter in "ar")
    assert len(ids) == 2 + separators + kept_a + kept_b == min(limit, 2 + separators + a + b)
    assert second == 1 + kept_a + separators
    assert rows.truncated == (len(ids) < 2 + separators + a + b)
    assert abs(kept_a - kept_b) <= 1 or kept_a == a or kept_b == b
    assert min(kept_a, kept_b) == min(a, b) or abs(kept_a - kept_b) <= 1


def test_words_are_marked_at_their_first_token() -> None:
    rows = encode_words([["the", "river", "rises"], ["春", "江"]], TOKENISER, None)
    assert [read_back(ids) for ids in rows.ids] == ["the river rises", "春江"]
    assert [places.tolist() for places in rows.words or []] == [[1, 4, 10], [1, 2]]  # each from its space on
    apart = encode_words([["1", "9"]], train_tokeniser("chars", ["19"]), None, characters=True)
    assert apart.ids[0].tolist() == [2, *train_tokeniser("chars", ["19"]).encode("19").tolist(), 3]


def test_words_may_be_marked_at_their_last_token() -> None:
    rows = encode_words([["the", "river", "rises"], ["春", "江"]], TOKENISER, None, word_at="last")
    assert [places.tolist() for places in rows.words or []] == [[3, 9, 15], [1, 2]]


def test_a_word_without_a_token_is_the_unknown_one() -> None:
    tokeniser = train_tokeniser("wordpiece", TEXTS * 3, 80)
    assert not len(tokeniser.encode("\u200b"))
    rows = encode_words([["a", "\u200b", "mill"]], tokeniser, None)
    assert rows.ids[0][rows.words[0][1]] == tokeniser.unknown_id  # type: ignore[index]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=30),
    limit=st.integers(5, 20),
    seed=st.integers(0, 100),
)
@settings(max_examples=150, deadline=None)
def test_a_long_sentence_is_cut_into_rows_that_hold_all_its_words_and_tags(
    sizes: list[int], limit: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    words = [("a" * size if random.random() < 0.8 else ".") for size in sizes]
    tags = random.choice(["O", "B-X", "I-X", "B-Y", "I-Y"], len(words)).tolist()
    found = Examples("tag", [words], None, [tags])
    names = ["B-X", "B-Y", "I-X", "I-Y", "O"]
    rows = encode_examples(found, LETTERS, names, limit)
    assert rows.words is not None and rows.targets is not None
    assert all(len(ids) <= limit for ids in rows.ids)
    assert sum(len(places) for places in rows.words) == len(words)
    assert rows.origin == [0] * len(rows)
    assert rows.cut == (len(rows) > 1)
    at = 0
    for ids, places, targets in zip(rows.ids, rows.words, rows.targets, strict=True):
        own = [names[number] for number in targets]
        assert len(own) == len(places)
        assert own == [tag for tag in own if tag in names]
        assert spans_of(own) == spans_of(tags[at : at + len(own)])
        assert (places < len(ids) - 1).all() and (np.diff(places) > 0).all()
        at += len(own)


def test_a_cut_falls_behind_a_full_stop() -> None:
    words = ["a", "a", "a", ".", "a", "a", "a", "a"]
    rows = encode_words([words], train_tokeniser("chars", ["a."]), 9, characters=True)
    assert [len(places) for places in rows.words or []] == [4, 4]


def test_targets() -> None:
    chosen = encode_examples(Examples("classify", TEXTS, None, ["b", "a", "b", "c"]), TOKENISER, ["a", "b", "c"], None)
    assert chosen.targets == [1, 0, 1, 2]
    several = encode_examples(
        Examples("multilabel", TEXTS[:2], None, [["c", "a"], []]), TOKENISER, ["a", "b", "c"], None
    )
    assert [row.tolist() for row in several.targets or []] == [[1, 0, 1], [0, 0, 0]]
    numbers = encode_examples(Examples("regress", TEXTS[:2], None, [5.0, 1.0]), TOKENISER, [], None, shift=3, scale=2)
    assert numbers.targets == [1.0, -1.0]


# ---- batches -------------------------------------------------------------------------------------------------------


def batches(count: int, batch: int, seed: int = 0, head: str = "c") -> LabelledBatches:
    random = np.random.default_rng(7)
    texts = ["a" * int(size) for size in random.integers(1, 40, count)]
    rows = encode_examples(
        Examples("classify", texts, None, [str(i) for i in range(count)]),
        TOKENISER,
        [str(i) for i in range(count)],
        None,
    )
    return LabelledBatches(rows, batch, seed, head)


def same(a: LabelledBatch, b: LabelledBatch) -> bool:
    return a.head == b.head and torch.equal(a.ids, b.ids) and torch.equal(a.targets, b.targets)  # type: ignore[arg-type]


@given(count=st.integers(1, 60), batch=st.integers(1, 16), start=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_batch_n_is_a_function_of_n_and_the_seed(count: int, batch: int, start: int) -> None:
    made = batches(count, batch)
    whole = list(islice(made.iterate(), start + 5))
    for a, b in zip(whole[start:], made.iterate(start), strict=False):
        assert same(a, b)


def test_an_epoch_has_every_row_and_like_lengths_together() -> None:
    made = batches(1000, 16)
    orders = []
    for epoch in (0, 1):
        first = epoch * made.batches_per_epoch
        found = list(islice(made.iterate(first), made.batches_per_epoch))
        assert {int(i) for batch in found for i in batch.targets} == set(range(1000))  # type: ignore[union-attr]
        assert all(len(batch.ids) == 16 for batch in found)
        padding = sum(int((~batch.mask).sum()) for batch in found) / sum(batch.mask.numel() for batch in found)
        assert padding < 0.1
        orders.append(torch.cat([batch.targets for batch in found]))  # type: ignore[misc]
    assert not torch.equal(*orders)
    assert not same(next(made.iterate()), next(batches(1000, 16, seed=1).iterate()))


def test_a_batch_counts_splits_and_pads() -> None:
    found = Examples("tag", [["a", "hill"], ["mill"], ["a", "b", "c"]], None, [["O", "B-X"], ["B-X"], ["O"] * 3])
    rows = encode_examples(found, TOKENISER, ["B-X", "I-X", "O"], None)
    batch = gather_batch(rows, [2, 0, 1], "names", 0)
    assert batch.targets.tolist() == [[2, 2, 2], [2, 0, IGNORED], [0, IGNORED, IGNORED]]  # type: ignore[union-attr]
    assert (batch.counts, batch.count) == ({"names": 6}, sum(len(ids) for ids in rows.ids))
    parts = batch.split(2)
    assert [len(part.ids) for part in parts] == [2, 1]
    assert sum(part.counts["names"] for part in parts) == 6
    assert torch.equal(torch.cat([part.words for part in parts]), batch.words)  # type: ignore[misc, arg-type]
    pairs = encode_texts(["a", "the"], ["rises", "a"], TOKENISER, None)
    types = gather_batch(pairs, [0, 1], "c", 0).types
    assert types is not None
    assert types.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 1e9])
def test_tasks_are_mixed_by_size_and_temperature_and_can_be_resumed(temperature: float) -> None:
    made = MixedBatches([batches(400, 4, head="big"), batches(25, 4, head="small")], temperature, seed=5)
    whole = list(islice(made.iterate(), 2300))
    share = sum(batch.head == "small" for batch in whole) / len(whole)
    expected = {1.0: 25 / 425, 2.0: 5 / 25, 1e9: 1 / 2}[temperature]
    assert share == pytest.approx(expected, abs=0.03)
    for start in (0, 3, 1023, 1024, 2100):
        for a, b in zip(whole[start : start + 20], made.iterate(start), strict=False):
            assert same(a, b)
