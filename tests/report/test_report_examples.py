"""Examples on the page: source, output and reference together, in the order given, equal words marked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reading import written

from llmbert.report.examples import example_section
from llmbert.report.matching import Stretch
from llmbert.report.sheet import Sheet


def example(source: str, text: str, *references: str, name: str = "mt", **more: Any) -> dict[str, Any]:
    return {"name": name, "source": source, "text": text, "references": list(references), "prefix": "", **more}


ROWS = [
    example("A dog runs.", "Ein Hund rennt.", "Ein Hund läuft."),
    example("他睡着了。", "他在睡。", "他睡着。", note="bad"),
]


def section(rows: list[dict[str, Any]], note: Any = None, share: float = 1.0) -> dict[str, Any]:
    return example_section(rows, Sheet("en", share), note)


def plain(side: dict[str, Any]) -> str:
    return "".join(part.text for part in side["parts"])


def test_examples_stay_in_the_order_given() -> None:
    groups = section(ROWS)["groups"]
    assert [plain(group["source"]) for group in groups] == ["A dog runs.", "他睡着了。"]
    assert groups[1]["source"]["lang"] == "zh-Hans"


def test_equal_words_are_marked_on_both_sides() -> None:
    groups = section(ROWS)["groups"]
    assert groups[0]["outputs"][0]["parts"] == [Stretch("Ein Hund", True), Stretch(" rennt.", False)]
    assert groups[0]["references"][0]["parts"][0] == Stretch("Ein Hund", True)
    assert [part.text for part in groups[1]["outputs"][0]["parts"] if part.shared] == ["他", "睡。"]


def test_the_nearest_reference_comes_first_and_the_others_are_folded() -> None:
    group = section([example("x", "a b c", "z", "a b d", "q", *(f"r{i}" for i in range(9)))])["groups"][0]
    assert plain(group["references"][0]) == "a b d"
    assert [plain(side) for side in group["references"][1:3]] == ["z", "q"]
    assert group["more"] == "More references: 11" and group["unshown"] == "6 more in report.json."


def test_runs_that_read_the_same_source_stand_together_with_one_reference() -> None:
    rows = [
        *(example("A dog.", text, "Ein Hund.", name=name) for name, text in (("a", "Ein Hund."), ("b", "Hund"))),
        example("A cat.", "Katze", "Eine Katze.", name="a"),
    ]
    groups = section(rows)["groups"]
    assert [[output["name"] for output in group["outputs"]] for group in groups] == [["a", "b"], ["a"]]
    assert not any(part.shared for part in groups[0]["references"][0]["parts"])  # marked for which of the two?
    assert all(any(part.shared for part in output["parts"]) for output in groups[0]["outputs"])
    assert "of an output" in section(rows)["legend"]


def test_prefixes_tell_sources_apart() -> None:
    rows = [example("A dog.", "x", prefix="to German: "), example("A dog.", "y", prefix="to French: ")]
    assert [group["source"]["prefix"] for group in section(rows)["groups"]] == ["to German: ", "to French: "]


def test_what_the_examples_are_is_said_when_the_content_says_so(tmp_path: Path) -> None:
    assert section(ROWS)["note"] == ""
    assert section(ROWS, True)["note"] == "These are the first 2 held-out examples; none was picked."
    assert section(ROWS, "Four good ones, then four bad ones.")["note"] == "Four good ones, then four bad ones."
    _, page = written(tmp_path, {"examples": ROWS, "examples_note": True}, "zh")
    assert "以下为留出数据的前 2 条" in page.text


def test_a_note_that_all_share_is_said_once_and_a_task_alone_not_at_all() -> None:
    same = section([row | {"note": "translate en-de"} for row in ROWS], True)
    assert same["note"].startswith("Translation en-de. These")
    assert [output["note"] for group in same["groups"] for output in group["outputs"]] == ["", ""]
    assert section([row | {"note": "translate"} for row in ROWS])["note"] == ""
    assert [group["outputs"][0]["note"] for group in section(ROWS)["groups"]] == ["", "bad"]


def test_nothing_written_is_said_and_a_missing_reference_leaves_two_columns(tmp_path: Path) -> None:
    source, page = written(tmp_path, {"examples": [example("A dog.", "", "Ein Hund."), example("A cat.", "Katze")]})
    assert "nothing was written" in page.text
    assert re.findall(r'class="sides (\w+)"', source) == ["three", "two"]
    bare = [{"name": "mt"}, {"name": "mt", "source": None, "text": None, "references": None, "note": None}]
    assert len(written(tmp_path, {"examples": bare})[1].all("ol")) == 1


def test_a_long_source_is_whole_but_folded(tmp_path: Path) -> None:
    dialogue = "\n".join(f"#Person{i % 2 + 1}#: That is turn {i}." for i in range(60))
    source, page = written(tmp_path, {"examples": [example(dialogue, "They talk.", "They talk a lot.")]})
    assert "That is turn 59." in page.text and "Whole text" in page.text
    assert 'class="side source long"' in source and source.count('class="whole"') == 1


def test_texts_of_any_length_leave_room_for_the_page(tmp_path: Path) -> None:
    rows = [example(f"{i} 源<文&" * 40_000, "a b <" * 40_000, "a c &" * 40_000, "d " * 40_000) for i in range(8)]
    source, page = written(tmp_path, {"examples": rows})
    assert len(source.encode()) < 1_000_000
    assert page.text.count("characters more in report.json") >= 24


def test_a_page_of_one_run_names_no_run_and_a_page_of_several_names_each(tmp_path: Path) -> None:
    _, one = written(tmp_path, {"examples": ROWS})
    _, two = written(tmp_path, {"examples": [*ROWS, example("A dog runs.", "Hund", "Ein Hund läuft.", name="other")]})
    assert "Output" in one.text and "other" not in one.text
    assert "Output" not in two.text and "other" in two.text and "mt" in two.text
