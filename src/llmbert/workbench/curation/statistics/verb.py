"""Paths → the statistics of their text, as figures and as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from llmbert.data.read import read_documents
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import check_out, write_json
from llmbert.workbench.curation.statistics.against import compare
from llmbert.workbench.curation.statistics.measure import Sampled, measure
from llmbert.workbench.curation.statistics.page import page_content
from llmbert.workbench.curation.statistics.tally import Tally, tally
from llmbert.workbench.documents.reading import names_of
from llmbert.workbench.folders import fresh_folder
from llmbert.workbench.pages import write_page
from llmbert.workbench.sources import Paths, path_list


def statistics(
    data: Paths,
    *,
    against: Paths | None = None,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    tokenizer: str = "words",
    lowercase: bool = False,
    out: str | os.PathLike[str] | None = None,
    language: str = "en",
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Figures of the text at some paths, as JSON can hold them: sizes, lengths, Zipf, Heaps, entropy, collocations.

    tokenizer: how words are cut: "words" (at white space where marks stand apart already, else marks are words of
    their own and Chinese is cut by jieba), "space", "marks", "chars", or a run's folder. against: another text; then
    `against` says how far the two are apart. out: a folder for the page and for `statistics.json`.

    A text of any length is read once in bounded memory; what needs the text itself (blocks, distances, sentences,
    collocations, divergence, compression) takes an even sample of at most 12.6 million characters, and `sample` says
    which share that is. Raises UsageError for what is asked wrongly, LLMBertError for what cannot be read or written.
    """
    _need_scipy()
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_out(folder)
    if against is not None and {*path_list(data)} & {*path_list(against)} & {"-"}:
        raise UsageError("standard input can be read once; give one of the two as a file")

    def count(paths: Paths, way: str) -> Tally:
        cutting = {"lines": lines, "split_on": split_on, "fields": fields}
        documents = read_documents(path_list(paths), **cutting, progress=progress)  # type: ignore[arg-type]
        return tally(documents, way, lowercase=lowercase)

    with fresh_folder(folder) if folder is not None else nullcontext():
        counted = count(data, tokenizer)
        if not counted.words:
            raise LLMBertError(f"{', '.join(names_of(data))} holds no word; give some text, or another --tokenizer")
        sampled = Sampled(counted)
        names = _names(data, against)
        found = {"data": names[0]} | measure(counted, sampled, seed=seed, progress=progress)
        if against is not None:
            way = counted.way if tokenizer == "words" else tokenizer  # the words of both are the same things
            found["against"] = _against(count(against, way), names[1], sampled, seed, progress)
        if folder is not None:
            write_json(folder / "statistics.json", found)
            write_page(folder, page_content(found, language), language)
    return found


def _names(data: Paths, against: Paths | None) -> list[list[str]]:
    """What the paths of both texts are called; with their folders where the names alone are the same."""
    sides = [path_list(side) for side in (data, against) if side is not None]
    names = [names_of(side) for side in sides]
    if len(names) > 1 and set(names[0]) & set(names[1]):
        return [["/".join(Path(path).parts[-2:]) for path in side] for side in sides]
    return names


def _against(counted: Tally, names: list[str], sampled: Sampled, seed: int, progress: Progress) -> dict[str, Any]:
    if not counted.words:
        raise LLMBertError(f"{', '.join(names)} holds no word; give some text, or another --tokenizer")
    other = Sampled(counted)
    return {
        **{"data": names, "tokenizer": counted.way, "documents": counted.documents, "characters": counted.characters},
        **{"bytes": counted.bytes, "words": counted.words, "vocabulary": len(counted.vocabulary)},
        "share": len(other.characters) / max(1, counted.characters),
        "divergence": compare(sampled, other, seed=seed, progress=progress),
    }


def _need_scipy() -> None:
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise LLMBertError(
            "statistics of a text need the package scipy, which is not installed; pip install 'llmbert[curate]'"
        ) from error
