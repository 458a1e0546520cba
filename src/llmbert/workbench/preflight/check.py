"""A run, or a training that is planned → what would silently spoil it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from llmbert.models import FAMILIES, nearest
from llmbert.protocols import Progress, UsageError, silent
from llmbert.runs import load, read_facts
from llmbert.workbench.preflight import Case, Result, run_checks
from llmbert.workbench.settings import Asked
from llmbert.workbench.sources import Paths
from llmbert.workbench.train import Training, case_of, first_model, prepare, reopen

COUNTED_TOKENS = 200_000  # of the text, that an n-gram model is counted from to be checked


def check(
    run: str | os.PathLike[str] | None = None,
    *,
    family: str = "",
    data: Paths = (),
    only: Sequence[str] | None = None,
    progress: Progress = silent,
    **asked: Any,
) -> list[Result]:
    """Check a run, finished or not, or the training that the same arguments of `train` would begin.

    only: the names of some checks (`preflight.CHECKS`), None: all. Each result has a status (ok, failed or skipped) and
    a sentence; a failed one says what is wrong and how to mend it. Nothing is written beside `out`; without `out` the
    text is read into a folder that goes again. A model's weights, where it is finished, are those that are checked.

    Raises UsageError for what is asked wrongly, LLMBertError for a run or data that cannot be read.
    """
    if run is not None:
        if family or data or asked:
            over = next(iter({"family": family, "data": data} if family or data else asked))
            raise UsageError(f"a run knows what it was trained by; leave out {over}")
        return run_checks(_case_of_run(Path(run), progress), only, progress)
    if not family or not (data or asked.get("mixture")):
        raise UsageError("give a run to check, or what train is given: --family and --data")
    known = [each.name for each in fields(Asked)]
    if wrong := [name for name in asked if name not in known]:
        raise UsageError(f"a training is not asked for {wrong[0]!r}{nearest(wrong[0], known)}")
    with tempfile.TemporaryDirectory(prefix="llmbert-") as folder:
        out = asked.pop("out", None) or Path(folder) / "run"
        training = prepare(Asked(family, data, out, **asked), progress, time.monotonic())
        return run_checks(case_to_check(training), only, progress)


def case_to_check(training: Training, trained: Any = None) -> Case:
    def make() -> Any:
        torch.manual_seed(training.seed)
        return _counted(training) if FAMILIES[training.family].counts else first_model(training)

    return case_of(training, make, trained=trained)


def _case_of_run(folder: Path, progress: Progress) -> Case:
    facts = read_facts(folder)
    if facts.get("objective") == "labels":
        raise UsageError(f"{folder} learned from labels; a run that predicts tokens can be checked")
    training = reopen(folder, facts, progress)
    return case_to_check(training, load(folder).model if facts.get("status") == "done" else None)


def _counted(training: Training) -> Any:
    """An n-gram model of the first documents."""
    shard: Any = training.store.train
    documents = max(1, int((shard.starts <= COUNTED_TOKENS).sum()) - 1)
    starts = shard.starts[: documents + 1]
    size = training.store.tokeniser.vocabulary_size
    return FAMILIES[training.family].model_class().fit(shard.ids[: int(starts[-1])], starts, size, training.plan.model)
