"""A run and text → scores with an interval and a signature."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbert.data.corpus import Shard, build_shard
from llmbert.metrics import TokenNats, likelihood_scores
from llmbert.protocols import Progress, silent
from llmbert.runs import Run, load


def evaluate(
    run: str | os.PathLike[str] | Run,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """How probable a run finds text: nats_per_token, perplexity, bits_per_byte, interval, likelihood, signature, ….

    Text is cut into documents as it was for training, unless said otherwise. Raises LLMBertError for a run or data
    that cannot be read.
    """
    known = run if isinstance(run, Run) else load(Path(run))
    source = known.facts.get("source")
    source = source if isinstance(source, dict) else {}
    cut = {} if lines or split_on else source  # a way of cutting that was asked for stands alone
    paths = [data] if isinstance(data, str | os.PathLike) else list(data)
    with tempfile.TemporaryDirectory(prefix="llmbert-") as folder:
        shard = build_shard(
            [os.fspath(path) for path in paths],
            known.tokeniser,
            Path(folder) / "shard",
            lines=bool(cut.get("lines")) if lines is None else lines,
            split_on=split_on or cut.get("split_on"),
            fields=fields or source.get("fields"),
            progress=progress,
        )
        return score_shard(known, shard, progress)


def score_shard(run: Run, shard: Shard, progress: Progress = silent) -> dict[str, Any]:
    """The scores of a run on a shard of documents."""
    return likelihood_scores(shard_nats(run, shard, progress), **run.signature())


def shard_nats(run: Run, shard: Shard, progress: Progress = silent) -> TokenNats:
    """The nats of every token of a shard under a run, with the sizes of its documents."""
    nats = run.model.token_nats(shard.ids, shard.starts, progress)
    return TokenNats(nats, shard.starts, shard.document_bytes, shard.document_characters, shard.unknown)
