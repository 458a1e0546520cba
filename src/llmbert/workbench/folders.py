"""The folder of a run while it is made: what it says of itself first, and how it goes again if nothing comes of it."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.pairs import PairCorpus
from llmbert.models import FAMILIES
from llmbert.protocols import LLMBertError
from llmbert.runs import (
    CHECKPOINT,
    FACTS,
    FORMAT,
    MEMBERS,
    command_line,
    disk_error,
    machine,
    read_facts,
    resume_command,
    run_status,
    version,
    versions,
    write_json,
)
from llmbert.text.languages import language_pair
from llmbert.training.loop import Interrupted
from llmbert.workbench.budget import Plan
from llmbert.workbench.measure import usual_task
from llmbert.workbench.sources import Source, Store, beside

ELAPSED = "elapsed_seconds"  # of a training that was stopped


@contextmanager
def fresh_folder(out: Path) -> Iterator[None]:
    """Makes the run folder, and takes it away again where training fails before anything is worth keeping."""
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if not is_worth_keeping(out):
            shutil.rmtree(out, ignore_errors=True)
            if existed:
                out.mkdir(exist_ok=True)
        if isinstance(error, OSError):
            raise disk_error(out, error) from error
        raise


@contextmanager
def telling_how_to_go_on(out: Path) -> Iterator[None]:
    """Says how to go on with what was stopped, and which disk refused. Raises Interrupted, LLMBertError."""
    try:
        yield
    except OSError as error:
        raise disk_error(out, error) from error
    except Interrupted as stopped:
        if not is_worth_keeping(out):
            raise
        raise Interrupted(f"{stopped}; {_go_on(out)}") from None
    except KeyboardInterrupt:
        if run_status(out) == "done":
            raise Interrupted(f"stopped, but the run was done; it is at {out}") from None
        if not is_worth_keeping(out):
            raise
        raise Interrupted(f"stopped, everything is saved; {_go_on(out)}") from None


@contextmanager
def keeping_time(out: Path, facts: dict[str, Any], began: float) -> Iterator[Callable[[], None]]:
    """Gives what notes the time of a training among its facts at the end, that before it was stopped included; where it
    comes to no end `run.json` keeps the time for when it goes on. began: this time, by `time.monotonic`."""
    before = float(facts.get(ELAPSED) or 0.0)

    def note_time() -> None:
        taken = before + time.monotonic() - began
        facts["total_seconds"] = max(taken, facts["train_seconds"])  # one that was killed kept its checkpoint's alone
        facts.pop(ELAPSED, None)

    try:
        yield note_time
    except BaseException:
        with suppress(OSError, LLMBertError):  # of a full disk, or a folder that is gone
            if run_status(out) == "training":
                write_json(out / FACTS, read_facts(out) | {ELAPSED: before + time.monotonic() - began})
        raise


def is_worth_keeping(out: Path) -> bool:
    """Whether there is a finished run there or below, or a training can go on from there: from its checkpoint, or from
    what its members have learned."""
    if any(out.rglob(CHECKPOINT)) or any((out / MEMBERS).glob("*")):
        return True
    return any(run_status(facts.parent) == "done" for facts in out.rglob(FACTS))


def note_done(note: Callable[..., None], *where: Any, **details: Any) -> None:
    """Note in the trail what was done with a run; it stays done where the trail cannot be written, and that is only
    warned of."""
    try:
        note(*where, **details)
    except LLMBertError as error:
        warnings.warn(f"all is done, but the audit trail does not say so: {error}", UserWarning, stacklevel=2)


@contextmanager
def tensorboard_of(folder: Path, wanted: bool) -> Iterator[Callable[[dict[str, float]], None] | None]:
    """What is told each line of a training's log for TensorBoard, None where it is not wanted; all of it is written
    however the training ends. Raises LLMBertError where TensorBoard is missing."""
    if not wanted:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise LLMBertError("--tensorboard needs tensorboard; install it with pip install 'llmbert[track]'") from error
    writer = SummaryWriter(str(folder / "tensorboard"))

    def watch(line: dict[str, float]) -> None:
        for name, value in line.items():
            if name != "step":
                writer.add_scalar(name, value, int(line["step"]))

    try:
        yield watch
    finally:
        writer.close()


def _go_on(out: Path) -> str:
    return f"go on with: {resume_command(out)}"


def first_facts(
    family: str,
    objective: str,
    task: str | None,
    languages: str | None,
    source: Source,
    store: Store,
    plan: Plan,
    seed: int,
    budget: str | float | None,
    size: str | None,
    folder: Path,
    language: str,
) -> dict[str, Any]:
    """`run.json` as far as it is known before training."""
    counts, tokeniser = FAMILIES[family].counts, store.tokeniser
    settings = {"model": plan.model.model_dump()}
    settings |= {} if counts or FAMILIES[family].mixes else {"training": plan.training.model_dump()}
    data, pairs = store.describe(), _pair_facts(source, store, task, languages)
    if getattr(plan.model, "noise", 0.0) or plan.training.noise:  # they would tell of the text what noise hides
        data = {key: value for key, value in data.items() if key != "overlap"}
        pairs.pop("longest_target", None)
    return {
        "format": FORMAT,
        "llmbert": version(),
        "status": "training",
        "family": family,
        "objective": objective,
        **pairs,
        "likelihood": FAMILIES[family].likelihood,
        "command": command_line(),
        "source": asdict(source),
        "budget": budget,
        "size": size,
        "seed": seed,
        "language": language,
        "settings": settings,
        "calibrated_tokens_per_second": plan.tokens_per_second,
        "corpus": os.path.relpath(store.folder, beside(folder)),
        "data": data,
        "tokeniser": {
            "kind": tokeniser.kind,
            "vocabulary_size": tokeniser.vocabulary_size,
            "fingerprint": tokeniser.fingerprint,
        },
        "machine": machine(),
        "versions": versions(),
    }


def _pair_facts(source: Source, store: Store, task: str | None, languages: str | None) -> dict[str, Any]:
    """What a run of pairs says of how it wants to be asked."""
    if not isinstance(store, PairCorpus):
        return {}
    prefixes = {str(part.get("task") or part["prefix"].strip()): part["prefix"] for part in source.mixture or []}
    named = task or usual_task(store, source.fields)
    pair = language_pair(languages or "")
    return {
        "task": named if not prefixes else None,
        # A task that was only guessed stands in nobody's way.
        "tasks": sorted({name.split()[0] for name in prefixes}) or ([task] if task else []),
        "prefixes": prefixes,
        "languages": dict(zip(("source", "target"), pair, strict=True)) if pair else {},
        "text": {"lowercase": source.lowercase},
        "longest_target": int(np.diff(np.asarray(store.train.target.starts)).max()) - 2,  # without begin and end
    }
