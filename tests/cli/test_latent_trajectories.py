"""A text VAE from the command line: trained, measured, drawn from, and said to have collapsed where it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import llmbert

SIZES, BEASTS, DEEDS = ("small", "large", "old"), ("cat", "wolf", "owl", "ox"), ("sleeps", "runs", "sings")
SENTENCES = [f"the {size} {beast} {deed} here" for size in SIZES for beast in BEASTS for deed in DEEDS]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "beasts.txt"
    path.write_text("\n".join(SENTENCES * 8) + "\n", "utf-8")
    return path


def train(text: Path, out: Path, *options: str) -> dict[str, Any]:
    result = llmbert(
        "train", "--family=vae", "--data", text, "--valid", text, "--lines", "--tokenizer=words", "--out", out,
        "--set=width=48", "--set=latent=4", "--set=learning_rate=0.01", *options,
    )  # fmt: skip
    assert result.code == 0, result.err
    return dict(json.loads((out / "run.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def run(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vae") / "run"
    train(sentences, out, "--set=steps=300", "--set=free_bits=1.0", "--set=word_dropout=0.8")
    return out


def test_its_latent_variable_is_used_and_its_figures_stand_in_the_page(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text("utf-8"))
    latent = facts["latent"]
    assert facts["likelihood"] == facts["scores"]["likelihood"] == "bound"
    assert "elbo" in facts["scores"]["signature"]
    assert not latent["collapsed"] and latent["active_units"] >= 1
    assert latent["mutual_information"] > 1
    assert latent["bound"] == pytest.approx(latent["reconstruction"] + latent["kl"])
    assert latent["importance"]["weighted"] < latent["importance"]["bound"]
    line = json.loads((run / "log.jsonl").read_text("utf-8").splitlines()[-1])
    assert {"nll", "kl"} <= set(line), "each term is logged"
    page = (run / "report.html").read_text("utf-8")
    assert 'id="latent"' in page and "is in use" in page and "importance-weighted" in page


def test_texts_are_drawn_rebuilt_and_between(run: Path) -> None:
    def texts(*asked: str) -> list[str]:
        result = llmbert("latent", run, *asked, "--json")
        assert result.code == 0, result.err
        return list(json.loads(result.out)["texts"])

    drawn = texts("--draw=12")
    assert len(set(drawn)) > 3 and sum(text in SENTENCES for text in drawn) >= 6
    assert drawn == texts("--draw=12"), "the same seed draws the same"
    rebuilt = texts(*SENTENCES[:12])
    pairs = [zip(made.split(), text.split(), strict=False) for made, text in zip(rebuilt, SENTENCES, strict=False)]
    assert sum(a == b for pair in pairs for a, b in pair) > 12 * 5 * 0.7
    line = texts(SENTENCES[0], SENTENCES[-1], "--steps=5")
    assert len(line) == 5 and line[0] == texts(SENTENCES[0])[0] and line[-1] == texts(SENTENCES[-1])[0]
    (edited,) = texts(SENTENCES[0], "--without", SENTENCES[3], "--like", SENTENCES[3])
    assert edited == rebuilt[0], "what is taken off and put on again changes nothing"
    sampled = llmbert("generate", run, "--max-tokens", "9", "--seed", "3")
    assert sampled.code == 0 and sampled.out.strip()


def test_evaluate_gives_the_bound(run: Path, sentences: Path) -> None:
    scores = llmbert("evaluate", run, "--data", sentences, "--json").json()
    known = json.loads((run / "run.json").read_text("utf-8"))["scores"]
    assert scores["nats_per_token"] == pytest.approx(known["nats_per_token"])


def test_a_collapse_is_said(sentences: Path, tmp_path: Path) -> None:
    facts = train(sentences, tmp_path / "run", "--set=steps=150", "--set=kl_schedule=constant")
    assert facts["latent"]["collapsed"]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "has collapsed" in page and "free_bits" in page


def test_a_stopped_training_goes_on_as_if_it_had_not_been(sentences: Path, tmp_path: Path) -> None:
    import llmbert as library
    from llmbert.training.loop import Interrupted

    settings = {"width": 16, "latent": 4, "steps": 30, "word_dropout": 0.3}
    options: dict[str, Any] = {"lines": True, "tokenizer": "words", "settings": settings}
    whole = library.train("vae", [sentences], tmp_path / "whole", **options)
    count = iter(range(100))
    with pytest.raises(Interrupted):
        library.train("vae", [sentences], tmp_path / "cut", stop=lambda: next(count) == 11, **options)
    again = library.resume(tmp_path / "cut")
    assert all((a == b).all() for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "--draw"),
        (["a", "--steps=3"], "two"),
        (["a", "b", "--steps=1"], "2 steps"),
        (["a", "--draw=2"], "--draw"),
        (["a", "--without=b"], "--like"),
        (["a", "--without=b", "--like=c", "--steps=4"], "one"),
        (["the " * 80], "64"),
    ],
)
def test_what_cannot_be_done_is_refused(run: Path, asked: list[str], words: str) -> None:
    result = llmbert("latent", run, *asked)
    assert result.code == 2 and words in result.err, result.err


def test_a_run_without_a_latent_variable_says_so(sentences: Path, tmp_path: Path) -> None:
    llmbert("train", "--family=ngram", "--data", sentences, "--lines", "--tokenizer=words", "--out", tmp_path / "n")
    result = llmbert("latent", tmp_path / "n", "--draw=2")
    assert result.code == 2 and "--family vae" in result.err
