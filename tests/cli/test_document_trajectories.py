"""Odd documents found, texts mapped and made more of, from the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from running import llmbert

import llmbert as library

SIZES, BEASTS, DEEDS = ("small", "large", "old"), ("cat", "wolf", "owl", "ox"), ("sleeps", "runs", "sings")
SENTENCES = [f"the {size} {beast} {deed} here" for size in SIZES for beast in BEASTS for deed in DEEDS]
HALF = SENTENCES[::2]
ODD = [f"here {deed} {beast} the {size}" for size in SIZES for beast in BEASTS for deed in DEEDS]
SHAPES = {
    "ngram": ["--set=order=3"],
    "vae": ["--set=width=32", "--set=latent=4", "--set=steps=100", "--set=free_bits=1.0", "--set=word_dropout=0.8"],
    "bert": ["--set=layers=1", "--set=width=32", "--set=heads=2", "--set=context=16", "--set=steps=100"],
    "gan": ["--set=width=24", "--set=filters=16", "--set=context=8", "--set=steps=60", "--set=likelihood_steps=20",
            "--set=warm_steps=20", "--set=adversarial=relaxed"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts, and a run of each family above."""
    at = tmp_path_factory.mktemp("documents")
    (at / "beasts.txt").write_text("\n".join(SENTENCES * 8) + "\n", "utf-8")
    (at / "odd.txt").write_text("\n".join(ODD) + "\n", "utf-8")
    for name, texts in (("beasts.jsonl", HALF), ("lesson.jsonl", 6 * SENTENCES)):
        rows = [json.dumps({"text": text, "beast": text.split()[2]}) for text in texts]
        (at / name).write_text("\n".join(rows) + "\n", "utf-8")
    for family, settings in SHAPES.items():
        result = llmbert(
            "train", "--family", family, "--data", at / "beasts.txt", "--lines", "--tokenizer=words", "--out",
            at / family, "--set=batch=16", "--set=learning_rate=0.01", "--set=preflight=false", *settings[:],
        ) if family != "ngram" else llmbert(
            "train", "--family=ngram", "--data", at / "beasts.txt", "--lines", "--tokenizer=words", "--out",
            at / family, *settings,
        )  # fmt: skip
        assert result.code == 0, result.err
    return at


@pytest.mark.parametrize(("family", "unit"), [
    ("ngram", "nats/token"), ("vae", "≤ nats/token"), ("bert", "pseudo-nats/token"), ("gan", "logits"),
])  # fmt: skip
def test_documents_of_other_word_order_are_odd(family: str, unit: str, folder: Path) -> None:
    found = llmbert(
        "anomalies", folder / family, "--data", folder / "beasts.txt", "--odd", folder / "odd.txt", "--lines", "--json"
    ).json()
    assert found["unit"] == unit and found["documents"] == 8 * len(SENTENCES)
    low, high = found["auc"]["interval"]
    assert low <= found["auc"]["score"] <= high
    if family != "gan":  # sixty steps of one promise nothing
        assert found["auc"]["score"] > 90, "the words are the same; their order tells"
        assert found["oddest"][0]["odd"]
    assert found["baseline"]["auc"] == 50, "all are of one length"
    scores = [entry["score"] for entry in found["oddest"]]
    assert scores == sorted(scores, reverse=True)


def test_scores_are_the_runs_own(folder: Path) -> None:
    run = library.load(folder / "ngram")
    found = library.anomalies(run, folder / "odd.txt", lines=True)
    nats = dict(zip(ODD, run.score(ODD)["nats"], strict=True))
    for entry in found["oddest"]:
        assert entry["score"] == pytest.approx(nats[entry["text"]] / 6, rel=1e-5), "five words and the end"


def test_the_page_shows_both_kinds_and_every_score_is_written(folder: Path, tmp_path: Path, charts: None) -> None:
    for language, said in (("en", "An odd document scores above"), ("zh", "异常文档的得分高于")):
        out = tmp_path / language
        result = llmbert(
            "anomalies", folder / "ngram", "--data", folder / "beasts.txt", "--odd", folder / "odd.txt", "--lines",
            "--out", out, "--language", language,
        )  # fmt: skip
        assert result.code == 0, result.err
        assert "auc" in result.out and "report.html" in result.out
        page = (out / "report.html").read_text("utf-8")
        assert said in page and 'id="detection"' in page and page.count("<svg") >= 4
        rows = [json.loads(line) for line in (out / "scores.jsonl").read_text("utf-8").splitlines()]
        assert len(rows) == 9 * len(SENTENCES) and sum(row["odd"] for row in rows) == len(ODD)
        assert all(math.isfinite(row["score"]) for row in rows)
    again = llmbert("anomalies", folder / "ngram", "--data", folder / "odd.txt", "--lines", "--out", out)
    assert again.code == 1 and "already exists" in again.err


def test_a_map_colours_labels_and_says_how_they_lie(folder: Path, tmp_path: Path) -> None:
    asked = ["map", folder / "vae", "--data", folder / "beasts.jsonl", "--fields", "text=text,label=beast"]
    found = llmbert(*asked, "--json").json()
    assert len(found["points"]) == found["texts"] == len(HALF) and found["dimensions"] == 4
    assert {point["label"] for point in found["points"]} == set(BEASTS)
    shares, counts = found["agreement"], [sum(beast in text for text in HALF) for beast in BEASTS]
    assert shares["chance"] == pytest.approx(sum(n * (n - 1) for n in counts) / (18 * 17)) and 0 <= shares["flat"] <= 1
    result = llmbert(*asked, "--out", tmp_path / "map")
    assert result.code == 0 and "by chance" in result.out
    page = (tmp_path / "map" / "report.html").read_text("utf-8")
    assert 'id="map"' in page and all(beast in page for beast in BEASTS)
    plain = llmbert("map", folder / "gan", "--data", folder / "odd.txt", "--lines", "--most", "10")
    assert plain.code == 0 and len(plain.out.splitlines()) == 10, "coordinates go to stdout, the note to stderr"


def test_a_vae_rewrites_texts_and_labels_stay(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.jsonl"
    asked = ["augment", folder / "vae", "--data", folder / "beasts.jsonl", "--fields", "text=text,label=beast"]
    found = llmbert(*asked, "--out", out, "--copies", "3", "--spread", "4", "--json").json()
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(rows) == found["written"] > 0
    assert found["written"] + found["empty"] + found["same"] + found["twice"] == 3 * len(HALF)
    texts = [row["text"] for row in rows]
    assert len(set(texts)) == len(texts) and not set(texts) & set(HALF)
    for row in rows:
        assert row["label"] == HALF[int(row["from"]) - 1].split()[2]
    refused = llmbert(*asked, "--out", out)
    assert refused.code == 1 and "is there already" in refused.err
    assert len(out.read_text("utf-8").splitlines()) == len(rows), "what is there stays"
    assert llmbert(*asked, "--out", out, "--overwrite").code == 0


def test_others_draw_texts_that_a_classifier_labels(folder: Path, tmp_path: Path) -> None:
    tuned = llmbert(
        "fine-tune", "--task=classify", "--data", folder / "lesson.jsonl", "--fields", "text=text,label=beast",
        "--out", tmp_path / "labels", "--tokenizer=words", "--set=layers=1", "--set=width=32", "--set=heads=2",
        "--set=epochs=20", "--set=learning_rate=0.005", "--set=context=16",
    )  # fmt: skip
    assert tuned.code == 0, tuned.err
    out = tmp_path / "drawn.jsonl"
    asked = ["augment", folder / "ngram", "--data", folder / "odd.txt", "--lines", "--out", out, "--copies", "2"]
    found = llmbert(*asked, "--labeller", tmp_path / "labels", "--least", "0.5", "--json").json()
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert found["written"] == len(rows) > 0 and "unsure" in found
    assert {row["label"] for row in rows} <= set(BEASTS)
    right = sum(row["label"] in row["text"].split() for row in rows)
    assert right > len(rows) / 2


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["map", "ngram", "--data", "odd.txt", "--lines"], 2, "has no vectors of texts"),
    (["map", "vae", "--data", "whole.txt"], 2, "two texts or more"),
    (["map", "vae", "--data", "odd.txt", "--lines", "--fields", "source=a"], 2, "--fields takes ROLE=NAME"),
    (["anomalies", "ngram", "--data", "nowhere.txt"], 1, "nowhere.txt"),
    (["anomalies", "ngram", "--data", "beasts.jsonl", "--fields", "text=text,label=beast"], 2, "leave out label="),
    (["augment", "vae", "--data", "odd.txt", "--lines", "--out", "x.jsonl", "--copies", "0"], 2, "at least 1"),
    (["augment", "ngram", "--data", "beasts.jsonl", "--fields", "text=text,label=beast", "--out", "x.jsonl"], 2,
     "give a labeller"),
    (["augment", "vae", "--data", "whole.txt", "--out", "x.jsonl"], 2, "longer than the 64 tokens"),
    (["augment", "vae", "--data", "odd.txt", "--out", "x.jsonl", "--spread", "-3"], 2, "spread must be 0 or"),
    (["augment", "vae", "--data", "odd.txt", "--out", "x.jsonl", "--seed", "-1"], 2, "seed must be"),
    (["augment", "vae", "--data", "odd.txt", "--out", "x.jsonl", "--least", "7"], 2, "between 0 and 1"),
    (["augment", "bert", "--data", "odd.txt", "--out", "x.jsonl"], 2, "writes nothing from nothing"),
    (["map", "vae", "--data", "beasts.jsonl", "--lines", "--fields", "label=beast"], 2, "leave out --lines"),
])  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(
    arguments: list[str], code: int, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "whole.txt").write_text(" ".join(SENTENCES), "utf-8")
    result = llmbert(*arguments)
    assert result.code == code, result.err
    assert said in result.err and result.err.count("\n") == 1
    assert not (folder / "x.jsonl").exists()


def test_copies_of_a_text_are_drawn_each_for_itself(folder: Path) -> None:
    from llmbert.tasks.latent import rewrite

    run = library.load(folder / "vae")
    copies = rewrite(run, SENTENCES[:2], 6, spread=0.0, temperature=1.5)
    assert all(len(set(some)) > 1 for some in copies), "the same latent, other words"
    assert copies == rewrite(run, SENTENCES[:2], 6, spread=0.0, temperature=1.5)


def test_what_a_run_gives_no_probability_is_infinitely_odd_and_json_stays_json(folder: Path, tmp_path: Path) -> None:
    result = llmbert(
        "train", "--family=ngram", "--data", folder / "beasts.txt", "--lines", "--tokenizer=words", "--set=order=2",
        "--set=smoothing=ml", "--out", tmp_path / "ml",
    )  # fmt: skip
    assert result.code == 0, result.err
    out = tmp_path / "page"
    found = llmbert(
        "anomalies", tmp_path / "ml", "--data", folder / "beasts.txt", "--odd", folder / "odd.txt", "--lines", "--json",
        "--out", out,
    )  # fmt: skip
    assert found.code == 0, found.err
    figures = json.loads(found.out, parse_constant=pytest.fail)
    assert figures["auc"]["score"] == 100 and figures["oddest"][0]["score"] is None
    rows = [json.loads(line, parse_constant=pytest.fail) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert sum(row["score"] is None for row in rows) == len(ODD)
    assert "∞" in (out / "report.html").read_text("utf-8")
    told = llmbert("anomalies", tmp_path / "ml", "--data", folder / "odd.txt", "--lines")
    assert told.code == 0 and "infinite" in told.out and not told.err.count("Warning")


def test_nothing_is_left_where_it_fails(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for verb in ("anomalies", "map"):
        result = llmbert(verb, folder / "vae", "--data", folder / "odd.txt", "--lines", "--out", file / "below")
        assert result.code == 1 and "could not write" in result.err and result.err.count("\n") == 1
        result = llmbert(verb, folder / "vae", "--data", folder / "nowhere.txt", "--out", tmp_path / "gone")
        assert result.code == 1 and not (tmp_path / "gone").exists()
    result = llmbert("augment", folder / "vae", "--data", folder / "odd.txt", "--lines", "--out", tmp_path / "a" / "b")
    assert result.code == 1 and "make its folder first" in result.err
    twice = llmbert("anomalies", folder / "vae", "--data", "-", "--odd", "-", stdin=b"a b\n")
    assert twice.code == 2 and "can be read once" in twice.err
