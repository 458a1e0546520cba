"""How fast text becomes a corpus store, how much memory that takes, and how both grow with the text.

python benchmarks/data_path.py [NAME ...] [--rounds 3] [--data FOLDER]

data-10, data-100, data-1000: so many megabytes of lines, read twice, split, tokenised in pieces of bytes, packed to
disk and looked through for what stands on both sides of the split; beside `encode_batch` of Hugging Face's tokenizers
with the same pieces over the same lines, of which nothing is kept. Each run has a process of its own. waiting: the
share of a training's time in which the model waits for its next batch.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import performance
from performance import Options, Result, bare, in_turn, measured

VOCABULARY = 8000
MEMORY_LIMIT = 1e3  # MB


def write_text(options: Options, megabytes: int, path: Path) -> None:
    """WikiText-2's lines over and over, each with the number of its turn, so that none stands there twice."""
    with gzip.open(options.data / "wikitext2/train.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()]
    written = 0
    with path.open("w", encoding="utf-8") as out:
        for turn in range(1_000_000):
            for line in lines:
                written += out.write(f"{turn} {line}\n")
                if written >= megabytes * 1_000_000:
                    return


# ---- in a process of its own ---------------------------------------------------------------------------------------


def ours(text: str, tokeniser: str, folder: str) -> None:
    from llmbert.data.corpus import build_corpus
    from llmbert.text.foreign import load_tokeniser

    build_corpus([text], Path(folder), load_tokeniser(Path(tokeniser)), lines=True)


WAYS: dict[str, Callable[[str, str, str], None]] = {"ours": ours}


# ---- lines ---------------------------------------------------------------------------------------------------------


def growth(megabytes: int) -> Any:
    def measure(options: Options) -> list[Result]:
        from llmbert.text.tokenisers import train_tokeniser

        memory: dict[str, list[float]] = {"ours": [], "theirs": []}
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            text = root / "text.txt"
            write_text(options, megabytes, text)
            with text.open(encoding="utf-8") as file:
                train_tokeniser("bpe", islice(file, 20_000), VOCABULARY).save(root)

            def run(way: str) -> Callable[[], float]:
                def once() -> float:
                    with tempfile.TemporaryDirectory(dir=root) as folder:
                        own = way == "ours"
                        found = (
                            measured(__file__, way, str(text), str(root), folder)
                            if own
                            else bare("encode", str(text), str(root))
                        )
                    memory[way].append(found["megabytes"])
                    return megabytes / found["seconds"]

                return once

            rounds = options.rounds if megabytes < 1000 else 1
            peers = {"encode_batch alone, nothing kept": (run("theirs"), 0.5)}
            found = in_turn(f"text to a corpus store, {megabytes:,} MB", "MB/s", run("ours"), peers, rounds)
        ours, theirs = sorted(memory["ours"]), sorted(memory["theirs"])
        name = f"the same, {megabytes:,} MB: most memory"
        spread = (ours[0], ours[-1]), (theirs[0], theirs[-1])
        limit = Result(name, "MB", ours[-1], spread[0], "the limit", MEMORY_LIMIT, (MEMORY_LIMIT,) * 2, 1.0, less=True)
        return [
            *found,
            Result(name, "MB", ours[-1], spread[0], "encode_batch", theirs[-1], spread[1], 0.0, less=True),
            limit,
        ]

    return measure


def waiting(options: Options) -> list[Result]:
    """A small GPT and a small Transformer, the quickest there are: larger models wait less."""
    import llmbert
    from llmbert.training.loop import Trainer

    found, waited = list[Result](), list[float]()
    record = Trainer._record

    def noting(trainer: Trainer, figures: dict[str, float], seconds: float) -> None:
        waited.append(100 * seconds / trainer.at.seconds)
        record(trainer, figures, seconds)

    text, pairs = options.data / "wikitext2/train.txt.gz", options.data / "multi30k_ende"
    sides = [pairs / f"train.{side}.txt.gz" for side in ("en", "de")]
    small = {"layers": 2, "width": 64, "heads": 2, "steps": 150, "evaluate_every": 150}
    asked: dict[str, dict[str, Any]] = {
        "gpt": {"paths": [text], "tokenizer": "bpe", "settings": {**small, "context": 128}},
        "lstm": {"paths": [text], "tokenizer": "bpe", "settings": {"layers": 1, "width": 64, "steps": 150}},
        "transformer": {"paths": sides, "tokenizer": "bpe", "settings": {**small, "context": 64}},
    }
    for family, options_of in asked.items():
        with tempfile.TemporaryDirectory() as folder, patch.object(Trainer, "_record", noting):
            llmbert.train(family, options_of.pop("paths"), Path(folder) / "run", **options_of)
        share = waited[-1]
        name = f"waiting for a batch, {family}"
        found.append(
            Result(name, "% of a training", share, (share, share), "the limit", 2.0, (2.0, 2.0), 1.0, less=True)
        )
    return found


LINES = {"waiting": waiting, **{f"data-{size}": growth(size) for size in (10, 100, 1000)}}

if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        performance.alone(WAYS[sys.argv[2]], *sys.argv[3:])
    else:
        performance.main(LINES, __doc__ or "")
