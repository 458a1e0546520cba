"""llmbert data clean through the command line: what it writes, a dry run, and what bad requests get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import llmbert, snapshot

ENGLISH = (
    "The river rises in the hills and runs to the sea. Where it bends, people built a mill; where it is wide, a town. "
    "In spring the water is high and brown, in autumn it is low and clear. Every year the children learn to swim in it."
)
CHINESE = "春江潮水连海平,海上明月共潮生。滟滟随波千万里,何处春江无月明。江流宛转绕芳甸,月照花林皆似霰。"
FOOTER = "This mail is confidential and meant for you alone."


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    german = "Der Fluss entspringt in den Bergen und fließt ins Meer, wo die Menschen eine Mühle gebaut haben."
    texts = [f"{ENGLISH} Mail {n}.\n{FOOTER}" for n in range(12)] + [
        CHINESE,
        german,
        "too short",
        "caf\u00c3\u00a9 by the sea, 12 of them\x07",
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": "x"}) for text in texts), "utf-8")
    return path


def test_each_change_and_removal_has_its_reason(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = llmbert("data", "clean", rows, "--keep-language", "en,zh", "--out", out, "--json").json()
    assert found["removed"] == {"language": 1, "least_words": 1}
    assert found["changed"] == {"boilerplate": 12, "encoding": 1, "controls": 1}
    kept = [json.loads(line) for line in (out / "documents.jsonl").read_text("utf-8").splitlines()]
    assert [row["text"] for row in kept] == [
        *(f"{ENGLISH} Mail {n}." for n in range(12)),
        CHINESE,
        "caf\u00e9 by the sea, 12 of them",
    ]
    assert kept[0] == {"id": "rows.jsonl:1", "text": f"{ENGLISH} Mail 0.", "label": "x"}
    notes = [json.loads(line) for line in (out / "removed.jsonl").read_text("utf-8").splitlines()]
    assert notes[0] == {"id": "rows.jsonl:1", "action": "changed", "reason": "boilerplate", "lines": [FOOTER]}
    assert {"id": "rows.jsonl:14", "action": "removed", "reason": "language", "value": "de"} in notes
    assert {"id": "rows.jsonl:15", "action": "removed", "reason": "least_words", "value": 2, "limit": 5.0} in notes


def test_a_dry_run_counts_the_same_and_writes_nothing(rows: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    dry = llmbert("data", "clean", rows, "--dry-run", "--json").json()
    assert snapshot(tmp_path) == before
    wet = llmbert("data", "clean", rows, "--out", tmp_path / "out", "--json").json()
    assert {key: wet[key] for key in dry} == dry


def test_rules_and_limits_are_as_asked(rows: Path, tmp_path: Path) -> None:
    one = llmbert("data", "clean", rows, "--dry-run", "--rules", "length", "--set", "least_words=2", "--json").json()
    assert (one["removed"], one["changed"]) == ({}, {})
    two = llmbert("data", "clean", rows, "--dry-run", "--rules", "length", "--set", "least-words=30", "--json").json()
    assert two["removed"] == {"least_words": 3}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_names_the_reasons_in_both_languages(language: str, rows: Path, tmp_path: Path) -> None:
    llmbert("data", "clean", rows, "--out", tmp_path / "out", "--language", language)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    for said in ["too few words", "decoded wrongly"] if language == "en" else ["词数过少", "解码有误"]:
        assert said in page
    assert FOOTER in page


BAD: dict[str, tuple[list[str], list[str]]] = {
    "rule": (["--rules=lenght", "--dry-run"], ["'lenght'", "'length'"]),
    "limit": (["--set=least_word=3", "--dry-run"], ["'least_word'", "'least_words'"]),
    "value": (["--set=least_words=few", "--dry-run"], ["least_words", "'few'"]),
    "negative": (["--set=least_words=-1", "--dry-run"], ["least_words", "-1"]),
    "language": (["--keep-language=english", "--dry-run"], ["'english'", "en, zh"]),
    "no out": ([], ["--out", "--dry-run"]),
    "form": (["--out=kept.csv"], [".jsonl"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_and_leaves_nothing(case: str, rows: Path, tmp_path: Path) -> None:
    options, words = BAD[case]
    before = snapshot(tmp_path)
    result = llmbert("data", "clean", rows, *options)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert all(word in result.err for word in words), result.err
    assert snapshot(tmp_path) == before
