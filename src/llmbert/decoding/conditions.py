"""Conditions of several texts as one, and one condition as many: what lets encoded sources share a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmbert.protocols import Condition

FIELDS = ("source", "source_mask", "latent", "label", "source_ids")


def kind_of(condition: Condition | None) -> tuple[bool, bool, bool]:
    """Which of source, latent and label a condition has: only those alike can be stacked."""
    if condition is None:
        return (False, False, False)
    return (condition.source is not None, condition.latent is not None, condition.label is not None)


def stack_conditions(conditions: Sequence[Condition | None]) -> Condition | None:
    """The conditions of several texts as one of all their rows, in that order; they must be of one kind.

    Sources are padded with zeros to the longest, (B, S, D), with a mask (B, S) as soon as one has a mask or is padded.
    """
    given = [condition for condition in conditions if condition is not None]
    if not given or len(conditions) == 1:
        return conditions[0] if conditions else None
    source, mask = _stack_sources(given) if given[0].source is not None else (None, None)
    latents = [c.latent for c in given if c.latent is not None]
    labels = [c.label for c in given if c.label is not None]
    ids = [c.source_ids for c in given if c.source_ids is not None]
    return Condition(
        source,
        mask,
        torch.cat(latents) if latents else None,
        torch.cat(labels) if labels else None,
        _stack_ids(ids) if ids else None,
    )


def _stack_sources(conditions: Sequence[Condition]) -> tuple[Tensor, Tensor | None]:
    sources = [c.source for c in conditions if c.source is not None]
    longest = max(source.shape[1] for source in sources)
    padded = [torch.nn.functional.pad(source, (0, 0, 0, longest - source.shape[1])) for source in sources]
    if all(c.source_mask is None for c in conditions) and all(source.shape[1] == longest for source in sources):
        return torch.cat(padded), None
    masks = [
        source.new_ones(source.shape[:2], dtype=torch.bool) if c.source_mask is None else c.source_mask
        for c, source in zip(conditions, sources, strict=True)
    ]
    return torch.cat(padded), torch.cat(
        [torch.nn.functional.pad(mask, (0, longest - mask.shape[1]), value=False) for mask in masks]
    )


def _stack_ids(rows: Sequence[Tensor]) -> Tensor:
    longest = max(ids.shape[1] for ids in rows)
    return torch.cat([torch.nn.functional.pad(ids, (0, longest - ids.shape[1])) for ids in rows])


def split_condition(condition: Condition) -> list[Condition]:
    """A condition of B rows as B of one row each, their sources without the padding behind them."""
    parts: dict[str, list[Tensor | None]] = {}
    rows = max(len(value) for name in FIELDS if (value := getattr(condition, name)) is not None)
    for name in FIELDS:
        value = getattr(condition, name)
        parts[name] = [None] * rows if value is None else list(value.split(1))
    if condition.source is not None and condition.source_mask is not None:
        for row, mask in enumerate(condition.source_mask):
            length = int(mask.nonzero()[-1]) + 1 if bool(mask.any()) else len(mask)
            # Copied, so that a short row does not keep the memory of the whole batch.
            parts["source"][row] = condition.source[row : row + 1, :length].clone()
            parts["source_mask"][row] = mask[None, :length]
            if condition.source_ids is not None:
                parts["source_ids"][row] = condition.source_ids[row : row + 1, :length]
    return [Condition(**{name: parts[name][row] for name in FIELDS}) for row in range(rows)]
