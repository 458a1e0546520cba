"""A run and texts → a vector for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.decoding.stepping import device_of, evaluating
from llmbert.models.representing import represent
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs.pair_scoring import padded
from llmbert.runs.run import Run


def represent_texts(
    run: Run, texts: Sequence[str], batch: int = 64, progress: Progress = silent
) -> NDArray[np.float32]:
    """A vector for each text, (texts, D), see `models.representing.represent`.

    Of a text longer than the model reads at once its first part counts. Raises UsageError for a family without vectors.
    """
    if isinstance(texts, str):
        raise UsageError("give a list of texts, even for a single one")
    reach = None if getattr(run.model, "recurrent", False) else reach_of(run.model)
    read = run.encode_source if run.reads_source else run.document_ids
    rows = [np.asarray(read(text))[:reach].tolist() for text in texts]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    found: dict[int, NDArray[np.float32]] = {}
    with evaluating(run.model):
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            ids, mask = (each.to(device_of(run.model)) for each in padded([rows[i] for i in part]))
            found |= dict(zip(part, represent(run.model, ids, mask).cpu().numpy(), strict=True))
            progress("representing", len(found), len(rows))
    return np.stack([found[i] for i in range(len(rows))]) if rows else np.zeros((0, 0), np.float32)


def reach_of(model: Any) -> int | None:
    """Tokens that a model reads at once; of those that leave out the begin token, with it."""
    reach = getattr(getattr(model, "settings", None), "context", None) or model.max_length
    without_begin = hasattr(model, "posteriors") or hasattr(model, "discriminator")
    return reach if reach is None else reach + without_begin


def project(vectors: NDArray[np.float32], dimensions: int = 2) -> tuple[NDArray[np.float32], list[float]]:
    """Vectors (N, D) along their principal axes, (N, dimensions), and each axis's share of the variance.

    Pearson 1901; the sign of an axis is such that its largest weight is positive, so that a map is always the same.
    Raises UsageError for fewer than two vectors.
    """
    if len(vectors) < 2:
        raise UsageError(f"a map takes two texts or more, not {len(vectors)}")
    if not np.isfinite(vectors).all():
        raise LLMBertError("the model's vectors are not numbers; its training diverged: train it again")
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:dimensions]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    flat = centred @ axes.T
    flat = np.pad(flat, ((0, 0), (0, dimensions - flat.shape[1])))
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-30)
    return flat.astype(np.float32), [float(share) for share in np.pad(shares, (0, dimensions))[:dimensions]]
