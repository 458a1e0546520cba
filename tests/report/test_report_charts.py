"""Charts as inline SVG: deterministic, in the page's colours, with no point that matters left out."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.report import charts
from llmbert.report.charts import Bar, BarAxis, ChartsMissing, Curve

BARS = [Bar("gpt", 2.1, (2.0, 2.2), 0), Bar("词袋 <$x^2$>", 2.5, None, 1)]
LINES = [("xz -9", 2.6), ("unigram", 4.0), ("uniform", 8.0)]
AXIS = BarAxis.over("bits per byte", BARS, LINES)


def bars(identity: str = "a", narrow: bool = False) -> str:
    return charts.bar_chart(BARS, LINES, AXIS, "Bars", identity, narrow)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize("narrow", [False, True])
def test_bars_carry_names_values_and_references_as_text(narrow: bool) -> None:
    shown = texts(bars(narrow=narrow))
    for expected in ("gpt", "词袋 <$x^2$>", "2.100", "2.500", "xz -9 · 2.60", "unigram · 4.00", "uniform · 8.00 →"):
        assert expected in shown
    assert ("2.000–2.200" in shown) != narrow


def test_lengths_are_in_proportion_to_values() -> None:
    boxes = re.findall(r'd="M ([\d.]+) [\d.]+ L ([\d.]+) [^"]*"[^>]*style="fill: var\(--series-(\d)\)', bars())
    lengths = {int(series): float(right) - float(left) for left, right, series in boxes}
    assert lengths[1] / lengths[0] == pytest.approx(2.5 / 2.1, rel=0.001)


def test_the_axis_holds_all_bars_but_no_reference_beyond_twice_the_longest() -> None:
    assert AXIS.limit == 4.0
    assert BarAxis.over("", [Bar("one", 1.0, (0.9, 1.4))], LINES).limit == 2.6
    assert BarAxis.over("", [Bar("nothing", 0.0)], []).limit > 0


def test_colours_are_the_pages_and_the_font_is_too() -> None:
    svg = bars() + charts.line_chart([Curve("gpt", [(1, 2), (2, 1)], [(2, 1.5)])], "tokens", "nats", "Curves", "b")
    assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)
    assert "font-family" not in svg and "<style" not in svg and "metadata" not in svg
    assert {"var(--ink)", "var(--muted)", "var(--line)", "var(--card)", "var(--series-0)"} <= set(
        re.findall(r"var\([^)]*\)", svg)
    )


def test_the_same_chart_is_the_same_bytes_and_two_charts_share_no_id() -> None:
    assert bars("a") == bars("a")
    ids = [set(re.findall(r'\bid="([^"]+)"', bars(identity))) for identity in "ab"]
    assert ids[0] and not ids[0] & ids[1]


def test_a_spike_survives_thinning_and_the_path_stays_short() -> None:
    train = [(float(i + 1), 3.0) for i in range(200_000)]
    train[77_777] = (77_778.0, 3.9)
    thin = charts.thinned(train)
    assert len(thin) <= 600 and (77_778.0, 3.9) in thin
    svg = charts.line_chart([Curve("gpt", train, [(1.0, 4.0), (200_000.0, 3.0)])], "tokens", "nats/token", "x", "c")
    assert max(path.count("L") for path in re.findall(r' d="([^"]*)"', svg)) <= 600


points = st.lists(st.tuples(st.floats(-10, 1e6), st.floats(-1e3, 1e3)), max_size=300)


@given(points, st.integers(4, 60), st.booleans())
def test_thinning_keeps_order_ends_and_extremes(
    given_points: list[tuple[float, float]], most: int, logarithmic: bool
) -> None:
    kept = sorted(point for point in given_points if point[0] > 0 or not logarithmic)
    thin = charts.thinned(given_points, most, logarithmic)
    assert len(thin) <= most and thin == sorted(thin) and set(thin) <= set(kept)
    if kept:
        assert (thin[0], thin[-1]) == (kept[0], kept[-1])
        for pick in (min, max):
            assert pick(y for _, y in thin) == pick(y for _, y in kept)


def test_x_is_logarithmic_from_two_decades_on() -> None:
    assert charts.is_logarithmic([Curve("a", [(0, 1), (10, 1), (1000, 1)])])
    assert not charts.is_logarithmic([Curve("a", [(0, 1), (11, 1), (1000, 1)])])
    assert not charts.is_logarithmic([Curve("a", [(0, 1)])])


def test_a_curve_with_no_place_on_a_logarithmic_axis_does_not_break_the_others() -> None:
    curves = [Curve("late", [(10, 3), (1e6, 2)]), Curve("start", [], [(0, 9)], 1), Curve("one", [(5, 4)], [], 2)]
    shown = texts(charts.line_chart(curves, "tokens", "nats", "x", "d"))
    assert "late" in shown and "one" in shown and "start" not in shown


@given(st.lists(st.floats(0, 300), min_size=1, max_size=25))
def test_labels_keep_their_distance_and_their_order(places: list[float]) -> None:
    moved = charts._spread(places, 17, 0, 400)
    ordered = [y for _, y in sorted(zip(places, moved, strict=True))]
    gap = min(17, 400 / max(1, len(places) - 1))
    assert all(after - before >= gap - 1e-6 for before, after in pairwise(ordered))
    assert min(moved) >= -1e-6 and max(moved) <= 400 + 1e-6


def test_labels_with_room_enough_do_not_move() -> None:
    assert charts._spread([200.0, 10.0, 100.0], 17, 0, 400) == pytest.approx([200.0, 10.0, 100.0])


def test_reference_labels_never_overlap() -> None:
    labels = [(x, "a label of some length") for x in (100, 120, 140, 500, 510, 995)]
    placed = charts._levels(labels, 1000)
    half = charts._text_width("a label of some length") / 2
    for i, (x, level) in enumerate(placed):
        assert half <= x <= 1000 - half
        assert not [1 for other, at in placed[:i] if at == level and abs(other - x) < 2 * half]


def test_long_names_keep_their_start_and_their_end() -> None:
    short = charts._shortened("gpt-with-a-very-long-name-seed-12", 120)
    assert short.startswith("gpt") and short.endswith("12") and "…" in short and charts._text_width(short) <= 120
    assert charts._shortened("gpt", 120) == "gpt"


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ChartsMissing, match=r"llmbert\[plot\]"):
        bars()
