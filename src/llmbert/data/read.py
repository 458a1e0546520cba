"""Paths to documents: text files, JSON, tables and data sets of the hub, each read as a stream."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmbert.data.records import RECORDS, read_whole
from llmbert.data.sources import Meter, Source, find_sources, read_text
from llmbert.protocols import LLMBertError, Progress, UsageError, silent

LONG = 1 << 20
"""A line or a document longer than this many characters comes in several pieces."""
CONTEXT = 1 << 16
"""How far a split pattern may look ahead or behind, and how long a match it may have."""
_ENDS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\$", re.DOTALL)  # what is escaped, a class of characters, or $


@dataclass(slots=True)
class Document:
    """A text with a stable id: "<file name>" for a whole file, "<file name>:<line, row or number>" for a part of one.

    pieces: the text, in pieces of about a million characters; read them before the next document is asked for (what
    is left of them is skipped then). source: the name of the file. others: of a record its other fields, where they
    were asked for.
    """

    id: str
    pieces: Iterator[str]
    source: str
    others: dict[str, Any] = field(default_factory=dict)


def first_bytes(documents: Iterable[Document], most: int) -> Iterator[Document]:
    """Documents up to `most` bytes of text in UTF-8, all in all; the one that goes on beyond ends there, between two
    characters."""
    left = most

    def counted(pieces: Iterator[str]) -> Iterator[str]:
        nonlocal left
        for piece in pieces:
            encoded = piece.encode()
            if len(encoded) > left:
                yield encoded[:left].decode(errors="ignore")
                left = 0
                return
            left -= len(encoded)
            yield piece

    for document in documents:
        yield replace(document, pieces=counted(document.pieces))
        if left <= 0:
            return


def read_documents(
    paths: Sequence[str],
    *,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    progress: Progress = silent,
    encodings: MutableMapping[str, str] | None = None,
    whole: bool = False,
) -> Iterator[Document]:
    """The documents of files, folders, globs, "-" (standard input) and "hub:NAME", one after another.

    A .txt or .md file is one document, newlines and all. lines: each of its lines that is not blank is one, without
    its line end. split_on: a regular expression (^ and $ hold at lines, also at those that end in \\r\\n) whose
    matches, as in `re.split`, stand between documents; matches longer than CONTEXT characters are not seen. In .jsonl,
    .json, .csv, .tsv and .parquet each record is one: its field fields["text"], or "text", or its only field of text.
    Blank documents and records are passed over, but for a whole file.
    progress: "reading", bytes done and in all, as they are on disk. encodings: filled with each text file's encoding.
    whole: of records, the other fields too.

    Raises LLMBertError for what cannot be read as text, naming file and line; UsageError for a broken split_on.
    """
    pattern = _compile(split_on)
    if lines and pattern:
        raise UsageError("lines and split_on cannot both be set; choose one way to cut a file into documents")
    sources = find_sources(paths)
    sizes = [source.size for source in sources]
    meter = Meter(progress, sum(sizes) if all(sizes) else None)
    meter.encodings = encodings if encodings is not None else {}
    column = (fields or {}).get("text")
    found = False
    for source in sources:
        for document in _read_source(source, meter, lines, pattern, column, whole):
            found = True
            yield document
    if not found:
        raise LLMBertError(f"no text was found in {', '.join(map(str, paths))}; every line or record is blank")


def _compile(split_on: str | None) -> re.Pattern[str] | None:
    try:
        return None if split_on is None else re.compile(_ENDS.sub(_at_line_end, split_on), re.MULTILINE)
    except re.error as error:
        raise UsageError(f"the regular expression {split_on!r} to split on is broken: {error}") from error


def _at_line_end(match: re.Match[str]) -> str:
    """A $ that stands for the end of a line also holds before the return that ends lines of Windows."""
    return r"(?=\r?$)" if match[0] == "$" else match[0]


def _read_source(
    source: Source,
    meter: Meter,
    lines: bool,
    pattern: re.Pattern[str] | None,
    column: str | None,
    whole: bool,
) -> Iterator[Document]:
    if source.ending in RECORDS and whole:
        for number, text, others in read_whole(source, meter, column):
            yield Document(f"{source.name}:{number}", iter((text,)), source.name, others)
        return
    if source.ending in RECORDS:
        for number, text in RECORDS[source.ending](source, meter, column):
            yield Document(f"{source.name}:{number}", iter((text,)), source.name)
        return
    texts = read_text(source, meter)
    if lines:
        yield from _line_documents(texts, source.name)
    elif pattern:
        yield from _split_documents(texts, source.name, pattern)
    else:
        yield Document(source.name, texts, source.name)
        deque(texts, maxlen=0)


class _Pieces:
    """A long text while it is being read: `take` gives the next piece and whether the text ends with it."""

    def __init__(self, first: str, take: Callable[[], tuple[str, bool]]) -> None:
        self._ready, self._ended, self._take = first, False, take

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._ready and self._ended:
            raise StopIteration
        piece, self._ready = self._ready, ""
        while not piece and not self._ended:
            piece, self._ended = self._take()
        if not piece:
            raise StopIteration
        return piece


class _Lines:
    """The lines of a stream of text; `take` continues a line that was too long to hold."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts, self._rest, self._held = texts, "", ""

    def next_text(self) -> str:
        text, self._rest = self._rest, ""
        return text or next(self._texts, "")

    def take(self) -> tuple[str, bool]:
        text = self.next_text()
        line, newline, self._rest = text.partition("\n")
        line = self._held + line
        ended = bool(newline) or not text
        # A return is held back until it is known not to belong to the line's end.
        self._held = "\r" if line.endswith("\r") and not ended else ""
        return line.removesuffix("\r") if ended or self._held else line, ended


def _line_documents(pieces: Iterator[str], name: str) -> Iterator[Document]:
    """A document a line; a line that outgrows LONG is handed out while it is still being read."""
    texts = _Lines(pieces)
    number, carry = 1, ""
    while text := texts.next_text():
        ready = text.split("\n")
        ready[0] = carry + ready[0]
        carry = ready.pop()
        for line in ready:
            if line and not line.isspace():
                yield Document(f"{name}:{number}", iter((line.removesuffix("\r"),)), name)
            number += 1
        if len(carry) > LONG and not carry.isspace():
            texts._held = "\r" if carry.endswith("\r") else ""
            pieces = _Pieces(carry.removesuffix("\r"), texts.take)
            carry = ""
            yield Document(f"{name}:{number}", pieces, name)
            deque(pieces, maxlen=0)
            number += 1
    if carry and not carry.isspace():
        yield Document(f"{name}:{number}", iter((carry.removesuffix("\r"),)), name)


class _Splitter:
    """Cuts a stream of text at the matches of a pattern; holds about LONG characters of it."""

    def __init__(self, texts: Iterator[str], pattern: re.Pattern[str]) -> None:
        self._texts, self._pattern = texts, pattern
        self._text, self._at = "", 0
        self._barred = -1  # where an empty match was used already
        self._complete = self.finished = False

    def take(self) -> tuple[str, bool]:
        """The next piece of the document, and whether the document ends with it."""
        while True:
            known = len(self._text) if self._complete else len(self._text) - CONTEXT
            start, end = self._match()
            if start >= 0 and end <= known:
                piece, self._at = self._text[self._at : start], end
                self._barred = end if start == end else -1
                return piece, True
            if self._complete:
                self.finished = True
                return self._text[self._at :], True
            ready = min(known, start) if start >= 0 else known
            if ready - self._at > LONG:
                piece, self._at = self._text[self._at : ready], ready
                return piece, False
            self._read()

    def _match(self) -> tuple[int, int]:
        for match in self._pattern.finditer(self._text, self._at):
            if match.span() != (self._barred, self._barred):
                return match.span()
        return -1, -1

    def _read(self) -> None:
        text = next(self._texts, "")
        self._complete = not text
        dropped = max(0, self._at - CONTEXT)
        self._text = self._text[dropped:] + text
        self._at -= dropped
        self._barred -= dropped


def _split_documents(texts: Iterator[str], name: str, pattern: re.Pattern[str]) -> Iterator[Document]:
    """The text between matches; blank stretches are dropped."""
    splitter = _Splitter(texts, pattern)
    number, blank = 0, ""
    while not splitter.finished:
        piece, ended = splitter.take()
        piece = blank + piece
        if not piece or piece.isspace():
            blank = "" if ended else piece
            continue
        number, blank = number + 1, ""
        pieces = iter((piece,)) if ended else _Pieces(piece, splitter.take)
        yield Document(f"{name}:{number}", pieces, name)
        deque(pieces, maxlen=0)
