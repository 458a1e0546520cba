"""`llmbert trace`: what is copied is found with its document, what is not is not, and refusals are one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from running import llmbert, tiny

import llmbert as library
from llmbert.data.corpus import open_corpus
from llmbert.runs import read_facts
from llmbert.workbench.sources import open_store


@pytest.fixture(scope="module")
def poems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of lines in two languages."""
    folder = tmp_path_factory.mktemp("poems")
    lines = [f"line {n}: the river number {n * n} rises in the hills" for n in range(60)]
    lines += [f"第{n}首:春江潮水连海平,海上明月共潮生,滟滟随波千万里{n}" for n in range(60)]
    (folder / "poems.txt").write_text("\n".join(lines) + "\n", "utf-8")
    done = llmbert(
        "train",
        "--data",
        folder / "poems.txt",
        "--lines",
        "--tokenizer",
        "bytes",
        "--out",
        folder / "run",
        *tiny("gpt"),
    )
    assert done.code == 0, done.err
    return folder


def test_a_copied_line_is_traced_to_its_document(poems: Path) -> None:
    facts = read_facts(poems / "run")
    store = open_corpus(poems / facts["corpus"])
    for number in (0, store.train.documents - 1):
        name, line = store.train.document_ids[number], store.train.text_of(number, store.tokeniser)
        found = llmbert("trace", poems / "run", "--text", f"Qzx {line} 完全没有", "--json").json()
        [span] = found["texts"][0]["spans"]
        assert span["text"].strip() == line and span["documents"][0]["id"] == name
        assert found["texts"][0]["verbatim"] == span["length"] / (len(line) + 9)
    assert (store.folder.with_name(f"{store.folder.name}.trace") / "index.json").exists()
    assert not list((poems / "run").rglob("*.suffixes")), "a run that is given away takes no text along"


def test_held_out_documents_are_not_in_the_index(poems: Path) -> None:
    store = open_corpus(poems / read_facts(poems / "run")["corpus"])
    index = llmbert("trace", poems / "run", "--index-only", "--json").json()["index"]
    assert index["documents"] == store.train.documents and index["exact"]
    line = store.valid.text_of(0, store.tokeniser)
    found = library.trace(poems / "run", line, least=1)
    assert not any(span["text"] == line for span in found["texts"][0]["spans"])


def test_what_a_run_writes_is_traced_and_shown(poems: Path) -> None:
    shown = llmbert("trace", poems / "run", "--prompt", "line", "--max-tokens", "30", "--least", "1")
    assert shown.code == 0 and "word for word" in shown.out
    again = llmbert("trace", poems / "run", "--prompt", "line", "--max-tokens", "30", "--least", "1")
    assert again.out == shown.out


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_marks_the_spans_and_names_the_neighbours(poems: Path, tmp_path: Path, language: str) -> None:
    store = open_corpus(poems / read_facts(poems / "run")["corpus"])
    number = next(n for n in range(store.train.documents) if store.train.text_of(n, store.tokeniser).isascii())
    text = "\r\n<b>" + store.train.text_of(number, store.tokeniser)
    done = llmbert(
        *("trace", poems / "run", "--text", text, "--neighbours", "2", "--out", tmp_path / "page"),
        *("--language", language),
    )
    assert done.code == 0, done.err
    page = (tmp_path / "page" / "report.html").read_text("utf-8")
    assert f"<mark>{text[5:]}</mark><sup>1</sup>" in page
    assert "&lt;b&gt;" in page and "poems.txt:" in page
    assert ("Where the text stands" in page) == (language == "en") and ("最接近的段落" in page) == (language == "zh")


def test_each_document_of_files_against_plain_text(poems: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("line 3: the river number 9 rises\nnothing of this is known here\n")
    found = llmbert(
        "trace", poems / "poems.txt", "--lines", "--data", tmp_path / "asked.txt", "--neighbours", "1", "--json"
    ).json()
    assert [each["id"] for each in found["texts"]] == ["asked.txt:1", "asked.txt:2"]
    assert found["texts"][0]["spans"][0]["documents"] == [{"id": "poems.txt:4", "character": 0, "length": 32}]
    assert found["texts"][1]["spans"] == [] and found["measure"] == "bm25"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["asked.txt"], "the index was for this call alone"


def test_a_tokeniser_that_drops_things_is_said_and_nothing_unknown_matches(tmp_path: Path) -> None:
    lines = [f"the  River {word} rises in the hills every year" for word in ("Rhine", "Rhone", "Elbe")] * 20
    (tmp_path / "text.txt").write_text("\n".join(f"{line} {n}" for n, line in enumerate(lines)), "utf-8")
    options = ["--tokenizer", "words", "--set=vocabulary_size=14", "--lines", *tiny("ngram")]
    done = llmbert("train", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", *options)
    assert done.code == 0, done.err
    found = llmbert(
        "trace", tmp_path / "run", "--text", "the River Qzx   rises in the hills every year", "--json"
    ).json()
    assert not found["index"]["exact"]
    spans = [span["text"].strip() for span in found["texts"][0]["spans"]]
    assert spans == ["rises in the hills every year"], (
        "spaces are as the tokeniser has them; an unknown word is like no other"
    )
    assert found["texts"][0]["text"] == "the River � rises in the hills every year"


def test_pairs_are_traced_on_both_sides(tmp_path: Path) -> None:
    rows = [
        {"source": f"the river {n} rises in the hills", "target": f"der Fluss {n} entspringt in den Bergen"}
        for n in range(80)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = llmbert(
        *("train", "--data", tmp_path / "pairs.jsonl", "--fields", "source=source,target=target"),
        *("--tokenizer", "bytes"),
        *("--out", tmp_path / "run", *tiny("transformer"), "--set=heads=2"),
    )
    assert done.code == 0, done.err
    store = open_store(tmp_path / read_facts(tmp_path / "run")["corpus"])
    found = library.trace(tmp_path / "run", "in den Bergen, rises in the hills", least=13)
    names = [span["documents"][0]["id"] for span in found["texts"][0]["spans"]]
    assert names[0].endswith("(target)") and names[-1].endswith("(source)")
    assert found["index"]["documents"] == 2 * store.train.pairs


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ([], 2, "give one of"),
        (["--text", "a", "--prompt", "b"], 2, "give one of"),
        (["--text", "a", "--least", "0"], 2, "least is 0"),
        (["--text", "a", "--neighbours", "-1"], 2, "neighbours is -1"),
        (["--text", "a", "--language", "fr"], 2, "fr"),
        (["--data", "no.txt"], 1, "no.txt does not exist"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(poems: Path, options: list[str], code: int, word: str) -> None:
    done = llmbert("trace", poems / "run", *options)
    assert done.code == code and done.out == ""
    assert done.err.startswith("llmbert: ") and done.err.count("\n") == 1 and word in done.err


def test_a_store_that_is_gone_or_an_index_that_is_damaged_is_said(poems: Path, tmp_path: Path) -> None:
    shutil.copytree(poems, tmp_path / "copy")
    run, [index] = tmp_path / "copy" / "run", list((tmp_path / "copy" / "corpora").glob("*.trace"))
    [file] = list(index.glob("*.text"))
    file.write_bytes(b"x" + file.read_bytes()[1:])
    done = llmbert("trace", run, "--text", "a", "--out", tmp_path / "page")
    assert done.code == 1 and "damaged" in done.err and "build it again" in done.err
    shutil.rmtree(tmp_path / "copy" / "corpora")
    done = llmbert("trace", run, "--text", "a", "--out", tmp_path / "page")
    assert done.code == 1 and "corpus store" in done.err and not (tmp_path / "page").exists()
    done = llmbert("trace", tmp_path / "nothing", "--text", "a")
    assert done.code == 1 and "does not exist" in done.err
    done = llmbert("trace", poems / "poems.txt", "--prompt", "a")
    assert done.code == 2 and "files write nothing" in done.err


def test_standard_input_keeps_its_line_ends(tmp_path: Path) -> None:
    text = "".join(f"line {n}: the river number {n * n} rises\r\nin the hills of the north\r\n" for n in range(80))
    (tmp_path / "dos.txt").write_bytes(text.encode())
    library.train("ngram", tmp_path / "dos.txt", tmp_path / "run", tokenizer="bytes")
    asked = "rises\r\nin the hills of the north\r\nline 7: the river"
    found = llmbert("trace", tmp_path / "run", "--text", "-", "--json", stdin=asked.encode()).json()
    [span] = found["texts"][0]["spans"]
    assert span["text"] == asked and span["length"] == len(asked)
