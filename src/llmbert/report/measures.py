"""Scores of a task (BLEU, ROUGE, accuracy …) → each metric's bars, with intervals and what costs nothing to beat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.report.numbers import number, significant
from llmbert.report.sheet import Sheet, interval_of
from llmbert.report.texts import ABOUT, BASELINES, METRICS, TASKS

MOST_FIGURES, MOST_BARS = 24, 40
REAL = ("held-out", "training")  # baselines that are no trivial model but what texts should be like
UNITS = {"s": "秒", "ms": "毫秒"}  # in Chinese
TAKEN = ("train_seconds", "milliseconds", "peak_memory", "bytes_on_disk")


def metric_section(rows: Sequence[Mapping[str, Any]], sheet: Sheet, runs: Sequence[str] = ()) -> dict[str, Any]:
    """What the template shows of `metrics` (see `write_report`); `figures` is empty where there are none.

    Runs are put in order and the best one is marked only among `runs`, the names of the page's table (where it has
    one): other names are those of tasks, whose scores cannot be ranked.
    """
    groups = _groups(rows)
    shown, left_out = sheet.some(list(groups.items()), MOST_FIGURES)
    figures = [_figure(metric, task, group, sheet, runs) for (metric, task), group in shown]
    compared = any(row["best"] for figure in figures for row in figure["rows"])
    intervals = any(figure["intervals"] for figure in figures)
    grey = {figure["real"] for figure in figures for row in figure["rows"] if row["baseline"]}
    return {
        "figures": figures,
        "table": _table(figures, sheet, all(str(row.get("name")) in runs for row in rows) or not runs),
        "note": sheet.joined(
            sheet.t["metric_intervals"] if intervals else "",
            sheet.t["metric_baselines"] if False in grey else "",
            sheet.t["metric_real"] if True in grey else "",
            sheet.t["metric_best" if intervals else "metric_best_bare"] if compared else "",
            left_out,
        ),
        "signatures": _signatures(groups, sheet),
    }


def evidence_section(rows: Sequence[Mapping[str, Any]], sheet: Sheet, runs: Sequence[str]) -> list[dict[str, Any]]:
    """What the template shows of `evidence`: what runs write and what they take, each as `metric_section` has it."""
    parts = {
        "evidence_written": [row for row in rows if row.get("metric") not in TAKEN],
        "evidence_taken": [row for row in rows if row.get("metric") in TAKEN],
    }
    groups = [(sheet.t[key], metric_section(part, sheet, runs)) for key, part in parts.items() if part]
    for name, group in groups:
        group["name"] = name
        for figure in group["figures"]:
            about = ABOUT.get(figure["metric"], ("", ""))
            figure["about"] = about[sheet.language == "zh"]
    return [group for _, group in groups]


def metric_name(metric: Any, sheet: Sheet) -> str:
    """A metric as papers write it: rouge1 → ROUGE-1."""
    return sheet.name(METRICS, str(metric))


def metric_figures(row: Mapping[str, Any], language: str = "en") -> tuple[str, tuple[str, str] | None, str]:
    """A row's value, interval and baseline as text; "", None and "" where they were not measured."""
    known = [number(row.get("value")), number((row.get("baseline") or {}).get("value"))]
    digits, unit = _digits([value for value in known if value is not None]), _unit(row, language)
    value, baseline = ("" if each is None else _text(each, digits, unit) for each in known)
    interval = interval_of(row)
    ends = (_text(interval[0], digits), _text(interval[1], digits)) if interval and value else None
    return value, ends, baseline


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The rows by metric and task, in the order in which these first come."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((str(row.get("metric")), str(row.get("task") or "")), []).append(row)
    return groups


def _figure(
    metric: str, task: str, rows: Sequence[Mapping[str, Any]], sheet: Sheet, runs: Sequence[str]
) -> dict[str, Any]:
    """The bars of one metric, all to one scale from 0."""
    higher = next((row["higher_is_better"] for row in rows if isinstance(row.get("higher_is_better"), bool)), None)
    goal = "closest" if any(row.get("closest") for row in rows) else {True: "higher", False: "lower", None: ""}[higher]
    ranked = len(rows) > 1 and bool(goal) and (not runs or {str(row.get("name")) for row in rows} <= set(runs))
    alike, apart = _alike(rows) if ranked else (rows, [])
    if ranked:
        alike = sorted(alike, key=lambda row: _rank(row, goal))
        rows = [*alike, *apart]
    best = _rank(alike[0], goal) if ranked and _rank(alike[0], goal) < _rank(alike[-1], goal) else None
    real = any(str((row.get("baseline") or {}).get("name")) in REAL for row in rows)
    rows, left_out = sheet.some(rows, MOST_BARS)
    bars = _with_baselines(rows, sheet, runs)
    values = [bar["value"] for bar in bars if bar["value"] is not None]
    ends = [end for bar in bars for end in bar["interval"] or ()]
    low, high = min(0.0, *values, *ends, 0.0), max(0.0, *values, *ends, 0.0)
    digits = _digits(values)
    behind = [] if real or goal == "closest" else [str(row.get("name")) for row in rows if _is_behind(row, higher)]
    names = sheet.t["listed"].join(behind)
    others = sheet.t["listed"].join(str(row.get("name")) for row in apart)
    first = [
        bar["row"] is not None and best is not None and bar["row"] not in apart and _rank(bar["row"], goal) == best
        for bar in bars
    ]
    return {
        "name": metric_name(metric, sheet),
        "metric": metric,
        "task": task_name(task, sheet),
        "direction": sheet.t[goal] if goal else "",
        "about": "",
        "real": real,
        "rows": [_shown(bar, is_best, low, high, digits) for bar, is_best in zip(bars, first, strict=True)],
        "intervals": bool(ends),
        "behind": sheet.t["metric_behind_one" if len(rows) == 1 else "metric_behind"].format(names) if names else "",
        "left_out": sheet.joined(left_out, sheet.t["metric_apart"].format(others) if others else ""),
    }


def _alike(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rows that were measured as most were, by their signatures, which alone can be ranked; and the others."""
    known = [row for row in rows if row.get("signature") and number(row.get("value")) is not None]
    usual = Counter(str(row["signature"]) for row in known).most_common(1)
    apart = [row for row in known if str(row["signature"]) != usual[0][0]]
    return [row for row in rows if row not in apart], apart


def _with_baselines(rows: Sequence[Mapping[str, Any]], sheet: Sheet, runs: Sequence[str]) -> list[dict[str, Any]]:
    """A bar for each row, and one for each baseline: at the end the one that most share, below its row any other."""
    baselines = [_baseline(row, sheet) for row in rows]
    known = [baseline for baseline in baselines if baseline]
    shares = Counter((baseline["name"], baseline["value"]) for baseline in known)
    most, count = shares.most_common(1)[0] if shares else (None, 0)
    common = [each for each in known if (each["name"], each["value"]) == most and 2 * count > len(known)][:1]
    bars: list[dict[str, Any]] = []
    for row, baseline in zip(rows, baselines, strict=True):
        own = {"value": number(row.get("value")), "interval": interval_of(row), "series": sheet.series_of(row)}
        name = str(row.get("name"))
        name = task_name(name, sheet) if runs and name not in runs else name
        bars.append({"row": row, "name": name, "unit": _unit(row, sheet.language), **own})
        if baseline and baseline not in common:
            of = f" · {name}" if common else ""  # else the one shared by the others would seem to be another of its own
            bars.append(baseline | {"common": False, "name": baseline["name"] + of})
    return [*bars, *common]


def _baseline(row: Mapping[str, Any], sheet: Sheet) -> dict[str, Any] | None:
    baseline = row.get("baseline") or {}
    value = number(baseline.get("value"))
    if value is None:
        return None
    name = sheet.name(BASELINES, str(baseline.get("name")))
    shown = {"value": value, "interval": interval_of(baseline), "series": None, "common": True}
    return {"row": None, "name": name, "unit": _unit(row, sheet.language), **shown}


def _shown(bar: Mapping[str, Any], best: bool, low: float, high: float, digits: int) -> dict[str, Any]:
    value, interval = bar["value"], bar["interval"]
    ends = [_text(end, digits) for end in interval or ()]
    return {
        **{"name": bar["name"], "series": bar["series"], "baseline": bar["row"] is None, "best": best},
        "common": bar.get("common", True),
        "text": "" if value is None else _text(value, digits, bar["unit"]),
        "interval": f"{ends[0]}–{ends[1]}" if ends and value is not None else "",
        "bar": None if value is None else _span(min(value, 0.0), max(value, 0.0), low, high),
        "whisker": _span(interval[0], interval[1], low, high) if interval and value is not None else None,
    }


def _span(start: float, end: float, low: float, high: float) -> dict[str, str]:
    """Where a bar begins and how wide it is, in % of the axis from low to high."""
    width = (high - low) or 1.0
    return {"left": f"{100 * (start - low) / width:.2f}", "width": f"{100 * (end - start) / width:.2f}"}


def _table(figures: Sequence[Mapping[str, Any]], sheet: Sheet, of_runs: bool) -> dict[str, Any] | None:
    """A row for each run and baseline, a column for each metric, where there are several of both.

    Tasks have baselines of their own, which stay with their bars.
    """
    columns = [sheet.joined(figure["name"], figure["task"]) for figure in figures]
    names: dict[tuple[str, bool], dict[int, Mapping[str, Any]]] = {}
    series: dict[tuple[str, bool], int | None] = {}
    for i, figure in enumerate(figures):
        for row in (row for row in figure["rows"] if row["common"] and (of_runs or not row["baseline"])):
            key = (row["name"], row["baseline"])
            names.setdefault(key, {}).setdefault(i, row)
            series[key] = row["series"]
    if len(columns) < 2 or sum(not baseline for _, baseline in names) < 2:
        return None
    ordered = sorted(names, key=lambda key: key[1])  # baselines last
    missing = {"text": "", "interval": "", "best": False}
    rows = [
        {"name": key[0], "baseline": key[1], "series": series[key]}
        | {"cells": [names[key].get(i, missing) for i in range(len(columns))]}
        for key in ordered
    ]
    return {"columns": columns, "rows": rows, "of": sheet.t["model" if of_runs else "task"]}


def _signatures(groups: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], sheet: Sheet) -> list[tuple[str, str]]:
    """Each signature with the metric, and the runs where they differ."""
    found: list[tuple[str, str]] = []
    for (metric, task), rows in groups.items():
        name = " · ".join(part for part in (metric_name(metric, sheet), task_name(task, sheet)) if part)
        by_signature: dict[str, list[str]] = {}
        for row in rows:
            if row.get("signature"):
                by_signature.setdefault(str(row["signature"]), []).append(str(row.get("name")))
        for signature, runs in by_signature.items():
            found.append((name if len(by_signature) == 1 else f"{name} · {', '.join(runs)}", signature))
    return sheet.pairs(found)


def task_name(task: str, sheet: Sheet) -> str:
    """ "translate en-de" → "Translation en-de"."""
    kind, _, rest = task.partition(" ")
    return " ".join(part for part in (sheet.name(TASKS, kind), rest) if part)


def _rank(row: Mapping[str, Any], goal: str) -> float:
    """Where a row stands: the lower the better; infinite for what was not measured."""
    value = number(row.get("value"))
    if value is not None and goal == "closest":
        real = number((row.get("baseline") or {}).get("value"))
        return math.inf if real is None else abs(value - real)
    return math.inf if value is None else -value if goal == "higher" else value


def _is_behind(row: Mapping[str, Any], higher: bool | None) -> bool:
    """Whether the row does no better than its baseline."""
    value, baseline = number(row.get("value")), number((row.get("baseline") or {}).get("value"))
    if value is None or baseline is None or higher is None:
        return False
    return value <= baseline if higher else value >= baseline


def _unit(row: Mapping[str, Any], language: str) -> str:
    unit = str(row.get("unit") or "")
    unit = UNITS.get(unit, unit) if language == "zh" else unit
    return f" {unit}" if unit and not (unit == "%" and language == "zh") else unit


def _digits(values: Sequence[float]) -> int:
    """Decimals for figures that stand under one another: as many as the largest of them needs."""
    most = max((abs(value) for value in values), default=0.0)
    return 3 if most < 1 else 2 if most <= 100 else 1


def _text(value: float, digits: int, unit: str = "") -> str:
    digits = min(digits, 2) if unit.strip() == "%" else digits
    return (significant(value) if abs(value) >= 1000 else f"{value:.{digits}f}") + unit
