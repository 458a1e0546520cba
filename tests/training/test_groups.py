"""What learns, and how fast: frozen weights, rates by layer, LoRA as settings of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from llmbert.data.labelled import Examples, LabelledBatches, encode_examples
from llmbert.models import FAMILIES
from llmbert.models.headed import Headed, HeadedSettings, HeadSettings
from llmbert.objectives.labels import labels
from llmbert.protocols import UsageError
from llmbert.text.tokenisers import train_tokeniser
from llmbert.training.loop import Interrupted, Trainer
from llmbert.training.optimisers import OPTIMISERS, adapt, build_optimisers, freeze, layer_depths
from llmbert.training.settings import TrainingSettings

TEXTS = [f"{a} {b}" for a in ("red", "green", "blue", "grey") for b in ("hill", "mill", "sea", "town", "boat")]
TOKENISER = train_tokeniser("words", TEXTS)
SHAPES: dict[str, dict[str, Any]] = {
    "bert": {"layers": 3, "width": 16, "heads": 2, "context": 8},
    "gpt": {"layers": 3, "width": 16, "heads": 2, "context": 8},
    "lstm": {"layers": 3, "width": 16},
}
HEADS = {
    "colour": HeadSettings(task="classify", labels=("blue", "green", "grey", "red")),
    "parts": HeadSettings(task="tag", labels=("B-X", "I-X", "O")),
}


def headed(trunk: str = "bert") -> Headed:
    torch.manual_seed(0)
    settings = HeadedSettings(trunk=trunk, trunk_settings=SHAPES[trunk], heads=HEADS)
    return Headed(settings, TOKENISER.vocabulary_size)


def trainer(model: Headed, **values: Any) -> Trainer:
    settings = TrainingSettings(**{"steps": 12, "batch": 5, "optimiser": "adamw", **values})
    adapt(model, settings)
    found = Examples("classify", TEXTS, None, [text.split()[0] for text in TEXTS])
    rows = encode_examples(found, TOKENISER, HEADS["colour"].labels, 8)
    return Trainer(model, labels, LabelledBatches(rows, 5, 0, "colour"), settings)


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {n for n, w in model.named_parameters() if n in before and not torch.equal(w, before[n])}


def copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: w.detach().clone() for n, w in model.named_parameters()}


@pytest.mark.parametrize("trunk", SHAPES)
def test_depths(trunk: str) -> None:
    depths = layer_depths(headed(trunk))
    assert depths["trunk.embedding.weight"] == 0
    layer = {name: depth for name, depth in depths.items() if 1 <= depth <= 3}
    assert set(layer.values()) == {1, 2, 3}
    assert all(name.startswith("trunk.") for name in layer)
    assert {depth for name, depth in depths.items() if name.startswith("heads.")} == {4}


@pytest.mark.parametrize("optimiser", [*OPTIMISERS, "muon"])
@pytest.mark.parametrize("trunk", SHAPES)
def test_each_layer_has_its_share_of_the_rate(trunk: str, optimiser: str) -> None:
    model = headed(trunk)
    settings = TrainingSettings(optimiser=optimiser, learning_rate=0.1, matrix_learning_rate=1.0, layer_decay=0.5)
    depths, names = layer_depths(model), {id(w): n for n, w in model.named_parameters()}
    held = []
    for built in build_optimisers(model, settings):
        for group in built.param_groups:
            assert group["lr"] == group["base_lr"]
            for weight in group["params"]:
                held.append(names[id(weight)])
                rate = group["base_lr"] / 0.5 ** (4 - depths[held[-1]])
                assert rate == pytest.approx(1.0 if type(built).__name__ == "Muon" else 0.1)
    assert sorted(held) == sorted(depths)


def test_without_layer_decay_groups_are_as_they_were() -> None:
    groups = build_optimisers(headed(), TrainingSettings(optimiser="adamw", weight_decay=0.1))[0].param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert len({group["base_lr"] for group in groups}) == 1


def test_output_layers_and_transitions_are_not_orthogonalised() -> None:
    model = headed()
    adamw, muon = build_optimisers(model, TrainingSettings(optimiser="muon"))
    names = {id(w): n for n, w in model.named_parameters()}
    inner = {names[id(w)] for w in muon.param_groups[0]["params"]}
    assert "trunk.blocks.0.attention.qkv.weight" in inner
    assert not any(name.startswith("heads.") for name in inner)
    outer = {names[id(w)] for w in adamw.param_groups[0]["params"]}
    assert {"heads.colour.out.weight", "heads.parts.crf.transitions", "trunk.embedding.weight"} <= outer


@pytest.mark.parametrize(
    ("what", "still"),
    [
        ("0", {"blocks.0", "blocks.1", "blocks.2", "heads"}),
        ("2", {"blocks.2", "heads"}),
        ("trunk.*", {"heads"}),
        ("trunk.blocks.1.*, *embedding*", {"blocks.0", "blocks.2", "heads"}),
        ("*.bias", {"embedding", "blocks.0", "blocks.1", "blocks.2", "heads"}),
    ],
)
def test_what_is_frozen_stays(what: str, still: set[str]) -> None:
    model = headed()
    before = copies(model)
    trainer(model, freeze=what).run()
    changed = moved(model, before)
    parts = {
        next(part for part in ("embedding", "blocks.0", "blocks.1", "blocks.2", "heads") if part in name)
        for name in changed
    }
    assert parts == still
    if what == "*.bias":
        assert not any(name.endswith(".bias") for name in changed)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_lora_learns_beside_the_heads_and_alone(optimiser: str) -> None:
    model = headed()
    before = copies(model)
    trainer(
        model, lora_rank=2, lora_alpha=4.0, lora_targets="*.qkv,*.up", optimiser=optimiser, learning_rate=0.01
    ).run()
    assert {name.split(".")[0] for name in moved(model, before)} == {"heads"}
    ups = [w for n, w in model.named_parameters() if n.endswith("lora_up")]
    assert len(ups) == 6 and all(bool(w.any()) for w in ups)


def test_lora_on_a_model_without_heads() -> None:
    family = FAMILIES["gpt"]
    model = family.build(family.settings_class()(**SHAPES["gpt"]), 20)
    adapt(model, TrainingSettings(lora_rank=2))
    assert all("lora" in n for n, w in model.named_parameters() if w.requires_grad)
    assert build_optimisers(model, TrainingSettings(optimiser="muon"))


def test_stopped_and_resumed_is_never_stopped(tmp_path: Path) -> None:
    """With LoRA, frozen layers, rates by layer and dropout."""
    values = {"lora_rank": 2, "lora_targets": "*.qkv", "freeze": "1", "layer_decay": 0.7, "learning_rate": 0.01}

    def made(folder: str) -> Trainer:
        found = trainer(headed(), **values)
        (tmp_path / folder).mkdir(exist_ok=True)
        found.checkpoint = tmp_path / folder / "checkpoint.safetensors"
        torch.manual_seed(1)
        return found

    whole = made("whole")
    whole.run()
    part = made("part")
    part.stop = lambda: part.at.step == 5
    with pytest.raises(Interrupted):
        part.run()
    again = made("part")
    again.resume()
    again.run()
    for (name, a), b in zip(whole.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_matches_nothing_or_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="matches no weight"):
        freeze(headed(), "body.*")
    with pytest.raises(UsageError, match="nothing to learn"):
        adapt(headed(), TrainingSettings(freeze="*"))
    with pytest.raises(UsageError, match="lora_targets"):
        adapt(headed("lstm"), TrainingSettings(lora_rank=4))
    for wrong in ({"layer_decay": 0.0}, {"layer_decay": 1.1}, {"lora_rank": -1}, {"lora_alpha": 0}):
        with pytest.raises(ValidationError):
            TrainingSettings(**wrong)
