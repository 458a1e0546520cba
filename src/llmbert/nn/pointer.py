"""Copying from the source: a decoder that may point at a token instead of choosing one of its vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TINY = 1e-30  # what a probability is at least, so that its logarithm is a number


class Pointer(nn.Module):
    """p(w) = g · softmax(logits)_w + (1 - g) · Σ of a_j over the places j where the source holds w.

    The pointer-generator of See, Liu & Manning 2017, eqs. 8 and 9, on a Transformer: a is one head of attention of its
    own to the encoded source, and g = σ(v·h + b), both from the decoder's last hidden state h.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.gate = nn.Linear(width, 1)

    def keys(self, source: Tensor) -> Tensor:
        """source (B, S, D) → (B, 1, S, D), computed once however many steps look at them."""
        return self.key(source)[:, None]

    def forward(self, hidden: Tensor, logits: Tensor, keys: Tensor, source_ids: Tensor, mask: Tensor | None) -> Tensor:
        """hidden (B, T, D), logits (B, T, V), keys (B, 1, S, D), source_ids (B, S) → log p (B, T, V) float32.

        mask: (B, 1, 1, S) true where the source holds a token, None for everywhere.
        """
        products = self.query(hidden) @ keys[:, 0].mT * hidden.shape[-1] ** -0.5
        if mask is not None:
            products = products.masked_fill(~mask[:, 0], torch.finfo(products.dtype).min)
        gate = self.gate(hidden).float().sigmoid()
        copied = products.softmax(-1, dtype=torch.float32) * (1 - gate)
        mixed = logits.softmax(-1, dtype=torch.float32) * gate
        places = source_ids[:, None].expand(-1, hidden.shape[1], -1)
        return mixed.scatter_add(2, places, copied).clamp_min(TINY).log()
