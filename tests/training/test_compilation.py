"""Compiled and recomputed layers compute what plain ones do, and are plain again afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmbert.models import find_family
from llmbert.nn.state import without_gradients
from llmbert.objectives.cross_entropy import nats_and_slope
from llmbert.protocols import UsageError
from llmbert.training.compilation import compiled_layers, recomputed_layers

IDS = torch.randint(4, 60, (2, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("style", ["gpt2", "modern"])
def test_a_compiled_model_has_the_plain_ones_states_and_gradients(style: str) -> None:
    torch.manual_seed(0)
    family = find_family("gpt")
    model = family.build(family.settings_class()(style=style, layers=2, width=32, heads=2, context=16), 60)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    plain = model.logits(IDS)
    plain.square().sum().backward()
    wanted = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    with compiled_layers(model, True, "aot_eager"):
        assert all(block._compiled_call_impl is not None for block in model.blocks)
        fast = model.logits(IDS)
        fast.square().sum().backward()
    assert all(block._compiled_call_impl is None for block in model.blocks)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    for weight, expected in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight.grad, expected, rtol=1e-3, atol=1e-3)


def test_nothing_is_compiled_unasked() -> None:
    family = find_family("gpt")
    model = family.build(family.settings_class()(layers=1, width=16, heads=2, context=16), 60)
    with compiled_layers(model, False):
        assert model.blocks[0]._compiled_call_impl is None


FAMILIES = {
    "gpt": {"layers": 3},
    "bert": {"layers": 2},
    "t5": {"layers": 2},
    "transformer": {"layers": 2, "inner": 64},
}


def loss_of(name: str, model: Any) -> torch.Tensor:
    if name in ("gpt", "bert"):
        return model.logits(IDS).square().sum()
    return model.logits(IDS, model.encode(IDS)).square().sum()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_recomputed_model_has_the_same_gradients_and_keeps_less(name: str) -> None:
    family = find_family(name)
    shape = {"width": 32, "heads": 2, "context": 16, "dropout": 0.3, **FAMILIES[name]}
    torch.manual_seed(0)
    model = family.build(family.settings_class()(**shape), 60).train()
    gradients, kept = [], []
    for wanted in (False, True):
        model.zero_grad()
        torch.manual_seed(1)
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with recomputed_layers(model, wanted), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = loss_of(name, model)
            kept.append(sum(sizes))
            loss.backward()
        gradients.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)), "the same random numbers fall out of it"
    assert kept[1] < 0.5 * kept[0]
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("held", [False, True])
def test_weights_that_are_held_still_are_so_when_recomputed(held: bool) -> None:
    family = find_family("gpt")
    torch.manual_seed(0)
    model = family.build(family.settings_class()(layers=2, width=32, heads=2, context=16), 60).train()
    weights = list(model.blocks.parameters()) if held else []
    found = []
    for wanted in (False, True):
        model.zero_grad()
        with recomputed_layers(model, wanted):
            with without_gradients(weights):
                loss = model.logits(IDS).square().sum()
            loss.backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, gradient in found[0].items():
        assert (gradient is None) == (found[1][name] is None) == (held and name.startswith("blocks."))
        assert gradient is None or torch.equal(gradient, found[1][name])


def test_a_model_without_layers_has_none_to_compile() -> None:
    with pytest.raises(UsageError, match="stack of layers"), compiled_layers(torch.nn.LSTM(2, 2), True):
        pass


def test_a_model_without_layers_cannot_compute_them_again() -> None:
    family = find_family("lstm")
    model = family.build(family.settings_class()(layers=1, width=16), 60)
    with pytest.raises(UsageError, match="stack of layers"), recomputed_layers(model, True):
        pass


def test_what_counts_what_it_saw_is_not_computed_twice() -> None:
    family = find_family("gpt")
    model = family.build(family.settings_class()(layers=1, width=16, heads=2, context=16, norm="batch"), 60)
    with pytest.raises(UsageError, match="batch norm"), recomputed_layers(model, True):
        pass


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_that_is_compiled_is_the_loss(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 9, requires_grad=True)
    targets = torch.randint(9, (7, 1))
    wanted = torch.nn.functional.cross_entropy(logits, targets[:, 0], reduction="sum", label_smoothing=smoothing)
    wanted.backward()
    nats, slope = nats_and_slope(logits.detach(), targets, smoothing)
    torch.testing.assert_close(nats, wanted.detach())
    torch.testing.assert_close(slope, logits.grad)
