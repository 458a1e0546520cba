"""The audit trail beside the runs: who trained, forgot or exported what and when, each line bound to the one before."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError
from llmbert.runs.files import disk_error

TRAIL = "trail.jsonl"
FIRST = "0" * 64  # what the first line is bound to


def note_trail(folder: Path, action: str, run: str, **details: Any) -> None:
    """Append a line to the trail in `folder`: time (UTC), user, action, run, details, and the SHA-256 of the line
    before. What stands there is never changed. Raises LLMBertError where the disk refuses."""
    path = folder / TRAIL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file, _locked(file):
            file.seek(0)
            written = file.read()
            if written and not written.endswith(b"\n"):  # a line was cut short as its writer was killed
                file.write(b"\n")
            lines = written.splitlines()
            entry = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "user": _user(),
                "action": action,
                "run": run,
                **details,
                "previous": hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST,
            }
            file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(path, error) from error


def note_beside(run: Path, action: str, **details: Any) -> None:
    """Note it in the trail beside a run; one without a store of text beside it has no trail."""
    if folder := _folder_beside(run):
        note_trail(folder, action, run.resolve().name, **details)


def note_export(run: Path, file: Path) -> None:
    """The same of a run that was written out, with the file's digest."""
    if not _folder_beside(run):  # a file of gigabytes is not read for nothing
        return
    digest = hashlib.sha256()
    with file.open("rb") as written:
        while block := written.read(1 << 20):
            digest.update(block)
    note_beside(run, "export", file=file.name, sha256=digest.hexdigest())


def _folder_beside(run: Path) -> Path | None:
    folder = run.resolve().parent / "corpora"
    return folder if folder.is_dir() else None


def read_trail(folder: Path) -> list[dict[str, Any]]:
    """The entries of a trail, checked; what a killed writer left is the entry {"action": "cut short"}.

    Raises LLMBertError where a line was changed, taken out or put in, but for the last, which no other is bound to, and
    where it cannot be read.
    """
    path = folder / TRAIL
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise LLMBertError(f"{path} cannot be read: {error.strerror}") from error
    found, previous = [], FIRST
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            bound = entry["previous"]
        except (ValueError, KeyError, TypeError):
            entry, bound = {"action": "cut short", "line": number}, previous
        if bound != previous:
            raise LLMBertError(f"{path}: the trail was changed before line {number}; restore it from a backup")
        previous = hashlib.sha256(line).hexdigest()
        found.append(entry)
    return found


@contextlib.contextmanager
def _locked(file: Any):  # type: ignore[no-untyped-def]
    """Alone with a file, where the system can lock one."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing it unlocks it


def _user() -> str:
    try:
        import pwd  # what the system says, whatever the environment does

        return pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, ImportError, AttributeError):  # a user without a name, or a system without such a list
        return getpass.getuser() if os.name == "nt" else "unknown"
