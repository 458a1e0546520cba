"""How often each label was taken for each → a shaded matrix or the worst confusions, and figures for every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.report.numbers import number
from llmbert.report.sheet import Sheet

MOST_LABELS = 20  # that a matrix is drawn for
MOST_CONFUSIONS = 20
MOST_ROWS = 300
WIDE_NAMES = 26  # more letters than this in all column names together: they stand upright
_COLUMNS = ("precision", "recall", "f1", "true", "predicted")


def class_sections(given: Any, sheet: Sheet) -> list[dict[str, Any]]:
    """What the template shows of `classes` (see `write_report`): a part for each run."""
    runs = [given] if isinstance(given, Mapping) else list(given or [])
    shown, _ = sheet.some([run for run in runs if isinstance(run, Mapping)], 8)
    parts = [_part(run, sheet) for run in shown]
    return [part for part in parts if part["matrix"] or part["confusions"] or part["rows"]]


def label_figures(labels: Sequence[str], counts: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """precision, recall, f1 (%), true and predicted counts of each label of a matrix (true label, predicted label).

    0 where nothing was predicted, or nothing there, as in `metrics.score_labels`.
    """
    found = {}
    for i, label in enumerate(labels):
        hits, true, predicted = counts[i][i], sum(counts[i]), sum(row[i] for row in counts)
        figures = {
            "precision": 100 * hits / predicted if predicted else 0.0,
            "recall": 100 * hits / true if true else 0.0,
            "f1": 200 * hits / (true + predicted) if true + predicted else 0.0,
        }
        found[label] = {**figures, "true": true, "predicted": predicted}
    return found


def _part(run: Mapping[str, Any], sheet: Sheet) -> dict[str, Any]:
    labels, counts = _square(run)
    figures = run.get("by_class") or (label_figures(labels, counts) if labels else {})
    few = len(labels) <= MOST_LABELS
    rows = [_row(str(label), values) for label, values in figures.items() if isinstance(values, Mapping)]
    if len(rows) > MOST_LABELS:
        rows.sort(key=lambda row: (row["order"], row["name"]))
    shown, left_out = sheet.some(rows, MOST_ROWS)
    return {
        "name": str(run["name"]) if run.get("name") else "",
        "series": sheet.series_of(run),
        "matrix": _matrix(labels, counts, sheet) if labels and few else None,
        "confusions": [] if few else _confusions(labels, counts, sheet),
        "rows": shown,
        "columns": [(key, sheet.t[f"label_{key}"]) for key in _COLUMNS if any(key in row["figures"] for row in rows)],
        "hardest_first": len(rows) > MOST_LABELS,
        "folded": len(rows) > MOST_LABELS,
        "left_out": left_out,
    }


def _square(run: Mapping[str, Any]) -> tuple[list[str], list[list[float]]]:
    """Labels and a full matrix: 0 for what is missing or no count; labels of the same name stay apart."""
    given = [row if isinstance(row, list | tuple) else [] for row in run.get("counts") or []]
    labels = [str(label) for label in run.get("labels") or []]
    size = max([len(labels), len(given), *map(len, given)]) if given else 0
    labels += [f"#{i + 1}" for i in range(len(labels), size)]
    counts = [[0.0] * size for _ in range(size)]
    for i, row in enumerate(given):
        for j, value in enumerate(row):
            counts[i][j] = max(0.0, number(value) or 0.0)
    return (labels, counts) if size else ([], [])


def _row(label: str, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: found for key in _COLUMNS if (found := number(values.get(key))) is not None}
    shown = {key: f"{value:,.0f}" if key in ("true", "predicted") else f"{value:.1f}" for key, value in known.items()}
    return {"name": label, "figures": shown, "order": known.get("f1", 100.0)}


def _matrix(labels: Sequence[str], counts: Sequence[Sequence[float]], sheet: Sheet) -> dict[str, Any]:
    """Rows of cells, each shaded by the share of its true label that it holds."""
    rows = []
    for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = [
            {
                "text": f"{count:,.0f}" if count else "",
                "shade": _shade(count / total if total else 0.0, i == j),
                "right": i == j,
                "title": sheet.t["cell"].format(label, labels[j], f"{count:,.0f}", sheet.percent(count / total))
                if total
                else "",
            }
            for j, count in enumerate(row)
        ]
        rows.append({"name": label, "cells": cells, "total": f"{total:,.0f}"})
    upright = sum(map(len, labels)) > WIDE_NAMES
    return {"labels": list(labels), "rows": rows, "upright": upright}


def _shade(share: float, right: bool) -> str:
    """How opaque a cell is: a mistake shows from a few per cent on, and text stays legible on the deepest shade."""
    return f"{0.06 + 0.45 * share if right else min(0.5, 0.07 + 1.2 * share):.2f}"


def _confusions(labels: Sequence[str], counts: Sequence[Sequence[float]], sheet: Sheet) -> list[dict[str, Any]]:
    """The pairs of labels that were confused most often."""
    pairs = [(count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j and count]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    shown, _ = sheet.some(pairs, MOST_CONFUSIONS)
    return [
        {
            **{"true": labels[i], "predicted": labels[j], "count": f"{count:,.0f}"},
            "share": sheet.percent(count / sum(counts[i])),
        }
        for count, i, j in shown
    ]
