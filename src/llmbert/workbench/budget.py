"""One dial: a time → size, batch and steps, from a short calibration on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean, median
from typing import Any

import numpy as np

from llmbert.data.corpus import Corpus
from llmbert.data.pairs import PairCorpus
from llmbert.models import Family
from llmbert.nn.native import native_library
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import device
from llmbert.text.vocabulary import MASK_TOKEN
from llmbert.training.compilation import recomputed_layers
from llmbert.training.loop import LEAST_STEPS, UNHURRIED, Trainer
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.measure import (
    BOUNDED,
    DRAWN,
    IMPORTANCE_DRAWS,
    MOST_ANSWERS,
    MOST_PSEUDO,
    MOST_RESTORED,
    READ_FOR_A_RESTORED,
    restored_nats,
)
from llmbert.workbench.settings import checked
from llmbert.workbench.sources import Store

TOKENS_PER_WEIGHT = 0.8  # fewer leave a model half-trained; measured on half a megabyte of English, see benchmarks/
EVALUATION_SHARE = 0.05  # of training time, for the curve on held-out text
USUAL_EVALUATIONS = 20  # in a training
READ_AT_FIRST = 64  # held-out tokens, by which it is tried how long reading takes
READ_TOGETHER = 1 << 14  # from which on more at once are hardly quicker, token for token
COUNTED, TIMED = 64, 8  # batches whose tokens are counted (texts of like length share one, so they differ much), timed
CALIBRATION_SHARE = 0.15  # of a budget, behind which no larger rung is tried: on a GPU each is compiled anew
PHASES = (0.6, 0.1, 0.3)  # of a GAN's time: maximum likelihood, its discriminator alone, and both against each other
LONGEST_PAIR = 512  # tokens of a side that the context makes room for unasked
FEW_READINGS = 5  # of a text, fewer are no reason for dropout: at 4.4 it costs, at 6 it gains, see docs/profiles.md
PAGE_SECONDS = 3.0  # for texts to show, and the page
SHORT = 120.0  # seconds of a budget up to which what an evaluation costs is looked at

# (layers, width, heads, context), from small to large
GPT_LADDER = [
    (3, 96, 3, 64),
    (4, 128, 4, 64),
    (4, 192, 4, 128),
    (6, 256, 4, 128),
    (6, 384, 6, 256),
    (8, 512, 8, 256),
    (12, 768, 12, 512),
]
# A second layer learns late: on Penn Treebank, after 170 s of one core (one seed), an LSTM of width 256 needs 1.743
# bits/byte with two and 1.541 with one.
RECURRENT_LADDER = [(1, 128), (1, 256), (1, 384), (1, 512), (2, 512), (2, 768), (2, 1024), (2, 1536)]
LATENT_LADDER = [(1, 128), (1, 256), (2, 256)]  # of encoder and decoder each
ENCODER_LADDER = [
    (2, 128, 2, 64),
    (4, 128, 4, 64),
    (4, 256, 4, 128),
    (6, 384, 6, 128),
    (8, 512, 8, 128),
    (12, 768, 12, 512),
]
# (layers of encoder and decoder each, width, heads, inner)
PAIRS_LADDER = [
    (2, 96, 2, 192),
    (3, 128, 4, 256),
    (3, 192, 4, 512),
    (3, 256, 4, 1024),
    (4, 384, 6, 1536),
    (6, 512, 8, 2048),
]


@dataclass(frozen=True)
class Plan:
    """What a training will do, and how it was decided."""

    model: Any
    training: TrainingSettings
    tokens_per_second: float | None = None  # measured in the calibration
    tokens_per_step: float | None = None
    step_seconds: tuple[float, ...] = ()  # of each kind of step, where they are of several
    deadline: float | None = None  # when it should end, by time.monotonic, where a budget said so


def ladder(family_name: str) -> list[dict[str, Any]]:
    """Model settings from small to large that a budget chooses from."""
    if family_name in ("gpt", "bert"):
        rungs = GPT_LADDER if family_name == "gpt" else ENCODER_LADDER
        return [
            {"layers": layers, "width": width, "heads": heads, "context": context}
            for layers, width, heads, context in rungs
        ]
    if family_name in ("transformer", "t5"):
        return [
            {"layers": layers, "width": width, "heads": heads, "inner": inner}
            for layers, width, heads, inner in PAIRS_LADDER
        ]
    recurrent = LATENT_LADDER if family_name in ("vae", "gan") else RECURRENT_LADDER
    context = 32 if family_name == "gan" else 64
    return [{"layers": layers, "width": width, "context": context} for layers, width in recurrent]


def rungs_of(
    family_name: str, model_values: Mapping[str, Any], size: Mapping[str, Any] | None, seconds: float | None
) -> list[dict[str, Any]]:
    """Model settings that a training chooses from, from small to large: those of the ladder, with what the user set in
    their place, or what was asked for alone where that says how large, or without a budget."""
    shape = dict(size or {}) | dict(model_values)
    sized = size is not None or any(key in model_values for key in ("layers", "width", "heads"))
    return [shape] if sized or seconds is None else [rung | shape for rung in ladder(family_name)]


def fitting(family: Family, rungs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The settings of those rungs whose values go together. Raises UsageError, of the first, where none's do."""
    found: list[Any] = []
    refused: UsageError | None = None
    for rung in rungs:
        try:
            found.append(checked(family.settings_class(), rung))
        except UsageError as error:
            refused = refused or error
    if not found and refused:
        raise refused
    return found


def shape_for(
    family: Family, store: Store, model_values: Mapping[str, Any], preset: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The model's settings as far as the text decides them: the mask's id, and a context that holds the pairs."""
    values = dict(model_values)
    fields = family.settings_class().model_fields
    if "mask_id" in fields:
        values.setdefault("mask_id", store.tokeniser.special_ids.get(MASK_TOKEN))
        # The loss that needs the next-sentence head is on unless it was put off, and the head needs the pooler.
        if checked(TrainingSettings, {"next_sentence": values.setdefault("next_sentence", True)}).next_sentence:
            values.setdefault("pooler", True)
    if "context" not in values and "context" not in (preset or {}) and isinstance(store, PairCorpus):
        sides = (side for part in (store.train, store.valid) for side in (part.source, part.target))
        longest = max(int(np.diff(np.asarray(side.starts)).max()) for side in sides)
        values["context"] = min(LONGEST_PAIR, 8 * -(-longest // 8))
    return values


def training_defaults(family_name: str, context: int) -> dict[str, Any]:
    """How a family is trained where the user says nothing: small batches and many steps suit a small machine."""
    if family_name == "gpt":
        return {"batch": max(4, 1024 // context), "optimiser": "muon", "schedule": "wsd"}
    if family_name == "bert":
        # With the rate of a GPT's matrices the loss on pairs of segments falls late or never.
        rates = {"optimiser": "muon", "matrix_learning_rate": 0.005}
        return {"batch": max(4, 2048 // context), **rates, "schedule": "wsd", "warmup": 50}
    if family_name in ("transformer", "t5"):
        return {
            "batch": max(4, 2048 // context),
            "batch_tokens": 2048,
            "optimiser": "muon",
            "schedule": "wsd",
            "warmup": 50,
            "label_smoothing": 0.1,
            **({"matrix_learning_rate": 0.01, "learning_rate": 0.002} if family_name == "transformer" else {}),
        }
    if family_name == "vae":
        return {"batch": 32, "optimiser": "adamw", "learning_rate": 2e-3, "schedule": "linear", "warmup": 50}
    if family_name == "gan":
        return {"batch": 64, "optimiser": "adamw", "learning_rate": 2e-3, "schedule": "linear", "warmup": 50}
    return {"batch": 16, "optimiser": "adamw", "learning_rate": 4e-3, "schedule": "wsd", "warmup": 50}


def plan_training(
    family_name: str,
    family: Family,
    vocabulary_size: int,
    train_tokens: int,
    valid_tokens: int,
    model_values: Mapping[str, Any],
    training_values: Mapping[str, Any],
    size: Mapping[str, Any] | None,
    seconds: float | None,
    teach: Callable[[Any, Plan], Any],
    read: Callable[[Any, int], float] | None = None,
    also_read: int = 0,
    valid_documents: int = 1,
) -> Plan:
    """Decide size, batch and steps. teach: (model, plan) → the lesson it would learn by; read: (model, tokens) → the
    seconds it takes a model to read about so many held-out tokens; also_read: tokens that it will read besides those.

    What the user set stands. Without `seconds` there is nothing to decide. With it the largest rung of the ladder is
    taken whose tokens in that time are at least TOKENS_PER_WEIGHT for each of its weights, and steps fill the time.
    """
    rungs = rungs_of(family_name, model_values, size, seconds)
    if "context" not in {**(size or {}), **model_values} and seconds is not None:
        usual, most = family.settings_class().model_fields["context"].default, max(2, (train_tokens - 2) // 2)
        rungs = [rung | {"context": min(rung.get("context", usual), most)} for rung in rungs]  # twice in a short text
    plans = []
    for settings in fitting(family, rungs):
        values = training_defaults(family_name, settings.context) | dict(training_values)
        if family_name == "gan" and seconds is not None:  # a step of SeqGAN's way takes as long as forty others
            values = {"adversarial": "relaxed"} | values
            if "steps" not in values:  # all kinds of steps are timed, however many of each there will be
                values |= {"likelihood_steps": None, "warm_steps": None}
        training = checked(TrainingSettings, values)
        if "warmup" not in training_values and "steps" in training_values:  # or a short one would do nothing else
            training = training.model_copy(update={"warmup": min(training.warmup, training.steps // 10)})
        plans.append(Plan(settings, training))
    if seconds is None:
        return plans[0]
    began = time.monotonic()
    native_library()  # which is compiled once on a machine: no speed of a model
    seconds -= min(time.monotonic() - began, 0.7 * seconds)
    began = time.monotonic()
    plan = _largest_affordable(family, vocabulary_size, plans, seconds, teach)
    if "steps" in training_values:
        return plan
    assert plan.tokens_per_second
    model = family.build(plan.model, vocabulary_size).to(device())
    read_later = tokens_read_at_the_end(family, plan.model.context, valid_tokens, valid_documents)
    later = read_later / (3 * plan.tokens_per_second)
    if read:
        later = seconds_of_reading(family, model, valid_tokens, read, _patience(seconds) / 4, valid_documents)
    later *= 1 + also_read / max(1, valid_tokens)
    plan = replace(plan, deadline=began + max(seconds - later - PAGE_SECONDS, 0.3 * seconds))
    left = _seconds_left(plan, seconds)
    found = _fill(plan, left, train_tokens, model_values, training_values, family)
    if getattr(found.model, "dropout", 0.0) > getattr(plan.model, "dropout", 0.0):  # costs time that was not measured
        model, tried = family.build(found.model, vocabulary_size).to(device()), replace(found, training=plan.training)
        told = measure_speed(model, tried, teach(model, tried), _patience(seconds))
        plan = replace(told, model=plan.model, training=plan.training)
        left = _seconds_left(plan, seconds)
        found = _fill(plan, left, train_tokens, model_values, training_values, family)
    fixed = keeps_its_steps(family)
    if "evaluate_every" in training_values or (seconds > SHORT and not fixed):
        return found
    times, cost = affordable_evaluations(teach(model, found), seconds)
    if times >= USUAL_EVALUATIONS and not fixed:
        return found
    times = min(times, USUAL_EVALUATIONS)
    spare = (times + 1) * cost - EVALUATION_SHARE * left
    found = _fill(plan, max(left - spare, 0.3 * seconds), train_tokens, model_values, training_values, family)
    training = found.training.model_copy(update={"evaluate_every": -(-found.training.steps // times)})
    return replace(found, training=training)


def _seconds_left(plan: Plan, seconds: float) -> float:
    """For the steps of a training: what its deadline leaves, less what the evaluations take. Never nearly nothing is
    planned for, though the deadline then cuts it, where it may."""
    assert plan.deadline
    return max(plan.deadline - time.monotonic(), 0.3 * seconds) * (1 - EVALUATION_SHARE)


def tokens_read(family: Family, context: int, tokens: int) -> float:
    """How many tokens a model reads, one way or another, for the nats of so many."""
    if family.likelihood == "pseudo":  # each token a pass of its own
        return float(tokens * context)
    if family.likelihood == "bound":
        from llmbert.models.vae import draws_of

        return float(tokens * draws_of(tokens))
    # A sliding window reads all four times over, and its short rows cost twice what a token of a batch does.
    return float(tokens * (1 if family.recurrent or family.likelihood == "conditional" else 8))


def tokens_read_at_the_end(family: Family, context: int, valid_tokens: int, documents: int = 1) -> float:
    """How many tokens a model reads, one way or another, to be measured on held-out text once it is trained."""
    if family.likelihood == "pseudo":
        return tokens_read(family, context, min(valid_tokens, MOST_PSEUDO))
    if family.likelihood == "none":  # texts drawn from nothing, one token after the other
        return float(DRAWN * context * 4)
    further = 0.0
    if family.likelihood == "bound":
        further = min(valid_tokens, BOUNDED * min(context, valid_tokens / documents)) * IMPORTANCE_DRAWS
    if family.likelihood == "conditional":
        further = MOST_ANSWERS * context
    return tokens_read(family, context, valid_tokens) + further


def seconds_of_reading(
    family: Family,
    model: Any,
    valid_tokens: int,
    read: Callable[[Any, int], float],
    patience: float,
    documents: int = 1,
) -> float:
    """About how long a model will read held-out text once it is trained, from how long it reads more and more of it.

    read: see `plan_training`; patience: how long a trial may take, s.
    """
    tokens, model = READ_AT_FIRST, model.eval()
    read(model, tokens)  # the first is slow
    while tokens < valid_tokens:
        taken = read(model, tokens)
        if taken >= 4 * patience or (taken >= patience and tokens >= READ_TOGETHER):
            break
        tokens *= 4
    else:
        taken = read(model, valid_tokens)
    context = model.settings.context
    if family.likelihood == "conditional":  # of documents; whoever answers sources reads none
        all_of_it = float(min(valid_tokens, MOST_RESTORED * READ_FOR_A_RESTORED))
    else:
        all_of_it = tokens_read_at_the_end(family, context, valid_tokens, documents)
    return taken * all_of_it / tokens_read(family, context, min(tokens, valid_tokens))


def time_reading(store: Corpus, model: Any, tokens: int) -> float:
    """How long a model, on the device it will be on, takes for the nats of the first held-out tokens of a store; hardly
    anything where no document among them is long enough."""
    ids, starts = np.asarray(store.valid.ids[:tokens]), np.asarray(store.valid.starts)
    starts = np.append(starts[starts < len(ids)], len(ids))
    model, began = model.to(device()), time.perf_counter()
    if model.likelihood == "conditional":
        with suppress(LLMBertError):
            restored_nats(model, store.tokeniser, ids, starts)
    else:
        model.token_nats(ids, starts)
    return time.perf_counter() - began


def affordable_evaluations(lesson: Any, seconds: float) -> tuple[int, float]:
    """How many evaluations (three at least) take no more than twice their share of the time, and the cost of one, s.

    There is a least number of tokens that is worth measuring on, and a short training cannot afford it twenty times.
    """
    started = time.perf_counter()
    lesson.evaluate()
    if lesson.observe:
        lesson.observe()
    cost = max(time.perf_counter() - started, 1e-6)
    return max(3, int(2 * EVALUATION_SHARE * seconds / cost)), cost


def _largest_affordable(
    family: Family,
    vocabulary_size: int,
    plans: list[Plan],
    seconds: float,
    teach: Callable[[Any, Plan], Any],
) -> Plan:
    """Walk up the ladder while the next rung, at its measured speed, still sees enough tokens; a few seconds in all."""
    best: Plan | None = None
    began = time.monotonic()
    for plan in plans:
        if time.monotonic() - began > CALIBRATION_SHARE * seconds:
            break
        model = family.build(plan.model, vocabulary_size).to(device())
        weights = sum(w.numel() for w in model.parameters() if w.dim() > 1) - model.embedding.weight.numel() // 2
        plan = measure_speed(model, plan, teach(model, plan), _patience(seconds))
        assert plan.tokens_per_second
        if best is not None and plan.tokens_per_second * seconds < TOKENS_PER_WEIGHT * weights:
            break
        best = plan
    assert best is not None
    return best


def _patience(seconds: float) -> float:
    """How long a speed is measured, s."""
    return min(2.0, 0.02 * seconds)


def measure_speed(model: Any, plan: Plan, lesson: Any, seconds: float) -> Plan:
    """The plan with the training tokens/s of a model, the median of at least three steps and about `seconds`, and the
    tokens of a step.

    Where steps are of several kinds (a GAN's), each counts by its share of all, and how long each takes is told too.
    """
    trainer = Trainer(model, lesson.objective, lesson.batches, plan.training)
    model.train()
    kinds = lesson.batches.kinds() if hasattr(lesson.batches, "kinds") else [(1.0, 0)]
    with recomputed_layers(model, plan.training.recompute):
        counts, each = _timed(trainer, lesson.batches, kinds, seconds)
    tokens = sum(share * count for (share, _), count in zip(kinds, counts, strict=True))
    a_step = sum(share * taken for (share, _), taken in zip(kinds, each, strict=True))
    times = tuple(each) if len(kinds) > 1 else ()
    return replace(plan, tokens_per_second=tokens / a_step, tokens_per_step=tokens, step_seconds=times)


def _timed(
    trainer: Trainer, source: Any, kinds: Sequence[tuple[float, int]], seconds: float
) -> tuple[list[float], list[float]]:
    """Tokens of a step of each kind, and how long one takes, s. kinds: see `Alternating.kinds`."""
    counts, each = [], []
    for _, number in kinds:
        batches, count = _of_one_kind(islice(source.iterate(number), COUNTED))
        for batch in batches[:UNHURRIED]:
            trainer.step(batch)
        started, for_a_token, steps = time.perf_counter(), [], 0
        while steps < (3 if len(kinds) == 1 else 2) or time.perf_counter() - started < seconds / len(kinds):
            batch, began = batches[steps % len(batches)], time.perf_counter()
            trainer.step(batch)
            for_a_token.append((time.perf_counter() - began) / batch.count)
            steps += 1
        each.append(median(for_a_token) * count)
        counts.append(count)
    return counts, each


def _of_one_kind(read: Iterator[Any]) -> tuple[list[Any], float]:
    """The first TIMED batches of the same phase as the first, and the mean count of all of that phase."""
    kept: list[Any] = []
    counts: list[int] = []
    for batch in read:
        if kept and getattr(batch, "phase", None) != getattr(kept[0], "phase", None):
            continue
        counts.append(batch.count)
        if len(kept) < TIMED:
            kept.append(batch)
    return kept, fmean(counts)


def keeps_its_steps(family: Family) -> bool:
    """Whether what a family learns depends on the number of its steps, so that no deadline mends a plan that is off."""
    return family.likelihood in ("bound", "none")


def _fill(
    plan: Plan,
    seconds: float,
    train_tokens: int,
    model_values: Mapping[str, Any],
    training_values: Mapping[str, Any],
    family: Family,
) -> Plan:
    """Steps that fill the time, and dropout where the text will be read many times over; none unasked under noise,
    which keeps a text from being learned by heart already."""
    assert plan.tokens_per_second and plan.tokens_per_step
    training = plan.training
    steps = max(LEAST_STEPS, int(seconds * plan.tokens_per_second / plan.tokens_per_step))
    if len(plan.step_seconds) == len(PHASES):
        asked = checked(TrainingSettings, training_values)
        likelihood, warm, steps = _phases(plan, seconds, asked.likelihood_steps, asked.warm_steps)
        training = training.model_copy(update={"likelihood_steps": likelihood, "warm_steps": warm})
    epochs = steps * plan.tokens_per_step / max(1, train_tokens)
    dropout = 0.0 if epochs < FEW_READINGS else min(0.3, 0.1 * math.log2(epochs / 3))
    model = plan.model
    if "dropout" not in model_values and not training.noise:
        model = checked(family.settings_class(), {**model.model_dump(), "dropout": round(dropout, 2)})
    warmup = training.warmup if "warmup" in training_values else min(training.warmup, steps // 10)
    training = training.model_copy(update={"steps": steps, "warmup": warmup})
    return replace(plan, model=model, training=training)


def _phases(plan: Plan, seconds: float, alone: int | None = None, warm: int | None = None) -> tuple[int, int, int]:
    """Steps of maximum likelihood, of the discriminator alone, and in all, so that each phase has its share of time.

    alone, warm: as many of the first two as were asked for; the others share what these leave, a round at least.
    """
    likelihood, discriminator, generator = plan.step_seconds
    every = plan.training.discriminator_every
    asked, each = (alone, warm, None), (likelihood, discriminator, generator + every * discriminator)
    left = seconds - sum(steps * one for steps, one in zip(asked, each, strict=True) if steps is not None)
    shared = sum(share for share, steps in zip(PHASES, asked, strict=True) if steps is None)
    first, second, rounds = (
        max(1, int(share / shared * left / one)) if steps is None else steps
        for share, steps, one in zip(PHASES, asked, each, strict=True)
    )
    return first, second, first + second + rounds * (1 + every)


def check_length(name: str, train_tokens: int, valid_tokens: int, context: int) -> None:
    """Refuse a corpus too short to fill two windows of the context, one to learn from and one to spare."""
    if train_tokens < 2 * context + 2:
        shorter = (train_tokens - 2) // 2
        mend = f" or set a shorter one, --set context={shorter}" if shorter >= 2 else ""
        raise LLMBertError(
            f"{name} holds {train_tokens} training tokens, too few for a context of {context}; give more text{mend}"
        )
    if valid_tokens < 2:
        raise LLMBertError(f"{name} leaves no held-out token to measure on; give more text or a --valid file")
