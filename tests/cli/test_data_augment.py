"""llmbert data augment on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from running import llmbert


def test_from_a_table_to_jsonl(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("body,class\nthe river runs to the sea,water\nthe mill stands,land\n")
    out = tmp_path / "new.jsonl"
    ask = ["data", "augment", tmp_path / "rows.csv", "--fields=text=body,label=class", "--ways=swap,crop"]
    result = llmbert(*ask, "--copies=2", "--out", out, "--json").json()
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert result["read"] == 2 and result["written"] == len(rows) == 4
    assert {row["class"] for row in rows} == {"water", "land"}
    assert {row["augmented_way"] for row in rows} == {"swap", "crop"}
    again = llmbert(*ask, "--out", out)
    assert again.code == 1 and "--overwrite" in again.err and again.err.count("\n") == 1
    said = llmbert(*ask, "--out", out, "--overwrite")
    assert said.code == 0 and "2 new texts of 2" in said.out


def test_wrong_requests_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the river runs")
    ask = ["data", "augment", tmp_path / "text.txt", "--out", tmp_path / "new.jsonl"]
    for options, word in (
        (["--ways=rhyme"], "rhyme"),
        ([], "--lexicon"),
        (["--ways=swap", "--copies=0"], "copies"),
        (["--fields=body"], "ROLE=NAME"),
    ):
        result = llmbert(*ask, *options)
        assert result.code == 2 and result.err.count("\n") == 1 and word in result.err
    assert not (tmp_path / "new.jsonl").exists()
