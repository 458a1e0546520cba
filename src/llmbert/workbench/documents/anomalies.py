"""A run and documents → how odd it finds each, and how well that tells those known to be odd from the others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.detection import detection_scores, roc_points
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, check_out, command_line, load, machine, write_text
from llmbert.tasks.anomalies import DOCUMENTS, UNITS, oddness
from llmbert.workbench.documents.reading import Text, names_of, read_texts
from llmbert.workbench.documents.wording import say
from llmbert.workbench.pages import write_page
from llmbert.workbench.sources import Paths

SHOWN = 20  # of the oddest documents
EXCERPT = 400  # characters of a document that are shown


def anomalies(
    run: str | os.PathLike[str] | Run,
    data: Paths,
    *,
    odd: Paths | None = None,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    out: str | os.PathLike[str] | None = None,
    language: str = "en",
    progress: Progress = silent,
) -> dict[str, Any]:
    """How odd a run finds documents: unit, documents, quartiles, oddest (id, score, text), and with `odd` the figures.

    odd: documents that are known not to belong; then auc and tpr (share found at 1 % false alarms) say how well the
    scores tell them apart, and a trivial baseline, a document's length, stands beside. out: a folder for the page and
    for `scores.jsonl`, every document with its score.

    Raises LLMBertError for a run or data that cannot be read or scored.
    """
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_out(folder)
    known = run if isinstance(run, Run) else load(Path(run))
    cutting: dict[str, Any] = {"lines": lines, "split_on": split_on, "fields": fields}
    if fields and "label" in fields:
        raise UsageError("odd documents are told by their text; leave out label=")
    sides = [_score(known, read_texts(known, data, progress, **cutting), progress)]
    if odd is not None:
        sides.append(_score(known, read_texts(known, odd, progress, **cutting), progress))
    found = _found(known, sides)
    if folder is not None:
        content = _content(known, sides, found, language) | {
            "title": say("anomalies", language, run=known.folder.name),
            "subtitle": ", ".join([*names_of(data), *(names_of(odd) if odd is not None else [])]),
            "facts": [[say(key, language), value] for key, value in _facts().items()],
        }
        _write(folder, sides, content, language)
    return found


class _Side:
    """Some documents with their scores; of each the first characters alone are kept."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.shown: list[str] = []
        self.lengths: list[int] = []
        self.parts: list[NDArray[np.float64]] = []

    @property
    def scores(self) -> NDArray[np.float64]:
        return np.concatenate(self.parts)


def _score(run: Run, texts: Iterator[Text], progress: Progress) -> _Side:
    side = _Side()
    while some := list(islice(texts, DOCUMENTS)):
        side.parts.append(oddness(run, [each.text for each in some]))
        side.ids += [each.id for each in some]
        side.shown += [each.text[:EXCERPT] for each in some]
        side.lengths += [len(each.text) for each in some]
        progress("scoring", len(side.ids), None)
    if not side.ids:
        raise LLMBertError("there is no document to score; give some text")
    return side


def _found(run: Run, sides: list[_Side]) -> dict[str, Any]:
    scores = sides[0].scores
    order = sorted(_ranked(sides), key=lambda entry: -entry[0])[:SHOWN]
    found: dict[str, Any] = {
        "unit": UNITS[run.model.likelihood],
        "documents": len(scores),
        "quartiles": [float(value) for value in np.quantile(scores, [0.25, 0.5, 0.75])],
        "oddest": [
            {"id": side.ids[i], "score": float(score), "text": side.shown[i], "odd": side is not sides[0]}
            for score, side, i in order
        ],
    }
    if len(sides) > 1:
        found |= detection_scores(scores, sides[1].scores)
        shorter, longer = (detection_scores(*(sign * np.array(s.lengths) for s in sides))["auc"] for sign in (-1, 1))
        best = max((shorter, "shorter"), (longer, "longer"), key=lambda pair: pair[0]["score"])
        found["baseline"] = {"name": best[1], "auc": best[0]["score"]}
    return found


def _ranked(sides: list[_Side]) -> Iterable[tuple[float, _Side, int]]:
    for side in sides:
        yield from ((float(score), side, i) for i, score in enumerate(side.scores))


def _content(run: Run, sides: list[_Side], found: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What the page shows."""
    unit = say(f"unit_{run.model.likelihood}", language)
    names = [say("given", language)] if len(sides) == 1 else [say("normal", language), say("odd", language)]
    groups = [
        {"name": name, "values": [float(v) for v in side.scores if np.isfinite(v)]}
        for name, side in zip(names, sides, strict=True)
    ]
    shown = {
        "groups": groups,
        "unit": unit,
        "oddest": [[entry["id"], entry["score"], entry["text"], entry["odd"]] for entry in found["oddest"]],
        "roc": roc_points(sides[0].scores, sides[1].scores) if len(sides) > 1 else [],
    }
    content: dict[str, Any] = {"detection": shown}
    if len(sides) > 1:
        baseline = found["baseline"]
        content["summary"] = say(
            "told",
            language,
            **{"auc": found["auc"]["score"], "low": found["auc"]["interval"][0], "high": found["auc"]["interval"][1]},
            **{"tpr": found["tpr"]["score"], "normal": len(sides[0].ids), "odd": len(sides[1].ids)},
            **{"length": baseline["auc"], "rule": say(baseline["name"], language)},
        )
    else:
        content["summary"] = say("scored", language, documents=found["documents"], unit=unit, q=found["quartiles"])
    return content


def _facts() -> dict[str, str]:
    return {"command": command_line(), "machine": machine()}


def _write(folder: Path, sides: list[_Side], content: dict[str, Any], language: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = (
        json.dumps({"id": side.ids[i], "score": float(score), "odd": number > 0}, ensure_ascii=False)
        for number, side in enumerate(sides)
        for i, score in enumerate(side.scores)
    )
    write_text(folder / "scores.jsonl", "".join(row + "\n" for row in rows))
    write_page(folder, content, language)
