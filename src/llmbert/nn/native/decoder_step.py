"""A decoder's weights as the native step reads them, and the call of it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmbert.nn.cache import KeyValueCache
from llmbert.nn.native.build import native_library
from llmbert.nn.packed import Packed
from llmbert.protocols import LLMBertError

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
NORM_KINDS = {"layer": 0, "rms": 1}
ACTIVATION_KINDS = {"relu": 0, "gelu": 1, "gelu_tanh": 2, "silu": 3}

_pointer, _long, _double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in ("weight", "scale", "bias")),
        *((name, _long) for name in ("rows", "columns", "kind")),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [("gain", _pointer), ("bias", _pointer), ("epsilon", _double), ("kind", _long)]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("attention_norm", _Norm),
        ("qkv", _Matrix),
        ("query_gain", _pointer),
        ("key_gain", _pointer),
        ("gain_epsilon", _double),
        ("out", _Matrix),
        ("cross_norm", _Norm),
        ("cross_query", _Matrix),
        ("cross_out", _Matrix),
        ("feedforward_norm", _Norm),
        ("gate", _Matrix),
        ("up", _Matrix),
        ("down", _Matrix),
        *((name, _pointer) for name in ("keys", "values", "source_keys", "source_values")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        *((name, _long) for name in ("depth", "width", "heads", "key_value_heads", "head_width")),
        *((name, _long) for name in ("inner", "activation", "norm_first")),
        ("embedding", _Matrix),
        ("scale", _double),
        ("positions", _pointer),
        ("embedding_norm", _Norm),
        ("norm", _Norm),
        ("head", _Matrix),
    ]


@dataclass(frozen=True)
class NativeNorm:
    """kind: of NORM_KINDS."""

    gain: Tensor
    bias: Tensor | None
    epsilon: float
    kind: str


@dataclass(frozen=True)
class NativeCross:
    """How a layer looks at a source."""

    norm: NativeNorm
    query: Packed
    out: Packed


@dataclass(frozen=True)
class NativeLayer:
    """gains: of queries and keys, where they are normalised; gate: where there is one; cross: where there is a source.
    All weights lie in panels."""

    attention_norm: NativeNorm
    qkv: Packed
    gains: tuple[Tensor, Tensor] | None
    gain_epsilon: float
    out: Packed
    feedforward_norm: NativeNorm
    gate: Packed | None
    up: Packed
    down: Packed
    cross: NativeCross | None = None


@dataclass(frozen=True)
class NativeShape:
    """What a decoder is besides its weights. activation: of ACTIVATION_KINDS; scale: of what is embedded."""

    heads: int
    key_value_heads: int
    head_width: int
    inner: int
    activation: str
    norm_first: bool = True
    scale: float = 1.0


def _place(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class NativeDecoder:
    """Steps of a decoder in one native call each, over weights that it refers to and keeps alive.

    positions: (context, width) where they are added. norm: behind all layers. Raises RuntimeError where there is no
    library.
    """

    def __init__(
        self,
        shape: NativeShape,
        layers: Sequence[NativeLayer],
        embedding: Packed,
        positions: Tensor | None,
        head: Packed,
        *,
        norm: NativeNorm | None,
        embedding_norm: NativeNorm | None = None,
    ) -> None:
        library = native_library()
        if library is None:
            raise RuntimeError("there is no native library")
        self._call = library.llmbert_decoder_step
        self._call.restype = None
        texts: list[Any] = [*[_pointer] * 3, *[_long] * 3]
        where: list[Any] = [_pointer, _long]
        self._call.argtypes = [*texts, *where, *[_pointer] * 3, _long, *[_pointer] * 2, *[_long] * 2]
        self._alive: list[Tensor] = []
        self.vocabulary_size = head.shape[0]
        self._layers = (_Layer * len(layers))(*(self._layer(layer) for layer in layers))
        s = shape
        numbers = (len(layers), embedding.shape[1], s.heads, s.key_value_heads, s.head_width, s.inner)
        kinds = (ACTIVATION_KINDS[s.activation], int(s.norm_first))
        entry = (self._matrix(embedding), s.scale, self._address(positions), self._norm(embedding_norm))
        self._model = _Model(self._layers, *numbers, *kinds, *entry, self._norm(norm), self._matrix(head))

    def step(
        self,
        ids: Tensor,
        state: KeyValueCache,
        angles: tuple[Tensor, Tensor] | None = None,
        last: bool = False,
        *,
        cross: Sequence[tuple[Tensor, Tensor]] = (),
        sources: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """Take ids (B, T) in; the state of t tokens becomes one of t+T. Returns logits (B, T, V), or with `last` those
        behind the last token alone, (B, 1, V).

        angles: rotary, (B, T, D) each. cross: of each layer the keys and values of the sources, (sources, H, S, D)
        each, source_mask (sources, S) true where there is a token, and sources (B,) which of them each row looks at.
        The state has room for the tokens, and may be scattered; all is in float32 on the processor.
        """
        batch, time = ids.shape
        self._check(ids, state, cross, sources)
        # Whatever has to be copied must live until the call is over.
        ids, lengths = ids.long().contiguous(), state.lengths.contiguous()
        angles = None if angles is None else (angles[0].contiguous(), angles[1].contiguous())
        looked_at = [(keys.contiguous(), values.contiguous()) for keys, values in cross]
        mask = None if source_mask is None else source_mask.contiguous()
        sources = None if sources is None else sources.contiguous()
        places = None if state.places is None else state.places.contiguous()
        # Of its own, since another thread may be in a step of another text.
        layers, model = type(self._layers).from_buffer_copy(self._layers), _Model.from_buffer_copy(self._model)
        model.layers = ctypes.cast(layers, ctypes.POINTER(_Layer))
        for layer, keys, values in zip(layers, state.keys, state.values, strict=True):
            layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
        for layer, (keys, values) in zip(layers, looked_at, strict=False):
            layer.source_keys, layer.source_values = keys.data_ptr(), values.data_ptr()
        logits = torch.empty(batch, 1 if last else time, self.vocabulary_size)
        cosine, sine = (None, None) if angles is None else (angle.data_ptr() for angle in angles)
        texts = (ids.data_ptr(), lengths.data_ptr(), batch, time, state.capacity)
        where = (None, 0) if places is None else (places.data_ptr(), places.shape[1])
        source = (_place(sources), looked_at[0][0].shape[2] if looked_at else 0, _place(mask))
        asked = (logits.data_ptr(), int(last), torch.get_num_threads())
        self._call(ctypes.addressof(model), *texts, *where, cosine, sine, *source, *asked)
        state.advance(time)
        return logits

    def _check(
        self, ids: Tensor, state: KeyValueCache, cross: Sequence[tuple[Tensor, Tensor]], sources: Tensor | None
    ) -> None:
        """What torch would refuse, and the call would read or write beyond what is there for."""
        if not (int(ids.min()) >= 0 and int(ids.max()) < self.vocabulary_size):
            raise LLMBertError(f"token {int(ids.min())} or {int(ids.max())} is none of the {self.vocabulary_size}")
        counts = {len(ids), len(state.lengths), len(state.keys[0])} | ({len(sources)} if sources is not None else set())
        if len(counts) > 1:
            raise LLMBertError(f"{len(ids)} rows of tokens do not fit a state of {sorted(counts - {len(ids)})[0]} rows")
        known = {len(part) for pair in cross for part in pair}
        if known and (sources is None or len(known) > 1 or int(sources.max()) >= min(known)):
            raise LLMBertError(f"rows look at sources that are not among the {min(known)} there are")

    # ---- addresses -------------------------------------------------------------------------------------------------

    def _address(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        tensor = tensor.detach().contiguous()
        self._alive.append(tensor)
        return tensor.data_ptr()

    def _matrix(self, packed: Packed | None) -> Any:
        if packed is None:
            return _Matrix()
        assert packed.panels
        rows, columns = packed.shape
        addresses = (self._address(part) for part in (packed.weight, packed.scale, packed.bias))
        return _Matrix(*addresses, rows, columns, KINDS[packed.weight.dtype])

    def _norm(self, norm: NativeNorm | None) -> Any:
        return (
            _Norm()
            if norm is None
            else _Norm(self._address(norm.gain), self._address(norm.bias), norm.epsilon, NORM_KINDS[norm.kind])
        )

    def _layer(self, layer: NativeLayer) -> Any:
        gains = (None, None) if layer.gains is None else layer.gains
        cross = layer.cross
        read = (None, None, None) if cross is None else (cross.norm, cross.query, cross.out)
        return _Layer(
            self._norm(layer.attention_norm),
            self._matrix(layer.qkv),
            self._address(gains[0]),
            self._address(gains[1]),
            layer.gain_epsilon,
            self._matrix(layer.out),
            self._norm(read[0]),
            self._matrix(read[1]),
            self._matrix(read[2]),
            self._norm(layer.feedforward_norm),
            self._matrix(layer.gate),
            self._matrix(layer.up),
            self._matrix(layer.down),
        )
