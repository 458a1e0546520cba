"""The sections on documents: what is drawn, what is counted, and what is left out on a page cut short."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import HOSTILE, Page

from llmbert.report import write_report
from llmbert.report.clouds import BINS, Sample, bin_shares, shared_bins

values = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=50)


@settings(max_examples=50, deadline=None)
@given(first=values, second=values)
def test_every_value_stands_in_a_bin(first: list[float], second: list[float]) -> None:
    samples = [Sample("a", first), Sample("b", second)]
    edges = shared_bins(samples)
    assert len(edges) == BINS + 1 and edges == sorted(edges) and edges[0] < edges[-1]
    for sample in samples:
        assert sum(bin_shares(sample, edges)) == pytest.approx(100)


def page(tmp_path: Path, content: dict, language: str = "en") -> str:  # type: ignore[type-arg]
    write_report(tmp_path / "page.html", content, language)
    return (tmp_path / "page.html").read_text("utf-8")


def detection(count: int = 30) -> dict:  # type: ignore[type-arg]
    return {
        "unit": "nats/token",
        "groups": [
            {"name": "belongs", "values": [i / 10 for i in range(count)]},
            {"name": "other", "values": [4 + i / 10 for i in range(count)] + [math.inf, None]},
        ],
        "roc": [[0, 0], [0.1, 0.9], [1, 1]],
        "oddest": [["x.txt:1", 9.5, "<b>odd</b> text", True], ["y.txt:2", math.inf, "plain", False]],
    }


def test_scores_of_documents(tmp_path: Path) -> None:
    shown = page(tmp_path, {"detection": detection()})
    assert shown.count("<svg") == 4, "histogram and ROC curve, each wide and narrow"
    assert (
        "&lt;b&gt;odd&lt;/b&gt; text" in shown
        and "does not belong" in shown
        and "9.500" in shown
        and "nats/token" in shown
    )
    assert "guessing gives" in shown and "other 30" in shown, "what is not finite is not drawn"
    chinese = page(tmp_path, {"detection": detection()}, "zh")
    assert "文档的异常程度" in chinese and "误报率与检出率" in chinese


def test_a_map_gives_eight_labels_a_colour_and_counts_the_rest_together(tmp_path: Path) -> None:
    points = [[i % 7, i / 3, f"label {min(i % 13, 9)}", "text"] for i in range(130)]
    shown = page(tmp_path, {"map": {"points": points}})
    assert shown.count("<svg") == 2
    assert "3 other labels" in shown and "label 9" in shown
    assert ">40<" in shown, "the most frequent label has four thirteenths"
    few = page(tmp_path, {"map": {"points": [[0, 1, "", "a"], [1, 0, "", "b"]]}})
    assert 'class="legend"' not in few.split("</style>")[1]


def test_a_map_of_many_texts_is_thinned_and_says_so(tmp_path: Path) -> None:
    points = [[math.sin(i), math.cos(i * i), str(i % 3), "text"] for i in range(9000)]
    shown = page(tmp_path, {"map": {"points": points}})
    assert len(shown.encode()) < 1_000_000 and "1,200 of 9,000 are drawn." in shown


def test_without_matplotlib_the_oddest_stand_there_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    shown = page(tmp_path, {"detection": detection(), "map": {"points": [[0, 1, "a", "x"], [1, 0, "b", "y"]]}})
    assert "<svg" not in shown and "odd&lt;/b&gt; text" in shown and "pip install" in shown


def test_removals_are_counted_told_and_shown_side_by_side(tmp_path: Path) -> None:
    given_ = {
        "method": ["How it was told."],
        "rows": [["left out", "12 (3.00%)"]],
        "examples": [{"reason": "similarity 0.91", "texts": [["a.txt:2", HOSTILE], ["kept: a.txt:1", "保留的文本"]]}],
    }
    for language, heading in (("en", "What was left out or changed"), ("zh", "剔除与改动")):
        shown = page(tmp_path, {"removals": given_}, language)
        parsed = Page(shown)
        assert not any("onload" in attributes for _, attributes in parsed.elements)
        for said in (heading, "How it was told.", "12 (3.00%)", "similarity 0.91", "kept: a.txt:1", "alert(1)"):
            assert said in parsed.text
        assert 'lang="zh-Hans">保留的文本' in shown
    assert "20 more" in Page(page(tmp_path, {"removals": given_ | {"examples": given_["examples"] * 80}})).text
    assert 'id="removals"' not in page(tmp_path, {})
