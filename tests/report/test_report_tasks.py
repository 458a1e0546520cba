"""A page with all there is to show of tasks: safe, complete, in order, readable by everyone, in both languages."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from reading import HOSTILE, Page, written

KEYS = ("metrics", "usage", "classes", "examples")


def content() -> dict[str, Any]:
    score = {"value": 31.5, "interval": [30.0, 33.0], "unit": "", "higher_is_better": True, "signature": "tok:13a"}
    return {
        "title": "t5",
        "task": "translate",
        "metrics": [
            {"name": name, "metric": metric, **score, "baseline": {"name": "Lead-2", "value": 12.5}}
            for name in ("t5", "bart")
            for metric in ("bleu", "chrf")
        ],
        "examples": [
            {
                **{"name": "t5", "source": "A dog runs.", "text": "Ein Hund rennt.", "note": "good"},
                **{"references": ["Ein Hund läuft.", "Der Hund rennt."], "prefix": "to German: "},
            },
            {
                "name": "t5",
                "source": "他睡着了。",
                "text": "",
                "references": ["He sleeps."],
                "prefix": "",
                "note": "bad",
            },
        ],
        "examples_note": "The first two.",
        "classes": {"name": "t5", "labels": ["PER", "LOC"], "counts": [[3, 1], [0, 2]]},
        "usage": {
            **{"conversations": 1, "replies": 2, "seconds": {"median": 0.5, "p95": 1.0, "longest": 2.0}},
            **{"times": [0.5, 1.0], "thumbs": {"up": 1, "down": 1, "none": 0, "interval": [0.1, 0.9]}},
            "talks": [
                {
                    "run": "t5",
                    "turns": [
                        {"speaker": "you", "text": "Hi.", "own": False},
                        {
                            "speaker": "t5",
                            "text": "你好。",
                            "own": True,
                            "seconds": 1.0,
                            "thumb": "down",
                            "note": "why?",
                        },
                    ],
                }
            ],
            "notes": [["down", "why?", "你好。"]],
        },
        "table": [{"name": "t5", "likelihood": "conditional", "bits_per_byte": 1.5, "interval": [1.4, 1.6]}],
    }


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return written(tmp_path_factory.mktemp("page"), content())


def test_what_runs_were_trained_for_comes_before_likelihoods(english: tuple[str, Page]) -> None:
    order = [english[0].index(f'<section id="{name}"') for name in (*KEYS, "scores", "table")]
    assert order == sorted(order)
    assert re.findall(r'<li><a href="#(\w+)">', english[0]) == [*KEYS, "scores", "table"]


def test_everything_given_is_on_the_page(english: tuple[str, Page]) -> None:
    for expected in (
        *("BLEU", "chrF", "31.50", "30.00–33.00", "Lead-2", "12.50", "tok:13a", "A dog runs.", "Ein Hund läuft."),
        *("to German:", "The first two.", "PER", "75.0", "你好。", "Note: why?", "0.50 s", "50 % of 2 rated replies"),
        *("Der Hund rennt.", "He sleeps.", "nothing was written"),
    ):
        assert expected in english[1].text


def test_nothing_is_loaded_and_nothing_runs(english: tuple[str, Page]) -> None:
    source, page = english
    assert not page.all("script") and not page.all("iframe") and not page.all("img")
    assert not re.search(r"https?:|@import|url\((?!#)|//[a-z]", source)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("missing", [*KEYS, "table", "examples_note"])
def test_any_key_may_be_missing(tmp_path: Path, missing: str) -> None:
    source, page = written(tmp_path, {key: value for key, value in content().items() if key != missing})
    assert f'<section id="{missing}"' not in source and len(page.all("h1")) == 1


def test_empty_values_are_as_good_as_missing_ones(tmp_path: Path) -> None:
    for empty in (None, [], {}):
        source, _ = written(tmp_path, {"title": "x", **dict.fromkeys(KEYS, empty)})
        assert "<section" not in source


def poisoned(value: Any) -> Any:
    if isinstance(value, str):
        return value if value in ("conditional", "up", "down") else value + HOSTILE
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    return [poisoned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_text_stays_text(tmp_path: Path, language: str) -> None:
    given = content()
    given["classes"]["labels"] = [f"label_{i}" for i in range(2)]
    harmless = {name for name, _ in written(tmp_path, given, language)[1].elements}
    source, page = written(tmp_path, poisoned(content()), language)
    assert not page.all("script") and "<svg/onload" not in source
    assert not [attributes for _, attributes in page.elements if "onload" in attributes]
    assert {name for name, _ in page.elements} <= harmless
    assert page.text.count("<script>alert(1)</script>") > 15 and "{{7*7}}" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", source)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_ids_headings_and_tables_are_in_order(tmp_path: Path, language: str) -> None:
    _, page = written(tmp_path, content(), language)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h\d", name)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("th") and all(cell.get("scope") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure"))


def test_a_chinese_page_speaks_chinese(tmp_path: Path) -> None:
    _, page = written(tmp_path, content(), "zh")
    for english_only in ("higher is better", "Source", "Reference", "Output", "replies", "precision", "thumb", "label"):
        assert english_only not in page.text
    for expected in ("任务表现", "留出样例", "源文", "参考", "精确率", "完整回复用时", "带底色"):
        assert expected in page.text


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, english: tuple[str, Page]) -> None:
    assert written(tmp_path, json.loads(json.dumps(content())))[0] == english[0]


def luminance(colour: tuple[float, ...]) -> float:
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_on_every_shade_meets_the_contrast_of_wcag_aa(english: tuple[str, Page], scheme: int) -> None:
    block = [part for part in re.findall(r":root \{(.*?)\}", english[0], flags=re.DOTALL) if "--series-7" in part][
        scheme
    ]
    colours = {
        name: tuple(int(value[i : i + 2], 16) for i in (0, 2, 4))
        for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
    }
    shades = {
        name: tuple(int(part) for part in value.split())
        for name, value in re.findall(r"--(surprise|same): ([\d ]+);", block)
    }
    marks = [float(value) for value in re.findall(r"mark \{[^}]*?var\(--same\) / ([\d.]+)\)", english[0])]
    assert len(marks) == 2
    for name, most in (("same", marks[scheme]), ("same", 0.51), ("surprise", 0.5)):
        for ground in ("paper", "card"):
            under = tuple(most * s + (1 - most) * c for s, c in zip(shades[name], colours[ground], strict=True))
            assert contrast(colours["ink"], under) >= 4.5, (name, most, ground)
