"""Cross-entropy straight from hidden states, in slices, so that (B, T, V) logits are never held."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from llmbert.nn.native import native_library, nats_and_slope_

SLICE = 1 << 22  # logits held at once
GPU_SLICE = 1 << 28  # and on a GPU, which smaller ones leave idle
WORTH_COMPILING = 1 << 25  # logits of a batch from which on a GPU goes through them in one compiled pass


class _LinearCrossEntropy(torch.autograd.Function):
    """Σ -log softmax(h Wᵀ + b)[target], with the gradients of h, W and b taken slice by slice on the way forward where
    they are `wanted`: each costs as much as the logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, wanted: bool
    ) -> Tensor:
        kind = (
            torch.get_autocast_dtype(hidden.device.type)
            if torch.is_autocast_enabled(hidden.device.type)
            else hidden.dtype
        )
        slice_ = GPU_SLICE if hidden.is_cuda else SLICE
        slices = max(1, -(-len(hidden) * len(weight) // slice_))
        rows = max(1, -(-len(hidden) // slices))  # slices of one size
        # Memory that is taken anew for every slice costs as much as what is computed in it.
        memory = hidden.new_empty((rows, len(weight)), dtype=kind)
        nats_and_slope = _way(hidden, memory, len(hidden) * len(weight))
        total = hidden.new_zeros((), dtype=_wide(kind))
        with torch.autocast(hidden.device.type, enabled=False):
            states, matrix = hidden.to(kind), weight.to(kind)
            offset = None if bias is None else bias.to(kind)
            hidden_gradient = torch.empty_like(hidden) if wanted else None
            weight_gradient = torch.zeros_like(weight) if wanted else None
            bias_gradient = torch.zeros_like(bias) if wanted and bias is not None else None
            for first in range(0, len(hidden), rows):
                part = slice(first, first + rows)
                h, aims = states[part], targets[part, None]
                logits = memory[: len(h)]
                if offset is None:
                    torch.mm(h, matrix.T, out=logits)
                else:  # the bias before the sum is rounded
                    torch.addmm(offset, h, matrix.T, out=logits)
                nats, slope = nats_and_slope(logits, aims, smoothing)
                total += nats
                if hidden_gradient is None or weight_gradient is None:
                    continue
                if bias_gradient is not None:
                    bias_gradient += slope.sum(0)
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
        return hidden * scale, weight * scale, None if bias is None else bias * scale, None, None, None


Way = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""(logits (N, V), targets (N, 1), ε) → their summed nats, and its gradient at the logits, perhaps in their place."""


def _way(hidden: Tensor, logits: Tensor, work: int) -> Way:
    """How the logits of a batch, `work` of them in all, become its loss and slope, quickest where it is."""
    if hidden.is_cuda and work >= WORTH_COMPILING:
        return _compiled()
    if hidden.device.type == "cpu" and logits.dtype in (torch.float32, torch.bfloat16) and native_library() is not None:
        return _native
    wide = _wide(logits.dtype)
    exact = torch.empty_like(logits, dtype=wide) if logits.dtype != wide else None
    return partial(_written_out, exact, torch.empty_like(logits, dtype=wide))


def _wide(kind: torch.dtype) -> torch.dtype:
    return torch.float64 if kind == torch.float64 else torch.float32


def _native(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    return nats_and_slope_(logits, targets[:, 0], smoothing).sum(), logits


def _written_out(
    exact: Tensor | None, logarithms: Tensor, logits: Tensor, targets: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """exact, logarithms: room for as many logits in all their digits, and for their logarithms."""
    precise = logits if exact is None else exact[: len(logits)].copy_(logits)
    logarithms = torch.log_softmax(precise, dim=-1, out=logarithms[: len(logits)])
    nats, slope = _nats(logarithms, targets, smoothing), _slope(logarithms, targets, smoothing)
    return nats, slope if exact is None else logits.copy_(slope)


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
def _compiled() -> Way:
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
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing, torch.is_grad_enabled())


def smoothed_nll(logarithms: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Summed cross-entropy in nats of targets (N,) under log p (N, V), with label smoothing as above."""
    return _nats(logarithms, targets[:, None], label_smoothing)
