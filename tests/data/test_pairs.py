"""Pairs of a source and a target: how files become them, how they are stored, and how they are dealt out."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import types
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data.batches import IGNORED
from llmbert.data.pairs import PairBatches, PairCorpus, Portion, build_pairs, read_pairs
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.tokenisers import TOKENISERS

WORDS = ["river", "mill", "town", "hill", "water", "child", "year", "spring", "autumn", "sea"]


def sentence(random: np.random.Generator, longest: int = 9) -> str:
    return " ".join(random.choice(WORDS, random.integers(1, longest)))


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Two files of 300 lines; the target of a source is its words from the end, in capitals."""
    folder, random = tmp_path_factory.mktemp("aligned"), np.random.default_rng(1)
    sources = [sentence(random) for _ in range(300)]
    targets = [" ".join(reversed(source.split())).upper() for source in sources]
    return write_lines(folder / "a.txt", sources), write_lines(folder / "b.txt", targets), sources


@pytest.fixture(scope="module")
def store(aligned: tuple[Path, Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> PairCorpus:
    portion = Portion((str(aligned[0]), str(aligned[1])))
    return build_pairs([portion], tmp_path_factory.mktemp("store"), kind="bytes")


# ---- reading -------------------------------------------------------------------------------------------------------


def test_lines_of_two_files_belong_together(aligned: tuple[Path, Path, list[str]]) -> None:
    pairs = list(read_pairs([str(aligned[0]), str(aligned[1])]))
    assert [pair.source for pair in pairs] == aligned[2]
    assert all(pair.target == " ".join(reversed(pair.source.split())).upper() for pair in pairs)


@pytest.mark.parametrize("names", [("train.en", "train.de"), ("train.en.gz", "train.zh.gz")])
def test_parallel_text_may_be_named_by_its_languages(names: tuple[str, str], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in names]
    for path, text in zip(paths, ("one\ntwo\n", "eins\nzwei\n"), strict=True):
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    portion = Portion(tuple(map(str, paths)))
    assert [(pair.source, pair.target) for pair in read_pairs(portion.paths)] == [("one", "eins"), ("two", "zwei")]
    assert build_pairs([portion], tmp_path / "store", kind="bytes").train.pairs == 1


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "jsonl.gz"])
def test_two_fields_of_a_record_are_a_pair(ending: str, tmp_path: Path) -> None:
    rows = [{"en": "one, two", "zh": "一、二"}, {"en": "three", "zh": "三"}]
    text = {
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "json": json.dumps(rows),
        "csv": "en,zh\n" + "".join(f'"{row["en"]}",{row["zh"]}\n' for row in rows),
        "tsv": "en\tzh\n" + "".join(f"{row['en']}\t{row['zh']}\n" for row in rows),
    }[ending.removesuffix(".gz")]
    path = tmp_path / f"pairs.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    pairs = list(read_pairs([str(path)], {"source": "zh", "target": "en"}, prefix="zh-en: "))
    assert [(pair.source, pair.target) for pair in pairs] == [("zh-en: 一、二", "one, two"), ("zh-en: 三", "three")]


def test_structures_become_text_and_several_targets_become_pairs(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"source": [["Aarhus", "leaderName", "Jacob_Bundsgaard"]], "target": ["He leads Aarhus.", "Aarhus is his."]},
        {"source": ["First sentence.", "Second one."], "target": "Both."},
        {"source": "nothing is said of it", "target": []},
    ]
    path = write_lines(tmp_path / "pairs.jsonl", [json.dumps(row) for row in rows])
    pairs = list(read_pairs([str(path)]))
    assert [pair.target for pair in pairs] == ["He leads Aarhus.", "Aarhus is his.", "Both."]
    assert "Aarhus | " in pairs[0].source
    assert pairs[2].source == "First sentence. Second one."


@pytest.mark.parametrize(
    ("turns", "marks"), [(["Hi.", "Hello!", "Bye."], ("A:", "B:")), (["你好。", "你好!"], ("甲：", "乙："))]
)
def test_every_turn_answers_those_before_it(turns: list[str], marks: tuple[str, str], tmp_path: Path) -> None:
    path = write_lines(tmp_path / "talk.jsonl", [json.dumps({"utterances": turns})])
    pairs = list(read_pairs([str(path)], {"turns": "utterances"}))
    assert [pair.target for pair in pairs] == turns[1:]
    assert pairs[0].source.startswith(f"{marks[0]}{' ' if marks[0].isascii() else ''}{turns[0]}\n")
    assert pairs[0].source.endswith(f"\n{marks[1]}")
    assert len({pair.group for pair in pairs}) == 1, "a dialogue stays in one split"


def test_lower_casing_is_of_the_text_and_not_of_the_prefix(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", [json.dumps({"source": "Der Fluß", "target": "The River"})])
    (pair,) = read_pairs([str(path)], prefix="DE-EN: ", lowercase=True)
    assert (pair.source, pair.target) == ("DE-EN: der fluß", "the river")


# ---- what cannot be read -------------------------------------------------------------------------------------------


def test_files_of_unequal_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    a, b = write_lines(tmp_path / "a.txt", ["x"] * 5), write_lines(tmp_path / "b.txt", ["y"] * 3)
    with pytest.raises(LLMBertError, match=r"a\.txt has 5 lines and b\.txt only 3"):
        list(read_pairs([str(a), str(b)]))
    with pytest.raises(LLMBertError, match=r"a\.txt has 5 lines and b\.txt only 3"):
        list(read_pairs([str(b), str(a)]))


def test_an_empty_side_is_refused_with_its_place(tmp_path: Path) -> None:
    a, b = write_lines(tmp_path / "a.txt", ["x", "y"]), write_lines(tmp_path / "b.txt", ["z", " "])
    with pytest.raises(LLMBertError, match=r"line 2 of a\.txt and b\.txt has an empty target"):
        list(read_pairs([str(a), str(b)]))


@pytest.mark.parametrize(
    ("record", "fields", "said"),
    [
        ({"en": "x", "zh": "y"}, None, r"line 1 has no field 'source' but 'en', 'zh'"),
        ({"source": "x", "target": 3}, None, r"line 1 holds no text in its target"),
        ({"source": 5, "target": "y"}, None, r"p\.jsonl, line 1: this is no record: '5'"),
        ({"talk": [1, 2]}, {"turns": "talk"}, r"a turn that is no text"),
        ({"talk": [{"speaker": "An:na", "text": "x"}, "y"]}, {"turns": "talk"}, r"p\.jsonl, line 1: a speaker's name"),
        ({"talk": 5}, {"turns": "talk"}, r"no list of turns"),
    ],
)
def test_records_that_hold_no_pair_are_refused(record: Any, fields: Any, said: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", [json.dumps(record)])
    with pytest.raises(LLMBertError, match=said):
        list(read_pairs([str(path)], fields))


def test_one_text_file_or_an_unknown_role_is_a_wrong_request(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.txt", ["x"])
    with pytest.raises(UsageError, match="two text files"):
        list(read_pairs([str(path)]))
    records = write_lines(tmp_path / "a.jsonl", ["{}"])
    with pytest.raises(UsageError, match="source=NAME,target=NAME"):
        list(read_pairs([str(records)], {"sauce": "x"}))


# ---- storing -------------------------------------------------------------------------------------------------------


def test_a_store_holds_every_pair_once(store: PairCorpus, aligned: tuple[Path, Path, list[str]]) -> None:
    found = []
    for part in (store.train, store.valid):
        assert part.source.documents == part.target.documents == len(part.task)
        for i in range(part.pairs):
            source, target = (side.text_of(i, store.tokeniser) for side in (part.source, part.target))
            assert target == " ".join(reversed(source.split())).upper()
            found.append(source)
    assert sorted(found) == sorted(aligned[2])
    assert store.valid.pairs > 5


def test_equal_sources_never_stand_on_both_sides(store: PairCorpus) -> None:
    train, valid = (
        {part.source.text_of(i, store.tokeniser) for i in range(part.pairs)} for part in (store.train, store.valid)
    )
    assert not train & valid
    assert store.describe()["overlap"]["sources"] == 0


def test_sources_that_differ_by_case_alone_stay_together_where_case_goes(tmp_path: Path) -> None:
    rows = [{"source": text, "target": "t"} for n in range(40) for text in (f"Word {n}", f"word {n}", f"WORD {n}")]
    path = write_lines(tmp_path / "p.jsonl", [json.dumps(row) for row in rows])
    store = build_pairs([Portion((str(path),))], tmp_path / "store", kind="bytes", lowercase=True)
    assert store.valid.pairs > 1
    assert store.describe()["overlap"]["sources"] == 0


def test_the_tokeniser_sees_its_share_of_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of text of three bytes a character, too, as much as of other text; none is left out where it is no more."""
    a, b = write_lines(tmp_path / "a.txt", ["河" * 20] * 50), write_lines(tmp_path / "b.txt", ["山" * 20] * 50)
    asked: list[float] = []

    def spread(texts: Any, share: float) -> Any:
        asked.append(share)
        return texts

    monkeypatch.setattr("llmbert.data.pairs.store.spread", spread)
    build_pairs([Portion((str(a), str(b)))], tmp_path / "one", kind="unigram", vocabulary_size=300)
    monkeypatch.setitem(TOKENISERS, "unigram", replace(TOKENISERS["unigram"], sample_bytes=3000))
    build_pairs([Portion((str(a), str(b)))], tmp_path / "two", kind="unigram", vocabulary_size=300)
    assert asked == [1.0, 0.5]


@pytest.mark.parametrize("form", ["records", "texts"])
def test_standard_input_gives_pairs_too(form: str, tmp_path: Path) -> None:
    records, texts = ("".join(json.dumps({"source": f"s {n}", "target": "t"}) + "\n" for n in range(9)), "s\nt\n" * 5)
    other = write_lines(tmp_path / "b.txt", ["x", "y"] * 5)
    paths = ("-",) if form == "records" else ("-", str(other))
    script = (
        "import sys; from llmbert.data.pairs import Portion, build_pairs; "
        "store = build_pairs([Portion(tuple(sys.argv[2:]))], sys.argv[1], kind='bytes'); "
        "print(store.train.pairs + store.valid.pairs, store.train.source.text_of(0, store.tokeniser)[:1])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "c"), *paths]
    answer = subprocess.run(command, input=records if form == "records" else texts, capture_output=True, text=True)
    assert answer.stdout.split() == ["9" if form == "records" else "10", "s"], answer.stderr
    assert len(list((tmp_path / "c").iterdir())) == 1  # no spool is left


def test_the_hub_gives_pairs_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_dataset(name: str, split: str, streaming: bool) -> list[dict[str, Any]]:
        asked.append(f"{name}:{split}")
        return [{"de": f"eins {n}", "en": ["one", "a"]} for n in range(8)]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    fields = {"source": "de", "target": "en"}
    store = build_pairs([Portion(("hub:some/set",), ("hub:some/set:test",), fields)], tmp_path / "c", kind="bytes")
    assert (store.train.pairs, store.valid.pairs) == (16, 16)
    assert asked == ["some/set:train", "some/set:test"]


def test_the_same_pairs_open_the_same_store(aligned: tuple[Path, Path, list[str]], store: PairCorpus) -> None:
    again = build_pairs([Portion((str(aligned[0]), str(aligned[1])))], store.folder.parent, kind="bytes")
    assert again.folder == store.folder
    lower = build_pairs(
        [Portion((str(aligned[0]), str(aligned[1])))], store.folder.parent, kind="bytes", lowercase=True
    )
    assert lower.folder != store.folder


def test_references_gather_what_belongs_to_one_source(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "t.jsonl", [json.dumps({"source": f"s{i}", "target": "t"}) for i in range(5)])
    rows = [("a", "one"), ("b", "two"), ("a", "three")]
    valid = write_lines(tmp_path / "v.jsonl", [json.dumps({"source": s, "target": t}) for s, t in rows])
    store = build_pairs([Portion((str(train),), (str(valid),), prefix="say: ")], tmp_path / "store", kind="chars")
    assert [(r.source, r.targets, r.prefix) for r in store.references()] == [
        ("a", ["one", "three"], "say: "),
        ("b", ["two"], "say: "),
    ]


# ---- batches -------------------------------------------------------------------------------------------------------


def rows_of(batches: PairBatches, epoch: int = 0) -> list[int]:
    return sorted(int(row) for rows in batches.plan(epoch) for row in rows)


@pytest.mark.parametrize("size", [{"batch": 7}, {"tokens": 200}])
def test_an_epoch_takes_every_pair_once(store: PairCorpus, size: dict[str, int]) -> None:
    batches = PairBatches(store.train, (64, 64), 3, **size)
    assert rows_of(batches, 0) == rows_of(batches, 4) == list(range(store.train.pairs))
    if "tokens" in size:
        for rows in batches.plan(0):
            widest = max(batches.sources[rows].max(), batches.targets[rows].max())
            assert len(rows) == 1 or widest * len(rows) <= 200


def test_a_batch_gives_back_its_texts(store: PairCorpus) -> None:
    batch = next(PairBatches(store.train, (256, 256), 0, batch=16).iterate())
    tokeniser = store.tokeniser
    for row in range(len(batch.source)):
        source = batch.source[row][batch.source_mask[row]].tolist()
        inputs, targets = batch.inputs[row].tolist(), [t for t in batch.targets[row].tolist() if t != IGNORED]
        assert source[-1] == targets[-1] == tokeniser.end_id
        assert inputs[0] == tokeniser.begin_id
        assert inputs[1 : len(targets)] == targets[:-1], "each input is the target before it"
        assert tokeniser.decode(targets) == " ".join(reversed(tokeniser.decode(source).split())).upper()


@pytest.mark.parametrize("keep_end", [False, True])
def test_what_is_too_long_is_cut_and_counted(store: PairCorpus, keep_end: bool) -> None:
    whole = PairBatches(store.train, (256, 256), 0)
    batches = PairBatches(store.train, (12, 9), 0, batch=32, keep_end=keep_end)
    assert batches.cut_sources == int((whole.sources > 12).sum()) > 0
    assert batches.cut_targets == int((whole.targets > 9).sum()) > 0
    for rows in batches.plan(0):
        batch, complete = batches.gather(rows), whole.gather(rows)
        assert batch.source.shape[1] <= 12 and batch.targets.shape[1] <= 9
        for row in range(len(rows)):
            kept, full = batch.source[row][batch.source_mask[row]], complete.source[row][complete.source_mask[row]]
            assert kept[-1] == store.tokeniser.end_id, "a source that was cut still says that it has ended"
            assert torch.equal(kept[:-1], (full[-len(kept) : -1] if keep_end else full[: len(kept) - 1]))


@given(position=st.integers(0, 60), seed=st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_batch_number_n_is_the_same_whenever_it_is_asked_for(store: PairCorpus, position: int, seed: int) -> None:
    batches = PairBatches(store.train, (64, 64), seed, tokens=300)
    from_start = next(islice(batches.iterate(), position, None))
    resumed = next(PairBatches(store.train, (64, 64), seed, tokens=300).iterate(position))
    assert torch.equal(from_start.source, resumed.source)
    assert torch.equal(from_start.targets, resumed.targets)


def test_micro_batches_are_the_batch(store: PairCorpus) -> None:
    batch = next(PairBatches(store.train, (64, 64), 0, batch=10).iterate())
    parts = batch.split(3)
    assert sum(part.count for part in parts) == batch.count
    assert torch.equal(torch.cat([part.source for part in parts]), batch.source)


def tasks_of(folder: Path, counts: dict[str, tuple[int, int]]) -> PairCorpus:
    """Tasks by name: how many pairs, and how many characters their sources have."""
    portions = []
    for name, (count, length) in counts.items():
        sources = [f"{i} ".ljust(length + i % 5, "x") for i in range(count)]
        rows = [json.dumps({"source": source, "target": f"{name}{i}"}) for i, source in enumerate(sources)]
        portions.append(Portion((str(write_lines(folder / f"{name}.jsonl", rows)),), prefix=f"{name}: "))
    return build_pairs(portions, folder / "store", kind="bytes")


@pytest.mark.parametrize("size", [{"batch": 24}, {"tokens": 1200}])
def test_a_batch_holds_some_of_every_task(tmp_path: Path, size: dict[str, int]) -> None:
    store = tasks_of(tmp_path, {"long": (120, 90), "short": (300, 12), "middle": (60, 30)})
    batches = PairBatches(store.train, (128, 64), 1, **size)
    assert rows_of(batches) == list(range(store.train.pairs))
    plan = batches.plan(0)
    held = [set(store.train.task[rows].tolist()) for rows in plan]
    assert all(len(tasks) == 3 for tasks in held), "and not the task of the most batches for a while"
    if "tokens" in size:
        taken = [int(np.maximum(batches.sources[rows], batches.targets[rows]).sum()) for rows in plan]
        assert max(taken) <= 2 * 1200 and min(taken) >= 0.5 * np.median(taken)


@pytest.mark.parametrize("rare", [2, 9, 40])
@pytest.mark.parametrize("size", [{"batch": 16}, {"tokens": 800}])
def test_a_rare_task_does_not_make_batches_larger(rare: int, size: dict[str, int], tmp_path: Path) -> None:
    store = tasks_of(tmp_path, {"common": (1200, 20), "rare": (rare, 20)})
    batches = PairBatches(store.train, (128, 64), 1, **size)
    assert rows_of(batches) == list(range(store.train.pairs))
    plan = batches.plan(0)
    rows = [len(some) for some in plan]
    assert max(rows) <= 2 * np.median(rows) and abs(np.mean(rows) - np.median(rows)) < 0.2 * np.median(rows)
    holding = [at for at, some in enumerate(plan) if (store.train.task[some] == 1).any()]
    assert len(holding) >= min(rare, len(plan)) // 4 and max(holding) - min(holding) >= 0.5 * len(plan) * (rare > 8)


def test_a_group_of_a_batch_is_a_micro_batch_without_the_padding_of_others(tmp_path: Path) -> None:
    store = tasks_of(tmp_path, {"long": (60, 90), "short": (60, 12)})
    batch = next(PairBatches(store.train, (128, 64), 1, tokens=1500).iterate())
    parts = batch.split(1)
    assert len(parts) == len(batch.groups) > 1 and sum(batch.groups) == len(batch.source)
    assert sum(part.count for part in parts) == batch.count
    assert all(part.source_mask.any(0).all() and (part.targets != IGNORED).any(0).all() for part in parts)
    sources = [row[mask].tolist() for part in parts for row, mask in zip(part.source, part.source_mask, strict=True)]
    whole = [row[mask].tolist() for row, mask in zip(batch.source, batch.source_mask, strict=True)]
    assert sources == whole
    assert sum(len(part.source) for part in batch.split(3)) == len(batch.source)


def test_a_temperature_evens_out_the_tasks(tmp_path: Path) -> None:
    files = []
    for name, count in (("large", 400), ("small", 20)):
        rows = [json.dumps({"source": f"{name} {i}", "target": str(i)}) for i in range(count)]
        files.append(write_lines(tmp_path / f"{name}.jsonl", rows))
    portions = [Portion((str(path),), prefix=f"{path.stem}: ") for path in files]
    store = build_pairs(portions, tmp_path / "store", kind="bytes")
    shares = []
    for temperature in (1.0, 4.0):
        batches = PairBatches(store.train, (64, 64), 0, batch=8, temperature=temperature)
        drawn = np.concatenate(batches.plan(0))
        shares.append(float((store.train.task[drawn] == 1).mean()))
    assert shares[0] == pytest.approx((store.train.task == 1).mean())
    assert 3 * shares[0] < shares[1] < 0.5
