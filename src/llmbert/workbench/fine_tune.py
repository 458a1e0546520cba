"""Labelled text → a run with heads: on a trained trunk or from random weights, one task or several at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmbert.models.headed import Headed, HeadedSettings, with_places
from llmbert.protocols import LLMBertError, Progress, silent
from llmbert.runs import (
    CHECKPOINT,
    FACTS,
    FORMAT,
    Run,
    check_out,
    command_line,
    load,
    machine,
    read_facts,
    save_model,
    sweep,
    version,
    versions,
    write_json,
)
from llmbert.runs.trail import note_beside
from llmbert.text.foreign import FOREIGN, ForeignTokeniser, load_tokeniser
from llmbert.text.tokenisers import Tokeniser
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.folders import fresh_folder, keeping_time, note_done, telling_how_to_go_on
from llmbert.workbench.labelled.course import Asked, Course, Lesson, Part, ask, prepare
from llmbert.workbench.labelled.folds import cross_validate
from llmbert.workbench.labelled.learn import learn, plan_steps
from llmbert.workbench.labelled.page import write_labelled_page
from llmbert.workbench.labelled.scores import predict, score_head
from llmbert.workbench.settings import checked, parse_duration
from llmbert.workbench.sources import Paths

__all__ = ["cross_validate", "fine_tune", "fine_tune_tasks", "resume_fine_tune"]


def fine_tune(
    task: str,
    data: Paths,
    out: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    family: str = "bert",
    valid: Paths | None = None,
    fields: Mapping[str, str] | None = None,
    **options: Any,
) -> Run:
    """Teach a model one task from labelled examples and write a run folder at `out`.

    task: classify, multilabel, tag, regress or embed; data, valid: see `read_examples`; fields: what text, text_b and
    label (or tokens and tags) are called there; without valid a tenth is held out. base: a run, or a folder in Hugging
    Face's layout, whose weights and tokeniser are begun with; without it a new trunk of `family`, with random weights.

    Options: as of `fine_tune_tasks`.
    """
    part = {"task": task, "data": data, "valid": valid, "fields": fields}
    return fine_tune_tasks({task: part}, out, base=base, family=family, **options)


def fine_tune_tasks(
    tasks: Mapping[str, Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    family: str = "bert",
    tokenizer: str | None = None,
    lowercase: bool = False,
    size: str | None = None,
    settings: Mapping[str, Any] | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    language: str = "en",
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Teach one trunk several tasks at once, each with a head of its own: {name: {"task", "data", "valid", "fields"}}.

    tokenizer: a kind or the folder of a run, for a new trunk; None: chars where words are single characters, else
    wordpiece; lowercase: all text; size: tiny, small, medium or large; settings: of the trunk, the heads (pooling,
    crf, temperature, head_dropout) and the training (`FineTuningSettings`); budget: time for all of it, which decides
    how often the examples are read; language: of the page, en or zh; stop: asked after every step whether to save and
    stop.

    Every epoch the held-out examples are scored, and the weights that did best are kept. Raises UsageError for what is
    asked wrongly, LLMBertError for examples that cannot be used, Interrupted when stopped.
    """
    began = time.monotonic()
    asked = ask(tasks, base, family, tokenizer, lowercase, size, settings, seed)
    seconds = parse_duration(budget) if budget is not None else None
    folder = Path(out)
    check_out(folder)
    course = prepare(asked, progress=progress)
    training = plan_steps(course, None if seconds is None else seconds - (time.monotonic() - began))
    facts = _facts(course, training, budget) | {"language": language}
    with fresh_folder(folder):
        return _run(folder, course, training, facts, progress, stop, began, resume=False)


def resume_fine_tune(
    out: str | os.PathLike[str], *, progress: Progress = silent, stop: Callable[[], bool] = lambda: False
) -> Run:
    """Go on with a fine-tuning that was stopped, exactly as if it had not been.

    Raises LLMBertError where there is nothing to go on with, or its examples are gone or changed.
    """
    folder = Path(out)
    facts = read_facts(folder)
    if facts.get("status") != "training" or facts.get("family") != Headed.family:
        raise LLMBertError(f"{folder} holds no fine-tuning that was stopped; fine-tune again with another --out")
    source = dict(facts["source"])
    parts = {name: Part(**part) for name, part in source.pop("parts").items()}
    ours = facts["tokeniser"]["kind"] != FOREIGN
    tokeniser = Tokeniser.load(folder) if ours else load_tokeniser(folder, facts["tokeniser"]["ids"])
    settings = checked(HeadedSettings, with_places(facts["settings"]["model"]))
    resume, vocabulary = (folder / CHECKPOINT).exists(), facts["settings"]["vocabulary_size"]
    course = prepare(Asked(parts, **source), tokeniser, settings, vocabulary, progress, learned=resume)
    if {name: _fingerprints(lesson) for name, lesson in course.lessons.items()} != {
        name: found["fingerprints"] for name, found in facts["data"].items()
    }:
        raise LLMBertError(f"the examples of {folder} are not those it was learning from; fine-tune again")
    training = checked(TrainingSettings, facts["settings"]["training"])
    began = time.monotonic()
    return _run(folder, course, training, facts, progress, stop, began, resume)


# ---- the folder ----------------------------------------------------------------------------------------------------


def _facts(course: Course, training: TrainingSettings, budget: str | float | None) -> dict[str, Any]:
    """`run.json` as far as it is known before training."""
    model, tokeniser, asked = course.make(), course.tokeniser, course.asked
    known: dict[str, Any] = {
        "kind": tokeniser.kind,
        "vocabulary_size": tokeniser.vocabulary_size,
        "fingerprint": tokeniser.fingerprint,
    }
    if isinstance(tokeniser, ForeignTokeniser):
        known["ids"] = tokeniser.config_ids()
    return {
        "format": FORMAT,
        "llmbert": version(),
        "status": "training",
        "family": Headed.family,
        "objective": "labels",
        "likelihood": Headed.likelihood,
        "tasks": sorted({lesson.head.task for lesson in course.lessons.values()}),
        "trunk": model.settings.trunk,
        "words": "characters" if course.characters else "words",
        "text": {"lowercase": asked.lowercase},
        "command": command_line(),
        "source": asdict(asked),
        "base": asked.base,
        "budget": budget,
        "size": asked.size,
        "seed": asked.seed,
        "settings": {
            "model": model.settings.model_dump(mode="json"),
            "vocabulary_size": model.vocabulary_size,
            "training": training.model_dump(),
        },
        "data": {name: _describe(lesson) for name, lesson in course.lessons.items()},
        "tokeniser": known,
        "machine": machine(),
        "versions": versions(),
    }


def _describe(lesson: Lesson) -> dict[str, Any]:
    """The examples in figures; truncated and cut are of those that were too long for the context."""
    return {
        "train": len(lesson.train),
        "valid": len(lesson.valid),
        "labels": lesson.train.counts(),
        "notes": {"train": lesson.train.notes, "valid": lesson.valid.notes},
        "truncated": {"train": lesson.train_rows.truncated, "valid": lesson.valid_rows.truncated},
        "cut": {"train": lesson.train_rows.cut, "valid": lesson.valid_rows.cut},
        "fingerprints": _fingerprints(lesson),
    }


def _fingerprints(lesson: Lesson) -> list[str]:
    return [lesson.train.fingerprint, lesson.valid.fingerprint]


def _run(
    out: Path,
    course: Course,
    training: TrainingSettings,
    facts: dict[str, Any],
    progress: Progress,
    stop: Callable[[], bool],
    began: float,
    resume: bool,
) -> Run:
    """Learn, measure and write; run.json comes first, so that whatever is killed later can be gone on with."""
    with telling_how_to_go_on(out), keeping_time(out, facts, began) as note_time:
        sweep(out)
        write_json(out / FACTS, facts)
        course.tokeniser.save(out)
        model, learned = learn(course, training, out, progress, stop, resume)
        special = course.tokeniser.config_ids() if isinstance(course.tokeniser, ForeignTokeniser) else None
        save_model(out, model, special)
        facts |= learned
        predicted = {
            name: predict(model, lesson.valid_rows, name, max(0, course.tokeniser.padding_id), progress)
            for name, lesson in course.lessons.items()
        }
        facts["heads"] = _scores(course, predicted)
        if len(facts["heads"]) == 1:
            facts["scores"] = next(iter(facts["heads"].values()))["scores"]
        run = Run(out, model, course.tokeniser, facts)
        facts["bytes_on_disk"] = run.bytes_on_disk
        note_time()
        facts["status"] = "done"
        write_labelled_page(run, course, predicted)
        write_json(out / FACTS, facts)
        (out / CHECKPOINT).unlink(missing_ok=True)
        texts = {name: each["fingerprints"][0] for name, each in facts["data"].items()}
        note_done(note_beside, out, "fine-tune", base=facts["base"], data=texts)
        return load(out)


def _scores(course: Course, predicted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "task": lesson.head.task,
            "labels": list(lesson.head.labels),
            "scores": score_head(lesson.head, predicted[name], lesson.valid),
        }
        for name, lesson in course.lessons.items()
    }
