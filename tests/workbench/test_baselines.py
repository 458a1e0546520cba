"""What costs nothing to beat: a compressor is shown the last of the training text, unless that takes too long."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest

from llmbert.data.corpus import Corpus, build_corpus
from llmbert.runs import disk_error
from llmbert.workbench import pages
from llmbert.workbench.pages import PRESET, baselines, seconds_of_baselines

TRAIN = "".join(f"line {i % 37} of a text that says 中文 and 🌊 again, number {i}\n" for i in range(400))
VALID = "".join(f"line {i % 37} of another text that says 中文 again, number {i}\n" for i in range(30))


def corpus_of(folder: Path, kind: str, lines: bool = False) -> Corpus:
    (train, valid) = (folder / "train.txt", folder / "valid.txt")
    train.write_text(TRAIN, "utf-8")
    valid.write_text(VALID, "utf-8")
    return build_corpus([str(train)], folder / "corpora", kind=kind, valid_paths=[str(valid)], lines=lines)


def compressor(corpus: Corpus) -> Any:
    return {row["name"]: row["bits_per_byte"] for row in baselines(corpus, corpus.tokeniser, "en")}.get(
        "xz + training text"
    )


@pytest.mark.parametrize("shown", [1 << 20, 3000])
@pytest.mark.parametrize(("kind", "lines"), [("bytes", False), ("bpe", True)])
def test_a_compressor_is_shown_the_last_of_the_training_text(
    shown: int, kind: str, lines: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SHOWN", shown)
    corpus = corpus_of(tmp_path, kind, lines)
    end = "" if lines else "\n"  # of each line where it is a document of its own
    train, valid = ((text.rstrip("\n") + end).encode() for text in (TRAIN, VALID))
    before = train[-shown:]
    both, alone = (len(lzma.compress(text, preset=PRESET)) for text in (before + valid, before))
    size = int(corpus.valid.document_bytes.sum())
    assert compressor(corpus) == pytest.approx(8 * (both - alone) / size)


def test_text_that_would_take_too_long_is_not_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path, "bytes")
    assert seconds_of_baselines(corpus) > 0 and compressor(corpus) is not None
    monkeypatch.setattr(pages, "COMPRESSED_AT_MOST", len((TRAIN + VALID).encode()) - 10)
    assert compressor(corpus) is None and seconds_of_baselines(corpus) == 0


def test_what_the_text_decides_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path, "bpe")
    first = baselines(corpus, corpus.tokeniser, "en")
    monkeypatch.setattr(pages, "_compressed_bits", lambda *_: pytest.fail("measured again"))
    assert baselines(corpus, corpus.tokeniser, "en") == first and seconds_of_baselines(corpus) == 0
    chinese = baselines(corpus, corpus.tokeniser, "zh")
    assert [row["bits_per_byte"] for row in chinese] == [row["bits_per_byte"] for row in first] and chinese != first


def test_where_nothing_can_be_kept_beside_the_text_it_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path, "bytes")

    def full(path: Path, content: Any) -> None:
        raise disk_error(path, OSError(28, "No space left on device"))

    monkeypatch.setattr(pages, "write_json", full)
    first = compressor(corpus)
    assert first is not None and not (corpus.train.folder / pages.BASELINES).exists()
    assert compressor(corpus) == first
