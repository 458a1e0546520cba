"""Many values → inline SVG: histograms side by side, and points of a plane; drawn as `charts` draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    short_number,
)

BINS = 40
TAIL = 0.005  # share of the values on either side that stand at the edge instead of stretching the axis


@dataclass(frozen=True)
class Sample:
    """Values with a name, in series colour `series`."""

    name: str
    values: Sequence[float]
    series: int = 0


@dataclass(frozen=True)
class Cloud:
    """Points with a name, in series colour `series`; None: muted, for what is left over."""

    name: str
    points: Sequence[tuple[float, float]]
    series: int | None = 0


def histogram_chart(
    samples: Sequence[Sample], x_label: str, y_label: str, label: str, identity: str, narrow: bool = False
) -> str:
    """The share of each sample's values (%) by bins they all share: SVG text. Raises ChartsMissing."""
    return _drawn(lambda: _histogram(samples, x_label, y_label, narrow), label, identity)


def scatter_chart(
    clouds: Sequence[Cloud], x_label: str, y_label: str, label: str, identity: str, narrow: bool = False
) -> str:
    """Points of a plane, both axes to one scale: SVG text. Raises ChartsMissing."""
    return _drawn(lambda: _scatter(clouds, x_label, y_label, narrow), label, identity)


def roc_chart(
    points: Sequence[tuple[float, float]], x_label: str, y_label: str, label: str, identity: str, narrow: bool = False
) -> str:
    """A curve over the square from 0 to 100 %, and the diagonal of guessing as a thin broken line: SVG text.

    Raises ChartsMissing.
    """
    return _drawn(lambda: _roc(points, x_label, y_label, narrow), label, identity)


def shared_bins(samples: Sequence[Sample], bins: int = BINS) -> list[float]:
    """Edges of equally wide bins over all values but a few at the tails; two at least."""
    values = sorted(value for sample in samples for value in sample.values)
    low, high = values[int(TAIL * (len(values) - 1))], values[-1 - int(TAIL * (len(values) - 1))]
    if low == high:
        low, high = low - 0.5, high + 0.5
    return [low + (high - low) * i / bins for i in range(bins + 1)]


def bin_shares(sample: Sample, edges: Sequence[float]) -> list[float]:
    """The percentage of the values in each bin; those beyond the edges stand in the outermost bins."""
    counts = [0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for value in sample.values:
        counts[min(max(int((value - edges[0]) / width), 0), len(counts) - 1)] += 1
    return [100 * count / max(1, len(sample.values)) for count in counts]


def _frame(canvas: _Canvas, x_label: str, y_label: str, narrow: bool) -> Any:
    from matplotlib.ticker import MaxNLocator

    right, bottom = canvas.width - 12.0, canvas.height - 48.0
    axes = canvas.axes(40.0, 32.0, right, bottom)
    axes.grid(color=_LINE, linewidth=1)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 8, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    canvas.text(2, 10, y_label, _MUTED)
    canvas.text(right, canvas.height - 11, x_label, _MUTED, "right")
    return axes


def _histogram(samples: Sequence[Sample], x_label: str, y_label: str, narrow: bool) -> _Canvas:
    canvas = _Canvas(NARROW, 260) if narrow else _Canvas(WIDE, 320)
    axes = _frame(canvas, x_label, y_label, narrow)
    edges = shared_bins(samples, BINS // 2 if narrow else BINS)
    for sample in samples:
        shares = bin_shares(sample, edges)
        colour = _series(sample.series)
        axes.stairs(shares, edges, color=colour, alpha=0.22, fill=True)
        axes.stairs(shares, edges, color=colour, linewidth=2)
    axes.set_ylim(bottom=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.spines["bottom"].set(visible=True, color=_LINE, linewidth=1)
    return canvas


def _roc(points: Sequence[tuple[float, float]], x_label: str, y_label: str, narrow: bool) -> _Canvas:
    canvas = _Canvas(NARROW, 380) if narrow else _Canvas(WIDE, 460)
    axes = _frame(canvas, x_label, y_label, narrow)
    axes.plot([0, 100], [0, 100], color=_MUTED, lw=1, ls=(0, (4, 4)))
    axes.plot(*zip(*points, strict=True), color=_series(0), lw=2)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100.5)
    return canvas


def _scatter(clouds: Sequence[Cloud], x_label: str, y_label: str, narrow: bool) -> _Canvas:
    canvas = _Canvas(NARROW, 360) if narrow else _Canvas(WIDE, 620)
    axes = _frame(canvas, x_label, y_label, narrow)
    axes.set_aspect("equal", adjustable="datalim")
    for cloud in sorted(clouds, key=lambda each: each.series is not None):
        if cloud.points:
            colour = _MUTED if cloud.series is None else _series(cloud.series)
            marker = "." if cloud.series is None else MARKERS[cloud.series % len(MARKERS)]
            style: dict[str, Any] = {"ls": "", "marker": marker, "ms": 4 if narrow else 6, "mec": _CARD, "mew": 0.5}
            axes.plot(*zip(*cloud.points, strict=True), color=colour, alpha=0.75, **style)
    return canvas
