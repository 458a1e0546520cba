"""One token a row from processed logits."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy(logits: Tensor) -> Tensor:
    """The most probable token of each row, (B,) int64 from (B, V); of equals the lowest id."""
    return logits.argmax(-1)


def sample(logits: Tensor, uniforms: Tensor) -> Tensor:
    """A draw from softmax(logits) (B, V) for each row, (B,) int64, by inversion of its distribution function.

    uniforms: (B,) float64 in [0, 1), one for each row. One number a token, not V, makes a row's draws cheap and
    independent of the rows beside it.
    """
    # unnormalised and elementwise: torch's softmax wakes all threads even for a few rows, which costs milliseconds
    # on a busy machine
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    targets = uniforms.to(logits.device)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, targets, right=True).clamp(max=logits.shape[-1] - 1)
    # a parallel sum need not be monotone to the last bit: never let that pick what was ruled out
    possible = weights.gather(-1, drawn) > 0
    return torch.where(possible, drawn, weights.argmax(-1, keepdim=True))[:, 0]
