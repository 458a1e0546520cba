"""The sequence-to-sequence objective: -log p(next target token | source, target tokens before)."""

from __future__ import annotations

from typing import Any

from llmbert.data.batches import IGNORED
from llmbert.objectives.causal import Terms
from llmbert.objectives.cross_entropy import linear_cross_entropy, smoothed_nll


def sequence_to_sequence(
    model: Any, batch: Any, memory: Any = None, label_smoothing: float = 0.0
) -> tuple[Terms, None]:
    """Loss of the targets under teacher forcing: {"nll": (sum in nats, tokens)} (Sutskever et al. 2014, eq. 1).

    batch: source, source_mask (B, S), inputs, targets (B, T); model: `encode`, `hidden(ids, condition)`, `head`, and
    `predict(hidden, condition)` → log p where it copies.
    """
    condition = model.encode(batch.source, batch.source_mask)
    hidden = model.hidden(batch.inputs, condition)
    kept = batch.targets != IGNORED
    if getattr(model, "pointer", None) is not None:
        logarithms = model.predict(hidden, condition)[kept]
        return {"nll": (smoothed_nll(logarithms, batch.targets[kept], label_smoothing), int(kept.sum()))}, None
    total = linear_cross_entropy(hidden[kept], model.head.weight, model.head.bias, batch.targets[kept], label_smoothing)
    return {"nll": (total, int(kept.sum()))}, None
