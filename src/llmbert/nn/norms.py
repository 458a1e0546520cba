"""Normalisation of activations: layer, RMS and batch norm, each (..., D) → (..., D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmbert.nn.native import FusedRMSNorm, trains_native


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) · g over the last dimension (Zhang & Sennrich 2019, eq. 4)."""

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        if trains_native(x):
            return FusedRMSNorm.apply(x, self.weight.float(), self.epsilon, x.dtype)
        # Under autocast the weight is float32 and x is not: torch's fused kernel wants both alike.
        return nn.functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + ε) · g + b over the last dimension (Ba et al. 2016, eq. 4)."""

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__(width, eps=epsilon)


class BatchNorm(nn.Module):
    """Normalises each of D features over all tokens of the batch (Ioffe & Szegedy 2015, alg. 1).

    In training the statistics come from this batch, so tokens see their neighbours' statistics, later ones too, and
    accumulation over micro-batches is not the full batch: layer and RMS norm have neither fault. In evaluation the
    running averages are used and every token stands alone again.
    """

    def __init__(self, width: int, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.inner = nn.BatchNorm1d(width, eps=epsilon, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.reshape(-1, x.shape[-1])).view_as(x)


NORMS: dict[str, type[nn.Module]] = {"layer": LayerNorm, "rms": RMSNorm, "batch": BatchNorm}
