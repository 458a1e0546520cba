"""The folder of a run while it is made: new, kept once something is worth keeping, and taken away again otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmbert.runs import CHECKPOINT, MEMBERS, disk_error
from llmbert.training.loop import Interrupted


@contextmanager
def fresh_folder(out: Path) -> Iterator[None]:
    """Makes the run folder, and takes it away again where training fails before anything is worth keeping."""
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if not _is_worth_keeping(out):
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
        raise Interrupted(f"{stopped}; {_go_on(out)}") from None
    except KeyboardInterrupt:
        if not _is_worth_keeping(out):
            raise
        raise Interrupted(f"stopped, everything is saved; {_go_on(out)}") from None


def _is_worth_keeping(out: Path) -> bool:
    """Whether a training can go on from there: from its checkpoint, or from what its members have learned."""
    return (out / CHECKPOINT).exists() or any((out / MEMBERS).glob("*"))


def _go_on(out: Path) -> str:
    return f"go on with: llmbert train --resume {out}"
