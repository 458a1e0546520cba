"""Conversations as lines of JSON in one file: every turn, reply and thumb, appended as it comes.

Kinds of line: "begin" (run, speakers, system, language, settings), "turn" (number, speaker, text), "reply" (also
seconds, first_seconds, dropped) and "thumb" (number of the reply, good, note). "chat" tells conversations apart by a
random name. Nothing is written that was not typed or measured: no user, no machine, no path, no time of day.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOG_NAME = "chats.jsonl"


class ChatLog:
    """Appends to a file, each line whole or not at all, also where several conversations share the file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.chat = secrets.token_hex(4)

    def begin(self, **values: Any) -> None:
        self.append({"kind": "begin", **values})

    def turn(self, **values: Any) -> None:
        self.append({"kind": "turn", **values})

    def reply(self, **values: Any) -> None:
        self.append({"kind": "reply", **values})

    def thumb(self, **values: Any) -> None:
        self.append({"kind": "thumb", **values})

    def append(self, record: dict[str, Any]) -> None:
        """Add a line. Raises LLMBertError where the file cannot be written; then nothing was added."""
        line = json.dumps({"chat": self.chat, **record}, ensure_ascii=False, allow_nan=False)
        data = (line + "\n").encode("utf-8", "backslashreplace")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0, opener=_own) as file:
                _append(file, data)
        except OSError as error:
            reason = error.strerror or error
            raise LLMBertError(
                f"the conversation could not be written to {self.path} ({reason}); name another file with --log"
            ) from error


def _own(path: str, flags: int) -> int:
    """Open a file that, where it is new, only its owner may read: it holds what people wrote."""
    return os.open(path, flags, 0o600)


def _append(file: Any, data: bytes) -> None:
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
    end = file.seek(0, os.SEEK_END)
    if end and not _ends_line(file.name):
        data = b"\n" + data  # somebody's last line was cut off: keep ours apart from it
    written = file.write(data)
    if written != len(data):
        file.truncate(end)
        raise OSError(None, "the disk is full")


def _ends_line(name: str) -> bool:
    with Path(name).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def default_log(run: str | Path) -> Path:
    """Where conversations with a run go: beside its folder, not inside, so that a run is given away without them; for
    a model that is no folder here, the folder the program was started in."""
    return Path(run).absolute().parent / LOG_NAME if Path(run).is_dir() else Path(LOG_NAME)


def read_log(path: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; one that was cut off or is no record of a conversation comes as {"kind": "damaged"}.

    Raises LLMBertError where the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            for line in file:
                if line.strip():
                    yield _record(line)
    except OSError as error:
        raise LLMBertError(
            f"{path} cannot be read ({error.strerror or error}); give the file that llmbert chat --log wrote"
        ) from error


_NEEDED: dict[str, dict[str, type]] = {
    "begin": {"run": str},
    "turn": {"number": int, "speaker": str, "text": str},
    "reply": {"number": int, "speaker": str, "text": str, "seconds": float},
    "thumb": {"number": int, "good": bool},
}


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {"kind": "damaged"}
    needed = _NEEDED.get(str(record.get("kind"))) if isinstance(record, dict) else None
    if needed is None or "chat" not in record or not all(isinstance(record.get(k), t) for k, t in needed.items()):
        return {"kind": "damaged"}
    return dict(record)
