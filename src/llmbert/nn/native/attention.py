"""Attention with its way back in native passes, norms and rotation of its queries and keys included."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmbert.nn.native.build import native_library

_pointer, _long = ctypes.c_void_p, ctypes.c_int64


class _Matrix(ctypes.Structure):
    """A tensor (B, T, H, D) whose last numbers lie side by side."""

    _fields_ = [("data", _pointer), ("batch", _long), ("time", _long), ("head", _long), ("narrow", _long)]


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("query", "key", "value", "out")),
        *((name, _Matrix) for name in ("query_slope", "key_slope", "value_slope", "result")),
        *((name, _long) for name in ("batches", "heads", "shared", "queries", "keys", "width")),
        ("scale", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        *((name, _pointer) for name in ("query_gain", "key_gain", "cosine", "sine")),
        ("turn_batch", _long),
        ("causal", _long),
        ("mask", _pointer),
        *((name, _long) for name in ("mask_batch", "mask_head", "mask_time", "mask_key")),
        ("dropped", ctypes.c_float),
        ("seed", ctypes.c_uint64),
        *((name, _pointer) for name in ("sums", "query_gain_slopes", "key_gain_slopes")),
    ]


def _matrix(x: Tensor) -> _Matrix:
    assert x.stride(-1) == 1 and x.dtype in (torch.float32, torch.bfloat16)
    return _Matrix(x.data_ptr(), x.stride(0), x.stride(1), x.stride(2), int(x.dtype == torch.bfloat16))


def _call(
    name: str, query: Tensor, key: Tensor, value: Tensor, out: Tensor, settings: dict[str, Any], **more: Any
) -> None:
    library = native_library()
    if library is None:
        raise RuntimeError("there is no native library")
    call = getattr(library, name)
    call.restype, call.argtypes = None, [ctypes.POINTER(_Attention), _long]
    batches, queries, heads, width = query.shape
    asked = _Attention(
        query=_matrix(query),
        key=_matrix(key),
        value=_matrix(value),
        out=_matrix(out),
        batches=batches,
        heads=heads,
        shared=key.shape[2],
        queries=queries,
        keys=key.shape[1],
        width=width,
        **settings,
        **more,
    )
    call(ctypes.byref(asked), torch.get_num_threads())


class FusedAttention(torch.autograd.Function):
    """softmax(Q Kᵀ · scale) V of queries (B, T, H, D), keys and values (B, S, H or fewer, D) → (B, T, H, D).

    On the processor, float32 or bfloat16; every sum is of float32. key and value None: query is all three, (B, T, H and
    twice the `shared` heads of keys and values, D). query_gain, key_gain (D): of RMS norms of each head before the
    products, with epsilon; cosine, sine (T, D), or (B or 1, T, D): of a rotation of queries and keys after the norms.
    mask: bool (B or 1, H or 1, T, S), true where a query may look; a query that may look nowhere looks everywhere.
    dropout: the share of weights that are dropped, decided by a seed that torch draws.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        shared: int,
        query_gain: Tensor | None,
        key_gain: Tensor | None,
        cosine: Tensor | None,
        sine: Tensor | None,
        mask: Tensor | None,
        causal: bool,
        dropout: float,
        scale: float,
        epsilon: float,
    ) -> Tensor:
        given = [each for each in (query, key, value) if each is not None]
        query, key, value = _three(given, shared)
        batches, queries, heads, width = query.shape
        seed = int(torch.randint(2**62, ()).item()) if dropout else 0
        if mask is not None:
            mask = mask.expand(batches, heads, queries, key.shape[1])
        turn = {"query_gain": query_gain, "key_gain": key_gain, "cosine": cosine, "sine": sine}
        ctx.settings = _settings(turn, mask, causal, dropout, scale, epsilon, seed)
        ctx.kept = (*turn.values(), mask)  # so that they live as long as what points to them
        out, sums = (
            torch.empty(batches, queries, heads, width, dtype=value.dtype),
            torch.empty(batches, heads, 2, queries),
        )
        _call("llmbert_attention", query, key, value, out, ctx.settings, sums=sums.data_ptr())
        ctx.shared = shared
        ctx.save_for_backward(*given, out, sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        *given, out, sums = ctx.saved_tensors
        slopes = [torch.empty_like(each) for each in given]
        query, key, value = _three(given, ctx.shared)
        places = zip(("query_slope", "key_slope", "value_slope"), _three(slopes, ctx.shared), strict=True)
        more: dict[str, Any] = {name: _matrix(each) for name, each in places}
        gains = torch.zeros(2, key.shape[0] * ctx.shared, key.shape[3]) if "query_gain" in ctx.settings else None
        if gains is not None:
            more |= {"query_gain_slopes": gains[0].data_ptr(), "key_gain_slopes": gains[1].data_ptr()}
        slope = slope if slope.stride(-1) == 1 else slope.contiguous()
        more |= {"sums": sums.data_ptr(), "result": _matrix(out)}
        _call("llmbert_attention_back", query, key, value, slope, ctx.settings, **more)
        query_gain_slope, key_gain_slope = (None, None) if gains is None else gains.sum(1)
        nothing = [None] * (3 - len(slopes))
        return *slopes, *nothing, None, query_gain_slope, key_gain_slope, *[None] * 7


def _three(given: list[Tensor], shared: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, apart or as one."""
    if len(given) == 3:
        return given[0], given[1], given[2]
    query, key, value = given[0].split((given[0].shape[2] - 2 * shared, shared, shared), dim=2)
    return query, key, value


def _settings(
    turn: dict[str, Tensor | None],
    mask: Tensor | None,
    causal: bool,
    dropout: float,
    scale: float,
    epsilon: float,
    seed: int,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "causal": int(causal),
        "dropped": dropout,
        "scale": scale,
        "epsilon": epsilon,
        "seed": seed,
    }
    for name, x in turn.items():
        if x is not None:
            assert x.dtype == torch.float32 and x.is_contiguous()
            found[name] = x.data_ptr()
    cosine = turn["cosine"]
    if cosine is not None:
        found["turn_batch"] = cosine.stride(0) if cosine.dim() == 3 and len(cosine) > 1 else 0
    if mask is not None:
        assert mask.dtype == torch.bool
        steps = dict(zip(("mask_batch", "mask_head", "mask_time", "mask_key"), mask.stride(), strict=True))
        found |= {"mask": mask.data_ptr(), **steps}
    return found
