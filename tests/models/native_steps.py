"""What native steps are held to, whichever model they are of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

Stepped = Callable[[Any], list[torch.Tensor]]
"""Logits of a model's steps, some of them together."""


def same_with_whole_weights(plain: Any, compact_of: Callable[[Any, Any], Any], stepped: Stepped, threads: int) -> None:
    """With float32 weights the native steps of a model's compact copy are those of the model, to 1e-5."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compact = compact_of(copy.deepcopy(plain), "float32")
        assert compact.native is not None
        for got, expected in zip(stepped(compact), stepped(plain), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    finally:
        torch.set_num_threads(before)


def same_as_in_torch(compact: Any, stepped: Stepped) -> None:
    """Of packed weights the native steps say what torch says; of int8 ones nine in ten of them to 1e-5, since an
    activation on the border of two steps goes to either side by what is summed in another order."""
    native, kind = stepped(compact), compact.kind
    compact.native = None
    errors = [
        ((got - expected).abs() / expected.abs().max()).flatten()
        for got, expected in zip(native, stepped(compact), strict=True)
    ]
    error = torch.cat(errors)
    assert float(error.max()) < (1e-2 if kind == "int8" else 1e-4)
    assert kind != "int8" or float((error < 1e-5).float().mean()) > 0.9
