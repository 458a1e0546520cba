"""Nats of targets given their sources, for encoder-decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmbert.decoding.stepping import device_of, evaluating
from llmbert.models.scoring import TOKENS_A_BATCH, target_nats
from llmbert.protocols import Progress, silent


def padded(rows: Sequence[Sequence[int] | np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows of ids as one block (B, longest) int64, 0 behind the short ones, and where it holds a token (B, longest)."""
    longest = max(len(row) for row in rows)
    block = torch.zeros(len(rows), longest, dtype=torch.int64)
    for place, row in enumerate(rows):
        block[place, : len(row)] = torch.as_tensor(np.asarray(row, dtype=np.int64))
    return block, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


def pair_nats(
    model: Any,
    sources: Sequence[Sequence[int] | np.ndarray],
    targets: Sequence[Sequence[int] | np.ndarray],
    progress: Progress = silent,
) -> list[np.ndarray]:
    """Nats of every token of each target given its source: float32, 0 at the target's begin token, which is given.

    sources: as `Run.encode_source` gives them; targets: each from its begin token to its end token. Pairs of like
    length, which is that of the longer side, share a batch: of TOKENS_A_BATCH at most on either side, or of one pair.
    Raises LLMBertError for what is longer than the model reaches.
    """
    nats = [np.zeros(len(target), dtype=np.float32) for target in targets]
    sizes = [max(len(source), len(target), 1) for source, target in zip(sources, targets, strict=True)]
    order = sorted(range(len(targets)), key=lambda i: (-sizes[i], -len(targets[i])))
    device, done = device_of(model), 0
    with evaluating(model):
        while done < len(order):
            rows = order[done : done + max(1, TOKENS_A_BATCH // sizes[order[done]])]
            source, mask = (each.to(device) for each in padded([sources[i] for i in rows]))
            target = padded([targets[i] for i in rows])[0].to(device)
            condition = model.encode(source, mask)
            hidden = model.hidden(target[:, :-1], condition)
            if getattr(model, "pointer", None) is None:
                found = target_nats(model, hidden, target[:, 1:]).cpu().numpy()
            else:
                logarithms = model.predict(hidden, condition)
                found = -logarithms.gather(2, target[:, 1:, None])[..., 0].cpu().numpy()
            for place, i in enumerate(rows):
                nats[i][1:] = found[place, : len(nats[i]) - 1]
            done += len(rows)
            progress("scoring", done, len(order))
    return nats
