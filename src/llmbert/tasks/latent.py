"""Texts by way of a latent variable: drawn, rebuilt, between two others, and changed by arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmbert.decoding import Request
from llmbert.protocols import Condition, Progress, UsageError, silent
from llmbert.runs import Run
from llmbert.runs.run import generation_settings


def encode_latents(run: Run, texts: Sequence[str]) -> NDArray[np.float32]:
    """The mean of q(z|x) of each text, (texts, Z). Raises UsageError for a text longer than the model reads whole."""
    return _posteriors(run, texts)[0]


def _posteriors(run: Run, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and log-variance of q(z|x) of each text, (texts, Z) each."""
    _check(run)
    if isinstance(texts, str):
        raise UsageError("give a list of texts, even for a single one")
    rows = [run.document_ids(text) for text in texts]
    reach = run.model.settings.context
    for number, row in enumerate(rows, 1):
        if len(row) - 1 > reach:
            raise UsageError(
                f"text {number} has {len(row) - 1} tokens, and the model reads {reach} at once; shorten it"
            )
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    return run.model.posteriors(np.concatenate(rows), starts)


def write_latents(run: Run, latents: NDArray[Any], progress: Progress = silent, **settings: Any) -> list[str]:
    """A text from each z of (texts, Z): the most probable ones, token by token, unless a temperature is asked for.

    Text i draws its random numbers from seed + i."""
    _check(run)
    chosen = generation_settings({"temperature": 0.0, **settings})
    z = torch.as_tensor(np.asarray(latents, np.float32))
    device = next(run.model.parameters()).device
    requests = (
        Request([], replace(chosen, seed=(chosen.seed + i) % 2**63), Condition(latent=row[None].to(device)))
        for i, row in enumerate(z)
    )
    found = []
    for handle in run.engine(progress=progress).run(requests):
        found.append(handle.text)
    return found


def sample(run: Run, count: int, seed: int = 0, progress: Progress = silent, **settings: Any) -> list[str]:
    """Texts from draws of the prior."""
    _check(run)
    return write_latents(run, run.model.prior(count, seed).latent.cpu().numpy(), progress, seed=seed, **settings)


def reconstruct(run: Run, texts: Sequence[str], progress: Progress = silent, **settings: Any) -> list[str]:
    """What the model makes of each text's latent mean."""
    return write_latents(run, encode_latents(run, texts), progress, **settings)


def rewrite(
    run: Run,
    texts: Sequence[str],
    copies: int = 1,
    spread: float = 1.0,
    seed: int = 0,
    progress: Progress = silent,
    **settings: Any,
) -> list[list[str]]:
    """`copies` texts for each text, each from a draw of its q(z|x), `spread` times as far from the mean.

    spread 0: the mean itself. Raises UsageError for a text longer than the model reads whole.
    """
    if copies < 1:
        raise UsageError(f"copies must be at least 1, not {copies}")
    if not 0 <= spread < math.inf:
        raise UsageError(f"spread must be 0 or a positive number, not {spread}")
    chosen = generation_settings({"seed": seed, **settings})
    means, log_variances = _posteriors(run, texts)
    noise = np.random.default_rng(chosen.seed).standard_normal((len(texts), copies, means.shape[1])).astype(np.float32)
    z = means[:, None] + spread * noise * np.exp(0.5 * log_variances)[:, None]
    made = write_latents(run, z.reshape(-1, means.shape[1]), progress, seed=seed, **settings)
    return [made[i * copies : (i + 1) * copies] for i in range(len(texts))]


def interpolate(run: Run, first: str, last: str, steps: int = 7, **settings: Any) -> list[str]:
    """Texts at even steps on the line between the latents of two, both ends among them (Bowman et al. 2016, §4.4)."""
    if steps < 2:
        raise UsageError(f"a line between two texts takes 2 steps or more, not {steps}")
    a, b = encode_latents(run, [first, last])
    shares = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return write_latents(run, (1 - shares) * a + shares * b, **settings)


def edit(run: Run, text: str, without: str, like: str, **settings: Any) -> str:
    """The text at z(text) - z(without) + z(like): what `like` has and `without` lacks, put on (Mikolov et al. 2013)."""
    z = encode_latents(run, [text, without, like])
    return write_latents(run, (z[0] - z[1] + z[2])[None], **settings)[0]


def _check(run: Run) -> None:
    if not hasattr(run.model, "posteriors"):
        raise UsageError(f"{run.folder} is a {run.family} without a latent variable; train one with --family vae")
