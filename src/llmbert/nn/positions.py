"""Where a token stands: rotary and relative positions, and positions that begin anew with each document."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class RotaryPositions(nn.Module):
    """Rotary position embedding (Su et al. 2021, eq. 34) in the half-split layout of Llama and Qwen.

    Turns each pair (x_i, x_{i+D/2}) of a head by position · base^(-2i/D), so that a query's product with a key depends
    on the distance between them alone. scaling: of these frequencies (D/2,), for texts longer than trained on.
    """

    def __init__(
        self, head_width: int, base: float = 10_000.0, scaling: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        self.register_buffer("frequencies", scaling(frequencies) if scaling else frequencies, persistent=False)
        self.frequencies: Tensor

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (..., T, D) for positions (..., T), shared by all layers of a pass."""
        turn = positions[..., None].float() * self.frequencies
        turn = torch.cat((turn, turn), dim=-1)
        return turn.cos(), turn.sin()


def stretched_frequencies(
    frequencies: Tensor, factor: float, low: float | None, high: float | None, reach: int | None
) -> Tensor:
    """Rotary frequencies (D/2,) for texts `factor` times as long: all divided by it (Chen et al. 2023, eq. 4).

    With low, high and reach, as in Llama 3: those that turn more than `high` times within `reach` tokens, the length
    trained on, stay; those that turn less than `low` times are divided; in between the two are mixed linearly.
    """
    if low is None or high is None or reach is None:
        return frequencies / factor
    turns = reach * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return kept * frequencies + (1 - kept) * frequencies / factor


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


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """(length, width): sines of position · 10000^(-2i/D) in the first half, cosines in the second.

    Vaswani et al. 2017, §3.5, with sines and cosines apart instead of alternating, as Marian and Pegasus have them: a
    permutation of the features.
    """
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    turn = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.cat((turn.sin(), turn.cos()), dim=1).float()


def relative_buckets(distances: Tensor, buckets: int, max_distance: int, causal: bool) -> Tensor:
    """The bucket of each distance, key's place minus query's (Raffel et al. 2020, §2.1): int64 of the same shape.

    causal: all buckets are for keys that came before (later ones share bucket 0); otherwise half of them are, and the
    other half is for keys that come after. Of each such set half are single distances, the rest widen logarithmically
    up to max_distance, beyond which all distances share the last.
    """
    offset: Tensor | int = 0
    if causal:
        distances = (-distances).clamp_min(0)
    else:
        buckets //= 2
        offset = buckets * (distances > 0)
        distances = distances.abs()
    exact = buckets // 2
    # In this order of operations float32 rounds to the same side of a bucket's border as the published models do.
    share = torch.log(distances.clamp_min(exact).float() / exact) / math.log(max_distance / exact)
    far = (exact + (share * (buckets - exact)).long()).clamp_max(buckets - 1)
    return offset + torch.where(distances < exact, distances, far)


class RelativePositions(nn.Module):
    """A learned number for each head and distance, added to the products of attention (Raffel et al. 2020, §2.1)."""

    def __init__(self, heads: int, buckets: int, max_distance: int, causal: bool) -> None:
        super().__init__()
        self.buckets, self.max_distance, self.causal = buckets, max_distance, causal
        self.table = nn.Embedding(buckets, heads)

    def forward(self, queries: Tensor, keys: int) -> Tensor:
        """For queries at places (B, T) and keys at places 0 to S-1: (B, H, T, S), -inf where `causal` forbids."""
        distances = torch.arange(keys, device=queries.device) - queries[..., None]
        found = self.table(relative_buckets(distances, self.buckets, self.max_distance, self.causal))
        found = found.permute(0, 3, 1, 2)
        return found.masked_fill((distances > 0)[:, None], -torch.inf) if self.causal else found
