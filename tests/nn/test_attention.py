"""Attention: whatever way it is computed, it is the same function."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmbert.nn.attention import CrossAttention, SelfAttention, attend

MASKS = ["none", "causal", "padding", "bias"]


def inputs(time: int, source: int, key_heads: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 4, time, 8), (2, key_heads, source, 8), (2, key_heads, source, 8)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def mask_of(kind: str, time: int, source: int) -> tuple[torch.Tensor | None, bool]:
    if kind == "padding":
        return torch.arange(source).expand(2, 1, 1, source) < torch.tensor([source, source - 3])[
            :, None, None, None
        ], False
    if kind == "bias":
        bias = torch.randn(1, 4, time, source, generator=torch.Generator().manual_seed(1))
        return bias.masked_fill(torch.arange(source) > source - 2, -torch.inf), False
    return None, kind == "causal"


def without_native_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmbert.nn.attention.trains_native", lambda _: False)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("time", [9, 140])
def test_training_in_bfloat16_is_attention_all_the_same(
    kind: str, key_heads: int, time: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ways that bfloat16 takes on a processor, for short and for long texts, forward and back, against float32."""
    if not native:
        without_native_passes(monkeypatch)
    query, key, value = inputs(time, time, key_heads)
    mask, causal = mask_of(kind, time, time)
    wide = [each.clone().double().requires_grad_() for each in (query, key, value)]
    narrow = [each.bfloat16().requires_grad_() for each in (query, key, value)]
    expected = attend(*wide, mask if mask is None or mask.dtype == torch.bool else mask.double(), causal, scale=0.3)
    found = attend(*narrow, mask if mask is None or mask.dtype == torch.bool else mask.bfloat16(), causal, scale=0.3)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0.03)
    expected.square().sum().backward()
    found.double().square().sum().backward()
    for one, other in zip(narrow, wide, strict=True):
        assert one.grad is not None and other.grad is not None
        difference = (one.grad.double() - other.grad).norm() / other.grad.norm()
        assert float(difference) < 0.03


@pytest.mark.parametrize("native", [True, False])
def test_dropout_drops_in_bfloat16_too(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        without_native_passes(monkeypatch)
    query, key, value = (each.bfloat16().requires_grad_() for each in inputs(9, 9, 4))
    torch.manual_seed(0)
    assert not torch.equal(attend(query, key, value, None, False, 0.5), attend(query, key, value, None, False))


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_a_masked_token_is_as_if_it_were_not_there(kind: str) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(2, 6, 16), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])[:, None, None]
    layer: Any = SelfAttention(16, 2, 2, 8, bias=True) if kind == "self" else CrossAttention(16, 2, 8, bias=True)

    def run(y: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return layer(y, None, mask, causal=False) if kind == "self" else layer(y, layer.keys_values(y), mask)

    with torch.inference_mode():
        together, alone = run(x, mask), run(x[1:, :4], None)
    torch.testing.assert_close(together[1:, :4], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("time", [9, 140])
def test_under_autocast_wide_queries_take_the_same_ways(time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated and normalised queries are float32, and autocast would send them the slow way all the same."""
    without_native_passes(monkeypatch)
    asked: list[bool] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def watched(*given: Any, **options: Any) -> torch.Tensor:
        asked.append(torch.is_autocast_enabled("cpu"))
        return fused(*given, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    wide = [each.requires_grad_() for each in inputs(time, time, 4)]
    expected = fused(*wide, is_causal=True)
    slopes = torch.autograd.grad(expected.square().sum(), wide)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(*wide, None, True)
    assert asked == ([] if time == 9 else [False])
    assert torch.allclose(found.float(), expected, atol=0.05)
    for slope, own in zip(slopes, torch.autograd.grad(found.float().square().sum(), wide), strict=True):
        assert torch.allclose(own.float(), slope, atol=0.02 * float(slope.abs().max()) + 0.02)
