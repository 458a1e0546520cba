"""Few labelled texts and many without → a classifier that learned from both: self-training by calibrated confidence."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.labelled import Examples, read_examples, split_examples
from llmbert.data.read import read_documents
from llmbert.metrics.calibration import calibration_scores, fit_temperature, softmax
from llmbert.metrics.labels import score_labels
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import FACTS, Run, check_out, load, read_json, run_status, write_json, write_text
from llmbert.tasks.classify import class_scores
from llmbert.training.loop import Interrupted
from llmbert.workbench.fine_tune import fine_tune, resume_fine_tune
from llmbert.workbench.folders import fresh_folder, is_worth_keeping
from llmbert.workbench.settings import MOST_SEED, whole_number
from llmbert.workbench.sources import Paths, path_list

HELD = 0.2  # of the labelled texts, where no held-out ones are given
AT_ONCE = 4096  # texts whose labels are guessed together
SUMMARY = "self_training.json"


def self_train(
    data: Paths,
    unlabelled: Paths,
    out: str | os.PathLike[str],
    *,
    valid: Paths | None = None,
    rounds: int = 2,
    least: float = 0.9,
    fields: Mapping[str, str] | None = None,
    lines: bool = False,
    seed: int = 0,
    progress: Progress = silent,
    **options: Any,
) -> dict[str, Any]:
    """Train a classifier, let it label texts that it is sure of, and train anew with those, `rounds` times (Lee 2013).

    Sure means a probability of `least` after temperature scaling (Guo et al. 2017), fitted anew each round; of the sure
    texts the surest of each class are taken, in the proportions of `data` (after Zou et al. 2018), or the class that is
    easiest would crowd out the others. Held-out
    examples (valid, or a fifth of `data`) are cut in two: by one half each training's best weights are chosen and the
    rounds compared, on the other the temperature is fitted; what is found of it is stated of the first half. fields:
    text= and label= of `data`, text= of `unlabelled` too; lines: each line of an unlabelled text file is a text.
    options: as of `fine_tune`.

    Writes runs out/round-0 (labelled texts alone) to out/round-N, the texts each learned from, and self_training.json,
    which is returned: "rounds", each with accuracy, ece before and after scaling, temperature and pseudo-labels by
    class, and "best", the folder of the round with the highest accuracy, of equals the first. What was stopped goes on
    where it was when it is asked for again.

    Raises UsageError for what is asked wrongly, LLMBertError for what cannot be read or learned from.
    """
    if rounds < 1:
        raise UsageError(f"rounds must be at least 1, not {rounds}")
    if not 0 < least <= 1:
        raise UsageError(f"least is a probability, above 0 and at most 1, not {least}")
    whole_number("seed", seed, 0, MOST_SEED)
    folder = Path(out)
    if not (folder / SUMMARY).exists():
        check_out(folder)
    named = {role: name for role, name in (fields or {}).items() if role in ("text", "label")}
    if set(named) != set(fields or {}):
        raise UsageError("self-training takes the fields text= and label=")
    train, held = _read(path_list(data), None if valid is None else path_list(valid), named, progress)
    choosing, fitting = _halves(held, seed)
    texts = {"paths": path_list(unlabelled), "lines": lines, "text": named.get("text")}
    asked = {"train": train.fingerprint, "held": held.fingerprint, "unlabelled": texts, "rounds": rounds}
    asked |= {"least": least, "seed": seed} | {key: value for key, value in options.items() if key != "stop"}
    asked = json.loads(json.dumps(asked, default=str))
    found = _found_before(folder, asked)
    with fresh_folder(folder), _telling_that_it_goes_on(folder):
        paths = {name: folder / f"{name}.jsonl" for name in ("train", "valid")}
        for name, some in (("train", train), ("valid", choosing)):
            _write_rows(paths[name], zip(some.texts, some.labels or [], strict=True))
        write_json(folder / SUMMARY, {"asked": asked, "rounds": found})
        while len(found) <= rounds and not (found and found[-1].get("pseudo_labels") == {}):
            number = len(found)
            learned = [paths["train"], *([folder / f"pseudo-{number}.jsonl"] if number else [])]
            chosen = {"valid": [paths["valid"]], "seed": seed, "progress": progress, **options}
            run = _taught(folder / f"round-{number}", learned, chosen)
            latest = {"run": f"round-{number}"} | _measured(run, choosing, fitting)
            if number < rounds:
                pseudo = folder / f"pseudo-{number + 1}.jsonl"
                scale = latest["temperature"]
                latest |= _label(run, _texts(texts, progress), scale, least, train.counts(), pseudo, progress)
            found.append(latest)
            write_json(folder / SUMMARY, {"asked": asked, "rounds": found})
        best = max(found, key=lambda each: each["accuracy"]["score"])
        summary = {"best": best["run"], "least": least, "rounds": found}
        write_json(folder / SUMMARY, summary)
    return summary


def _found_before(folder: Path, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rounds that are done where self-training was stopped.

    Raises LLMBertError where it was asked for otherwise, or is finished.
    """
    if not (folder / SUMMARY).exists():
        return []
    before = read_json(folder / SUMMARY)
    if before.get("asked") != asked:
        raise LLMBertError(f"{folder} already holds another self-training, or a finished one; choose another --out")
    return list(before["rounds"])


def _taught(folder: Path, learned: list[Path], options: dict[str, Any]) -> Run:
    """The run of a round: trained, gone on with, or found as it was left."""
    if run_status(folder) == "done":
        return load(folder)
    if (folder / FACTS).exists():
        return resume_fine_tune(folder, progress=options["progress"], stop=options.get("stop", lambda: False))
    return fine_tune("classify", learned, folder, **options)


@contextmanager
def _telling_that_it_goes_on(folder: Path) -> Iterator[None]:
    """Says of all rounds, not of the one that was stopped, how to go on, where anything of them is kept."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stopped:
        if not is_worth_keeping(folder):
            raise
        at = str(stopped).partition(";")[0] or "stopped, the rounds that are done are saved"
        raise Interrupted(f"{at}; the same command goes on from there") from None


def _read(
    data: list[str], valid: list[str] | None, named: Mapping[str, str], progress: Progress
) -> tuple[Examples, Examples]:
    examples = read_examples(data, "classify", named, progress)
    if valid is None:
        train, held = split_examples(examples, HELD)
    else:
        train, held = examples, read_examples(valid, "classify", named, progress)
    known = set(train.counts())
    strange = sorted(set(held.counts()) - known)
    if strange:
        raise LLMBertError(
            f"the held-out label {strange[0]!r} is nowhere in what is learned from; give an example of it"
        )
    if len(held) < 20:
        raise LLMBertError(f"{len(held)} held-out examples are too few to fit a temperature; give 20 or more")
    return train, held


def _halves(held: Examples, seed: int) -> tuple[Examples, Examples]:
    order = np.random.default_rng(seed).permutation(len(held)).tolist()
    middle = len(held) // 2
    return held.take(order[:middle]), held.take(order[middle:])


def _measured(run: Run, choosing: Examples, fitting: Examples) -> dict[str, Any]:
    """Accuracy, temperature, and the calibration error without and with it."""
    labels, scores = class_scores(run, choosing.texts)
    number = {label: at for at, label in enumerate(labels)}
    own = [number[label] for label in choosing.labels or []]
    temperature = fit_temperature(
        class_scores(run, fitting.texts)[1], [number[label] for label in fitting.labels or []]
    )
    predicted = [labels[at] for at in scores.argmax(1)]
    return {
        "accuracy": score_labels(predicted, choosing.labels or [])["accuracy"],
        "temperature": temperature,
        "ece_before": calibration_scores(scores, own)["ece"],
        "ece_after": calibration_scores(scores, own, temperature)["ece"],
    }


def _label(
    run: Run,
    texts: Iterator[str],
    temperature: float,
    least: float,
    known: Mapping[str, int],
    path: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write the texts that the run is sure of with their labels; how many it was sure of, and how many of each class
    were taken, in the proportions of `known`."""
    seen = 0
    sure: list[tuple[float, str, str]] = []
    while some := list(islice(texts, AT_ONCE)):
        labels, scores = class_scores(run, some)
        shares = softmax(scores / temperature)
        for text, best, share in zip(some, shares.argmax(1).tolist(), shares.max(1).tolist(), strict=True):
            if share >= least:
                sure.append((share, text, labels[best]))
        seen += len(some)
        progress("labelling", seen, None)
    taken = _in_proportion(sure, known)
    _write_rows(path, iter(taken))
    counts = Counter(label for _, label in taken)
    return {"unlabelled": seen, "sure": len(sure), "pseudo_labels": dict(sorted(counts.items()))}


def _in_proportion(sure: list[tuple[float, str, str]], known: Mapping[str, int]) -> list[tuple[str, str]]:
    """As many (text, label) as can be had in the proportions of `known`, the surest of each class first."""
    met = Counter(label for _, _, label in sure)
    scale = min(met[label] / count for label, count in known.items())
    left = {label: int(scale * count + 1e-9) for label, count in known.items()}
    taken = []
    for _, text, label in sorted(sure, key=lambda each: -each[0]):
        if left[label]:
            left[label] -= 1
            taken.append((text, label))
    return taken


def _texts(asked: Mapping[str, Any], progress: Progress) -> Iterator[str]:
    fields = {"text": asked["text"]} if asked["text"] else None
    for document in read_documents(asked["paths"], lines=asked["lines"], fields=fields, progress=progress):
        yield "".join(document.pieces)


def _write_rows(path: Path, rows: Iterator[tuple[str, str]]) -> None:
    lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows)
    write_text(path, "".join(line + "\n" for line in lines))
