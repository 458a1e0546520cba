"""A comparison on the terminal: no column holds figures of two kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmbert.cli.making import print_comparison


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
