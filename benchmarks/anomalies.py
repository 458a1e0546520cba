"""Sentences of an encyclopaedia and of daily talk among newspaper sentences: how well each family tells them apart.

python benchmarks/anomalies.py [FAMILY ...] [--data FOLDER] [--out FOLDER] [--budget 3m]

All learn Penn Treebank's train. What belongs is its valid; what does not is WikiText-2's and DailyDialog's valid,
lower-cased, without punctuation, numbers as N, contractions split and words beyond the newspaper's 10,000 as <unk>,
all as the treebank is; and each is matched with a newspaper sentence of as many words and unknown words, so that
neither spelling nor length gives it away. Beside each AUC (50 is guessing) stand those of two rules that read nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import llmbert
from llmbert.cli.display import Display
from llmbert.metrics.detection import detection_scores
from llmbert.runs import machine, run_status

SHORTEST = 5  # words
NEAR = 2  # words by which the lengths of two matched sentences may differ
NETWORK = {"tokenizer": "words", "lines": True}
FAMILIES: dict[str, dict[str, Any]] = {
    "ngram": {"settings": {"order": 5}},
    "lstm": {},
    "gpt": {},
    "mixture": {"settings": {"members": "ngram order=5, lstm"}},
    "vae": {"settings": {"free_bits": 0.1, "word_dropout": 0.3}},
    "bert": {},
    "gan": {"settings": {"context": 40, "adversarial": "relaxed"}},
}


def treebank_words(sentence: str, known: frozenset[str]) -> list[str]:
    """A sentence as Penn Treebank's language-modelling text has it."""
    text = sentence.lower().replace("’", "'").replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".")
    text = re.sub(r"(\w)(n't)\b", r"\1 \2", text.replace(" ' ", "'").replace("n 't", "n't"))
    text = re.sub(r"(\w)('s|'re|'ve|'ll|'d|'m)\b", r"\1 \2", text)
    text = re.sub(r"([$%#])", r" \1 ", text)
    found = []
    for word in text.split():
        bare = word if word in known else re.sub(r"^[^\w<$%'-]+|[^\w>$%]+$", "", word)
        if re.fullmatch(r"\d+([.,:/-]\d+)*(st|nd|rd|th|s)?", bare):
            bare = "N"
        if bare and (re.search(r"\w", bare) or bare in "$%"):
            found.append(bare if bare in known else "<unk>")
    return found


def split_sentences(paragraphs: Iterable[str]) -> Iterable[str]:
    for paragraph in paragraphs:
        if not paragraph.strip().startswith("="):
            yield from re.split(r"(?<=[.?!]) +(?=[A-Z\"“])", paragraph.strip())


def matched(belong: list[list[str]], others: list[list[str]]) -> tuple[list[str], list[str]]:
    """As many of both as can be paired, each with one of as many unknown words and about as many words."""
    free: dict[tuple[int, int], list[list[str]]] = {}
    for words in others:
        free.setdefault((words.count("<unk>"), len(words)), []).append(words)
    pairs = []
    for words in belong:
        lengths = sorted(range(len(words) - NEAR, len(words) + NEAR + 1), key=lambda length: abs(length - len(words)))
        some = next((free[key] for n in lengths if free.get(key := (words.count("<unk>"), n))), None)
        if some:
            pairs.append((" ".join(words), " ".join(some.pop())))
    first, second = zip(*pairs, strict=True)
    return list(first), list(second)


def write_sentences(data: Path, out: Path) -> dict[str, tuple[Path, Path]]:
    """By kind of what does not belong: a file of newspaper sentences, and one of the others, a sentence a line."""

    def lines(path: str) -> list[str]:
        with gzip.open(data / path, "rt", encoding="utf-8") as file:
            return file.read().splitlines()

    known = frozenset(word for line in lines("ptb/train.txt.gz") for word in line.split())
    talks = [json.loads(line)["utterances"] for line in lines("dailydialog/validation.jsonl.gz")]
    kinds = {
        "encyclopaedia": split_sentences(lines("wikitext2/valid.txt.gz")),
        "daily talk": (sentence for talk in talks for turn in talk for sentence in split_sentences([turn])),
    }
    newspaper = [words for line in lines("ptb/valid.txt.gz") if len(words := line.split()) >= SHORTEST]
    out.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind, sentences in kinds.items():
        others = [words for each in sentences if len(words := treebank_words(each, known)) >= SHORTEST]
        paths[kind] = (out / f"newspaper-{kind.split()[0]}.txt", out / f"{kind.split()[0]}.txt")
        for path, rows in zip(paths[kind], matched(newspaper, others), strict=True):
            path.write_text("\n".join(rows) + "\n", "utf-8")
    return paths


def rules(normal: Path, odd: Path) -> dict[str, float]:
    """AUC of a sentence's length and of its share of unknown words, each whichever way it tells more."""
    sides = [[line.split() for line in path.read_text("utf-8").splitlines()] for path in (normal, odd)]
    found = {}
    for name, rule in (("length", len), ("unknown words", lambda words: words.count("<unk>") / len(words))):
        auc = detection_scores(*([rule(words) for words in side] for side in sides), resamples=10)["auc"]["score"]
        found[name] = max(auc, 100 - auc)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--out", type=Path, default=Path("benchmark-runs/anomalies"), help="where the runs are kept")
    options.add_argument("--budget", default="3m", help="of each family that learns by steps")
    chosen = options.parse_args()
    if unknown := [name for name in chosen.families if name not in FAMILIES]:
        options.error(f"{unknown[0]!r} is none of {', '.join(FAMILIES)}")
    paths = write_sentences(chosen.data, chosen.out)
    print(machine())
    for kind, (normal, odd) in paths.items():
        beside = ", ".join(f"{name} {auc:.1f}" for name, auc in rules(normal, odd).items())
        sample = odd.read_text("utf-8").splitlines()
        print(f"{kind}: {len(sample):,} matched pairs; AUC of rules that read nothing: {beside}")
        print("    " + "\n    ".join(sample[:: len(sample) // 3][:3]))
    with Display() as display:
        for family in chosen.families or FAMILIES:
            folder, asked = chosen.out / family, FAMILIES[family]
            budget = {} if family == "ngram" else {"budget": chosen.budget}
            run = llmbert.load(folder) if run_status(folder) == "done" else llmbert.train(
                family, [chosen.data / "ptb/train.txt.gz"], folder, valid=[chosen.data / "ptb/valid.txt.gz"],
                progress=display, **NETWORK, **budget, **asked,
            )  # fmt: skip
            for kind, (normal, odd) in paths.items():
                found = llmbert.anomalies(run, normal, odd=odd, lines=True, progress=display)
                auc, tpr = found["auc"], found["tpr"]
                print(
                    f"{family:<10}{kind:<15}AUC {auc['score']:5.1f} ({auc['interval'][0]:.1f} to "
                    f"{auc['interval'][1]:.1f})  found at 1 % false alarms {tpr['score']:5.1f} %  {found['unit']}"
                )


if __name__ == "__main__":
    main()
