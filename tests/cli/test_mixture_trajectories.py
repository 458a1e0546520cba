"""A mixture from the command line: members trained, weighed on what none of them saw, better than each, used."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from running import llmbert, start

import llmbert as library

WATERS, BEINGS = ("river", "sea", "lake"), ("men", "cattle")


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    lines = [
        f"On day {day} the {WATERS[day % 3]} rose by {day * 7 % 13} feet, and {BEINGS[day % 2]} fled."
        for day in range(900)
    ]
    path.write_text("\n".join(lines), "utf-8")
    return path


MEMBERS = "ngram order=4, gpt layers=2 width=48 heads=2 context=32"
OPTIONS = ["--tokenizer=chars", f"--set=members={MEMBERS}", "--set=steps=60"]


@pytest.fixture(scope="module")
def run(prose: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mix") / "run"
    result = llmbert("train", "--family=mixture", "--data", prose, "--out", out, *OPTIONS)
    assert result.code == 0, result.err
    return out


def facts_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text("utf-8")))


def test_it_is_better_than_each_of_its_members(run: Path) -> None:
    facts = facts_of(run)
    members = {name: facts_of(run / "members" / name) for name in ("ngram", "gpt")}
    assert facts["likelihood"] == "exact"
    assert all(facts["scores"]["bits_per_byte"] < each["scores"]["bits_per_byte"] for each in members.values())
    assert members["ngram"]["settings"]["model"]["order"] == 4 and members["gpt"]["settings"]["model"]["width"] == 48
    assert set(facts["mixture"]["shares"]) == {"ngram", "gpt"}
    kept = json.loads((run / ".." / facts["corpus"] / "corpus.json").resolve().read_text("utf-8"))["kept"]
    assert facts["mixture"]["kept_tokens"] == kept["tokens"] > 500
    assert facts["bytes_on_disk"] > sum(each["bytes_on_disk"] for each in members.values())
    page = (run / "report.html").read_text("utf-8")
    assert "ngram" in page and facts["mixture"]["way"] in page


def test_it_is_used_like_any_other(run: Path, prose: Path) -> None:
    scores = llmbert("evaluate", run, "--data", prose, "--json").json()
    assert scores["likelihood"] == "exact" and "sliding-32" in scores["signature"]
    made = llmbert("generate", run, "--prompt", "On day 1", "--max-tokens", "70", "--temperature", "0.3")
    assert made.code == 0 and len(made.out) > 20
    known = library.load(run)
    assert known.generate("On day", max_tokens=5, beams=2, temperature=0)
    assert known.logits([[2, 5, 6]]).shape[:2] == (1, 3)


def test_it_goes_with_its_folder(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "elsewhere"
    shutil.copytree(run, copy)
    assert library.load(copy).score("On day 3")["nats"] == library.load(run).score("On day 3")["nats"]
    shutil.rmtree(copy / "members" / "gpt")
    refused = llmbert("generate", copy, "--prompt", "a")
    assert refused.code == 1 and "gpt" in refused.err


def test_a_killed_one_goes_on(prose: Path, run: Path, tmp_path: Path) -> None:
    """Killed while a member learns: what is there is kept, and the end is the same."""
    out = tmp_path / "run"
    asked = ["train", "--family=mixture", "--data", prose, "--out", out, *OPTIONS, "--set=checkpoint_seconds=0"]
    process = start(asked, tmp_path / "err", threads=1)
    for _ in range(1200):
        if (out / "members" / "gpt" / "checkpoint.safetensors").exists():
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    again = llmbert("train", "--resume", out)
    assert again.code == 0, again.err
    assert facts_of(out)["scores"]["nats_per_token"] == facts_of(run)["scores"]["nats_per_token"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("gpt", "two members"),
        ("ngram, bert", "bert"),
        ("ngram, nothing", "nothing"),
        ("gpt, ngram smoothing=ml", "no probability"),
    ],
)
def test_what_cannot_be_mixed_is_refused(members: str, words: str, prose: Path, tmp_path: Path) -> None:
    result = llmbert("train", "--family=mixture", "--data", prose, "--out", tmp_path / "x", f"--set=members={members}")
    assert result.code == 2 and words in result.err, result.err
    assert not (tmp_path / "x").exists()


def test_members_share_what_a_budget_leaves_of_weighing_and_measuring(prose: Path, tmp_path: Path) -> None:
    members = "--set=members=gpt layers=1 width=16 heads=2 context=16, ngram order=3, rnn layers=1 width=16"
    out = tmp_path / "mixed"
    result = llmbert("train", "--family=mixture", "--data", prose, "--out", out, "--budget=6s", members)
    assert result.code == 0, result.err
    facts, counted, *learned = (
        json.loads((folder / "run.json").read_text("utf-8"))
        for folder in (out, *(out / "members" / name for name in ("ngram", "gpt", "rnn")))
    )
    assert counted["budget"] is None and list(facts["mixture"]["shares"]) == ["gpt", "ngram", "rnn"]
    shares = [member["budget"] for member in learned]
    assert shares[0] == shares[1] and 0.3 * 6 <= sum(shares) < 6
    assert facts["total_seconds"] < 20  # even the least that is measured takes seconds on a slow machine
