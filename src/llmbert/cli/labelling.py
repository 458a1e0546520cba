"""Verbs that label texts: classify and tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from llmbert.cli import exchange
from llmbert.cli.exchange import INTO, Batch, Fields, In, Into, Json, Out, Overwrite, Request, RunFolder, Texts
from llmbert.protocols import LLMBertError

Head = Annotated[str | None, typer.Option("--head", metavar="NAME", help="Which, of a run with several heads.")]


def classify(
    run: RunFolder,
    texts: Texts = None,
    path: In = None,
    fields: Fields = None,
    out: Out = None,
    into: Into = INTO,
    overwrite: Overwrite = False,
    head: Head = None,
    batch: Batch = 64,
    as_json: Json = False,
) -> None:
    """Give texts their labels; in a .txt file each line is a text, of pairs text_b is the second."""
    request = Request(texts or [], path, fields, out, into, overwrite, as_json, form="labelled")
    exchange.check_request(request, batch)
    from llmbert.cli.display import Display
    from llmbert.runs import load
    from llmbert.tasks.classify import classify as function
    from llmbert.tasks.classify import writes_classes
    from llmbert.tasks.heads import open_headed

    with Display() as display, exchange.notes():
        items, known = request.items(display), load(run)
        written = writes_classes(known)
        _, name, settings = (known, head, None) if written else open_headed(known, ("classify", "multilabel"), head)
        found = function(known, [item.source for item in items], head=name, batch=batch, progress=display)
        predicted = [answer["labels"] if "labels" in answer else [answer["label"]] for answer in found]
        scores = _score_written(items, predicted) if written else _score(settings, items, predicted)
    exchange.give(request, items, found, scores, _shown_labels)


def tag(
    run: RunFolder,
    texts: Texts = None,
    path: In = None,
    fields: Fields = None,
    out: Out = None,
    into: Into = INTO,
    overwrite: Overwrite = False,
    head: Head = None,
    batch: Batch = 64,
    as_json: Json = False,
) -> None:
    """Mark the names and other spans in texts; in a .txt file each line is a text."""
    request = Request(texts or [], path, fields, out, into, overwrite, as_json, form="words")
    exchange.check_request(request, batch)
    from llmbert.cli.display import Display
    from llmbert.runs import load
    from llmbert.tasks.heads import open_headed
    from llmbert.tasks.tag import tag as function
    from llmbert.text.tags import find_scheme

    with Display() as display, exchange.notes():
        items = request.items(display)
        _check_tags(items)
        known, name, settings = open_headed(load(run), ("tag",), head)
        found = function(known, [item.source for item in items], head=name, batch=batch, progress=display)
        spans = find_scheme(settings.labels) is not None
        counts = [len(item.targets[0]) if item.targets else 0 for item in items]
        predicted = [tags_of(answer, count, spans) for answer, count in zip(found, counts, strict=True)]
        scores = _score(settings, items, predicted)
    exchange.give(request, items, found, scores, _shown_spans)


def tags_of(spans: Sequence[dict[str, Any]], words: int, marked: bool) -> list[str]:
    """The tags of a text's words, B- and I- where they mark spans, from spans whose ends count words."""
    tags = ["O"] * words
    for span in spans:
        for at in range(span["start"], min(span["end"], words)):
            letter = "B-" if at == span["start"] else "I-"
            tags[at] = letter + span["kind"] if marked else span["kind"]
    return tags


def _score(settings: Any, items: Sequence[exchange.Item], predicted: Sequence[Any]) -> dict[str, Any]:
    """The scores of labels or tags against those that came along; {} where none did."""
    known = [(guess, item.targets[0]) for guess, item in zip(predicted, items, strict=True) if item.targets]
    if not known:
        return {}
    from llmbert.data.labelled import Examples, split_labels
    from llmbert.workbench.labelled.scores import score_head

    guesses, labels = [guess for guess, _ in known], [label for _, label in known]
    if settings.task == "classify":
        guesses, labels = [guess[0] for guess in guesses], [_first(label) for label in labels]
    elif settings.task == "multilabel":
        labels = [split_labels(label) if isinstance(label, str) else label for label in labels]
    return score_head(settings, guesses, Examples(settings.task, [""] * len(labels), None, labels))


def _score_written(items: Sequence[exchange.Item], predicted: Sequence[list[str]]) -> dict[str, Any]:
    """The scores of classes that were written out against those that came along; {} where none did."""
    known = [(guess[0], _first(item.targets[0])) for guess, item in zip(predicted, items, strict=True) if item.targets]
    if not known:
        return {}
    from llmbert.metrics import score_labels

    return score_labels([guess for guess, _ in known], [label for _, label in known])


def _first(label: str | list[str]) -> str:
    """The class of a text; of a list its first."""
    return label if isinstance(label, str) else label[0]


def _check_tags(items: Sequence[exchange.Item]) -> None:
    """Refuse tags that no words came with, or not as many."""
    for item in items:
        if item.targets and isinstance(item.source, str):
            raise LLMBertError(f"{item.place} has tags but no list of words; name their field: --fields tokens=NAME")
        if item.targets and len(item.targets[0]) != len(item.source):
            raise LLMBertError(f"{item.place} has {len(item.source)} words and {len(item.targets[0])} tags; mend it")


def _shown_labels(answer: dict[str, Any]) -> str:
    """ "sport", or of several "sport|health"."""
    return answer["label"] if "label" in answer else "|".join(answer["labels"])


def _shown_spans(answer: Sequence[dict[str, Any]]) -> str:
    """ "PER Angela Merkel; LOC Berlin"."""
    return "; ".join(f"{span['kind']} {span['text']}" for span in answer)
