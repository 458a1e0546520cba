"""The visible dict of checks, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from llmbert.models import FAMILIES, nearest
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.workbench.preflight.adversaries import check_adversaries, check_variety
from llmbert.workbench.preflight.case import Case, Outcome, failed, skipped
from llmbert.workbench.preflight.files import check_resuming, check_saving
from llmbert.workbench.preflight.learning import (
    check_accumulation,
    check_first_loss,
    check_gradients,
    check_latent,
    check_measuring,
    check_memory,
    check_optimisers,
    check_overfits,
    check_rate,
)
from llmbert.workbench.preflight.structure import (
    check_cache,
    check_condition,
    check_documents,
    check_evaluation,
    check_future,
    check_loss,
    check_padding,
    check_ties,
)
from llmbert.workbench.preflight.text import check_labels, check_overlap, check_tokeniser

# Without checks of its own: a mixture, whose members have them. A GAN is asked what all are in its likelihood phase.
EVERY = tuple(name for name, family in FAMILIES.items() if not family.mixes)
LEARNING = tuple(name for name in EVERY if not FAMILIES[name].counts)
WHOLE = tuple(name for name in LEARNING if name != "gan")  # families that learn with all their weights in every step
DECODERS = tuple(name for name in EVERY if name != "bert")
RECURRENT = tuple(name for name, family in FAMILIES.items() if family.recurrent)


@dataclass(frozen=True)
class Check:
    """One check. families: which it applies to; quick: it needs no training step, and `train` runs it first."""

    run: Callable[[Case], Outcome]
    families: tuple[str, ...]
    quick: bool = False


CHECKS: dict[str, Check] = {
    "tokeniser": Check(check_tokeniser, EVERY, quick=True),
    "labels": Check(check_labels, EVERY, quick=True),
    "overlap": Check(check_overlap, EVERY),
    "ties": Check(check_ties, LEARNING, quick=True),
    "future": Check(check_future, DECODERS, quick=True),
    "documents": Check(check_documents, ("gpt", "bert"), quick=True),
    "padding": Check(check_padding, LEARNING, quick=True),
    "cache": Check(check_cache, DECODERS, quick=True),
    "condition": Check(check_condition, EVERY, quick=True),
    "loss": Check(check_loss, EVERY, quick=True),
    "evaluation": Check(check_evaluation, LEARNING, quick=True),
    "optimisers": Check(check_optimisers, LEARNING, quick=True),
    "first loss": Check(check_first_loss, LEARNING),
    "gradients": Check(check_gradients, WHOLE),
    "accumulation": Check(check_accumulation, LEARNING),
    "memory": Check(check_memory, RECURRENT),
    "measuring": Check(check_measuring, LEARNING),
    "rate": Check(check_rate, LEARNING),
    "overfits": Check(check_overfits, LEARNING),
    "latent": Check(check_latent, ("vae",)),
    "adversaries": Check(check_adversaries, ("gan",)),
    "variety": Check(check_variety, ("gan",)),
    "resuming": Check(check_resuming, LEARNING),
    "saving": Check(check_saving, EVERY),
}


@dataclass(frozen=True)
class Result:
    """What a check found, under its name, and how long it took."""

    name: str
    status: str
    said: str
    seconds: float
    shown: tuple[tuple[tuple[str, str, bool], ...], ...] = ()

    def describe(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return asdict(self)


def run_checks(
    case: Case, names: Sequence[str] | None = None, progress: Progress = silent, seconds: float | None = None
) -> list[Result]:
    """Run checks (None: all) and say what each found; nothing of the case, nor the random state, is changed.

    seconds: after which no further check is begun. Raises UsageError for a check there is not.
    """
    for name in names or ():
        if name not in CHECKS:
            raise UsageError(f"there is no check {name!r}{nearest(name, CHECKS)}; there are {', '.join(CHECKS)}")
    chosen = list(names or CHECKS)
    found: list[Result] = []
    began = time.monotonic()
    for number, name in enumerate(chosen):
        progress("checking", number, len(chosen), check=name)
        if seconds is not None and time.monotonic() - began > seconds:
            break
        found.append(_run(case, name))
    progress("checking", len(chosen), len(chosen))
    return found


def _run(case: Case, name: str) -> Result:
    check, began = CHECKS[name], time.monotonic()
    if case.family not in check.families:
        outcome = skipped(f"does not apply to {case.family}")
    else:
        with _undisturbed():
            outcome = _outcome(check, case)
    return Result(name, outcome.status, outcome.said, round(time.monotonic() - began, 3), outcome.shown)


def _outcome(check: Check, case: Case) -> Outcome:
    try:
        return check.run(case)
    except LLMBertError as error:
        return failed(str(error))
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        said = " ".join(str(error).split())[:200]
        return failed(f"it does not even run ({type(error).__name__}: {said}); mend what it stumbles over")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Random numbers of its own; those of torch go on behind it as if nothing had been drawn.

    On a GPU recurrence rounds to ten bits unless told not to, which the checks' small differences would drown in.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(allow_tf32=False):
        torch.manual_seed(0)
        yield


def refuse_faults(case: Case, progress: Progress = silent, seconds: float = 10.0) -> list[Result]:
    """Run the quick checks before a training. Raises LLMBertError with the first fault's sentence."""
    quick = [name for name, check in CHECKS.items() if check.quick and case.family in check.families]
    found = run_checks(case, quick, progress, seconds)
    for result in found:
        if result.status == "failed":
            raise LLMBertError(f"the check {result.name!r} says: {result.said} (--set preflight=false trains anyway)")
    return found
