"""The autoregressive objective: -log p(next token | tokens before)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from llmbert.data.batches import IGNORED, Batch
from llmbert.objectives.cross_entropy import linear_cross_entropy

Terms = dict[str, tuple[Tensor, int]]
"""Named terms of a loss: each a sum in nats and the number of things summed."""


def causal(model: Any, batch: Batch, memory: Any = None, label_smoothing: float = 0.0) -> tuple[Terms, Any]:
    """Next-token loss of a batch: {"nll": (sum in nats, tokens)}, and the memory to carry on with.

    model: `hidden(ids, segments, memory) → ((B, T, D), memory)` and a linear `head`.
    """
    hidden, memory = model.hidden(batch.inputs, batch.segments, memory)
    targets, flat = batch.targets.flatten(), hidden.flatten(0, 1)
    if not batch.whole:
        kept = targets != IGNORED
        flat, targets = flat[kept], targets[kept]
    total = linear_cross_entropy(flat, model.head.weight, model.head.bias, targets, label_smoothing)
    return {"nll": (total, len(targets))}, memory
