"""Attention, norms and activations of a training in native passes: the same functions, and the same slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from llmbert.nn.attention import CrossAttention, SelfAttention, attend, document_mask
from llmbert.nn.feedforward import FeedForward, GatedFeedForward
from llmbert.nn.native.attention import FusedAttention
from llmbert.nn.native.build import native_library
from llmbert.nn.norms import RMSNorm
from llmbert.nn.positions import RotaryPositions

pytestmark = pytest.mark.skipif(native_library() is None, reason="there is no compiler")

ROOMS = ("llmbert.nn.attention", "llmbert.nn.norms", "llmbert.nn.feedforward")


def slopes(layer: nn.Module, given: list[Tensor], *more: Any, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """What the layer makes of what is given, and the slopes of some sum of it, of the given and of its weights."""
    out = layer(*given, *more, **options)
    loss = (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    return out, list(torch.autograd.grad(loss, [*given, *layer.parameters()]))


def both_ways(
    layer: nn.Module, given: list[Tensor], monkeypatch: pytest.MonkeyPatch, *more: Any, **options: Any
) -> None:
    """Natively and in torch: the same to 1e-5, there and back, and not by the same way."""
    took = []
    with monkeypatch.context() as watched:
        for room in ROOMS:
            watched.setattr(f"{room}.trains_native", lambda x, was=native_way(room): took.append(was(x)) or took[-1])
        found, found_slopes = slopes(layer, given, *more, **options)
    assert any(took)
    with monkeypatch.context() as without:
        for room in ROOMS:
            without.setattr(f"{room}.trains_native", lambda _: False)
        expected, expected_slopes = slopes(layer, given, *more, **options)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(found_slopes, expected_slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(other.abs().max())))


def native_way(room: str) -> Callable[[Tensor], bool]:
    return __import__(room, fromlist=["trains_native"]).trains_native  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    time=st.integers(1, 70),
    groups=st.integers(1, 2),
    shared=st.integers(1, 2),
    half=st.integers(1, 20),
    qk_norm=st.booleans(),
    turned=st.sampled_from(["no", "alike", "each"]),
    looks=st.sampled_from(["all", "back", "documents"]),
)
@example(batch=2, time=33, groups=2, shared=2, half=16, qk_norm=True, turned="each", looks="documents")
@example(batch=1, time=64, groups=1, shared=1, half=8, qk_norm=False, turned="no", looks="back")
def test_self_attention_is_the_same_both_ways(
    batch: int, time: int, groups: int, shared: int, half: int, qk_norm: bool, turned: str, looks: str
) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(12, groups * shared, shared, 2 * half, bias=True, qk_norm=qk_norm)
    for norm in (layer.query_norm, layer.key_norm):
        if norm is not None:
            nn.init.normal_(norm.weight, 1.0)
    x = torch.randn(batch, time, 12, requires_grad=True)
    places = {"alike": torch.arange(time)[None, None], "each": torch.randint(0, 99, (batch, 1, time))}.get(turned)
    angles = None if places is None else RotaryPositions(2 * half).angles(places)
    mask = document_mask(torch.randint(0, 3, (batch, time))) if looks == "documents" else None
    with pytest.MonkeyPatch.context() as patch:
        both_ways(layer, [x], patch, angles, mask, causal=looks == "back")


@pytest.mark.parametrize(("time", "source", "width"), [(1, 1, 4), (5, 40, 24), (40, 33, 16), (70, 3, 33)])
def test_cross_attention_is_the_same_both_ways(
    time: int, source: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = CrossAttention(12, 3, width, bias=True)
    x, read = torch.randn(2, time, 12, requires_grad=True), torch.randn(2, source, 12, requires_grad=True)
    mask = (torch.arange(source) < torch.tensor([[source], [(source + 1) // 2]]))[:, None, None]

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, read: Tensor) -> Tensor:
            return layer(x, layer.keys_values(read), mask)

    both_ways(Both(), [x, read], monkeypatch)


def test_a_query_that_may_look_nowhere_moves_nothing_but_values(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (torch.randn(1, 2, 5, 8, requires_grad=True) for _ in range(3))
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    mask[..., 2, :] = False
    found = attend(query, key, value, mask, False)
    torch.testing.assert_close(found[:, :, 2], value.mean(2))
    slope = torch.autograd.grad(found[:, :, 2].sum(), (query, key, value))
    assert not slope[0].any() and not slope[1].any() and slope[2].any()


def test_no_later_token_is_looked_at_to_the_bit() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 90, 16, requires_grad=True)
    later = x.detach().clone()
    later[:, :, 50:] += 1e4 * torch.randn(1, 2, 40, 16)
    assert torch.equal(
        attend(x, x, x, None, True)[:, :, :50], attend(later.requires_grad_(), later, later, None, True)[:, :, :50]
    )
    assert not torch.autograd.grad(attend(x, x, x, None, True)[:, :, :50].sum(), x)[0][:, :, 50:].any()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(32, 4, 2, 8, bias=False, qk_norm=True).to(kind)
    x, threads = torch.randn(3, 50, 32, dtype=kind, requires_grad=True), torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(fused(x, layer))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def fused(x: Tensor, layer: SelfAttention) -> list[Tensor]:
    projected = torch.linspace(-2, 2, x.shape[0] * 50 * 64).sin().to(x.dtype).view(-1, 50, 8, 8).requires_grad_()
    gains = [torch.ones(8, requires_grad=True), torch.full((8,), 0.5, requires_grad=True)]
    out = FusedAttention.apply(projected, None, None, 2, *gains, None, None, None, True, 0.0, 0.3, 1e-6)  # type: ignore[no-untyped-call]
    return [out, *torch.autograd.grad(out.float().square().sum(), [projected, *gains])]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_that_share_by_torchs_seed_and_the_way_back_drops_the_same(kind: torch.dtype) -> None:
    query = torch.zeros(2, 3, 60, 16, dtype=kind, requires_grad=True)  # every weight is 1 in 60
    value = torch.ones(2, 3, 60, 16, dtype=kind, requires_grad=True)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attend(query, query, value, None, False, 0.25)

    found = drawn(0)
    assert torch.equal(found, drawn(0)) and not torch.equal(found, drawn(1))
    assert float(found.detach().float().mean()) == pytest.approx(1.0, abs=0.01)
    kept = found[..., 0].detach().float() * 60 * 0.75  # of 60 weights, those that were not dropped
    assert float(kept.var()) == pytest.approx(60 * 0.75 * 0.25, rel=0.25)
    slope = torch.autograd.grad(found.sum(), value)[0]
    assert float(slope.float().sum()) == pytest.approx(
        float(found.detach().float().sum()), rel=1e-2
    )  # values are all 1
    assert len({tuple(row) for row in found[0, 0, :8].tolist()}) > 1 and not torch.equal(found[0, 0], found[0, 1])


def test_the_slope_under_dropout_is_that_of_what_was_computed() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 7, 4, requires_grad=True) for _ in range(3)]

    def loss(*given: Tensor) -> Tensor:
        torch.manual_seed(1)
        return (attend(*given, None, True, 0.4) * torch.linspace(-1, 1, 56).view(1, 2, 7, 4)).sum()

    found = torch.autograd.grad(loss(*parts), parts)
    for part, slope in zip(parts, found, strict=True):
        step = 0.01 * torch.randn_like(part)
        moved = [
            [(each + sign * step if each is part else each).detach().requires_grad_() for each in parts]
            for sign in (1, -1)
        ]
        change = float((loss(*moved[0]) - loss(*moved[1])).detach()) / 2
        assert change == pytest.approx(float((slope * step).sum()), rel=0.02, abs=2e-5)


@pytest.mark.parametrize("width", [1, 16, 37, 130])
def test_rms_norm_is_the_same_both_ways(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = RMSNorm(width)
    nn.init.normal_(layer.weight)
    both_ways(layer, [torch.randn(3, 40, width, requires_grad=True)], monkeypatch)


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e30])
def test_what_is_no_number_or_too_large_is_not_hidden(spoilt: float) -> None:
    x = torch.ones(1, 1, 4, 8)
    x[0, 0, 2, 3] = spoilt
    x.requires_grad_()
    assert not RMSNorm(8)(x)[0, 0, 2].isfinite().all()
    assert not attend(x, x, x, None, True)[0, 0, 2:].isfinite().all() or spoilt == 1e30
    layer = SelfAttention(8, 1, 1, 8, bias=False, qk_norm=True)
    nn.init.eye_(layer.qkv.weight[:8].detach())
    assert not layer(x[0], None, None, causal=True)[0, 2:].isfinite().all()


@pytest.mark.parametrize("inner", [3, 16, 50])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_gates_are_the_same_both_ways(activation: str, inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = GatedFeedForward(8, inner, activation)
    both_ways(layer, [4 * torch.randn(2, 9, 8, requires_grad=True)], monkeypatch)


@pytest.mark.parametrize("inner", [3, 16, 50, 2000])
def test_the_tanh_of_gelu_is_the_same_both_ways(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    both_ways(FeedForward(8, inner, "gelu_tanh"), [4 * torch.randn(2, 9, 8, requires_grad=True)], monkeypatch)


def test_far_from_zero_a_gate_is_open_or_shut() -> None:
    x = torch.tensor([-1e30, -100.0, -20.0, 0.0, 20.0, 100.0, 1e30], requires_grad=True)
    for activation in ("gelu", "gelu_tanh", "silu"):
        layer = GatedFeedForward(1, 7, activation)
        both = torch.cat([x, torch.ones(7)])
        layer.gate_up, layer.down = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        found = layer(both[None])[0]
        torch.testing.assert_close(found, torch.tensor([0.0, 0, 0, 0, 20, 100, 1e30]), atol=1e-6, rtol=1e-5)
        slope = torch.autograd.grad(found.sum(), x)[0]
        torch.testing.assert_close(slope, torch.tensor([0.0, 0, 0, 0.5, 1, 1, 1]), atol=1e-6, rtol=1e-5)


def test_without_a_gradient_nothing_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = SelfAttention(8, 2, 2, 4, bias=False), torch.randn(1, 5, 8)
    monkeypatch.setattr("llmbert.nn.attention.FusedAttention", None)
    with torch.no_grad():
        assert layer(x, None, None).shape == (1, 5, 8)
    assert layer.double()(x.double(), None, None).shape == (1, 5, 8)  # nor are other numbers
