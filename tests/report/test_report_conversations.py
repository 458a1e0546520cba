"""Logged conversations on the page: times and thumbs in figures, the talks that went wrong first."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import written

from llmbert.report.conversations import MOST_BINS, bins, usage_section
from llmbert.report.sheet import Sheet


def talk(*turns: tuple[str, str | None], run: str = "chat") -> dict[str, Any]:
    """Turns of a person and the run by turns, with the thumb of each."""
    return {
        "run": run,
        "turns": [
            {"speaker": "run" if i % 2 else "you", "own": bool(i % 2), "text": text, "seconds": 0.5 if i % 2 else None}
            | {"thumb": thumb, "note": "off the point" if thumb == "down" else ""}
            for i, (text, thumb) in enumerate(turns)
        ],
    }


USAGE: dict[str, Any] = {
    **{"conversations": 4, "replies": 10, "seconds": {"median": 0.4, "p95": 1.9, "longest": 6.0}},
    **{"first_seconds": {"median": 0.1, "p95": 0.3, "longest": 0.5}, "times": [0.1, 0.4, 0.4, 0.5, 1.9, 6.0]},
    "thumbs": {"up": 6, "down": 2, "none": 2, "share_up": 0.75, "interval": [0.41, 0.93]},
    "talks": [
        talk(("Hi.", None), ("Hello.", None)),
        talk(("How?", None), ("Like so.", "up")),
        talk(("Why?", None), ("Because.", "up"), ("No!", None), ("Yes!", "down")),
    ],
}


def section(usage: Any) -> Any:
    return usage_section(usage, Sheet("en"))


times = st.lists(st.floats(0, 1e300), max_size=300)


@given(times)
def test_every_time_falls_into_one_bin_of_equal_round_width(values: list[float]) -> None:
    found = bins(values)
    assert sum(count for _, _, count in found) == len(values)
    assert len(found) <= MOST_BINS
    closed = [(low, high) for low, high, _ in found if high < math.inf]
    if closed:
        width = closed[0][1]
        assert all(high - low == pytest.approx(width) for low, high in closed)
        assert float(f"{width:e}"[0]) in (1, 2, 5) and all(after[0] == before[1] for before, after in pairwise(closed))


@pytest.mark.parametrize("scale", [0.003, 1.0, 70.0])
def test_one_reply_that_hung_does_not_flatten_the_others(scale: float) -> None:
    values = [scale * (1 + i % 200) / 100 for i in range(1000)]
    calm, hung = bins(values), bins([*values, 1e6])
    assert hung[:-1] == calm[: len(hung) - 1] and hung[-1][1] == math.inf
    assert sum(count for _, _, count in hung) == 1001 and hung[-1][2] >= 1 and len(hung) > 10


def test_odd_times_are_left_out() -> None:
    assert bins([]) == [] and bins([-1.0, math.nan, math.inf]) == [] and bins([0.0] * 200 + [1e308])[-1][2] == 1
    assert sum(count for _, _, count in bins([0.0, 0.0, -5.0])) == 2


def test_the_figures_come_first() -> None:
    tiles = {tile["name"]: (tile["text"], tile["more"]) for tile in section(USAGE)["tiles"]}
    assert tiles == {
        "replies": ("10", "in 4 conversations"),
        "replies per conversation": ("2.5", ""),
        "median time to a reply": ("0.40 s", "95 % within 1.90 s · longest 6.00 s"),
        "median time to its first words": ("0.10 s", "95 % within 0.30 s · longest 0.50 s"),
    }


def test_the_share_of_thumbs_has_its_interval_and_no_rating_is_said() -> None:
    thumbs = section(USAGE)["thumbs"]
    assert thumbs["said"] == "75 % of 8 rated replies have a thumb up (95 % interval 41 % to 93 %)."
    assert [(part["key"], part["width"]) for part in thumbs["parts"]] == [
        ("up", "60.00"),
        ("down", "20.00"),
        ("none", "20.00"),
    ]
    unrated = {"thumbs": {"up": 0, "down": 0, "none": 9, "share_up": None, "interval": None}}
    assert section(unrated)["thumbs"]["said"] == "No reply was rated."


def test_talks_with_a_thumb_down_come_first_and_open() -> None:
    talks = section(USAGE)["talks"]
    assert [(each["opening"], each["summary"], each["open"]) for each in talks] == [
        ("Why?", "1 down · 1 up · 4 turns", True),
        ("How?", "1 up · 2 turns", False),
        ("Hi.", "2 turns", False),
    ]
    last = talks[0]["turns"][-1]
    assert (last["remarks"], last["note"], last["own"]) == ("0.50 s · thumb down", "Note: off the point", True)


def test_of_a_long_talk_the_page_shows_what_led_to_the_first_thumb_down() -> None:
    turns = [(f"turn {i}", "down" if i in (99, 199) else None) for i in range(300)]
    shown = section({"talks": [talk(*turns)]})["talks"][0]
    texts = [turn["text"] for turn in shown["turns"]]
    assert "turn 99" in texts and texts[-1] == "turn 101" and len(texts) == 40
    assert shown["left_out"] == "260 more turns in the log."


def test_the_median_stands_over_the_columns_where_it_belongs() -> None:
    histogram = section(USAGE | {"times": [i / 10 for i in range(100)]})["histogram"]
    median, p95 = histogram["marks"]
    end = 10.0 * float(median["left"]) / 100
    assert (median["name"], p95["text"]) == ("median", "1.90 s") and end == pytest.approx(0.4, rel=0.06)
    assert "0–0.5 s: 5" in histogram["label"]


@pytest.mark.parametrize("usage", [None, {}, {"talks": [], "times": [], "thumbs": {"up": 0, "down": 0, "none": 0}}])
def test_nothing_to_show_shows_nothing(usage: Any) -> None:
    assert section(usage) is None


def test_notes_stand_alone_where_the_talks_are_not_given(tmp_path: Path) -> None:
    notes = [["up", "nice", "Hello."], ["down", "离题", "我不知道。"]]
    _, page = written(tmp_path, {"usage": {"replies": 2, "notes": notes}})
    assert page.text.index("离题") < page.text.index("nice") and "我不知道。" in page.text


def test_the_page_in_chinese_needs_no_script_to_be_read(tmp_path: Path) -> None:
    source, page = written(tmp_path, {"usage": USAGE}, "zh")
    for expected in (
        "对话情况",
        "回复用时中位数",
        "0.40 秒",
        "8 条获评回复中 75% 为赞（95% 区间 41% 至 93%）。",
        "踩 1",
    ):
        assert expected in page.text
    assert not page.all("script") and re.search(r'role="img" aria-label="回复用时直方图', source)


def test_a_log_of_any_length_stays_below_a_megabyte(tmp_path: Path) -> None:
    talks = [talk(*[("说<&" * 3000, "down" if i % 3 else None) for i in range(80)], run=f"r{k}") for k in range(60)]
    source, page = written(
        tmp_path, {"usage": USAGE | {"talks": talks, "times": [0.1 * (i % 97) for i in range(9999)]}}
    )
    assert len(source.encode()) < 1_000_000
    assert "40 more in report.json." in page.text
