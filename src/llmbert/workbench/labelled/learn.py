"""A course → a trained model: how many steps, how fast, and when to stop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from llmbert.models.headed import Headed
from llmbert.nn.lora import merge_lora
from llmbert.objectives.labels import labels
from llmbert.protocols import Progress, silent
from llmbert.runs import CHECKPOINT, LOG, device
from llmbert.training.compilation import recomputed_layers
from llmbert.training.loop import Trainer, resolve_precision
from llmbert.training.optimisers import adapt
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.budget import PAGE_SECONDS
from llmbert.workbench.labelled.course import Course
from llmbert.workbench.labelled.scores import predict, score_head

MOST_EPOCHS = 100  # that a budget is spent on
TRIAL_SHARE = 0.1  # of a budget, for timing steps


def plan_steps(course: Course, seconds: float | None) -> TrainingSettings:
    """The training with its steps: as many as were set, as fill the time, or as the epochs are."""
    training, values = course.training, course.asked.values
    a_reading = course.batches().batches_per_epoch
    if "steps" in values:
        steps = training.steps
    elif seconds is None or "epochs" in values:
        steps = max(1, math.ceil(course.epochs * a_reading))
    else:
        began = time.perf_counter()
        a_step, a_measure = _measure_speed(course, TRIAL_SHARE * seconds)
        # The held-out examples are scored after the last step too, and once more for the page.
        left = seconds - (time.perf_counter() - began) - min(PAGE_SECONDS, 0.3 * seconds) - 2 * a_measure
        steps = int(left / (a_step + a_measure / (training.evaluate_every or a_reading)))
        if steps < 1:
            warnings.warn("the budget leaves no time to learn, so a single step is taken; give more", stacklevel=2)
        steps = min(MOST_EPOCHS * a_reading, max(1, steps))
    every = training.evaluate_every or max(1, min(a_reading, steps), math.ceil(steps / 100))
    warmup = training.warmup if "warmup" in values else int(course.warmup * steps)
    return training.model_copy(update={"steps": steps, "evaluate_every": every, "warmup": warmup})


def _measure_speed(course: Course, patience: float) -> tuple[float, float]:
    """Seconds of a training step, tried for about `patience` seconds, and of scoring the held-out examples."""
    model = course.make()
    adapt(model, course.training)
    batches = course.batches()
    trainer = Trainer(model, labels, batches, course.training)
    model.train()
    first, *some = islice(batches.iterate(), 12)
    steps = 0
    with recomputed_layers(model, course.training.recompute):
        trainer.step(first)  # which is slow
        began = time.perf_counter()
        while steps < len(some) and (not steps or time.perf_counter() - began < patience):
            trainer.step(some[steps])
            steps += 1
    between = time.perf_counter()
    _error(course, model)
    return (between - began) / steps, time.perf_counter() - between


def _error(course: Course, model: Headed) -> float:
    """100 less the mean of the heads' main scores on held-out examples: what early stopping keeps low."""
    scores = []
    for name, lesson in course.lessons.items():
        predicted = predict(model, lesson.valid_rows, name, max(0, course.tokeniser.padding_id))
        scores.append(next(iter(score_head(lesson.head, predicted, lesson.valid, resamples=2).values()))["score"])
    return 100 - sum(scores) / len(scores)


def learn(
    course: Course,
    training: TrainingSettings,
    folder: Path | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    measured: bool = True,
) -> tuple[Headed, dict[str, Any]]:
    """Train, in `folder` or without any; the model and what is known of its training. measured: score the held-out
    examples on the way and keep the weights that did best."""
    model = course.make()
    adapt(model, training)
    trainable = sum(w.numel() for w in model.parameters() if w.requires_grad)
    trainer = Trainer(
        model,
        labels,
        course.batches(),
        training,
        evaluate=(lambda: _error(course, model)) if measured else None,
        log=folder / LOG if folder else None,
        checkpoint=folder / CHECKPOINT if folder else None,
        progress=progress,
        stop=stop,
    )
    if resume:
        trainer.resume()
    at = trainer.run()
    if training.lora_rank:
        merge_lora(model.trunk)
    return model, {
        "train_seconds": at.seconds,
        "train_tokens": at.tokens,
        "tokens_per_second": at.tokens / max(at.seconds, 1e-9),
        "parameters": sum(w.numel() for w in model.parameters()),
        "trained_parameters": trainable,
        "steps": at.step,
        "stopped_early": at.stopped_early,
        "precision": resolve_precision(training.precision, device().type),
        "valid_curve": at.valid,
    }
