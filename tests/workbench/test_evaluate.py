"""The verb evaluate, from Python: which part of a text is scored, and two runs compared on the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ENGLISH

import llmbert
from llmbert.workbench import measure

SHAPE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "context": 16, "steps": 2, "batch": 4}


@pytest.fixture(scope="module")
def berts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two BERTs that tell the same text in different tokens."""
    folder = tmp_path_factory.mktemp("berts")
    (folder / "text.txt").write_text("\n".join([ENGLISH] * 40), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "MOST_PSEUDO", 60)
        for kind in ("bytes", "bpe"):
            settings = SHAPE if kind == "bytes" else SHAPE | {"vocabulary_size": 300}
            llmbert.train("bert", folder / "text.txt", folder / kind, lines=True, settings=settings, tokenizer=kind)
    return folder / "bytes", folder / "bpe"


@pytest.mark.parametrize("documents", [1, 3, 40])
def test_pseudo_likelihoods_of_two_tokenisers_are_compared_on_the_same_text(
    documents: int, berts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_PSEUDO", 150)
    text = tmp_path / "text.txt"
    text.write_text(
        "\n".join([f"{i} 只 cat runs " + "a dog sat on it. " * (120 // documents) for i in range(documents)])
    )
    found = llmbert.evaluate(berts[0], text, against=berts[1])["comparison"]["bits_per_byte"]
    other = llmbert.evaluate(berts[1], text, against=berts[0])["comparison"]["bits_per_byte"]
    assert found["difference"] is not None and found["difference"] == pytest.approx(-other["difference"])
    assert found["part"] == other["part"] and found["part"].startswith("the first ")
    assert found["part"].partition(",")[0].endswith(f" of {documents} documents")


def test_what_was_read_of_a_text_is_said(
    berts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i:02}345678\n" for i in range(40)))
    monkeypatch.setattr(measure, "MOST_PSEUDO", 400)
    whole = llmbert.evaluate(berts[0], text)
    assert whole["documents"] == 40 and "part" not in whole and "first" not in whole["signature"]
    monkeypatch.setattr(measure, "MOST_PSEUDO", 50)
    scores = llmbert.evaluate(berts[0], text)
    assert scores["part"] == "the first 5 of 40 documents" and scores["documents"] == 5
    assert "|part:the first 5 of 40 documents|" in scores["signature"]
    monkeypatch.setattr(measure, "MOST_PSEUDO", 55)
    assert llmbert.evaluate(berts[0], text)["part"] == "the first 6 of 40 documents, of the last its beginning"
