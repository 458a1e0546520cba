"""The verbs that ask runs, through the real shell: texts in, answers out, talk, and what is refused."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Result, llmbert, snapshot

from llmbert.models import FAMILIES
from llmbert.runs import FACTS, FORMAT, load, save_model, write_json
from llmbert.tasks.chat_log import read_log
from llmbert.tasks.classify import classify
from llmbert.tasks.summarise import summarise
from llmbert.tasks.tag import tag
from llmbert.tasks.translate import translate
from llmbert.tasks.write import write
from llmbert.text.dialogue import Turn, format_dialogue
from llmbert.text.tokenisers import train_tokeniser
from llmbert.workbench.fine_tune import fine_tune

USAGE, FAILED = 2, 1
VERBS = ("translate", "summarise", "write", "classify", "tag", "chat")

TEXT = "Es war einmal. Und dann?\n\n  Ende.\n"


def test_the_verbs_are_there_and_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom llmbert.cli import main\nsys.argv = ['llmbert', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'pydantic', 'jinja2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random weights: what it writes means nothing, and is always the same."""
    return save_random(tmp_path_factory.mktemp("runs") / "mt", {"languages": {"source": "de", "target": "en"}})


def save_random(folder: Path, facts: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    family = FAMILIES["transformer"]
    tokeniser = train_tokeniser("bytes", ["a"])
    settings = family.settings_class()(layers=1, width=16, heads=2, inner=32, context=64, dropout=0.0)
    folder.mkdir(parents=True)
    tokeniser.save(folder)
    save_model(folder, family.build(settings, tokeniser.vocabulary_size))
    write_json(folder / FACTS, {"format": FORMAT, "status": "done", "family": "transformer", **facts})
    return folder


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("llmbert: ")
    assert result.err.count("\n") == 1
    assert "unforeseen" not in result.err
    for word in words:
        assert word in result.err


# ---- texts in, answers out -------------------------------------------------------------------------------------------


def test_a_text_is_translated_as_the_function_does(translator: Path) -> None:
    expected = translate(load(translator), [TEXT], max_tokens=9)[0]
    result = llmbert("translate", translator, TEXT, "--max-tokens", "9")
    assert (result.code, result.out, result.err) == (0, expected + "\n", "")
    raw = llmbert("translate", translator, TEXT, "--max-tokens", "9", "--raw", "--beams", "1")
    assert raw.out == translate(load(translator), [TEXT], max_tokens=9, raw=True, beams=1)[0] + "\n"


def test_generate_names_the_verbs_that_read_a_source(translator: Path) -> None:
    refused(llmbert("generate", translator, "--prompt", "Ja."), USAGE, "llmbert translate, summarise or write")


def test_a_file_is_one_text_and_with_lines_several(translator: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(TEXT)
    common = ["--in", tmp_path / "in.txt", "--max-tokens", "9"]
    assert llmbert("translate", translator, *common, "--out", tmp_path / "out.txt").code == 0
    whole = translate(load(translator), [TEXT], max_tokens=9)[0]
    assert (tmp_path / "out.txt").read_text("utf-8") == whole.removesuffix("\n") + "\n"
    assert llmbert("translate", translator, *common, "--lines", "--out", tmp_path / "out.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    lines = TEXT.removesuffix("\n").split("\n")
    assert [row["source"] for row in rows] == lines
    assert [row["output"] for row in rows] == translate(load(translator), lines, max_tokens=9)
    piped = llmbert("translate", translator, "--in", "-", "--max-tokens", "9", stdin=TEXT.encode())
    assert piped.out == whole + "\n"


def test_records_keep_their_fields_and_are_scored_against_their_references(translator: Path, tmp_path: Path) -> None:
    rows = [{"id": 7, "de": "Ja.", "en": "Yes.", "x": [1]}, {"id": 8, "de": "Nein.", "en": ["No.", "Nope."]}]
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*rows, rows[0]])
    options = ["--in", tmp_path / "in.jsonl.gz", "--fields", "source=de,target=en", "--max-tokens", "9"]
    result = llmbert("translate", translator, *options, "--out", tmp_path / "out.jsonl.gz")
    assert result.code == 0
    assert "bleu" in result.out and "chrf" in result.out and "3 answers" in result.out
    with gzip.open(tmp_path / "out.jsonl.gz", "rt", encoding="utf-8") as lines:
        written = [json.loads(line) for line in lines]
    expected = translate(load(translator), ["Ja.", "Nein."], max_tokens=9)
    assert written == [
        row | {"output": text} for row, text in zip([*rows, rows[0]], [*expected, expected[0]], strict=True)
    ]
    found = llmbert("translate", translator, *options, "--json").json()
    assert found["answers"] == [*expected, expected[0]]
    assert found["scores"]["bleu"]["n"] == 2
    shown = llmbert("translate", translator, *options)
    assert shown.out == "".join(text + "\n" for text in found["answers"])
    assert shown.err.startswith("bleu ")


def test_tables_keep_their_columns(translator: Path, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("id\ttext\n1\tJa.\n2\tNein. Doch.\n")
    assert (
        llmbert(
            "translate", translator, "--in", tmp_path / "in.tsv", "--out", tmp_path / "o.tsv", "--max-tokens=5"
        ).code
        == 0
    )
    rows = [line.split("\t") for line in (tmp_path / "o.tsv").read_text("utf-8").splitlines()]
    assert rows[0] == ["id", "text", "output"]
    assert [row[:2] for row in rows[1:]] == [["1", "Ja."], ["2", "Nein. Doch."]]
    assert all(len(row) == 3 for row in rows)


def test_what_json_does_not_know_is_written_as_text(translator: Path, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    at = datetime(2026, 1, 2, 3, 4, 5)
    table = {"text": ["Ja.", "Nein."], "at": [at, at], "x": [float("nan"), 1.5]}
    parquet.write_table(arrow.table(table), tmp_path / "in.parquet")
    ask = ["translate", translator, "--in", tmp_path / "in.parquet", "--max-tokens=5", "--out"]
    for name in ("o.jsonl", "o.tsv"):
        result = llmbert(*ask, tmp_path / name)
        assert result.code == 0, result.err
    rows = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(row["text"], row["at"], row["x"]) for row in rows] == [("Ja.", str(at), None), ("Nein.", str(at), 1.5)]
    first = (tmp_path / "o.tsv").read_text().splitlines()[1].split("\t")
    assert first[:3] == ["Ja.", str(at), "null"]
    written = llmbert("write", translator, *ask[2:4], "--max-tokens=5", "--out", tmp_path / "w.jsonl")
    assert written.code == 0, written.err


def test_summaries_say_what_was_cut_and_records_are_written_out(tmp_path: Path) -> None:
    run = save_random(tmp_path / "run", {})
    long = "The river rises in the hills. " * 9
    result = llmbert("summarise", run, long, "--max-tokens", "6", "--truncation", "tail")
    assert result.code == 0
    assert result.err == "llmbert: note: 1 of 1 texts were too long and cut: 210 tokens (77%); kept: tail\n"
    with pytest.warns(UserWarning, match="tail"):
        assert result.out == summarise(load(run), [long], max_tokens=6, truncation="tail")[0] + "\n"
    done = llmbert("summarise", run, "Short.", "--max-tokens", "6", "--whole-sentences")
    assert done.out == summarise(load(run), ["Short."], max_tokens=6, whole_sentences=True)[0] + "\n"
    records = ["name[The Mill], food[French]", '{"name": "Bo"}', "a | isIn | b"]
    written = llmbert("write", run, *records, "--max-tokens", "6", "--json").json()
    assert written["answers"] == write(load(run), records, max_tokens=6)
    (tmp_path / "webnlg.jsonl").write_text(
        json.dumps({"triples": [["A_B", "isIn", "C"]], "texts": ["x", "y"]})
        + "\n"
        + json.dumps({"triples": [["D", "is", "E"]], "texts": ["z"]})
    )
    scored = llmbert(
        "write", run, "--in", tmp_path / "webnlg.jsonl", "--fields", "target=texts", "--max-tokens=6", "--json"
    ).json()
    assert scored["answers"] == write(load(run), [[["A_B", "isIn", "C"]], [["D", "is", "E"]]], max_tokens=6)
    assert "rougeL" in scored["scores"]
    (tmp_path / "objects.jsonl").write_text('{"name": "Bo", "ref": "x"}\n')
    bare = llmbert(
        "write", run, "--in", tmp_path / "objects.jsonl", "--fields", "target=ref", "--max-tokens=6", "--json"
    ).json()
    assert bare["answers"] == write(load(run), [{"name": "Bo"}], max_tokens=6)


# ---- what is refused -------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[list[str], bytes | None, int, list[str]]] = {
    "nothing": ([], None, USAGE, ["--in"]),
    "both": (["hi", "--in", "in.jsonl"], b'{"text": "x"}\n', USAGE, ["not both"]),
    "missing file": (["--in", "none.txt"], None, FAILED, ["none.txt does not exist"]),
    "empty file": (["--in", "in.jsonl"], b"", FAILED, ["in.jsonl is empty"]),
    "blank": (["--in", "in.jsonl"], b'{"text": " "}\n', FAILED, ["no text", "in.jsonl"]),
    "blank text": ([" "], None, FAILED, ["no text"]),
    "broken line": (["--in", "in.jsonl"], b'{"text": "x"}\n{oh}\n', FAILED, ["in.jsonl, line 2"]),
    "no field": (["--in", "in.jsonl"], b'{"de": "x"}\n', FAILED, ["line 1", "'de'", "--fields"]),
    "other field": (
        ["--in", "in.jsonl", "--fields", "source=de,target=en"],
        b'{"de": "x", "en": "y"}\n{"de": "x"}\n',
        FAILED,
        ["line 2", "'en'"],
    ),
    "no text": (["--in", "in.jsonl"], b'{"text": 3}\n', FAILED, ["line 1", "string"]),
    "fields": (["--in", "in.jsonl", "--fields", "de=source"], b'{"de": "x"}\n', USAGE, ["source=NAME"]),
    "fields of plain text": (["--in", "in.txt", "--fields", "source=de"], b"hi", USAGE, ["no fields"]),
    "taken name": (
        ["--in", "in.jsonl", "--out", "o.jsonl", "--into", "text"],
        b'{"text": "x"}\n',
        USAGE,
        ["--into", "'text'"],
    ),
    "ending": (["hi", "--out", "o.pdf"], None, USAGE, [".pdf", ".jsonl"]),
    "no folder": (["hi", "--out", "no/o.txt"], None, FAILED, ["does not exist"]),
    "language": (["hi", "--to", "fr"], None, USAGE, ["de to en", "fr"]),
    "beams": (["hi", "--beams", "0"], None, USAGE, ["--beams"]),
    "batch": (["hi", "--batch", "0"], None, USAGE, ["--batch"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_one_sentence_and_nothing_is_left(
    case: str, translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, content, code, words = BAD[case]
    monkeypatch.chdir(tmp_path)
    name = next((argument for argument in arguments if argument.startswith("in.")), None)
    if content is not None and name:
        Path(name).write_bytes(content)
    before = snapshot(tmp_path)
    refused(llmbert("translate", translator, *arguments), code, *words)
    assert snapshot(tmp_path) == before


def test_an_answer_file_is_replaced_only_where_asked_for(translator: Path, tmp_path: Path) -> None:
    (tmp_path / "o.txt").write_text("precious\n")
    refused(llmbert("translate", translator, "Ja.", "--out", tmp_path / "o.txt"), FAILED, "--overwrite")
    assert (tmp_path / "o.txt").read_text() == "precious\n"
    assert (
        llmbert("translate", translator, "Ja.", "--out", tmp_path / "o.txt", "--overwrite", "--max-tokens=5").code == 0
    )
    assert "precious" not in (tmp_path / "o.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["o.txt"]


def test_a_run_is_not_asked_for_what_it_does_not_do(talker: Path, tmp_path: Path) -> None:
    refused(llmbert("translate", talker, "hi"), FAILED, "reads no source")
    run = save_random(tmp_path / "run", {"prefixes": {"translate en-de": "de: ", "summarise": "sum: "}})
    refused(llmbert("write", run, "a | b | c"), USAGE, "translate en-de, summarise")
    refused(llmbert("chat", run, stdin=b"hi\n"), USAGE, "translate en-de, summarise")
    refused(llmbert("write", save_random(tmp_path / "any", {}), "no record"), USAGE, "the record", "| property |")


# ---- chat ------------------------------------------------------------------------------------------------------------

TURNS = [Turn("A", "Where is the mill?"), Turn("B", "At the bend."), Turn("A", "是吗？"), Turn("B", "是的。")]


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned one dialogue by heart, by counting."""
    folder = tmp_path_factory.mktemp("talk")
    (folder / "talk.txt").write_text(format_dialogue(TURNS) * 40, "utf-8")
    options = ["--family=ngram", "--tokenizer=bytes", "--set=order=16"]
    result = llmbert("train", "--data", folder / "talk.txt", "--out", folder / "run", *options)
    assert result.code == 0, result.err
    return folder / "run"


def test_a_conversation_goes_turn_about_and_is_kept(talker: Path, tmp_path: Path) -> None:
    log = tmp_path / "chats.jsonl"
    typed = (
        f"{TURNS[0].text}\n/good\n\n{TURNS[2].text}\n/bad too short\n/save {tmp_path / 'talk.txt'}\n/quit\nnever said\n"
    )
    result = llmbert("chat", talker, "--log", log, "--temperature", "0", stdin=typed.encode())
    assert result.code == 0, result.err
    assert result.out == "B: At the bend.\nB: 是的。\n"
    assert "/good" in result.err.splitlines()[1] and str(log) in result.err
    assert [record["kind"] for record in read_log(log)] == ["begin", "turn", "reply", "thumb", "turn", "reply", "thumb"]
    assert (tmp_path / "talk.txt").read_text("utf-8") == format_dialogue(TURNS)
    again = llmbert("chat", talker, "--log", log, "--temperature", "0", stdin=f"A: {TURNS[0].text}".encode())
    assert again.out == "B: At the bend.\n"
    report = llmbert("chat", talker, "--log", log, "--report", tmp_path / "page.html", "--json").json()
    assert (report["conversations"], report["replies"], report["thumbs"]["up"]) == (2, 3, 1)
    assert "At the bend." in (tmp_path / "page.html").read_text("utf-8")
    shown = llmbert("chat", talker, "--log", log, "--report", tmp_path / "page.html")
    assert "replies: 3, conversations: 2" in shown.out


def test_the_log_lies_beside_the_run_or_nowhere(talker: Path) -> None:
    beside = talker.parent / "chats.jsonl"
    before = snapshot(talker.parent)
    assert llmbert("chat", talker, "--no-log", stdin=b"hi\n").code == 0
    assert snapshot(talker.parent) == before
    assert llmbert("chat", talker, stdin=b"hi\n").code == 0
    assert len(list(read_log(beside))) == 3
    beside.unlink()


def test_names_and_system_text_are_taken(translator: Path, tmp_path: Path) -> None:
    run = save_random(tmp_path / "run", {})
    names = ["--speaker", "Ann", "--speaker", "Ben", "--speaker", "Bot"]
    options = [*names, "--system", "Be kind.", "--max-tokens", "4", "--log", tmp_path / "log.jsonl"]
    assert llmbert("chat", run, *options, stdin=b"hi\nBen: yo\nme again\n").code == 0
    records = list(read_log(tmp_path / "log.jsonl"))
    assert records[0]["speakers"] == ["Ann", "Ben", "Bot"]
    assert [record["speaker"] for record in records if record["kind"] == "turn"] == ["Ann", "Ben", "Ben"]


def test_slips_in_a_conversation_are_said(talker: Path, tmp_path: Path) -> None:
    for typed, code, words in (
        (b"/good\n", USAGE, ["no reply"]),
        (b"/dance\n", USAGE, ["/dance", "/quit"]),
        (b"/save\n", USAGE, ["/save FILE"]),
        (f"/save {talker}\n".encode(), FAILED, ["exists"]),
    ):
        result = llmbert("chat", talker, "--no-log", stdin=typed)
        assert result.code == code
        assert all(word in result.err.splitlines()[-1] for word in words)
    refused(llmbert("chat", talker, "--log", "x", "--no-log"), USAGE, "--no-log")
    refused(llmbert("chat", talker, "--no-log", "--speaker", "A", stdin=b"hi\n"), USAGE, "name")
    refused(
        llmbert("chat", talker, "--log", tmp_path / "no.jsonl", "--report", tmp_path / "p.html"), FAILED, "no.jsonl"
    )
    refused(llmbert("chat", talker, "--no-log", "--language", "fr", stdin=b"hi\n"), USAGE, "en or zh")


# ---- labels ----------------------------------------------------------------------------------------------------------

MOODS = [
    (f"{word} {end}", label)
    for label, words in (("glad", "good fine"), ("sad", "bad poor"))
    for word in words.split()
    for end in "abcdefgh"
]
NAMES = [
    ([who, "lives", "in", *where], ["B-PER", "O", "O", "B-LOC", *["I-LOC"] * (len(where) - 1)])
    for who in ("Ann", "Bo")
    for where in (["Rome"], ["New", "York"])
]
SHAPE = {"layers": 1, "width": 32, "heads": 2, "epochs": 30, "learning_rate": 0.01, "batch": 256}


@pytest.fixture(scope="module")
def labellers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that learned two moods, and the names of two people and places."""
    folder = tmp_path_factory.mktemp("labels")
    write_rows(folder / "moods.jsonl", [{"text": text, "label": label} for text, label in MOODS])
    write_rows(folder / "names.jsonl", [{"tokens": words, "tags": tags} for words, tags in NAMES * 4])
    for task, data in (("classify", "moods.jsonl"), ("tag", "names.jsonl")):
        path = str(folder / data)
        fine_tune(task, path, folder / task, valid=path, tokenizer="words", settings=SHAPE)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def test_texts_get_their_labels(labellers: Path, tmp_path: Path) -> None:
    result = llmbert("classify", labellers / "classify", "fine a", "poor b")
    assert (result.code, result.out) == (0, "glad\nsad\n")
    answers = llmbert("classify", labellers / "classify", "fine a", "--json").json()["answers"]
    assert answers == classify(labellers / "classify", ["fine a"])
    options = ["--in", labellers / "moods.jsonl", "--fields", "text=text,label=label"]
    written = llmbert("classify", labellers / "classify", *options, "--out", tmp_path / "o.tsv", "--into", "mood")
    assert written.code == 0
    assert "accuracy" in written.out
    rows = [line.split("\t") for line in (tmp_path / "o.tsv").read_text("utf-8").splitlines()]
    assert rows[0] == ["text", "label", "mood"]
    assert all(label == mood for _, label, mood in rows[1:])
    (tmp_path / "in.txt").write_text("bad a\ngood b\n")
    assert llmbert("classify", labellers / "classify", "--in", tmp_path / "in.txt").out == "sad\nglad\n"


def test_several_labels_of_a_table_and_of_a_list_score_alike(tmp_path: Path) -> None:
    rows = [(text, [label, "mood"]) for text, label in MOODS]
    write_rows(tmp_path / "in.jsonl", [{"text": text, "is": {"label": labels}} for text, labels in rows])
    table = "".join(f"{text}\t{' | '.join(labels)}\n" for text, labels in rows)
    (tmp_path / "in.tsv").write_text("text\tlabel\n" + table)
    given = {name: str(tmp_path / f"in.{name}") for name in ("tsv", "jsonl")}
    run = tmp_path / "run"
    fine_tune("multilabel", given["tsv"], run, valid=given["tsv"], tokenizer="words", settings=SHAPE)
    fields = {"tsv": "label=label", "jsonl": "label=is.label"}
    found = [
        llmbert("classify", run, "--in", given[name], "--fields", fields[name], "--json").json()["scores"]
        for name in given
    ]
    assert found[0] == found[1]
    assert found[0]["micro-f1"]["score"] == 100


def test_texts_get_their_spans_marked(labellers: Path, tmp_path: Path) -> None:
    result = llmbert("tag", labellers / "tag", "Ann lives in New York")
    assert (result.code, result.out) == (0, "PER Ann; LOC New York\n")
    options = ["--in", labellers / "names.jsonl", "--fields", "tokens=tokens,tags=tags"]
    found = llmbert("tag", labellers / "tag", *options, "--json").json()
    assert found["answers"] == tag(labellers / "tag", [words for words, _ in NAMES * 4])
    assert found["scores"]["span-f1"]["score"] == 100
    assert llmbert("tag", labellers / "tag", *options, "--out", tmp_path / "o.jsonl").code == 0
    first = json.loads((tmp_path / "o.jsonl").read_text("utf-8").splitlines()[0])
    assert first["tags"] == NAMES[0][1]
    assert [span["kind"] for span in first["output"]] == ["PER", "LOC"]


def test_labels_that_cannot_be_are_refused(labellers: Path, talker: Path, tmp_path: Path) -> None:
    refused(llmbert("classify", labellers / "tag", "x"), USAGE, "heads that can classify")
    refused(llmbert("tag", talker, "x"), USAGE, "without heads")
    refused(llmbert("generate", labellers / "tag", "--prompt=Ann"), FAILED, "predicts no tokens")
    refused(llmbert("evaluate", labellers / "tag", "--data", labellers), USAGE, "no text a probability", "llmbert tag")
    refused(llmbert("classify", labellers / "classify", "x", "--head", "no"), USAGE, "'no'")
    refused(llmbert("classify", labellers / "classify", "x", "--batch", "0"), USAGE, "--batch")
    write_rows(tmp_path / "in.jsonl", [{"text": "a", "tags": ["O"]}])
    options = ["--in", tmp_path / "in.jsonl", "--fields", "tags=tags"]
    refused(llmbert("tag", labellers / "tag", *options), FAILED, "line 1", "tokens=NAME")
    write_rows(tmp_path / "in.jsonl", [{"tokens": ["a", "b"], "tags": ["O"]}])
    refused(llmbert("tag", labellers / "tag", *options), FAILED, "2 words and 1 tags")
    write_rows(tmp_path / "in.jsonl", [{"text": ["a"]}])
    refused(llmbert("classify", labellers / "classify", "--in", tmp_path / "in.jsonl"), FAILED, "line 1", "string")
