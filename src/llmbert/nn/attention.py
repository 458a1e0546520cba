"""Multi-head scaled dot-product attention that looks only backwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmbert.nn.cache import KeyValueCache
from llmbert.nn.norms import RMSNorm
from llmbert.nn.positions import rotate


class CausalSelfAttention(nn.Module):
    """softmax(Q Kᵀ / √D) V (Vaswani et al. 2017, eq. 1) where no token sees a later one.

    heads may share keys and values in groups (Ainslie et al. 2023); queries and keys may be RMS-normalised per head
    (Henry et al. 2020), which keeps the products bounded at high learning rates.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_value_heads: int,
        head_width: int,
        *,
        bias: bool,
        qk_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.heads, self.key_value_heads, self.head_width = heads, key_value_heads, head_width
        self.dropout = dropout
        self.sections = (heads * head_width, key_value_heads * head_width, key_value_heads * head_width)
        self.qkv = nn.Linear(width, sum(self.sections), bias=bias)
        self.out = nn.Linear(heads * head_width, width, bias=bias)
        self.query_norm = RMSNorm(head_width) if qk_norm else None
        self.key_norm = RMSNorm(head_width) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """x (B, T, D) → (B, T, D). mask: (B, 1, T, S) true where a query may look, or None for plain causal."""
        batch, time, _ = x.shape
        query, key, value = self.qkv(x).split(self.sections, dim=-1)
        query = query.view(batch, time, self.heads, self.head_width).transpose(1, 2)
        key = key.view(batch, time, self.key_value_heads, self.head_width).transpose(1, 2)
        value = value.view(batch, time, self.key_value_heads, self.head_width).transpose(1, 2)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        if cache is not None:
            key, value = cache.write(layer, key, value)
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None and time > 1,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.heads != self.key_value_heads,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, time, self.heads * self.head_width))


def document_mask(segments: Tensor) -> Tensor:
    """(B, 1, T, T) true where a query may look: not later, and in its own document. segments: (B, T)."""
    same = segments[:, :, None] == segments[:, None, :]
    time = segments.shape[1]
    causal = torch.ones(time, time, dtype=torch.bool, device=segments.device).tril()
    return (same & causal)[:, None]
