"""Compiled layers compute what plain ones do, and are plain again afterwards."""

from __future__ import annotations

import pytest
import torch

from llmbert.models import find_family
from llmbert.objectives.cross_entropy import nats_and_slope
from llmbert.training.compilation import compiled_layers

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
