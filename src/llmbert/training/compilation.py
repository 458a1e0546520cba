"""A model's layers compiled, or computed twice to save memory, while it trains, and as they were afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from llmbert.nn.norms import BatchNorm
from llmbert.nn.state import without_gradients
from llmbert.protocols import UsageError


@contextmanager
def compiled_layers(model: nn.Module, wanted: bool, backend: str = "inductor") -> Iterator[None]:
    """Within, each of a Transformer's layers runs compiled (torch.compile); layers of one shape share what is made.

    Layer by layer it takes seconds where a whole deep model takes minutes, and loses little: what is gained is that
    norms, activations, dropout and residuals no longer go through memory one by one. Outside, texts of every length
    come, and each would be compiled anew. Raises UsageError for a model that is no stack of layers.
    """
    layers = layers_of(model) if wanted else []
    if wanted and not layers:
        raise UsageError("compile is for models that are a stack of layers, as Transformers are; leave it out here")
    try:
        for layer in layers:
            layer.compile(backend=backend)
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


@contextmanager
def recomputed_layers(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Within, each of a Transformer's layers keeps its input alone, and computes the rest again on the way back (Chen
    et al. 2016, §4): the same gradients, dropout and all, for a third more arithmetic and much less memory.

    Raises UsageError for a model whose layers note what they saw (batch norm): they would note it twice; and for one
    that is no stack of layers, such as an LSTM.
    """
    if wanted and any(isinstance(module, BatchNorm) for module in model.modules()):
        raise UsageError("recompute computes a layer twice, and batch norm would count twice; take norm=layer or rms")
    layers = layers_of(model) if wanted else []
    if wanted and not layers:
        raise UsageError("recompute is for models that are a stack of layers, as Transformers are; leave it out here")
    try:
        for layer in layers:
            layer.forward = _recomputed(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _recomputed(layer: nn.Module) -> Callable[..., Any]:
    forward, weights = layer.forward, list(layer.parameters())

    def run(*given: Any, **named: Any) -> Any:
        # What is held still on the way there must be so again when it is computed anew.
        held = [weight for weight in weights if not weight.requires_grad]

        def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return nullcontext(), without_gradients(held)

        return checkpoint(forward, *given, use_reentrant=False, context_fn=contexts, **named)

    return run


def layers_of(model: nn.Module) -> list[nn.Module]:
    """What a model is a stack of."""
    return [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack]
