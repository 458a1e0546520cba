"""Decoders with weights of four, two or one byte, whose tokens are written by one native call each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from llmbert.models.gpt import GPT
from llmbert.models.transformer import Transformer
from llmbert.nn.cache import DecoderState, KeyValueCache
from llmbert.nn.feedforward import GatedFeedForward
from llmbert.nn.native import NativeDecoder, native_library
from llmbert.nn.native.decoder_step import NORM_KINDS, NativeCross, NativeLayer, NativeNorm, NativeShape
from llmbert.nn.packed import Packed, PackedEmbedding, PackedKind, PackedLinear
from llmbert.protocols import Condition

PIECE = 64  # tokens of a native call


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
        native = self.settings.norm in NORM_KINDS and native_library() is not None
        self.blocks, self.norm = model.blocks, model.norm
        _pack(self.blocks, kind, native)  # first, since it makes room for the tables
        self.table = Packed(model.embedding.weight, None, kind, native)
        self.output = self.table if tied else Packed(model.head.weight, None, kind, native)
        self.embedding = PackedEmbedding(self.table)  # type: ignore[assignment]
        self.position_embedding, self.rotary, self.dropout = model.position_embedding, model.rotary, model.dropout
        self.head = PackedLinear(self.output)  # type: ignore[assignment]
        self.eval()
        self.native = self._native() if native else None
        self.kind = kind

    def start(self, batch: int, condition: object = None) -> KeyValueCache:
        s = self.settings
        assert s.key_value_heads and s.head_width
        like = torch.empty(0, device=self.table.weight.device)
        scattered = self.native is not None and like.device.type == "cpu"
        return KeyValueCache(s.layers, batch, s.key_value_heads, s.head_width, like, scattered)

    def step(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """As a GPT's; native on a processor."""
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
        return self.native is not None and ids.numel() > 0 and ids.device.type == "cpu"

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

    def _native(self) -> NativeDecoder:
        s = self.settings
        assert s.key_value_heads and s.head_width and s.inner and s.activation
        positions = None if self.position_embedding is None else self.position_embedding.weight
        return NativeDecoder(
            NativeShape(s.heads, s.key_value_heads, s.head_width, s.inner, s.activation),
            [_layer(block, str(s.norm)) for block in self.blocks],
            self.table,
            positions,
            self.output,
            norm=_norm(self.norm, str(s.norm)),
        )


class CompactTransformer(Transformer):
    """An encoder-decoder for writing on a processor, made of another that it takes apart.

    kind: of the decoder's weights in memory and of the table of tokens; the encoder reads a source once, in torch, and
    keeps its own. One with a pointer runs in torch, as all does where there is no C++ compiler.
    """

    def __init__(self, model: Transformer, kind: PackedKind) -> None:
        nn.Module.__init__(self)
        self.settings, self.vocabulary_size, self.max_length = model.settings, model.vocabulary_size, model.max_length
        self.encoder, self.decoder, self.pointer = model.encoder, model.decoder, model.pointer
        s, target = model.settings, model.decoder.embedding
        tied = model.head.weight is target.weight
        native = native_library() is not None and self.pointer is None
        _pack(self.decoder.layers, kind, native)
        self.table = Packed(target.weight, None, kind, native)
        bias = model.head.bias
        output = self.table.with_bias(bias) if tied else Packed(model.head.weight, bias, kind, native)
        self.embedding = PackedEmbedding(self.table) if s.tied == "all" else model.embedding  # type: ignore[assignment]
        self.encoder.embedding = self.embedding
        self.decoder.embedding = PackedEmbedding(self.table)  # type: ignore[assignment]
        self.head = PackedLinear(output)  # type: ignore[assignment]
        self.eval()
        self.native = self._native(output) if native else None
        self.kind = kind

    @property
    def scoring_signature(self) -> str:
        return f"source-{self.kind}"

    def start(self, batch: int, condition: Condition | None = None) -> DecoderState:
        state = super().start(batch, condition)
        state.cache.scattered = self.native is not None and state.cache.device.type == "cpu"
        return state

    def step(self, ids: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As a Transformer's; native on a processor."""
        if self.native is None or ids.device.type != "cpu" or not ids.numel():
            return super().step(ids, state)
        cache, mask = state.cache, state.source_mask
        self._check_length(cache.even_end(ids.shape[1]))
        cache.reserve(ids.shape[1])
        state.cross = [(keys.contiguous(), values.contiguous()) for keys, values in state.cross]
        padded = None if bool(mask.all()) else mask
        return self.native.step(ids, cache, cross=state.cross, sources=state.sources, source_mask=padded), state

    def _native(self, output: Packed) -> NativeDecoder:
        s, side = self.settings, self.decoder
        assert s.inner
        table: Any = side.sinusoids if side.position_embedding is None else side.position_embedding.weight
        shape = (s.heads, s.heads, s.width // s.heads, s.inner, s.activation, s.norm_first, side.scale)
        return NativeDecoder(
            NativeShape(*shape),
            [_layer(layer, "layer") for layer in side.layers],
            self.table,
            table,
            output,
            norm=_norm(side.norm, "layer"),
            embedding_norm=_norm(side.embedding_norm, "layer"),
        )


def _layer(layer: Any, norm: str) -> NativeLayer:
    attention, feedforward = layer.attention, layer.feedforward
    gated = isinstance(feedforward, GatedFeedForward)
    gate, up = feedforward.gate_up.parts if gated else (None, feedforward.up.packed)
    queries, keys = attention.query_norm, attention.key_norm
    read = getattr(layer, "cross", None)
    before = None if read is None else _norm(layer.cross_norm, norm)
    return NativeLayer(
        _norm(layer.attention_norm, norm),
        attention.qkv.packed,
        None if queries is None or keys is None else (queries.weight, keys.weight),
        0.0 if queries is None else queries.epsilon,
        attention.out.packed,
        _norm(layer.feedforward_norm, norm),
        gate,
        up,
        feedforward.down.packed,
        None if read is None or before is None else NativeCross(before, read.query.packed, read.out.packed),
    )


def _norm(norm: Any, kind: str) -> Any:
    """None for what leaves all as it is."""
    if isinstance(norm, nn.Identity):
        return None
    epsilon = norm.epsilon if hasattr(norm, "epsilon") else norm.eps
    return NativeNorm(norm.weight, getattr(norm, "bias", None), epsilon, kind)


def _pack(modules: nn.Module, kind: PackedKind, panels: bool) -> None:
    """Put a packed layer in the place of every linear one."""
    for module in list(modules.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                # Gate and up stand in one matrix, but are two to a native step.
                sections = module.sections if isinstance(module, GatedFeedForward) and name == "gate_up" else None
                weights = child.weight.split(sections or [len(child.weight)])
                biases = (
                    [None] * len(weights) if child.bias is None else child.bias.split(sections or [len(child.bias)])
                )
                parts = (Packed(a, b, kind, panels) for a, b in zip(weights, biases, strict=True))
                setattr(module, name, PackedLinear(*parts))
