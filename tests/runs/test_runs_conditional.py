"""A run that reads a source: one by one, in batches, in beams and in pieces it writes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmbert.models.t5 import T5, T5Settings
from llmbert.models.transformer import Transformer, TransformerSettings
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import FORMAT, Run, load, pair_scoring, save_model, write_json
from llmbert.runs.pair_scoring import pair_nats
from llmbert.text.tokenisers import Tokeniser, train_tokeniser

TEXT = "the river rises in the hills and runs to the sea. 春江潮水连海平,海上明月共潮生。 Ein Fluß läuft ins Meer. 🎉 "
SOURCES = [
    "the river",
    "明月",
    "a",
    "the river rises in the hills and runs",
    "Fluß läuft ins Meer. 🎉",
    "",
    "the river",
]


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    return train_tokeniser("bpe", [TEXT * 3], 320)


def build(family: str, vocabulary_size: int) -> Any:
    torch.manual_seed(3)
    shape = {"layers": 2, "width": 24, "heads": 2, "dropout": 0.0}
    model = (
        T5(T5Settings(**shape), vocabulary_size)
        if family == "t5"
        else Transformer(TransformerSettings(**shape, context=80, pointer=family == "pointer"), vocabulary_size)
    )
    for name, weight in model.named_parameters():
        if "norm" not in name and "pointer" not in name:  # what is read is to make a difference
            torch.nn.init.normal_(weight, std=1.5 if "cross" in name else 0.3)
    if family == "pointer":  # choosing from the vocabulary, mostly: a copied end token makes most texts empty
        torch.nn.init.constant_(model.pointer.gate.bias, 4.0)
    return model.eval()


@pytest.fixture(scope="module", params=["transformer", "pointer", "t5"])
def run(request: pytest.FixtureRequest, tokeniser: Tokeniser, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run written to a folder and loaded again."""
    folder = tmp_path_factory.mktemp(request.param)
    tokeniser.save(folder)
    family = "t5" if request.param == "t5" else "transformer"
    save_model(folder, build(request.param, tokeniser.vocabulary_size))
    write_json(folder / "run.json", {"format": FORMAT, "family": family, "status": "done"})
    return load(folder)


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"beams": 3, "temperature": 0},
    {"beams": 2, "temperature": 0, "length_penalty": 0.6, "no_repeat_ngram": 2},
    {"seed": 5, "top_k": 20},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
def test_many_at_once_are_what_each_is_alone(run: Run, settings: dict[str, Any]) -> None:
    seed = settings.get("seed", 0)
    alone = [
        run.generate(source=source, max_tokens=20, **{**settings, "seed": seed + i}) for i, source in enumerate(SOURCES)
    ]
    for batch in (1, 3, 50):
        told: list[tuple[float, float | None]] = []
        many = run.generate_many(
            sources=SOURCES,
            batch=batch,
            max_tokens=20,
            progress=lambda stage, done, total=None, told=told, **figures: told.append((done, total)),
            **settings,
        )
        assert many == alone
        assert list(dict.fromkeys(told)) == [(i, 7) for i in range(8)]  # with every step anew
    assert len(set(alone)) > 3  # what is read makes a difference


def test_a_target_may_be_begun_and_each_its_own_way(run: Run) -> None:
    prompts = ["the ", "", "明月共", "", "the ", "", "a"]
    many = run.generate_many(prompts, SOURCES, max_tokens=9, temperature=0, batch=4)
    alone = [
        run.generate(prompt, source, max_tokens=9, temperature=0)
        for prompt, source in zip(prompts, SOURCES, strict=True)
    ]
    assert many == alone


@pytest.mark.parametrize("settings", SETTINGS[:2], ids=range(2))
def test_pieces_are_whole_characters_and_together_the_text(run: Run, settings: dict[str, Any]) -> None:
    for source in SOURCES:
        pieces = list(run.stream(source=source, max_tokens=30, **settings))
        assert "".join(pieces) == run.generate(source=source, max_tokens=30, **settings)
        assert all(pieces)
        assert "\ufffd" not in "".join(pieces)


def test_logits_are_the_models_and_padding_changes_nothing(run: Run) -> None:
    sources = [run.encode_source(text) for text in SOURCES[:3]]
    assert all(ids[-1] == run.tokeniser.end_id and 2 not in ids for ids in sources)
    targets = np.array([run.document_ids("the sea")[:-1]] * 3)
    longest = max(map(len, sources))
    block = np.array([ids + [0] * (longest - len(ids)) for ids in sources])
    mask = np.arange(longest) < np.array([len(ids) for ids in sources])[:, None]
    together = run.logits(block, targets, mask)
    assert together.dtype == torch.float32
    assert together.shape == (3, targets.shape[1], run.model.vocabulary_size)
    for row, ids in enumerate(sources):
        torch.testing.assert_close(run.logits(ids, targets[row])[0], together[row], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(run.logits(block, targets), together)


def test_scores_are_of_the_target_given_the_source(run: Run) -> None:
    texts = ["the sea", "明月 🎉", "", "the hills and runs to the sea. " * 3]
    scores = run.score(texts, SOURCES[:4])
    assert scores["likelihood"] == "conditional"
    for text, source, nats in zip(texts, SOURCES, scores["nats"], strict=False):
        ids = run.document_ids(text)
        logits = run.logits(run.encode_source(source), ids[:-1])[0]
        expected = -logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum()
        assert nats == pytest.approx(float(expected), rel=1e-4)
        assert run.score(text, source)["nats"] == pytest.approx([nats], rel=1e-4)
    assert scores["tokens"] == sum(len(run.document_ids(text)) - 1 for text in texts)


def test_pairs_are_scored_in_batches_of_so_many_tokens_a_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_scoring, "TOKENS_A_BATCH", 64)
    model = build("transformer", 300)
    sources = [[5] * length for length in (60, 1, 2, 3, 70, 1)]
    targets = [[2, *[6] * length, 3] for length in (1, 30, 2, 2, 1, 1)]
    alone = [pair_nats(model, [source], [target])[0] for source, target in zip(sources, targets, strict=True)]
    seen: list[int] = []
    encode, hidden = model.encode, model.hidden
    monkeypatch.setattr(model, "encode", lambda ids, mask: (seen.append(ids.numel()), encode(ids, mask))[1])
    monkeypatch.setattr(model, "hidden", lambda ids, condition: (seen.append(ids.numel()), hidden(ids, condition))[1])
    together = pair_nats(model, sources, targets)
    assert sorted(seen)[-1] == 70, "a pair that is longer is alone"
    assert sorted(seen)[-2] <= 64
    assert len(seen) < 2 * len(sources)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_what_is_asked_wrongly_is_said(run: Run) -> None:
    with pytest.raises(UsageError, match="source"):
        run.generate("the")
    with pytest.raises(UsageError, match="2 sources and 1 prompts"):
        run.generate_many(["the"], ["a", "b"])
    with pytest.raises(UsageError, match="'beam'"):
        run.generate_many(sources=["a"], beam=3)
    with pytest.raises(UsageError, match="batch"):
        run.generate_many(sources=["a"], batch=0)
    with pytest.raises(UsageError, match="target_ids"):
        run.logits([5, 6])
    with pytest.raises(UsageError, match="2 sources and 1 targets"):
        run.logits([[5], [6]], [5])
    with pytest.raises(UsageError, match="source_mask"):
        run.logits([5, 6], [2], [True])
    with pytest.raises(UsageError, match="vocabulary"):
        run.logits([5, 6], [10**6])
    with pytest.raises(UsageError, match="source"):
        run.score("the sea")
    with pytest.raises(UsageError, match="1 sources and 2 texts"):
        run.score(["the", "sea"], ["a"])
    assert run.generate_many(sources=[]) == []


def test_a_source_too_long_is_named_and_nothing_is_cut(tokeniser: Tokeniser) -> None:
    run = Run(Path("run"), build("transformer", tokeniser.vocabulary_size), tokeniser, {})
    with pytest.raises(UsageError, match=r"source 1 has \d+ tokens.*80"):
        run.generate_many(sources=["the river", TEXT * 9])


def test_a_family_without_a_source_refuses_one(tokeniser: Tokeniser) -> None:
    from llmbert.models.gpt import GPT, GPTSettings

    run = Run(Path("run"), GPT(GPTSettings(layers=1, width=16, heads=2), tokeniser.vocabulary_size), tokeniser, {})
    with pytest.raises(UsageError, match="no source"):
        run.generate("the", source="river")
    with pytest.raises(UsageError, match="leave out sources"):
        run.score("the", "river")
    with pytest.raises(UsageError, match="leave out source_mask"):
        run.logits([4, 5], source_mask=[True, True])
    with pytest.raises(LLMBertError, match="no tokeniser"):
        Run(Path("run"), run.model, None, {}).generate("the")
    prompts = ["the river", "", "the", "明月"]
    many = run.generate_many(prompts, max_tokens=12, seed=9, batch=3)
    assert many == [run.generate(prompt, max_tokens=12, seed=9 + i) for i, prompt in enumerate(prompts)]
