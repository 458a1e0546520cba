"""Killed at any moment and gone on with, a training ends in the same bytes as one that was never stopped."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from running import start, tiny

STEPS = 300
STEPS_A_LIFE = 25  # the most that a process takes before it is killed


def lines_in(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def finish(process: Any, err: Path) -> None:
    process.join(120)
    assert process.exitcode == 0, err.read_text()


@pytest.mark.parametrize(
    ("family", "kills", "more"),
    [
        ("gpt", 10, ["--set=dropout=0.1"]),
        ("lstm", 3, ["--set=dropout=0.1", "--set=average=0.98", "--set=optimiser=adamw", "--set=evaluate_every=7"]),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    family: str, kills: int, more: list[str], text: Path, tmp_path: Path
) -> None:
    err = tmp_path / "err"
    common = ["train", "--data", text, "--tokenizer", "bytes", *tiny(family)[:2]]
    common += [option for option in tiny(family)[2:] if "steps=" not in option] + more + [f"--set=steps={STEPS}"]
    whole, run = tmp_path / "whole", tmp_path / "killed"
    finish(start([*common, "--out", whole], err), err)

    draw = random.Random(f"{family} 0")
    first: list[str | Path] = [*common, "--set=checkpoint_seconds=0", "--out", run]
    again: list[str | Path] = ["train", "--resume", run]
    for kill in range(kills):
        process = start(again if (run / "run.json").exists() else first, err)
        # The first lives are cut short anywhere from their start on, the later ones in mid-training.
        if kill < 2:
            time.sleep(draw.uniform(0.0, 0.5))
        else:
            before, enough = lines_in(run / "log.jsonl"), draw.randint(1, STEPS_A_LIFE)
            while abs(lines_in(run / "log.jsonl") - before) < enough and process.is_alive():
                time.sleep(0.001)
            time.sleep(draw.uniform(0.0, 0.01))
        assert process.is_alive(), err.read_text()
        process.kill()
        process.join()
    finish(start(again if (run / "run.json").exists() else first, err), err)

    assert len(log_of(run)) == STEPS
    assert log_of(run) == log_of(whole)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    scores = [json.loads((folder / "run.json").read_text())["scores"] for folder in (run, whole)]
    assert scores[0] == scores[1]
    assert {file.name for file in run.iterdir()} == {file.name for file in whole.iterdir()}  # nothing left over
    assert not list((tmp_path / "corpora").glob(".*"))
