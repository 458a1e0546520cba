"""A run and texts → a map: each text a point, like texts near each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.protocols import Progress, UsageError, silent
from llmbert.runs import Run, check_out, command_line, load, machine, project, represent_texts
from llmbert.workbench.documents.reading import names_of, read_texts
from llmbert.workbench.documents.wording import say
from llmbert.workbench.folders import fresh_folder
from llmbert.workbench.pages import write_page
from llmbert.workbench.sources import Paths
from llmbert.workbench.wording import say as fact

MOST = 2000  # texts on a map
NEIGHBOURS = 5


def map_texts(
    run: str | os.PathLike[str] | Run,
    data: Paths,
    *,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    most: int = MOST,
    out: str | os.PathLike[str] | None = None,
    language: str = "en",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Texts as points of the plane: points (id, x, y, label), variance (of each axis), and how labels lie.

    A text is the vector a run has for it (`runs.represent_texts`), seen along the two axes on which the texts differ
    most. With label= among the fields "agreement" is the share of a text's five nearest neighbours that have its label:
    in all dimensions, on the map, and by chance. More than `most` texts are thinned evenly. out: a folder for the page.

    Raises LLMBertError for a run or data that cannot be read, UsageError for fewer than two texts.
    """
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_out(folder)
    if most < 2:
        raise UsageError(f"a map takes two texts or more, not {most}")
    known = run if isinstance(run, Run) else load(Path(run))
    with fresh_folder(folder) if folder is not None else nullcontext():
        texts = list(read_texts(known, data, progress, lines=lines, split_on=split_on, fields=fields))
        kept = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, min(most, len(texts))).round().astype(int))]
        vectors = represent_texts(known, [each.text for each in kept], progress=progress)
        flat, variance = project(vectors)
        found: dict[str, Any] = {
            "texts": len(texts),
            "dimensions": vectors.shape[1],
            "variance": variance,
            "points": [
                {"id": each.id, "x": float(x), "y": float(y), "label": each.label}
                for each, (x, y) in zip(kept, flat, strict=True)
            ],
        }
        labels = [each.label for each in kept if each.label is not None]
        if len(labels) == len(kept) > NEIGHBOURS:
            found["agreement"] = {
                "whole": neighbour_agreement(vectors, labels),
                "flat": neighbour_agreement(flat, labels),
                "chance": _chance(labels),
            }
        if folder is not None:
            write_page(folder, _content(known, found, [each.text for each in kept], data, language), language)
    return found


def neighbour_agreement(vectors: NDArray[np.float32], labels: list[str], neighbours: int = NEIGHBOURS) -> float:
    """The mean share of a text's nearest neighbours (Euclidean, itself left out) that have its label."""
    names = np.unique(labels, return_inverse=True)[1]
    wide = np.asarray(vectors, np.float64)
    wide = wide - wide.mean(0)
    squares = (wide**2).sum(1)
    same = 0
    for first in range(0, len(wide), 256):
        rows = np.arange(first, min(first + 256, len(wide)))
        distances = squares[None] - 2 * wide[rows] @ wide.T
        distances[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(distances, neighbours - 1, axis=1)[:, :neighbours]
        same += int((names[near] == names[rows][:, None]).sum())
    return same / (len(wide) * neighbours)


def _chance(labels: list[str]) -> float:
    """The chance that another text has the same label."""
    counts = np.unique(labels, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def _content(run: Run, found: Mapping[str, Any], texts: list[str], data: Paths, language: str) -> dict[str, Any]:
    """What the page shows."""
    points, (first, second) = found["points"], found["variance"]
    sentences = [
        say("mapped", language, texts=len(points), dimensions=found["dimensions"], first=first, second=second),
        say("neighbours", language, **found["agreement"]) if "agreement" in found else "",
        say("sampled", language, shown=len(points), texts=found["texts"]) if len(points) < found["texts"] else "",
    ]
    return {
        "title": say("map", language, run=run.folder.name),
        "subtitle": ", ".join(names_of(data)),
        "summary": ("" if language == "zh" else " ").join(filter(None, sentences)),
        "map": {
            "points": [
                [point["x"], point["y"], point["label"] or "", text[:80]]
                for point, text in zip(points, texts, strict=True)
            ],
        },
        "facts": [[fact("command", language), command_line()], [fact("machine", language), machine()]],
    }
