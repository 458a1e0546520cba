"""What a training is asked for, and what of it can be told before any text is read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmbert.models import FAMILIES, Family, nearest
from llmbert.protocols import UsageError
from llmbert.runs import device
from llmbert.training.precision import resolve_precision
from llmbert.workbench.measure import TASKS
from llmbert.workbench.settings import parse_duration, whole_number
from llmbert.workbench.sources import Paths, Source, Store, path_list

DEFAULT_BUDGET = "5m"


@dataclass(frozen=True)
class Asked:
    """What a training is asked for; see `train`."""

    family: str
    data: Paths
    out: str | os.PathLike[str]
    valid: Paths | None = None
    lines: bool = False
    split_on: str | None = None
    fields: Mapping[str, str] | None = None
    tokenizer: str = "bpe"
    lowercase: bool = False
    detokenise: str | None = None
    mixture: Sequence[Mapping[str, Any]] | None = None
    objective: str | None = None
    task: str | None = None
    languages: str | None = None
    base: str | os.PathLike[str] | None = None
    budget: str | float | None = None
    size: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    language: str = "en"
    store: Store | None = None


def source_of(asked: Asked, vocabulary_size: Any) -> Source:
    return Source(
        path_list(asked.data),
        path_list(asked.valid) if asked.valid is not None else None,
        asked.lines,
        asked.split_on,
        dict(asked.fields) if asked.fields else None,
        str(asked.tokenizer),
        None if vocabulary_size is None else whole_number("vocabulary_size", vocabulary_size, 5),
        asked.lowercase,
        _detokenising(asked.detokenise, asked.languages),
        [dict(part) for part in asked.mixture] if asked.mixture else None,
        keep=FAMILIES[asked.family].mixes,
    )


def meant_objective(training_values: Mapping[str, Any]) -> str | None:
    """The objective that a setting asks for."""
    return "infilling" if training_values.get("infilling") not in (None, "0", 0) else None


def budget_seconds(budget: str | float | None, family: Family, training_values: Mapping[str, Any]) -> float | None:
    """The time that decides what nobody said; None where all is said, or where a family counts."""
    if budget is None and (family.counts or "steps" in training_values):
        return None
    return parse_duration(DEFAULT_BUDGET if budget is None else budget)


def check_task(task: str | None, objective: str, family: str) -> None:
    if task is not None and task not in TASKS:
        raise UsageError(f"there is no task {task!r}{nearest(task, TASKS)}; there are {', '.join(TASKS)}")
    if task is not None and objective != "pairs":
        raise UsageError(
            f"--task {task} says what pairs are for, and a {family} learns from documents here; leave it out"
            + ("" if task != "classify" else ", or teach it labels with llmbert fine-tune --task classify")
        )


def _detokenising(style: str | None, languages: str | None) -> str | None:
    """How targets are put together, as `read_pairs` wants it. Raises UsageError for an unknown style."""
    if style is None:
        return None
    if style not in ("words", "hyphens"):
        raise UsageError(f"--detokenise is words or hyphens, not {style!r}")
    language = (languages or "en").rpartition("-")[2] or "en"
    return language + ("+hyphens" if style == "hyphens" else "")


def check_precision(precision: str) -> None:
    if precision == "bfloat16" and resolve_precision("auto", device().type) == "float32":
        raise UsageError(
            "this machine has no bfloat16 units and would emulate them, a hundred times slower; leave precision=auto"
        )


def preset_of(family: str, size: str | None) -> dict[str, Any] | None:
    if size is None:
        return None
    sizes = FAMILIES[family].sizes
    if size not in sizes:
        raise UsageError(f"{family} has no size {size!r}{nearest(size, sizes)}; there are {', '.join(sizes)}")
    return dict(sizes[size])
