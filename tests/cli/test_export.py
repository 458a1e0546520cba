"""A run as one file of another program's, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import llmbert, tiny


def test_a_gpt_becomes_gguf_and_an_ngram_arpa(runs: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pairs = ("--tokenizer", "bpe", "--set", "vocabulary_size=300")
    trained = llmbert("train", "--data", text, *pairs, "--out", tmp_path / "gpt", *tiny("gpt"))
    assert trained.code == 0, trained.err
    made = llmbert("export", tmp_path / "gpt", "--out", tmp_path / "model.gguf", "--weights", "q8_0")
    assert made.code == 0 and (tmp_path / "model.gguf").read_bytes()[:4] == b"GGUF", made.err
    counted = llmbert("export", runs / "ngram", "--out", tmp_path / "model.arpa")
    assert counted.code == 0 and (tmp_path / "model.arpa").read_text("utf-8").startswith("\\data\\"), counted.err


def test_what_cannot_be_exported_is_said(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "there.gguf").write_text("mine", "utf-8")
    for run, name, code, said in (
        ("gpt", "model.onnx", 2, "should end in .gguf"),
        ("gpt", "model.gguf", 2, "one of kind bytes"),
        ("gpt", "there.gguf", 2, "--overwrite"),
        ("gpt", "nowhere/model.gguf", 2, "there is no folder"),
        ("lstm", "model.gguf", 2, "no architecture"),
        ("gpt", "model.arpa", 2, "only an n-gram"),
    ):
        result = llmbert("export", runs / run, "--out", tmp_path / name)
        assert (result.code, result.err.count("\n")) == (code, 1) and said in result.err, result.err
    weighed = llmbert("export", runs / "ngram", "--out", tmp_path / "model.arpa", "--weights", "q8_0")
    assert weighed.code == 2 and "leave out --weights" in weighed.err
    assert (tmp_path / "there.gguf").read_text("utf-8") == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["there.gguf"]
