"""Cross-entropy straight from hidden states, in slices, so that (B, T, V) logits are never held."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

SLICE = 1 << 22  # logits held at once
GPU_SLICE = 1 << 28  # and on a GPU, which smaller ones leave idle
WORTH_COMPILING = 1 << 25  # logits of a batch from which on a GPU goes through them in one compiled pass


class _LinearCrossEntropy(torch.autograd.Function):
    """Σ -log softmax(h Wᵀ + b)[target], with the gradients of h, W and b taken slice by slice on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> Tensor:
        kind = (
            torch.get_autocast_dtype(hidden.device.type)
            if torch.is_autocast_enabled(hidden.device.type)
            else hidden.dtype
        )
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        slice_ = GPU_SLICE if hidden.is_cuda else SLICE
        slices = max(1, -(-len(hidden) * len(weight) // slice_))
        rows = max(1, -(-len(hidden) // slices))  # slices of one size
        fused = _fused() if hidden.is_cuda and len(hidden) * len(weight) >= WORTH_COMPILING else None
        # Memory that is taken anew for every slice costs as much as what is computed in it.
        logits_memory, wide_memory = hidden.new_empty((rows, len(weight)), dtype=kind), None
        if kind != wide and fused is None:
            wide_memory = hidden.new_empty((rows, len(weight)), dtype=wide)
        logarithms_memory = hidden.new_empty((rows if fused is None else 0, len(weight)), dtype=wide)
        total = hidden.new_zeros((), dtype=wide)
        with torch.autocast(hidden.device.type, enabled=False):
            states, matrix = hidden.to(kind), weight.to(kind)
            offset = None if bias is None else bias.to(kind)
            hidden_gradient = torch.empty_like(hidden)
            weight_gradient = torch.zeros_like(weight)
            bias_gradient = None if bias is None else torch.zeros_like(bias)
            for first in range(0, len(hidden), rows):
                part = slice(first, first + rows)
                h, aims = states[part], targets[part, None]
                logits = logits_memory[: len(h)]
                if offset is None:
                    torch.mm(h, matrix.T, out=logits)
                else:  # the bias before the sum is rounded
                    torch.addmm(offset, h, matrix.T, out=logits)
                if fused is not None:
                    nats, slope = fused(logits, aims, smoothing)
                    total += nats
                else:
                    exact = logits if wide_memory is None else wide_memory[: len(h)].copy_(logits)
                    logarithms = torch.log_softmax(exact, dim=-1, out=logarithms_memory[: len(h)])
                    total += _nats(logarithms, aims, smoothing)
                    slope = _slope(logarithms, aims, smoothing)
                if bias_gradient is not None:
                    bias_gradient += slope.sum(0)
                if fused is None and kind != wide:
                    slope = logits.copy_(slope)
                hidden_gradient[part] = slope @ matrix
                if kind == weight.dtype:
                    weight_gradient.addmm_(slope.T, h)
                else:
                    weight_gradient += slope.T @ h
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        scale = gradient.to(hidden.dtype)
        return hidden * scale, weight * scale, None if bias is None else bias * scale, None, None


def _nats(logarithms: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    picked = logarithms.gather(1, targets).sum()
    if not smoothing:
        return -picked
    return -(1 - smoothing) * picked - smoothing * logarithms.mean(dim=-1).sum()


def nats_and_slope(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The summed loss of targets (N, 1) under logits (N, V), and its gradient at the logits in their own numbers.

    Written for a compiler, which makes two passes over the logits of it; run as it stands it makes ten.
    """
    logarithms = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    places = torch.arange(logits.shape[1], device=logits.device)
    slope = logarithms.exp() - (1 - smoothing) * (places == targets) - smoothing / logits.shape[1]
    return _nats(logarithms, targets, smoothing), slope.to(logits.dtype)


@cache
def _fused() -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    return torch.compile(nats_and_slope)


def _slope(logarithms: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """softmax - (1 - ε) target - ε/V, the loss's gradient at the logits; takes over the memory of `logarithms`."""
    slope = logarithms.exp_()
    slope.scatter_add_(1, targets, slope.new_full((len(targets), 1), smoothing - 1))
    return slope.sub_(smoothing / slope.shape[1]) if smoothing else slope


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Summed cross-entropy in nats of targets (N,) under softmax(hidden Wᵀ + bias), a float32 scalar.

    hidden (N, D), weight (V, D), bias (V,) or None. Memory is that of `SLICE` logits, on a GPU of `GPU_SLICE`, whatever
    N and V are.
    label_smoothing ε mixes the target with the uniform distribution: (1-ε)·target + ε/V (Szegedy et al. 2016, §7).
    """
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing)


def smoothed_nll(logarithms: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Summed cross-entropy in nats of targets (N,) under log p (N, V), with label smoothing as above."""
    return _nats(logarithms, targets[:, None], label_smoothing)
