"""Documents taken out of runs again: is the rest, to the byte, that of a training without them, and are they unknown?

python benchmarks/forgetting.py [NAME ...] [--data FOLDER] [--out FOLDER]

ngram: a hundred sentences of Penn Treebank's train, drawn at random, forgotten by a 5-gram and by the index of its text
all at once, and ten one after another; beside a training on, and an index of, the text without them: are they equal?
shards: GPTs that have learned some sentences by heart, mixed in three shards; ten sentences are forgotten, and how odd
the run finds them stands beside the range of sentences it never saw, drawn from among the same, before and after.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import llmbert
from llmbert.cli.display import Display
from llmbert.data.corpus import open_corpus
from llmbert.runs import WEIGHTS, machine, read_facts

FORGOTTEN = 100
LEARNED, UNSEEN = 1500, 200  # sentences that the shards learn by heart, and others of the same articles
EQUAL = (WEIGHTS, "config.json", "tokenizer.json")


def treebank(data: Path, part: str = "train") -> list[str]:
    with gzip.open(data / f"ptb/{part}.txt.gz", "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained_on(run: Path) -> list[str]:
    """The ids of the documents that a run was trained on."""
    ids = open_corpus(run.parent / read_facts(run)["corpus"]).train.document_ids
    return [str(ids[number]) for number in range(len(ids))]


def same(run: Path, other: Path) -> bool:
    """Whether the models, the tokenisers and the indexes of two runs are equal to the byte."""
    files = [[folder / name for name in EQUAL] for folder in (run, other)]
    for folder, found in zip((run, other), files, strict=True):
        found += sorted((folder.parent / "corpora").glob("*.trace/*"))
    # An index's head names the text it is of, and the two texts are different files.
    pairs = [(a, b) for a, b in zip(*files, strict=True) if a.name != "index.json"]
    return len(pairs) > len(EQUAL) and all(a.read_bytes() == b.read_bytes() for a, b in pairs)


def ngram(data: Path, out: Path, display: Display) -> tuple[bool, str]:
    lines, valid = treebank(data), data / "ptb/valid.txt.gz"
    asked: dict[str, Any] = {"lines": True, "tokenizer": "bpe", "settings": {"order": 5}, "valid": valid}
    run, rebuilt = out / "one" / "run", out / "two" / "run"
    text = write(out / "one" / "text.txt", lines)
    llmbert.train("ngram", text, run, progress=display, **asked)
    llmbert.trace(run, progress=display)
    random, results, seconds = np.random.default_rng(0), [], []
    for count in (FORGOTTEN, *[1] * 10):
        gone = random.choice(trained_on(run), count, replace=False).tolist()
        began = time.monotonic()
        llmbert.forget(run, gone, progress=display)
        seconds.append(time.monotonic() - began)
        for name in gone:
            lines[int(name.split(":")[1]) - 1] = ""
        shutil.rmtree(rebuilt.parent, ignore_errors=True)
        llmbert.train("ngram", write(rebuilt.parent / "text.txt", lines), rebuilt, progress=display, **asked)
        llmbert.trace(rebuilt, progress=display)
        results.append(same(run, rebuilt))
    return all(results), f"{sum(results)} of {len(results)} times equal; forgetting took {np.median(seconds):.1f} s"


def shards(data: Path, out: Path, display: Display) -> tuple[bool, str]:
    # Held-out sentences of other articles would be odder to begin with, whatever was forgotten.
    lines = np.random.default_rng(0).permutation(treebank(data)[: LEARNED + UNSEEN]).tolist()
    learning = {"steps": 900, "batch": 16, "learning_rate": 3e-3, "way": "linear"}
    settings = {"members": "gpt layers=2 width=128 heads=4 context=64", "shards": 3, **learning}
    run = out / "shards" / "run"
    text = write(out / "shards" / "text.txt", lines[:LEARNED])
    valid = write(out / "shards" / "valid.txt", lines[LEARNED:])
    began = time.monotonic()
    llmbert.train("mixture", text, run, valid=valid, lines=True, settings=settings, progress=display)
    whole = time.monotonic() - began
    gone = np.random.default_rng(1).choice(trained_on(run), 10, replace=False).tolist()
    told, taken = [], []
    for name in gone:
        began = time.monotonic()
        found = llmbert.forget(run, [name], progress=display)
        taken.append(time.monotonic() - began)
        told.append((found["oddness"]["before"]["ranks"][0], found["oddness"]["after"]["ranks"][0]))
        low, _, high = found["oddness"]["after"]["never_seen"]
        assert len(found["retrained"]) == 1, found["retrained"]
        inside = low <= found["oddness"]["after"]["documents"][0] <= high
        told[-1] = (*told[-1], inside)
    before, after, inside = zip(*told, strict=True)
    return all(inside) and max(before) < min(after), (
        f"share of unseen sentences that are less odd: {np.mean(before):.1%} before (most {max(before):.1%}), "
        f"{np.mean(after):.1%} after (least {min(after):.1%}); {sum(inside)} of {len(inside)} inside the range of "
        f"those never seen; {np.median(taken):.0f} s each, all of the training {whole:.0f} s"
    )


LINES: dict[str, Callable[[Path, Path, Display], tuple[bool, str]]] = {"ngram": ngram, "shards": shards}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LINES)}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--out", type=Path, default=Path("benchmark-runs/forgetting"), help="an empty folder")
    chosen = options.parse_args()
    if unknown := [name for name in chosen.names if name not in LINES]:
        options.error(f"{unknown[0]!r} is none of {', '.join(LINES)}")
    print(machine())
    with Display() as display:
        for name in chosen.names or LINES:
            holds, said = LINES[name](chosen.data, chosen.out, display)
            print(f"{name}: {'reached' if holds else 'MISSED'}; {said}")


if __name__ == "__main__":
    main()
