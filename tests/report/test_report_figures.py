"""Figures of any kind: what is given is drawn, what has no place on an axis is not, and numbers stand as tables too."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import HOSTILE, Page, written

from llmbert.report.figures.draw import Scales, Series, placed, series_chart

CURVE = [[float(i), 1000.0 / i] for i in range(1, 200)]
FIGURES: list[dict[str, Any]] = [
    {
        **{"title": "Rank and frequency", "group": "Words", "kind": "points", "x_log": True, "y_log": True},
        **{"x_label": "rank", "y_label": "times", "note": "The line is Zipf's law."},
        "series": [
            {"name": "words", "points": CURVE},
            {"name": "law", "points": [[1, 900], [199, 5]], "style": "dashed", "of": "words"},
            {"name": "shuffled", "points": [[1, 10], [199, 9]], "style": "line", "muted": True},
        ],
    },
    {
        **{"title": "Growth", "group": "Words", "kind": "lines", "x_label": "words", "y_label": "different words"},
        "series": [{"name": "seen", "points": [[1, 1], [2, 3], [4, 4]], "band": [[1, 0.5, 2], [2, 2, 5], [4, 3, 6]]}],
    },
    {
        **{"title": "Lengths", "group": "Documents", "kind": "steps", "x_label": "words", "y_label": "share"},
        "series": [{"name": "documents", "points": [[0, 0.2], [10, 0.7], [20, 0.1], [30, 0.1]]}],
    },
    {
        **{"title": "Divergence", "group": "Documents", "kind": "bars", "y_label": "bits"},
        "bars": [
            {"name": "words", "value": 0.25, "interval": [0.2, 0.3]},
            {"name": "halves of one", "value": 0.05, "interval": None, "muted": True},
        ],
        "table": [["what", "bits"], ["words", 0.25], ["halves of one", 0.05]],
    },
    {"title": "Pairs of words", "group": "Documents", "table": [["pair", "PMI", "times"], ["New York", 8.25, 1234]]},
]


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return written(tmp_path_factory.mktemp("page"), {"figures": FIGURES})


def test_every_group_is_a_section_that_the_contents_lead_to(english: tuple[str, Page]) -> None:
    source, page = english
    assert re.findall(r'<section id="([^"]+)"', source) == ["figures", "figures-1"]
    assert re.findall(r'<a href="#([^"]+)">([^<]+)</a>', source) == [("figures", "Words"), ("figures-1", "Documents")]
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h\d", name)]
    assert levels == [1, 2, 3, 3, 2, 3, 3, 3] and all(after - before <= 1 for before, after in pairwise(levels))


def test_each_chart_has_a_wide_and_a_narrow_form_that_say_what_they_show(english: tuple[str, Page]) -> None:
    source, page = english
    charts = page.all("svg")
    assert [chart["viewbox"] for chart in charts] == ["0 0 1000 380", "0 0 380 280"] * 3
    assert "Chart of times over rank: words (1.00, 1,000) to (199, 5.03); law" in str(charts[0]["aria-label"])
    assert not re.search(r"#[0-9a-f]{6}\b", source.split("</style>")[1]), "colours are the page's own"
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_a_legend_names_several_series_in_their_colours(english: tuple[str, Page]) -> None:
    legend = re.findall(r'<li><span class="chip ([^"]+)"[^>]*>(.)</span><bdi>([^<]+)', english[0])
    assert legend == [("series-0", "●", "words"), ("series-0", "╍", "law"), ("muted", "━", "shuffled")]


def test_numbers_stand_as_a_table_below(english: tuple[str, Page]) -> None:
    text = english[1].text
    assert "law 1.000 900.0 law 199.0 5.000" in text, "some points of each series where no table is given"
    assert "seen 2.000 3.000 2.000 to 5.000" in text, "with their intervals"
    assert "what bits words 0.2500" in text and "New York 8.250 1,234" in text
    assert english[0].count("<details>") == 4, "a table alone is open"


def test_bars_begin_at_zero_with_their_intervals(english: tuple[str, Page]) -> None:
    widths = [float(width) for width in re.findall(r'class="bar[^"]*" style="left:[^"]*width:([\d.]+)%"', english[0])]
    assert widths[1] / widths[0] == pytest.approx(0.2, abs=0.001)
    assert english[0].count('class="whisker"') == 1 and "0.200–0.300" in english[1].text
    assert 'class="bar grey"' in english[0]


def test_a_chinese_page_has_no_english_of_ours(tmp_path: Path) -> None:
    _, page = written(tmp_path, {"figures": [FIGURES[0] | {"group": ""}]}, "zh")
    assert (
        "图表" in page.text
        and "图中数据" in page.text
        and "times随rank变化的图" in str(page.all("svg")[0]["aria-label"])
    )
    assert "figures" not in page.text.lower()


def test_without_matplotlib_tables_and_bars_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    source, page = written(tmp_path, {"figures": FIGURES})
    assert "<svg" not in source and page.text.count("pip install") == 1
    assert "law 199.0 5.000" in page.text and "New York" in page.text and 'class="bar grey"' in source
    assert source.count("<details>") == 1, "only the bars have more than their table"


def test_what_is_not_finite_or_has_no_place_is_not_drawn(tmp_path: Path) -> None:
    odd = [[0, 1], [-1, 2], [1, 0], [None, 1], [2, math.nan], [3, math.inf], [4, 5.0], [6, 7.0]]
    figure = {
        "title": "odd",
        "x_log": True,
        "y_log": True,
        "series": [{"name": "a", "points": odd, "band": [[4, 0, 6]]}],
    }
    source, page = written(tmp_path, {"figures": [figure, {"title": "bare", "series": [{"points": [[None, 1]]}]}]})
    assert "a (4.00, 5.00) to (6.00, 7.00)" in str(page.all("svg")[0]["aria-label"])
    assert "NaN" not in page.text and "bare" not in page.text and source.count("<figure>") == 1


numbers = st.floats(-1e9, 1e9)


@given(
    st.lists(st.tuples(numbers, numbers), max_size=400),
    st.sampled_from(["line", "dashed", "points", "steps"]),
    st.integers(4, 60),
    st.booleans(),
    st.booleans(),
)
def test_few_points_stay_and_only_those_the_axes_hold(
    points: list[tuple[float, float]], style: str, most: int, x_log: bool, y_log: bool
) -> None:
    scales = Scales("x", "y", x_log, y_log)
    kept = placed(Series("a", points, [(x, y, y + 1) for x, y in points], style), scales, most)
    assert len(kept.points) <= most and len(kept.band) <= most
    assert set(kept.points) <= {point for point in points if scales.holds(*point)}
    assert all(scales.holds(x, high) and (low > 0 or not y_log or high > 0) for x, low, high in kept.band)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("points", [[(5.0, 5.0)], [(1e-9, 1e12), (1.0, 1.0)], [(2.0, 3.0), (2.0, 3.0)], []])
def test_any_points_make_a_chart(points: list[tuple[float, float]], logarithmic: bool) -> None:
    for style in ("line", "points", "steps"):
        some = [Series("a", points, [(x, y / 2, y * 2) for x, y in points], style)]
        svg = series_chart(some, Scales("x", "y", logarithmic, logarithmic), "label", "i", narrow=True)
        assert svg.startswith("<svg") and "nan" not in svg


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key in ("kind", "style", "of") else poisoned(item) for key, item in value.items()}
        return (
            [poisoned(i) for i in value]
            if isinstance(value, list)
            else value + HOSTILE
            if isinstance(value, str)
            else value
        )

    source, page = written(tmp_path, {"figures": poisoned(FIGURES)})
    assert not page.all("script") and "<svg/onload" not in source and "<script>alert(1)</script>" in page.text


def test_the_same_figures_are_the_same_bytes(tmp_path: Path, english: tuple[str, Page]) -> None:
    assert written(tmp_path, json.loads(json.dumps({"figures": FIGURES})))[0] == english[0]


def test_however_much_is_given_the_page_stays_below_a_megabyte_and_says_what_it_cut(tmp_path: Path) -> None:
    many = [[i, (i * 7919) % 1000] for i in range(1, 5000)]
    figure = {"kind": "points", "series": [{"name": f"s{i}", "points": many} for i in range(9)]}
    figures = [figure | {"title": f"figure {i}", "table": [["a", "b"], *([["值<" * 50, i]] * 500)]} for i in range(8)]
    source, page = written(tmp_path, {"figures": figures})
    assert len(source.encode()) < 1_000_000 and "more in report.json" in page.text
