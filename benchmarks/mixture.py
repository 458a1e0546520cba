"""One T5 that translates, summarises and classifies by prefix, beside one T5 for each, all at the same tokens.

python benchmarks/mixture.py [--data FOLDER] [--out FOLDER] [--epochs 5] [--only NAME]

Every model sees each pair of its tasks so many times; all have the mixture's tokeniser and shape. The mixture is to be
within 10 % of each single model. A run that was stopped goes on where it was: give the same --out again. --only: train
one of mixture, translate, summarise and classify (behind the mixture, whose tokeniser it takes), so that another core
can train another one meanwhile.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llmbert
from llmbert.cli.display import Display
from llmbert.data.pairs import PairBatches, PairCorpus
from llmbert.runs import Run, machine, run_status
from llmbert.workbench.measure import answer_references
from llmbert.workbench.sources import Source, open_store, read_pair_corpus

SHARE = 0.9  # of a single model's figure that the mixture is to reach
SETTINGS = {
    **{"layers": 2, "width": 128, "heads": 4, "inner": 256, "context": 320, "dropout": 0.1, "batch_tokens": 4096},
    "precision": "float32",  # the same arithmetic on every machine, since the models may be trained on different ones
}
VOCABULARY = 4000

# By the name of the task: data, held-out data, fields, prefix, and the metrics that are compared.
PARTS: dict[str, dict[str, Any]] = {
    "translate en-de": {
        "data": ["multi30k_ende/train.en.txt.gz", "multi30k_ende/train.de.txt.gz"],
        "valid": ["multi30k_ende/val.en.txt.gz", "multi30k_ende/val.de.txt.gz"],
        "prefix": "translate English to German: ",
    },
    "summarise": {
        "data": ["dialogsum/train.jsonl.gz"],
        "valid": ["dialogsum/dev.jsonl.gz"],
        "fields": {"source": "dialogue", "target": "summary"},
        "prefix": "summarize: ",
    },
    "classify": {
        "data": ["clinc150/train.tsv.gz"],
        "valid": ["clinc150/val.tsv.gz"],
        "fields": {"source": "text", "target": "intent"},
        "prefix": "intent: ",
    },
}
COMPARED = {"translate en-de": "bleu", "summarise": "rouge1", "classify": "exact-match"}


def mixture_of(names: Sequence[str], data: Path) -> list[dict[str, Any]]:
    """The parts as `train` takes them."""
    parts = []
    for name in names:
        part = dict(PARTS[name], task=name)
        for key in ("data", "valid"):
            part[key] = [str(data / path) for path in part[key]]
        parts.append(part)
    return parts


def trained(names: Sequence[str], data: Path, out: Path, tokenizer: str, epochs: int, display: Display) -> Run:
    """A T5 on these tasks, trained, gone on with, or found as it was left."""
    folder = out / ("mixture" if len(names) > 1 else names[0].split()[0])
    status = run_status(folder)
    if status is not None:
        return llmbert.load(folder) if status == "done" else llmbert.resume(folder, progress=display)
    mixture = mixture_of(names, data)
    source = Source([], tokenizer=tokenizer, vocabulary_size=VOCABULARY, mixture=mixture)
    store = read_pair_corpus(source, out, display)
    context, tokens = int(SETTINGS["context"]), int(SETTINGS["batch_tokens"])
    steps = epochs * len(PairBatches(store.train, (context, context), 0, tokens=tokens).plan(0))
    settings = {**SETTINGS, "vocabulary_size": VOCABULARY, "steps": steps}
    return llmbert.train(
        "t5", [], folder, mixture=mixture, tokenizer=tokenizer, settings=settings, progress=display, store=store
    )


def figures(run: Run, out: Path, display: Display) -> Mapping[str, float]:
    """The compared metric of each task a run knows, over all its held-out sources, greedily."""
    store = open_store(out / run.facts["corpus"])
    assert isinstance(store, PairCorpus)
    found = answer_references(run, store.references(), display)
    for example in found["examples"][:6]:
        print(f"    {example['source'][-80:]!r} > {example['text'][:100]!r}")
    return {name: scores[COMPARED[name]]["score"] for name, scores in found["metrics"].items()}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--out", type=Path, default=Path("benchmark-runs/mixture"), help="where the runs are kept")
    options.add_argument("--epochs", type=int, default=5, help="readings of each pair")
    options.add_argument("--only", choices=["mixture", *(name.split()[0] for name in PARTS)], help="train this one")
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    print(machine())
    if chosen.only is not None:
        names = [name for name in PARTS if chosen.only in ("mixture", name.split()[0])]
        tokenizer = "bpe" if chosen.only == "mixture" else str(chosen.out / "mixture")
        with Display() as display:
            run = trained(names, chosen.data, chosen.out, tokenizer, chosen.epochs, display)
            for name, value in figures(run, chosen.out, display).items():
                print(f"{name}: {COMPARED[name]} {value:.2f}, {chosen.only}")
        return
    with Display() as display:
        run = trained(list(PARTS), chosen.data, chosen.out, "bpe", chosen.epochs, display)
        together = figures(run, chosen.out, display)
        rows = {}
        for name, metric in COMPARED.items():
            single = trained([name], chosen.data, chosen.out, str(chosen.out / "mixture"), chosen.epochs, display)
            alone = figures(single, chosen.out, display)[name]
            share = together[name] / alone
            mark = "reached" if share >= SHARE else "MISSED"
            print(f"{name}: {metric} {together[name]:.2f} in the mixture, {alone:.2f} alone: {share:.1%}, {mark}")
            rows[name] = {"metric": metric, "mixture": together[name], "alone": alone, "share": share}
    (chosen.out / "mixture.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
