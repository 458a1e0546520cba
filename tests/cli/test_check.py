"""The verb check: a line a check, exit codes, one JSON object; and train, which runs the quick part first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from running import TINY, llmbert, tiny

import llmbert as library
from llmbert.workbench import lessons
from llmbert.workbench.preflight import CHECKS

QUICK = "labels,future,cache,loss,optimisers"


def test_a_finished_run_is_checked_line_by_line(runs: Path) -> None:
    result = llmbert("check", runs / "gpt", "--only", f"{QUICK},memory")
    assert result.code == 0, result.out + result.err
    lines = [line.split() for line in result.out.splitlines() if line and not line.startswith(" ")]
    assert [line[:2] for line in lines[:-1]] == [
        *(["ok", name] for name in QUICK.split(",")),
        ["skipped", "memory"],
    ]
    assert lines[-1][:6] == ["5", "ok,", "0", "failed,", "1", "skipped"]
    assert "→" in result.out, "rows of labels are shown"


def test_one_json_object(runs: Path) -> None:
    found = llmbert("check", runs / "ngram", "--json").json()
    assert found["ok"] is True
    assert [each["name"] for each in found["checks"]] == list(CHECKS)
    assert {each["status"] for each in found["checks"]} == {"ok", "skipped"}


def test_a_training_is_checked_by_the_arguments_of_train(text: Path, tmp_path: Path) -> None:
    asked = ["--data", text, "--tokenizer", "bytes", *tiny("lstm"), "--only", "optimisers,first loss"]
    assert llmbert("check", *asked).code == 0
    assert llmbert("check", *asked, "--out", tmp_path / "run").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["corpora"], "the text stays for train, and no run is made"


def test_a_failed_check_leaves_with_1_and_says_the_mend(text: Path) -> None:
    rates = ["--set=learning_rate=50", "--set=optimiser=adamw", "--set=clip_norm=none", "--set=schedule=constant"]
    result = llmbert("check", "--data", text, "--tokenizer", "bytes", *tiny("gpt"), *rates, "--only", "rate")
    assert result.code == 1
    assert result.out.startswith("failed  rate")
    assert "learning_rate" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--family and --data"),
        (["--family", "gpt"], "--family and --data"),
        (["RUN", "--family", "gpt"], "leave out family"),
        (["RUN", "--only", "cash"], "did you mean 'cache'"),
    ],
)
def test_wrong_usage_leaves_with_2(arguments: list[str], said: str, runs: Path) -> None:
    result = llmbert("check", *(str(runs / "gpt") if each == "RUN" else each for each in arguments))
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


def test_a_run_without_its_text_is_refused_in_a_sentence(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "gpt", tmp_path / "gpt")
    result = llmbert("check", tmp_path / "gpt")
    assert result.code == 1
    assert "corpora" in result.err


def test_train_stops_at_a_fault_and_can_be_told_not_to(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_scored(*given: object) -> object:
        made = teach(*given)  # type: ignore[arg-type]
        gather = made.batches._gather
        made.batches._gather = lambda firsts: gather(firsts).__class__(
            (batch := gather(firsts)).inputs, batch.targets.roll(1, 1), batch.segments
        )
        return made

    teach = lessons.teach_causal
    monkeypatch.setitem(lessons.OBJECTIVES, "causal", lessons.Objective(nothing_scored, "documents"))
    asked = ["train", "--data", text, "--tokenizer", "bytes", "--out", tmp_path / "run", "--family", "gpt", *TINY]
    stopped = llmbert(*asked, "--set=heads=2")
    assert stopped.code == 1
    assert "'labels'" in stopped.err and "preflight=false" in stopped.err
    assert not (tmp_path / "run").exists()
    assert llmbert(*asked, "--set=heads=2", "--set=preflight=false").code == 0


def test_the_quick_part_changes_no_training(text: Path, tmp_path: Path) -> None:
    for name in ("true", "false"):
        out = tmp_path / name
        asked = ["--data", text, "--tokenizer", "bytes", "--out", out, *tiny("gpt"), "--set=dropout=0.2"]
        assert llmbert("train", *asked, f"--set=preflight={name}").code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("true", "false")]
    assert weights[0] == weights[1]
    logs = [(tmp_path / name / "log.jsonl").read_text("utf-8").splitlines() for name in ("true", "false")]
    assert [json.loads(line)["loss"] for line in logs[0]] == [json.loads(line)["loss"] for line in logs[1]]


def test_from_python(runs: Path, text: Path) -> None:
    results = library.check(runs / "lstm", only=["memory", "cache"])
    assert [(each.name, each.status) for each in results] == [("memory", "ok"), ("cache", "ok")]
    with pytest.raises(library.UsageError, match=r"tokenizer"):
        library.check(family="gpt", data=text, tokeniser="bytes")
