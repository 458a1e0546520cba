"""What the tests of the command line share: a text, finished runs, and pages without charts."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from running import llmbert, tiny


@pytest.fixture
def charts() -> None:
    """Asked for by a test whose pages are to have charts."""


@pytest.fixture(autouse=True)
def plain_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, which would take half of the time of these small trainings."""
    if "charts" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 lines of ten words that come in no order: 8 kB that nothing learns by heart in a few steps."""
    words = ["the", "river", "rises", "in", "hills", "and", "runs", "to", "sea", "where", "it", "bends", "a", "mill"]
    draw = random.Random(1)
    path = tmp_path_factory.mktemp("text") / "river.txt"
    path.write_text("\n".join(" ".join(draw.choices(words, k=10)) for _ in range(200)) + "\n")
    return path


@pytest.fixture(scope="session")
def runs(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs gpt, lstm and ngram, of bytes. Copy what you mean to break."""
    folder = tmp_path_factory.mktemp("runs")
    for family in ("gpt", "lstm", "ngram"):
        result = llmbert("train", "--data", text, "--tokenizer", "bytes", "--out", folder / family, *tiny(family))
        assert result.code == 0, result.err
    return folder
