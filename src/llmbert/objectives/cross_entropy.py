"""Cross-entropy straight from hidden states, in slices, so that (B, T, V) logits are never held."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SLICE = 1 << 22  # logits held at once


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
        rows = max(1, min(len(hidden), SLICE // weight.shape[0]))
        # Memory that is taken anew for every slice costs as much as what is computed in it.
        logits_memory, wide_memory = hidden.new_empty((rows, len(weight)), dtype=kind), None
        if kind != wide:
            wide_memory = hidden.new_empty((rows, len(weight)), dtype=wide)
        logarithms_memory = hidden.new_empty((rows, len(weight)), dtype=wide)
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
                exact = logits if wide_memory is None else wide_memory[: len(h)].copy_(logits)
                logarithms = torch.log_softmax(exact, dim=-1, out=logarithms_memory[: len(h)])
                total -= (1 - smoothing) * logarithms.gather(1, aims).sum()
                if smoothing:
                    total -= smoothing * logarithms.mean(dim=-1).sum()
                slope = _slope(logarithms, aims, smoothing)
                if bias_gradient is not None:
                    bias_gradient += slope.sum(0)
                slope = slope if kind == wide else logits.copy_(slope)
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


def _slope(logarithms: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """softmax - (1 - ε) target - ε/V, the loss's gradient at the logits; takes over the memory of `logarithms`."""
    slope = logarithms.exp_()
    slope.scatter_add_(1, targets, slope.new_full((len(targets), 1), smoothing - 1))
    return slope.sub_(smoothing / slope.shape[1]) if smoothing else slope


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Summed cross-entropy in nats of targets (N,) under softmax(hidden Wᵀ + bias), a float32 scalar.

    hidden (N, D), weight (V, D), bias (V,) or None. Memory is that of `SLICE` logits, whatever N and V are.
    label_smoothing ε mixes the target with the uniform distribution: (1-ε)·target + ε/V (Szegedy et al. 2016, §7).
    """
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing)


def smoothed_nll(logarithms: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Summed cross-entropy in nats of targets (N,) under log p (N, V), with label smoothing as above."""
    picked = logarithms.gather(1, targets[:, None]).sum()
    if not label_smoothing:
        return -picked
    return -(1 - label_smoothing) * picked - label_smoothing * logarithms.mean(dim=-1).sum()
