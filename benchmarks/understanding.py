"""Classes of questions and requests, names in Chinese and in tweets, each beside the figure to reach.

python benchmarks/understanding.py [NAME ...] [--data FOLDER] [--out FOLDER]

Lines "on a base" first teach a small BERT English (line wikitext-bert); it is kept in --out and taken up again from
there, and so are the folds of a cross-validation that was stopped.
"""

from __future__ import annotations

import argparse
import gzip
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llmbert
from llmbert.cli.display import Display
from llmbert.runs import FACTS, Run, load, machine, run_status
from llmbert.workbench.fine_tune import cross_validate, fine_tune
from llmbert.workbench.train import resume

SHAPE = {"layers": 4, "width": 128, "heads": 4, "context": 64}
# A million words and a half, read about ten times; a batch is 64 windows of 64 tokens.
PRE_TRAINING = {**SHAPE, "vocabulary_size": 6000, "batch": 64, "steps": 6000, "next_sentence": False}
SEEDS = 5


@dataclass(frozen=True)
class Line:
    """A figure: how it is measured, which score it is, what it is to be and whose figure that is, and its cost."""

    measure: Callable[[Path, Path, Display], tuple[float, str]]
    score: str
    least: float
    reference: str
    minutes: int  # on two cores, about, without the base


# ---- the base ------------------------------------------------------------------------------------------------------


def wikitext_bert(data: Path, out: Path, display: Display) -> Run:
    """A small BERT of lower-cased WikiText-2, made or taken up again."""
    folder = out / "wikitext-bert"
    if run_status(folder) == "training":
        return resume(folder, progress=display)
    if (folder / FACTS).exists():
        return load(folder)
    texts = [out / f"wikitext2.{split}.txt" for split in ("train", "valid")]
    for path, split in zip(texts, ("train", "valid"), strict=True):
        with gzip.open(data / f"wikitext2/{split}.txt.gz", "rt", encoding="utf-8") as packed:
            path.write_text(_as_written(packed.read()), encoding="utf-8")
    return llmbert.train(
        "bert",
        texts[0],
        folder,
        valid=texts[1],
        lines=True,
        tokenizer="wordpiece",
        settings=PRE_TRAINING,
        progress=display,
    )


def _as_written(text: str) -> str:
    """The text lower-cased, without what was put in the place of rare words, and with its hyphens and points back."""
    text = re.sub(r" @(.)@ ", r"\1", text.replace("<unk>", ""))
    return "\n".join(line for line in text.lower().splitlines() if not line.lstrip().startswith("="))


def _scratch(data: Path, out: Path, display: Display) -> dict[str, Any]:
    """A new trunk of the base's shape, with the base's tokeniser: what pre-training is compared with."""
    return {"tokenizer": str(wikitext_bert(data, out, display).folder), "lowercase": True, "settings": SHAPE}


def _on_base(data: Path, out: Path, display: Display) -> dict[str, Any]:
    return {"base": wikitext_bert(data, out, display).folder, "lowercase": True}


# ---- the tasks -----------------------------------------------------------------------------------------------------

TREC = {"fields": {"text": "question", "label": "coarse"}}
CLINC = {"fields": {"text": "text", "label": "intent"}}


def pre_training(data: Path, out: Path, display: Display) -> tuple[float, str]:
    scores = wikitext_bert(data, out, display).facts["scores"]
    return scores["nats_per_token"], "pseudo-nats/token"


def trec(on_base: bool) -> Callable[[Path, Path, Display], tuple[float, str]]:
    def measure(data: Path, out: Path, display: Display) -> tuple[float, str]:
        # What tells a question's class is a word or two, wherever they stand: the maximum over them, as in a CNN.
        pooled = {"settings": {"pooling": "max"}} if on_base else {}
        options = (_on_base if on_base else _small_words)(data, out, display) | pooled
        path = out / f"trec-{'base' if on_base else 'scratch'}.json"
        found = cross_validate(
            "classify", data / "trec/train.tsv.gz", folds=10, out=path, progress=display, **TREC, **options
        )
        return _figure(found["scores"]["accuracy"])

    return measure


SMALL = {"layers": 2, "dropout": 0.3, "learning_rate": 5e-4, "epochs": 10}


def _small_words(data: Path, out: Path, display: Display) -> dict[str, Any]:
    """What suits a few thousand questions without a base."""
    return {"tokenizer": "words", "lowercase": True, "settings": SMALL}


def clinc(on_base: bool) -> Callable[[Path, Path, Display], tuple[float, str]]:
    def measure(data: Path, out: Path, display: Display) -> tuple[float, str]:
        options = _on_base(data, out, display) if on_base else {}
        name = f"clinc150-{'base' if on_base else 'scratch'}"
        return _figure(_tuned("classify", "clinc150", "val.tsv", name, data, out, display, **CLINC, **options))

    return measure


def clinc_gain(data: Path, out: Path, display: Display) -> tuple[float, str]:
    """By how much the base is better than its shape with random weights, over seeds, with ten examples a class."""
    few = out / "clinc150.few.tsv"
    _take_few(data / "clinc150/train.tsv.gz", few, 10)
    ways = {"base": _on_base(data, out, display), "scratch": _scratch(data, out, display)}
    gains = []
    for seed in range(SEEDS):
        reached = {}
        for way, options in ways.items():
            folder = out / f"clinc150-few-{way}-{seed}"
            run = (
                load(folder)
                if run_status(folder) == "done"
                else fine_tune(
                    "classify",
                    few,
                    folder,
                    valid=data / "clinc150/val.tsv.gz",
                    seed=seed,
                    progress=display,
                    **CLINC,
                    **options,
                )
            )
            reached[way] = run.facts["scores"]["accuracy"]["score"]
        gains.append(reached["base"] - reached["scratch"])
    shown = ", ".join(f"{gain:+.1f}" for gain in gains)
    return min(gains), f"gain by seed {shown}; mean {statistics.mean(gains):+.1f}"


def _take_few(source: Path, target: Path, each: int) -> None:
    """The first examples of each class."""
    seen: dict[str, int] = {}
    with gzip.open(source, "rt", encoding="utf-8") as rows, target.open("w", encoding="utf-8") as kept:
        kept.write(next(rows))
        for row in rows:
            label = row.split("\t")[1]
            seen[label] = seen.get(label, 0) + 1
            if seen[label] <= each:
                kept.write(row)


def names(folder: str, name: str, **options: Any) -> Callable[[Path, Path, Display], tuple[float, str]]:
    def measure(data: Path, out: Path, display: Display) -> tuple[float, str]:
        return _figure(_tuned("tag", folder, "dev.jsonl", name, data, out, display, **options))

    return measure


def wnut_on_base(data: Path, out: Path, display: Display) -> tuple[float, str]:
    options = _on_base(data, out, display)
    return _figure(_tuned("tag", "wnut17", "dev.jsonl", "wnut17-base", data, out, display, **options))


def _tuned(
    task: str, folder: str, valid: str, name: str, data: Path, out: Path, display: Display, **options: Any
) -> dict[str, Any]:
    """The main score of a fine-tuning, made or taken up again."""
    train = data / folder / f"train.{valid.rpartition('.')[2]}.gz"
    if run_status(out / name) == "done":
        run = load(out / name)
    else:
        run = fine_tune(task, train, out / name, valid=data / folder / f"{valid}.gz", progress=display, **options)
    return next(iter(run.facts["scores"].values()))


def _figure(score: dict[str, Any]) -> tuple[float, str]:
    low, high = score["interval"]
    return score["score"], f"{score['score']:.1f} ({low:.1f} to {high:.1f})"


LINES: dict[str, Line] = {
    "wikitext-bert": Line(pre_training, "pseudo-nats/token", 0.0, "the base of the lines below", 25),
    "trec-scratch": Line(
        trec(False), "accuracy, 10 folds", 83.5, "CNN, random vectors, on the test set: 88.2-91.2", 10
    ),
    "trec": Line(trec(True), "accuracy, 10 folds", 88.2, "CNN, random vectors, on the test set: 88.2-91.2", 15),
    "clinc150-scratch": Line(clinc(False), "accuracy, in scope", 89.0, "FastText 89.0, SVM 91.0", 5),
    "clinc150": Line(clinc(True), "accuracy, in scope", 89.0, "FastText 89.0, SVM 91.0, BERT-base 96.9", 10),
    "clinc150-few": Line(clinc_gain, "least gain of the base", 0.0, "the base must be better with every seed", 20),
    "resume_ner": Line(
        names("resume_ner", "resume_ner"), "span F1", 89.0, "LSTM-CRF with pre-trained characters: 93.5", 6
    ),
    "wnut17": Line(names("wnut17", "wnut17"), "span F1", 10.0, "BiLSTM-CNN-CRF with vectors: 40", 2),
    "wnut17-base": Line(wnut_on_base, "span F1", 15.0, "BiLSTM-CNN-CRF with vectors: 40", 10),
}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    costs = ", ".join(f"{name} ({line.minutes} min)" for name, line in LINES.items())
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {costs}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--out", type=Path, help="keep the runs here, and go on with those that are there")
    chosen = options.parse_args()
    unknown = [name for name in chosen.names if name not in LINES]
    if unknown:
        options.error(f"there is no line {unknown[0]!r}; there are {', '.join(LINES)}")
    print(machine())
    with tempfile.TemporaryDirectory() as scratch, Display() as display:
        out = chosen.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        for name in chosen.names or LINES:
            line, began = LINES[name], time.monotonic()
            reached, figure = line.measure(chosen.data, out, display)
            mark = "reached" if reached >= line.least else "MISSED"
            print(
                f"{name:<17} {line.score:<22} {figure:<44} reference {line.reference:<48} {mark:<8} "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
