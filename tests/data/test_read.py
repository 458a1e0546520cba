"""Reading: every form of PATH to documents, as a stream, and one sentence for whatever is wrong."""

import gzip
import io
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data import read, sources
from llmbert.data.read import read_documents
from llmbert.data.records import JsonReader
from llmbert.data.sources import Source
from llmbert.protocols import LLMBertError, UsageError

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")


def found(*paths: object, **options: object) -> list[tuple[str, str]]:
    documents = read_documents([str(path) for path in paths], **options)  # type: ignore[arg-type]
    return [(document.id, "".join(document.pieces)) for document in documents]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data)
    if name.endswith(".zst"):
        return pytest.importorskip("zstandard").compress(data)
    return data


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 7)
    monkeypatch.setattr(read, "LONG", 12)
    monkeypatch.setattr(read, "CONTEXT", 10)


@pytest.mark.parametrize("ending", [".txt", ".md", ".TXT", ".txt.gz", ".md.zst", ".txt.GZ"])
def test_a_text_file_is_one_document_newlines_and_all(ending: str, tmp_path: Path) -> None:
    text = "\n first line\r\n\n第二行\tend"
    file = write(tmp_path / f"a{ending}", packed(ending.lower(), text.encode()))
    assert found(file) == [(file.name, text)]


def test_with_lines_each_line_that_is_not_blank_is_a_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "one \r\n\n \t\r\n二\u2028x\x0cy\n\nlast")
    assert found(file, lines=True) == [("a.txt:1", "one "), ("a.txt:4", "二\u2028x\x0cy"), ("a.txt:6", "last")]


@given(text=st.text(alphabet="ab\r\n 中", max_size=60))
@settings(max_examples=200)
def test_lines_are_those_of_split(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = write(tmp_path_factory.mktemp("lines") / "a.txt", text)
    lines = [(f"a.txt:{n}", x.removesuffix("\r")) for n, x in enumerate(text.split("\n"), 1) if x and not x.isspace()]
    # However small the blocks, and whether a line is handed out whole or in pieces.
    for block, long in ((1 << 20, 1 << 20), (3, 4), (5, 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "BLOCK_BYTES", block)
            patch.setattr(read, "LONG", long)
            if not lines:
                with pytest.raises(LLMBertError):
                    found(file, lines=True)
                continue
            assert found(file, lines=True) == lines


@pytest.mark.parametrize("options", [{"lines": True}, {"split_on": "\n"}])
def test_a_document_left_unread_is_skipped(options: dict, tmp_path: Path, small_blocks: None) -> None:
    file = write(tmp_path / "a.txt", "a" * 100 + "\nshort\n" + "b" * 100 + "\nlast")
    ids, texts = [], []
    for document in read_documents([str(file)], **options):
        ids.append(document.id)
        texts.append(next(iter(document.pieces)))
    assert ids == ["a.txt:1", "a.txt:2", "a.txt:3", "a.txt:4"]
    assert texts[1::2] == ["short", "last"]
    assert texts[0] == texts[0][0] * len(texts[0]) and len(texts[0]) < 40


PATTERNS = [
    r"[$b]\$?",  # no ends of lines
    "\n\n",
    r"\n(?=A)",
    r"(?<=b)a",
    "b*",
    "(a)|b",
    "^a",
    "$",
    r"\n+",
    "(?=ab)|ab",
    "(?=b)",
]


@given(text=st.text(alphabet="abA\n", max_size=60), pattern=st.sampled_from(PATTERNS))
@settings(max_examples=300)
def test_split_on_cuts_as_re_split_does(text: str, pattern: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = write(tmp_path_factory.mktemp("split") / "a.txt", text or "a")
    compiled = re.compile(pattern, re.MULTILINE)
    start, expected = 0, []
    for match in compiled.finditer(text or "a"):  # re.split, without the groups it puts in
        expected.append((text or "a")[start : match.start()])
        start = match.end()
    expected = [piece for piece in [*expected, (text or "a")[start:]] if piece.strip()]
    for block, long, context in ((1 << 20, 1 << 20, 1 << 16), (3, 8, 64)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "BLOCK_BYTES", block)
            patch.setattr(read, "LONG", long)
            patch.setattr(read, "CONTEXT", context)
            if not expected:
                with pytest.raises(LLMBertError, match="no text"):
                    found(file, split_on=pattern)
                continue
            answer = found(file, split_on=pattern)
            assert [piece for _, piece in answer] == expected
            assert [name for name, _ in answer] == [f"a.txt:{n + 1}" for n in range(len(expected))]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("pattern", "mark"), [("^---$", "---"), (r"\$[$]$", "$$")])
def test_split_on_knows_the_ends_of_lines_of_windows(newline: str, pattern: str, mark: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", f"one\n{mark}\ntwo {mark}x\n \n{mark}".replace("\n", newline))
    assert [text.split() for _, text in found(file, split_on=pattern)] == [["one"], ["two", f"{mark}x"]]


def test_blank_stretches_between_matches_are_no_documents(tmp_path: Path, small_blocks: None) -> None:
    file = write(tmp_path / "a.txt", "one\n#\n \n#" + " " * 100 + "#" + " " * 100 + "two")
    assert found(file, split_on="#") == [("a.txt:1", "one\n"), ("a.txt:2", " " * 100 + "two")]


def test_a_long_document_between_matches_comes_in_pieces(tmp_path: Path, small_blocks: None) -> None:
    text = "x" * 300 + "\n\n" + "y" * 500 + "\n\nz"
    documents = read_documents([str(write(tmp_path / "a.txt", text))], split_on="\n\n")
    pieces = [list(document.pieces) for document in documents]
    assert ["".join(parts) for parts in pieces] == text.split("\n\n")
    assert len(pieces[0]) > 5 and len(pieces[1]) > 5


JSON_RECORDS = [{"text": "one\ntwo", "label": 1}, {"text": "  "}, "三", {"text": "four"}]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines_are_a_document_each(ending: str, tmp_path: Path) -> None:
    text = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in JSON_RECORDS)
    file = write(tmp_path / f"a{ending}", packed(ending, text.encode()))
    name = file.name
    assert found(file) == [(f"{name}:1", "one\ntwo"), (f"{name}:5", "三"), (f"{name}:7", "four")]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(JSON_RECORDS, indent=1),
        json.dumps(JSON_RECORDS),
        "\n".join(map(json.dumps, JSON_RECORDS)),
        " ".join(map(json.dumps, JSON_RECORDS)) + "\n",
    ],
)
def test_a_json_file_is_a_list_or_values_in_a_row(text: str, tmp_path: Path, small_blocks: None) -> None:
    file = write(tmp_path / "a.json", text)
    assert found(file) == [("a.json:1", "one\ntwo"), ("a.json:3", "三"), ("a.json:4", "four")]


def test_one_json_object_is_one_document(tmp_path: Path) -> None:
    assert found(write(tmp_path / "a.json", '\n{"n": 1, "body": "only text"}\n')) == [("a.json:1", "only text")]


def test_a_long_json_list_is_read_record_by_record(tmp_path: Path) -> None:
    records = [{"text": f"{number} " + "long " * 30_000} for number in range(20)]
    file = write(tmp_path / "a.json", json.dumps(records))
    assert [text for _, text in found(file)] == [record["text"] for record in records]


def test_the_field_of_text_is_the_named_one_or_text_or_the_only_one(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"title": "t", "text": "x"}\n')
    assert found(file) == [("a.jsonl:1", "x")]
    assert found(file, fields={"text": "title"}) == [("a.jsonl:1", "t")]
    assert found(write(tmp_path / "b.jsonl", '{"poem": "p", "year": 1}\n')) == [("b.jsonl:1", "p")]


def test_csv_with_quotes_newlines_and_another_delimiter(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", '\ufeffid,text\r\n1,"a, ""b""\nc"\r\n\r\n2, \r\n3,d\r\n')
    assert found(file) == [("a.csv:2", 'a, "b"\nc'), ("a.csv:6", "d")]
    assert found(write(tmp_path / "b.csv", "id;text\n1;x,y\n")) == [("b.csv:2", "x,y")]
    long = "x" * 300_000
    assert found(write(tmp_path / "c.csv", f'text\n"{long}"\n')) == [("c.csv:2", long)]


def test_empty_cells_at_the_end_of_a_row_are_no_columns_too_many(tmp_path: Path) -> None:
    assert found(write(tmp_path / "a.csv", "id,text,,\n1,x,,\n2,y, ,,\n")) == [("a.csv:2", "x"), ("a.csv:3", "y")]


def test_whole_records_of_a_table_lose_no_cell(tmp_path: Path) -> None:
    def others(content: str) -> list[dict[str, object]]:
        return [each.others for each in read_documents([str(write(tmp_path / "a.csv", content))], whole=True)]

    assert others("id,text,\n1,x\n2,y,,\n") == [{"id": "1"}, {"id": "2"}]
    with pytest.raises(UsageError, match="line 2 has 3 columns but line 1 names 2"):
        others("id,text\n1,x,y\n")
    with pytest.raises(UsageError, match="one name for its columns 1 and 3; rename"):
        others("id,text,id\n1,x,2\n")


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv.gz", gzip.compress(b'label\ttext\r\n0\t"so\n\n1\tit" goes\n'))
    assert found(file) == [("a.tsv.gz:2", '"so'), ("a.tsv.gz:4", 'it" goes')]


@pytest.mark.parametrize("ending", [".parquet", ".parquet.gz", ".parquet.zst"])
def test_parquet_rows_are_documents(ending: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    buffer = io.BytesIO()
    rows = [f"row {number} 行" for number in range(3000)]
    parquet.write_table(pyarrow.table({"n": range(3000), "content": rows}), buffer)
    file = write(tmp_path / f"a{ending}", packed(ending, buffer.getvalue()))
    answer = found(file)
    assert [text for _, text in answer] == rows
    assert answer[-1][0] == f"a{ending}:3000"


def test_a_folder_is_read_in_order_and_with_its_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/b.jsonl", ".hidden/x.txt", "picture.png", "empty.txt"):
        write(tmp_path / name, "" if name == "empty.txt" else '{"text": "x"}' if "jsonl" in name else "x")
    assert [name for name, _ in found(tmp_path)] == ["a/b.jsonl:1", "a/z.md", "b.txt"]


def test_a_glob_is_expanded_in_order_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    for name in ("x/b.txt", "x/a.txt", "y/a.txt"):
        write(tmp_path / name, name)
    assert [name for name, _ in found(tmp_path / "x" / "*.txt")] == ["a.txt", "b.txt"]
    answer = found(tmp_path / "**" / "a.txt")
    assert [text for _, text in answer] == ["x/a.txt", "y/a.txt"]
    assert len({name for name, _ in answer}) == 2
    odd = write(tmp_path / "a[1].txt", "odd")
    assert found(odd) == [("a[1].txt", "odd")]


def test_standard_input_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO("a\n二\n".encode())))
    assert found("-", lines=True) == [("standard input:1", "a"), ("standard input:2", "二")]


def test_progress_counts_bytes_on_disk(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt.gz", gzip.compress(b"hello " * 100_000))
    told: list[tuple[str, float, float | None]] = []
    found(file, progress=lambda stage, done, total=None, **_: told.append((stage, done, total)))
    size = file.stat().st_size
    assert told[-1] == ("reading", size, size)


def test_the_hub_is_read_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str, streaming: bool) -> list[dict]:
        asked.append((name, split))
        return [{"text": "a"}, {"text": ""}, {"text": "b"}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert found("hub:some/set") == [("hub:some/set:1", "a"), ("hub:some/set:3", "b")]
    found("hub:some/set:test")
    assert asked == [("some/set", "train"), ("some/set", "test")]


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LLMBertError, match=r"llmbert\[hub\]"):
        found("hub:some/set")


def encodings_of(file: Path) -> tuple[str, str]:
    encodings: dict[str, str] = {}
    text = "".join("".join(document.pieces) for document in read_documents([str(file)], encodings=encodings))
    return text, encodings[file.name]


def test_encodings_are_reported(tmp_path: Path) -> None:
    chinese = "今天天气很好，我们去公园散步。" * 5
    for encoding, said in (("gb18030", "gb18030"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16-le"), ("utf-8", "utf-8")):
        assert encodings_of(write(tmp_path / "a.txt", chinese.encode(encoding))) == (chinese, said)


@needs_data
def test_poems_in_gb18030_are_the_same_poems(tmp_path: Path) -> None:
    raw = gzip.decompress((DATA / "chinese_poetry" / "tang.valid.jsonl.gz").read_bytes())
    poems = write(tmp_path / "utf" / "p.jsonl", raw)
    recoded = write(tmp_path / "gb" / "p.jsonl", raw.decode().encode("gb18030"))
    assert found(recoded) == found(poems)
    assert len(found(poems)) == 2796


@needs_data
def test_the_penn_treebank_has_its_sentences() -> None:
    documents = found(DATA / "ptb" / "valid.txt.gz", lines=True)
    assert len(documents) == 3370
    assert sum(len(text.split()) + 1 for _, text in documents) == 73_760


REFUSED: list[tuple[str, str | bytes, str]] = [
    ("a.txt", b"", "a.txt is empty"),
    ("a.txt", b"ok\nna\xefve caf\xe9 \xfcber alles\n", r"a.txt, line 2: byte 5 is not UTF-8; save the file as UTF-8"),
    ("a.txt", b"caf\xe9\n", r"line 1: byte 3 is not UTF-8"),
    ("a.txt", b"text\0more", r"line 1: byte 4 is zero"),
    ("a.txt", bytes(range(1, 32)) * 9, "control character"),
    ("a.txt", "好".encode() * 40 + b"\n\xff\xfe", r"line 2: byte 121 is not UTF-8"),
    ("a.txt", "天气很好".encode()[:-1], r"byte 9 is not UTF-8"),
    ("a.txt.gz", gzip.compress(b"hello " * 1000, mtime=0)[:-12], "a.txt.gz is not a whole gzip file"),
    ("a.txt.gz", b"plain text", "a.txt.gz is not a whole gzip file"),
    ("a.txt.zst", b"plain text", "a.txt.zst is not a whole Zstandard file"),
    ("a.doc", b"x", "a.doc has an ending that is not known"),
    ("a", b"x", "ending that is not known"),
    ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a.jsonl, line 2 is not JSON .*column"),
    ("a.jsonl", '{"text": "a"}\n{"body": "a"}\n', r"a.jsonl, line 2 has no field 'text' but 'body'"),
    ("a.jsonl", '{"title": "a", "body": "b"}\n', r"line 1 has no field 'text' but 'title', 'body'"),
    ("a.jsonl", '{"text": 3}\n', r"line 1 has no field 'text' but 'text'|line 1 holds a number in field 'text'"),
    ("a.jsonl", '{"text": null}\n{"text": "a"}', "line 1 holds null"),
    ("a.jsonl", "[1]\n", "line 1 is a list"),
    ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
    ("a.jsonl", '"\\ud83d"\n', r"line 1 holds half a character \(U\+D83D\)"),
    ("a.jsonl", "\n \n", "no text was found"),
    ("a.json", '[{"text": "a"}\n{"text": "b"}]', "a.json, line 2 is not JSON"),
    ("a.json", '[{"text": "a"},\n\n{"text": }]', "line 3 is not JSON"),
    ("a.json", '[{"text": "a"}', "is not JSON"),
    ("a.json", '[{"text": "a"}] x', "is not JSON"),
    ("a.json", "[]", "no text was found"),
    ("a.json", '[{"text": "a"},\n' + "1" * 5000 + "]", r"a.json, line 2 is not JSON \(Exceeds the limit"),
    ("a.csv", "id,body\n1,x\n", "line 1 has no field 'text' but 'id', 'body'"),
    ("a.csv", 'id,text\n1,x\n2,"open\n', "line 3 is not CSV"),
    ("a.csv", "id,text\n1\n", "line 2 has 1 columns and so no 'text'"),
    ("a.csv", "id,text\n", "no text was found"),
    ("a.csv", "text\nHello, world, this is lost\n", "line 2 has 3 columns but line 1 names 1; put text .* in quotes"),
    ("a.tsv", "label\ttext\n1\ta\n1\ta\tb\n", "line 3 has 3 columns but line 1 names 2; take the tabs out"),
    ("a.parquet", b"not parquet", "a.parquet is not a whole Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED)
def test_what_is_wrong_is_said_in_one_sentence(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(LLMBertError, match=message) as refusal:
        found(write(tmp_path / name, content))
    assert "\n" not in str(refusal.value)


def test_a_torn_zstandard_file_is_refused(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.compress(b"".join(b"line %d\n" % n for n in range(9999)))
    assert len(found(write(tmp_path / "whole.txt.zst", data + data), lines=True)) == 2 * 9999  # two frames
    with pytest.raises(LLMBertError, match="not a whole Zstandard file"):
        found(write(tmp_path / "a.txt.zst", data[:-5]), lines=True)


def test_malformed_json_is_refused_without_reading_on() -> None:
    left = iter(['[{"text": "a"}, {"text": }', *[', {"text": "b"}' * 100] * 1000])
    records = JsonReader(Source("a.json", "a.json", ".json"), left).records()
    assert next(records)[0] == {"text": "a"}
    with pytest.raises(LLMBertError, match="line 1 is not JSON"):
        next(records)
    assert len(list(left)) > 900  # no more than once, for the value might have been cut off


@given(
    st.lists(st.sampled_from(['"\\ud83d\\ude00x"', "-Infinity", "1.5e-7", "true", '{"a": [null]}', '""']), max_size=6)
)
def test_json_may_be_cut_anywhere(values: list[str]) -> None:
    text = f"[{', '.join(f'[{value}]' for value in values)}]"
    for at in range(1, len(text)):
        reader = JsonReader(Source("a.json", "a.json", ".json"), iter([text[:at], text[at:]]))
        assert [record for record, _ in reader.records()] == json.loads(text)


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "folder" / "link.txt"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "gone.txt")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: found(tmp_path / "no.txt"), "no.txt does not exist"),
        (lambda: found(tmp_path / "*.txt"), "matches no file"),
        (lambda: found(tmp_path), "holds no file to read"),
        (lambda: found(tmp_path / ("n" * 300)), r"n+ cannot be read \(File name too long\)"),
        (lambda: found(tmp_path / "folder" / "link*"), r"link.txt cannot be read \(No such file or directory\)"),
        (lambda: found(), "no data was named"),
    ]
    for call, message in cases:
        with pytest.raises(LLMBertError, match=message):
            call()


def test_broken_requests_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "x")
    with pytest.raises(UsageError, match="regular expression"):
        found(file, split_on="(")
    with pytest.raises(UsageError, match="choose one"):
        found(file, split_on="a", lines=True)
