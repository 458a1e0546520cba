"""Norms and activations with their way back, each one native pass over its numbers."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmbert.nn.native.build import native_library

KINDS = {"gelu": 0, "gelu_tanh": 1, "silu": 2}  # as elementwise.cpp numbers them
BLOCK = 32  # rows whose slopes of gains it sums together

_pointer, _long = ctypes.c_void_p, ctypes.c_int64


def _call(name: str, kinds: list[Any], *values: Any) -> None:
    library = native_library()
    if library is None:
        raise RuntimeError("there is no native library")
    call = getattr(library, name)
    call.restype, call.argtypes = None, [*kinds, _long]
    call(*values, torch.get_num_threads())


def _narrow(x: Tensor) -> int:
    assert x.is_contiguous() and x.dtype in (torch.float32, torch.bfloat16)
    return int(x.dtype == torch.bfloat16)


class FusedActivation(torch.autograd.Function):
    """One of KINDS of each number of x, float32 or bfloat16 on the processor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ctx.save_for_backward(x)
        ctx.kind = KINDS[kind]
        kinds = [_long, _pointer, _pointer, _long, _long]
        _call("llmbert_activate", kinds, ctx.kind, x.data_ptr(), out.data_ptr(), _narrow(x), x.numel())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope, found = slope.contiguous(), torch.empty_like(x)
        kinds = [_long, *[_pointer] * 3, _long, _long]
        places = (x.data_ptr(), slope.data_ptr(), found.data_ptr())
        _call("llmbert_activate_back", kinds, ctx.kind, *places, _narrow(x), x.numel())
        return found, None


class FusedGate(torch.autograd.Function):
    """a(gate) ⊙ up of x (..., 2 I), gates first → (..., I); a is one of KINDS."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1] // 2
        out = torch.empty(*x.shape[:-1], width, dtype=x.dtype)
        ctx.save_for_backward(x)
        ctx.kind = KINDS[kind]
        kinds = [_long, _pointer, _pointer, *[_long] * 3]
        _call("llmbert_gate", kinds, ctx.kind, x.data_ptr(), out.data_ptr(), _narrow(x), out.numel() // width, width)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope, found, width = slope.contiguous(), torch.empty_like(x), x.shape[-1] // 2
        kinds = [_long, *[_pointer] * 3, *[_long] * 3]
        places = (x.data_ptr(), slope.data_ptr(), found.data_ptr())
        _call("llmbert_gate_back", kinds, ctx.kind, *places, _narrow(x), slope.numel() // width, width)
        return found, None


class FusedRMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + ε) · gain of x (..., D) and gain (D), as numbers of `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        width, rows = x.shape[-1], x.numel() // x.shape[-1]
        out, roots = torch.empty(x.shape, dtype=dtype), torch.empty(rows)
        kinds = [_pointer, _long, _pointer, *[_long] * 3, _pointer, ctypes.c_double, _pointer]
        numbers = (x.data_ptr(), _narrow(x), out.data_ptr(), _narrow(out), rows, width)
        _call("llmbert_normalise", kinds, *numbers, gain.data_ptr(), epsilon, roots.data_ptr())
        ctx.save_for_backward(x, gain, roots)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, roots = ctx.saved_tensors
        slope, found, width = slope.contiguous(), torch.empty_like(x), x.shape[-1]
        rows = len(roots)
        sums = torch.zeros(-(-rows // BLOCK), width)
        kinds = [_pointer, _long, _pointer, _long, _pointer, *[_long] * 2, *[_pointer] * 3]
        numbers = (x.data_ptr(), _narrow(x), slope.data_ptr(), _narrow(slope), found.data_ptr(), rows, width)
        _call("llmbert_normalise_back", kinds, *numbers, gain.data_ptr(), roots.data_ptr(), sums.data_ptr())
        return found, sums.sum(0), None, None
