"""The verb train, from Python: what it leaves behind, and what it adds when asked."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

import llmbert
from llmbert.protocols import silent
from llmbert.training.loop import Interrupted
from llmbert.workbench.settings import Asked
from llmbert.workbench.train import prepare, resume

SMALL: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "context": 16, "steps": 12, "batch": 4}


def test_a_run_folder_holds_what_it_promises(prose: Path, tmp_path: Path) -> None:
    run = llmbert.train("gpt", prose, tmp_path / "run", settings=SMALL, tokenizer="bytes")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "report.html",
        "report.json",
        "run.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    facts = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert facts["status"] == "done"
    assert facts["settings"]["training"]["steps"] == 12
    assert facts["data"]["fingerprint"]
    assert facts["scores"] == run.facts["scores"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))


def test_tensorboard_gets_every_step(prose: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    llmbert.train("gpt", prose, tmp_path / "run", settings=SMALL, tokenizer="bytes", tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss")]
    log = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert losses == pytest.approx(log)


def test_tensorboard_has_all_that_was_told_however_a_training_ends(
    prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    ends: list[str] = []
    monkeypatch.setattr(tensorboard.SummaryWriter, "close", lambda writer: ends.append(writer.log_dir))
    asked: dict[str, Any] = {"settings": SMALL, "tokenizer": "bytes", "tensorboard": True}
    llmbert.train("gpt", prose, tmp_path / "done", **asked)
    with pytest.raises(Interrupted):
        llmbert.train("gpt", prose, tmp_path / "stopped", stop=lambda: True, **asked)
    assert [Path(folder).parent.name for folder in ends] == ["done", "stopped"]


@pytest.mark.parametrize("family", ["mixture", "ngram"])
def test_what_takes_no_steps_tells_tensorboard_nothing(family: str, prose: Path, tmp_path: Path) -> None:
    settings = {"members": "ngram order=2, ngram order=3"} if family == "mixture" else {}
    with pytest.raises(llmbert.UsageError, match="--tensorboard"):
        llmbert.train(family, prose, tmp_path / "run", settings=settings, tokenizer="bytes", tensorboard=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("family", "settings"), [("ngram", {"alpha": 0.5}), ("mixture", {"members": "ngram order=2 alpha=0.5, ngram"})]
)
def test_a_shape_that_would_come_to_nothing_leaves_nothing_behind(
    family: str, settings: dict[str, Any], prose: Path, tmp_path: Path
) -> None:
    with pytest.raises(llmbert.UsageError, match="alpha makes no difference to this ngram; it is for smoothing=addit"):
        llmbert.train(family, prose, tmp_path / "run", settings=settings, tokenizer="bytes")
    assert not (tmp_path / "run").exists()


def test_a_training_with_noise_tells_tensorboard_no_losses(prose: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"settings": SMALL | {"noise": "1.0"}, "tokenizer": "bytes", "tensorboard": True}
    with pytest.raises(llmbert.UsageError, match="leave out --tensorboard"):
        llmbert.train("gpt", prose, tmp_path / "run", **asked)
    assert not list(tmp_path.iterdir())


def test_a_given_tokeniser_is_taken_as_it_is(prose: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    llmbert.train("gpt", prose, base, settings=SMALL, tokenizer="bytes")
    further: dict[str, Any] = {"steps": 1, "preflight": False}
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("--tokenizer", {"base": base, "tokenizer": "words", "settings": further}),
        ("vocabulary_size", {"base": base, "settings": further | {"vocabulary_size": 999}}),
        ("vocabulary_size", {"tokenizer": str(base), "settings": SMALL | {"vocabulary_size": 999}}),
    ]
    for word, asked in wrong:
        with pytest.raises(llmbert.UsageError, match=f"leave out .*{word}"):
            llmbert.train("gpt", prose, tmp_path / "run", **asked)
    run = llmbert.train("gpt", prose, tmp_path / "run", base=base, tokenizer=str(base), settings=further)
    assert run.tokeniser.kind == "bytes"


def test_what_was_stopped_and_goes_on_has_taken_the_time_of_both(prose: Path, tmp_path: Path) -> None:
    """A mixture is stopped in its second member."""
    steps, began = iter(range(100)), time.monotonic()
    shape = "layers=1 width=16 context=16"
    settings = {"members": f"rnn {shape}, lstm {shape}", "steps": 12, "batch": 4, "preflight": False}
    with pytest.raises(Interrupted):
        llmbert.train(
            "mixture", prose, tmp_path / "run", settings=settings, tokenizer="bytes", stop=lambda: next(steps) > 16
        )
    first = time.monotonic() - began
    run, both = resume(tmp_path / "run"), time.monotonic() - began
    members = [llmbert.load(tmp_path / "run" / "members" / name).facts for name in ("rnn", "lstm")]
    assert run.facts["train_seconds"] >= sum(member["train_seconds"] for member in members)
    assert first < run.facts["total_seconds"] <= both + 0.1 and "elapsed_seconds" not in run.facts
    assert all(member["total_seconds"] >= member["train_seconds"] for member in members)


def test_a_finished_run_stays_where_its_trail_cannot_be_written(prose: Path, tmp_path: Path) -> None:
    (tmp_path / "corpora" / "trail.jsonl").mkdir(parents=True)
    with pytest.warns(UserWarning, match="audit trail"):
        run = llmbert.train("ngram", prose, tmp_path / "run", settings={"order": 2}, tokenizer="bytes")
    assert run.facts["status"] == "done" and llmbert.load(tmp_path / "run").score("a river")["nats"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_what_fails_after_a_run_is_done_takes_nothing_from_it(
    failure: type[BaseException], prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise failure

    monkeypatch.setattr("llmbert.workbench.train.load", fails)
    with pytest.raises(Interrupted if failure is KeyboardInterrupt else failure) as raised:
        llmbert.train("ngram", prose, tmp_path / "run", settings={"order": 2}, tokenizer="bytes")
    assert "--resume" not in str(raised.value), "there is nothing to go on with"
    assert llmbert.load(tmp_path / "run").facts["status"] == "done"


def test_without_tensorboard_the_extra_is_named(prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(llmbert.LLMBertError, match=r"llmbert\[track\]"):
        llmbert.train("gpt", prose, tmp_path / "run", settings=SMALL, tokenizer="bytes", tensorboard=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_speaks_one_language(prose: Path, tmp_path: Path, language: str) -> None:
    llmbert.train("ngram", prose, tmp_path / "run", tokenizer="chars", language=language)
    content = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    said = content["summary"] + content["subtitle"] + content["data"]["overlap"] + content["data"]["rows"][0][0]
    assert any("\u4e00" <= c <= "\u9fff" for c in said) is (language == "zh")


def test_an_ngram_run_becomes_an_arpa_file_that_kenlm_reads(prose: Path, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    run = llmbert.train("ngram", prose, tmp_path / "run", tokenizer="words", lines=True, settings={"order": 3})
    run.write_arpa(tmp_path / "model.arpa")
    other = kenlm.Model(str(tmp_path / "model.arpa"))
    for line in prose.read_text("utf-8").splitlines()[:20]:
        assert other.score(line) == pytest.approx(-run.score(line)["nats"][0] / math.log(10), rel=1e-4)


def test_only_an_ngram_becomes_an_arpa_file(prose: Path, tmp_path: Path) -> None:
    run = llmbert.train("gpt", prose, tmp_path / "run", settings=SMALL, tokenizer="bytes")
    with pytest.raises(llmbert.UsageError, match="n-gram"):
        run.write_arpa(tmp_path / "model.arpa")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_private_run_tells_nothing_of_its_text_but_what_it_says(tmp_path: Path, language: str) -> None:
    pytest.importorskip("opacus", reason="opacus, which keeps account of privacy, is not installed")
    text = tmp_path / "mail.txt"
    text.write_text("".join(f"letter {i} of the quiet river\n" for i in range(200)), encoding="utf-8")
    pages = {}
    for noise in (0.0, 2.0):
        asked: dict[str, Any] = {"lines": True, "tokenizer": "bytes", "language": language}
        run = llmbert.train("ngram", text, tmp_path / f"run-{noise}", settings={"order": 2, "noise": noise}, **asked)
        pages[noise] = json.loads((run.folder / "report.json").read_text("utf-8"))
        assert ("overlap" in run.facts["data"]) == (not noise)
        assert ("xz" in (run.folder / "README.md").read_text("utf-8")) == (not noise)
    assert len(pages[0.0]["baselines"]) == 3 and pages[2.0]["baselines"] == []
    assert any(sample["prompt"] for sample in pages[0.0]["samples"])
    assert not any(sample["prompt"] for sample in pages[2.0]["samples"])
    assert "%" not in pages[2.0]["data"]["overlap"]
    (told,) = (value for _, value in pages[2.0]["data"]["rows"] if value.startswith(("ε =", "每篇文档 ε")))
    assert ("held out" in told and "fingerprints" in told) or ("留出文本" in told and "指纹" in told)


def test_a_private_run_tells_how_it_learned(prose: Path, tmp_path: Path) -> None:
    pytest.importorskip("opacus", reason="opacus, which clips and accounts, is not installed")
    settings = {**SMALL, "steps": 2, "noise": 1.0}
    run = llmbert.train("gpt", prose, tmp_path / "run", lines=True, settings=settings, tokenizer="bytes")
    assert run.facts["settings"]["training"]["optimiser"] == "adam", "and not what a training without noise is by"


def test_a_private_training_that_is_stopped_is_no_finished_run(prose: Path, tmp_path: Path) -> None:
    pytest.importorskip("opacus", reason="opacus, which clips and accounts, is not installed")
    asked = iter(range(100))
    settings = {**SMALL, "steps": 400, "noise": 1.0, "preflight": False}
    known: dict[str, Any] = {"lines": True, "settings": settings, "tokenizer": "bytes"}
    with pytest.raises(Interrupted, match=r"stopped at step 3 of 400; .* nothing of it is kept") as told:
        llmbert.train("gpt", prose, tmp_path / "run", stop=lambda: next(asked) >= 3, **known)
    assert "--resume" not in str(told.value) and not (tmp_path / "run").exists()


def test_noise_is_refused_where_the_base_of_the_base_has_read_the_text(prose: Path, tmp_path: Path) -> None:
    pytest.importorskip("opacus", reason="opacus, which clips and accounts, is not installed")
    other = tmp_path / "other.txt"
    other.write_text(prose.read_text("utf-8")[::-1], encoding="utf-8")
    first, second = tmp_path / "first", tmp_path / "second"
    llmbert.train("gpt", prose, first, settings=SMALL, tokenizer="bytes")
    further = {"steps": 2, "preflight": False}
    llmbert.train("gpt", other, second, settings=further, base=first)
    with pytest.raises(llmbert.LLMBertError, match="first has read this text without noise"):
        llmbert.train("gpt", prose, tmp_path / "third", settings=further | {"noise": 1.0}, base=second)


PAIRS: dict[str, Any] = {
    "layers": 1, "width": 16, "heads": 2, "context": 12, "steps": 8, "batch": 8, "learning_rate": 0.01, "dropout": 0
}  # fmt: skip


@pytest.mark.parametrize("keep_end", [False, True])
def test_a_run_is_measured_and_evaluated_on_the_part_of_a_source_it_learned_from(
    keep_end: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"w{i}" for i in range(30)]
    for name, shift in (("train", 0), ("valid", 7)):
        rows = [" ".join(words[(i * 3 + j + shift) % 30] for j in range(20)) for i in range(40)]
        (tmp_path / f"{name}.source").write_text("\n".join(rows), "utf-8")
        (tmp_path / f"{name}.target").write_text("\n".join(f"{row.split()[-1]} {i}" for i, row in enumerate(rows)))
    train, valid = ([tmp_path / f"{name}.{side}" for side in ("source", "target")] for name in ("train", "valid"))
    asked: list[str] = []

    def listen(run: Any, sources: Any, *rest: Any) -> list[str]:
        asked.extend(sources)
        return [""] * len(sources)

    monkeypatch.setattr("llmbert.workbench.measure.ask", listen)
    run = llmbert.train(
        "transformer", train, tmp_path / "run", valid=valid, settings=PAIRS | {"keep_end": keep_end}, tokenizer="words"
    )
    sources = (tmp_path / "valid.source").read_text("utf-8").splitlines()
    part = slice(-11, None) if keep_end else slice(11)
    assert set(asked) == {" ".join(source.split()[part]) for source in sources}
    with pytest.warns(UserWarning, match="kept: tail" if keep_end else "kept: head"):
        scores = llmbert.evaluate(run, valid)
    told = run.facts["scores"]
    assert scores["nats_per_token"] == pytest.approx(told["nats_per_token"], rel=1e-5)
    assert (scores["tokens"], scores["signature"]) == (told["tokens"], told["signature"])


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"task": "chat"}, True), ({}, False), ({"task": "chat", "keep_end": False}, False), ({"turns": True}, True)],
)
def test_a_conversation_counts_by_its_last_turns_where_nobody_said(
    options: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    data, fields = tmp_path / "talks.jsonl", {"source": "a", "target": "b"}
    rows: list[dict[str, Any]] = [{"a": f"hi {i}", "b": f"well {i}", "c": [f"hi {i}", f"well {i}"]} for i in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = PAIRS | ({"keep_end": options["keep_end"]} if "keep_end" in options else {})
    asked = Asked(
        "transformer", data, tmp_path / "run", fields={"turns": "c"} if "turns" in options else fields,
        task=options.get("task"), tokenizer="words", settings=settings,
    )  # fmt: skip
    assert prepare(asked, silent, time.monotonic()).plan.training.keep_end is kept
