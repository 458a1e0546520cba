"""Multi-head scaled dot-product attention: of a sequence to itself, and of one sequence to another."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from llmbert.nn.cache import KeyValueCache
from llmbert.nn.dropout import dropout as drop
from llmbert.nn.native import FusedAttention, trains_native
from llmbert.nn.norms import RMSNorm
from llmbert.nn.positions import rotate

SHORT = 128 * 128  # products of a head up to which they are quickest written out


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(Q Kᵀ · scale) V: query (B, H, T, D), key and value (B, H or fewer, S, D) → (B, H, T, D).

    torch's fused attention, but for training on a processor: there in native passes where there are any, or else, in
    bfloat16, where torch's way back is two to eight times slower, written out (short texts) or in float32 (long ones).
    """
    if _fuses(query, mask):
        given = (each.transpose(1, 2) for each in (query, key, value))
        given = (each if each.stride(-1) == 1 else each.contiguous() for each in given)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        mixed = FusedAttention.apply(*given, key.shape[1], *[None] * 4, mask, causal, dropout, scale, 0.0)
        return mixed.transpose(1, 2)
    slow = query.device.type == "cpu" and query.requires_grad and _computed_in(query) == torch.bfloat16
    if slow and query.shape[2] * key.shape[2] <= SHORT:
        return _written_out(query, key, value, mask, causal, dropout, scale)
    if slow:
        query, key, value = (each.float() for each in (query, key, value))
        mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
    with torch.autocast("cpu", enabled=False) if slow else nullcontext():
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=causal,
            dropout_p=dropout,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return mixed.bfloat16() if slow else mixed


def _fuses(x: Tensor, mask: Tensor | None) -> bool:
    """Whether attention of queries x under the mask can be native passes, there and back."""
    return (mask is None or mask.dtype == torch.bool) and trains_native(x)


def _computed_in(x: Tensor) -> torch.dtype:
    """The numbers that attention to x would be computed in: under autocast not those that x has."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, dropout: float, scale: float | None
) -> Tensor:
    weights = attention_weights(query, key, mask, causal, scale).to(value.dtype)
    return drop(weights, dropout) @ _for_each_head(value, query)


def _for_each_head(shared: Tensor, query: Tensor) -> Tensor:
    """Keys or values that heads share in groups, once for each head: (B, H, S, D)."""
    heads = query.shape[1]
    return shared if shared.shape[1] == heads else shared.repeat_interleave(heads // shared.shape[1], dim=1)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """softmax(Q Kᵀ · scale), where each query looks: query (B, H, T, D), key (B, H or fewer, S, D) → (B, H, T, S)."""
    products = query @ _for_each_head(key, query).mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        mask = torch.ones(products.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        products = products.masked_fill(~mask, torch.finfo(products.dtype).min)
    elif mask is not None:
        products = products + mask
    return products.softmax(-1, dtype=torch.float32)


class SelfAttention(nn.Module):
    """softmax(Q Kᵀ · scale) V (Vaswani et al. 2017, eq. 1), queries, keys and values from the same sequence.

    heads may share keys and values in groups (Ainslie et al. 2023); queries and keys may be RMS-normalised per head
    (Henry et al. 2020), which keeps the products bounded at high learning rates. scale None: 1/√D of a head; bias: of
    queries, keys and values, and of the output unless out_bias says otherwise.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_value_heads: int,
        head_width: int,
        *,
        bias: bool,
        qk_norm: bool = False,
        dropout: float = 0.0,
        scale: float | None = None,
        norm_epsilon: float = 1e-6,
        out_bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.key_value_heads, self.head_width = heads, key_value_heads, head_width
        self.dropout, self.scale = dropout, scale
        self.sections = (heads * head_width, key_value_heads * head_width, key_value_heads * head_width)
        self.qkv = nn.Linear(width, sum(self.sections), bias=bias)
        self.out = nn.Linear(heads * head_width, width, bias=bias if out_bias is None else out_bias)
        self.query_norm = RMSNorm(head_width, norm_epsilon) if qk_norm else None
        self.key_norm = RMSNorm(head_width, norm_epsilon) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        *,
        causal: bool = True,
    ) -> Tensor:
        """x (B, T, D) → (B, T, D).

        mask: (B, 1 or H, T, S), true where a query may look, or numbers added to the products (relative positions,
        with -inf where it may not); None: everywhere, with `causal` no later than itself.
        """
        batch, time, _ = x.shape
        projected, causal = self.qkv(x), causal and mask is None and time > 1
        dropout = self.dropout if self.training else 0.0
        if cache is None and _fuses(projected, mask):
            return self.out(self._fused(projected, angles, mask, causal, dropout))
        query, key, value = self._heads(projected, angles)
        if cache is not None:
            key, value = cache.write(layer, key, value)
        mixed = attend(query, key, value, mask, causal, dropout, self.scale)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, self.heads * self.head_width))

    def _fused(
        self,
        projected: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        causal: bool,
        dropout: float,
    ) -> Tensor:
        """(B, T, sections) → (B, T, H · D): `_heads`, `attend` and the way back in native passes."""
        batch, time, _ = projected.shape
        cosine, sine = (
            (None, None)
            if angles is None
            else ((each if each.dim() == 2 else each[:, 0]).contiguous() for each in angles)
        )  # (T, D), or (B or 1, T, D)
        gains = [None if norm is None else norm.weight.float() for norm in (self.query_norm, self.key_norm)]
        mixed = FusedAttention.apply(
            projected.view(batch, time, self.heads + 2 * self.key_value_heads, self.head_width),
            None,
            None,
            self.key_value_heads,
            *gains,
            cosine,
            sine,
            mask,
            causal,
            dropout,
            self.head_width**-0.5 if self.scale is None else self.scale,
            0.0 if self.query_norm is None else self.query_norm.epsilon,
        )
        return mixed.view(batch, time, self.heads * self.head_width)

    def _heads(self, projected: Tensor, angles: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, sections) → queries, keys and values, each (B, its heads, T, D of a head)."""
        batch, time, _ = projected.shape
        query, key, value = projected.split(self.sections, dim=-1)
        query = query.view(batch, time, self.heads, self.head_width).transpose(1, 2)
        key = key.view(batch, time, self.key_value_heads, self.head_width).transpose(1, 2)
        value = value.view(batch, time, self.key_value_heads, self.head_width).transpose(1, 2)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        return query, key, value

    def weights_of(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: None = None,
        layer: int = 0,
        *,
        causal: bool = True,
    ) -> Tensor:
        """What `forward` of the same arguments, without a cache, weighs values by: (B, H, T, T)."""
        query, key, _ = self._heads(self.qkv(x), angles)
        return attention_weights(query, key, mask, causal and mask is None, self.scale)


class CrossAttention(nn.Module):
    """softmax(Q Kᵀ · scale) V, queries from one sequence, keys and values from another (Vaswani et al. 2017, §3.2.3).

    The other sequence's keys and values are computed once, by `keys_values`, however many steps look at them.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        *,
        bias: bool,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout, self.scale = heads, head_width, dropout, scale
        self.sections = (heads * head_width, heads * head_width)
        self.query = nn.Linear(width, heads * head_width, bias=bias)
        self.key_value = nn.Linear(width, sum(self.sections), bias=bias)
        self.out = nn.Linear(heads * head_width, width, bias=bias)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """source (B, S, D) → keys and values, each (B, H, S, D of a head)."""
        batch, length, _ = source.shape
        key, value = self.key_value(source).view(batch, length, 2, self.heads, self.head_width).unbind(2)
        return key.transpose(1, 2), value.transpose(1, 2)

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """x (B, T, D) → (B, T, D). mask: (B, 1, 1, S) true where the source holds a token, or None for everywhere."""
        batch, time, _ = x.shape
        query = self._query(x)
        mixed = attend(query, *keys_values, mask, False, self.dropout if self.training else 0.0, self.scale)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, self.heads * self.head_width))

    def _query(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        return self.query(x).view(batch, time, self.heads, self.head_width).transpose(1, 2)

    def weights_of(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """What `forward` of the same arguments weighs values by: (B, H, T, S)."""
        return attention_weights(self._query(x), keys_values[0], mask, False, self.scale)


def document_mask(segments: Tensor) -> Tensor:
    """(B, 1, T, T) true where a query may look: not later, and in its own document. segments: (B, T)."""
    same = segments[:, :, None] == segments[:, None, :]
    time = segments.shape[1]
    causal = torch.ones(time, time, dtype=torch.bool, device=segments.device).tril()
    return (same & causal)[:, None]
