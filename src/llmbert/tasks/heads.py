"""Texts through a head of a run: rows of like length together, what the head says in the order of the texts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmbert.data.labelled import LabelledBatch, LabelledRows, gather_batch
from llmbert.models.headed import Headed, HeadSettings, TagHead
from llmbert.protocols import Progress, UsageError, silent
from llmbert.runs import Run, load

AnyRun = Run | str | os.PathLike[str]


def open_headed(run: AnyRun, tasks: Sequence[str], head: str | None = None) -> tuple[Run, str, HeadSettings]:
    """A run and its head for one of these tasks: the one called `head`, or the only one.

    Raises UsageError where the run has none, or several to choose from.
    """
    known = run if isinstance(run, Run) else load(Path(run))
    if not isinstance(known.model, Headed):
        raise UsageError(f"{known.folder} is a {known.family} without heads; fine-tune it on labelled examples first")
    heads = known.model.settings.heads
    fitting = [name for name, each in heads.items() if each.task in tasks]
    if head is None and len(fitting) == 1:
        head = fitting[0]
    if head not in fitting:
        there = ", ".join(f"{name} ({each.task})" for name, each in heads.items())
        wanted = (
            f"has no head {head!r} that can {' or '.join(tasks)}"
            if head
            else (f"has {len(fitting)} heads that can {' or '.join(tasks)}; name one with head=")
        )
        raise UsageError(f"{known.folder} {wanted}; there is {there}")
    return known, head, heads[head]


def lowercases(run: Run) -> bool:
    """Whether the run was taught lower-cased text."""
    return bool((run.facts.get("text") or {}).get("lowercase"))


def batches_of(
    model: Headed, rows: LabelledRows, head: str, padding_id: int, batch: int, progress: Progress = silent
) -> Iterator[tuple[list[int], LabelledBatch]]:
    """Batches of rows of like length, the longest first, on the model's device, with the numbers of their rows."""
    device = next(model.parameters()).device
    order = np.argsort([-len(ids) for ids in rows.ids], kind="stable").tolist()
    for first in range(0, len(order), batch):
        some = order[first : first + batch]
        yield some, gather_batch(rows, some, head, padding_id).to(device)
        progress(f"reading {head}", first + len(some), len(order))


@torch.inference_mode()
def run_head(
    model: Headed, rows: LabelledRows, head: str, padding_id: int, batch: int = 64, progress: Progress = silent
) -> np.ndarray:
    """What a head of texts says of each row, float32 (rows, …): scores of classes, numbers, or unit vectors."""
    was_training = model.training
    model.eval()
    found: list[Any] = [None] * len(rows)
    for some, each in batches_of(model, rows, head, padding_id, batch, progress):
        for row, output in zip(some, model(head, each.ids, each.mask, each.types).cpu().numpy(), strict=True):
            found[row] = output
    model.train(was_training)
    return np.stack(found)


@torch.inference_mode()
def run_tags(
    model: Headed, rows: LabelledRows, head: str, padding_id: int, batch: int = 64, progress: Progress = silent
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The tags of each sentence's words, and how probable each is; rows that a sentence was cut into are joined."""
    was_training = model.training
    model.eval()
    labels, tagger = model.settings.heads[head].labels, model.heads[head]
    assert isinstance(tagger, TagHead)
    tags: list[list[str]] = [[] for _ in range(len(rows))]
    shares: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows)
    for some, each in batches_of(model, rows, head, padding_id, batch, progress):
        assert each.word_mask is not None
        scores = model(head, each.ids, each.mask, None, each.words)
        best = tagger.decode(scores, each.word_mask)
        certain = tagger.marginals(scores, each.word_mask).gather(2, best[..., None]).squeeze(2)
        sizes = each.word_mask.sum(1).tolist()
        for row, numbers, probability, size in zip(some, best.tolist(), certain.cpu().numpy(), sizes, strict=True):
            tags[row] = [labels[number] for number in numbers[:size]]
            shares[row] = probability[:size]
    model.train(was_training)
    return _joined(rows, tags, shares)


def _joined(
    rows: LabelledRows, tags: list[list[str]], shares: list[np.ndarray]
) -> tuple[list[list[str]], list[np.ndarray]]:
    sentences = 1 + max(rows.origin, default=-1)
    whole: list[list[str]] = [[] for _ in range(sentences)]
    certain: list[list[np.ndarray]] = [[] for _ in range(sentences)]
    for origin, some, probability in zip(rows.origin, tags, shares, strict=True):
        whole[origin] += some
        certain[origin].append(probability)
    return whole, [np.concatenate(parts) for parts in certain]


def warn_of_truncated(rows: LabelledRows, max_length: int | None) -> None:
    """Say how many texts were too long to be read to their end."""
    if rows.truncated:
        warnings.warn(
            f"{rows.truncated} of {len(rows)} texts are longer than the model's {max_length} tokens; "
            "what is beyond was not read",
            stacklevel=3,
        )
