"""`llmbert data stats` through the real command line: figures, page, and one sentence for what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import llmbert, snapshot

from llmbert.cli import spread


def test_figures_are_printed_and_the_page_is_written(prose: Path, tmp_path: Path) -> None:
    result = llmbert("data", "stats", prose, "--lines", "--against", prose, "--out", tmp_path / "out")
    assert (result.code, result.err) == (0, "")
    for word in (
        "120 documents",
        "Zipf: exponent",
        "Heaps: exponent",
        "bits/character",
        "Jensen-Shannon, words: 0.0000",
    ):
        assert word in result.out
    assert result.out.endswith(f"{tmp_path / 'out'}/report.html\n")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert re.findall(r'<section id="figures[^"]*" aria-labelledby="[^"]*">\n<h2[^>]*>([^<]+)', page) == [
        *("The two texts", "Words", "Lengths", "Entropy", "Collocations")
    ]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*("report.html", "report.json", "statistics.json")}


def test_json_is_one_object_and_a_chinese_page_speaks_chinese(tmp_path: Path) -> None:
    lines = [f"春江潮水连海平，海上明月共潮生第{i}次。他说好吗？" for i in range(40)]
    (tmp_path / "a.txt").write_text("\n".join(lines), "utf-8")
    ask = ("data", "stats", tmp_path / "a.txt", "--lines", "--language", "zh", "--out", tmp_path / "out", "--json")
    found = llmbert(*ask).json()
    assert found["documents"] == 40 and found["tokenizer"] == "marks" and found["facts"]["chinese"]["mle"] == 1
    page = (tmp_path / "out" / "report.html").read_text("utf-8").split("</style>")[1]
    assert "词频与名次" in page and "最大似然" in page
    assert not re.search(r"\b(words|documents|likeliest|shuffled|rank)\b", re.sub(r"<[^>]*>|llmbert data.*", "", page))


def test_standard_input_and_lower_case_are_taken() -> None:
    found = llmbert("data", "stats", "-", "--lowercase", "--tokenizer=space", "--json", stdin=b"A a B\nb c C\n").json()
    assert (found["words"], found["vocabulary"]) == (6, 3)


BAD: dict[str, tuple[list[str], int, list[str]]] = {
    "missing": (["no.txt"], 1, ["no.txt does not exist"]),
    "missing against": (["good.txt", "--against", "no.txt"], 1, ["no.txt does not exist"]),
    "empty": (["empty.txt"], 1, ["empty.txt is empty"]),
    "blank": (["blank.txt"], 1, ["blank"]),
    "tokenizer": (["good.txt", "--tokenizer", "wrods"], 2, ["'wrods'", "words, space"]),
    "no run": (["good.txt", "--tokenizer", "folder"], 1, ["folder"]),
    "field": (["good.txt", "--fields", "label=x"], 2, ["--fields", "text"]),
    "two ways": (["good.txt", "--lines", "--split-on", "x"], 2, ["lines and split_on"]),
    "expression": (["good.txt", "--split-on", "("], 2, ["'('"]),
    "language": (["good.txt", "--language", "fr"], 2, ["'fr'"]),
    "twice": (["-", "--against", "-"], 2, ["standard input"]),
    "taken": (["good.txt", "--out", "folder"], 1, ["folder", "--out"]),
    "seed": (["good.txt", "--seed", "-1"], 2, ["--seed", "0"]),
    "nothing": ([], 2, ["PATH"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_one_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, code, words = BAD[case]
    (tmp_path / "good.txt").write_text("a good text\n" * 30)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    out = [] if "--out" in arguments else ["--out", "new"]
    result = llmbert("data", "stats", *arguments, *out)
    assert (result.code, result.out) == (code, "") and result.err.count("\n") == 1 and "unforeseen" not in result.err
    assert all(word in result.err for word in words), result.err
    assert snapshot(tmp_path) == before


def test_without_scipy_the_extra_is_named(prose: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    result = llmbert("data", "stats", prose)
    assert result.code == 1 and "llmbert[curate]" in result.err


def test_several_files_may_be_another_text_here_and_elsewhere_one_run_is_compared_with() -> None:
    many = spread(["data", "stats", "a.txt", "--against", "b.txt", "c.txt", "--out", "o"])
    assert many == ["data", "stats", "a.txt", "--against", "b.txt", "--against", "c.txt", "--out", "o"]
    alone = ["evaluate", "--against", "runs/b", "runs/a", "--json"]
    assert spread(alone) == alone
    assert spread(["train", "--data", "a", "b"]) == ["train", "--data", "a", "--data", "b"]
