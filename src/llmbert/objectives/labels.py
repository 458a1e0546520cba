"""Objectives over labels: classes, several classes, tags, numbers, and sentence vectors; a term for each head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llmbert.data.labelled import LabelledBatch
from llmbert.models.headed import Headed, TagHead, VectorHead
from llmbert.objectives.causal import Terms


def labels(model: Headed, batch: LabelledBatch, memory: Any = None, label_smoothing: float = 0.0) -> tuple[Terms, None]:
    """The loss of a batch's head: {its name: (sum in nats, or of squares, texts or words)}; there is no memory.

    Smoothing (Szegedy et al. 2016, §7) mixes the uniform distribution into the targets of classes, and of tags that no
    CRF ties together.
    """
    head = model.settings.heads[batch.head]
    total = LOSSES[head.task](model, batch, label_smoothing)
    return {batch.head: (total, batch.counts[batch.head])}, None


def _outputs(model: Headed, batch: LabelledBatch) -> Tensor:
    return model(batch.head, batch.ids, batch.mask, batch.types, batch.words)


def class_loss(model: Headed, batch: LabelledBatch, smoothing: float) -> Tensor:
    """Σ -log p(class)."""
    scores = _outputs(model, batch)
    return torch.nn.functional.cross_entropy(scores, _targets(batch), reduction="sum", label_smoothing=smoothing)


def classes_loss(model: Headed, batch: LabelledBatch, smoothing: float) -> Tensor:
    """Σ over texts of the mean over classes of -log p(in the class or not), each class for itself."""
    scores, targets = _outputs(model, batch), _targets(batch)
    targets = targets * (1 - smoothing) + smoothing / 2
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / scores.shape[1]


def tag_loss(model: Headed, batch: LabelledBatch, smoothing: float) -> Tensor:
    """Σ -log p(tags of a text) under the CRF, or Σ -log p(tag) over words without one."""
    scores, targets, mask = _outputs(model, batch), _targets(batch), batch.word_mask
    head = model.heads[batch.head]
    assert isinstance(head, TagHead) and mask is not None
    if head.crf is not None:
        return head.crf(scores, targets, mask).sum()
    return torch.nn.functional.cross_entropy(scores[mask], targets[mask], reduction="sum", label_smoothing=smoothing)


def number_loss(model: Headed, batch: LabelledBatch, smoothing: float) -> Tensor:
    """Σ (number - prediction)², in the units of the head."""
    return (_outputs(model, batch).squeeze(1) - _targets(batch)).square().sum()


def vector_loss(model: Headed, batch: LabelledBatch, smoothing: float) -> Tensor:
    """Of pairs without a number `info_nce`; with one Σ (number - cosine)² (Reimers & Gurevych 2019, §3)."""
    assert batch.other is not None
    head = model.heads[batch.head]
    assert isinstance(head, VectorHead)
    first, second = model(batch.head, batch.ids, batch.mask), model(batch.head, *batch.other)
    if batch.targets is not None:
        return ((first * second).sum(1) - batch.targets).square().sum()
    return info_nce(first, second, head.temperature, _same(batch.ids) | _same(batch.other[0]))


def info_nce(first: Tensor, second: Tensor, temperature: float, same: Tensor | None = None) -> Tensor:
    """Σ_i -log softmax_j(first_i · second_j / τ)[i] and the same from second to first, halved (van den Oord et al.
    2018, eq. 4; Radford et al. 2021 for both ways): the other rows of the batch are the wrong answers.

    first, second: unit vectors (B, D); same: (B, B), true where first or second texts are one: another right answer to
    a question, like the same answer again, is no wrong one.
    """
    with torch.autocast(first.device.type, enabled=False):  # rounded, what is nearly alike would be alike
        first, second = (each if each.dtype == torch.float64 else each.float() for each in (first, second))
        likeness = first @ second.T / temperature
    if same is not None:
        alike = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        likeness = likeness.masked_fill(alike, float("-inf"))
    aims = torch.arange(len(first), device=first.device)
    there = torch.nn.functional.cross_entropy(likeness, aims, reduction="sum")
    back = torch.nn.functional.cross_entropy(likeness.T, aims, reduction="sum")
    return (there + back) / 2


def _same(ids: Tensor) -> Tensor:
    return (ids[:, None] == ids[None]).all(-1)


def _targets(batch: LabelledBatch) -> Tensor:
    assert batch.targets is not None
    return batch.targets


LOSSES: dict[str, Callable[[Headed, LabelledBatch, float], Tensor]] = {
    "classify": class_loss,
    "multilabel": classes_loss,
    "tag": tag_loss,
    "regress": number_loss,
    "embed": vector_loss,
}
