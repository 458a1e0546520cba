"""What is kept and what is left out, as files that appear whole and together, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from llmbert.data.curation.records import Record
from llmbert.data.sources import ENDINGS, PACKED
from llmbert.protocols import LLMBertError, UsageError

PARTIAL = ".partial"
JSONL, TXT = ".jsonl", ".txt"


class Outputs:
    """Files of a curation: `kept` (JSONL, or a line a document), `removed` (JSONL: id, action, reason, …), `page`.

    out: a folder gets documents.jsonl (documents.txt where all are lines of text), removed.jsonl and report.html;
    a file NAME.jsonl or NAME.txt gets NAME.removed.jsonl and NAME.report.html beside it. Used as a context: the files
    take their names when it ends well.

    Raises UsageError for a name of another kind, LLMBertError where a file is in the way or cannot be written.
    """

    def __init__(self, out: str | os.PathLike[str], *, lines: bool, overwrite: bool) -> None:
        path = Path(out)
        self._in_folder = path.is_dir() or path.suffix not in (*ENDINGS, *PACKED)
        if self._in_folder:
            self.folder, stem = path, ""
            self.kept = path / f"documents{TXT if lines else JSONL}"
        else:
            self.folder, self.kept, stem = path.parent, path, f"{path.stem}."
            _check_name(path, lines)
        self.removed = self.folder / f"{stem}removed.jsonl"
        self.page = self.folder / f"{stem}report.html"
        for file in (self.kept, self.removed, self.page):
            if file.exists() and (not overwrite or file.is_dir()):
                raise LLMBertError(f"{file} is there already; choose another --out or say --overwrite")
        self._made: list[Path] = []
        self._files: dict[Path, IO[str]] = {}

    def __enter__(self) -> Outputs:
        try:
            self._made = [each for each in (self.folder, *self.folder.parents) if not each.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in (self.kept, self.removed):
                partial = path.with_name(path.name + PARTIAL)
                self._files[path] = partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            self._withdraw()
            raise self._refusal(error) from error
        return self

    def keep(self, record: Record) -> None:
        line = record.line() if self.kept.suffix == JSONL else " ".join(record.text.split("\n")) + "\n"
        self._files[self.kept].write(line)

    def note(self, record: Record, action: str, reason: str, **details: Any) -> None:
        """Write down that a document was "removed" or "changed", and why."""
        named: dict[str, Any] = {"id": record.id}
        if record.place != record.id:
            named["place"] = record.place
        entry = named | {"action": action, "reason": reason} | details
        self._files[self.removed].write(json.dumps(entry, ensure_ascii=False) + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for file in self._files.values():
                file.close()
            if error is None:
                for path in self._files:
                    path.with_name(path.name + PARTIAL).replace(path)
        except OSError as refused:
            error = refused
        if error is not None:
            self._withdraw()
        if isinstance(error, OSError):
            raise self._refusal(error) from error

    def _withdraw(self) -> None:
        for path, file in self._files.items():
            file.close()
            path.with_name(path.name + PARTIAL).unlink(missing_ok=True)
        for folder in self._made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _refusal(self, error: OSError) -> LLMBertError:
        reason = error.strerror or error
        return LLMBertError(f"could not write to {self.folder} ({reason}); free some space or choose another --out")


def _check_name(path: Path, lines: bool) -> None:
    if path.suffix not in (JSONL, TXT):
        raise UsageError(f"--out is a folder or a file that ends in {JSONL} or {TXT}, not {path.name}")
    if path.suffix == TXT and not lines:
        raise UsageError(f"{path.name} would hold a document a line; read text files with --lines, or name it {JSONL}")
