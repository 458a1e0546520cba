"""A text and a run → where the text stands in what the run was trained on, and what there comes near it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from llmbert.data.corpus import passing_folder
from llmbert.data.read import read_documents
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, check_out, command_line, load, machine, represent_texts
from llmbert.runs.files import CONFIG, FACTS
from llmbert.trust.provenance import Given, TraceIndex, build_index, nearest_passages, open_index, trace_text
from llmbert.trust.provenance.index import BLOCK_BYTES
from llmbert.trust.provenance.neighbours import Represent
from llmbert.trust.provenance.training_text import as_seen, readable, training_documents
from llmbert.workbench.curation.trace_wording import say
from llmbert.workbench.documents.reading import names_of, read_texts
from llmbert.workbench.folders import fresh_folder
from llmbert.workbench.pages import write_page
from llmbert.workbench.sources import Paths, beside, open_store, path_list
from llmbert.workbench.wording import say as fact

SHOWN = 5  # occurrences of a span that are listed
NAME = "{}.trace"  # of the index, beside the store it is of
GENERATED = {"max_tokens": 200, "temperature": 1.0, "seed": 0}


def trace(
    run: str | os.PathLike[str] | Run | Sequence[str],
    text: str | None = None,
    *,
    prompt: str | None = None,
    data: Paths | None = None,
    least: int | None = None,
    neighbours: int = 0,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    out: str | os.PathLike[str] | None = None,
    language: str = "en",
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = silent,
    **settings: Any,
) -> dict[str, Any]:
    """Where a text stands word for word in the training text of a run, or in that of files.

    run: a run, whose corpus store is indexed beside it, once; or paths of text, which are indexed for this call alone
    (lines, split_on, fields cut them into documents). One of: text; prompt: what the run writes after it (`settings`
    as for `Run.generate`); data: documents, each by itself; none of them: the index is made, no more.
    least, and what is returned of each text: see `trust.provenance.trace_text`; neighbours: the nearest so many
    passages too. out: a folder for a page.

    Returns index (folder, documents, bytes, exact), measure (of neighbours), verbatim (share of all characters), texts.
    Raises LLMBertError where the corpus store is missing or damaged, UsageError for a request that says two things.
    """
    if sum(each is not None for each in (text, prompt, data)) > 1:
        raise UsageError("text, prompt and data are different things to trace; give one")
    if neighbours < 0 or (least is not None and least < 1):
        wrong = f"neighbours is {neighbours}; give 0" if neighbours < 0 else f"least is {least}; give 1"
        raise UsageError(f"{wrong} or more")
    if settings and prompt is None:
        raise UsageError(f"{next(iter(settings))} is for what a run writes; give a prompt with it")
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_out(folder)
    known = _opened(run)
    if isinstance(known, list) and prompt is not None:
        raise UsageError("files write nothing; give a run for --prompt, or a text")
    if isinstance(known, list) and text is None and data is None:
        raise UsageError("an index of files is made for one call and goes with it; give a text to trace")
    with ExitStack() as stack:
        index, seen = _index_of(known, (lines, split_on, fields), block_bytes, progress, stack)
        stack.enter_context(fresh_folder(folder) if folder is not None else nullcontext())
        tracer = Tracer(known if isinstance(known, Run) else None, index, seen, least, neighbours)
        asked = _asked(known, text, prompt, data, (lines, split_on, fields), progress, settings)
        found = tracer.summary([tracer.look(name, given) for name, given in asked])
        if folder is not None:
            _write(folder, found, known, data, language)
    return found


def is_indexed(run: Run) -> bool:
    """Whether somebody has made the index of a run's training text."""
    try:
        store = _store_folder(run)
    except LLMBertError:
        return False
    return store.with_name(NAME.format(store.name)).is_dir()


class Tracer:
    """What looks texts up in an index. seen: a text as the index has it; least, neighbours: as in `trace`."""

    def __init__(
        self,
        run: Run | None,
        index: TraceIndex,
        seen: Callable[[str], str],
        least: int | None = None,
        neighbours: int = 0,
    ) -> None:
        self._index, self._seen, self._least, self._neighbours = index, seen, least, neighbours
        self.measure = "cosine" if run is not None and _has_vectors(run) else "bm25"
        self._represent: Represent | None = partial(represent_texts, run) if run and self.measure == "cosine" else None

    def look(self, name: str, text: str, least: int | None = None) -> dict[str, Any]:
        """One text, with its name, its spans, and its neighbours where any were asked for."""
        given = self._seen(text)
        found = trace_text(self._index, given, least=least or self._least, most=SHOWN)
        if self._neighbours:
            near = nearest_passages(self._index, readable(given), self._neighbours, self._represent)
            found["neighbours"] = near
        return {"id": name, **found, "text": readable(given)}

    def summary(self, texts: list[dict[str, Any]]) -> dict[str, Any]:
        """What `trace` returns of these texts."""
        index = self._index
        characters = sum(each["characters"] for each in texts)
        inside = sum(each["verbatim"] * each["characters"] for each in texts)
        return {
            "index": {
                "folder": str(index.folder),
                "documents": index.documents,
                "bytes": index.facts["bytes"],
                "exact": index.exact,
                "fingerprint": index.facts["fingerprint"],
            },
            "measure": self.measure if self._neighbours else None,
            "verbatim": inside / characters if characters else 0.0,
            "texts": texts,
        }


def run_tracer(run: Run, least: int | None = None, neighbours: int = 0, progress: Progress = silent) -> Tracer:
    """What looks texts up in a run's training text; its index is made if it is not there.

    Raises LLMBertError for a run without a corpus store, and for a damaged index.
    """
    index = run_index(run, BLOCK_BYTES, progress)
    return Tracer(run, index, partial(as_seen, tokeniser=run.tokeniser), least, neighbours)


def _has_vectors(run: Run) -> bool:
    return any(hasattr(run.model, way) for way in ("posteriors", "discriminator", "encode", "hidden"))


def _opened(run: Any) -> Run | list[str]:
    """A run, or the paths of text."""
    if isinstance(run, Run):
        return run
    paths = path_list(run)
    single = Path(paths[0]) if len(paths) == 1 else None
    if single is not None and ((single / FACTS).exists() or (single / CONFIG).exists()):
        return load(single)
    return paths


def _store_folder(run: Run) -> Path:
    """Where the corpus store of a run lies. Raises LLMBertError where it knows of none, or it is gone."""
    named = run.facts.get("corpus")
    if not isinstance(named, str):
        raise LLMBertError(f"{run.folder} does not say which text it learned from; give the files of that text instead")
    folder = beside(run.folder) / named
    if not folder.is_dir():
        raise LLMBertError(
            f"the corpus store of {run.folder} is not at {folder}; copy it back there, or give the files of its text "
            f"in the place of the run"
        )
    return folder


def run_index(run: Run, block_bytes: int, progress: Progress) -> TraceIndex:
    """The index beside a run's corpus store; made, where it is not there."""
    store = open_store(_store_folder(run))
    if store.fingerprint != (run.facts.get("data") or {}).get("fingerprint"):
        raise LLMBertError(f"the corpus at {store.folder} is not the one {run.folder} learned from; copy that back")
    folder = store.folder.with_name(NAME.format(store.folder.name))
    if folder.exists():
        return open_index(folder, store.fingerprint)
    return build_index(
        training_documents(store), folder, origin=store.fingerprint, block_bytes=block_bytes, progress=progress
    )


def _index_of(
    known: Run | list[str],
    cutting: tuple[bool | None, str | None, Mapping[str, str] | None],
    block_bytes: int,
    progress: Progress,
    stack: ExitStack,
) -> tuple[TraceIndex, Callable[[str], str]]:
    """The index to look in, and how a text has to be written to be found there."""
    if isinstance(known, Run):
        return run_index(known, block_bytes, progress), partial(as_seen, tokeniser=known.tokeniser)
    passing = passing_folder(Path(tempfile.gettempdir()), "trace", stack)
    stack.callback(shutil.rmtree, passing, ignore_errors=True)
    lines, split_on, fields = cutting
    documents = read_documents(known, lines=bool(lines), split_on=split_on, fields=fields, progress=progress)
    given = (Given(each.id, (piece.encode() for piece in each.pieces)) for each in documents)
    return build_index(given, passing / "index", block_bytes=block_bytes, progress=progress), str


def _asked(
    known: Run | list[str],
    text: str | None,
    prompt: str | None,
    data: Paths | None,
    cutting: tuple[bool | None, str | None, Mapping[str, str] | None],
    progress: Progress,
    settings: Mapping[str, Any],
) -> Iterator[tuple[str, str]]:
    """The texts to trace, by name."""
    if text is not None:
        yield "text", text
    elif prompt is not None and isinstance(known, Run):
        # An encoder-decoder goes on from nothing but its source.
        given = (prompt, None) if not known.reads_source else ("", prompt)
        yield "generated", known.generate(*given, **{**GENERATED, **settings})
    elif data is not None and isinstance(known, Run):
        lines, split_on, fields = cutting
        for each in read_texts(known, data, progress, lines=lines, split_on=split_on, fields=fields):
            yield each.id, each.text
    elif data is not None:
        lines, split_on, fields = cutting
        for document in read_documents(path_list(data), lines=bool(lines), split_on=split_on, fields=fields):
            yield document.id, "".join(document.pieces)


def _write(folder: Path, found: Mapping[str, Any], known: Run | list[str], data: Paths | None, language: str) -> None:
    """The page, and what it shows as `report.json`."""
    name = known.folder.name if isinstance(known, Run) else ", ".join(names_of(known))
    index, texts = found["index"], found["texts"]
    summary = say("traced", language, texts=len(texts), documents=index["documents"], share=100 * found["verbatim"])
    notes = [] if index["exact"] else [say("inexact", language)]
    if found["measure"]:
        notes.append(say(found["measure"], language))
    joined = ("" if language == "zh" else " ").join([summary, *notes])
    content = {
        "title": say("trace", language, run=name),
        "subtitle": ", ".join(names_of(data)) if data is not None else "",
        "summary": joined,
        "trace": [{**each, "parts": marked_parts(each["text"], each["spans"])} for each in texts],
        "facts": [
            [fact("command", language), command_line()],
            [say("index", language), index["fingerprint"]],
            [fact("machine", language), machine()],
        ],
    }
    write_page(folder, content, language)


def marked_parts(text: str, spans: Sequence[Mapping[str, Any]]) -> list[tuple[str, int | None]]:
    """A text in parts, each with the number (from 1) of the span that begins it, or None where none goes on.

    Of two spans that overlap the first ends where the second begins.
    """
    parts: list[tuple[str, int | None]] = []
    place = 0
    for number, span in enumerate(spans, 1):
        start, following = span["start"], spans[number]["start"] if number < len(spans) else len(text)
        parts.append((text[place:start], None))
        place = min(start + span["length"], following)
        parts.append((text[start:place], number))
    return [(part, number) for part, number in [*parts, (text[place:], None)] if part]
