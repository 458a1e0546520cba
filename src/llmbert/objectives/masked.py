"""BERT's objectives: guess the masked tokens, and tell whether the second segment follows the first."""

from __future__ import annotations

from typing import Any

import torch

from llmbert.data.batches import IGNORED
from llmbert.data.masking import MaskedBatch
from llmbert.objectives.causal import Terms
from llmbert.objectives.cross_entropy import linear_cross_entropy


def masked_language_model(
    model: Any, batch: MaskedBatch, memory: None = None, label_smoothing: float = 0.0
) -> tuple[Terms, None]:
    """{"mlm": (sum in nats, tokens to guess), "nsp": (sum in nats, pairs)}, the latter for batches of pairs alone.

    model: `encode(ids, mask, types, segments, at) → (N, D)`, the states at the places `at` alone; `finish` and a linear
    `head` behind it; for pairs `pool` and `next_logits`. Devlin et al. 2019, §3.1. label_smoothing: of guessed tokens.
    """
    targets = batch.targets.flatten()
    at = (targets != IGNORED).nonzero()[:, 0]
    wanted = at
    if batch.follows is not None:
        begins = torch.arange(len(batch.inputs), device=at.device) * batch.inputs.shape[1]
        wanted = torch.cat((at, begins))
    states = model.encode(batch.inputs, batch.mask, batch.types, batch.segments, wanted)
    hidden = model.finish(states[: len(at)])
    total = linear_cross_entropy(hidden, model.head.weight, model.head.bias, targets[at], label_smoothing)
    terms: Terms = {"mlm": (total, len(at))}
    if batch.follows is not None:
        logits = model.next_logits(model.pool(states[len(at) :]))
        pairs = torch.nn.functional.cross_entropy(logits, batch.follows, reduction="sum")
        terms["nsp"] = (pairs, len(batch.follows))
    return terms, None
