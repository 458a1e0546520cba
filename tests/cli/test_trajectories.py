"""Whole journeys through the command line: train, evaluate, generate, compare, and the same from Python."""

from __future__ import annotations

import gzip
import json
import math
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from running import llmbert, snapshot, start, tiny

import llmbert as library
from llmbert.models import FAMILIES
from llmbert.training.loop import Interrupted

SCORES = {"nats_per_token", "perplexity", "bits_per_byte", "interval", "likelihood", "signature"}
CHINESE = "春江潮水连海平,海上明月共潮生。滟滟随波千万里,何处春江无月明。江流宛转绕芳甸,月照花林皆似霰。"

EXACT = [name for name, family in FAMILIES.items() if family.likelihood == "exact"]


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held_out") / "valid.txt"
    path.write_text("where the river runs to the sea people built a mill in the hills\n" * 12)
    return path


def prompt(run: Path, *options: str) -> dict:  # type: ignore[type-arg]
    """What a run writes after "the river"."""
    return llmbert("generate", run, "--prompt", "the river", "--max-tokens=24", "--json", *options).json()


@pytest.mark.usefixtures("charts")
@pytest.mark.parametrize("family", EXACT)
def test_train_evaluate_generate(family: str, text: Path, held_out: Path, tmp_path: Path) -> None:
    run = tmp_path / family
    made = llmbert("train", *tiny(family), "--data", text, "--valid", held_out, "--out", run)
    assert (made.code, made.err) == (0, "")
    assert made.out.count("\n") == 2  # never wrapped: a path in it can be copied
    facts = json.loads((run / "run.json").read_text("utf-8"))
    assert facts["status"] == "done"
    assert facts["command"].startswith("llmbert train --family ")

    scores = llmbert("evaluate", run, "--data", held_out, "--json").json()
    assert scores.keys() >= SCORES
    assert scores == facts["scores"]
    assert scores["likelihood"] == "exact"
    low, high = scores["interval"]["bits_per_byte"]
    assert low < scores["bits_per_byte"] < high
    assert math.log(scores["perplexity"]) == pytest.approx(scores["nats_per_token"])
    shown = llmbert("evaluate", run, "--data", held_out).out
    assert f"{scores['bits_per_byte']:.4f}" in shown
    assert scores["signature"] in shown

    written = prompt(run, "--seed=7")
    assert written["text"]
    assert written["finish"] in ("end", "length")
    assert prompt(run, "--seed=7") == written
    assert len({prompt(run, f"--seed={seed}")["text"] for seed in range(4)}) > 1
    greedy = {prompt(run, "--temperature=0", f"--seed={seed}")["text"] for seed in range(3)}
    assert len(greedy) == 1
    plain = llmbert("generate", run, "--prompt", "the river", "--max-tokens=24", "--seed=7")
    assert plain.out == "the river" + written["text"] + "\n"
    assert len(prompt(run, "--beams=3")["tokens"]) <= 24


def test_what_is_shown_to_be_typed_may_be(text: Path, tmp_path: Path) -> None:
    ask = ["train", *tiny("ngram"), "--tokenizer=bytes", "--data", text, "--split-on", "a mill", "--out"]
    told = llmbert(*ask, tmp_path / "my run")
    assert (told.code, told.err) == (0, "")
    assert f", llmbert generate '{tmp_path}/my run' --prompt … uses it" in told.out
    command = json.loads((tmp_path / "my run" / "run.json").read_text("utf-8"))["command"]
    assert shlex.split(command) == ["llmbert", *map(str, ask), f"{tmp_path}/my run"]


@pytest.mark.parametrize("family", ["ngram", "lstm", "gpt"])
def test_the_same_command_makes_the_same_bytes(family: str, text: Path, tmp_path: Path) -> None:
    ask = ["train", "--data", text, *tiny(family), *(["--set=dropout=0.1"] if family != "ngram" else [])]
    for name in ("one", "two"):
        assert llmbert(*ask, "--out", tmp_path / name).code == 0
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    if family != "ngram":
        assert llmbert(*ask, "--seed=1", "--out", tmp_path / "three").code == 0
        assert (tmp_path / "three" / "model.safetensors").read_bytes() != one


def test_likelihoods_of_two_kinds_are_not_compared(text: Path, held_out: Path, tmp_path: Path) -> None:
    for family in ("ngram", "vae", "gan"):
        assert llmbert("train", "--data", text, *tiny(family), "--out", tmp_path / family).code == 0
    for run, other, why in (
        ("vae", "ngram", "is bound"),
        ("ngram", "vae", "is exact"),
        ("ngram", "gan", "a gan gives"),
    ):
        refused = llmbert("evaluate", tmp_path / run, "--data", held_out, "--against", tmp_path / other)
        assert refused.code == 2 and why in refused.err, refused.err


def test_a_text_of_one_unit_is_compared_without_a_p(text: Path, tmp_path: Path) -> None:
    for order in (2, 3):
        assert (
            llmbert(
                "train", "--family=ngram", f"--set=order={order}", "--data", text, "--out", tmp_path / str(order)
            ).code
            == 0
        )
    (tmp_path / "short.txt").write_text("the river", "utf-8")
    told = llmbert("evaluate", tmp_path / "2", "--data", tmp_path / "short.txt", "--against", tmp_path / "3")
    assert told.code == 0, told.err
    assert "difference in bits_per_byte: " in told.out and ", p " not in told.out


def test_words_by_lines(text: Path, tmp_path: Path) -> None:
    ask = ["train", "--family=ngram", "--tokenizer=words", "--lines", "--data", text, "--out", tmp_path / "run"]
    assert llmbert(*ask, "--set=order=2").code == 0
    scores = llmbert("evaluate", tmp_path / "run", "--data", text, "--json").json()
    assert (scores["documents"], scores["tokens"], scores["unknown"]) == (200, 200 * 11, 0)  # lines are remembered
    words = prompt(tmp_path / "run")["text"].split()
    assert set(words) <= set(text.read_text().split())


@pytest.mark.parametrize("tokeniser", ["chars", "bpe"])
@pytest.mark.parametrize("family", ["ngram", "gpt"])
def test_chinese_is_equal(family: str, tokeniser: str, tmp_path: Path) -> None:
    (tmp_path / "诗.txt").write_text("\n".join(CHINESE[i % 40 :] + CHINESE[: i % 40] for i in range(120)), "utf-8")
    ask = ["train", *tiny(family), "--tokenizer", tokeniser, "--data", tmp_path / "诗.txt", "--language=zh"]
    assert llmbert(*ask, "--set=vocabulary_size=300", "--out", tmp_path / "模型").code == 0
    for seed in range(4):
        result = llmbert(
            "generate", tmp_path / "模型", "--prompt=春江", "--max-tokens=30", f"--seed={seed}", "--temperature=1.5"
        )
        assert result.out.startswith("春江")
        assert "\ufffd" not in result.out
    scores = llmbert("evaluate", tmp_path / "模型", "--data", tmp_path / "诗.txt", "--json").json()
    assert scores["unknown"] == 0
    assert scores["bits_per_character"] == pytest.approx(
        scores["bits_per_byte"] * scores["bytes"] / scores["characters"]
    )


def test_every_way_in_gives_the_same_text(text: Path, tmp_path: Path) -> None:
    content = text.read_bytes()
    half = content.index(b"\n", len(content) // 2) + 1
    files = {"a.txt": content[:half], "b.txt": content[half:], "all.txt": content}
    for name, part in files.items():
        (tmp_path / name).write_bytes(part)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(content))
    (tmp_path / "held.txt").write_bytes(content[:2000])
    ask = ["train", "--family=ngram", "--set=order=3", "--tokenizer=bytes", "--lines", "--valid", tmp_path / "held.txt"]
    models = {}
    for name, data, stdin in (
        ("file", ["--data", tmp_path / "all.txt"], b""),
        ("several", ["--data", tmp_path / "a.txt", tmp_path / "b.txt"], b""),
        ("twice", ["--data", tmp_path / "a.txt", "--data", tmp_path / "b.txt"], b""),
        ("glob", ["--data", tmp_path / "[ab].txt"], b""),
        ("gzip", ["--data", tmp_path / "packed.txt.gz"], b""),
        ("stdin", ["--data", "-"], content),
    ):
        result = llmbert(*ask, *data, "--out", tmp_path / "runs" / name, stdin=stdin)
        assert result.code == 0, (name, result.err)
        models[name] = (tmp_path / "runs" / name / "model.safetensors").read_bytes()
    assert len(set(models.values())) == 1
    scores = [
        llmbert("evaluate", tmp_path / "runs" / "file", "--data", data, "--json", stdin=stdin).json()
        for data, stdin in ((tmp_path / "all.txt", b""), ("-", content), (tmp_path / "packed.txt.gz", b""))
    ]
    assert scores[0] == scores[1] == scores[2]


def test_the_corpus_store_is_made_once(text: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert llmbert("train", *tiny("ngram"), "--data", text, "--out", tmp_path / name).code == 0
        (store,) = (path for path in (tmp_path / "corpora").iterdir() if path.is_dir())
        if name == "one":
            before = {file: file.stat().st_mtime_ns for file in store.iterdir()}
    assert {file: file.stat().st_mtime_ns for file in store.iterdir()} == before


def test_a_run_is_found_from_inside_its_folder(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert llmbert("train", *tiny("gpt"), "--data", text, "--out", ".").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "corpora"}
    facts = json.loads(Path("run.json").read_text("utf-8"))
    Path("run.json").write_text(json.dumps(facts | {"status": "training"}))  # as if it had been killed
    assert llmbert("train", "--resume", ".").code == 0
    assert llmbert("generate", ".", "--max-tokens=3").code == 0


@pytest.mark.parametrize("family", ["ngram", "lstm", "gpt"])
def test_python_equals_the_command_line(family: str, text: Path, held_out: Path, tmp_path: Path) -> None:
    ask = ["train", *tiny(family), "--data", text, "--valid", held_out, "--out", tmp_path / "cli", "--seed=3"]
    assert llmbert(*ask).code == 0
    settings = dict(pair.removeprefix("--set=").split("=") for pair in tiny(family) if pair.startswith("--set="))
    made = library.train(family, text, tmp_path / "python", valid=held_out, settings=settings, seed=3)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("cli", "python"))
    assert one == two

    run = library.load(tmp_path / "cli")
    written = prompt(tmp_path / "cli", "--seed=5", "--top-k=9")
    assert run.generate("the river", max_tokens=24, seed=5, top_k=9) == written["text"]
    assert "".join(run.stream("the river", max_tokens=24, seed=5, top_k=9)) == written["text"]
    scores = llmbert("evaluate", tmp_path / "cli", "--data", held_out, "--json").json()
    assert library.evaluate(made, held_out) == scores
    mine = run.score(held_out.read_text())
    assert mine["bits_per_byte"] == pytest.approx(scores["bits_per_byte"], rel=1e-6)
    assert sum(mine["nats"]) == pytest.approx(scores["nats_per_token"] * scores["tokens"], rel=1e-5)

    ids = run.document_ids("the river")
    logits = run.logits(ids)
    assert logits.shape == (1, len(ids), run.tokeniser.vocabulary_size)
    assert logits.dtype == torch.float32
    nats = -torch.log_softmax(logits[0, :-1].double(), -1)[torch.arange(len(ids) - 1), torch.from_numpy(ids[1:])]
    assert float(nats.sum()) == pytest.approx(run.score("the river")["nats"][0], rel=1e-4)


@pytest.mark.parametrize("style", ["gpt2", "modern"])
def test_transformers_opens_a_run(style: str, text: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    assert llmbert("train", *tiny("gpt"), f"--set=style={style}", "--data", text, "--out", tmp_path / "run").code == 0
    run = library.load(tmp_path / "run")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run", dtype=torch.float32).eval()
    tokeniser = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    ids = tokeniser("the river rises", add_special_tokens=False)["input_ids"]
    assert ids == run.tokeniser.encode("the river rises").tolist()
    assert tokeniser.decode(ids) == "the river rises"
    block = np.array([[tokeniser.bos_token_id, *ids]])
    with torch.inference_mode():
        theirs = model(torch.from_numpy(block)).logits
    torch.testing.assert_close(run.logits(block), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [name for name in EXACT if not FAMILIES[name].counts and not FAMILIES[name].mixes])
def test_a_budget_is_kept(family: str, text: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    result = llmbert(
        "train", "--family", family, "--budget=1s", "--data", text, "--out", tmp_path / "run", "--set=layers=1"
    )
    assert result.code == 0, result.err
    assert time.monotonic() - began < 20  # even the least that is measured takes seconds on a slow machine
    facts = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert facts["steps"] >= 20
    assert facts["calibrated_tokens_per_second"] > 0


def test_a_training_that_goes_on_is_told_to_tensorboard_too(text: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, steps = tmp_path / "run", iter(range(99))
    settings = {"layers": 1, "width": 16, "heads": 2, "context": 16, "steps": 12, "batch": 4}
    with pytest.raises(Interrupted):
        library.train(
            "gpt", text, run, settings=settings, tokenizer="bytes", tensorboard=True, stop=lambda: next(steps) == 4
        )
    result = llmbert("train", "--resume", run, "--tensorboard")
    assert (result.code, result.err) == (0, "")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    log = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(log) and len(log) == 12


@pytest.mark.usefixtures("charts")
def test_a_comparison_goes_on_after_an_interruption(text: Path, tmp_path: Path) -> None:
    shutil.copy(text, tmp_path / "text.txt")
    families = f"--families={','.join(EXACT)}"
    ask = ["compare", "--data", tmp_path / "text.txt", "--out", tmp_path / "out", families, "--budget=1s"]
    process = start(ask, tmp_path / "err")
    log = tmp_path / "out" / "rnn" / "log.jsonl"
    while not log.exists():
        assert process.is_alive(), (tmp_path / "err").read_text()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    *_, last = (tmp_path / "err").read_text().splitlines()
    assert (process.exitcode, last) == (1, "llmbert: stopped at rnn; the same command goes on from there")
    finished = snapshot(tmp_path / "out" / "ngram")

    result = llmbert(*ask)
    assert result.code == 0, result.err
    assert snapshot(tmp_path / "out" / "ngram") == finished
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    asked = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert asked["status"] == "done"
    assert {row["name"] for row in report["table"]} == set(EXACT) == {row["name"] for row in asked["table"]}
    ranked = [row["bits_per_byte"] for row in report["table"]]
    assert ranked == sorted(ranked)
    assert all(name in page and name in result.out for name in EXACT)
    assert "<svg" in page
    assert report["table"][0]["name"] in report["summary"]
    assert llmbert(*ask).code == 0  # and once more: nothing is trained again
    other = llmbert(*ask[:-1], "--budget=2s")
    assert (other.code, "another comparison" in other.err) == (1, True)


def test_a_comparison_reads_standard_input_once(text: Path, tmp_path: Path) -> None:
    ask = ["compare", "--data=-", "--out", tmp_path / "out", "--budget=1s", "--families=ngram, rnn", "--seeds=1"]
    result = llmbert(*ask, "--tokenizer=chars", stdin=text.read_bytes())
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "report.html").exists()
