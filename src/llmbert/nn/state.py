"""A module's weights: each tensor once for files, and for a while without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def state_once(module: nn.Module) -> dict[str, Tensor]:
    """`state_dict()` without the second and later names of a shared weight (a head tied to the embedding)."""
    state = module.state_dict(keep_vars=True)
    seen: set[int] = set()
    found = {}
    for name, tensor in state.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


@contextmanager
def without_gradients(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed meanwhile gives these weights no gradient, though it may pass through them."""
    held = [weight for weight in weights if weight.requires_grad]
    for weight in held:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in held:
            weight.requires_grad_(True)
