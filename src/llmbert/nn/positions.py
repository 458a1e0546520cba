"""Where a token stands: rotary positions, and positions that begin anew with each document."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryPositions(nn.Module):
    """Rotary position embedding (Su et al. 2021, eq. 34) in the half-split layout of Llama and Qwen.

    Turns each pair (x_i, x_{i+D/2}) of a head by position · base^(-2i/D), so that a query's product with a key depends
    on the distance between them alone.
    """

    def __init__(self, head_width: int, base: float = 10_000.0) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (..., T, D) for positions (..., T), shared by all layers of a pass."""
        turn = positions[..., None].float() * self.frequencies
        turn = torch.cat((turn, turn), dim=-1)
        return turn.cos(), turn.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x (B, H, T, D) by angles (T, D) or (B, 1, T, D)."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def document_positions(segments: Tensor) -> Tensor:
    """Positions (B, T) that count from 0 anew wherever `segments` (B, T) changes along a row."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.zeros_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(begins, index, 0).cummax(dim=1).values
