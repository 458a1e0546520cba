"""Documents → the same documents without personal data, and a page with figures that names none of it."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from heapq import heappush, heappushpop
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from llmbert.data.personal.find import KINDS, REGIONS, Find, Tagger, check_kinds, find_personal
from llmbert.data.personal.pseudonyms import Replace, replacement
from llmbert.data.personal.scrubbing import BLOCK, scrub_pieces, scrub_text
from llmbert.data.read import LONG
from llmbert.data.records import RECORDS, NoField, read_rows, read_rows_of_text
from llmbert.data.sources import Meter, Source, find_sources, read_text
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import PARTIAL, Run, command_line, disk_error, load, machine
from llmbert.workbench.curation.scrub_wording import say
from llmbert.workbench.pages import write_page
from llmbert.workbench.sources import Paths, path_list
from llmbert.workbench.wording import say as fact

FILES = (".txt", ".md", ".jsonl")  # how the name of one file to write ends; any other --out is a folder
KEY = "LLMBERT_SCRUB_KEY"
PERSONS = ("per", "person", "name", "nr", "per.nam")
"""Tags of persons: of most corpora, of Chinese résumés, of Chinese parts of speech, of Weibo (whose PER.NOM are words
such as "friend")."""
SHOWN = 20  # documents with the most finds, on the page
BATCH = 256  # records at a time

FindMany = Callable[[Sequence[str]], list[list[Find]]]


def scrub(
    data: Paths,
    out: str | os.PathLike[str],
    *,
    how: str = "mask",
    key: bytes | str | os.PathLike[str] | None = None,
    kinds: Collection[str] | None = None,
    names: str | os.PathLike[str] | Run | Tagger | None = None,
    regions: Sequence[str] = REGIONS,
    lines: bool = False,
    fields: Mapping[str, str] | None = None,
    overwrite: bool = False,
    language: str = "en",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the documents anew without personal data; returns documents, found_in, finds by kind, files, left.

    out: a file (.txt, .md, .jsonl) for one source, with its report in the folder FILE.report beside it, or a folder
    with `data/`, `report.html`, `report.json` and `documents.jsonl`, the counts of each document that has any. Text
    stays text; records become JSONL with nothing changed but the field of text; fields {"text": "*"}: all of their
    texts. how, key: see `replacement`; key: bytes, a file, or by default the environment's LLMBERT_SCRUB_KEY. kinds: of
    `personal.KINDS`. names: a run that tags persons, or a callable text → spans; without it no names are found.
    regions: whose national phone numbers are known. left: the records' fields that were written as they were.

    No raw value goes into a report, a name of a file or an error. Raises UsageError for what is asked wrongly,
    LLMBertError for what cannot be read or written; nothing half-written stays.
    """
    if language not in ("en", "zh"):
        raise UsageError(f"language is en or zh, not {language!r}")
    if unknown := set(fields or {}) - {"text"}:
        raise UsageError(f"fields of a document are text=, not {sorted(unknown)[0]}=")
    wanted = check_kinds(kinds)
    if kinds is not None and "name" in wanted and names is None:
        raise UsageError("names are found by a run that tags them; name one (--names RUN), or leave the kind out")
    find_personal("0", wanted, regions=regions)  # before anything is made: are the regions and libraries there?
    replace = replacement(how, _key(key) if how != "mask" else None, regions)
    find_many = _finder(wanted, names, regions)

    # In names of files words stand apart by underscores, which within a text are part of a word.
    def clean(text: str) -> str:
        found = find_personal(text.replace("_", " "), wanted, regions=regions)
        return scrub_text(text, found, replacement("mask"), Counter())

    def clean_name(text: str) -> str:
        (found,) = find_many([text.replace("_", " ")])
        return scrub_text(text, found, replacement("mask"), Counter())

    try:
        work = _Work(path_list(data), Path(out), find_many, replace, clean_name, lines, (fields or {}).get("text"))
        work.check_out(overwrite)
        found = work.run(progress)
        found |= {"how": how, "kinds": {kind: work.counts[kind] for kind in KINDS if kind in wanted}}
        if names is None:
            found["kinds"].pop("name", None)
        work.finish(lambda folder: write_page(folder, _content(work, found, language), language))
    except NoField as error:
        tables = any(source.ending in (".csv", ".tsv") for source in work.sources)
        raise LLMBertError(clean(error.quiet if tables else str(error))) from None
    except LLMBertError as error:
        raise type(error)(clean(str(error))) from None
    return found


def _key(key: bytes | str | os.PathLike[str] | None) -> bytes | None:
    """The secret: given, of a file, or of the environment. Raises LLMBertError for a file that cannot be read."""
    if isinstance(key, bytes):
        return key
    if key is None:
        return os.environ.get(KEY, "").encode() or None
    try:
        return Path(key).read_bytes().strip()
    except OSError as error:
        raise LLMBertError(
            f"the key {key} cannot be read ({error.strerror}); name a file with a secret in it"
        ) from None


def _finder(wanted: frozenset[str], names: Any, regions: Sequence[str]) -> FindMany:
    """What finds the personal data of some texts, their names all together."""
    tag_many: Callable[[Sequence[str]], list[list[tuple[int, int]]]] | None = None
    if callable(names):
        tag_many = lambda texts: [list(names(text)) for text in texts]  # noqa: E731
    elif names is not None:
        tag_many = _tagger(names if isinstance(names, Run) else load(Path(names)))

    def find_many(texts: Sequence[str]) -> list[list[Find]]:
        spans = tag_many(texts) if tag_many else None
        return [
            find_personal(text, wanted, names=(lambda _, i=i: spans[i]) if spans else None, regions=regions)  # type: ignore[misc]
            for i, text in enumerate(texts)
        ]

    return find_many


def _tagger(run: Run) -> Callable[[Sequence[str]], list[list[tuple[int, int]]]]:
    """Where a run finds persons. Raises UsageError where it tags none."""
    from llmbert.tasks.heads import open_headed
    from llmbert.tasks.tag import tag

    _, _, settings = open_headed(run, ("tag",), None)
    known = sorted({label.partition("-")[2] or label for label in settings.labels} - {"O"})
    if not any(kind.lower() in PERSONS for kind in known):
        raise UsageError(
            f"{run.folder} tags {', '.join(known)}, and no persons; name a run that tags {PERSONS[0].upper()}"
        )

    def tag_many(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [
            [(span["start"], span["end"]) for span in spans if span["kind"].lower() in PERSONS]
            for spans in tag(run, texts)
        ]

    return tag_many


class _Work:
    """What is read, where it goes, and what was counted; `run` writes beside the place, `finish` moves there."""

    def __init__(
        self,
        paths: list[str],
        out: Path,
        find_many: FindMany,
        replace: Replace,
        clean: Callable[[str], str],
        lines: bool,
        column: str | None,
    ) -> None:
        self.sources = find_sources(paths)
        self.out, self.is_file = out, out.suffix.lower() in FILES
        self.find_many, self.replace, self.clean, self.lines, self.column = find_many, replace, clean, lines, column
        self.counts: Counter[str] = Counter()
        self.documents = self.found_in = 0
        self.left: dict[str, None] = {}
        self.most: list[tuple[int, int, str, dict[str, int]]] = []  # finds, -place, id, by kind; a heap
        if not out.name:
            raise UsageError(f"{out} is no name for what is written; choose another --out")
        # A dot before it: a killed process leaves nothing that a later reading of the folder would take for text.
        self.partial = out.with_name(f".{out.name}{PARTIAL}")
        self.report = out.with_name(out.name + ".report") if self.is_file else out

    def check_out(self, overwrite: bool) -> None:
        """Refuse a place that cannot be written, holds something, or is what is read."""
        if self.is_file and len(self.sources) > 1:
            raise UsageError(f"{self.out} is one file for {len(self.sources)} sources; name a folder as --out")
        if (
            self.is_file
            and self.out.suffix.lower() != self._ending(self.sources[0])
            and not self._is_text(self.sources[0])
        ):
            raise UsageError(f"records are written as JSON lines; let --out end in .jsonl, not {self.out.suffix}")
        if self.is_file and self.out.suffix.lower() == ".jsonl" and self._is_text(self.sources[0]):
            raise UsageError("text is written as text; let --out end in .txt, or name a folder")
        for source in self.sources:
            path, out = Path(source.path).resolve(), self.out.resolve()
            if out == path or (not self.is_file and out in path.parents):
                raise UsageError(f"{self.out} is or holds what is read; choose another --out")
        for place in {self.out, self.report}:
            if place.exists() and not (place.is_dir() and not any(place.iterdir())):
                if not overwrite:
                    raise LLMBertError(f"{place} is there already; choose another --out or say --overwrite")
                if place.is_dir() and not (place / "documents.jsonl").exists():
                    raise LLMBertError(f"{place} holds something else than scrubbed text; choose another --out")
        if not self.out.resolve().parent.is_dir():
            raise LLMBertError(f"{self.out} cannot be made there; make its folder first, or choose another --out")

    def run(self, progress: Progress) -> dict[str, Any]:
        """Write everything into the partial folder; returns the figures."""
        shutil.rmtree(self.partial, ignore_errors=True)
        sizes = [source.size for source in self.sources]
        meter = Meter(progress, sum(sizes) if all(sizes) else None)
        try:
            self.partial.mkdir(parents=True)
            names = self._names()
            # Half a surrogate, as JSON may escape one, goes out as its escape.
            utf8: Any = {"encoding": "utf-8", "errors": "backslashreplace"}
            with (self.partial / "documents.jsonl").open("w", **utf8) as self.index:
                for source, name in zip(self.sources, names, strict=True):
                    path = self.partial / "data" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("w", newline="", **utf8) as file:
                        self._write(source, meter, file)
        except BaseException as error:
            shutil.rmtree(self.partial, ignore_errors=True)
            if isinstance(error, OSError):
                raise disk_error(self.out, error) from None
            if isinstance(error, Exception) and not isinstance(error, LLMBertError):
                # Its words may hold a piece of the text.
                raise LLMBertError(
                    f"something unforeseen failed ({type(error).__name__}); LLMBERT_TRACE=1 shows where"
                ) from (error if os.environ.get("LLMBERT_TRACE") else None)
            raise
        return {
            **{"documents": self.documents, "found_in": self.found_in, "finds": self.counts.total()},
            **{"files": [f"data/{name}" for name in names], "left": [self.clean(name) for name in self.left]},
        }

    def finish(self, write_report: Callable[[Path], None]) -> None:
        """Write the report and move all to its place."""
        try:
            write_report(self.partial)
            if self.is_file:
                (written,) = (path for path in (self.partial / "data").rglob("*") if path.is_file())
                _swap(written, self.out)
                shutil.rmtree(self.partial / "data")
            _swap(self.partial, self.report)
        except OSError as error:
            raise disk_error(self.out, error) from None
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)

    # ---- names -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _is_text(source: Source) -> bool:
        return source.ending not in RECORDS

    def _ending(self, source: Source) -> str:
        return source.ending if self._is_text(source) else ".jsonl"

    def _names(self) -> list[str]:
        """What each source's file is called below data/: as before, without personal data, and none twice."""
        taken: dict[str, None] = {}
        for source in self.sources:
            parts = [self.clean(part).replace(":", "-") for part in Path(source.name).parts if part not in ("/", "..")]
            name = "/".join(parts).removesuffix(source.packed)
            stem = name.removesuffix(source.ending) if source.ending != "hub" else name
            name = stem + self._ending(source)
            number = 2
            while name in taken:
                name, number = f"{stem}-{number}{self._ending(source)}", number + 1
            taken[name] = None
        return list(taken)

    # ---- documents -------------------------------------------------------------------------------------------------

    def _write(self, source: Source, meter: Meter, file: IO[str]) -> None:
        name = self.clean(source.name)
        if not self._is_text(source):
            for line in self._records(source, meter, name):
                file.write(line)
        elif self.lines:
            for piece in self._lines(read_text(source, meter), name):
                file.write(piece)
        else:
            file.writelines(self._document(read_text(source, meter), name))

    def _document(self, pieces: Iterator[str], identity: str) -> Iterator[str]:
        counts: Counter[str] = Counter()
        yield from scrub_pieces(pieces, lambda text: self.find_many([text])[0], self.replace, counts)
        self._count(identity, counts)

    def _texts(self, texts: Sequence[str], counts: Sequence[Counter[str]]) -> list[str]:
        """Short texts, scrubbed together, and long ones a block at a time."""
        short = iter(self.find_many([text for text in texts if len(text) <= BLOCK]))
        return [
            scrub_text(text, next(short), self.replace, own)
            if len(text) <= BLOCK
            else "".join(scrub_pieces([text], lambda some: self.find_many([some])[0], self.replace, own))
            for text, own in zip(texts, counts, strict=True)
        ]

    def _lines(self, pieces: Iterator[str], name: str) -> Iterator[str]:
        """Each line a document that is not blank; a line that is longer than a piece goes through as it comes."""
        number, carry, pieces = 1, "", iter(pieces)
        while piece := next(pieces, ""):
            lines = (carry + piece).split("\n")
            carry = lines.pop()
            if lines:
                yield "\n".join(self._counted(lines, name, number)) + "\n"
                number += len(lines)
            if len(carry) > LONG:
                rest: list[str] = []
                yield from self._document(_until_break(carry, pieces, rest), f"{name}:{number}")
                yield "\n" * len(rest)
                number, carry, pieces = number + 1, "", chain(filter(None, rest), pieces)
        if carry:
            yield from self._counted([carry], name, number)

    def _counted(self, lines: list[str], name: str, number: int) -> list[str]:
        counts = [Counter[str]() for _ in lines]
        made = self._texts(lines, counts)
        for at, (line, own) in enumerate(zip(lines, counts, strict=True), number):
            if line and not line.isspace():
                self._count(f"{name}:{at}", own)
        return made

    def _records(self, source: Source, meter: Meter, name: str) -> Iterator[str]:
        if self.column == "*":
            for place, record in read_rows(source, meter):
                counts: Counter[str] = Counter()
                whole = self._whole(record, counts)
                self._count(f"{name}:{place.split()[1]}", counts)
                yield _json(whole)
            return
        rows = read_rows_of_text(source, meter, self.column)
        while some := list(islice(rows, BATCH)):
            own = [Counter[str]() for _ in some]
            made = self._texts([text for _, _, _, text in some], own)
            for (number, record, field, text), new, counts in zip(some, made, own, strict=True):
                if text and not text.isspace():
                    self._count(f"{name}:{number}", counts)
                if field is not None:
                    self.left |= dict.fromkeys(islice((key for key in record if key != field), 50 - len(self.left)))
                yield _json(new if field is None else {**record, field: new})

    def _whole(self, value: Any, counts: Counter[str]) -> Any:
        """A record with all of its texts scrubbed, names of fields too, and whatever else reads as personal data."""
        if isinstance(value, dict):
            made: dict[str, Any] = {}
            for key, each in value.items():
                name = plain = self._whole(str(key), counts)
                number = 1
                while name in made:  # two that are masked alike
                    number += 1
                    name = f"{plain}-{number}"
                made[name] = self._whole(each, counts)
            return made
        if isinstance(value, list):
            return [self._whole(each, counts) for each in value]
        if value is None or isinstance(value, bool):
            return value
        # A column of numbers with gaps comes as 13812345678.0.
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        (clean,) = self._texts([text], [counts])
        return value if clean == text else clean

    def _count(self, identity: str, counts: Counter[str]) -> None:
        self.documents += 1
        if not counts:
            return
        self.found_in += 1
        self.counts += counts
        by_kind = {kind: counts[kind] for kind in KINDS if counts[kind]}
        self.index.write(_json({"id": identity, "finds": by_kind}))
        entry = (counts.total(), -self.documents, identity, by_kind)
        (heappush if len(self.most) < SHOWN else heappushpop)(self.most, entry)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) + "\n"


def _until_break(first: str, pieces: Iterator[str], rest: list[str]) -> Iterator[str]:
    """The rest of a line as it is read; what follows its break goes to `rest`."""
    yield first
    for piece in pieces:
        head, newline, tail = piece.partition("\n")
        yield head
        if newline:
            rest.append(tail)
            return


def _swap(new: Path, place: Path) -> None:
    """Move a file or folder to its place; a folder that is there goes only once the new one is."""
    if not place.is_dir():
        new.replace(place)
        return
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    place.replace(old)
    new.replace(place)
    shutil.rmtree(old)


def _content(work: _Work, found: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What the page shows: counts, never what was found."""
    kinds = [(kind, count) for kind, count in found["kinds"].items()]
    most = sorted(work.most, reverse=True)
    rows = [
        [say("documents", language), f"{found['documents']:,}"],
        [say("found_in", language), f"{found['found_in']:,}"],
    ]
    rows += [
        [say(kind, language), say(f"rests_{KINDS[kind]}", language, count=count) if count else "0"]
        for kind, count in kinds
    ]
    rows += [
        [identity, ", ".join(f"{say(kind, language)} {count:,}" for kind, count in by_kind.items())]
        for _, _, identity, by_kind in most
    ]
    limits = [say("limits", language), *([say("no_names", language)] if "name" not in found["kinds"] else [])]
    if found["left"]:
        limits.append(say("left", language, names=", ".join(found["left"])))
    return {
        "title": say("title", language),
        "subtitle": ", ".join(work.clean(source.name) for source in work.sources[:10]),
        "summary": say(
            "summary", language, finds=found["finds"], found_in=found["found_in"], documents=found["documents"]
        )
        + say(found["how"], language),
        "data": {"rows": rows, "overlap": ("" if language == "zh" else " ").join(limits)},
        # each argument alone too: a shell's quotes may stand within a name
        "facts": [
            [fact("command", language), work.clean(command_line(work.clean))],
            [fact("machine", language), machine()],
        ],
        "found": dict(found),
    }
