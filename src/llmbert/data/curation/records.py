"""Documents with all that their records hold, read once, kept on disk, and looked at again in any order."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llmbert.data.read import read_documents
from llmbert.data.sources import find_sources
from llmbert.protocols import LLMBertError, Progress, UsageError, silent

LONGEST = 1 << 24
"""A document may have so many characters; it is held in memory whole."""
_TEXT = (".txt", ".md")


class Record(NamedTuple):
    """A document: its id (a record's own field "id" where it has one), its text, its other fields, and where it stood:
    "<file>" or "<file>:<line, row or number>"."""

    id: Any
    text: str
    others: dict[str, Any]
    place: str

    def line(self) -> str:
        """The document as a line of JSONL: id, text, the other fields."""
        return json.dumps({"id": self.id, "text": self.text} | self.others, ensure_ascii=False, default=str) + "\n"


def read_records(
    paths: Sequence[str],
    *,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Iterator[Record]:
    """The documents of some paths, as `read_documents` cuts them, each whole.

    Raises LLMBertError for what cannot be read, for a document beyond LONGEST and where all are blank, UsageError for
    wrong fields.
    """
    if unknown := set(fields or {}) - {"text"}:
        raise UsageError(f"the field of a document is text=, not {sorted(unknown)[0]}=; its other fields are kept")
    documents = read_documents(paths, lines=lines, split_on=split_on, fields=fields, progress=progress, whole=True)
    found = False
    for document in documents:
        parts, length = [], 0
        for piece in document.pieces:
            parts.append(piece)
            length += len(piece)
            if length > LONGEST:
                raise LLMBertError(
                    f"{document.id} has more than {LONGEST:,} characters, too long for one document; "
                    f"cut it with --lines or --split-on"
                )
        text = "".join(parts)
        if not text or text.isspace():
            continue
        others = document.others
        if "text" in others:
            raise LLMBertError(
                f"{document.id} has a field 'text' beside the one that is read as text; rename one of the two"
            )
        own = others.pop("id", None)
        found = True
        yield Record(document.id if own is None else own, text, others, document.id)
    if not found:
        raise LLMBertError(f"no text was found in {', '.join(map(str, paths))}; every line or record is blank")


def are_lines(paths: Sequence[str], lines: bool) -> bool:
    """Whether all documents are lines of text files, so that they can be written as such."""
    return lines and all(source.ending in _TEXT for source in find_sources(paths))


class Spool:
    """Records on disk, in a file without a name beside what will be written; in memory 8 bytes for each."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._starts = array("q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, record: Record) -> None:
        line = json.dumps([*record], ensure_ascii=False, default=str) + "\n"
        self._starts.append(self._end)
        # Half a character in another field goes out as its escape, which JSON reads back.
        self._end += self._file.write(line.encode("utf-8", "backslashreplace"))

    def __getitem__(self, number: int) -> Record:
        self._file.seek(self._starts[number])
        return Record(*json.loads(self._file.readline()))

    def __iter__(self) -> Iterator[Record]:
        """All in order; others may be looked at meanwhile."""
        return self.some(range(len(self)))

    def some(self, numbers: Iterable[int]) -> Iterator[Record]:
        return (self[number] for number in numbers)

    def close(self) -> None:
        self._file.close()
