"""Language-model figures on standard texts, each beside the figure to reach; one line a figure.

python benchmarks/language_models.py [NAME ...] [--data FOLDER] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llmbert
from llmbert.cli.display import Display
from llmbert.runs import machine


@dataclass(frozen=True)
class Line:
    """A figure: how it is trained, which score is looked at, and what it is to be."""

    family: str
    train: str
    valid: str
    options: dict[str, Any]
    score: str
    reference: str
    holds: Callable[[float], bool]


PTB = ("ptb/train.txt.gz", "ptb/valid.txt.gz")
WIKITEXT = ("wikitext2/train.txt.gz", "wikitext2/valid.txt.gz")
SHAKESPEARE = ("tinyshakespeare/train.txt.gz", "tinyshakespeare/valid.txt.gz")
TANG = ("chinese_poetry/tang.train.jsonl.gz", "chinese_poetry/tang.valid.jsonl.gz")


def words(order: int) -> dict[str, Any]:
    return {"tokenizer": "words", "lines": True, "settings": {"order": order}}


def characters(order: int) -> dict[str, Any]:
    return {"tokenizer": "chars", "settings": {"order": order}}


NANOGPT_SIZE = {"layers": 4, "width": 128, "heads": 4, "context": 64, "batch": 12, "steps": 2000}
# Zaremba, Sutskever and Vinyals 2014, small: 13 epochs of 2324 steps, the rate halved each epoch after the fourth. They
# sum the loss over 20 steps where we take the mean: rate 1 and norm 5 there are 20 and 0.25 here.
LSTM = {
    "layers": 2,
    "width": 200,
    "context": 20,
    "batch": 20,
    "steps": 13 * 2324,
    "tied": False,
    "initial_range": 0.1,
    "optimiser": "sgd",
    "learning_rate": 20.0,
    "clip_norm": 0.25,
    "schedule": "exponential",
    "hold": 4 * 2324,
    "floor": 2**-9,
    "evaluate_every": 2324,
}


def near(figure: float, by: float) -> Callable[[float], bool]:
    return lambda reached: abs(reached - figure) <= by


def below(figure: float) -> Callable[[float], bool]:
    return lambda reached: reached <= figure


LINES: dict[str, Line] = {
    "ptb-5": Line("ngram", *PTB, words(5), "perplexity", "KenLM 148.007", near(148.0, 0.1)),
    "ptb-3": Line("ngram", *PTB, words(3), "perplexity", "KenLM 157.765", near(157.8, 0.1)),
    "wikitext2-5": Line("ngram", *WIKITEXT, words(5), "perplexity", "KenLM 239.98", near(240.0, 0.1)),
    "wikitext2-3": Line("ngram", *WIKITEXT, words(3), "perplexity", "KenLM 247.66", near(247.7, 0.1)),
    "shakespeare-3": Line("ngram", *SHAKESPEARE, characters(3), "nats_per_token", "1.993", near(1.99, 0.01)),
    "shakespeare-5": Line("ngram", *SHAKESPEARE, characters(5), "nats_per_token", "1.503", near(1.50, 0.01)),
    "shakespeare-7": Line("ngram", *SHAKESPEARE, characters(7), "nats_per_token", "1.453", near(1.45, 0.01)),
    "gpt-0.8M": Line(
        "gpt",
        *SHAKESPEARE,
        {"tokenizer": "chars", "settings": NANOGPT_SIZE},
        "nats_per_token",
        "nanoGPT, same size and tokens: 1.862",
        below(1.80),
    ),
    "gpt-5m": Line("gpt", *SHAKESPEARE, {"tokenizer": "chars", "budget": "5m"}, "nats_per_token", "1.50", below(1.50)),
    "shakespeare-mixture": Line(
        "mixture",
        *SHAKESPEARE,
        {"tokenizer": "chars", "budget": "10m", "settings": {"members": "ngram order=7, gpt"}},
        "nats_per_token",
        "nanoGPT on a GPU, on the last tenth: 1.470",
        below(1.36),
    ),
    "lstm": Line(
        "lstm", *PTB, {"tokenizer": "words", "settings": LSTM}, "perplexity", "Zaremba small 120.7", below(120.0)
    ),
    "tang-gpt": Line("gpt", *TANG, {"tokenizer": "chars", "budget": "5m"}, "nats_per_token", "none known", below(8.0)),
    "tang-3": Line("ngram", *TANG, characters(3), "nats_per_token", "none known", below(8.0)),
}


def measure(name: str, data: Path, out: Path, display: Display) -> dict[str, Any]:
    line = LINES[name]
    began = time.monotonic()
    run = llmbert.train(
        line.family, data / line.train, out / name, valid=data / line.valid, progress=display, **line.options
    )
    scores = run.facts["scores"]
    low, high = scores["interval"][line.score]
    return {
        "name": name,
        "figure": f"{line.score.replace('_', ' ')} {scores[line.score]:.4f} ({low:.4f} to {high:.4f})",
        "reference": line.reference,
        "holds": line.holds(scores[line.score]),
        "seconds": time.monotonic() - began,
        "signature": scores["signature"],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LINES)}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--out", type=Path, help="keep the runs here")
    chosen = options.parse_args()
    unknown = [name for name in chosen.names if name not in LINES]
    if unknown:
        options.error(f"there is no line {unknown[0]!r}; there are {', '.join(LINES)}")
    print(machine())
    with tempfile.TemporaryDirectory() as scratch, Display() as display:
        for name in chosen.names or LINES:
            found = measure(name, chosen.data, chosen.out or Path(scratch), display)
            mark = "reached" if found["holds"] else "MISSED"
            print(
                f"{found['name']:<14} {found['figure']:<46} reference {found['reference']:<38} {mark:<8} "
                f"{found['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
