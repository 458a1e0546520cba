"""EDA's protocol: few labelled sentences, with and without changed copies of them, and what the copies gain.

python benchmarks/augmentation.py [--data FOLDER] [--seeds 5] [--steps 2000] [--family lstm]

For each seed 500 sentences of SST-2's train (scored on its dev), or of TREC's (scored on another 1,000 of its train),
and 500 others to choose the best weights by. A small classifier from random weights takes as many steps whether or not
it has copies: 16 of each at alpha 0.05, as Wei & Zou 2019 advise for 500. Synonyms come from WordNet's relations
in WN18RR. The gain is paired by seed, with Student's 95 % interval over the seeds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import llmbert
from llmbert.metrics.bootstrap import mean_interval
from llmbert.runs import machine

FEW, HELD, COPIES, ALPHA = 500, 1000, 16, 0.05
RELATIONS = ("_hypernym", "_verb_group", "_also_see", "_similar_to")
SETS = {"sst2": ("text", "label", "sst2/dev.tsv.gz"), "trec": ("question", "coarse", None)}
WAYS: dict[str, list[str]] = {
    "eda": ["eda"],
    "moves and drops": ["swap", "delete", "crop", "order"],
    "typing errors": ["noise"],
}

Pairs = list[tuple[str, str]]


def rows_of(path: Path, text: str, label: str) -> Pairs:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        header, *lines = (line.rstrip("\n").split("\t") for line in file)
    return [(line[header.index(text)], line[header.index(label)]) for line in lines]


def write_lexicon(data: Path, out: Path) -> int:
    """WordNet's neighbours of single words as WORD, tab, words; how many words have some."""
    known: dict[str, list[str]] = {}
    with gzip.open(data / "wn18rr/train.tsv.gz", "rt", encoding="utf-8") as file:
        for line in file:
            _, relation, _, head, tail = line.rstrip("\n").split("\t")
            if relation not in RELATIONS:
                continue
            one, other = head.rsplit(".", 2)[0], tail.rsplit(".", 2)[0]
            if one.isalpha() and other.isalpha() and one != other:
                known.setdefault(one.lower(), []).append(other.lower())
                if relation != "_hypernym":
                    known.setdefault(other.lower(), []).append(one.lower())
    out.write_text("".join("\t".join((word, *dict.fromkeys(near))) + "\n" for word, near in known.items()), "utf-8")
    return len(known)


def write_rows(path: Path, rows: Pairs) -> Path:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    return path


def accuracy(data: list[Path], valid: Path, test: Pairs, out: Path, options: Any, seed: int) -> float:
    """Of a classifier that learned from `data`, in %."""
    settings: dict[str, Any] = {"steps": options.steps, "evaluate_every": max(1, options.steps // 20), "patience": 20}
    settings |= {"layers": 1, "width": 64, "pooling": "mean"}
    run = llmbert.fine_tune(
        "classify", data, out, family=options.family, valid=[valid], tokenizer="words", lowercase=True,
        settings=settings, seed=seed,
    )  # fmt: skip
    answers = llmbert.classify(run, [text for text, _ in test])
    return 100 * sum(a["label"] == label for a, (_, label) in zip(answers, test, strict=True)) / len(test)


def split(name: str, data: Path, seed: int) -> tuple[Pairs, Pairs, Pairs]:
    """Few to learn from, as many to choose by, and those to score on, which are the same for all seeds."""
    text, label, test = SETS[name]
    rows = rows_of(data / name / "train.tsv.gz", text, label)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    held = rows_of(data / test, text, label) if test else [rows[at] for at in order[:HELD]]
    taken = {sentence for sentence, _ in held}
    rest = [rows[at] for at in (order if test else order[HELD:]) if rows[at][0] not in taken]
    chosen = np.random.default_rng((1, seed)).permutation(len(rest))[: 2 * FEW].tolist()
    return [rest[at] for at in chosen[:FEW]], [rest[at] for at in chosen[FEW:]], held


def one_seed(name: str, seed: int, lexicon: Path, work: Path, options: Any) -> dict[str, float]:
    """Accuracy by what was added to the few sentences."""
    few, choosing, test = split(name, options.data, seed)
    train, valid = write_rows(work / "few.jsonl", few), write_rows(work / "valid.jsonl", choosing)
    found = {"nothing": accuracy([train], valid, test, work / "nothing", options, seed)}
    for added, ways in WAYS.items():
        llmbert.augment_data(
            train, work / "new.jsonl", ways=ways, copies=COPIES, strength=ALPHA, lexicon=lexicon, seed=seed,
            fields={"text": "text", "label": "label"}, overwrite=True,
        )  # fmt: skip
        found[added] = accuracy([train, work / "new.jsonl"], valid, test, work / added.split()[0], options, seed)
    return found


def say(name: str, found: list[dict[str, float]], test: Pairs) -> None:
    common = 100 * Counter(label for _, label in test).most_common(1)[0][1] / len(test)
    own = np.array([each["nothing"] for each in found])
    print(f"{name}: {len(test):,} to score on, the commonest label {common:.1f} %; nothing added {own.mean():.2f} %")
    for added in WAYS:
        gains = np.array([each[added] for each in found]) - own
        low, high = mean_interval(gains.tolist())
        print(
            f"  {added:<16}{(own + gains).mean():6.2f} %   gain {gains.mean():+.2f} ({low:+.2f} to "
            f"{high:+.2f})   by seed {', '.join(f'{gain:+.1f}' for gain in gains)}"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--seeds", type=int, default=5, choices=range(2, 11))
    options.add_argument("--steps", type=int, default=2000, help="of each training, 32 sentences a step")
    options.add_argument("--family", default="lstm", help="of the classifier's trunk")
    chosen = options.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        lexicon = Path(folder) / "lexicon.tsv"
        print(f"synonyms of {write_lexicon(chosen.data, lexicon):,} words")
        for name in SETS:
            found, began = [], time.monotonic()
            for seed in range(chosen.seeds):
                with tempfile.TemporaryDirectory(dir=folder) as work:
                    found.append(one_seed(name, seed, lexicon, Path(work), chosen))
                print(
                    f"  seed {seed}: {', '.join(f'{added} {score:.1f}' for added, score in found[-1].items())}",
                    flush=True,
                )
            say(name, found, split(name, chosen.data, 0)[2])
            print(f"  {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
