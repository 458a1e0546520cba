"""What the tests of the server share: small runs of every family, and a server of them on a free port."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, live
from random_runs import random_run

import llmbert
from llmbert.serving.catalogue import Served, load_runs
from llmbert.serving.settings import ServeSettings

PROSE = (
    "The river rises in the hills and runs to the sea. Where it bends, people built a mill; where it is wide, a town. "
    "In spring the water is high and brown, in autumn it is low and clear."
)
LINES = ["the river runs", "the mill stands", "a town grows", "the sea is wide"] * 12
SMALL = {"steps": 30, "layers": 1, "width": 16, "heads": 2, "context": 48, "batch": 4}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained runs gpt, ngram and chars (n-grams of bytes and of characters), and kinds (classes)."""
    folder = tmp_path_factory.mktemp("served")
    text, labelled = folder / "text.txt", folder / "labelled.tsv"
    text.write_text("\n".join(PROSE for _ in range(8)))
    rows = [f"{line}\t{'water' if at % 4 in (0, 3) else 'land'}" for at, line in enumerate(LINES)]
    labelled.write_text("\n".join(["text\tlabel", *rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)  # charts would take most of the time
        llmbert.train("gpt", [text], folder / "gpt", settings=SMALL, tokenizer="bytes", lines=True)
        llmbert.train("ngram", [text], folder / "ngram", settings={"order": 4}, tokenizer="bytes", lines=True)
        llmbert.train("ngram", [text], folder / "chars", settings={"order": 3}, tokenizer="chars", lines=True)
        llmbert.fine_tune("classify", [labelled], folder / "kinds", settings=SMALL, tokenizer="bytes")
    return folder


@pytest.fixture(scope="session")
def runs(folders: Path) -> dict[str, Served]:
    """Those, and one of random weights of every other family; ende translates, t5 summarises."""
    found = load_runs([str(folders / name) for name in ("gpt", "ngram", "chars", "kinds")])
    for name in ("lstm", "vae", "gan", "bert", "mixture", "ende", "t5"):
        found[name] = Served(name, random_run(name, folders, PROSE))
    return found


@pytest.fixture(scope="session")
def server(runs: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of all runs that keeps feedback and asks for no key."""
    with live(runs, ServeSettings(feedback=tmp_path_factory.mktemp("feedback") / "feedback.sqlite")) as running:
        yield running
