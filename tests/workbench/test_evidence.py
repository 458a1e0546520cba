"""What a run writes is judged beside real text: a copier, a babbler and a good model are told apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import llmbert
from llmbert.data.corpus import build_corpus
from llmbert.runs import Run
from llmbert.workbench.evidence import Yardstick, draw_texts, evidence, real_texts

LINES = [
    f"the {size} {beast} {deed} near the {place} on day {day % 9}, and no {beast} of the {place} ever {deed} like it"
    for day, (size, beast, deed, place) in enumerate(
        (size, beast, deed, place)
        for size in ("old", "small", "grey")
        for beast in ("cat", "wolf", "owl", "ox")
        for deed in ("sleeps", "runs", "sings")
        for place in ("river", "hill", "sea", "wood")
    )
]


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "beasts.txt"
    path.write_text("\n".join(LINES), "utf-8")
    return path


@pytest.fixture(scope="module")
def corpus(prose: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_corpus([str(prose)], tmp_path_factory.mktemp("store"), kind="chars", lines=True)


def run_of(order: int, corpus: Any, folder: Path) -> Run:
    return llmbert.train("ngram", "unused", folder, settings={"order": order}, tokenizer="chars", store=corpus)


def test_a_copier_a_babbler_and_a_model_differ(corpus: Any, tmp_path: Path) -> None:
    yardstick, orders = Yardstick(corpus), {"babbler": 1, "model": 12}
    found = {name: evidence(run_of(order, corpus, tmp_path / name), yardstick) for name, order in orders.items()}
    babbler, model = found["babbler"], found["model"]
    assert babbler["forward"]["value"] > model["forward"]["value"] + 0.5, "it leaves the language"
    assert babbler["reverse"]["value"] > model["reverse"]["value"] + 0.5, "it covers little of it"
    assert babbler["verbatim"]["value"] < model["verbatim"]["value"], "who says what was said repeats it"
    assert babbler["forward"]["real"] == model["forward"]["real"] < babbler["forward"]["value"]
    assert all(0 < figures["milliseconds"]["value"] < 10_000 for figures in found.values())
    assert {"distinct2", "self-bleu4"} <= set(model)


def test_a_writer_of_one_sentence_covers_nothing(corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(6, corpus, tmp_path / "run")
    honest = evidence(run, Yardstick(corpus))
    ids = corpus.tokeniser.encode(LINES[0]).astype(np.int64)
    monkeypatch.setattr("llmbert.workbench.evidence.draw_texts", lambda run, count, *rest: [ids] * count)
    collapsed = evidence(run, Yardstick(corpus))
    assert collapsed["forward"]["value"] < honest["forward"]["value"] + 0.3, "each of its texts is good"
    assert collapsed["reverse"]["value"] > honest["reverse"]["value"] + 0.5, "together they are not"
    assert collapsed["self-bleu4"]["value"] > honest["self-bleu4"]["value"]
    assert collapsed["distinct2"]["value"] < honest["distinct2"]["value"]


def test_texts_are_drawn_the_same_again_and_real_ones_are_real(corpus: Any, tmp_path: Path) -> None:
    run = run_of(5, corpus, tmp_path / "run")
    first, second = (draw_texts(run, 5, 20) for _ in range(2))
    assert [text.tolist() for text in first] == [text.tolist() for text in second]
    assert all(len(text) <= 20 for text in first)
    real = real_texts(corpus.train, 30, 25)
    assert all(any(corpus.tokeniser.decode(text) in line for line in LINES) for text in real)
    assert len({tuple(text) for text in real}) > 20


@pytest.mark.parametrize("documents", [[3000], [100, 700, 2, 1, 3, 400], [30] * 40])
def test_real_text_is_taken_once_however_many_stretches_are_asked_for(documents: list[int]) -> None:
    sizes = np.array(documents) + 2  # begin and end tokens
    shard: Any = SimpleNamespace(ids=np.arange(sizes.sum()), starts=np.concatenate(([0], np.cumsum(sizes))))
    for count in (1, 7, 100):
        found = real_texts(shard, count, 64)
        taken = np.concatenate(found)
        assert len(set(taken.tolist())) == len(taken), "no token twice"
        assert 0 < len(found) <= count and all(0 < len(text) <= 64 for text in found)
        owners = [set(np.searchsorted(shard.starts, text, side="right")) for text in found]
        assert all(len(owner) == 1 for owner in owners) and not set(taken.tolist()) & set(shard.starts.tolist())
    assert len(real_texts(shard, 10_000, 64)) == sum(max(1, size // 64) for size in documents)


def test_a_run_is_compared_with_as_many_real_texts_as_there_are(corpus: Any, tmp_path: Path) -> None:
    yardstick = Yardstick(corpus)
    there = len(real_texts(corpus.valid, 1000, yardstick.length))
    assert there < 100
    drawn: list[int] = []
    yardstick.figures = lambda texts, of=yardstick.figures: drawn.append(len(texts)) or of(texts)  # type: ignore
    found = evidence(run_of(5, corpus, tmp_path / "run"), yardstick)
    assert drawn == [there, there]
    assert found["distinct2"]["signature"].startswith(f"{there} texts of 64 tokens|")
