"""How odd a model finds texts: its surprise by token, or a discriminator's doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from llmbert.decoding.stepping import device_of, evaluating
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run

DOCUMENTS = 1024  # scored at a time
UNITS = {"exact": "nats/token", "bound": "≤ nats/token", "pseudo": "pseudo-nats/token", "none": "logits"}
"""What the scores are, by the kind of likelihood; logits: how sure a GAN's discriminator is that a text is not real."""


def oddness(run: Run, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float64]:
    """How odd the run finds each text, (texts,): the higher, the odder; see `UNITS` for what it is measured in.

    The mean of -log p over the text's tokens and its end (of a BERT its tokens alone); of a GAN the mean over parts of
    its context's length. Raises UsageError for a family that scores no text alone.
    """
    if isinstance(texts, str):
        raise UsageError("give a list of texts, even for a single one")
    model = run.model
    if hasattr(model, "discriminator"):
        measure = _doubts
    elif run.reads_source or not hasattr(model, "token_nats") or model.likelihood not in UNITS:
        raise UsageError(f"{run.family} does not score a text alone; take another family to find odd ones")
    else:
        measure = _surprises
    found = np.zeros(len(texts))
    for first in range(0, len(texts), DOCUMENTS):
        part = texts[first : first + DOCUMENTS]
        found[first : first + len(part)] = measure(run, part)
        if np.isnan(found[first : first + len(part)]).any():
            raise LLMBertError("the model's predictions are not numbers; its training diverged: train it again")
        progress("scoring", first + len(part), len(texts))
    return found


def _surprises(run: Run, texts: Sequence[str]) -> NDArray[np.float64]:
    rows = [run.document_ids(text) for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    scored = scored_tokens(run, np.diff(starts))
    nats = np.asarray(run.model.token_nats(np.concatenate(rows), starts), np.float64)
    if run.model.likelihood == "pseudo":
        nats[starts[1:] - 1] = 0.0
    return np.add.reduceat(nats, starts[:-1]) / scored


def scored_tokens(run: Run, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of how many tokens `oddness` is the mean, for texts of so many ids, begin and end among them."""
    given_its_end = run.model.likelihood == "pseudo"
    return np.maximum(lengths - 2, 1) if given_its_end else lengths - 1


def _doubts(run: Run, texts: Sequence[str]) -> NDArray[np.float64]:
    model, reach = run.model, run.model.settings.context
    parts: list[NDArray[np.int64]] = []
    owner: list[int] = []
    for number, text in enumerate(texts):
        ids = run.document_ids(text)[1:]
        for cut in range(0, len(ids), reach):
            parts.append(ids[cut : cut + reach])
            owner.append(number)
    block = torch.full((len(parts), reach), model.padding_id, dtype=torch.int64)
    for place, ids in enumerate(parts):
        block[place, : len(ids)] = torch.from_numpy(ids)
    with evaluating(model):
        logits = torch.cat([model.discriminator(rows.to(device_of(model))) for rows in block.split(256)])
    doubts = np.bincount(owner, weights=-logits.double().cpu().numpy(), minlength=len(texts))
    return doubts / np.bincount(owner, minlength=len(texts))
