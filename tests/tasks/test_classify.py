"""Texts → classes, numbers and vectors by a run's heads: in order, in batches, as a stream."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from llmbert.models.headed import Headed, HeadedSettings, HeadSettings
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import FORMAT, Run, load, save_model, write_json
from llmbert.tasks import classify as module
from llmbert.tasks.classify import classify, classify_stream, embed, estimate
from llmbert.text.tokenisers import train_tokeniser

TEXTS = ["the hill", "a", "春江潮水连海平", "low and clear in autumn", "where the river bends", ""]
TOKENISER = train_tokeniser("chars", TEXTS)
HEADS = {
    "topic": HeadSettings(task="classify", labels=("a", "b", "c")),
    "about": HeadSettings(task="multilabel", labels=("x", "y")),
    "grade": HeadSettings(task="regress", shift=50.0, scale=10.0),
    "sense": HeadSettings(task="embed"),
    "names": HeadSettings(task="tag", labels=("B-X", "I-X", "O")),
}


def made(folder: Path, heads: dict[str, HeadSettings] = HEADS, context: int = 32, **facts: Any) -> Run:
    """A run with random weights."""
    torch.manual_seed(0)
    shape = {"layers": 1, "width": 16, "heads": 2, "context": context}
    model = Headed(HeadedSettings(trunk="bert", trunk_settings=shape, heads=heads), TOKENISER.vocabulary_size)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    folder.mkdir(exist_ok=True)
    TOKENISER.save(folder)
    save_model(folder, model)
    known = {"kind": "chars", "vocabulary_size": TOKENISER.vocabulary_size, "fingerprint": TOKENISER.fingerprint}
    write_json(
        folder / "run.json", {"format": FORMAT, "status": "done", "family": "headed", "tokeniser": known} | facts
    )
    return load(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("runs") / "run")


def logits(run: Run, head: str, text: str) -> torch.Tensor:
    ids = torch.tensor([[2, *run.tokeniser.encode(text).tolist(), 3]])
    with torch.inference_mode():
        return run.model(head, ids, torch.ones_like(ids, dtype=torch.bool))[0]


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_classes_with_their_probabilities_in_the_order_of_the_texts(run: Run, batch: int) -> None:
    for text, found in zip(TEXTS, classify(run, TEXTS, head="topic", batch=batch), strict=True):
        shares = logits(run, "topic", text).softmax(-1)
        assert list(found["probabilities"]) == ["a", "b", "c"]
        assert list(found["probabilities"].values()) == pytest.approx(shares.tolist(), abs=1e-5)
        assert sum(found["probabilities"].values()) == pytest.approx(1.0)
        assert found["label"] == "abc"[int(shares.argmax())]


def test_several_classes_are_those_more_probable_than_not(run: Run) -> None:
    for text, found in zip(TEXTS, classify(run, TEXTS, head="about"), strict=True):
        shares = logits(run, "about", text).sigmoid().tolist()
        assert list(found["probabilities"].values()) == pytest.approx(shares, abs=1e-5)
        assert found["labels"] == [label for label, p in zip("xy", shares, strict=True) if p >= 0.5]


def test_numbers_are_in_the_unit_of_the_examples(run: Run) -> None:
    expected = [50 + 10 * float(logits(run, "grade", text)[0]) for text in TEXTS]
    assert estimate(run, TEXTS) == pytest.approx(expected, abs=1e-3)


def test_vectors(run: Run) -> None:
    vectors = embed(run, TEXTS)
    assert vectors.shape == (6, 16) and vectors.dtype == np.float32
    assert np.allclose(vectors, [logits(run, "sense", text).numpy() for text in TEXTS], atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert embed(run, []).shape == (0, 16)


def test_a_stream_is_read_piece_by_piece(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    asked = 0

    def endless() -> Any:
        nonlocal asked
        while True:
            asked += 1
            yield TEXTS[asked % len(TEXTS)]

    stream = classify_stream(run, endless(), head="topic")
    first = [next(stream) for _ in range(3)]
    assert asked == 4
    assert first[1]["label"] == classify(run, [TEXTS[2]], head="topic")[0]["label"]
    assert classify(run, TEXTS, head="topic") == list(classify_stream(run, iter(TEXTS), head="topic"))
    assert classify(run, [], head="topic") == []


def test_pairs_are_read_with_types(run: Run) -> None:
    found = classify(run, [("the hill", "a"), ("a", "the hill")], head="topic")
    ids = torch.tensor([[2, *TOKENISER.encode("the hill").tolist(), 3, *TOKENISER.encode("a").tolist(), 3]])
    types = torch.tensor([[0] * 10 + [1, 1]])
    with torch.inference_mode():
        shares = run.model("topic", ids, torch.ones_like(ids, dtype=torch.bool), types)[0].softmax(-1)
    assert list(found[0]["probabilities"].values()) == pytest.approx(shares.tolist(), abs=1e-5)
    with pytest.raises(UsageError, match="some texts are pairs"):
        classify(run, [("a", "b"), "c"], head="topic")
    with pytest.raises(UsageError, match="must be a string"):
        classify(run, [3], head="topic")  # type: ignore[list-item]


def test_texts_are_lower_cased_as_in_training(tmp_path: Path) -> None:
    small = made(tmp_path / "run", text={"lowercase": True})
    assert classify(small, ["THE Hill"], head="topic") == classify(small, ["the hill"], head="topic")
    assert classify(made(tmp_path / "b"), ["THE hill"], head="topic") != classify(small, ["the hill"], head="topic")


def test_a_text_that_is_too_long_is_told_of(tmp_path: Path) -> None:
    short = made(tmp_path / "run", context=8)
    with pytest.warns(UserWarning, match=r"4 of 6 texts are longer than the model's 8 tokens"):
        found = classify(short, TEXTS, head="topic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = classify(short, ["low an"], head="topic")[0]
    assert alone["label"] == found[3]["label"]
    assert alone["probabilities"] == pytest.approx(found[3]["probabilities"], abs=1e-6), "but for how sums are rounded"


def test_which_head_is_meant(run: Run, tmp_path: Path) -> None:
    assert classify(run.folder, ["a"], head="topic") == classify(run, ["a"], head="topic")
    with pytest.raises(
        UsageError, match=r"has 2 heads that can classify or multilabel; name one .* topic \(classify\)"
    ):
        classify(run, ["a"])
    with pytest.raises(UsageError, match="has no head 'grade' that can classify"):
        classify(run, ["a"], head="grade")
    lone = made(tmp_path / "run", {"topic": HEADS["topic"]})
    assert classify(lone, ["a"])
    with pytest.raises(UsageError, match="has 0 heads"):
        estimate(lone, ["a"])
    with pytest.raises(UsageError, match="without heads"):
        classify(Run(Path("x"), nn.Linear(1, 1), TOKENISER, {"family": "gpt"}), ["a"])


def test_what_a_run_with_heads_cannot_do_is_said(run: Run) -> None:
    for ask in (lambda: run.generate("a"), lambda: run.score("a"), lambda: run.logits([2, 4])):
        with pytest.raises(LLMBertError, match="predicts no tokens"):
            ask()
