"""What a verb is asked and answers: texts from the command line or a file, answers to the terminal or a file."""

from __future__ import annotations

import gzip
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llmbert.protocols import LLMBertError, Progress, UsageError

Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="KIND", help="Of a gpt or transformer: float32, bfloat16 or int8, to write fast."
    ),
]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or a model of Hugging Face's.")]
Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to work on.")]
In = Annotated[str | None, typer.Option("--in", metavar="FILE", help="Read them from here instead; - is stdin.")]
Fields = Annotated[
    str | None, typer.Option("--fields", metavar="source=A,target=B", help="Which fields hold text and reference.")
]
Out = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write here: .txt, .jsonl or .tsv, also .gz.")]
Into = Annotated[str, typer.Option("--into", metavar="NAME", help="Field that the answers are written to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Even if --out exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]
Batch = Annotated[int, typer.Option("--batch", help="Texts at a time.")]

INTO = "output"  # where the answers are written to, unsaid
TEXT_ENDINGS = (".txt", ".md")
OUT_ENDINGS = (".txt", ".jsonl", ".tsv")
Form = Literal["text", "record", "words", "labelled"]
"""What is asked about: a text; a record of any kind; a text or its words, with their tags; a text with its label."""
SOURCE_FIELDS = {
    "text": ("source", "text", "document", "dialogue", "article"),
    "record": ("source", "mr", "triples"),
    "words": ("tokens", "text"),
    "labelled": ("text", "source"),
}
"""Where the source is looked for in a record when nobody says which field holds it."""
ROLES = {
    "text": {"source": "source", "target": "target"},
    "record": {"source": "source", "target": "target"},
    "words": {"tokens": "source", "text": "source", "source": "source", "tags": "target", "target": "target"},
    "labelled": {
        **{"text": "source", "source": "source", "text_b": "second", "label": "target", "target": "target"},
    },
}
"""The names a role may be given by, those of the training's --fields too."""


@dataclass(frozen=True)
class Item:
    """One request. source: a text, or what the form allows; targets: references, [] for none (of words: the list of
    their tags; of what is labelled: a string, or a list of labels); record: what it came with, {} outside of records;
    place: for complaints."""

    source: Any
    targets: list[Any]
    record: dict[str, Any]
    place: str


@dataclass(frozen=True)
class Request:
    """The options that all verbs of texts share."""

    texts: Sequence[str]
    path: str | None
    fields: str | None
    out: str | None
    into: str
    overwrite: bool
    as_json: bool
    lines: bool = True
    form: Form = "text"

    def items(self, progress: Progress) -> list[Item]:
        """What is asked. Errors as from `read_items`."""
        roles = parse_roles(self.fields, ROLES[self.form])
        items = read_items(self.texts, self.path, roles, lines=self.lines, form=self.form, progress=progress)
        if self.out:
            check_name(items, self.into)
        return items


def parse_roles(text: str | None, known: Mapping[str, str]) -> dict[str, str]:
    """ "source=mr,target=ref" → {"source": "mr", "target": "ref"}. Raises UsageError for another form."""
    if text is None:
        return {}
    pairs = [part.partition("=") for part in text.split(",")]
    if any(role.strip() not in known or not name.strip() for role, _, name in pairs):
        raise UsageError(f"--fields takes {','.join(f'{role}=NAME' for role in known)}, not {text!r}")
    return {known[role.strip()]: name.strip() for role, _, name in pairs}


# ---- in ------------------------------------------------------------------------------------------------------------


def read_items(
    texts: Sequence[str],
    path: str | None,
    fields: Mapping[str, str],
    *,
    lines: bool,
    form: Form = "text",
    progress: Progress,
) -> list[Item]:
    """The requests of a command line: its texts, or those of a file ("-": standard input).

    A .txt file is one text, with `lines` a text a line; of records the field fields["source"] or one of
    SOURCE_FIELDS (in form "record" else all of it); fields["target"] holds references, fields["second"] the second
    text of a pair. With fields standard input is JSON lines.

    Raises UsageError for texts and a file at once or neither, LLMBertError for what cannot be read, a field that is
    not there, or no text at all.
    """
    if bool(texts) == (path is not None):
        raise UsageError("give either texts on the command line or a file with --in, and not both")
    if texts:
        items = [Item(text, [], {}, f"text {number}") for number, text in enumerate(texts, 1)]
    else:
        items = list(_of_file(str(path), fields, lines, form, progress))
    if not any(_filled(item.source) for item in items):
        raise LLMBertError(f"there is no text in {path or 'what was given'}; every line or record is blank")
    return items


def _of_file(path: str, fields: Mapping[str, str], lines: bool, form: Form, progress: Progress) -> Iterator[Item]:
    from llmbert.data.records import read_rows, table_lines
    from llmbert.data.sources import STANDARD_INPUT, Meter, Source, find_sources, read_text

    (source, *others) = find_sources([path])
    if others:
        raise UsageError(f"{path} is {len(others) + 1} files; give one with --in")
    if path == STANDARD_INPUT and fields:
        source = Source(path, source.name, ".jsonl")
    meter = Meter(progress, source.size or None)
    if source.ending not in TEXT_ENDINGS:
        for place, record in read_rows(source, meter):
            yield _item(record, fields, form, f"{source.name}, {place}")
    elif fields:
        raise UsageError(f"{source.name} is plain text and has no fields; leave out --fields")
    elif lines:
        for number, line in enumerate(table_lines(source, meter), 1):
            yield Item(line.removesuffix("\r"), [], {}, f"{source.name}, line {number}")
    else:
        yield Item("".join(read_text(source, meter)), [], {}, source.name)


def _item(record: dict[str, Any], fields: Mapping[str, str], form: Form, place: str) -> Item:
    name = fields.get("source") or next((known for known in SOURCE_FIELDS[form] if known in record), None)
    targets = _targets(_field(record, fields["target"], place, form), form, place) if "target" in fields else []
    if name is None and form == "record":
        rest = {key: value for key, value in record.items() if key != fields.get("target")}
        return Item(rest, targets, record, place)
    if name is None:
        raise LLMBertError(f"{place} has no field of text but {_names(record)}; name it with --fields source=NAME")
    source = _field(record, name, place, form)
    if form == "text":
        source = " ".join(_texts(source, place))
    elif form != "record" and not (isinstance(source, str) or (form == "words" and _texts(source, place))):
        raise LLMBertError(f"{place} holds no text in field {name!r}; give a string there")
    if "second" in fields:
        source = (source, " ".join(_texts(_field(record, fields["second"], place, form), place)))
    return Item(source, targets, record, place)


def _targets(value: Any, form: Form, place: str) -> list[Any]:
    """References as the form has them: texts, the list of a text's tags, or its label or list of labels."""
    if form == "labelled":
        if not all(isinstance(each, str | int | float) for each in (value if isinstance(value, list) else [value])):
            raise LLMBertError(f"{place} holds no label where one is wanted; give a string, a number or a list of them")
        return [[str(each) for each in value] if isinstance(value, list) else str(value)]
    return [_texts(value, place)] if form == "words" else _texts(value, place)


def _field(record: Mapping[str, Any], name: str, place: str, form: Form) -> Any:
    """What a field holds; for labels and tags "left.name" is field name of field left, as `read_examples` has it."""
    value: Any = record
    inside = name not in record and form in ("words", "labelled")
    for part in name.split(".") if inside else [name]:
        if not isinstance(value, Mapping) or part not in value:
            raise LLMBertError(f"{place} has no field {name!r} but {_names(record)}; name one of these with --fields")
        value = value[part]
    return value


def _texts(value: Any, place: str) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise LLMBertError(f"{place} holds no text where text is wanted; give a string, or a list of strings")
    return found


def _filled(source: Any) -> bool:
    if isinstance(source, tuple):
        return any(map(_filled, source))
    return bool(source.strip() if isinstance(source, str) else source)


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in list(record)[:20]) or "no fields at all"


# ---- out -----------------------------------------------------------------------------------------------------------


def check_request(request: Request, batch: int) -> None:
    """Refuse, before any work, a batch of nothing, options that come to nothing, and an answer file that exists or has
    an ending nobody writes."""
    if batch < 1:
        raise UsageError(f"--batch must be at least 1, not {batch}")
    if request.texts and request.fields:
        raise UsageError("--fields names fields of a file and texts have none; leave it out, or give a file with --in")
    if request.texts and request.lines and request.form == "text":
        raise UsageError("--lines is of a file and texts are given already; leave it out, or give a file with --in")
    if request.into != INTO and (request.out is None or _ending(request.out) == ".txt"):
        raise UsageError("--into names a field of answers in a .jsonl or .tsv file; name such a file with --out")
    if request.out is None:
        return
    path = request.out
    if _ending(path) not in OUT_ENDINGS:
        raise UsageError(f"--out {path} ends in none of {', '.join(OUT_ENDINGS)} (each also .gz); rename it")
    if Path(path).exists() and not request.overwrite:
        raise LLMBertError(f"{path} exists already; add --overwrite, or name another file with --out")
    if not Path(path).absolute().parent.is_dir():
        raise LLMBertError(f"{path} lies in a folder that does not exist; make it, or name another file with --out")


def check_name(items: Sequence[Item], name: str) -> None:
    """Refuse to write answers over a field that the records have."""
    for item in items:
        if name in item.record:
            raise UsageError(f"{item.place} has a field {name!r} already; name the answers with --into NAME")


def write_answers(
    path: str, items: Sequence[Item], answers: Sequence[Any], name: str, show: Callable[[Any], str] = str
) -> None:
    """Write the answers to a file, whole or not at all; show: an answer as text, where it is none.

    .jsonl: each record as it came with the answer in field `name` (a text alone: {"source", name}); .tsv: the columns
    it came with and the answer's; .txt: an answer a line, or the only one as it is. In .txt of several answers and in
    .tsv line ends and tabs become spaces. Raises LLMBertError where the disk refuses.
    """
    lines = _LINES[_ending(path)](items, answers, name, show)
    beside = Path(path).with_name(f".{Path(path).name}.part")
    opened: Any = gzip.open if path.lower().endswith(".gz") else open
    try:
        with opened(beside, "wt", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
            file.writelines(line + "\n" for line in lines)
        beside.replace(path)
    except OSError as error:
        raise LLMBertError(
            f"could not write {path}: {error.strerror or error}; free some space there or choose another --out"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def as_json(value: Any) -> str:
    """A value as one line of JSON; what JSON does not know (a date) becomes text, what is no finite number null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # NaN or an infinity
        return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(item: Item, answer: Any, name: str) -> dict[str, Any]:
    """An answer with what it is the answer to."""
    return {**(item.record or {"source": item.source}), name: answer}


def _json_lines(items: Sequence[Item], answers: Sequence[Any], name: str, show: Callable[[Any], str]) -> Iterator[str]:
    for item, answer in zip(items, answers, strict=True):
        yield as_json(_record(item, answer, name))


def _table_lines(items: Sequence[Item], answers: Sequence[Any], name: str, show: Callable[[Any], str]) -> Iterator[str]:
    records = [_record(item, show(answer), name) for item, answer in zip(items, answers, strict=True)]
    columns = [*dict.fromkeys(key for record in records for key in record if key != name), name]
    yield "\t".join(map(_flat, columns))
    for record in records:
        yield "\t".join(_flat(record.get(column, "")) for column in columns)


def _text_lines(items: Sequence[Item], answers: Sequence[Any], name: str, show: Callable[[Any], str]) -> Iterator[str]:
    if len(answers) == 1:
        yield show(answers[0]).removesuffix("\n")
    else:
        yield from (_flat(show(answer)) for answer in answers)


_LINES = {".jsonl": _json_lines, ".tsv": _table_lines, ".txt": _text_lines}


def _flat(value: Any) -> str:
    text = as_json(value) if value is None or isinstance(value, dict | list | int | float) else str(value)
    return " ".join(text.replace("\t", " ").splitlines())


def _ending(path: str) -> str:
    return Path(path.lower().removesuffix(".gz")).suffix


def give(
    request: Request,
    items: Sequence[Item],
    answers: Sequence[Any],
    scores: Mapping[str, Mapping[str, Any]],
    show: Callable[[Any], str] = str,
) -> None:
    """Answers to the file or stdout; scores beside them, on stderr where stdout holds answers."""
    if request.out:
        write_answers(request.out, items, answers, request.into, show)
    if request.as_json:
        own = {} if request.out else {"answers": list(answers)}
        print(as_json({"count": len(answers), **own, "scores": scores}))
        return
    if not request.out:
        for answer in answers:
            print(show(answer))
    for name, score in scores.items():
        around = f"   {score['interval'][0]:.2f} to {score['interval'][1]:.2f}" if score.get("interval") else ""
        print(f"{name:<14}{score['score']:>8.2f}{around}", file=sys.stdout if request.out else sys.stderr)
    if request.out:
        print(f"{len(answers):,} answers: {request.out}")


def print_stream(pieces: Iterator[str]) -> None:
    """Pieces on stdout as they come, and a line end."""
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def refuse_given(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that would come to nothing: those of these parameters that stand on the command line.

    Raises UsageError, the option before `why`.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]} {why}")


@contextmanager
def notes() -> Iterator[None]:
    """Warnings of a task as a line each on stderr, in the shell's own voice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"llmbert: note: {warning.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
