"""The likeliest tokens of many rows of logits, in one pass over them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from llmbert.nn.native.build import native_library

_pointer, _long = ctypes.c_void_p, ctypes.c_int64


def likeliest(logits: Tensor, count: int, forbidden: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, count) and ids (B, count) of the likeliest tokens of logits (B, V), best first, of equals
    the lower; nats of the softmax over all V, though none of the `forbidden` is among them. What a row lacks is -inf.

    float32 on the processor. Raises RuntimeError where there is no library.
    """
    library = native_library()
    if library is None:
        raise RuntimeError("there is no native library")
    call = library.llmbert_likeliest
    call.restype, call.argtypes = None, [_pointer, *[_long] * 3, _pointer, _long, *[_pointer] * 2, _long]
    rows, vocabulary = logits.shape
    logits, never = logits.contiguous(), torch.tensor(list(forbidden), dtype=torch.int64)
    values, ids = torch.empty(rows, count), torch.empty(rows, count, dtype=torch.int64)
    places = (never.data_ptr(), len(never), values.data_ptr(), ids.data_ptr())
    call(logits.data_ptr(), rows, vocabulary, count, *places, torch.get_num_threads())
    return values, ids
