"""Whatever is wrong is said in one sentence, with the right exit code, and nothing half-written stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from running import TINY, Result, llmbert, snapshot, start, tiny
from safetensors.torch import load_file, save_file

from llmbert.cli.making import ctrl_c
from llmbert.data.corpus import open_corpus

USAGE, FAILED = 2, 1


def refused(result: Result, code: int, *words: str) -> None:
    """One line on stderr that holds the words, nothing on stdout, and the exit code."""
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("llmbert: ")
    assert result.err.count("\n") == 1
    assert "unforeseen" not in result.err
    for word in words:
        assert word in result.err


def train(data: Path | str, out: Path, *options: str | Path, family: str = "gpt") -> Result:
    return llmbert("train", "--data", data, "--out", out, "--tokenizer", "bytes", *tiny(family), *options)


def nothing_new(folder: Path, before: dict[str, bytes | None]) -> None:
    """The folder holds what it did; a whole corpus store may have come, for the next training to use."""
    after = snapshot(folder)
    stores = [folder / name for name in after if Path(name).match("corpora/*") and Path(name).name[0] != "."]
    for store in stores:
        open_corpus(store)
    kept = {n: c for n, c in after.items() if not (stores and n.startswith("corpora"))}
    assert kept == {name: content for name, content in before.items() if not (stores and name.startswith("corpora"))}


# ---- data ----------------------------------------------------------------------------------------------------------

BAD_DATA: dict[str, tuple[str, bytes | None, list[str], list[str]]] = {
    "missing": ("no.txt", None, [], ["no.txt does not exist"]),
    "empty": ("empty.txt", b"", [], ["empty.txt is empty"]),
    "binary": ("binary.txt", bytes(range(256)) * 40, [], ["binary.txt, line 2", "byte 128"]),
    "latin-1": ("latin.txt", "Der Fluß fließt über die Brücke.\n".encode("latin-1") * 40, [], ["line 1", "UTF-8"]),
    "ending": ("paper.pdf", b"%PDF", [], ["paper.pdf", ".txt"]),
    "short": ("short.txt", b"only a few", [], ["short.txt", "context of 16", "--set context="]),
    "one character": ("one.txt", b"a", [], ["more text"]),
    "blank": ("blank.txt", b"\n  \n\t\n" * 9, [], ["blank"]),
    "blank lines": ("blank.txt", b"\n  \n\t\n" * 9, ["--lines"], ["blank.txt", "blank"]),
    "torn gzip": ("torn.txt.gz", b"\x1f\x8b\x08\x00garbage", [], ["torn.txt.gz", "gzip"]),
    "broken line": ("b.jsonl", b'{"text": "hi"}\n{"text": oh}\n', [], ["b.jsonl, line 2", "JSON"]),
    "no field": ("m.jsonl", b'{"text": "hi"}\n{"body": "hi"}\n', ["--fields=text=body"], ["m.jsonl, line 1", "'body'"]),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_named_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    name, content, options, words = BAD_DATA[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = snapshot(tmp_path)
    refused(train(tmp_path / name, tmp_path / "run", *options), FAILED, *words)
    nothing_new(tmp_path, before)


@pytest.mark.parametrize(("name", "word"), [("no.txt", "does not exist"), ("empty.txt", "is empty")])
def test_a_bad_validation_file_is_named(name: str, word: str, text: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    before = snapshot(tmp_path)
    refused(train(text, tmp_path / "run", "--valid", tmp_path / name), FAILED, name, word)
    nothing_new(tmp_path, before)


def test_a_file_name_that_is_no_text_is_as_good_as_any(text: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"r\xffver.txt")
    shutil.copy(text, odd)
    result = train(odd, tmp_path / "run", family="ngram")
    assert (result.code, result.err) == (0, "")
    assert json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["source"]["data"] == [str(odd)]


def test_a_text_too_small_for_an_interval_still_gets_its_run(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("ab")
    result = train(tmp_path / "two.txt", tmp_path / "run", family="ngram")
    assert (result.code, result.err) == (0, "")


# ---- requests ------------------------------------------------------------------------------------------------------

BAD_REQUESTS: dict[str, tuple[list[str], list[str]]] = {
    "family": (["--family=gtp"], ["'gtp'", "'gpt'"]),
    "key": (["--set=widht=8"], ["'widht'", "'width'"]),
    "key twice": (["--set=width=8"], ["width", "twice"]),
    "no value": (["--set=dropout"], ["key=value"]),
    "size": (["--size=smal"], ["'smal'", "'small'"]),
    "tokeniser": (["--tokenizer=bpee"], ["'bpee'", "'bpe'"]),
    "range": (["--set=dropout=1.5"], ["dropout", "1.5"]),
    "not a number": (["--set=learning_rate=nan"], ["learning_rate", "nan"]),
    "infinite": (["--set=learning_rate=inf"], ["learning_rate", "inf"]),
    "whole number": (["--set=warmup=many"], ["warmup", "many"]),
    "choice": (["--set=optimiser=adamx"], ["optimiser", "'adamw'", "adamx"]),
    "fit": (["--set=heads=2", "--set=head_width=3"], ["head_width", "3"]),
    "seed": (["--seed=-1"], ["seed", "-1"]),
    "large seed": (["--seed=18446744073709551616"], ["seed", "at most 9223372036854775807"]),
    "for others": (["--set=free_bits=0.5"], ["free_bits", "elbo"]),
    "for fine-tuning": (["--set=lora_rank=8"], ["lora_rank", "llmbert fine-tune"]),
    "of pairs": (["--lowercase"], ["--lowercase", "documents"]),
    "language": (["--language=fr"], ["'fr'"]),
    "budget word": (["--budget=soon"], ["'soon'", "5m"]),
    "budget nothing": (["--budget="], ["5m"]),
    "budget none": (["--budget=0"], ["1s"]),
    "regex": (["--split-on=("], ["'('"]),
    "two ways": (["--split-on=x", "--lines"], ["lines", "split_on"]),
    "fields": (["--fields=body"], ["ROLE=NAME", "'body'"]),
    "option": (["--wat"], ["--wat"]),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_wrong_request_is_named_before_anything_is_made(case: str, text: Path, tmp_path: Path) -> None:
    options, words = BAD_REQUESTS[case]
    given = ["--family=gpt", "--tokenizer=bytes", *TINY]
    refused(llmbert("train", "--data", text, "--out", tmp_path / "run", *given, *options), USAGE, *words)
    assert snapshot(tmp_path) == {}


PLANTING = ["--data=x.txt", "--out=x", "--families=gpt", "--mitigations=-", "--valid=x.txt", "--lines", "--split-on=x"]
PLANTING += ["--fields=text=x", "--tokenizer=chars", "--canaries=card", "--repeats=1", "--each=2", "--budget=9s"]
PLANTING += ["--seed=3", "--language=zh"]
IDLE: dict[str, tuple[list[str], list[str]]] = {
    **{f"audit {option}": (["audit", "run", option], [option.partition("=")[0], "run"]) for option in PLANTING},
    "trace temperature": (["trace", "run", "--text=x", "--temperature=9"], ["--temperature", "--prompt"]),
    "trace seed": (["trace", "run", "--data=x.txt", "--seed=9"], ["--seed", "--prompt"]),
    "trace index": (["trace", "run", "--index-only", "--neighbours=9"], ["--neighbours", "--index-only"]),
    "fields of a text": (["translate", "run", "text", "--fields=source=x"], ["--fields", "--in"]),
    "lines of a text": (["summarise", "run", "text", "--lines"], ["--lines", "--in"]),
    "name of no field": (["write", "run", "a | b | c", "--into=x"], ["--into", "--out"]),
    "name of plain text": (["classify", "run", "text", "--into=x", "--out=x.txt"], ["--into", ".jsonl"]),
    "figures of no page": (["chat", "run", "--json"], ["--json", "--report"]),
    "talk of a page": (["chat", "run", "--report=x.html", "--temperature=2"], ["--temperature", "--report"]),
    "strength of no mark": (["generate", "run", "--watermark-strength=2"], ["--watermark-strength", "KEYFILE"]),
    "strength of no mark served": (["serve", "run", "--watermark-strength=4"], ["--watermark-strength", "KEYFILE"]),
}


@pytest.mark.parametrize("case", IDLE)
def test_options_that_would_come_to_nothing_are_refused(case: str) -> None:
    arguments, words = IDLE[case]
    refused(llmbert(*arguments), USAGE, *words)


@pytest.mark.parametrize("option", ["order=0", "order=100000", "steps=5", "alpha=0", "smoothing=good"])
def test_settings_of_an_ngram_are_checked_too(option: str, text: Path, tmp_path: Path) -> None:
    ask = ["train", "--family=ngram", "--data", text, "--out", tmp_path / "run", f"--set={option}"]
    refused(llmbert(*ask), USAGE, option.split("=")[0])
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["'trian'", "'train'"]),
        (["train"], ["--family"]),
        (["train", "--family=gpt"], ["--data"]),
        (["train", "--family=gpt", "--data=x"], ["--out"]),
        (["evaluate"], ["RUN"]),
        (["evaluate", "--data", "x.txt"], ["RUN"]),
        (["generate"], ["RUN"]),
        (["compare", "--data=x"], ["--out"]),
        (["train", "--resume=run", "--set=steps=5"], ["--resume", "--set"]),
        (["generate", "run", "--max-tokens=many"], ["--max-tokens", "integer"]),
    ],
)
def test_a_command_that_lacks_something_says_what(arguments: list[str], words: list[str]) -> None:
    refused(llmbert(*arguments), USAGE, *words)


# ---- output --------------------------------------------------------------------------------------------------------


def test_nothing_of_the_users_is_overwritten(runs: Path, text: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "gpt", tmp_path / "gpt")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = snapshot(tmp_path)
    refused(train(text, tmp_path / "gpt"), FAILED, "already holds a run", "--out")
    refused(train(text, tmp_path / "notes"), FAILED, "not an empty folder", "--out")
    refused(train(text, tmp_path / "file"), FAILED, "not an empty folder", "--out")
    refused(train(text, tmp_path / "file" / "run"), FAILED, "file")
    refused(llmbert("compare", "--data", text, "--out", tmp_path / "notes", "--budget=3s"), FAILED, "something else")
    assert snapshot(tmp_path) == before
    (tmp_path / "gpt" / "run.json").write_text("{")
    refused(train(text, tmp_path / "gpt"), FAILED, "already holds a run")


@pytest.mark.skipif(os.geteuid() == 0, reason="for root no folder is read-only")
def test_a_read_only_folder_is_named(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    refused(train(text, folder / "run"), FAILED, "locked")


def test_an_empty_folder_that_was_there_stays_where_training_fails(text: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    refused(train(text, tmp_path / "run", "--set=optimiser=sgd", "--set=learning_rate=1e30"), FAILED, "the loss became")
    nothing_new(tmp_path, {"run": None})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of some size, and again with another size; skips where that is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: str) -> Path:
        option = ("remount," if disk.is_mount() else "") + f"size={size}"
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(disk)], capture_output=True, check=False)
        if not disk.is_mount():
            pytest.skip("mounting a small disk takes rights that are missing here")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_with_the_corpus_is_left_empty(small_disk: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("the river rises in the hills\n" * 20_000)
    disk = small_disk("200k")
    refused(train(tmp_path / "big.txt", disk / "run", family="ngram"), FAILED, "disk is full", "free space")
    assert snapshot(disk) == {}


@pytest.mark.parametrize(("seconds", "file"), [("0", "checkpoint.safetensors"), ("60", "model.safetensors")])
def test_a_disk_that_fills_with_the_model_keeps_the_corpus_only(
    seconds: str, file: str, small_disk: Callable[[str], Path], text: Path
) -> None:
    disk = small_disk("500k")
    wide = ["train", "--family=gpt", "--data", text, "--tokenizer=bytes", "--set=width=192", "--set=steps=3"]
    result = llmbert(*wide, "--set=context=16", "--set=layers=1", f"--set=checkpoint_seconds={seconds}",
                     "--out", disk / "run")  # fmt: skip
    refused(result, FAILED, file, "free some space")
    nothing_new(disk, {})


def test_a_disk_that_fills_in_mid_training_keeps_the_checkpoint(
    small_disk: Callable[[str], Path], text: Path, tmp_path: Path
) -> None:
    wide = ["train", "--family=gpt", "--data", text, "--tokenizer=bytes", "--set=width=96", "--set=steps=4"]
    wide += ["--set=context=16", "--set=layers=1", "--set=checkpoint_seconds=0"]
    assert llmbert(*wide, "--out", tmp_path / "run").code == 0
    disk = small_disk("2000k")  # holds one checkpoint of 1.3 MB, not a second beside it
    refused(llmbert(*wide, "--out", disk / "run"), FAILED, "checkpoint.safetensors", "free some space")
    assert {"checkpoint.safetensors", "run.json"} <= {path.name for path in (disk / "run").iterdir()}
    small_disk("20m")
    assert llmbert("train", "--resume", disk / "run").code == 0
    assert (disk / "run" / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert {path.name for path in (disk / "run").iterdir()} == {path.name for path in (tmp_path / "run").iterdir()}


# ---- damaged runs --------------------------------------------------------------------------------------------------

Damage = Callable[[Path], Any]


def edit(name: str, **values: Any) -> Damage:
    def damage(run: Path) -> None:
        content = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(content | values))

    return damage


def cut(size: int) -> Damage:
    return lambda run: (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:size])


def reshape(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(run: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(run / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, run / "model.safetensors")

    return damage


E, N = "model.embed_tokens.weight", "model.norm.weight"
DAMAGES: dict[str, tuple[str, Damage, list[str]]] = {
    "another version": ("gpt", edit("run.json", format=9, llmbert="9.0"), ["format 9", "llmbert 9.0"]),
    "facts cut short": ("gpt", lambda run: (run / "run.json").write_text('{"format"'), ["run.json", "damaged"]),
    "facts no object": ("gpt", lambda run: (run / "run.json").write_text("[]"), ["run.json", "damaged"]),
    "unfinished": ("gpt", edit("run.json", status="training"), ["not finished", "--resume"]),
    "weights cut short": ("gpt", cut(9_000), ["model.safetensors", "damaged"]),
    "weights' header cut short": ("gpt", cut(40), ["model.safetensors", "damaged"]),
    "weights empty": ("ngram", cut(0), ["model.safetensors", "damaged"]),
    "no weights": ("gpt", lambda run: (run / "model.safetensors").unlink(), ["model.safetensors", "missing"]),
    "no config": ("lstm", lambda run: (run / "config.json").unlink(), ["config.json", "missing"]),
    "no tokeniser": ("gpt", lambda run: (run / "tokenizer.json").unlink(), ["tokenizer.json", "missing"]),
    "broken tokeniser": ("gpt", lambda run: (run / "tokenizer.json").write_text("{}"), ["tokenizer.json", "damaged"]),
    "tokeniser of another": ("gpt", lambda run: swap(run), ["tokeniser has", "another run"]),
    "width lies": ("gpt", edit("config.json", hidden_size=32), [E, "shape"]),
    "vocabulary lies": ("gpt", edit("config.json", vocab_size=10**12), [E, "shape"]),
    "inner width lies": ("gpt", edit("config.json", intermediate_size=10**9), ["shape"]),
    "layers lie": ("gpt", edit("config.json", num_hidden_layers=2), ["model.layers.1"]),
    "layers lie much": ("gpt", edit("config.json", num_hidden_layers=10**6), ["layers"]),
    "heads lie": ("gpt", edit("config.json", num_attention_heads=0), ["heads"]),
    "a number is a word": ("gpt", edit("config.json", hidden_size="wide"), ["width"]),
    "rope lies": ("gpt", edit("config.json", rope_parameters=[1]), ["config.json"]),
    "type unknown": ("gpt", edit("config.json", model_type="mamba"), ["'mamba'", "qwen3"]),
    "recurrent layers lie": ("lstm", edit("config.json", settings={"width": 16, "layers": 10**6}), ["layers"]),
    "no settings": ("lstm", edit("config.json", settings="none"), ["config.json"]),
    "no ngram settings": ("ngram", edit("config.json", settings=[1]), ["config.json", "settings"]),
    "a tensor too few": ("gpt", reshape(lambda t: t.pop(N)), [N]),
    "a tensor too many": ("gpt", reshape(lambda t: t.update(extra=torch.ones(3))), ["'extra'"]),
    "a layer too many": ("gpt", reshape(lambda t: t.update({"model.layers.1.x": torch.ones(3)})), ["model.layers.1.x"]),
    "a tensor turned": ("gpt", reshape(lambda t: t.update({E: t[E].T.contiguous()})), [E, "shape"]),
    "a tensor of integers": ("gpt", reshape(lambda t: t.update({N: t[N].long()})), [N, "int64"]),
    "an index astray": ("ngram", reshape(lambda t: t.update({"words.2": t["words.2"].int() * 0 - 1})), ["words.2"]),
}  # fmt: skip


def swap(run: Path) -> None:
    train(run / "text.txt", run.parent / "other", "--tokenizer=chars", family="ngram")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(run.parent / "other" / name, run / name)


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_run_is_named(case: str, runs: Path, text: Path, tmp_path: Path) -> None:
    family, damage, words = DAMAGES[case]
    shutil.copytree(runs / family, tmp_path / "run")
    shutil.copy(text, tmp_path / "run" / "text.txt")
    damage(tmp_path / "run")
    before = snapshot(tmp_path / "run")
    began = time.monotonic()
    refused(llmbert("generate", tmp_path / "run", "--prompt", "the"), FAILED, str(tmp_path / "run"), *words)
    refused(llmbert("evaluate", tmp_path / "run", "--data", text), FAILED, *words)
    assert time.monotonic() - began < 10
    assert snapshot(tmp_path / "run") == before


def test_weights_that_are_no_numbers_are_said_to_be(runs: Path, text: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "gpt", tmp_path / "run")
    reshape(lambda tensors: tensors[E].fill_(float("nan")))(tmp_path / "run")
    refused(llmbert("evaluate", tmp_path / "run", "--data", text, "--json"), FAILED, "not numbers")


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for verb in (["generate"], ["evaluate", "--data=x.txt"], ["train", "--resume"]):
        for name, words in (("none", "no run at"), ("folder", "is not a run"), ("file", "no run at")):
            refused(llmbert(*verb, tmp_path / name), FAILED, str(tmp_path / name), words)


# ---- generate, evaluate, compare, resume ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("--temperature=-1", "temperature"),
        ("--temperature=nan", "temperature"),
        ("--top-p=0", "top_p"),
        ("--top-p=1.1", "top_p"),
        ("--top-k=-1", "top_k"),
        ("--min-p=2", "min_p"),
        ("--typical-p=0", "typical_p"),
        ("--max-tokens=0", "max_tokens"),
        ("--beams=0", "beams"),
        ("--seed=-1", "seed"),
        ("--stop=", "stop"),
        ("--repetition-penalty=0", "repetition_penalty"),
    ],
)
def test_a_setting_of_generation_out_of_range_is_named(option: str, word: str, runs: Path) -> None:
    refused(llmbert("generate", runs / "ngram", "--prompt", "the", option), USAGE, word)


@pytest.mark.parametrize("family", ["gpt", "lstm", "ngram"])
def test_a_prompt_may_outgrow_the_context_and_need_not_be_text(family: str, runs: Path) -> None:
    long = llmbert("generate", runs / family, "--prompt", "the river " * 40, "--max-tokens=40", "--json").json()
    assert len(long["tokens"]) == 40 or long["finish"] == "end"
    result = llmbert("generate", runs / family, "--prompt=-", "--max-tokens=5", stdin=b"caf\xe9")
    refused(Result(result.code, "", result.err), FAILED, "surrogate")
    assert llmbert("generate", runs / family, "--max-tokens=5").code == 0


def test_there_must_be_something_to_evaluate(runs: Path, tmp_path: Path) -> None:
    for name, content in (("empty.txt", b""), ("blank.txt", b"\n \n"), ("latin.txt", b"caf\xe9 " * 9)):
        (tmp_path / name).write_bytes(content)
        refused(llmbert("evaluate", runs / "gpt", "--data", tmp_path / name, "--lines"), FAILED, name)
    refused(llmbert("evaluate", runs / "gpt", "--data", tmp_path / "no.txt", "--json"), FAILED, "no.txt")
    refused(llmbert("evaluate", runs / "gpt", "--data=-"), FAILED, "standard input", "empty")


def test_another_way_of_cutting_stands_instead_of_the_runs_own(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "run", "--split-on=\\n", family="ngram").code == 0
    scores = [
        llmbert("evaluate", tmp_path / "run", "--data", text, "--json", *cut).json()
        for cut in ([], ["--lines"], ["--split-on= sea "])
    ]
    assert scores[0]["documents"] == scores[1]["documents"] == 200
    assert scores[2]["documents"] not in (1, 200)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--tokenizer=words"], USAGE, ["words", "bytes, chars, bpe"]),
        (["--families=gpt,gtp"], USAGE, ["'gtp'", "'gpt'"]),
        (["--seeds=0"], USAGE, ["seeds"]),
        (["--budget=x"], USAGE, ["'x'"]),
        (["--valid=no.txt"], FAILED, ["no.txt"]),
    ],
)
def test_a_comparison_refused_can_be_asked_for_anew(
    options: list[str], code: int, words: list[str], text: Path, tmp_path: Path
) -> None:
    ask = ["compare", "--data", text, "--out", tmp_path / "out", "--budget=3s", "--families=ngram"]
    refused(llmbert(*ask, *options), code, *words)
    assert snapshot(tmp_path) == {}


def test_a_lossy_tokeniser_of_a_run_is_refused_too(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "words", "--tokenizer=words", family="ngram").code == 0
    ask = ["compare", "--data", text, "--out", tmp_path / "out", "--tokenizer", tmp_path / "words"]
    refused(llmbert(*ask), USAGE, "words", "loses nothing")
    assert not (tmp_path / "out").exists()


def test_characters_that_only_held_out_text_has_are_refused_before_anything_is_trained(
    text: Path, tmp_path: Path
) -> None:
    (tmp_path / "valid.txt").write_text("the river rises 中 in the hills\n" * 20, "utf-8")
    ask = ["compare", "--data", text, "--valid", tmp_path / "valid.txt", "--out", tmp_path / "out", "--tokenizer=chars"]
    refused(llmbert(*ask), USAGE, "20 of the", "unknown", "bpe", "chars")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_resumed_says_why(runs: Path, tmp_path: Path) -> None:
    refused(llmbert("train", "--resume", runs / "gpt"), FAILED, "finished", "--out")
    for option in ("--tokenizer=chars", "--seed=3", "--language=zh"):
        refused(llmbert("train", "--resume", runs / "gpt", option), USAGE, option.partition("=")[0])
    shutil.copytree(runs / "gpt", tmp_path / "run")
    edit("run.json", status="training")(tmp_path / "run")
    refused(llmbert("train", "--resume", tmp_path / "run"), FAILED, "corpora", "corpus")
    shutil.copytree(runs / "corpora", tmp_path / "corpora")
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"\0" * 100)
    refused(llmbert("train", "--resume", tmp_path / "run"), FAILED, "checkpoint.safetensors", "damaged")
    shutil.copy(tmp_path / "run" / "model.safetensors", tmp_path / "run" / "checkpoint.safetensors")
    refused(llmbert("train", "--resume", tmp_path / "run"), FAILED, "checkpoint.safetensors", "not a checkpoint")


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


def wait_for(true: Callable[[], bool], process: Any, seconds: float = 60.0) -> None:
    began = time.monotonic()
    while not true():
        alive = process.poll() is None if hasattr(process, "poll") else process.is_alive()
        assert alive, "it ended before it was stopped"
        assert time.monotonic() - began < seconds
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_training_saves_and_says_how_to_go_on(number: int, text: Path, tmp_path: Path) -> None:
    ask = ["train", "--data", text, "--tokenizer=bytes", *tiny("gpt"), "--out", tmp_path / "run"]
    ask[ask.index("--set=steps=20")] = "--set=steps=300"
    log = tmp_path / "run" / "log.jsonl"
    process = start(ask, tmp_path / "err")
    wait_for(lambda: log.exists() and log.read_bytes().count(b"\n") > 3, process)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == 1
    *_, last = (tmp_path / "err").read_text().splitlines()
    assert last.startswith("llmbert: stopped at step ")
    assert last.endswith(f"go on with: llmbert train --resume {tmp_path / 'run'}")
    refused(llmbert("generate", tmp_path / "run"), FAILED, "not finished", "--resume")
    refused(train(text, tmp_path / "run"), FAILED, "--resume")
    assert llmbert("train", "--resume", tmp_path / "run").code == 0
    assert log.read_bytes().count(b"\n") == 300
    assert llmbert("generate", tmp_path / "run", "--max-tokens=3").code == 0


class Thing:
    """What a weak reference may be to."""


@pytest.mark.parametrize("stage", ["reading", "training"])
def test_a_ctrl_c_that_python_drops_is_still_obeyed(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: None)
    display: Any = SimpleNamespace(stage=stage, say=lambda text: None)
    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), ctrl_c(display) as stop:
        assert not stop()
        del thing
        assert watched() is None
        assert stop(), "what trains ends after its next step"
    # … and where nothing trains any more, leaving the context ends it


def test_ctrl_c_while_reading_leaves_nothing(tmp_path: Path) -> None:
    ask = [sys.executable, "-m", "llmbert", "train", "--data=-", *tiny("gpt"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(ask, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(b"the river rises\n" * 100)
    process.stdin.flush()
    wait_for(lambda: any(tmp_path.glob("corpora/.*/*")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (1, b"", b"llmbert: stopped\n")
    assert snapshot(tmp_path) == {}


def test_ctrl_c_in_generation_ends_it(runs: Path) -> None:
    # Greedily an n-gram goes round and round; drawn, its text might end before the signal comes.
    ask = [sys.executable, "-m", "llmbert", "generate", str(runs / "ngram"), "--max-tokens=100000000", "--prompt=the"]
    process = subprocess.Popen(
        [*ask, "--temperature=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    assert process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == b"llmbert: stopped\n"


def test_a_reader_that_leaves_early_is_no_failure(runs: Path) -> None:
    ask = [sys.executable, "-m", "llmbert", "generate", str(runs / "ngram"), "--max-tokens=100000"]
    process = subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == b""
    process.wait(timeout=30)
