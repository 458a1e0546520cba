"""Files of records (JSON, tables, Parquet, data sets of the hub) to the text of each record."""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from llmbert.data.sources import HUB, STANDARD_INPUT, Meter, Source, read_blocks, read_text
from llmbert.protocols import LLMBertError, UsageError

Records = Iterator[tuple[int, str]]
_LONGEST_MARK = 16  # characters that JSON reads as one, at most: -Infinity, or an escaped pair of surrogates


class _Field:
    """Finds the text of a record: the field asked for, or "text", or the only one that holds text."""

    def __init__(self, source: Source, column: str | None) -> None:
        self._source, self._column = source, column

    @property
    def column(self) -> str | None:
        """The field's name, once the first record was seen."""
        return self._column

    def text(self, record: Any, place: str) -> str:
        """The record's text. Raises LLMBertError naming `place` ("line 3") where it has none."""
        text = record if isinstance(record, str) else self._of_object(record, place)
        try:
            text.isascii() or text.encode()
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            raise self._refusal(place, f"holds half a character (U+{code:04X}); remove or replace it") from error
        return text

    def _of_object(self, record: Any, place: str) -> str:
        if not isinstance(record, dict):
            raise self._refusal(place, f"is {_kind(record)}, not an object or a string; give one object a record")
        if self._column is None:
            self._column = self.choose(
                [name for name, value in record.items() if isinstance(value, str)], record, place
            )
        if self._column not in record:
            raise self._missing(place, repr(self._column), record, "name the field of text")
        value = record[self._column]
        if not isinstance(value, str):
            raise self._refusal(place, f"holds {_kind(value)} in field {self._column!r}; give text there")
        return value

    def choose(self, texts: list[str], names: Iterable[str], place: str) -> str:
        """The column of text among `texts`, the names of those that may be it."""
        names = list(names)
        wanted = self._column or "text"
        if wanted in names:
            return wanted
        if self._column is not None:
            raise self._missing(place, repr(wanted), names, "name one of these")
        if len(texts) == 1:
            return texts[0]
        raise self._missing(place, "'text'", names, "say which holds the text (--fields text=NAME)")

    def _missing(self, place: str, wanted: str, names: Iterable[str], mend: str) -> NoField:
        said = f"{self._source.name}, {place} has no field {wanted}"
        return NoField(f"{said} but {_names(names)}; {mend}", f"{said}; {mend}")

    def _refusal(self, place: str, what: str) -> LLMBertError:
        return LLMBertError(f"{self._source.name}, {place} {what}")


class NoField(LLMBertError):
    """A record lacks the field of text. quiet: the same without the names of the fields that it has, which are data
    themselves where a table begins without them."""

    def __init__(self, said: str, quiet: str) -> None:
        super().__init__(said)
        self.quiet = quiet


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, dict) else type(value).__name__)


def _names(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (" and others" if len(shown) > 20 else "") if shown else "no fields at all"


def _json_lines(source: Source, meter: Meter, column: str | None) -> Records:
    field = _Field(source, column)
    for number, record in _json_line_values(source, meter):
        text = field.text(record, f"line {number}")
        if text and not text.isspace():
            yield number, text


def _json_line_values(source: Source, meter: Meter) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(table_lines(source, meter), 1):
        if line.isspace() or not line:
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LLMBertError(
                f"{source.name}, line {number} is not JSON ({json_fault(error)}); mend the line"
            ) from error


def json_fault(error: Exception) -> str:
    """Why JSON could not be read, in a few words."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def table_lines(source: Source, meter: Meter) -> Iterator[str]:
    """Lines without their newline; one is held at a time, however long."""
    held: list[str] = []
    for text in read_text(source, meter):
        first, *others = text.split("\n")
        held.append(first)
        if others:
            yield "".join(held)
            held = [others.pop()]
            yield from others
    if last := "".join(held):
        yield last


def _json(source: Source, meter: Meter, column: str | None) -> Records:
    """One object, a list of objects or strings, or several of them one after another."""
    field = _Field(source, column)
    for number, (record, line) in enumerate(JsonReader.of(source, meter).records(), 1):
        text = field.text(record, f"record {number} (line {line})")
        if text and not text.isspace():
            yield number, text


class JsonReader:
    """Reads the records of one JSON list, or of values that follow one another, holding one record at a time."""

    def __init__(self, source: Source, texts: Iterator[str]) -> None:
        self._source, self._texts = source, texts
        self._text, self._at, self._line = "", 0, 1
        self._decoder = json.JSONDecoder()

    @classmethod
    def of(cls, source: Source, meter: Meter) -> JsonReader:
        return cls(source, read_text(source, meter))

    def records(self) -> Iterator[tuple[Any, int]]:
        in_list = self._next() == "["
        if in_list:
            self._at += 1
        while (character := self._next()) and character != "]":
            line = self._line
            yield self._value(), line
            separator = self._next()
            if separator == "," and in_list:
                self._at += 1
            elif separator not in (("]",) if in_list else ("", "{", '"')):
                raise self._refusal("a comma or the end of the list is missing")
        if in_list and character != "]":
            raise self._refusal("the list has no end")
        if character == "]":
            self._at += 1
            if not in_list or self._next():
                raise self._refusal("something follows the end")

    def _next(self) -> str:
        """The next character that is no white space, left in place; "" at the end."""
        while True:
            rest = len(self._text)
            while self._at < rest and self._text[self._at] in " \t\r\n":
                self._line += self._text[self._at] == "\n"
                self._at += 1
            if self._at < rest:
                return self._text[self._at]
            if not self._more(1):
                return ""

    def _value(self) -> Any:
        wanted = 1 << 16
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                self._line += self._text.count("\n", self._at, end)
                self._at = end
                return value
            except RecursionError as error:
                raise self._refusal("nested too deep") from error
            except json.JSONDecodeError as error:
                line = self._line + self._text.count("\n", self._at, error.pos)
                # The value may only be cut off: read on, twice as much each time. A fault within is there to stay.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LONGEST_MARK
                if not cut or not self._more(wanted):
                    self._line = line
                    raise self._refusal(f"{error.msg} at column {error.colno}") from error
                wanted = 2 * len(self._text)
            except ValueError as error:  # a number of too many digits
                raise self._refusal(json_fault(error)) from error

    def _more(self, wanted: int) -> bool:
        parts = [self._text[self._at :]]
        length = 0
        while length < wanted and (text := next(self._texts, "")):
            parts.append(text)
            length += len(text)
        self._text, self._at = "".join(parts), 0
        return length > 0

    def _refusal(self, what: str) -> LLMBertError:
        return LLMBertError(f"{self._source.name}, line {self._line} is not JSON ({what}); mend the file there")


def _csv(source: Source, meter: Meter, column: str | None) -> Records:
    return _table(source, column, _csv_rows(source, meter))


def _chain(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others


def _csv_rows(source: Source, meter: Meter) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines = (line + "\n" for line in table_lines(source, meter))
    header_line = next(lines, "")
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(_chain(header_line, lines), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LLMBertError(f"{source.name}, line {line} is not CSV ({error}); mend the quotes there") from error
        yield line, row


def _tsv(source: Source, meter: Meter, column: str | None) -> Records:
    return _table(source, column, _tsv_rows(source, meter))


def _tsv_rows(source: Source, meter: Meter) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(table_lines(source, meter), 1):
        yield number, line.removesuffix("\r").split("\t")


def _table(source: Source, column: str | None, rows: Iterator[tuple[int, list[str]]]) -> Records:
    """Rows of a table whose first one names the columns."""
    header = _header(rows)
    at = header.index(_Field(source, column).choose(header, header, "line 1"))
    for number, row in _filled(source, header, rows):
        if at >= len(row):
            raise LLMBertError(
                f"{source.name}, line {number} has {len(row)} columns and so no {header[at]!r}; mend the row"
            )
        if row[at] and not row[at].isspace():
            yield number, row[at]


def _header(rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    """The names of the columns, without the empty ones that end a line of too many delimiters."""
    _, header = next(rows, (1, []))
    while header and not header[-1].strip():
        header = header[:-1]
    return header


def _filled(
    source: Source, header: list[str], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank. Raises UsageError for one with more columns than have names: text would be lost."""
    for number, row in rows:
        if not row or row == [""]:
            continue
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            mend = "take the tabs out of its text" if source.ending == ".tsv" else "put text with delimiters in quotes"
            raise UsageError(
                f"{source.name}, line {number} has {len(row)} columns but line 1 names {len(header)}; {mend}, or name "
                f"every column"
            )
        yield number, row


@contextmanager
def _open_parquet(source: Source, meter: Meter) -> Iterator[Any]:
    """A Parquet file, unpacked where it is packed. Raises LLMBertError where it is damaged."""
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as error:
        raise LLMBertError(
            f"reading {source.name} needs the package pyarrow, which is not installed; pip install 'llmbert[data]'"
        ) from error
    try:
        with tempfile.TemporaryFile() as unpacked:
            if source.packed or source.path == STANDARD_INPUT:
                for block in read_blocks(source, meter):
                    unpacked.write(block)
                unpacked.seek(0)
            yield pyarrow.parquet.ParquetFile(unpacked if source.packed else source.path)
    except (pyarrow.lib.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LLMBertError(f"{source.name} is not a whole Parquet file ({first}); write or copy it anew") from error


def _parquet(source: Source, meter: Meter, column: str | None) -> Records:
    field = _Field(source, column)
    with _open_parquet(source, meter) as file:
        yield from _parquet_rows(file, field, None if source.packed else meter, source)


def _parquet_values(source: Source, meter: Meter) -> Iterator[dict[str, Any]]:
    with _open_parquet(source, meter) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def _parquet_rows(file: Any, field: _Field, meter: Meter | None, source: Source) -> Records:
    schema = file.schema_arrow
    texts = [name for name, kind in zip(schema.names, schema.types, strict=True) if "string" in str(kind)]
    column = field.choose(texts, schema.names, "the table")
    number = 0
    rows = max(1, file.metadata.num_rows)
    for batch in file.iter_batches(batch_size=1024, columns=[column]):
        for value in batch.column(0).to_pylist():
            number += 1
            text = field.text({column: value}, f"row {number}")
            if text and not text.isspace():
                yield number, text
        if meter:
            meter.add(source.size * len(batch) // rows)


def _hub(source: Source, meter: Meter, column: str | None) -> Records:
    """The training part of a data set of the Hugging Face hub, or of "hub:NAME:PART"."""
    field = _Field(source, column)
    for number, row in enumerate(_hub_rows(source), 1):
        text = field.text(row, f"row {number}")
        if text and not text.isspace():
            yield number, text


def _hub_rows(source: Source) -> Iterator[Any]:
    try:
        import datasets
    except ImportError as error:
        raise LLMBertError(
            f"{source.path} needs the package datasets, which is not installed; pip install 'llmbert[hub]'"
        ) from error
    name, _, part = source.path.removeprefix(HUB).partition(":")
    try:
        return iter(datasets.load_dataset(name, split=part or "train", streaming=True))
    except Exception as error:  # whatever the library and the network raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LLMBertError(f"the data set {name} cannot be loaded ({first}); check its name and the network") from error


def read_rows(source: Source, meter: Meter) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record whole, with its place ("line 3"), from .jsonl, .json, .csv, .tsv or the hub; blank rows passed over.

    Raises LLMBertError for what is no record, and for a form of file that has none.
    """
    for place, record in _rows(source, meter):
        if not isinstance(record, dict):
            raise LLMBertError(f"{source.name}, {place} is {_kind(record)}, not an object; give one object a record")
        yield place, record


def read_rows_of_text(source: Source, meter: Meter, column: str | None) -> Iterator[tuple[int, Any, str | None, str]]:
    """Each record whole as (number, record, field, text): its field of text (None where the record itself is text),
    chosen as for documents, and what that says; numbers are those of documents, and blank texts are not passed over.

    Raises LLMBertError for what is no record, and for one without text.
    """
    field = _Field(source, column)
    for place, record in _rows(source, meter):
        text = field.text(record, place)
        yield int(place.split()[1]), record, None if isinstance(record, str) else field.column, text


def read_whole(source: Source, meter: Meter, column: str | None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each record as its line, row or number, its text, and its other fields; those with a blank text passed over.

    column: the field of text, else "text" or the only one. Raises LLMBertError as the readers of RECORDS do.
    """
    for number, record, name, text in read_rows_of_text(source, meter, column):
        if text and not text.isspace():
            others = {} if name is None else {key: value for key, value in record.items() if key != name}
            yield number, text, others


def _rows(source: Source, meter: Meter) -> Iterator[tuple[str, Any]]:
    if source.ending == ".jsonl":
        return ((f"line {number}", value) for number, value in _json_line_values(source, meter))
    if source.ending == ".json":
        records = JsonReader(source, read_text(source, meter)).records()
        return ((f"record {number} (line {line})", value) for number, (value, line) in enumerate(records, 1))
    if source.ending in (".csv", ".tsv"):
        return _table_records(source, (_csv_rows if source.ending == ".csv" else _tsv_rows)(source, meter))
    if source.ending == ".parquet":
        return ((f"row {number}", value) for number, value in enumerate(_parquet_values(source, meter), 1))
    if source.ending == "hub":
        return ((f"row {number}", dict(row)) for number, row in enumerate(_hub_rows(source), 1))
    raise LLMBertError(f"{source.name} holds no records with fields; give .jsonl, .json, .csv, .tsv or .parquet")


def _table_records(source: Source, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[str, dict[str, str]]]:
    header = _header(rows)
    for at, name in enumerate(header):
        if (first := header.index(name)) < at:  # without the name, which is data where a table begins without names
            raise UsageError(f"{source.name} has one name for its columns {first + 1} and {at + 1}; rename one of them")
    for number, row in _filled(source, header, rows):
        yield f"line {number}", dict(zip(header, row, strict=False))


RECORDS: dict[str, Callable[[Source, Meter, str | None], Records]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    "hub": _hub,
}
