"""A comparison: unless it is told otherwise every family is on its page, and no column holds figures of two kinds."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from llmbert.cli.making import print_comparison
from llmbert.metrics.bootstrap import mean_interval
from llmbert.models import FAMILIES
from llmbert.runs import load
from llmbert.workbench.compare import compare

WORDS = ["the", "river", "rises", "in", "hills", "and", "runs", "to", "sea", "where", "it", "bends", "a", "mill"]
TINY: dict[str, Any] = {"layers": 1, "width": 16, "context": 16, "steps": 4, "batch": 4, "preflight": False}
GIVEN: dict[str, dict[str, Any]] = {
    "ngram": {"order": 2},
    **dict.fromkeys(("rnn", "lstm", "gru", "vae"), TINY),
    **{name: TINY | {"heads": 2} for name in ("gpt", "bert", "transformer", "t5")},
    "gan": TINY | {"likelihood_steps": 2, "warm_steps": 1, "rollouts": 1, "filters": 4},
    "mixture": {"members": "ngram order=2, rnn layers=1 width=16 context=16", "steps": 4, "preflight": False},
}
KINDS = {"exact": 6, "conditional": 2, "bound": 1, "pseudo": 1, "none": 1}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, list[str]]:
    folder, draw, said = tmp_path_factory.mktemp("comparison"), random.Random(1), list[str]()
    text = "\n".join(" ".join(draw.choices(WORDS, k=10)) for _ in range(120)) + "\n"
    (folder / "text.txt").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmbert.workbench.evidence.TEXTS", 8)
        asked: dict[str, Any] = {"lines": True, "tokenizer": "chars", "budget": 1, "settings": GIVEN}
        content = compare(folder / "text.txt", folder / "out", announce=said.append, **asked)
    return content, folder / "out", said


def test_every_family_is_on_the_page(found: tuple[dict[str, Any], Path, list[str]]) -> None:
    content, out, said = found
    assert said[0].startswith(f"{len(FAMILIES)} families, 1 seed: about ")
    assert {row["name"] for row in content["table"]} == set(FAMILIES)
    page = (out / "report.html").read_text("utf-8")
    assert all(f">{name}<" in page or f"{name}\n" in page for name in FAMILIES)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder, draw = tmp_path_factory.mktemp("seeds"), random.Random(2)
    text = "\n".join(" ".join(draw.choices(WORDS, k=10)) for _ in range(120)) + "\n"
    (folder / "text.txt").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmbert.workbench.evidence.TEXTS", 8)
        asked: dict[str, Any] = {"lines": True, "tokenizer": "chars", "budget": 1, "settings": GIVEN, "seeds": 3}
        content = compare(folder / "text.txt", folder / "out", families=["ngram", "rnn", "gpt"], **asked)
    return content, folder / "out"


def test_several_seeds_are_a_mean_and_its_interval(seeds: tuple[dict[str, Any], Path]) -> None:
    content, out = seeds
    runs = {seed: load(out / f"rnn-{seed}") for seed in range(3)}
    bits = [run.facts["scores"]["bits_per_byte"] for run in runs.values()]
    assert len(set(bits)) == 3
    (rnn,) = (row for row in content["table"] if row["name"] == "rnn")
    assert rnn["bits_per_byte"] == pytest.approx(sum(bits) / 3)
    assert rnn["interval"] == pytest.approx(mean_interval(bits)) and rnn["interval"][0] < rnn["bits_per_byte"]
    assert rnn["perplexity"] == pytest.approx(math.exp(rnn["nats_per_token"]))
    assert rnn["note"] == "mean of 3 seeds: " + " · ".join(f"{value:.3f}" for value in bits)
    (counted,) = (row for row in content["table"] if row["name"] == "ngram")
    assert counted["interval"][0] == pytest.approx(counted["interval"][1]), "counting knows no luck"
    memory = [row for row in content["evidence"] if (row["name"], row["metric"]) == ("rnn", "peak_memory")]
    assert len(memory) == 1 and memory[0]["interval"][0] <= memory[0]["value"] <= memory[0]["interval"][1]


def test_each_seed_is_on_the_page_too(seeds: tuple[dict[str, Any], Path]) -> None:
    content, out = seeds
    page = (out / "report.html").read_text("utf-8")
    assert "3 families with 3 seeds each" in content["subtitle"]
    assert all(f"{name}-{seed}" in page for name in ("ngram", "rnn", "gpt") for seed in range(3))
    assert page.count("mean of 3 seeds: ") == 3 and len(content["seeds"]) == 9
    assert {sample["name"] for sample in content["samples"]} == {"ngram", "rnn", "gpt"}
    assert "seeds" in content["advice"][-1] and "--seeds" not in " ".join(content["advice"])


def test_no_column_holds_figures_of_two_kinds(
    found: tuple[dict[str, Any], Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    content, out, _ = found
    kinds = [row["likelihood"] for row in content["table"]]
    assert {kind: kinds.count(kind) for kind in kinds} == KINDS
    print_comparison(content, out)
    heading = ""
    for line in capsys.readouterr().out.splitlines():
        heading = line.split("95 %")[0] if line.startswith("model ") else heading
        if line.startswith(("transformer", "t5")):
            assert "nats/token given the rest" in heading
        if line.startswith(("vae  ", "bert  ", "gan  ")):
            assert any(kind in heading for kind in ("≤ bits/byte", "pseudo-bits/byte", "no likelihood"))
    assert all(row["nats_per_token"] > 0 for row in content["table"] if row["name"] in ("transformer", "t5"))
