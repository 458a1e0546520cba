"""llmbert data scrub: what it writes, what it refuses, and that no raw value is anywhere but in what was given."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from running import Result, llmbert, snapshot

import llmbert as package
from llmbert.protocols import LLMBertError

pytest.importorskip("phonenumbers", reason="the extra privacy is not installed")

RAW = [
    *("joe.bloggs@example.org", "138-1234-5678", "13812345678", "4111111111111111", "11010519491231002X"),
    *("192.168.7.9", "GB82WEST12345698765432", "(212) 555-0123"),
]
KEYED = {"hash": ["--how=hash"], "pseudonym": ["--how=pseudonym"], "mask": []}


def scrub(*arguments: str | Path) -> Result:
    return llmbert("data", "scrub", *arguments)


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("llmbert: ")
    assert result.err.count("\n") == 1
    assert "unforeseen" not in result.err
    for word in words:
        assert word in result.err


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with a file of each form, each holding every raw value, and one named after a person's mail."""
    folder = tmp_path / "given"
    (folder / "in").mkdir(parents=True)
    every = ", ".join(RAW)
    (folder / "notes.txt").write_bytes(f"First {every}.\r\n\r\n  Then {RAW[0]}\r\nno end {RAW[1]}".encode())
    (folder / "in" / f"{RAW[0]}.txt").write_text(f"病人电话{RAW[2]}。\n")
    rows = [{"id": 1, "text": every, "tags": ["a"], "other": None}, {"id": 2, "text": ""}, {"id": 3, "text": "nothing"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "list.json").write_text(json.dumps(rows))
    with gzip.open(folder / "packed.txt.gz", "wt") as packed:
        packed.write(every)
    with (folder / "table.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["id", "text"], ["1", every], ["2", "nothing"]])
    return folder


def all_text(folder: Path, result: Result) -> str:
    files = snapshot(folder)
    return result.out + result.err + "".join(files) + "".join((c or b"").decode() for c in files.values())


@pytest.mark.parametrize("how", KEYED)
@pytest.mark.parametrize("options", [[], ["--lines"], ["--lines", "--json"], ["--language=zh"]])
def test_no_raw_value_is_written_or_said(how: str, options: list[str], given: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    out = tmp_path / "out"
    out.mkdir()
    result = scrub(given, "--out", out, *KEYED[how], "--key", tmp_path / "key", *options)
    assert result.code == 0, result
    written = all_text(out, result)
    for raw in RAW:
        assert raw not in written
    assert "0123456789abcdef" not in written


def test_text_stays_as_it_is_but_for_finds(given: Path, tmp_path: Path) -> None:
    assert scrub(given / "notes.txt", "--out", tmp_path / "n.txt").code == 0
    masks = "[MAIL], [PHONE], [PHONE], [CARD], [ID], [IP], [IBAN], [PHONE]"
    assert (tmp_path / "n.txt").read_bytes().decode() == f"First {masks}.\r\n\r\n  Then [MAIL]\r\nno end [PHONE]"
    report = tmp_path / "n.txt.report"
    assert {path.name for path in report.iterdir()} == {"documents.jsonl", "report.html", "report.json"}
    row = '{"id": "notes.txt", "finds": {"iban": 1, "id": 1, "card": 1, "mail": 2, "ip": 1, "phone": 4}}\n'
    assert (report / "documents.jsonl").read_text() == row


def test_lines_are_documents_and_blank_ones_stay(given: Path, tmp_path: Path) -> None:
    found = scrub(given / "notes.txt", "--out", tmp_path / "o", "--lines", "--json").json()
    assert (found["documents"], found["found_in"], found["kinds"]["mail"]) == (3, 3, 2)
    ids = [json.loads(line)["id"] for line in (tmp_path / "o" / "documents.jsonl").read_text().splitlines()]
    assert ids == ["notes.txt:1", "notes.txt:3", "notes.txt:4"]
    assert (tmp_path / "o/data/notes.txt").read_text().count("\n") == 3


def test_records_keep_their_other_fields_and_their_order(given: Path, tmp_path: Path) -> None:
    masks = "[MAIL], [PHONE], [PHONE], [CARD], [ID], [IP], [IBAN], [PHONE]"
    for name in ("rows.jsonl", "list.json"):
        assert scrub(given / name, "--out", tmp_path / f"{name}.out.jsonl").code == 0
        rows = [json.loads(line) for line in (tmp_path / f"{name}.out.jsonl").read_text().splitlines()]
        assert rows == [
            {"id": 1, "text": masks, "tags": ["a"], "other": None},
            {"id": 2, "text": ""},
            {"id": 3, "text": "nothing"},
        ]
    assert scrub(given / "table.csv", "--out", tmp_path / "t.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert rows == [{"id": "1", "text": masks}, {"id": "2", "text": "nothing"}]


def test_fields_that_were_left_are_said_and_a_star_takes_them_all(tmp_path: Path) -> None:
    row = {"text": "x", "tel": 13812345678, "who": {"mail": ["joe@example.org"]}, "ok": True, "n": 7}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    found = scrub(tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl", "--json").json()
    assert found["left"] == ["tel", "who", "ok", "n"]
    assert json.loads((tmp_path / "b.jsonl").read_text()) == row
    assert scrub(tmp_path / "a.jsonl", "--out", tmp_path / "c.jsonl", "--fields", "text=*").code == 0
    made = json.loads((tmp_path / "c.jsonl").read_text())
    assert made == {"text": "x", "tel": "[PHONE]", "who": {"mail": ["[MAIL]"]}, "ok": True, "n": 7}


def test_plain_strings_stay_plain_and_standard_input_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"joe@example.org"\n')
    assert scrub(tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl").code == 0
    assert (tmp_path / "b.jsonl").read_text() == '"[MAIL]"\n'
    result = llmbert("data", "scrub", "-", "--out", tmp_path / "c.txt", stdin=b"joe@example.org")
    assert result.code == 0
    assert (tmp_path / "c.txt").read_text() == "[MAIL]"


def test_the_same_key_links_two_files_and_another_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("138 1234 5678")
    (tmp_path / "b.txt").write_text("电话１３８１２３４５６７８")
    monkeypatch.setenv("LLMBERT_SCRUB_KEY", "0123456789abcdef")
    for name in "ab":
        assert scrub(tmp_path / f"{name}.txt", "--how=hash", "--out", tmp_path / f"{name}2.txt").code == 0
    one, two = ((tmp_path / f"{name}2.txt").read_text() for name in "ab")
    assert two == f"电话{one}"
    monkeypatch.setenv("LLMBERT_SCRUB_KEY", "0123456789abcdeX")
    assert scrub(tmp_path / "a.txt", "--how=hash", "--out", tmp_path / "a3.txt").code == 0
    assert (tmp_path / "a3.txt").read_text() != one


def test_a_long_line_goes_through_in_pieces(tmp_path: Path) -> None:
    filling = "水" * 900_000
    (tmp_path / "a.txt").write_text(f"{filling}13812345678{filling}joe@example.org\nx\njoe@example.org\n")
    found = scrub(tmp_path / "a.txt", "--out", tmp_path / "b.txt", "--lines", "--json").json()
    assert (tmp_path / "b.txt").read_text() == f"{filling}[PHONE]{filling}[MAIL]\nx\n[MAIL]\n"
    assert (found["documents"], found["found_in"]) == (3, 2)


# ---- names ---------------------------------------------------------------------------------------------------------


def test_names_are_found_by_a_callable(tmp_path: Path) -> None:
    def names(text: str) -> Sequence[tuple[int, int]]:
        return [(at, at + 3) for at in range(len(text)) if text.startswith("Ann", at)]

    (tmp_path / "a.txt").write_text("Ann, ann@example.org, saw Ann.\n")
    found = package.scrub(tmp_path / "a.txt", tmp_path / "b.txt", names=names)
    assert (tmp_path / "b.txt").read_text() == "[NAME], [MAIL], saw [NAME].\n"
    assert found["kinds"]["name"] == 2


def tagging(folder: Path, kind: str, steps: int) -> Path:
    """A run that tags the word after "by" as a span of that kind."""
    names, draw = ["Qavor", "Zimel", "Tovex"], random.Random(0)
    rows = [
        {"tokens": ["seen", "by", draw.choice(names), "."], "tags": ["O", "O", f"B-{kind}", "O"]} for _ in range(60)
    ]
    (folder / "tagged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = {"layers": 1, "width": 16, "heads": 2, "batch": 8, "learning_rate": 0.02, "dropout": 0.0, "steps": steps}
    data = folder / "tagged.jsonl"
    return package.fine_tune("tag", data, folder / kind, valid=data, tokenizer="words", settings=tiny).folder


def test_names_are_found_by_a_run_that_tags_persons(tmp_path: Path) -> None:
    run = tagging(tmp_path, "PER", 100)
    (tmp_path / "a.txt").write_text("seen by Zimel . seen by Tovex .\n")
    result = scrub(tmp_path / "a.txt", "--out", tmp_path / "b.txt", "--names", run, "--lines", "--json")
    assert (tmp_path / "b.txt").read_text() == "seen by [NAME] . seen by [NAME] .\n"
    assert result.json()["kinds"]["name"] == 2


def test_names_take_a_run_that_tags_persons(tmp_path: Path) -> None:
    places = tagging(tmp_path, "LOC", 1)
    (tmp_path / "a.txt").write_text("x")
    before = snapshot(tmp_path)
    refused(scrub(tmp_path / "a.txt", "--out", tmp_path / "b.txt", "--names", places), 2, "tags LOC", "PER")
    refused(scrub(tmp_path / "a.txt", "--out", tmp_path / "b.txt", "--names", tmp_path / "no"), 1, "no run")
    refused(scrub(tmp_path / "a.txt", "--out", tmp_path / "b.txt", "--kinds=name"), 2, "--names")
    assert snapshot(tmp_path) == before


# ---- refusals ------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[list[str], int, list[str]]] = {
    "missing": (["no.txt", "--out=o"], 1, ["no.txt", "does not exist"]),
    "kind": (["a.txt", "--out=o", "--kinds=mial"], 2, ["'mial'", "mail"]),
    "way": (["a.txt", "--out=o", "--how=hide"], 2, ["'hide'", "mask"]),
    "no key": (["a.txt", "--out=o", "--how=hash"], 2, ["--key", "openssl"]),
    "key missing": (["a.txt", "--out=o", "--how=hash", "--key=nokey"], 1, ["nokey"]),
    "key short": (["a.txt", "--out=o", "--how=hash", "--key=a.txt"], 2, ["16 bytes"]),
    "region": (["a.txt", "--out=o", "--regions=XX"], 2, ["'XX'"]),
    "language": (["a.txt", "--out=o", "--language=fr"], 2, ["'fr'"]),
    "no out": (["a.txt"], 2, ["--out"]),
    "two into one": (["a.txt", "b.jsonl", "--out=o.jsonl"], 2, ["2 sources", "folder"]),
    "records as text": (["b.jsonl", "--out=o.txt"], 2, [".jsonl"]),
    "text as records": (["a.txt", "--out=o.jsonl"], 2, [".txt"]),
    "field": (["b.jsonl", "--out=o", "--fields=text=body"], 1, ["'body'"]),
    "role": (["b.jsonl", "--out=o", "--fields=label=body"], 2, ["text"]),
    "no folder": (["a.txt", "--out=no/o.txt"], 1, ["no/o.txt"]),
    "itself": (["a.txt", "--out=a.txt", "--overwrite"], 2, ["a.txt", "--out"]),
    "around itself": ([".", "--out=.", "--overwrite"], 2, ["--out"]),
    "there": (["a.txt", "--out=there"], 1, ["there", "--out"]),
    "there, of another": (["a.txt", "--out=there", "--overwrite"], 1, ["something else"]),
    "broken after a good one": (["a.txt", "c.jsonl", "--out=o"], 1, ["c.jsonl, line 2"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_will_not_do_is_refused_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLMBERT_SCRUB_KEY", raising=False)
    (tmp_path / "a.txt").write_text("joe@x.org")
    (tmp_path / "b.jsonl").write_text('{"text": "joe@example.org"}\n')
    (tmp_path / "c.jsonl").write_text('{"text": "joe@example.org"}\n{"text": joe@example.org}\n')
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").write_text("mine")
    before = snapshot(tmp_path)
    arguments, code, words = REFUSED[case]
    result = scrub(*arguments)
    refused(result, code, *words)
    assert "joe@" not in result.err
    assert snapshot(tmp_path) == before


def test_an_error_never_names_a_raw_value(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"joe@example.org": "x", "13812345678": "y"}\n')
    result = scrub(tmp_path / "b.jsonl", "--out", tmp_path / "o")
    refused(result, 1, "[MAIL]", "[PHONE]")


def test_the_first_row_of_a_table_without_a_header_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("张三,北京路1号,糖尿病\n李四,上海路2号,无\n", encoding="utf-8")
    result = scrub(tmp_path / "patients.csv", "--out", tmp_path / "o")
    refused(result, 1, "patients.csv, line 2 has no field 'text'; say which holds the text")
    assert "张三" not in result.err


def test_names_of_files_are_cleaned_of_what_underscores_hold(tmp_path: Path) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    for name in ("11010519491231002X_report.txt", "patient_11010519491231002X.txt", "4111111111111111_bill.txt"):
        (given / name).write_text("write to joe.bloggs@example.org", encoding="utf-8")
    result = scrub(given, "--out", out)
    assert result.code == 0, result
    assert all(raw not in all_text(out, result) for raw in RAW)
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        "[CARD]_bill.txt",
        "[ID]_report.txt",
        "patient_[ID].txt",
    ]


def test_a_star_takes_names_of_fields_numbers_with_a_point_and_half_characters(tmp_path: Path) -> None:
    rows = {"joe@x.org": {"joe@y.org": 1, "jim@y.org": 2}, "phone": 13812345678.0, "share": 0.5, "text": "a\ud83d"}
    (tmp_path / "a.jsonl").write_text(json.dumps(rows) + "\n", encoding="utf-8")
    result = scrub(tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl", "--fields", "text=*")
    assert result.code == 0, result
    made = json.loads((tmp_path / "b.jsonl").read_text("utf-8"))
    assert made == {"[MAIL]": {"[MAIL]": 1, "[MAIL]-2": 2}, "phone": "[PHONE]", "share": 0.5, "text": "a\ud83d"}


def test_an_unforeseen_failure_tells_no_text(tmp_path: Path) -> None:

    def failing(text: str) -> Any:
        raise ValueError(text)

    (tmp_path / "a.txt").write_text("joe@example.org")
    before = snapshot(tmp_path)
    with pytest.raises(LLMBertError) as told:
        package.scrub(tmp_path / "a.txt", tmp_path / "o", names=failing)
    assert "joe" not in str(told.value)
    assert "ValueError" in str(told.value)
    assert snapshot(tmp_path) == before


def test_what_an_earlier_scrub_wrote_is_replaced_when_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("joe@example.org")
    for out in ("o", "o.txt"):
        assert scrub(tmp_path / "a.txt", "--out", tmp_path / out).code == 0
        before = snapshot(tmp_path)
        refused(scrub(tmp_path / "a.txt", "--out", tmp_path / out), 1, "--overwrite")
        assert snapshot(tmp_path) == before
        assert scrub(tmp_path / "a.txt", "--out", tmp_path / out, "--overwrite", "--kinds=phone").code == 0
    assert (tmp_path / "o/data/a.txt").read_text() == (tmp_path / "o.txt").read_text() == "joe@example.org"
    assert not list(tmp_path.glob(".*"))
