"""Metrics on the page: a scale for each, intervals and trivial baselines beside, nothing ranked that cannot be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import written

from llmbert.report.measures import metric_section
from llmbert.report.sheet import Sheet


def metric(name: str, metric: str, value: Any, **more: Any) -> dict[str, Any]:
    interval = [value - 1, value + 1] if isinstance(value, float) else None
    return {
        **{"name": name, "metric": metric, "value": value, "interval": interval, "unit": "", "higher_is_better": True},
        **{"signature": f"{metric}|v:1", "baseline": {"name": "copy", "value": 4.0}},
        **more,
    }


ROWS = [
    metric("small", "bleu", 30.0),
    metric("large", "bleu", 41.25),
    metric("small", "ter", 52.0, higher_is_better=False, baseline=None),
    metric("large", "ter", 47.0, higher_is_better=False, baseline=None),
    metric("large", "distinct1", 0.0421, interval=None, baseline=None),
]


def section(rows: list[dict[str, Any]], runs: list[str] | None = None, language: str = "en") -> dict[str, Any]:
    return metric_section(rows, Sheet(language), ["small", "large"] if runs is None else runs)


def shown(figure: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(row["name"], row["text"], row["interval"]) for row in figure["rows"]]


def test_a_metric_has_a_figure_of_its_own_with_the_best_first_and_the_baseline_last() -> None:
    bleu, ter, distinct = section(ROWS)["figures"]
    assert [figure["name"] for figure in (bleu, ter, distinct)] == ["BLEU", "TER", "distinct-1"]
    assert shown(bleu) == [
        ("large", "41.25", "40.25–42.25"),
        ("small", "30.00", "29.00–31.00"),
        ("Source copied", "4.00", ""),
    ]
    assert [row["name"] for row in ter["rows"]] == ["large", "small"]  # lower is better
    assert shown(distinct) == [("large", "0.042", "")]
    assert [row["best"] for row in bleu["rows"]] == [True, False, False]
    assert (bleu["direction"], ter["direction"]) == ("higher is better", "lower is better")


def test_lengths_are_in_proportion_to_values_within_a_metric() -> None:
    bleu = section(ROWS)["figures"][0]
    widths = [float(row["bar"]["width"]) for row in bleu["rows"]]
    assert widths[1] / widths[0] == pytest.approx(30 / 41.25, rel=1e-3)
    assert widths[2] / widths[0] == pytest.approx(4 / 41.25, rel=2e-3)
    whisker = bleu["rows"][0]["whisker"]
    assert float(whisker["left"]) + float(whisker["width"]) == pytest.approx(100, abs=0.02)


def sorted_values(values: list[tuple[float, float]]) -> list[float]:
    """The values in the figure's order, the baseline's after them."""
    return [*(sorted((v for v, _ in values), reverse=True) if len(values) > 1 else [values[0][0]]), 4.0]


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(0, 1e3)), min_size=1, max_size=12))
def test_every_bar_begins_at_zero_and_stays_on_its_axis(values: list[tuple[float, float]]) -> None:
    rows = [metric(f"run {i}", "m", value, interval=[value - w, value + w]) for i, (value, w) in enumerate(values)]
    figure = section(rows, [])["figures"][0]
    ends = [(float(row["bar"]["left"]), float(row["bar"]["width"])) for row in figure["rows"]]
    assert all(left >= -0.01 and width >= 0 and left + width <= 100.02 for left, width in ends)
    at_zero = [left + width * (value < 0) for (left, width), value in zip(ends, sorted_values(values), strict=True)]
    assert max(at_zero) - min(at_zero) <= 0.02


def test_baselines_of_their_own_stand_below_their_rows() -> None:
    rows = [
        metric("translate en-de", "bleu", 30.0),
        metric("summarise", "bleu", 12.0, baseline={"name": "lead-2", "value": 20.0}),
    ]
    found = section(rows, ["all-in-one"])
    assert shown(found["figures"][0]) == [
        ("Translation en-de", "30.00", "29.00–31.00"),
        ("Source copied", "4.00", ""),
        ("Summaries", "12.00", "11.00–13.00"),
        ("First two sentences", "20.00", ""),
    ]
    assert found["figures"][0]["behind"] == "No better than the trivial baseline: summarise."


def test_tasks_are_not_ranked_against_each_other() -> None:
    rows = [metric("translate en-fr", "bleu", 20.0), metric("translate en-de", "bleu", 40.0)]
    figure = section(rows, ["all-in-one"])["figures"][0]
    assert [row["name"] for row in figure["rows"]] == ["Translation en-fr", "Translation en-de", "Source copied"]
    assert not any(row["best"] for row in figure["rows"])
    apart = section([row | {"name": "all-in-one", "task": row["name"]} for row in rows])["figures"]
    assert [(figure["name"], figure["task"]) for figure in apart] == [
        ("BLEU", "Translation en-fr"),
        ("BLEU", "Translation en-de"),
    ]


@pytest.mark.parametrize("value", [50.0, 20.0])
def test_what_was_measured_otherwise_than_most_is_shown_but_not_ranked(value: float) -> None:
    rows = [metric("bert", "bleu", value, signature="20 texts"), *(metric(*each) for each in (
        ("small", "bleu", 30.0), ("large", "bleu", 40.0),
    ))]  # fmt: skip
    figure = section(rows, ["bert", "small", "large"])["figures"][0]
    assert [row["name"] for row in figure["rows"]] == ["large", "small", "bert", "Source copied"]
    assert [row["best"] for row in figure["rows"]] == [True, False, False, False]
    assert figure["left_out"].endswith("so not ranked: bert.")


def test_without_a_direction_nothing_is_best_or_behind() -> None:
    rows = [metric(name, "odd", value, higher_is_better=None) for name, value in (("a", 1.0), ("b", 2.0))]
    figure = section(rows, [])["figures"][0]
    assert not any(row["best"] for row in figure["rows"]) and not figure["behind"] and not figure["direction"]


def test_what_was_not_measured_is_said_and_never_best() -> None:
    rows = [metric("a", "bleu", math.nan, interval=[math.nan, 2]), metric("b", "bleu", None), metric("c", "bleu", 3.0)]
    figure = section(rows, [])["figures"][0]
    assert shown(figure)[:3] == [("c", "3.00", "2.00–4.00"), ("a", "", ""), ("b", "", "")]
    assert figure["rows"][0]["best"] and figure["rows"][1]["bar"] is None
    assert not any(row["best"] for row in section([rows[0], rows[1]], [])["figures"][0]["rows"])


def test_several_runs_and_metrics_also_stand_side_by_side() -> None:
    table = section(ROWS)["table"]
    assert table["columns"] == ["BLEU", "TER", "distinct-1"]
    assert [[cell["text"] for cell in row["cells"]] for row in table["rows"]] == [
        ["41.25", "47.00", "0.042"],
        ["30.00", "52.00", ""],
        ["4.00", "", ""],
    ]
    assert section(ROWS[:2])["table"] is None and section([ROWS[1], ROWS[3]])["table"] is None


def test_signatures_name_the_runs_only_where_they_differ() -> None:
    rows = [metric("a", "bleu", 1.0), metric("b", "bleu", 2.0), metric("a", "ter", 1.0, signature="x")]
    assert section(rows)["signatures"] == [("BLEU", "bleu|v:1"), ("TER", "x")]
    rows[1]["signature"] = "bleu|tok:zh"
    assert section(rows)["signatures"][:2] == [("BLEU · a", "bleu|v:1"), ("BLEU · b", "bleu|tok:zh")]


def test_per_cent_is_written_as_each_language_does() -> None:
    rows = [metric("a", "accuracy", 93.456, unit="%")]
    assert shown(section(rows)["figures"][0])[0][1] == "93.46 %"
    chinese = section(rows, language="zh")["figures"][0]
    assert (chinese["name"], chinese["rows"][0]["text"]) == ("准确率", "93.46%")


def test_the_page_shows_values_intervals_and_signatures_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    source, page = written(tmp_path, {"metrics": ROWS})
    for expected in ("BLEU", "41.25", "40.25–42.25", "Source copied", "lower is better", "(best measured)", "ter|v:1"):
        assert expected in page.text
    assert source.count('class="bar') == 6 and "pip install" not in page.text


def real(name: str, value: float, baseline: float = 0.7, **more: Any) -> dict[str, Any]:
    known = {"interval": None, "higher_is_better": None, "closest": True}
    return metric(name, "distinct2", value, **known, baseline={"name": "held-out", "value": baseline}, **more)


def test_what_should_be_like_real_text_is_best_nearest_to_it_and_noise_is_not() -> None:
    rows = [real("noise", 0.99), real("near", 0.68), real("far", 0.4)]
    figure = section(rows, ["noise", "near", "far"])["figures"][0]
    assert [row["name"] for row in figure["rows"]] == ["near", "noise", "far", "Real text, held out"]
    assert [row["best"] for row in figure["rows"]] == [True, False, False, False]
    assert figure["direction"] == "closest to real text is best" and not figure["behind"]
    note = section(rows, ["noise", "near", "far"])["note"]
    assert "Grey bars are real text" in note and "trivial" not in note and "no intervals were measured" in note


def test_one_baseline_that_differs_bears_the_name_of_its_row() -> None:
    rows = [real("a", 0.6), real("b", 0.65), real("few", 0.9, baseline=0.95)]
    figure = section(rows, ["a", "b", "few"])["figures"][0]
    names = ["b", "few", "Real text, held out · few", "a", "Real text, held out"]
    assert [row["name"] for row in figure["rows"]] == names


def test_equal_values_are_equally_good_and_none_is_best_where_all_are() -> None:
    names = ["a", "b", "c"]
    rows = [metric(name, "bleu", value) for name, value in zip(names, (2.0, 2.0, 1.0), strict=True)]
    assert [row["best"] for row in section(rows, names)["figures"][0]["rows"]] == [True, True, False, False]
    assert not any(row["best"] for row in section(rows[:2], names)["figures"][0]["rows"])


def test_evidence_stands_behind_the_table_what_is_written_apart_from_what_it_takes(tmp_path: Path) -> None:
    plain = {"higher_is_better": False, "baseline": None, "interval": None}
    rows = [metric(name, "peak_memory", 929.349632, unit="MB", **plain) for name in ("a", "b")]
    rows += [real("a", 0.6), real("b", 0.8)]
    table = [{"name": name, "family": name, "likelihood": "exact", "bits_per_byte": 2.0} for name in ("a", "b")]
    source, page = written(tmp_path, {"evidence": rows, "table": table, "advice": ["Ship a.", "Or b."]})
    places = [source.index(f'id="{name}"') for name in ("table", "evidence", "advice")]
    assert places == sorted(places) and 'id="metrics"' not in source
    text = page.text
    assert text.index("Texts drawn from nothing") < text.index("Time, memory and disk") < text.index("Or b.")
    assert "929.3 MB" in text and "Noise has the most" in text


def test_mixtures_show_their_weights(tmp_path: Path) -> None:
    mixture = {"name": "m", "told": "Added by weight.", "members": [["ngram", 0.25, 3.5], ["gpt", 0.75, 3.25]]}
    _, page = written(tmp_path, {"mixtures": [mixture | {"ways": [["gate", 3.0], ["linear", 3.125]]}]})
    for expected in ("Added by weight.", "ngram 0.250 3.500", "gpt 0.750 3.250", "gate 3.000", "linear 3.125"):
        assert expected in page.text
