"""A module's weights for files: each tensor once, however many names share it."""

from __future__ import annotations

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
