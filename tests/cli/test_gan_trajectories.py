"""A text GAN from the command line: trained in its phases, watched, stopped and gone on with, drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import llmbert

import llmbert as library
from llmbert.training.loop import Interrupted

WORDS = ("the", "a", "old", "small", "cat", "wolf", "owl", "sleeps", "sings", "runs")
LINES = [f"the {size} {beast} {deed}" for size in WORDS[2:4] for beast in WORDS[4:7] for deed in WORDS[7:]]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "beasts.txt"
    path.write_text("\n".join(LINES * 10) + "\n", "utf-8")
    return path


SMALL = {"width": 24, "filters": 8, "context": 8, "batch": 16, "learning_rate": 0.01, "rollouts": 2}


@pytest.mark.parametrize("way", ["policy", "relaxed"])
def test_it_learns_in_phases_and_is_watched(way: str, sentences: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [f"--set={key}={value}" for key, value in (SMALL | {"steps": 100, "adversarial": way}).items()]
    result = llmbert(
        "train", "--family=gan", "--data", sentences, "--lines", "--tokenizer=words", "--out", out,
        "--set=discriminator=recurrent", *settings,
    )  # fmt: skip
    assert result.code == 0, result.err
    facts = json.loads((out / "run.json").read_text("utf-8"))
    assert facts["likelihood"] == facts["scores"]["likelihood"] == "none"
    assert facts["scores"]["bits_per_byte"] is None
    log = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    kinds = ["real" if "real" in line else way if way in line else "nll" for line in log]
    assert kinds == ["nll"] * 60 + ["real"] * 10 + ([way] + ["real"] * 5) * 5
    watched = [line for line in log if "different_texts" in line]
    assert len(watched) == 20 and all(0 < line["distinct_pairs"] <= 1 for line in watched)
    assert log[59]["loss"] < log[0]["loss"] - 0.5
    assert facts["draws"]["distinct2"]["baseline"]["name"] == "held-out"
    page = (out / "report.html").read_text("utf-8")
    assert "self-BLEU-4" in page and "gives no text a probability" in page
    text = llmbert("generate", out, "--max-tokens", "8", "--seed", "1")
    assert text.code == 0 and set(text.out.split()) <= set(WORDS)
    refused = llmbert("evaluate", out, "--data", sentences)
    assert (refused.code, refused.out) == (2, "") and "gives no text a probability" in refused.err


@pytest.mark.parametrize("stop_at", [10, 33, 45])
def test_a_stopped_training_goes_on_as_if_it_had_not_been(stop_at: int, sentences: Path, tmp_path: Path) -> None:
    """Stopped while the generator learns alone, while the discriminator does, and in the rounds."""
    steps = {"steps": 50, "likelihood_steps": 30, "warm_steps": 8, "discriminator_every": 2}
    options: dict[str, Any] = {"lines": True, "tokenizer": "words", "settings": SMALL | steps}
    whole = library.train("gan", [sentences], tmp_path / "whole", **options)
    count = iter(range(100))
    with pytest.raises(Interrupted):
        library.train("gan", [sentences], tmp_path / "cut", stop=lambda: next(count) == stop_at, **options)
    again = library.resume(tmp_path / "cut")
    assert all((a == b).all() for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))
