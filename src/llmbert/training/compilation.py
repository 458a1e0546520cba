"""A model's layers compiled while it trains, and as they were afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def compiled_layers(model: nn.Module, wanted: bool, backend: str = "inductor") -> Iterator[None]:
    """Within, each of a Transformer's layers runs compiled (torch.compile); layers of one shape share what is made.

    Layer by layer it takes seconds where a whole deep model takes minutes, and loses little: what is gained is that
    norms, activations, dropout and residuals no longer go through memory one by one. Outside, texts of every length
    come, and each would be compiled anew.
    """
    layers = (
        [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack] if wanted else []
    )
    try:
        for layer in layers:
            layer.compile(backend=backend)
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
