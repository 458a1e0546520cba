"""Cross-entropy and its gradient, from logits in one call."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from llmbert.nn.native.build import native_library

_pointer, _long = ctypes.c_void_p, ctypes.c_int64


def nats_and_slope_(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """The nats (B,) float64 of targets (B,) under logits (B, V), which become the gradient of their sum.

    float32 or bfloat16 on the processor, where torch goes over the logits ten times, most of them with one number at a
    time. smoothing ε: (1-ε)·target + ε/V (Szegedy et al. 2016, §7). Raises RuntimeError where there is no library,
    IndexError for a target that is no token.
    """
    library = native_library()
    if library is None:
        raise RuntimeError("there is no native library")
    call = library.llmbert_nats_and_slope
    call.restype, call.argtypes = None, [_pointer, *[_long] * 3, _pointer, ctypes.c_double, _pointer, _long]
    rows, vocabulary = logits.shape
    assert logits.is_contiguous() and logits.dtype in (torch.float32, torch.bfloat16)
    assert targets.shape == (rows,) and targets.dtype == torch.int64
    if rows and (int(targets.min()) < 0 or int(targets.max()) >= vocabulary):
        raise IndexError(f"a target is not below {vocabulary}")
    targets, nats = targets.contiguous(), torch.empty(rows, dtype=torch.float64)
    narrow = int(logits.dtype == torch.bfloat16)
    places = (targets.data_ptr(), smoothing, nats.data_ptr())
    call(logits.data_ptr(), rows, vocabulary, narrow, *places, torch.get_num_threads())
    return nats
