"""Named series over one pair of axes → inline SVG, drawn as `charts` draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmbert.report.charts import (
    _CARD,
    _LINE,
    _MUTED,
    MARKERS,
    NARROW,
    WIDE,
    _Canvas,
    _drawn,
    _series,
    _text_width,
    short_number,
    thinned,
)

STYLES = ("line", "dashed", "points", "steps")
POINTS = 300  # most points of a series that are drawn
DECADES = 1.5  # a logarithmic axis below it has ticks at 2 and 5 too

Point = tuple[float, float]
Span = tuple[float, float, float]


@dataclass(frozen=True)
class Scales:
    """What the two axes say, and which of them are logarithmic."""

    x_label: str
    y_label: str
    x_log: bool = False
    y_log: bool = False

    def holds(self, x: float, y: float) -> bool:
        """Whether the axes have a place for the point."""
        return (x > 0 or not self.x_log) and (y > 0 or not self.y_log)


@dataclass(frozen=True)
class Series:
    """Points with a name; band: x, low, high; style: one of STYLES; series: its colour, None for muted."""

    name: str
    points: Sequence[Point]
    band: Sequence[Span] = ()
    style: str = "line"
    series: int | None = 0

    @property
    def marker(self) -> str:
        return MARKERS[(self.series or 0) % len(MARKERS)]


def placed(series: Series, scales: Scales, most: int = POINTS) -> Series:
    """The series without what its axes have no place for, with at most `most` points and as many places of its band.

    Lines keep their ends and peaks (`thinned`); of points, of steps and of the band every so many-th is kept.
    """
    points = [point for point in series.points if scales.holds(*point)]
    if series.style in ("line", "dashed"):
        points = thinned(points, most, scales.x_log)
    elif len(points) > most:
        points = [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]
    least = min((low for _, low, _ in series.band if low > 0), default=0.0)
    band = [
        (x, max(low, least) if scales.y_log else low, high)
        for x, low, high in sorted(series.band)
        if scales.holds(x, high)
    ]
    if len(band) > most:
        band = [band[i * (len(band) - 1) // (most - 1)] for i in range(most)]
    return replace(series, points=points, band=band)


def series_chart(some: Sequence[Series], scales: Scales, label: str, identity: str, narrow: bool = False) -> str:
    """The series over one pair of axes, without names (the page gives a legend): SVG text. Raises ChartsMissing.

    `label` is read out in place of the chart; `identity` is this chart's own on its page.
    """
    return _drawn(lambda: _chart(some, scales, narrow), label, identity)


def _chart(some: Sequence[Series], scales: Scales, narrow: bool) -> _Canvas:
    canvas = _Canvas(NARROW, 280) if narrow else _Canvas(WIDE, 380)
    top, right, bottom = 32.0, canvas.width - 16.0, canvas.height - 48.0
    axes = canvas.axes(40.0, top, right, bottom)
    axes.set_xscale("log" if scales.x_log else "linear")
    axes.set_yscale("log" if scales.y_log else "linear")
    for each in some:
        _add(axes, each, narrow)
    axes.margins(x=0.015, y=0.06)
    if any(each.style == "steps" for each in some) and not scales.y_log:
        axes.set_ylim(bottom=0)  # areas are compared from nothing up
    _ticks(axes, scales, narrow)
    left = 12.0 + max((_text_width(text) for text in _tick_texts(axes)), default=20.0)
    axes.set_position(
        (left / canvas.width, 1 - bottom / canvas.height, (right - left) / canvas.width, (bottom - top) / canvas.height)
    )
    canvas.text(2, 10, scales.y_label, _MUTED)
    canvas.text(right, canvas.height - 11, scales.x_label, _MUTED, "right")
    return canvas


def _add(axes: Any, each: Series, narrow: bool) -> None:
    colour = _MUTED if each.series is None else _series(each.series)
    if each.band:
        axes.fill_between(*zip(*each.band, strict=True), color=colour, alpha=0.18, linewidth=0)
    if not each.points:
        return
    xs, ys = zip(*each.points, strict=True)
    if each.style == "points":
        size = 4 if narrow or len(xs) > 100 else 6
        axes.plot(xs, ys, color=colour, ls="", marker=each.marker, ms=size, mec=_CARD, mew=0.5)
    elif each.style == "steps":
        axes.fill_between(xs, ys, step="post", color=colour, alpha=0.18, linewidth=0)
        axes.step(xs, ys, where="post", color=colour, lw=1.5)
    else:
        alone = {"marker": each.marker, "ms": 6, "mec": _CARD, "mew": 1} if len(xs) == 1 else {}
        style = (0, (5, 3)) if each.style == "dashed" else "-"
        axes.plot(xs, ys, color=colour, lw=1.5 if each.style == "dashed" else 2, ls=style, **alone)


def _ticks(axes: Any, scales: Scales, narrow: bool) -> None:
    from matplotlib.ticker import NullLocator

    axes.grid(color=_LINE, linewidth=1)
    for axis, logarithmic, count in (
        (axes.xaxis, scales.x_log, 4 if narrow else 8),
        (axes.yaxis, scales.y_log, 6),
    ):
        axis.set_major_locator(_locator(axis.get_view_interval(), logarithmic, count))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: short_number(value))
    axes.spines["bottom"].set(visible=True, color=_LINE, linewidth=1)


def _locator(span: Sequence[float], logarithmic: bool, count: int) -> Any:
    from math import log10

    from matplotlib.ticker import LogLocator, MaxNLocator

    if not logarithmic:
        return MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])
    if log10(span[1] / span[0]) < DECADES:
        return LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=count + 4)
    return LogLocator(10, numticks=count)


def _tick_texts(axes: Any) -> list[str]:
    low, high = sorted(axes.get_ylim())
    return [short_number(tick) for tick in axes.get_yticks() if low <= tick <= high]
