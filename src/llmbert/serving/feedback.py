"""What people thought of answers, and how long they waited: a database that survives whatever ends the server.

Every answer leaves a row of times and counts; its text is kept only where somebody rated it.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError

REMEMBERED, CHARACTERS = 4096, 1 << 24  # answers, and their text, that can still be rated
log = logging.getLogger("llmbert.serving")
TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    id TEXT PRIMARY KEY, time REAL NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL,
    seconds REAL NOT NULL, first_seconds REAL, tokens INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS thumbs (
    id TEXT PRIMARY KEY, time REAL NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL, seconds REAL NOT NULL,
    good INTEGER NOT NULL, note TEXT NOT NULL, better TEXT, prompt TEXT NOT NULL, answer TEXT NOT NULL,
    settings TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_run ON answers (run, time);
"""


@dataclass(frozen=True)
class Answer:
    """An answer that was given. time: seconds since 1970; seconds: until it was whole, first_seconds: until its first
    token; settings: how it was sampled."""

    id: str
    time: float
    run: str
    kind: str
    prompt: str
    answer: str
    settings: dict[str, Any]
    seconds: float
    first_seconds: float | None
    tokens: int

    @property
    def size(self) -> int:
        """Characters that it takes to remember."""
        return len(self.prompt) + len(self.answer) + 512


class Feedback:
    """A database that answers and thumbs are written to, in the background, each transaction whole or not at all.

    Raises LLMBertError where the file cannot be opened or is no such database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._recent: OrderedDict[str, Answer] = OrderedDict()
        self._characters = 0
        self._jobs: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue()
        self.failures = 0
        connect(path).close()
        self._thread = threading.Thread(target=self._write, name="feedback", daemon=True)
        self._thread.start()

    def answered(self, answer: Answer) -> None:
        """Take an answer down; its text is remembered for a while, in case it is rated."""
        self._recent[answer.id] = answer
        self._characters += answer.size
        while len(self._recent) > REMEMBERED or self._characters > CHARACTERS:
            self._characters -= self._recent.popitem(last=False)[1].size
        row = (answer.id, answer.time, answer.run, answer.kind, answer.seconds, answer.first_seconds, answer.tokens)
        self._jobs.put(("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row))

    def rate(self, id: str, good: bool, note: str, better: str | None, time: float) -> Answer | None:
        """Take a thumb down, in the place of an earlier one. Returns the answer; None: it is not known any more."""
        answer = self._recent.get(id)
        if answer is None:
            return None
        settings = json.dumps(answer.settings)
        rated = (id, time, answer.run, answer.kind, answer.seconds, int(good), note, better)
        row = (*rated, answer.prompt, answer.answer, settings)
        self._jobs.put((f"INSERT OR REPLACE INTO thumbs VALUES ({', '.join('?' * len(row))})", row))
        return answer

    def close(self) -> None:
        """Write what is still to be written."""
        self._jobs.put(None)
        self._thread.join(10)

    def flush(self) -> None:
        """Wait until everything that was given so far is in the file."""
        self._jobs.join()

    def _write(self) -> None:
        with closing(connect(self.path)) as database:
            while True:
                jobs = [self._jobs.get()]
                while len(jobs) < 256 and not self._jobs.empty():
                    jobs.append(self._jobs.get_nowait())
                given = [job for job in jobs if job is not None]
                if not self._wrote(database, given):
                    for job in given:  # one that cannot be written is not to take the others with it
                        self._wrote(database, [job])
                for _ in jobs:
                    self._jobs.task_done()
                if None in jobs:
                    return

    def _wrote(self, database: sqlite3.Connection, jobs: Sequence[tuple[str, tuple[Any, ...]]]) -> bool:
        """Whether all of this is in the file now; none of it is otherwise, and the answers go on."""
        try:
            with database:
                for job in jobs:
                    database.execute(*job)
        except Exception as error:
            if len(jobs) == 1:
                self.failures += 1
                log.error("feedback could not be written", exc_info=error)
            return False
        return True


def connect(path: Path, create: bool = True) -> sqlite3.Connection:
    """The database at `path`, made where there is none and `create` is true. Raises LLMBertError for what is none."""
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            # what people wrote is for its owner alone; SQLite's files beside it (-wal, -shm) take its rights
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not path.is_file():
            raise LLMBertError(f"there is no database {path}; llmbert serve --feedback {path} writes one")
        database = sqlite3.connect(path, timeout=10, isolation_level="IMMEDIATE")
        if create:
            database.execute("PRAGMA journal_mode = WAL")  # a reader never waits, and a kill leaves it whole
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(TABLES)
        database.row_factory = sqlite3.Row
        database.execute("SELECT count(*) FROM thumbs").fetchone()
        return database
    except (sqlite3.Error, OSError) as error:
        raise LLMBertError(f"{path} cannot be used as a database of feedback ({error}); name another file") from error


def read_thumbs(path: Path) -> Iterator[dict[str, Any]]:
    """Rated answers, the oldest first: the columns of the table `thumbs`."""
    with closing(connect(path, create=False)) as database:
        for row in database.execute("SELECT * FROM thumbs ORDER BY time, id"):
            yield dict(row) | {"good": bool(row["good"])}


def read_times(path: Path) -> list[dict[str, Any]]:
    """Times of all answers, the oldest first: the columns of the table `answers`."""
    with closing(connect(path, create=False)) as database:
        return [dict(row) for row in database.execute("SELECT * FROM answers ORDER BY time, id")]
