"""Paths → documents as whole texts, cut as they were for a run's training unless said otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from llmbert.data.labelled import read_examples
from llmbert.data.read import read_documents
from llmbert.protocols import Progress, UsageError
from llmbert.runs import Run
from llmbert.workbench.sources import Paths, path_list


class Text(NamedTuple):
    """A document: its id, what it says, and its label where it has one."""

    id: str
    text: str
    label: str | None = None


def read_texts(
    run: Run,
    data: Paths,
    progress: Progress,
    *,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> Iterator[Text]:
    """The documents of some paths; with label= among the fields each has its label.

    Raises UsageError for fields there are not, LLMBertError for what cannot be read.
    """
    named = dict(fields or {})
    if unknown := set(named) - {"text", "label"}:
        raise UsageError(f"fields of a document are text= and label=, not {sorted(unknown)[0]}=")
    if "label" in named and (lines or split_on):
        raise UsageError("labelled texts are records of a file; leave out --lines and --split-on")
    if "label" in named and "-" in path_list(data):
        raise UsageError("labelled texts cannot be read from standard input; give a file")
    if "label" in named:
        examples = read_examples(path_list(data), "classify", named, progress)
        for number, (text, label) in enumerate(zip(examples.texts, examples.labels or [], strict=True), 1):
            yield Text(str(number), text, label)
        return
    source = run.facts.get("source")
    source = source if isinstance(source, dict) else {}
    cut = {} if lines or split_on else source  # a way of cutting that was asked for stands alone
    documents = read_documents(
        path_list(data),
        lines=bool(cut.get("lines")) if lines is None else lines,
        split_on=split_on or cut.get("split_on"),
        fields=named or source.get("fields"),
        progress=progress,
    )
    for document in documents:
        yield Text(document.id, "".join(document.pieces))


def names_of(data: Paths) -> list[str]:
    """What paths are called in a file or on a page: their names, without the folders of this machine."""
    return [Path(path).name or path for path in path_list(data)]
