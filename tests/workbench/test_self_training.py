"""Self-training: what is learned from, what a pseudo-label takes, and what is told of it."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmbert
from llmbert.protocols import LLMBertError, UsageError
from llmbert.tasks.classify import class_scores
from llmbert.workbench.curation import self_training
from llmbert.workbench.curation.self_training import _in_proportion, self_train
from llmbert.workbench.fine_tune import fine_tune

WORDS = {"water": ["river", "sea", "rain", "wave"], "land": ["hill", "mill", "town", "road"]}
SMALL = {"steps": 200, "learning_rate": 0.01, "layers": 1, "width": 16, "batch": 16, "patience": 20}


@pytest.fixture(autouse=True)
def plain_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    kinds = [draw.choice(list(WORDS)) for _ in range(count)]
    return [(" ".join(["the", draw.choice(WORDS[kind]), "and", draw.choice(WORDS[kind])]), kind) for kind in kinds]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in (("few", 60), ("held", 60)):
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows(count, len(name))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "many.txt").write_text("\n".join(text for text, _ in rows(150, 9)) + "\n")
    return tmp_path


def train(folder: Path, **asked: Any) -> dict[str, Any]:
    chosen = {"valid": [folder / "held.jsonl"], "lines": True, "family": "lstm", "tokenizer": "words", **asked}
    chosen = {"settings": SMALL, "rounds": 1, "least": 0.6, **chosen}
    return self_train([folder / "few.jsonl"], [folder / "many.txt"], folder / "out", **chosen)


def test_the_rounds_and_what_they_learn_from(folder: Path) -> None:
    found = train(folder)
    first, second = found["rounds"]
    assert found == json.loads((folder / "out" / "self_training.json").read_text("utf-8"))
    assert first["accuracy"]["n"] == 30 and first["unlabelled"] == 150 and first["accuracy"]["score"] > 80
    pseudo = [json.loads(line) for line in (folder / "out" / "pseudo-1.jsonl").read_text("utf-8").splitlines()]
    assert sum(first["pseudo_labels"].values()) == len(pseudo) > 20 and "pseudo_labels" not in second
    # a pseudo-label is what the first round says, and only where its scaled probability is high enough
    run = llmbert.load(folder / "out" / "round-0")
    texts = [text for text, _ in rows(150, 9)]
    labels, scores = class_scores(run, texts)
    shares = np.exp(scores / first["temperature"])
    shares /= shares.sum(1, keepdims=True)
    sure = {(text, labels[share.argmax()]) for text, share in zip(texts, shares, strict=True) if share.max() >= 0.6}
    assert {(each["text"], each["label"]) for each in pseudo} <= sure
    few = Counter(label for _, label in rows(60, 3))
    scale = {label: count / few[label] for label, count in first["pseudo_labels"].items()}
    assert set(scale) == set(few) and max(scale.values()) - min(scale.values()) <= 1 / min(few.values())
    assert found["best"] == ("round-1" if second["accuracy"]["score"] > first["accuracy"]["score"] else "round-0")
    assert 0 <= first["ece_after"]["score"] <= 100 and first["temperature"] > 0


def test_it_ends_where_nothing_is_sure(folder: Path) -> None:
    found = train(folder, settings={**SMALL, "steps": 1}, least=0.9999, rounds=3)
    assert len(found["rounds"]) == 1 and found["rounds"][0]["pseudo_labels"] == {}


@pytest.mark.parametrize("failure", [KeyboardInterrupt, LLMBertError])
def test_what_was_stopped_in_a_later_round_goes_on_from_there(
    failure: type[BaseException], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []

    def fails(task: str, data: Any, out: Path, **options: Any) -> Any:
        began.append(out.name)
        if began == ["round-0", "round-1"]:
            raise failure
        return fine_tune(task, data, out, **options)

    monkeypatch.setattr(self_training, "fine_tune", fails)
    with pytest.raises(LLMBertError) as stopped:
        train(folder)
    assert (folder / "out" / "round-0" / "run.json").exists() and "round-1" not in str(stopped.value)
    assert ("the same command" in str(stopped.value)) == (failure is KeyboardInterrupt)
    with pytest.raises(LLMBertError, match="another --out"):
        train(folder, least=0.7)
    found = train(folder)
    assert began == ["round-0", "round-1", "round-1"]
    monkeypatch.undo()
    (folder / "out").rename(folder / "before")
    assert found == train(folder), "as if it had never been stopped"
    with pytest.raises(LLMBertError, match="another --out"):
        train(folder)


@pytest.mark.parametrize(
    ("asked", "kind", "word"),
    [
        ({"rounds": 0}, UsageError, "rounds"),
        ({"least": 1.5}, UsageError, "least"),
        ({"seed": 2**63}, UsageError, "seed"),
        ({"fields": {"tokens": "x"}}, UsageError, "text= and label="),
        ({"valid": None, "fields": {"text": "body"}}, LLMBertError, "body"),
    ],
)
def test_what_is_asked_wrongly_leaves_nothing(folder: Path, asked: Any, kind: type[Exception], word: str) -> None:
    with pytest.raises(kind, match=word):
        train(folder, **asked)
    assert not (folder / "out").exists()


def test_too_few_held_out_ones_or_a_strange_label(folder: Path) -> None:
    (folder / "held.jsonl").write_text('{"text": "a", "label": "land"}\n')
    with pytest.raises(LLMBertError, match="too few"):
        train(folder)
    (folder / "held.jsonl").write_text('{"text": "a", "label": "air"}\n' * 30)
    with pytest.raises(LLMBertError, match="'air'"):
        train(folder)


def test_the_surest_of_each_class_are_taken_in_proportion() -> None:
    sure = [(0.9, "a", "x"), (0.99, "b", "x"), (0.95, "c", "x"), (0.91, "d", "y")]
    assert _in_proportion(sure, {"x": 20, "y": 10}) == [("b", "x"), ("c", "x"), ("d", "y")]
    assert _in_proportion(sure[:3], {"x": 20, "y": 10}) == []
