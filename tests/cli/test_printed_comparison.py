"""Figures on the terminal: no column holds those of two kinds, and no interval stands where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import llmbert

from llmbert.cli.making import print_comparison
from llmbert.workbench.curation import self_training


def row(name: str, likelihood: str, bits: float | None) -> dict[str, Any]:
    figures = {"train_seconds": 61.0, "tokens_per_second": 1234.0, "bytes_on_disk": 2_000_000}
    return {"name": name, "likelihood": likelihood, "bits_per_byte": bits, "interval": None, **figures}


def test_each_kind_has_its_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("gpt", "exact", 1.7), row("vae", "bound", 1.9), row("lstm", "exact", 1.8), row("gan", "none", None)]
    content = {
        "table": [*rows, row("bert", "pseudo", 0.4)],
        "baselines": [{"name": "xz", "bits_per_byte": 2.1}],
        "samples": [],
        "data": {"overlap": "none"},
        "summary": "The best is gpt.",
    }
    print_comparison(content, Path("out"))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    firsts = [words[0] for words in lines]
    assert firsts[:11] == ["model", "gpt", "lstm", "xz", "model", "vae", "model", "bert", "model", "gan", "none"]
    headings = [" ".join(words[1:3]) for words in lines if words[0] == "model"]
    assert headings == ["bits/byte 95", "≤ bits/byte", "pseudo-bits/byte 95", "no likelihood"]


def test_what_needs_no_training_stands_beside_bits_alone(capsys: pytest.CaptureFixture[str]) -> None:
    t5, vae = row("t5", "conditional", None) | {"nats_per_token": 2.5}, row("vae", "bound", 2.0)
    trivial = [{"name": "uniform bytes", "bits_per_byte": 8.0}]
    content = {"samples": [], "baselines": trivial, "data": {"overlap": ""}, "summary": ""}
    print_comparison(content | {"table": [t5]}, Path("out"))
    assert "uniform bytes" not in capsys.readouterr().out
    print_comparison(content | {"table": [t5, vae]}, Path("out"))
    said = capsys.readouterr().out
    assert said.index("≤ bits/byte") < said.index("uniform bytes") < said.index("nats/token given the rest")


def test_rounds_of_self_training_show_an_interval_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    common = {"ece_before": {"score": 9.0}, "ece_after": {"score": 2.0}, "temperature": 1.5}
    rounds = [
        {"run": name, "accuracy": {"score": 75.0, "interval": interval}} | common
        for name, interval in (("round-0", None), ("round-1", [60.0, 90.0]))
    ]
    monkeypatch.setattr(self_training, "self_train", lambda *given, **named: {"rounds": rounds, "best": "round-1"})
    told = llmbert("self-train", "--data=a.tsv", "--unlabelled=b.txt", "--out=some runs").out.splitlines()
    assert told[0].startswith("round-0: accuracy 75.00, calibration")
    assert told[1].startswith("round-1: accuracy 75.00 (60.00 to 90.00), calibration")
    assert told[2] == "some runs/round-1: llmbert classify 'some runs/round-1' --in … uses it"
