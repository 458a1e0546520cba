"""A module's weights: each tensor once for files, filled from them, and for a while without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


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


class unfilled(TorchFunctionMode):
    """Within, new weights are left as memory came, for whoever fills them at once: no random numbers are drawn in vain,
    and memory that nobody wrote to takes no room yet."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@torch.no_grad()
def fill(module: nn.Module, tensors: dict[str, Tensor], given: bool) -> None:
    """Put tensors in the place of the module's own of the same names, and take them out of `tensors`: copies, or, where
    they are `given` away and of the same kind, the tensors themselves, so that no weight is in memory twice."""
    for name, own in module.state_dict(keep_vars=True).items():
        if name in tensors:
            tensor = tensors.pop(name).to(own.device)
            if given and tensor.dtype == own.dtype and tensor.is_contiguous():
                own.data = tensor
            else:
                own.copy_(tensor)


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
