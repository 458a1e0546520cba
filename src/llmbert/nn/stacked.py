"""Linear maps that hold several in one weight, one product for all of them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

STACKED = ("qkv", "key_value", "gate_up")  # what they are called in the modules whose `sections` they have


def stacked_maps(model: nn.Module) -> Iterator[tuple[nn.Linear, tuple[int, ...]]]:
    """Each stacked map of a model, and how many of its rows belong to each of the maps in it."""
    for module in model.modules():
        sections = tuple(getattr(module, "sections", None) or ())
        for name in STACKED if sections else ():
            layer = getattr(module, name, None)
            if isinstance(layer, nn.Linear):
                yield layer, sections
