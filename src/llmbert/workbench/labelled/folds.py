"""Cross-validation: how well a way of learning does on examples that are too few to hold some out once and for all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.labelled import Examples, label_names, read_examples, split_folds
from llmbert.models.headed import HeadSettings
from llmbert.protocols import LLMBertError, Progress, silent
from llmbert.runs import read_json, write_json
from llmbert.workbench.labelled.course import Asked, ask, lowered, prepare
from llmbert.workbench.labelled.learn import learn, plan_steps
from llmbert.workbench.labelled.scores import found_scores, predict, score_head
from llmbert.workbench.sources import Paths


def cross_validate(
    task: str,
    data: Paths,
    *,
    folds: int = 10,
    out: str | os.PathLike[str] | None = None,
    fields: Mapping[str, str] | None = None,
    base: str | os.PathLike[str] | None = None,
    family: str = "bert",
    tokenizer: str | None = None,
    lowercase: bool = False,
    size: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The scores of `folds` models, each on the examples that it was not taught: {"scores", "folds", "examples"}.

    scores: of all predictions together, as `score_head` gives them; folds: the scores, steps and seconds of each. The
    held-out part decides nothing: every model reads its examples as often as was set, its last weights count, and a
    new tokeniser is made of the training part alone. out: a JSON file that is written after each fold and gone on with
    when the same is asked again. Other options as for `fine_tune`. Raises LLMBertError where `out` holds another's.
    """
    asked = ask(
        {task: {"task": task, "data": data, "fields": fields}}, base, family, tokenizer, lowercase, size, settings, seed
    )
    part = asked.parts[task]
    whole = lowered(read_examples(part.data, task, part.fields, progress), asked.lowercase)
    parts = split_folds(whole, folds, asked.seed)
    request = {"asked": json.loads(json.dumps(asdict(asked))), "folds": folds, "fingerprint": whole.fingerprint}
    path = None if out is None else Path(out)
    done = _known(path, request)
    for number, (train, valid) in enumerate(parts[len(done) :], len(done) + 1):
        progress("cross-validation", number - 1, folds)
        done.append(
            _fold(asked, task, train, valid, label_names(whole) if whole.labels is not None else None, progress)
        )
        if path is not None:
            write_json(path, request | {"done": done})
    return _summary(asked, task, whole, parts, done)


def _known(path: Path | None, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The folds that are done already."""
    if path is None or not path.exists():
        return []
    found = read_json(path)
    if any(found.get(key) != value for key, value in request.items()):
        raise LLMBertError(f"{path} holds another cross-validation; choose another file, or ask for the same again")
    return list(found["done"])


def _fold(
    asked: Asked, task: str, train: Examples, valid: Examples, names: list[str] | None, progress: Progress
) -> dict[str, Any]:
    began = time.monotonic()
    named = {task: names} if names else None
    course = prepare(asked, progress=progress, examples={task: (train, valid)}, names=named)
    training = plan_steps(course, None)
    model, learned = learn(course, training, progress=progress, measured=False)
    lesson = course.lessons[task]
    predicted = predict(model, lesson.valid_rows, task, max(0, course.tokeniser.padding_id), progress)
    plain = predicted.tolist() if not isinstance(predicted, list) else predicted
    return {
        "predicted": plain,
        "head": lesson.head.model_dump(mode="json"),
        "steps": learned["steps"],
        "parameters": learned["parameters"],
        "seconds": time.monotonic() - began,
    }


def _summary(
    asked: Asked,
    task: str,
    whole: Examples,
    parts: list[tuple[Examples, Examples]],
    done: list[dict[str, Any]],
) -> dict[str, Any]:
    head = HeadSettings(**done[0]["head"])
    each = []
    for (_, valid), fold in zip(parts, done, strict=True):
        scores = score_head(head, _as_predicted(task, fold["predicted"]), valid, resamples=2)
        values = {name: score["score"] for name, score in scores.items()}
        each.append(values | {key: fold[key] for key in ("steps", "parameters", "seconds")})
    return {
        "task": task,
        "examples": len(whole),
        "scores": _together(head, [valid for _, valid in parts], [fold["predicted"] for fold in done]),
        "folds": each,
        "settings": asked.values,
    }


def _together(head: HeadSettings, held_out: list[Examples], predicted: list[Any]) -> dict[str, dict[str, Any]]:
    """The scores of all predictions; the vectors of one model say nothing of how near another's are."""
    if held_out[0].labels is None:
        return found_scores([_as_predicted(head.task, plain) for plain in predicted], held_out)
    together = [guess for plain in predicted for guess in plain]
    texts = [text for valid in held_out for text in valid.texts]
    labels = [label for valid in held_out for label in valid.labels or ()]
    return score_head(head, _as_predicted(head.task, together), Examples(head.task, texts, None, labels))


def _as_predicted(task: str, plain: list[Any]) -> Any:
    return np.array(plain) if task in ("regress", "embed") else plain
