"""DP-SGD: without noise and clipping it is gradient descent; every document's part is bounded; the noise is as said."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from llmbert.models import find_family
from llmbert.protocols import LLMBertError, UsageError
from llmbert.training import private
from llmbert.training.private import learn_privately
from llmbert.training.settings import TrainingSettings

pytest.importorskip("opacus", reason="opacus, which trains privately, is not installed")
SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {"layers": 1, "width": 16, "heads": 2, "context": 8},
    "lstm": {"layers": 1, "width": 12, "context": 8},
}


def build(family: str) -> Any:
    torch.manual_seed(0)
    known = find_family(family)
    return known.build(known.settings_class()(**SHAPES[family]), 20)


def documents(count: int = 6, length: int = 5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    rows = [np.array([2, *draw.integers(4, 20, length), 3]) for _ in range(count)]
    return np.concatenate(rows), np.cumsum([0, *(len(row) for row in rows)])


def settings(**values: Any) -> TrainingSettings:
    usual = {"optimiser": "sgd", "learning_rate": 0.1, "schedule": "constant", "batch": 6, "steps": 1, "noise": 0.0}
    return TrainingSettings(**{**usual, **values})


def moved(model: torch.nn.Module, before: torch.nn.Module) -> torch.Tensor:
    return torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)]).detach()


@pytest.mark.parametrize("family", SHAPES)
def test_without_noise_and_clipping_it_is_gradient_descent(family: str) -> None:
    model = build(family)
    ids, starts = documents()
    plain = copy.deepcopy(model)
    rows = torch.from_numpy(ids.reshape(6, -1))
    loss = torch.nn.functional.cross_entropy(plain.logits(rows[:, :-1]).mT, rows[:, 1:])
    gradients = torch.autograd.grad(loss, list(plain.parameters()))
    found = learn_privately(model, ids, starts, 8, settings(clip_norm=1e6))
    expected = torch.cat([-0.1 * each.flatten() for each in gradients])
    assert torch.allclose(moved(model, plain), expected, atol=1e-6)
    assert found["rate"] == 1.0 and found["steps"] == 1 and found["tokens"] == 6 * 6


def test_no_document_moves_the_weights_further_than_its_share() -> None:
    model = build("gpt")
    before = copy.deepcopy(model)
    learn_privately(model, *documents(), 8, settings(clip_norm=0.01, learning_rate=1.0))
    assert moved(model, before).norm() <= 0.01 + 1e-6
    alone = build("gpt")
    ids, starts = documents(1)
    learn_privately(alone, ids, starts, 8, settings(clip_norm=0.01, learning_rate=1.0, batch=1))
    assert moved(alone, before).norm() == pytest.approx(0.01, rel=1e-3)


def test_the_noise_is_as_wide_as_said() -> None:
    model = build("gpt")
    before = copy.deepcopy(model)
    learn_privately(model, *documents(), 8, settings(clip_norm=1e-6, noise=1e6, learning_rate=6.0))
    assert moved(model, before).std() == pytest.approx(1.0, rel=0.1)  # noise times clip_norm, over a batch of six


def test_many_documents_at_once_are_the_same_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for held in (1, 1 << 30):
        monkeypatch.setattr("llmbert.training.private.GRADIENT_BYTES", held)
        model = build("gpt")
        learn_privately(model, *documents(), 8, settings(clip_norm=0.5, steps=3))
        results.append(torch.cat([weight.flatten() for weight in model.parameters()]).detach())
    assert torch.allclose(*results, atol=1e-6)


def test_long_documents_give_a_stretch_and_sampling_is_by_chance() -> None:
    ids, starts = documents(40, length=30)
    generator = torch.Generator().manual_seed(3)
    found = learn_privately(build("lstm"), ids, starts, 8, settings(batch=10, steps=50), generator=generator)
    assert found["rate"] == 0.25
    assert found["tokens"] / 8 / 50 == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize(
    ("family", "shape"),
    [("gpt", {"dropout": 0.2}), ("lstm", {"dropout": 0.2, "layers": 2}), ("gru", {"dropout": 0.2, "layers": 2})],
)
def test_dropout_falls_for_each_document_apart(family: str, shape: dict[str, Any]) -> None:
    """The same document many times over has a loss of its own each time."""
    torch.manual_seed(0)
    known = find_family(family)
    base = SHAPES.get(family, SHAPES["lstm"])
    model = known.build(known.settings_class()(**{**base, **shape}), 20)
    ids, _ = documents(1)
    rows = torch.from_numpy(ids)[None].repeat(8, 1)
    weights = {name: weight.detach() for name, weight in model.train().named_parameters()}
    losses, found = private._gradients_of(model)(weights, rows)
    assert len(set(losses.tolist())) == 8
    assert all(bool(each.isfinite().all()) for each in found.values())
    assert learn_privately(model, np.tile(ids, 6), np.arange(7) * len(ids), 8, settings(noise=1.0))["steps"] == 1


def test_it_learns_and_stops_when_told() -> None:
    ids, starts = documents(1)
    ids, starts = np.tile(ids, 32), np.arange(33) * len(ids)
    model = build("gpt")
    losses: list[float] = []
    learn_privately(
        model,
        ids,
        starts,
        8,
        settings(steps=60, batch=32, noise=0.1, learning_rate=1.0),
        progress=lambda stage, done, total=None, **figures: losses.append(figures["loss"]),
        stop=lambda: len(losses) >= 50,
    )
    assert len(losses) == 50 and losses[-1] < 0.5 * losses[0]


def test_the_systems_generator_is_no_seed() -> None:
    draws = {float(torch.rand(1, generator=private._system_generator())) for _ in range(50)}
    assert len(draws) == 50
    many = torch.randn(20_000, generator=private._system_generator())
    assert abs(float(many.mean())) < 0.05 and float(many.std()) == pytest.approx(1.0, abs=0.05)
    first, second = (private._system_generator().get_state() for _ in range(2))
    assert int((first != second).sum()) > 2000  # of 2,496 random bytes


def test_what_cannot_be_private_is_refused() -> None:
    with pytest.raises(UsageError, match="set clip_norm"):
        learn_privately(build("gpt"), *documents(), 8, settings(clip_norm=None))
    gpt = find_family("gpt")
    averaging = gpt.build(gpt.settings_class()(**SHAPES["gpt"], norm="batch"), 20)
    with pytest.raises(UsageError, match="norm=layer"):
        learn_privately(averaging, *documents(), 8, settings())
    model = build("gpt")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(LLMBertError, match="lower the rate"):
        learn_privately(model, *documents(), 8, settings())
