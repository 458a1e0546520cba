"""The corpus store: what is in it, how text is split, and that it is there whole or not at all."""

import errno
import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmbert.data import corpus as corpus_module
from llmbert.data import shards
from llmbert.data.corpus import Corpus, build_corpus, build_shard, count_unknown, open_corpus
from llmbert.data.shards import ShardWriter
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.tokenisers import TOKENISERS, Tokeniser, train_tokeniser

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def verses(tmp_path: Path) -> Path:
    random_words = random.Random(5)
    words = ["river", "mill", "月", "明月", "runs", "the", "é", "🎉"]
    lines = [" ".join(random_words.choices(words, k=random_words.randint(3, 12))) for _ in range(400)]
    return write_lines(tmp_path / "verses.txt", lines)


def texts_of(corpus: Corpus, name: str) -> list[str]:
    shard = getattr(corpus, name)
    return [shard.text_of(number, corpus.tokeniser) for number in range(shard.documents)]


@pytest.mark.parametrize("kind", ["bytes", "chars", "bpe"])
def test_every_document_is_in_one_split_with_its_id_and_its_text(kind: str, verses: Path, tmp_path: Path) -> None:
    corpus = build_corpus([str(verses)], tmp_path / "corpora", kind=kind, lines=True)
    lines = verses.read_text(encoding="utf-8").splitlines()
    by_id: dict[str, str] = {}
    for name in ("train", "valid"):
        by_id.update(zip(getattr(corpus, name).document_ids, texts_of(corpus, name), strict=True))
    expected = {f"verses.txt:{number}": line for number, line in enumerate(lines, 1)}
    if kind != "chars":
        assert by_id == expected
    assert by_id.keys() == expected.keys()
    assert 20 <= corpus.valid.documents <= 70


@pytest.mark.parametrize("kind", list(TOKENISERS))
def test_a_shard_holds_what_the_tokeniser_gives_between_begin_and_end(kind: str, verses: Path, tmp_path: Path) -> None:
    corpus = build_corpus([str(verses)], tmp_path / "corpora", kind=kind, lines=True)
    lines = verses.read_text(encoding="utf-8").splitlines()
    train = corpus.train
    assert train.starts[0] == 0 and train.starts[-1] == len(train.ids) and train.ids.dtype == np.uint16
    unknown = 0
    for index in range(train.documents):
        line = lines[int(train.document_ids[index].split(":")[1]) - 1]
        ids = corpus.tokeniser.encode(line)
        assert train.document(index).tolist() == [2, *ids.tolist(), 3]
        assert train.document_bytes[index] == len(line.encode())
        assert train.document_characters[index] == len(line)
        unknown += count_unknown(ids, corpus.tokeniser)
    assert train.unknown == unknown
    assert train.tokens == len(train.ids) - train.documents


def test_equal_documents_fall_on_one_side(tmp_path: Path) -> None:
    lines = [f"line {number % 300}" for number in range(3000)]
    corpus = build_corpus([str(write_lines(tmp_path / "a.txt", lines))], tmp_path / "c", kind="bytes", lines=True)
    assert not set(texts_of(corpus, "train")) & set(texts_of(corpus, "valid"))
    assert corpus.overlap["duplicate_documents"] == 0
    assert 0.02 < corpus.valid.documents / 3000 < 0.09  # a twentieth of many


@pytest.mark.parametrize("count", [2, 3, 5])
def test_neither_split_is_ever_empty(count: int, tmp_path: Path) -> None:
    for attempt in range(10):
        lines = [f"attempt {attempt} line {number}" for number in range(count)]
        file = write_lines(tmp_path / f"{attempt}.txt", lines)
        corpus = build_corpus([str(file)], tmp_path / "c", kind="bytes", lines=True)
        assert corpus.train.documents >= 1 and corpus.valid.documents >= 1
        assert corpus.train.documents + corpus.valid.documents == count


def test_one_text_over_and_over_is_split_all_the_same(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.txt", ["the same"] * 20)
    corpus = build_corpus([str(file)], tmp_path / "c", kind="bytes", lines=True)
    assert (corpus.train.documents, corpus.valid.documents) == (19, 1)
    assert corpus.overlap["duplicate_document_share"] == 1.0


@pytest.mark.parametrize("text", ["ab", "0123456789", "明月几时有，把酒问青天。" * 1000, "x y\n" * 200_000])
def test_one_document_gives_its_last_tenth(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    corpus = build_corpus([str(tmp_path / "a.txt")], tmp_path / "c", kind="bytes")
    cut = len(text) * 9 // 10
    assert texts_of(corpus, "train") == [text[:cut]]
    assert texts_of(corpus, "valid") == [text[cut:]]
    assert list(corpus.valid.document_ids) == [f"a.txt[{cut}:]"]


def test_validation_files_of_their_own_are_kept(tmp_path: Path, verses: Path) -> None:
    other = write_lines(tmp_path / "valid.txt", ["the mill", "unseen words here"])
    corpus = build_corpus([str(verses)], tmp_path / "c", kind="words", lines=True, valid_paths=[str(other)])
    assert corpus.train.documents == 400
    assert list(corpus.valid.document_ids) == ["valid.txt:1", "valid.txt:2"]
    assert corpus.valid.unknown == 3


def test_the_tokeniser_learns_from_training_text_only(tmp_path: Path) -> None:
    lines = [f"word{number}" for number in range(200)]
    file = write_lines(tmp_path / "a.txt", lines)
    corpus = build_corpus([str(file)], tmp_path / "c", kind="words", lines=True)
    assert corpus.valid.unknown == corpus.valid.documents > 0
    assert corpus.train.unknown == 0


def test_the_description_can_be_written_as_json_and_is_complete(verses: Path, tmp_path: Path) -> None:
    corpus = build_corpus([str(verses)], tmp_path / "c", kind="chars", lines=True)
    described = json.loads(json.dumps(corpus.describe()))
    text = verses.read_text(encoding="utf-8").splitlines()
    assert described["train"]["documents"] + described["valid"]["documents"] == 400
    assert described["train"]["bytes"] + described["valid"]["bytes"] == sum(len(line.encode()) for line in text)
    assert described["encodings"] == {"verses.txt": "utf-8"}
    assert described["tokeniser"]["fingerprint"] == corpus.tokeniser.fingerprint == corpus.tokeniser_fingerprint
    assert described["overlap"]["window"] >= 4
    assert str(tmp_path) not in json.dumps(described)


def test_the_same_request_opens_the_store_that_is_there(
    verses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_corpus([str(verses)], tmp_path / "c", kind="bpe", vocabulary_size=300, lines=True)
    monkeypatch.setattr(corpus_module, "_fill", None)  # building would fail
    again = build_corpus([str(verses)], tmp_path / "c", kind="bpe", vocabulary_size=300, lines=True)
    assert again.folder == first.folder and again.fingerprint == first.fingerprint
    for change in ({"vocabulary_size": 301}, {"lines": False}, {"valid_share": 0.2}, {"kind": "bytes"}):
        with pytest.raises(TypeError):
            build_corpus(
                [str(verses)], tmp_path / "c", **{"kind": "bpe", "vocabulary_size": 300, "lines": True} | change
            )
    verses.write_text("other text\n" * 3)
    with pytest.raises(TypeError):
        build_corpus([str(verses)], tmp_path / "c", kind="bpe", vocabulary_size=300, lines=True)


def test_two_builds_of_one_text_are_equal_byte_for_byte(verses: Path, tmp_path: Path) -> None:
    folders = [build_corpus([str(verses)], tmp_path / c, kind="unigram", lines=True).folder for c in "ab"]
    names = sorted(file.name for file in folders[0].iterdir())
    assert names == sorted(file.name for file in folders[1].iterdir())
    assert [(folders[0] / n).read_bytes() for n in names] == [(folders[1] / n).read_bytes() for n in names]


def test_a_given_tokeniser_is_used(verses: Path, tmp_path: Path) -> None:
    tokeniser = train_tokeniser("bpe", ["the river runs"], 270)
    corpus = build_corpus([str(verses)], tmp_path / "c", tokeniser, lines=True)
    assert corpus.tokeniser_fingerprint == tokeniser.fingerprint
    opened = open_corpus(corpus.folder)
    assert np.array_equal(opened.train.ids, corpus.train.ids)


def test_more_special_tokens_make_another_store(verses: Path, tmp_path: Path) -> None:
    tokeniser = train_tokeniser("bpe", [verses.read_text(encoding="utf-8")], 300)
    mask = ("<|mask token|>",)
    for given in ({"tokeniser": tokeniser}, {"kind": "bpe", "vocabulary_size": 300}):
        plain = build_corpus([str(verses)], tmp_path / "corpora", lines=True, **given)
        masked = build_corpus([str(verses)], tmp_path / "corpora", lines=True, special_tokens=mask, **given)
        assert plain.fingerprint != masked.fingerprint
        assert not plain.tokeniser.special_ids
        assert masked.tokeniser.special_ids == {mask[0]: plain.tokeniser.vocabulary_size}
        assert np.array_equal(plain.train.ids, masked.train.ids)


def test_large_vocabularies_take_four_bytes_a_token(tmp_path: Path) -> None:
    lines = [f"w{number}" for number in range(70_000)]
    corpus = build_corpus([str(write_lines(tmp_path / "a.txt", lines))], tmp_path / "c", kind="words", lines=True)
    assert corpus.train.ids.dtype == np.uint32
    assert corpus.train.text_of(1, corpus.tokeniser) in lines


def test_long_documents_are_written_in_parts_as_if_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["short one", "long " * 40_000, "", "short two", "明月，" * 50_000]
    file = write_lines(tmp_path / "a.txt", lines)
    tokeniser = train_tokeniser("bpe", ["long short one two"], 300)
    shard = build_shard([str(file)], tokeniser, tmp_path / "s", lines=True)
    kept = [line for line in lines if line]
    assert [shard.text_of(number, tokeniser) for number in range(4)] == kept
    assert shard.document_bytes.tolist() == [len(line.encode()) for line in kept]
    assert shard.document_characters.tolist() == [len(line) for line in kept]
    monkeypatch.setattr(shards, "_SHORT_CHARACTERS", 1 << 30)
    whole = build_shard([str(file)], tokeniser, tmp_path / "w", lines=True)
    assert np.array_equal(whole.ids, shard.ids) and np.array_equal(whole.digests, shard.digests)
    assert list(whole.document_ids) == list(shard.document_ids) == shard.document_ids[:]


def test_standard_input_is_kept_for_the_second_reading(tmp_path: Path) -> None:
    script = (
        "import sys; from llmbert.data.corpus import build_corpus; "
        "c = build_corpus(['-'], sys.argv[1], kind='words', lines=True); "
        "print(c.train.documents + c.valid.documents, c.train.unknown)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c")], input="a b\nc d\n\ne f\n", capture_output=True, text=True
    )
    assert answer.stdout.split() == ["3", "0"], answer.stderr
    assert len(list((tmp_path / "c").iterdir())) == 1  # no spool is left


@pytest.mark.parametrize(("content", "message"), [("\n \n\t\n", "blank"), ("x", "one character"), ("", "empty")])
def test_text_that_is_no_corpus_is_refused_and_leaves_nothing(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    for lines in (False, True):
        with pytest.raises(LLMBertError, match=message):
            build_corpus([str(tmp_path / "a.txt")], tmp_path / "c", kind="bytes", lines=lines)
        assert list((tmp_path / "c").iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    verses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "_write", full)
    with pytest.raises(LLMBertError, match=r"the disk is full while writing .* MB are left\); free"):
        build_corpus([str(verses)], tmp_path / "c", kind="bytes", lines=True)
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_really_full_device_is_noticed(verses: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "text.ids").symlink_to("/dev/full")
    with pytest.raises(LLMBertError, match="the disk is full"):
        build_shard([str(verses)], train_tokeniser("bytes", []), tmp_path / "s", lines=True)


def test_an_interrupted_build_leaves_nothing(verses: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, *_: object, **__: object) -> None:
        if stage == "tokenising":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus([str(verses)], tmp_path / "c", kind="bytes", lines=True, progress=interrupt)
    assert list((tmp_path / "c").iterdir()) == []


def test_what_a_killed_build_left_is_swept_away(verses: Path, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    root = tmp_path / "c"
    for name in (f".0123456789abcdef.{dead.pid}.x.part", f".0123456789abcdef.{os.getpid()}.x.part"):
        (root / name).mkdir(parents=True)
    corpus = build_corpus([str(verses)], root, kind="bytes", lines=True)
    assert {path.name for path in root.iterdir()} == {corpus.folder.name, f".0123456789abcdef.{os.getpid()}.x.part"}


def test_text_that_changes_while_it_is_read_is_noticed(verses: Path, tmp_path: Path) -> None:
    real = corpus_module._survey

    def survey_then_change(*arguments: object) -> object:
        answer = real(*arguments)  # type: ignore[arg-type]
        write_lines(verses, ["another line"] * 7)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_survey", survey_then_change)
        with pytest.raises(LLMBertError, match="changed while it was being read"):
            build_corpus([str(verses)], tmp_path / "c", kind="bytes", lines=True)
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["corpus.json", "train.ids", "train.starts.npy", "tokenizer.json", "valid.document_ids"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_store_is_refused_and_built_anew(name: str, damage: str, verses: Path, tmp_path: Path) -> None:
    corpus = build_corpus([str(verses)], tmp_path / "c", kind="bytes", lines=True)
    file = corpus.folder / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 - 1])
    with pytest.raises(LLMBertError, match=r"damaged|corpus store|missing"):
        open_corpus(corpus.folder)
    again = build_corpus([str(verses)], tmp_path / "c", kind="bytes", lines=True)
    assert again.train.documents == corpus.train.documents


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_that_may_not_be_read_is_named(verses: Path, tmp_path: Path) -> None:
    verses.chmod(0)
    with pytest.raises(LLMBertError, match=r"verses.txt cannot be read"):
        build_corpus([str(verses)], tmp_path / "c", kind="bytes", lines=True)


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LLMBertError, match="no corpus store"):
        open_corpus(tmp_path)


def test_requests_that_cannot_be_are_refused(verses: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        build_corpus([str(verses)], tmp_path / "c", valid_share=1.5)
    with pytest.raises(UsageError, match="no tokeniser 'letters'"):
        build_corpus([str(verses)], tmp_path / "c", kind="letters", lines=True)


def test_pieces_are_spread_evenly() -> None:
    pieces = [str(number % 10) * 100 for number in range(1000)]
    chosen = list(corpus_module.spread(iter(pieces), 0.25))
    assert len(chosen) == 250
    assert {piece[0] for piece in chosen} >= set("13579")
    assert list(corpus_module.spread(iter(pieces), 1.0)) == pieces


MEMORY_SCRIPT = """
import resource, sys
from llmbert.data.corpus import build_corpus
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
small, large, folder, kind = sys.argv[1:]
build_corpus([small], folder, kind=kind, lines=True)
before = peak()
build_corpus([large], folder, kind=kind, lines=True)
print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["bytes", "words"])
def test_a_line_larger_than_what_is_allowed_in_memory_streams(kind: str, tmp_path: Path) -> None:
    block = " ".join(random.Random(1).choices(["river", "mill", "sack", "noon"], k=200_000)) + " "
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_text(block * 3)
    large.write_text(block * 20)
    script = [sys.executable, "-c", MEMORY_SCRIPT, str(small), str(large), str(tmp_path / "c"), kind]
    grown = int(subprocess.run(script, check=True, capture_output=True, text=True).stdout)
    assert large.stat().st_size > 19_000_000
    assert grown < 10_000_000, f"memory grew by {grown / 1e6:.0f} MB over a line of 20 MB"


@needs_data
def test_the_penn_treebank_is_counted_as_in_the_literature(tmp_path: Path) -> None:
    files = [str(DATA / "ptb" / name) for name in ("train.txt.gz", "valid.txt.gz")]
    corpus = build_corpus(files[:1], tmp_path, kind="words", lines=True, valid_paths=files[1:])
    assert (corpus.train.tokens, corpus.valid.tokens) == (929_589, 73_760)  # words and one end a sentence
    assert corpus.tokeniser.vocabulary_size == 9_999 + 4
    assert corpus.valid.unknown == 0


@pytest.fixture(scope="module")
def poems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not DATA.is_dir():
        pytest.skip("the shared data sets are not here")
    raw = gzip.decompress((DATA / "chinese_poetry" / "tang.valid.jsonl.gz").read_bytes())
    path = tmp_path_factory.mktemp("poems") / "poems.jsonl"
    path.write_bytes(raw.decode().encode("gb18030"))
    yield path


def test_chinese_poems_in_gb18030_make_a_corpus(poems: Path, tmp_path: Path) -> None:
    corpus = build_corpus([str(poems)], tmp_path, kind="chars")
    assert corpus.train.documents + corpus.valid.documents == 2796
    assert corpus.describe()["encodings"] == {"poems.jsonl": "gb18030"}
    assert "，" in corpus.train.text_of(0, corpus.tokeniser)
    assert isinstance(corpus.tokeniser, Tokeniser)


@pytest.mark.parametrize("own_valid", [False, True])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("length", [400, 4000])
def test_a_part_can_be_kept_from_training(length: int, many: bool, own_valid: bool, tmp_path: Path) -> None:
    """The three parts are all of the text, none of it twice; without keeping, validation is the same."""
    lines = [f"line number {number} of a text that goes on" for number in range(length)]
    path, valid = tmp_path / "text.txt", tmp_path / "valid.txt"
    path.write_text("\n".join(lines), "utf-8")
    valid.write_text("something else\nand more", "utf-8")
    options: dict[str, Any] = {"kind": "bytes", "lines": many, "valid_paths": [str(valid)] if own_valid else None}
    corpus = build_corpus([str(path)], tmp_path / "store", keep=True, **options)
    plain = build_corpus([str(path)], tmp_path / "store", **options)
    assert plain.kept is None and corpus.kept is not None
    assert plain.valid.digests.tolist() == corpus.valid.digests.tolist()
    parts = [corpus.train, corpus.kept, *([] if own_valid else [corpus.valid])]
    texts = [[part.text_of(i, corpus.tokeniser) for i in range(part.documents)] for part in parts]
    if many:
        assert sorted(text for part in texts for text in part) == sorted(lines)
        assert 4 < corpus.kept.documents < length / 10
    else:
        names = [name for part in parts for name in part.document_ids]
        where = [int(name.partition("[")[2].partition(":")[0] or 0) for name in names]
        together = sorted(zip(where, (text for part in texts for text in part), strict=True))
        assert "".join(text for _, text in together) == "\n".join(lines)
        assert 0.02 < len("".join(texts[1])) / len("\n".join(lines)) < 0.04
        assert len(texts[1]) == (1 if length == 400 else 4)
    assert open_corpus(corpus.folder).kept is not None


def test_what_is_kept_never_reaches_into_validation(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + n % 26) for n in range(20_000)), "utf-8")
    corpus = build_corpus([str(path)], tmp_path / "store", kind="bytes", keep=True, valid_share=0.98)
    assert corpus.kept is not None
    sizes = [int(part.document_characters.sum()) for part in (corpus.train, corpus.kept, corpus.valid)]
    assert sum(sizes) == 20_000 and 0 < sizes[1] < sizes[0] < sizes[2]
