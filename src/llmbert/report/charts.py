"""Scores and curves → inline SVG for an HTML page (extra `plot`): deterministic, in the page's own colours and font.

A chart is drawn in pixels of its own width and stretched by the page, so each has a wide and a narrow form. Colours
are CSS variables the page must define: `--ink --muted --line --card`, and `--series-0` … `--series-11`.
"""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

from llmbert.protocols import LLMBertError

SERIES = 12  # colours, each with a marker, before they repeat
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", ">", "<", "p", "h")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★", "►", "◄", "⬟", "⬢")  # the same, for a legend written as text
POINTS = 600  # most points of a curve that are drawn
WIDE, NARROW = 1000, 380  # px

# Stand-ins drawn by matplotlib, which knows no CSS, and replaced by variables afterwards.
_INK, _MUTED, _LINE, _CARD = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)", _CARD: "var(--card)"}
_VARIABLES |= {f"#0102{16 + i:02x}": f"var(--series-{i})" for i in range(SERIES)}
_SIZE = 12.5  # px of the text in a chart
_SVG = "{http://www.w3.org/2000/svg}"


class ChartsMissing(LLMBertError):
    """matplotlib, which draws the charts, is not installed."""


@dataclass(frozen=True)
class Bar:
    """A measured value (the chart's unit) with its interval, in series colour `series`."""

    name: str
    value: float
    interval: tuple[float, float] | None = None
    series: int = 0


@dataclass(frozen=True)
class BarAxis:
    """What the bar charts of a page share, so that equal lengths mean equal values.

    `name`: the values and their unit; `limit`: where the axis ends; `names`: px the longest name takes.
    """

    name: str
    limit: float
    names: float
    intervals: bool

    @classmethod
    def over(cls, name: str, bars: Sequence[Bar], lines: Sequence[tuple[str, float]]) -> BarAxis:
        """An axis for all these bars, and for those references that are not beyond twice the longest bar."""
        longest = max([max(bar.value, *(bar.interval or ())) if bar.interval else bar.value for bar in bars])
        limit = max([longest, *(value for _, value in lines if value <= 2 * longest)]) or 1.0
        return cls(name, limit, max(_text_width(bar.name) for bar in bars), any(bar.interval for bar in bars))


@dataclass(frozen=True)
class Curve:
    """A run's training curve (x, y) and its checks on held-out text; points that are not finite must be left out."""

    name: str
    train: Sequence[tuple[float, float]] = ()
    valid: Sequence[tuple[float, float]] = ()
    series: int = 0

    def end(self) -> float:
        """The y a label beside the curve stands at."""
        return (self.valid or self.train)[-1][1]

    def thinned(self, most: int, logarithmic: bool) -> Curve:
        """This curve with at most `most` points in each part, see `thinned`."""
        train, valid = (thinned(points, most, logarithmic) for points in (self.train, self.valid))
        return Curve(self.name, train, valid, self.series)


@dataclass
class _Canvas:
    """A figure whose coordinates are pixels from the left and from the top."""

    width: float
    height: float
    figure: Any = field(init=False)

    def __post_init__(self) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(self.width / 72, self.height / 72), dpi=72)
        FigureCanvasSVG(self.figure)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Any:
        """Axes over that rectangle, without a frame."""
        box = (left / self.width, 1 - bottom / self.height, (right - left) / self.width, (bottom - top) / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=7, labelsize=_SIZE, labelcolor=_MUTED)
        axes.set_axisbelow(True)
        return axes

    def text(self, x: float, y: float, text: str, colour: str = _INK, align: str = "left", bold: bool = False) -> None:
        """One line of text whose middle is at height y."""
        # The digits' middle, rather than the line's, and the browser's font rather than matplotlib's: so by hand.
        baseline = 1 - (y + 0.35 * _SIZE) / self.height
        self.figure.text(
            *(x / self.width, baseline, text),
            **{"color": colour, "ha": align, "va": "baseline", "fontsize": _SIZE},
            weight="bold" if bold else "normal",
        )

    def line(self, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
        """A line through points in pixels."""
        from matplotlib.lines import Line2D

        xs, ys = [v / self.width for v in x], [1 - v / self.height for v in y]
        self.figure.add_artist(Line2D(xs, ys, transform=self.figure.transFigure, **style))


def bar_chart(
    bars: Sequence[Bar],
    lines: Sequence[tuple[str, float]],
    axis: BarAxis,
    label: str,
    identity: str,
    narrow: bool = False,
) -> str:
    """Horizontal bars from 0 with error bars, and thin labelled reference lines (name, value): SVG text.

    `label` is read out in place of the chart; `identity` is this chart's own on its page. A reference beyond the end
    of the axis is named at its right end. Raises ChartsMissing.
    """
    return _drawn(lambda: _bars(bars, sorted(lines, key=lambda line: line[1]), axis, narrow), label, identity)


def line_chart(
    curves: Sequence[Curve], x_label: str, y_label: str, label: str, identity: str, narrow: bool = False
) -> str:
    """Training (thin) and held-out (with markers) curves; the wide form names each at its end: SVG text.

    Logarithmic in x where x spans two decades; at most 600 points a curve, fewer where there are many curves. The
    narrow form has no names: the page gives it a legend. Raises ChartsMissing.
    """
    return _drawn(lambda: _curves(curves, x_label, y_label, narrow), label, identity)


def is_logarithmic(curves: Sequence[Curve]) -> bool:
    """Whether x, over all the curves, spans at least two decades."""
    xs = [x for curve in curves for x, _ in (*curve.train, *curve.valid) if x > 0]
    return bool(xs) and max(xs) >= 100 * min(xs)


def thinned(
    points: Sequence[tuple[float, float]], most: int = POINTS, logarithmic: bool = False
) -> list[tuple[float, float]]:
    """At most `most` (>= 4) of the points: the first, the last, and the lowest and highest of each strip of x.

    Strips are equally wide on the (perhaps logarithmic) axis, so peaks stay and no stretch of the axis goes coarse.
    On a logarithmic axis points with x <= 0 are left out.
    """
    place = math.log if logarithmic else float
    kept = sorted(point for point in points if not logarithmic or point[0] > 0)
    if len(kept) <= most:
        return kept
    strips = (most - 2) // 2
    left, width = place(kept[0][0]), (place(kept[-1][0]) - place(kept[0][0])) / strips or 1.0
    extremes: dict[int, tuple[tuple[float, float], tuple[float, float]]] = {}
    for point in kept[1:-1]:
        strip = min(int((place(point[0]) - left) / width), strips - 1)
        low, high = extremes.get(strip, (point, point))
        extremes[strip] = (min(low, point, key=_height), max(high, point, key=_height))
    middle = sorted({point for pair in extremes.values() for point in pair})
    return [kept[0], *middle, kept[-1]]


def short_number(value: float) -> str:
    """A number for an axis: 1200 → 1.2 k, 3000000 → 3 M."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _height(point: tuple[float, float]) -> float:
    return point[1]


def _series(number: int) -> str:
    return f"#0102{16 + number % SERIES:02x}"


def _text_width(text: str) -> float:
    """Pixels a text takes, near enough for any sans-serif: the reader's font is not known here."""
    return _SIZE * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in text)


def _shortened(text: str, width: float) -> str:
    """The text, or where it is too wide its start and its end: names of runs often differ in their last letters."""
    short, kept = text, len(text)
    while kept > 2 and _text_width(short) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[-(kept // 2) :]}"
    return short


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved as little as needs be to be `gap` apart between low and high (closer where they don't fit)."""
    if not places:
        return []
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=lambda i: places[i])
    # Least squares under the gaps: shifted by gap × rank they need only be non-decreasing, so pool adjacent violators.
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, count = places[i] - gap * rank, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    shifted = [min(max(mean, low), high - gap * (len(order) - 1)) for mean, count in pools for _ in range(count)]
    moved = [0.0] * len(order)
    for rank, i in enumerate(order):
        moved[i] = shifted[rank] + gap * rank
    return moved


def _bars(bars: Sequence[Bar], lines: Sequence[tuple[str, float]], axis: BarAxis, narrow: bool) -> _Canvas:
    width, row = (NARROW, 46) if narrow else (WIDE, 40)
    left = 1.0 if narrow else min(210.0, axis.names) + 18
    right = width - (8 if narrow else 160 if axis.intervals else 64)
    scale = (right - left) / axis.limit
    labels = [(left + value * scale, _reference(name, value)) for name, value in lines if value <= axis.limit]
    beyond = [_reference(name, value) for name, value in lines if value > axis.limit]
    joined = ", ".join(beyond)
    beyond = [f"{text} →" for text in ([joined] if joined and _text_width(joined) < width - 40 else beyond)]
    labels += [(right - _text_width(text) / 2, text) for text in beyond]
    levels = _levels(labels, width)
    top = 4.0 + 20 * (max((level for _, level in levels), default=-1) + 1)
    bottom = top + row * len(bars) + 6
    canvas = _Canvas(width, bottom + 50)
    axes = canvas.axes(left, top, right, bottom)
    axes.set(xlim=(0, axis.limit), ylim=(bottom - top, 0), yticks=[])
    axes.grid(axis="x", color=_LINE, linewidth=1)
    axes.xaxis.get_major_locator().set_params(nbins=5 if narrow else 8, steps=[1, 2, 2.5, 5, 10])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for i, bar in enumerate(bars):
        _bar(canvas, axes, bar, row * i + (32.0 if narrow else row / 2 + 3), (left, top, right), narrow)
    for i, ((x, text), (at, level)) in enumerate(zip(labels, levels, strict=True)):
        if i < len(labels) - len(beyond):
            canvas.line([x, x], [21 + 20 * level, bottom], color=_MUTED, lw=1, ls=(0, (4, 3)))
        canvas.text(at, 12 + 20 * level, text, _MUTED, "center")
    canvas.text(left, bottom + 40, axis.name, _MUTED)
    return canvas


def _bar(canvas: _Canvas, axes: Any, bar: Bar, middle: float, frame: tuple[float, float, float], narrow: bool) -> None:
    """One bar with its error bar, name and value; `frame`: left, top and right of the axes."""
    left, top, right = frame
    axes.barh(middle, bar.value, 14 if narrow else 20, color=_series(bar.series), alpha=0.85, linewidth=0)
    if bar.interval:
        axes.plot(bar.interval, [middle, middle], color=_CARD, lw=4, solid_capstyle="butt", clip_on=False)
        axes.plot(bar.interval, [middle, middle], color=_INK, lw=1.4, marker="|", ms=9, mew=1.4, clip_on=False)
    if narrow:
        canvas.text(left, top + middle - 17, f"{bar.value:.3f}", bold=True)
        canvas.text(left + 48, top + middle - 17, _shortened(bar.name, right - 60))
    else:
        canvas.text(left - 14, top + middle, _shortened(bar.name, 210), align="right")
        canvas.text(right + 16, top + middle, f"{bar.value:.3f}", bold=True)
        if bar.interval:
            canvas.text(right + 66, top + middle, f"{bar.interval[0]:.3f}–{bar.interval[1]:.3f}", _MUTED)


def _reference(name: str, value: float) -> str:
    return f"{_shortened(name, 150)} · {value:.2f}"


def _levels(labels: Sequence[tuple[float, str]], width: float) -> list[tuple[float, int]]:
    """(x, level) of each centred label, in their order: on the topmost level (0) where it meets none before it.

    A label is moved inwards where it would leave the chart's width.
    """
    taken: list[list[tuple[float, float]]] = []
    placed = []
    for x, text in labels:
        half = _text_width(text) / 2
        x = min(max(x, half), width - half)
        free = (
            i
            for i, others in enumerate(taken)
            if all(x - half > end + 12 or x + half < start - 12 for start, end in others)
        )
        level = next(free, len(taken))
        taken += [[]] if level == len(taken) else []
        taken[level].append((x - half, x + half))
        placed.append((x, level))
    return placed


def _curves(curves: Sequence[Curve], x_label: str, y_label: str, narrow: bool) -> _Canvas:
    canvas = _Canvas(NARROW, 290) if narrow else _Canvas(WIDE, 400)
    names = min(200.0, max(_text_width(curve.name) for curve in curves) + 24)
    left, right = 34.0, canvas.width - (12 if narrow else names + 14)
    top, bottom = 32.0, canvas.height - 48
    axes = canvas.axes(left, top, right, bottom)
    logarithmic = is_logarithmic(curves)
    most = max(60, min(POINTS, 9000 // len(curves)))
    thin = (curve.thinned(most, logarithmic) for curve in curves)
    curves = [curve for curve in thin if curve.train or curve.valid]
    if logarithmic:
        axes.set_xscale("log")
    heights = [y for curve in curves for y in _heights(curve)]
    low, high = min(heights), max(heights)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)
    for curve in curves:
        _curve(axes, curve, narrow)
    axes.margins(x=0.015)
    _ticks(axes, logarithmic, narrow)
    canvas.text(2, 10, y_label, _MUTED)
    canvas.text(right, canvas.height - 11, x_label, _MUTED, "right")
    if not narrow:
        _names(canvas, axes, curves, (right, top, bottom), names)
    return canvas


def _heights(curve: Curve) -> list[float]:
    """The y values that set the axis: a start or a spike of training far above everything else would flatten it."""
    train = sorted(y for _, y in curve.train)
    middle, lowest = (train[len(train) // 2], train[0]) if train else (0.0, 0.0)
    return [*(y for _, y in curve.valid), *(y for y in train if y <= middle + 8 * (middle - lowest))]


def _curve(axes: Any, curve: Curve, narrow: bool) -> None:
    colour, marker = _series(curve.series), MARKERS[curve.series % len(MARKERS)]
    if curve.train:
        axes.plot(*zip(*curve.train, strict=True), color=colour, lw=1, alpha=0.4)
    if curve.valid:
        every = max(1, len(curve.valid) // (12 if narrow else 24))
        style = {"marker": marker, "ms": 6, "mec": _CARD, "mew": 1, "markevery": every}
        axes.plot(*zip(*curve.valid, strict=True), color=colour, lw=2, **style)


def _ticks(axes: Any, logarithmic: bool, narrow: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.grid(axis="y", color=_LINE, linewidth=1)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.xaxis.set_major_locator(LogLocator(10) if logarithmic else MaxNLocator(4 if narrow else 7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.spines["bottom"].set(visible=True, color=_LINE, linewidth=1)


def _names(
    canvas: _Canvas, axes: Any, curves: Sequence[Curve], frame: tuple[float, float, float], width: float
) -> None:
    """Each curve's name right of the axes at the height of its end, moved apart where they would meet."""
    right, top, bottom = frame
    low, high = axes.get_ylim()
    ends = [bottom - (min(max(curve.end(), low), high) - low) / (high - low) * (bottom - top) for curve in curves]
    for curve, end, y in zip(curves, ends, _spread(ends, 17, top, bottom), strict=True):
        canvas.line([right + 1, right + 7, right + 14], [end, y, y], color=_series(curve.series), lw=1, alpha=0.7)
        canvas.text(right + 18, y, _shortened(curve.name, width - 20), _series(curve.series), bold=True)


def _drawn(draw: Callable[[], _Canvas], label: str, identity: str) -> str:
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise ChartsMissing("Charts need matplotlib: pip install 'llmbert[plot]'") from error
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": identity, "text.parse_math": False, "path.simplify": False}
    with rc_context(settings), warnings.catch_warnings():
        # The page's font draws the text, so a glyph missing in matplotlib's own is no matter.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        out = BytesIO()
        draw().figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _inline(ElementTree.fromstring(out.getvalue()), label, identity)


def _inline(root: ElementTree.Element, label: str, identity: str) -> str:
    """matplotlib's file as an element of a page: no style sheet or metadata, ids of its own, CSS colours, less text."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', ElementTree.tostring(root, encoding="unicode")))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("metadata") or child.tag == f"{_SVG}style":
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.tail = None
        element.text = element.text if element.tag == "text" else None
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if (key != "id" or value in used) and not value.startswith("rotate(-0 "):
                element.set(key, _attribute(key, value, identity))
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, identity: str) -> str:
    """The value with its ids made this chart's own, its colours the page's, its numbers as exact as a screen is."""
    if key == "id":
        return f"{identity}-{value}"
    if key == "href":
        return value.replace("#", f"#{identity}-", 1)
    if key in ("d", "x", "y", "transform"):
        return re.sub(r"-?\d+\.\d+", _rounded, " ".join(value.split()))
    if key == "style":
        value = re.sub(r"#[0-9a-fA-F]{6}", lambda match: _VARIABLES.get(match[0].lower(), match[0]), value)
        value = re.sub(r" ?font-family:[^;]*;", "", value)
    return value.replace("url(#", f"url(#{identity}-")


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0")
