"""llmbert data dedup through the command line: what it writes, and what bad input gets."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from running import Result, llmbert, snapshot

LINES = ["The river rises in the hills.", "the river  rises in the hills.", "江水东流", "A mill stands there."]


def refused(result: Result, code: int, *words: str) -> None:
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1), result
    assert "unforeseen" not in result.err
    for word in words:
        assert word in result.err


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES) + "\n", "utf-8")
    return path


def dedup(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return llmbert("data", "dedup", *arguments, stdin=stdin)


def test_lines_stay_lines_and_the_reason_stands_beside(text: Path, tmp_path: Path) -> None:
    found = dedup(text, "--lines", "--out", tmp_path / "out", "--json").json()
    assert (found["documents"], found["kept"], found["removed"]["exact"]) == (4, 3, 1)
    assert (tmp_path / "out" / "documents.txt").read_text("utf-8").splitlines() == [LINES[0], *LINES[2:]]
    (note,) = map(json.loads, (tmp_path / "out" / "removed.jsonl").read_text("utf-8").splitlines())
    assert note == {"id": "lines.txt:2", "action": "removed", "reason": "exact", "twin": "lines.txt:1"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["documents.txt", "removed.jsonl", "report.html"]


def test_records_keep_their_fields_and_ids(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "body": "一样的话", "label": "x"},
        {"body": "另一句话", "label": None},
        {"id": "c", "body": "一样的话"},
    ]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    out = tmp_path / "kept.jsonl"
    assert dedup(path, "--fields", "text=body", "--out", out).code == 0
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == [
        {"id": 7, "text": "一样的话", "label": "x"},
        {"id": "rows.jsonl.gz:2", "text": "另一句话", "label": None},
    ]
    note = json.loads((tmp_path / "kept.removed.jsonl").read_text("utf-8"))
    assert note == {"id": "c", "place": "rows.jsonl.gz:3", "action": "removed", "reason": "exact", "twin": 7}


def test_a_table_and_standard_input_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("label\ttext\n1\tone two\n0\tone two\n", "utf-8")
    dedup(tmp_path / "t.tsv", "--out", tmp_path / "t.jsonl")
    (row,) = map(json.loads, (tmp_path / "t.jsonl").read_text("utf-8").splitlines())
    assert row == {"id": "t.tsv:2", "text": "one two", "label": "1"}
    found = dedup("-", "--lines", "--out", tmp_path / "in.txt", "--json", stdin="江水\n江水\n".encode()).json()
    assert found["kept"] == 1 and (tmp_path / "in.txt").read_text("utf-8") == "江水\n"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_shows_counts_and_twins_in_both_languages(language: str, tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(30)]
    texts = [" ".join(words), " ".join([*words, "once"]), " ".join(words)]
    (tmp_path / "t.txt").write_text("\n".join(texts), "utf-8")
    dedup(tmp_path / "t.txt", "--lines", "--out", tmp_path / "out", "--language", language)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    wanted = {
        "en": ["nearly the same", "similarity 0.9", "kept: t.txt:1"],
        "zh": ["近似重复", "相似度 0.9", "保留：t.txt:1"],
    }
    for words_ in (*wanted[language], texts[1]):
        assert words_ in page


def test_repeated_runs_write_the_same_bytes(text: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert dedup(text, "--lines", "--spans", "12", "--out", tmp_path / name).code == 0
    for file in ("documents.txt", "removed.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


BAD: dict[str, tuple[list[str], int, list[str]]] = {
    "threshold": (["--threshold=1.5"], 2, ["between 0.1 and 1", "1.5"]),
    "spans": (["--spans=3"], 2, ["at least 8 bytes", "3"]),
    "shingle": (["--shingle=0"], 2, ["at least 1 word"]),
    "fields": (["--fields=body"], 2, ["ROLE=NAME"]),
    "language": (["--language=fr"], 2, ["'fr'"]),
    "both cuts": (["--lines", "--split-on=x"], 2, ["split_on"]),
    "regular expression": (["--split-on=("], 2, ["regular expression"]),
    "form of out": (["--out=kept.csv"], 2, [".jsonl", "kept.csv"]),
    "lines out of whole files": (["--out=kept.txt"], 2, ["--lines", "kept.txt"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_and_leaves_nothing(case: str, text: Path, tmp_path: Path) -> None:
    options, code, words = BAD[case]
    out = [] if any(option.startswith("--out") for option in options) else ["--out", str(tmp_path / "out")]
    before = snapshot(tmp_path)
    refused(dedup(text, *out, *options), code, *words)
    assert snapshot(tmp_path) == before


def test_bad_data_and_names_taken_are_refused(text: Path, tmp_path: Path) -> None:
    (tmp_path / "two.jsonl").write_text('{"text": "a", "body": "b"}\n')
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": oh}\n')
    (tmp_path / "kept.jsonl").write_text("mine")
    (tmp_path / "blank.txt").write_text(" \n\n")
    before = snapshot(tmp_path)
    for verb in ("dedup", "clean"):
        refused(
            llmbert("data", verb, tmp_path / "blank.txt", "--out", tmp_path / "new" / "out"), 1, "no text was found"
        )
    refused(dedup(tmp_path / "no.txt", "--out", tmp_path / "new" / "out"), 1, "no.txt does not exist")
    refused(dedup(tmp_path / "broken.jsonl", "--out", tmp_path / "new" / "out"), 1, "broken.jsonl, line 2", "JSON")
    refused(dedup(text, "--out", tmp_path / "kept.jsonl"), 1, "there already", "--overwrite")
    refused(dedup(tmp_path / "two.jsonl", "--fields=text=body", "--out", tmp_path / "out"), 1, "two.jsonl:1", "rename")
    refused(dedup(text, "--out", tmp_path / "kept.jsonl" / "out"), 1, "kept.jsonl")
    assert snapshot(tmp_path) == before
    assert dedup(text, "--lines", "--out", tmp_path / "kept.jsonl", "--overwrite").code == 0


@pytest.mark.parametrize(("library", "mend"), [("rensa", "--no-near"), ("pydivsufsort", "--spans 0")])
def test_a_missing_library_is_named_with_its_extra(
    library: str, mend: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    before = snapshot(tmp_path)
    refused(dedup(text, "--out", tmp_path / "out", "--spans=20"), 1, library, "llmbert[curate]", mend)
    assert snapshot(tmp_path) == before
    assert dedup(text, "--lines", "--out", tmp_path / "out", "--no-near", "--spans=0").code == 0
