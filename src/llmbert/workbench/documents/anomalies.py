"""A run and documents → how odd it finds each, and how well that tells those known to be odd from the others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from heapq import heappush, heappushpop
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
from llmbert.workbench.folders import fresh_folder
from llmbert.workbench.pages import write_page
from llmbert.workbench.sources import Paths, path_list
from llmbert.workbench.wording import say as fact

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
    if odd is not None and {*path_list(data)} & {*path_list(odd)} & {"-"}:
        raise UsageError("standard input can be read once; give one of the two as a file")
    with fresh_folder(folder) if folder is not None else nullcontext():
        sides = [_score(known, read_texts(known, data, progress, **cutting), False, progress)]
        if odd is not None:
            sides.append(_score(known, read_texts(known, odd, progress, **cutting), True, progress))
        found = _found(known, sides)
        if folder is not None:
            content = _content(known, sides, found, language) | {
                "title": say("anomalies", language, run=known.folder.name),
                "subtitle": ", ".join([*names_of(data), *(names_of(odd) if odd is not None else [])]),
                "facts": [
                    [fact("command", language), command_line()],
                    [fact("machine", language), machine()],
                ],
            }
            _write(folder, sides, content, language)
    return found


class _Side:
    """Some documents with their scores; of the oddest the first characters are kept."""

    def __init__(self, odd: bool) -> None:
        self.odd = odd
        self.ids: list[str] = []
        self.lengths: list[int] = []
        self.parts: list[NDArray[np.float64]] = []
        self.oddest: list[tuple[float, int, str]] = []  # score, -place, the text's beginning; a heap

    @property
    def scores(self) -> NDArray[np.float64]:
        return np.concatenate(self.parts)

    def add(self, some: list[Text], scores: NDArray[np.float64]) -> None:
        for text, score in zip(some, scores.tolist(), strict=True):
            entry = (score, -len(self.ids), text.text[:EXCERPT])
            (heappush if len(self.oddest) < SHOWN else heappushpop)(self.oddest, entry)
            self.ids.append(text.id)
            self.lengths.append(len(text.text))
        self.parts.append(scores)


def _score(run: Run, texts: Iterator[Text], odd: bool, progress: Progress) -> _Side:
    side = _Side(odd)
    while some := list(islice(texts, DOCUMENTS)):
        side.add(some, oddness(run, [each.text for each in some]))
        progress("scoring", len(side.ids), None)
    if not side.ids:
        raise LLMBertError("there is no document to score; give some text")
    return side


def _found(run: Run, sides: list[_Side]) -> dict[str, Any]:
    scores = sides[0].scores
    entries = [(*entry, side) for side in sides for entry in side.oddest]
    entries.sort(key=lambda entry: (-entry[0], entry[3].odd, -entry[1]))
    found: dict[str, Any] = {
        "unit": UNITS[run.model.likelihood],
        "documents": len(scores),
        "infinite": int(np.isinf(scores).sum()),  # with a word that the run gives no probability at all
        "quartiles": [_number(value) for value in np.quantile(scores, [0.25, 0.5, 0.75], method="lower")],
        "oddest": [
            {"id": side.ids[-place], "score": _number(score), "text": text, "odd": side.odd}
            for score, place, text, side in entries[:SHOWN]
        ],
    }
    if len(sides) > 1:
        found |= detection_scores(scores, sides[1].scores)
        lengths = [np.array(side.lengths) for side in sides]
        longer = detection_scores(*lengths, resamples=1)["auc"]["score"]
        found["baseline"] = {"name": "longer" if longer >= 50 else "shorter", "auc": max(longer, 100 - longer)}
    return found


def _number(value: float) -> float | None:
    """A score as JSON has it: None for one that is infinite."""
    return float(value) if np.isfinite(value) else None


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
        "oddest": [[e["id"], e["score"], e["text"], e["odd"]] for e in found["oddest"]],
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
        quartiles = ["∞" if each is None else f"{each:.3f}" for each in found["quartiles"]]
        content["summary"] = say("scored", language, documents=found["documents"], unit=unit, q=quartiles)
    return content


def _write(folder: Path, sides: list[_Side], content: dict[str, Any], language: str) -> None:
    write_page(folder, content, language)
    rows = (
        json.dumps({"id": identity, "score": _number(score), "odd": side.odd}, ensure_ascii=False)
        for side in sides
        for identity, score in zip(side.ids, side.scores.tolist(), strict=True)
    )
    write_text(folder / "scores.jsonl", "".join(row + "\n" for row in rows))
