"""What is measured of a run on held-out text, and how much of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from llmbert.data.corpus import build_corpus, build_shard
from llmbert.data.denoising import SENTINELS
from llmbert.data.pairs import Reference
from llmbert.models import FAMILIES
from llmbert.models.scoring import cut_pieces
from llmbert.models.t5 import T5Settings
from llmbert.models.vae import VAE, VAESettings
from llmbert.protocols import UsageError
from llmbert.runs import Run as RealRun
from llmbert.text.tokenisers import train_tokeniser
from llmbert.workbench import measure
from llmbert.workbench.evaluate import evaluate
from llmbert.workbench.measure import (
    TASKS,
    describe_draws,
    describe_latent,
    restored_nats,
    score_answers,
    shard_nats,
    target_language,
    trivial_answers,
    write_answers,
)


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


def test_of_a_document_that_crosses_the_limit_the_head_is_scored(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat runs", "utf-8")
    (tmp_path / "b.txt").write_text("a dog sat on it " * 1200, "utf-8")
    run: Any = Run()
    run.tokeniser = train_tokeniser("words", ["the cat runs", "a dog sat on it"], None)
    found = shard_nats(run, build_shard([str(tmp_path)], run.tokeniser, tmp_path / "shard"))
    assert measure.MOST_PSEUDO - 10 <= len(run.model.asked[0]) <= measure.MOST_PSEUDO
    assert found.documents == 2 and list(found.document_bytes) == [
        12,
        len(run.tokeniser.decode(run.model.asked[0][5:])),
    ]
    assert found.part == "the first 2 of 2 documents, of the last its beginning"


@pytest.mark.parametrize("documents", [1, 2, 3, 20])
def test_what_was_taken_out_is_counted_once(documents: int) -> None:
    tokeniser = train_tokeniser("words", ["sun moon star sea"], None).with_special_tokens(SENTINELS)
    torch.manual_seed(0)
    model = FAMILIES["t5"].build(T5Settings(layers=1, width=16, heads=2, context=8), tokeniser.vocabulary_size)
    texts = ["sun moon star sea"[: 8 + i % 10] for i in range(documents)]
    parts = [np.array([tokeniser.begin_id, *tokeniser.encode(text), tokeniser.end_id]) for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(part) for part in parts])))
    rows = restored_nats(model, tokeniser, np.concatenate(parts), starts)
    assert len(rows) == documents


@pytest.mark.parametrize("lines", [False, True])
def test_the_bound_is_tightened_on_so_many_texts_at_most_however_long_the_documents(
    lines: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BOUNDED", 7)
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{i} 中文 line\n" for i in range(30)), "utf-8")
    run = Run()
    torch.manual_seed(0)
    run.model = VAE(VAESettings(width=8, latent=2, context=8), run.tokeniser.vocabulary_size)  # type: ignore[assignment]
    shard = build_corpus(
        [str(tmp_path / "train.txt")], tmp_path / "store", run.tokeniser,
        valid_paths=[str(tmp_path / "valid.txt")], lines=lines,
    ).valid  # fmt: skip
    nats = run.model.token_nats(np.asarray(shard.ids), np.asarray(shard.starts), measure.silent)
    found = describe_latent(run, shard, nats)  # type: ignore[arg-type]
    tight, (firsts, sizes) = found["importance"], cut_pieces(np.asarray(shard.starts), 8)
    assert tight["texts"] == 7 < found["all_texts"] == len(firsts)
    inside = np.concatenate([np.arange(f + 1, f + n + 1) for f, n in zip(firsts[:7], sizes[:7], strict=True)])
    assert tight["bound"] == pytest.approx(float(nats[inside].sum()) / 7, rel=1e-5)
    assert tight["weighted"] < tight["bound"] < 1.2 * tight["weighted"]


@pytest.mark.parametrize("held_out", [7, 90])
def test_as_many_texts_are_drawn_as_are_held_out(
    held_out: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "DRAWN", 50)
    for name, lines in (("train", 30), ("valid", held_out)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{i} two {i + 1}\n" for i in range(lines)), "utf-8")
    run = Run()
    corpus = build_corpus(
        [str(tmp_path / "train.txt")], tmp_path / "store", run.tokeniser,
        valid_paths=[str(tmp_path / "valid.txt")], lines=True,
    )  # fmt: skip
    real = [run.tokeniser.encode(f"{i} two {i + 1}") for i in range(held_out)]
    sampled = [real[i * held_out // 50] for i in range(50)] if held_out > 50 else real

    class Drawing:
        settings = SimpleNamespace(context=64)

        def sample(self, count: int, *asked: Any, **more: Any) -> list[np.ndarray]:
            return sampled[:count]

    run.model = Drawing()  # type: ignore[assignment]
    found = describe_draws(run, corpus.valid)  # type: ignore[arg-type]
    assert found["distinct2"]["n"] == min(held_out, 50)
    for score in found.values():
        assert score["score"] == pytest.approx(score["baseline"]["value"]), "real texts are as varied as themselves"


@pytest.mark.parametrize(("facts", "longest"), [({}, 2 * 12 + 20), ({"longest_target": 7}, 17)])
def test_no_reference_says_how_long_an_answer_may_be(facts: dict[str, Any], longest: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokeniser, family = train_tokeniser("bytes", [], None), FAMILIES["transformer"]
    shape = family.settings_class()(layers=1, width=16, heads=2, inner=32, context=96)
    model = family.build(shape, tokeniser.vocabulary_size).eval()
    run = RealRun(tmp_path, model, tokeniser, {"family": "transformer", **facts})
    some = [Reference("how are you", ["well"], ""), Reference("and you all", ["we are well"], "")]
    every = [*some, Reference("why " * 20, ["because " * 30], "")]
    answers = write_answers(run, every, TASKS["translate"])
    assert write_answers(run, some, TASKS["translate"]) == answers[:2]
    assert all(len(tokeniser.encode(answer)) <= longest for answer in answers[:2])
    assert max(len(tokeniser.encode(answer)) for answer in answers[:2]) == longest, "it never ends by itself"
    limit = "max-tokens:2*source+20" + (",learned+10" if facts else "")
    scores = score_answers(run, every, answers, "translate")
    assert all(score["signature"].endswith(f"|decoding:greedy|{limit}") for score in scores.values())


def test_what_costs_nothing_suits_what_is_asked() -> None:
    prose, dialogue = (
        "It rained. It was cold. Then it snowed.",
        "A: hi\nB: hello there, you\nA: well, well\nB: good day",
    )
    asked = [Reference(text, [label], "") for text, label in ((prose, "x"), (dialogue, "y"), (dialogue, "y"))]
    assert trivial_answers("copy", asked)[1] == [prose, dialogue, dialogue]
    assert trivial_answers("majority", asked) == ("majority", ["y"] * 3)
    assert trivial_answers("lead-2", asked[:1]) == ("lead-2", ["It rained. It was cold."])
    name, answers = trivial_answers("lead-2", asked[1:])
    assert name == "longest-3" and answers[0] == "B: hello there, you\nA: well, well\nB: good day"


@pytest.mark.parametrize(
    ("name", "stated", "target", "language"),
    [
        ("translate en-de", None, "Ein Hund läuft im Park", "de"),
        ("translate", "zh-CN", "A dog runs in the park", "zh-CN"),
        ("summarise zh", "en", "A dog runs in the park", "zh"),
        ("translate English to German:", None, "Ein Hund läuft im Park", "en"),
        ("translate English to Chinese:", "chinese", "一只狗在跑", "zh"),
    ],
)
def test_the_language_of_targets_is_a_code_or_seen_in_them(
    name: str, stated: str | None, target: str, language: str
) -> None:
    run: Any = SimpleNamespace(facts={"languages": {"target": stated}} if stated else {})
    references = [Reference("a dog", [target], "")]
    assert target_language(run, name, references) == language
    assert all(score["score"] > 0 for score in score_answers(run, references, [target], name).values())


@pytest.mark.parametrize(
    ("reads_source", "options", "word"),
    [
        (True, {"lines": True}, "lines"),
        (True, {"split_on": "x"}, "split_on"),
        (False, {"beams": 9}, "beams"),
        (False, {"metrics": ["bleu"]}, "metrics"),
    ],
)
def test_an_option_that_a_run_makes_no_use_of_is_refused(
    reads_source: bool, options: dict[str, Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(folder=Path("run"), reads_source=reads_source, model=SimpleNamespace(likelihood="exact"))
    monkeypatch.setattr("llmbert.workbench.evaluate.load", lambda folder: run)
    with pytest.raises(UsageError, match=f"leave out {word}"):
        evaluate("run", "text.txt", **options)
