"""Labels on the page: a shaded matrix of few, the worst confusions of many, the figures of each."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import written

from llmbert.metrics.labels import score_labels
from llmbert.report.classes import class_sections, label_figures
from llmbert.report.sheet import Sheet

FEW = {"labels": ["体育", "财经", "科技"], "counts": [[8, 2, 0], [1, 9, 0], [0, 0, 0]]}


def section(given: Any) -> list[dict[str, Any]]:
    return class_sections(given, Sheet("en"))


def many(size: int) -> dict[str, Any]:
    counts = [[100 if i == j else 0 for j in range(size)] for i in range(size)]
    counts[3][7], counts[5][2] = 40, 60
    return {"labels": [f"label_{i}" for i in range(size)], "counts": counts}


labels = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)


@given(labels, labels)
def test_figures_of_a_matrix_are_those_of_the_metrics(predicted: list[str], true: list[str]) -> None:
    size = min(len(predicted), len(true))
    predicted, true = predicted[:size], true[:size]
    names = sorted({*predicted, *true})
    counts = [[sum(t == a and p == b for t, p in zip(true, predicted, strict=True)) for b in names] for a in names]
    expected = score_labels(predicted, true, resamples=2)["macro-f1"]["by_class"]
    found = label_figures(names, counts)
    assert found.keys() == expected.keys()
    for name in names:
        assert found[name] == pytest.approx(expected[name])


def test_a_cell_is_shaded_by_its_share_of_the_true_label_and_mistakes_show() -> None:
    rows = section(FEW)[0]["matrix"]["rows"]
    assert [[cell["text"] for cell in row["cells"]] for row in rows] == [["8", "2", ""], ["1", "9", ""], ["", "", ""]]
    shades = [[float(cell["shade"]) for cell in row["cells"]] for row in rows]
    assert shades[0][0] < shades[1][1] and shades[1][0] < shades[0][1]
    assert max(max(row) for row in shades) <= 0.51  # text on it stays legible
    assert rows[0]["cells"][1]["title"] == "体育 taken for 财经: 2 (20 %)"


def test_more_labels_than_a_matrix_holds_are_the_worst_confusions_and_a_folded_table() -> None:
    assert section(many(20))[0]["matrix"] and not section(many(20))[0]["confusions"]
    part = section(many(21))[0]
    assert part["matrix"] is None and part["folded"]
    assert [(pair["true"], pair["predicted"], pair["count"], pair["share"]) for pair in part["confusions"]] == [
        ("label_5", "label_2", "60", "38 %"),
        ("label_3", "label_7", "40", "29 %"),
    ]
    assert [row["figures"]["f1"] for row in part["rows"][:5]] == ["76.9", "76.9", "83.3", "83.3", "100.0"]


def test_figures_given_stand_in_place_of_those_of_the_matrix() -> None:
    spans = {"PER": {"precision": 91.25, "recall": 80.0, "f1": 85.25, "true": 1200, "predicted": 1000}}
    part = section({"by_class": spans})[0]
    assert part["matrix"] is None and part["rows"][0]["figures"]["precision"] == "91.2"
    assert part["rows"][0]["figures"]["true"] == "1,200"
    assert [key for key, _ in section({"by_class": {"A": {"f1": 1.0}}})[0]["columns"]] == ["f1"]


@pytest.mark.parametrize(
    "given", [None, {}, [], {"labels": ["a"]}, {"counts": []}, [{"labels": [], "counts": []}], {"by_class": {}}]
)
def test_nothing_to_show_shows_nothing(tmp_path: Path, given: Any) -> None:
    assert section(given) == []
    assert '<section id="classes"' not in written(tmp_path, {"classes": given, "title": "x"})[0]


def test_a_ragged_matrix_is_filled_with_nothing() -> None:
    part = section({"labels": ["a"], "counts": [[1, None], [math.nan, 2, -3], "x"]})[0]
    assert part["matrix"]["labels"] == ["a", "#2", "#3"]
    assert [[cell["text"] for cell in row["cells"]] for row in part["matrix"]["rows"]] == [
        ["1", "", ""],
        ["", "2", ""],
        ["", "", ""],
    ]


def test_the_page_holds_matrix_and_table_and_can_be_read_aloud(tmp_path: Path) -> None:
    source, page = written(tmp_path, {"classes": [FEW | {"name": "a"}, many(30) | {"name": "b"}]}, "zh")
    for expected in ("体育", "真实标签", "精确率", "80.0", "最常见的混淆", "全部 30 个标签"):
        assert expected in page.text
    assert all(cell.get("scope") for cell in page.all("th"))
    assert "label_<wbr>5" in source and "label_5" in re.sub("<wbr>", "", source)


def test_labels_beyond_all_bounds_stay_below_a_megabyte(tmp_path: Path) -> None:
    size = 400
    counts = [[(i * 7 + j) % 13 for j in range(size)] for i in range(size)]
    source, _ = written(tmp_path, {"classes": {"labels": ["标签<" * 300 for _ in range(size)], "counts": counts}})
    assert len(source.encode()) < 1_000_000
