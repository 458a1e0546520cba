"""What a verb gives to be drawn → the figures of a page, by group: a chart or bars, a legend, a note and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmbert.report.charts import GLYPHS, SERIES
from llmbert.report.figures.draw import STYLES, Scales, Series, placed, series_chart
from llmbert.report.measures import _digits, _shown
from llmbert.report.numbers import number, significant
from llmbert.report.sheet import Sheet, interval_of

Both = Callable[[Callable[[bool], str]], tuple[Any, Any]]
"""Draws a chart's wide and narrow form."""

KINDS = {"lines": "line", "points": "points", "steps": "steps"}  # a kind and the style of its series
LEGEND = {"line": "━", "dashed": "╍", "steps": "▬"}  # of points it is their marker
MOST_FIGURES, MOST_SERIES, MOST_BARS, MOST_ROWS = 60, 24, 60, 100
DRAWN, FEWEST = 240, 12  # points of a series that are drawn: at most, and however many series there are
ROOM = 20_000  # points of a page that are drawn, a marker counting as MARKER of them
MARKER = 5
SAID = 8  # points of each series in the table, where none is given


def figure_sections(given: Any, sheet: Sheet, both: Both) -> list[dict[str, Any]]:
    """The figures of `write_report` by their group, in the order in which groups first come."""
    shown, left_out = sheet.some(list(given or []), MOST_FIGURES)
    groups: dict[str, list[dict[str, Any]]] = {}
    most = _points_each(shown, sheet.share)
    for i, figure in enumerate(shown):
        drawn = _figure(figure, f"figure-{i}", sheet, both, most)
        if drawn["chart"] or drawn["bars"] or drawn["table"]:
            groups.setdefault(sheet.value(figure.get("group")), []).append(drawn)
    found: list[dict[str, Any]] = [
        {"id": f"figures-{i}" if i else "figures", "name": name or sheet.t["figures"], "figures": figures}
        for i, (name, figures) in enumerate(groups.items())
    ]
    for section in found:
        section["left_out"] = left_out if section is found[-1] else ""
    return found


def figure_names(sections: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Id and name of each section, for the page's contents."""
    return [(section["id"], section["name"]) for section in sections]


def _points_each(figures: Sequence[Mapping[str, Any]], share: float) -> int:
    """How many points each series may have so that a page of that `share` holds them all."""
    series = [(figure, each) for figure in figures for each in (figure.get("series") or [])[:MOST_SERIES]]
    markers = sum("points" in (each.get("style"), figure.get("kind")) for figure, each in series)
    return min(DRAWN, max(FEWEST, int(ROOM * share / max(1, len(series) + (MARKER - 1) * markers))))


def _figure(given: Mapping[str, Any], identity: str, sheet: Sheet, both: Both, most: int) -> dict[str, Any]:
    """One figure as the template takes it; `chart` says whether there are points to draw, with matplotlib or not."""
    labels = {key: sheet.value(given.get(key)) for key in ("x_label", "y_label")}
    scales = Scales(**labels, x_log=bool(given.get("x_log")), y_log=bool(given.get("y_log")))
    whole, left_out = _series(given, sheet)
    drawn = [placed(each, scales, most) for each in whole]
    drawn = [each for each in drawn if each.points or each.band]
    found: dict[str, Any] = {
        **{"title": sheet.value(given.get("title")), "chart": bool(drawn), "wide": None, "narrow": None},
        "legend": [(each.series, _glyph(each), each.name) for each in drawn] if len(drawn) > 1 else [],
        "bars": _bars(given, sheet),
        "note": sheet.joined(sheet.value(given.get("note")), left_out),
    }
    found["table"] = _table(given, whole, scales, sheet)
    if drawn:
        said = "; ".join(_said(each, sheet) for each in drawn)
        label = sheet.t["figure_label"].format(scales.y_label, scales.x_label, said)
        found["wide"], found["narrow"] = both(
            lambda narrow: series_chart(drawn, scales, label, f"{identity}-{narrow:d}", narrow)
        )
    return found


def _series(given: Mapping[str, Any], sheet: Sheet) -> tuple[list[Series], str]:
    """The series with what is finite of them, each in its colour, and a sentence on those left out."""
    shown, left_out = sheet.some(list(given.get("series") or []), MOST_SERIES)
    usual = KINDS.get(str(given.get("kind")), "line")
    colours: dict[str, int] = {}
    found = []
    for each in shown:
        name = str(each.get("name") or "")
        of = str(each.get("of") or name)
        if not each.get("muted"):
            colours.setdefault(of, sheet.series.get(of, len(colours) % SERIES))
        style = str(each.get("style") or usual)
        points, band = ([tuple(map(number, row)) for row in each.get(key) or []] for key in ("points", "band"))
        found.append(
            Series(
                name,
                [row for row in points if len(row) == 2 and None not in row],  # type: ignore[misc]
                [row for row in band if len(row) == 3 and None not in row],  # type: ignore[misc]
                style if style in STYLES else usual,
                None if each.get("muted") else colours[of],
            )
        )
    return found, left_out


def _glyph(series: Series) -> str:
    return LEGEND.get(series.style) or ("●" if series.series is None else GLYPHS[series.series % len(GLYPHS)])


def _said(series: Series, sheet: Sheet) -> str:
    """A series in the words that are read out: its name, where it begins and where it ends."""
    if not series.points:
        return series.name
    ends = [f"({significant(x, 3)}, {significant(y, 3)})" for x, y in (series.points[0], series.points[-1])]
    return f"{series.name} {sheet.t['interval'].format(*ends)}".strip()


def _bars(given: Mapping[str, Any], sheet: Sheet) -> dict[str, Any] | None:
    """The bars as `measures` shows a metric's, all from 0; those whose row is `muted` are grey."""
    known = [row for row in given.get("bars") or [] if number(row.get("value")) is not None]
    if not known:
        return None
    rows, left_out = sheet.some(known, MOST_BARS)
    bars: list[dict[str, Any]] = [
        {
            **{"name": sheet.value(row.get("name")), "value": float(row["value"]), "interval": interval_of(row)},
            **{
                "unit": "",
                "series": sheet.series.get(str(row.get("name")), 0),
                "row": None if row.get("muted") else row,
            },
        }
        for row in rows
    ]
    ends: list[float] = [end for bar in bars for end in (bar["value"], *(bar["interval"] or ()))]
    digits = _digits([bar["value"] for bar in bars])
    shown = [_shown(bar, False, min(0.0, *ends), max(0.0, *ends), digits) for bar in bars]
    label = sheet.value(given.get("y_label") or given.get("x_label"))
    figure = {"name": label, "task": "", "direction": "", "rows": shown, "left_out": left_out}
    return {"figures": [figure | {"about": "", "behind": ""}], "note": "", "table": None, "signatures": []}


def _table(given: Mapping[str, Any], series: Sequence[Series], scales: Scales, sheet: Sheet) -> dict[str, Any] | None:
    """The table that was given (its first row the headings), or some points of each series."""
    rows = [[_cell(cell, sheet) for cell in row] for row in given.get("table") or []]
    if not rows and series:
        banded = any(each.band for each in series)
        head = ["", scales.x_label, scales.y_label, *([sheet.t["interval_name"]] if banded else [])]
        rows = [head, *(row for each in series for row in _point_rows(each, banded, sheet))]
    if len(rows) < 2:
        return None
    wide = max(len(row) for row in rows)
    shown, left_out = sheet.some(rows[1:], MOST_ROWS)
    return {
        "head": rows[0] + [""] * (wide - len(rows[0])),
        "rows": [row + [""] * (wide - len(row)) for row in shown],
        "left_out": left_out,
    }


def _point_rows(series: Series, banded: bool, sheet: Sheet) -> list[list[str]]:
    """A few of the points, the first and the last among them, each with its interval."""
    band = {x: (low, high) for x, low, high in series.band}
    points = sorted(series.points) or [(x, (low + high) / 2) for x, low, high in series.band]
    count = min(SAID, len(points))
    picked = [points[i * (len(points) - 1) // max(1, count - 1)] for i in range(count)]
    rows = []
    for x, y in picked:
        ends = [significant(end) for end in band.get(x, ())]
        around = [sheet.t["interval"].format(*ends) if ends else ""] if banded else []
        rows.append([series.name, significant(x), significant(y), *around])
    return rows


def _cell(value: Any, sheet: Sheet) -> str:
    """A cell as text; whole numbers have commas, since they stand under one another."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return significant(value) if isinstance(value, float) and number(value) is not None else sheet.value(value)
