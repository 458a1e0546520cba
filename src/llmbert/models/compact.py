"""A GPT with weights of two bytes or one, whose tokens are written by one native call each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from llmbert.models.gpt import GPT
from llmbert.nn.cache import KeyValueCache
from llmbert.nn.feedforward import GatedFeedForward
from llmbert.nn.native import NativeGPT, native_library
from llmbert.nn.native.gpt_step import NORM_KINDS, NativeLayer, NativeNorm
from llmbert.nn.packed import Packed, PackedEmbedding, PackedKind, PackedLinear

MOST_TOKENS = 16  # of a step that is native: more are read quicker by torch's products, but for int8 weights
PIECE = 64  # tokens of int8 weights' native calls


class CompactGPT(GPT):
    """A GPT for writing and measuring on a processor, made of another that it takes apart.

    kind: of the weights in memory. float32 ones predict what the GPT does, bfloat16 and int8 ones what their rounded
    values do; with int8 a text's tokens do not depend, not by a bit, on those it is written beside. Where there is no
    C++ compiler, or the shape is one the native step does not know (batch norm), all runs in torch and is slower.
    """

    def __init__(self, model: GPT, kind: PackedKind) -> None:
        nn.Module.__init__(self)
        self.settings, self.vocabulary_size, self.max_length = model.settings, model.vocabulary_size, model.max_length
        tied = model.head.weight is model.embedding.weight
        self.blocks, self.norm = model.blocks, model.norm
        _pack(self.blocks, kind)  # first, since it makes room for the tables
        self.table = Packed(model.embedding.weight, None, kind)
        self.output = self.table if tied else Packed(model.head.weight, None, kind)
        self.embedding = PackedEmbedding(self.table)  # type: ignore[assignment]
        self.position_embedding, self.rotary, self.dropout = model.position_embedding, model.rotary, model.dropout
        self.head = PackedLinear(self.output)  # type: ignore[assignment]
        self.eval()
        known = self.settings.norm in NORM_KINDS and native_library() is not None
        self.native = self._native() if known else None
        self.kind = kind
        self.most_native = None if kind == "int8" else MOST_TOKENS

    def start(self, batch: int, condition: object = None) -> KeyValueCache:
        s = self.settings
        assert s.key_value_heads and s.head_width
        like = torch.empty(0, device=self.table.weight.device)
        return KeyValueCache(s.layers, batch, s.key_value_heads, s.head_width, like)

    def step(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """As a GPT's; native for few tokens."""
        if not self._is_native(ids):
            return super().step(ids, state)
        parts = list(self._native_steps(ids, state, last=False))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), state

    def take_in(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        if not self._is_native(ids):
            return super().take_in(ids, state)
        *_, logits = self._native_steps(ids, state, last=True)
        return logits[:, -1], state

    def _is_native(self, ids: Tensor) -> bool:
        few = self.most_native is None or ids.numel() <= self.most_native
        return self.native is not None and few and ids.device.type == "cpu"

    def _native_steps(self, ids: Tensor, state: KeyValueCache, last: bool) -> Iterator[Tensor]:
        """Logits of ids piece by piece, of all tokens (B, some, V) or of each piece's last (B, 1, V)."""
        assert self.native is not None
        rows, time = ids.shape
        self.check_reach(state.even_end(time))
        state.reserve(time)
        for piece in ids.split(max(1, PIECE // rows), dim=1):
            angles = None if self.rotary is None else self.rotary.angles(state.positions(piece.shape[1]))
            yield self.native.step(piece, state, angles, last)

    @property
    def scoring_signature(self) -> str:
        return f"{super().scoring_signature}-{self.kind}"

    def _native(self) -> NativeGPT:
        s = self.settings
        assert s.key_value_heads and s.head_width and s.inner and s.activation
        positions = None if self.position_embedding is None else self.position_embedding.weight
        return NativeGPT(
            [self._layer(block) for block in self.blocks],
            self.table,
            positions,
            self._norm(self.norm),
            self.output,
            heads=s.heads,
            key_value_heads=s.key_value_heads,
            head_width=s.head_width,
            inner=s.inner,
            gated=isinstance(self.blocks[0].feedforward, GatedFeedForward),
            activation=s.activation,
        )

    def _layer(self, block: Any) -> NativeLayer:
        attention, feedforward = block.attention, block.feedforward
        up: Any = feedforward.gate_up if isinstance(feedforward, GatedFeedForward) else feedforward.up
        queries, keys = attention.query_norm, attention.key_norm
        return NativeLayer(
            self._norm(block.attention_norm),
            attention.qkv.packed,
            None if queries is None or keys is None else (queries.weight, keys.weight),
            0.0 if queries is None else queries.epsilon,
            attention.out.packed,
            self._norm(block.feedforward_norm),
            up.packed,
            feedforward.down.packed,
        )

    def _norm(self, norm: Any) -> NativeNorm:
        s = self.settings
        assert s.norm and s.norm_epsilon
        return NativeNorm(norm.weight, getattr(norm, "bias", None), s.norm_epsilon, s.norm)


def _pack(modules: nn.Module, kind: PackedKind) -> None:
    """Put a packed layer in the place of every linear one."""
    for module in list(modules.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(Packed(child.weight, child.bias, kind)))
