"""Nats of given text, for the families that are trained by gradients: a sliding window, or a carried state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from llmbert.protocols import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS_A_BATCH = 8192


def window_stride(window: int) -> int:
    """How far a sliding window moves: a quarter of it, so that no scored token sees less than 3/4 of a window."""
    return max(1, window // 4)


def target_nats(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """-log p of targets (…) under hidden states (…, D), float32 (…), without holding all logits at once."""
    flat, aims = hidden.flatten(0, -2), targets.flatten()
    rows = max(1, (1 << 22) // model.vocabulary_size)
    parts = [
        nn.functional.cross_entropy(model.head(flat[i : i + rows]).float(), aims[i : i + rows], reduction="none")
        for i in range(0, len(flat), rows)
    ]
    return torch.cat(parts).view(targets.shape)


def _windows(
    starts: NDArray[np.int64], window: int, stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every window as (first input, inputs, first scored input): together they score each target once."""
    firsts, sizes, scored = [], [], []
    for begin, end in pairwise(starts):
        inputs = int(end - begin) - 1  # the last token is a target only
        if inputs <= window:
            first, from_ = np.array([0]), np.array([0])
        else:
            count = -(-(inputs - window) // stride)
            ends = np.minimum(window + stride * np.arange(count + 1), inputs)
            first = ends - window
            from_ = np.concatenate(([0], ends[:-1] - first[1:]))
        firsts.append(begin + first)
        sizes.append(np.full(len(first), min(inputs, window)))
        scored.append(from_)
    return np.concatenate(firsts), np.concatenate(sizes), np.concatenate(scored)


@torch.inference_mode()
def sliding_window_nats(
    model: Any,
    ids: NDArray[Any],
    starts: NDArray[np.int64],
    window: int,
    stride: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Nats of each token given up to `window` tokens before it, float32 (N,), 0 at each begin token.

    The window moves by `stride` tokens, `window_stride` where none is given (a stride of a whole window is quickest,
    and leaves the first tokens of each block little to go by). By default every token of a document after the first
    window is scored with at least 3/4 of a window before it. Windows of like length share a
    batch; documents never see each other.
    """
    was_training = model.training
    model.eval()
    nats = np.zeros(len(ids), dtype=np.float32)
    device = next(model.parameters()).device
    for places, block, wanted in sliding_windows(ids, starts, window, TOKENS_A_BATCH, progress, stride):
        block = block.to(device)
        # Three quarters of a window are read as context alone, and need no logits, which cost as much as a small model.
        scored = torch.from_numpy(np.flatnonzero(wanted)).to(device)
        hidden, targets = model.hidden(block[:, :-1])[0].flatten(0, 1)[scored], block[:, 1:].flatten()[scored]
        nats[places[wanted]] = target_nats(model, hidden, targets).cpu().numpy()
    model.train(was_training)
    return nats


def sliding_windows(
    ids: NDArray[Any],
    starts: NDArray[np.int64],
    window: int,
    tokens: int,
    progress: Progress = silent,
    stride: int | None = None,
) -> Iterator[tuple[NDArray[np.int64], Tensor, NDArray[np.bool_]]]:
    """The windows that score every token of some documents once, those of like length together, `tokens` at a time.

    Yields where each target lies in ids (B, T), the window with its last target (B, T+1), and which targets are scored
    by it (B, T). stride: see `sliding_window_nats`.
    """
    firsts, sizes, scored = _windows(np.asarray(starts), window, stride or window_stride(window))
    keep = sizes > 0
    firsts, sizes, scored = firsts[keep], sizes[keep], scored[keep]
    order, done = np.lexsort((firsts, -sizes)), 0
    while done < len(order):
        size = int(sizes[order[done]])
        rows = order[done : done + max(1, tokens // size)]
        spans = firsts[rows, None] + np.arange(size + 1)
        block = torch.from_numpy(ids[np.minimum(spans, len(ids) - 1)].astype(np.int64))
        inside = np.arange(size) < sizes[rows, None]
        yield spans[:, 1:], block, inside & (np.arange(size) >= scored[rows, None])
        done += len(rows)
        progress("scoring", done, len(order))


@torch.inference_mode()
def carried_state_nats(
    model: Any, ids: NDArray[Any], starts: NDArray[np.int64], progress: Progress = silent
) -> NDArray[np.float32]:
    """Nats of each token given all of its document before it, float32 (N,), 0 at each begin token.

    The recurrent state is carried along a document in pieces and starts anew with the next; documents of like
    length share a batch.
    """
    was_training = model.training
    model.eval()
    nats = np.zeros(len(ids), dtype=np.float32)
    starts = np.asarray(starts)
    inputs = np.diff(starts) - 1
    order = np.lexsort((starts[:-1], -inputs))
    device = next(model.parameters()).device
    done = scored = 0
    while done < len(order) and inputs[order[done]] > 0:
        longest = int(inputs[order[done]])
        rows = order[done : done + max(1, TOKENS_A_BATCH // min(longest, 512))]
        piece = max(1, TOKENS_A_BATCH // len(rows))
        memory = None
        for begin in range(0, longest, piece):
            size = min(piece, longest - begin)
            spans = starts[rows, None] + begin + np.arange(size + 1)
            inside = begin + np.arange(size) < inputs[rows, None]
            block = torch.from_numpy(ids[np.minimum(spans, len(ids) - 1)].astype(np.int64)).to(device)
            hidden, memory = model.hidden(block[:, :-1], memory=memory)
            found = target_nats(model, hidden, block[:, 1:]).cpu().numpy()
            nats[(spans[:, 1:])[inside]] = found[inside]
            scored += int(inside.sum())
            progress("scoring", scored, len(ids))
        done += len(rows)
    model.train(was_training)
    return nats


def cut_pieces(starts: NDArray[np.int64], context: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Documents as texts of at most `context` inputs, long ones in even parts, each going on from the token before it.

    Returns where the first input of each text lies, and how many inputs it has; a document's last token is none.
    """
    starts = np.asarray(starts, dtype=np.int64)
    inputs = starts[1:] - starts[:-1] - 1
    pieces = -(-inputs // context)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    each, parts = np.repeat(inputs, pieces), np.repeat(pieces, pieces)
    begins, ends = number * each // parts, (number + 1) * each // parts
    return np.repeat(starts[:-1], pieces) + begins, ends - begins
