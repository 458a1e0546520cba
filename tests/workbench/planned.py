"""Tiny trainings of every family, planned and not begun: what the checks before a training are tried on."""

from __future__ import annotations

import random
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmbert.protocols import silent
from llmbert.workbench.preflight import Case
from llmbert.workbench.preflight.check import case_to_check
from llmbert.workbench.settings import Asked
from llmbert.workbench.train import prepare

SUBJECTS = ("Anna", "the miller", "a fox", "Otto", "the river", "my aunt", "the old Mill", "every child")
VERBS = ("sees", "hears", "likes", "follows", "paints", "forgets")
OBJECTS = ("a bridge", "the sea", "Two boats", "an owl", "the town", "rain", "some bread")
TIMES = ("at noon", "in May", "today", "before dawn", "again", "with Care")

ATTENTION = {"layers": 1, "width": 16, "heads": 2, "context": 24}
RECURRENT = {"layers": 1, "width": 16, "context": 24, "warmup": 5}
GAN = {"layers": 1, "width": 16, "context": 24, "filters": 8, "rollouts": 2}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "ngram": ("ngram", {"order": 3}),
    "rnn": ("rnn", RECURRENT),
    "lstm": ("lstm", RECURRENT | {"dropout": 0.1}),
    "gru": ("gru", RECURRENT | {"embedding_width": 12, "layers": 2}),
    "gpt": ("gpt", ATTENTION | {"dropout": 0.1, "accumulate": 2}),
    "gpt in GPT-2's style": ("gpt", ATTENTION | {"style": "gpt2"}),
    "gpt, not tied": ("gpt", ATTENTION | {"tied": False}),
    "transformer": ("transformer", ATTENTION | {"warmup": 5}),
    "transformer that copies": ("transformer", ATTENTION | {"warmup": 5, "pointer": True}),
    "t5": ("t5", ATTENTION | {"warmup": 5}),
    "t5 that restores": ("t5", ATTENTION | {"warmup": 5}),
    "bert": ("bert", ATTENTION | {"warmup": 5}),
    "bert without pairs": ("bert", ATTENTION | {"warmup": 5, "next_sentence": "false"}),
    "vae": ("vae", RECURRENT | {"latent": 4}),
    "vae of Transformers": ("vae", ATTENTION | {"network": "transformer", "latent": 4, "warmup": 5}),
    "gan": ("gan", GAN | {"likelihood_steps": 40}),
    "gan of softened texts": ("gan", GAN | {"adversarial": "relaxed", "discriminator": "recurrent", "network": "gru"}),
}
"""By name: a family and its settings."""


@cache
def _held() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="llmbert-planned-")  # goes with the process


def folder() -> Path:
    return Path(_held().name)


@cache
def documents() -> Path:
    """A file of lines, no two alike."""
    draw, lines = random.Random(3), set()
    while len(lines) < 240:
        parts = [draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(OBJECTS), draw.choice(TIMES)]
        lines.add(" ".join(parts[: draw.choice((3, 4, 4))]))
    path = folder() / "lines.txt"
    path.write_text("\n".join(sorted(sorted(lines), key=lambda line: draw.random())) + "\n", "utf-8")
    return path


@cache
def pairs() -> tuple[Path, Path]:
    """Two files whose lines belong together: digits, and their names backwards."""
    draw, names = random.Random(4), ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    rows = {tuple(draw.choices(range(10), k=draw.choice((2, 3, 5)))) for _ in range(400)}
    ordered = sorted(rows, key=lambda row: draw.random())
    digits, words = folder() / "digits.txt", folder() / "words.txt"
    digits.write_text("".join(" ".join(map(str, row)) + "\n" for row in ordered), "utf-8")
    words.write_text("".join(" ".join(names[i] for i in row[::-1]) + "\n" for row in ordered), "utf-8")
    return digits, words


def planned(name: str, **settings: Any) -> Case:
    """The case of a tiny training, with some settings in the place of its own; its text is read once."""
    family, shape = SHAPES[name]
    values = shape | ({} if family == "ngram" else {"steps": 60, "batch": 4, "precision": "float32"}) | settings
    source: dict[str, Any] = {"data": documents(), "lines": True, "tokenizer": "chars"}
    if family == "transformer" or name == "t5":
        source = {"data": pairs(), "tokenizer": "words", "objective": "pairs"}
    asked = Asked(family, out=folder() / "run", settings={k: str(v) for k, v in values.items()}, **source)
    return case_to_check(prepare(asked, silent, time.monotonic()))
