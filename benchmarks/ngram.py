"""N-gram models beside KenLM's programs: building, memory, perplexity and scoring, and how building grows.

KENLM=FOLDER python benchmarks/ngram.py [NAME ...] [--rounds 5] [--data FOLDER]

ptb, wikitext2: an order-5 model of modified Kneser-Ney smoothing, from the text to a file that can be asked: ours
(ngram_building.py) reads, counts the vocabulary, packs the ids, counts and smooths, and saves; KenLM's is `lmplz`, with
a gigabyte to sort in, and `build_binary`. Seconds and memory are those of whole processes. grow-10, grow-100: the same
for so many megabytes of WikiText-2's lines over and over, each with the number of its turn. scoring: tokens/s of
held-out text, and contexts/s whose next words are all asked for. KENLM is the folder where KenLM's programs are.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ngram_building
import performance
from data_path import write_text
from llmbert.data.corpus import build_shard
from ngram_building import ORDER, build
from performance import Missing, Options, Result, in_turn, rate

# What the system says of a child's memory begins with that of the process that started it, so a small one does.
CHILD = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
KENLM = Path(os.environ.get("KENLM", "kenlm/build/bin"))


def program(name: str) -> Path:
    path = KENLM / name
    if not path.exists():
        raise Missing(f"KenLM's {name} is not in {KENLM}; build it and set KENLM to its folder")
    return path


# ---- lines ---------------------------------------------------------------------------------------------------------


def kenlm(text: Path, folder: Path) -> dict[str, float]:
    """`lmplz` and `build_binary`, and the most memory that either took."""
    began, memory = time.perf_counter(), 0.0
    arpa, binary = folder / "model.arpa", folder / "model.binary"
    for command, source, target in (
        ([program("lmplz"), "-o", str(ORDER), "-S", "1G", "-T", str(folder)], text, arpa),
        ([program("build_binary"), arpa, binary], None, None),
    ):
        nothing = Path(os.devnull)
        with (source or nothing).open("rb") as given, (target or nothing).open("wb") as taken:
            small = [sys.executable, "-S", "-c", CHILD, *map(str, command)]
            said = subprocess.run(small, stdin=given, stdout=taken, stderr=subprocess.PIPE, text=True, check=True)
        memory = max(memory, int(said.stderr.splitlines()[-1]) / 1000)
    return {"seconds": time.perf_counter() - began, "megabytes": memory}


def ours(text: Path, folder: Path) -> dict[str, float]:
    """The whole process, as of KenLM's programs."""
    began, small = time.perf_counter(), [sys.executable, "-S", "-c", CHILD, sys.executable, ngram_building.__file__]
    said = subprocess.run(
        [*small, text, folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
    )
    return {"seconds": time.perf_counter() - began, "megabytes": int(said.stderr.splitlines()[-1]) / 1000}


def built(title: str, text: Path, root: Path, rounds: int) -> list[Result]:
    """Seconds and memory of building, ours and KenLM's in turn, each into an empty folder."""
    program("lmplz")
    memory: dict[str, list[float]] = {"ours": [], "theirs": []}

    def run(name: str, work: Callable[[Path, Path], dict[str, float]]) -> Callable[[], float]:
        def once() -> float:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                found = work(text, Path(folder))
            memory[name].append(found["megabytes"])
            return 1 / found["seconds"]

        return once

    peers = {"lmplz and build_binary": (run("theirs", kenlm), 1 / 1.5)}
    (found,) = in_turn(f"building an order-{ORDER} model, {title}", "times a second", run("ours", ours), peers, rounds)
    most = {name: (max(each), (min(each), max(each))) for name, each in memory.items()}
    name = f"the same, {title}: most memory"
    return [found, Result(name, "MB", *most["ours"], found.peer, *most["theirs"], 1 / 1.5, less=True)]


def corpus_line(name: str) -> Any:
    def measure(options: Options) -> list[Result]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            texts = {part: root / f"{part}.txt" for part in ("train", "valid")}
            for part, path in texts.items():
                with gzip.open(options.data / name / f"{part}.txt.gz", "rt", encoding="utf-8") as file:
                    lines = (line.strip() for line in file)
                    # To lmplz <unk> is no word; here and there it is one like others.
                    path.write_text("".join(f"{x}\n".replace("<unk>", "UNK") for x in lines if x), "utf-8")
            found = built(name, texts["train"], root, options.rounds)
            kenlm(texts["train"], root)
            said = subprocess.run(
                [program("query"), "-v", "summary", root / "model.binary"],
                stdin=texts["valid"].open("rb"), capture_output=True, text=True, check=True,
            )  # fmt: skip
            theirs = float(re.findall(r"including OOVs:\s*([\d.]+)", said.stdout + said.stderr)[0])
            corpus, model = build(str(texts["train"]), str(root / "ours"))
            valid = build_shard([str(texts["valid"])], corpus.tokeniser, root / "valid", lines=True)
            nats = model.token_nats(np.asarray(valid.ids), np.asarray(valid.starts))
            mine = float(np.exp(nats.sum() / valid.tokens))
        name_of = f"perplexity of {name}, order {ORDER}"
        print(f"  {name_of}: {mine:.4f}, KenLM {theirs:.4f}")
        return [
            *found,
            Result(name_of, "a token", mine, (mine, mine), "KenLM", theirs, (theirs, theirs), 0.9999, less=True),
        ]

    return measure


def growth(megabytes: int) -> Any:
    def measure(options: Options) -> list[Result]:
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            write_text(options, megabytes, text)
            text.write_text(text.read_text("utf-8").replace("<unk>", "UNK"), "utf-8")
            return built(f"{megabytes} MB", text, Path(folder), 1)

    return measure


def scoring(options: Options) -> list[Result]:
    """PTB's model, whose vocabulary has ten thousand words."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [str(options.data / f"ptb/{part}.txt.gz") for part in ("train", "valid")]
        corpus, model = build(paths[0], folder)
        shard = build_shard(paths[1:], corpus.tokeniser, root / "valid", lines=True)
        ids, starts = np.asarray(shard.ids), np.asarray(shard.starts)
        contexts = [ids[at : at + ORDER - 1] for at in range(0, 100 * ORDER, ORDER)]

        def score() -> int:
            model.token_nats(ids, starts)
            return shard.tokens

        def distributions() -> int:
            for context in contexts:
                model.next_distribution([context])
            return len(contexts)

        def limit(name: str, unit: str, work: Callable[[], float], least: float) -> Result:
            (found,) = in_turn(name, unit, rate(work), {"the limit": (lambda: least, 1.0)}, options.rounds)
            return found

        return [
            limit("scoring with an order-5 model of PTB", "tokens/s", score, 500_000),
            limit(f"all of {model.vocabulary_size:,} next words", "contexts/s", distributions, 2000),
        ]


LINES = {
    "ptb": corpus_line("ptb"),
    "wikitext2": corpus_line("wikitext2"),
    "scoring": scoring,
    "grow-10": growth(10),
    "grow-100": growth(100),
}

if __name__ == "__main__":
    performance.main(LINES, __doc__ or "")
