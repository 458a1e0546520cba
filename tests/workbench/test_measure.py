"""What is measured of a run on held-out text, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmbert.data.corpus import build_corpus
from llmbert.text.tokenisers import train_tokeniser
from llmbert.workbench import measure
from llmbert.workbench.measure import shard_nats


class Pseudo:
    likelihood = "pseudo"

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def token_nats(self, ids: Any, starts: Any, progress: Any) -> np.ndarray:
        self.asked.append(np.asarray(ids))
        nats = np.ones(len(ids), np.float32)
        nats[np.asarray(starts[:-1])] = nats[np.asarray(starts[1:]) - 1] = 0
        return nats


class Run:
    def __init__(self) -> None:
        self.model, self.tokeniser = Pseudo(), train_tokeniser("bytes", [], None)


@pytest.mark.parametrize("lines", [False, True])
def test_a_pseudo_likelihood_is_of_so_many_tokens_at_most(
    lines: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_PSEUDO", 50)
    text = "".join(f"{i} 中文 line\n" for i in range(60))
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    run = Run()
    corpus = build_corpus(
        [str(tmp_path / "train.txt")], tmp_path / "store", run.tokeniser,
        valid_paths=[str(tmp_path / "valid.txt")], lines=lines,
    )  # fmt: skip
    found = shard_nats(run, corpus.valid)  # type: ignore[arg-type]
    (asked,) = run.model.asked
    assert 30 < len(asked) <= 50
    assert asked[-1] == run.tokeniser.end_id and asked[0] == run.tokeniser.begin_id
    shown = run.tokeniser.decode(asked)
    joined = text.replace("\n", "") if lines else text
    assert joined.startswith(shown.rstrip("\ufffd")), "the first documents, or the head of the only one"
    documents = int((asked == run.tokeniser.end_id).sum())
    assert len(found.document_bytes) == documents and documents == (1 if not lines else documents)
    assert float(found.nats.sum()) == len(asked) - 2 * documents
