"""A comparison: unless it is told otherwise every family is on its page, and no column holds figures of two kinds."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmbert.cli.making import print_comparison
from llmbert.metrics.bootstrap import mean_interval
from llmbert.models import FAMILIES
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import load
from llmbert.workbench.compare import compare, over_seeds
from llmbert.workbench.train import train

WORDS = ["the", "river", "rises", "in", "hills", "and", "runs", "to", "sea", "where", "it", "bends", "a", "mill"]
TINY: dict[str, Any] = {"layers": 1, "width": 16, "context": 16, "steps": 4, "batch": 4, "preflight": False}
GIVEN: dict[str, dict[str, Any]] = {
    "ngram": {"order": 2},
    **dict.fromkeys(("rnn", "lstm", "gru", "vae"), TINY),
    **{name: TINY | {"heads": 2} for name in ("gpt", "bert", "transformer", "t5")},
    "gan": TINY | {"likelihood_steps": 2, "warm_steps": 1, "rollouts": 1, "filters": 4},
    "mixture": {"members": "ngram order=2, rnn layers=1 width=16 context=16", "steps": 4, "preflight": False},
}
UNLIKE = {
    "ngram": "bits/byte",
    "vae": "≤ bits/byte",
    "bert": "pseudo-bits/byte",
    "transformer": "nats/token given the rest",
    "t5": "nats/token given the rest",
    "gan": "no likelihood",
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
    assert counted["interval"] is None, "counting knows no luck"
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
    heading, seen = "", set()
    for line in capsys.readouterr().out.splitlines():
        heading = line.split("95 %")[0] if line.startswith("model ") else heading
        name = next((each for each in UNLIKE if line.startswith(f"{each}  ")), None)
        if name:
            assert heading.split()[1:] == UNLIKE[name].split()
            seen.add(name)
    assert seen == set(UNLIKE)
    assert all(row["nats_per_token"] > 0 for row in content["table"] if row["name"] in ("transformer", "t5"))


def test_what_cannot_be_trained_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, said = random.Random(3), list[str]()
    (tmp_path / "text.txt").write_text(" ".join(draw.choices(WORDS, k=1500)), encoding="utf-8")
    monkeypatch.setattr("llmbert.workbench.evidence.TEXTS", 8)

    def one_fails(family: str, *asked: Any, **more: Any) -> Any:
        if family == "rnn":
            raise LLMBertError("the loss is no number at step 3; lower --set learning_rate")
        return train(family, *asked, **more)

    monkeypatch.setattr("llmbert.workbench.compare.train", one_fails)
    asked: dict[str, Any] = {"tokenizer": "chars", "budget": 1, "settings": GIVEN, "seeds": 2}
    names = ["ngram", "rnn", "gpt", "gpt"]
    content = compare(tmp_path / "text.txt", tmp_path / "out", families=names, announce=said.append, **asked)
    assert {row["name"] for row in content["table"]} == {"ngram", "gpt"} and "2 families" in content["subtitle"]
    assert content["advice"][-1] == (
        "rnn could not be trained: the loss is no number at step 3; lower --set learning_rate."
    )
    assert sum("rnn is left out" in line for line in said) == 1
    assert "rnn could not be trained" in (tmp_path / "out" / "report.html").read_text("utf-8")
    with pytest.raises(LLMBertError, match="no number at step 3"):
        compare(tmp_path / "text.txt", tmp_path / "none", families=["rnn"], **asked | {"settings": None})


@pytest.mark.parametrize("key", ["seed", "vocabulary_size"])
def test_what_all_families_share_is_no_setting_of_one(key: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"share the {key} of the comparison"):
        compare(tmp_path / "text.txt", tmp_path / "out", settings={"lstm": {key: 300}}, families=["lstm"], seeds=2)


def test_other_settings_are_another_comparison_and_another_run_has_evidence_of_its_own(tmp_path: Path) -> None:
    draw = random.Random(4)
    text = "\n".join(" ".join(draw.choices(WORDS, k=10)) for _ in range(120)) + "\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    asked: dict[str, Any] = {"lines": True, "tokenizer": "chars", "budget": 1, "families": ["ngram"]}
    given = {"settings": {"ngram": {"order": 2}}}
    first = compare(tmp_path / "text.txt", tmp_path / "out", **asked, **given)
    again = compare(tmp_path / "text.txt", tmp_path / "out", **asked, **given)
    assert again["evidence"] == first["evidence"], "measured once"
    for other in ({"settings": {"ngram": {"order": 5}}}, {}):
        with pytest.raises(LLMBertError, match="already holds another comparison"):
            compare(tmp_path / "text.txt", tmp_path / "out", **asked, **other)
    shutil.rmtree(tmp_path / "out" / "ngram")
    train(
        "ngram", tmp_path / "text.txt", tmp_path / "out" / "ngram", lines=True, tokenizer="chars", settings={"order": 1}
    )
    anew = compare(tmp_path / "text.txt", tmp_path / "out", **asked, **given)
    reverse = [next(row["value"] for row in found["evidence"] if row["metric"] == "reverse") for found in (first, anew)]
    assert reverse[1] > reverse[0] + 0.1, "the texts of the run that lies there now"


def test_a_line_over_seeds_says_what_held_for_some_of_them() -> None:
    line: dict[str, Any] = {"name": "vae-0", "bits_per_byte": 1.9, "nats_per_token": 900.0, "collapsed": True}
    rows = [
        line | {"note": "latent variable collapsed"},
        line | {"bits_per_byte": 2.5, "collapsed": False, "note": None},
    ]
    found = over_seeds("vae", rows, "en")
    assert found["interval"][0] == 0.0 and found["interval"][1] > 5, "two seeds tell next to nothing"
    assert not found["collapsed"] and found["note"].endswith("latent variable collapsed (1/2)")
    assert found["perplexity"] is None, "beyond all numbers"
