"""Labelled examples and what is asked of them → a course: everything ready to learn."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from pydantic import Field

from llmbert.data.labelled import (
    Examples,
    LabelledBatches,
    LabelledRows,
    MixedBatches,
    check_labels,
    encode_examples,
    label_names,
    read_examples,
    split_examples,
)
from llmbert.models import find_family, nearest
from llmbert.models.headed import BARE, Headed, HeadedSettings, HeadSettings, put_heads
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, device, load
from llmbert.tasks.heads import lowercases
from llmbert.text.tags import are_characters, space_words
from llmbert.text.tokenisers import Tokeniser, train_tokeniser
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.settings import MOST_SEED, USED_BY, USED_IN_FINE_TUNING, check_shape, checked, whole_number
from llmbert.workbench.sources import given_tokeniser, path_list

LEAST_STEPS, MOST_EPOCHS = 2000, 40.0  # of a training whose epochs nobody set
HELD_OUT = 0.1  # of the examples, where no held-out ones are given
LONGEST = 256  # tokens that the context of a new trunk makes room for unasked
SMALL = {"layers": 2, "width": 128, "heads": 4}  # a new trunk, where no size is asked for


class FineTuningSettings(TrainingSettings):
    """How heads, and the trunk beneath them, are trained: see `TrainingSettings`, and these."""

    epochs: float | None = Field(
        None, gt=0.0
    )  # readings of all examples; None: 20, or 10 on a base, more where examples are few
    vocabulary_size: int | None = Field(None, ge=5)  # of a new tokeniser
    mix: float = Field(2.0, gt=0.0)  # temperature at which tasks of unequal size are mixed; 1: in proportion to size


@dataclass(frozen=True)
class Part:
    """One task to learn: which examples, and what their fields are called."""

    task: str
    data: list[str]
    valid: list[str] | None = None
    fields: dict[str, str] | None = None


@dataclass
class Lesson:
    """One task as it is learned: its head, its examples, and both splits of them as ids."""

    head: HeadSettings
    train: Examples
    valid: Examples
    train_rows: LabelledRows = field(default_factory=lambda: LabelledRows([]))
    valid_rows: LabelledRows = field(default_factory=lambda: LabelledRows([]))


@dataclass(frozen=True)
class Asked:
    """What was asked for, as `run.json` keeps it."""

    parts: dict[str, Part]
    base: str | None = None
    family: str = "bert"
    tokenizer: str | None = None
    lowercase: bool = False
    size: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def tuning(self) -> FineTuningSettings:
        """The settings of the training, checked; those that were not set have their defaults."""
        own = {key: value for key, value in self.values.items() if key in FineTuningSettings.model_fields}
        return checked(FineTuningSettings, own | {"seed": self.seed})


@dataclass
class Course:
    """Everything ready to learn: lessons by the names of their heads, the tokeniser and how the model is made."""

    asked: Asked
    lessons: dict[str, Lesson]
    tokeniser: Tokeniser
    characters: bool
    make: Callable[[], Headed]
    training: TrainingSettings
    epochs: float
    warmup: float = 0.1  # as a share of the steps

    def batches(self) -> LabelledBatches | MixedBatches:
        padding = max(0, self.tokeniser.padding_id)
        parts = [
            LabelledBatches(lesson.train_rows, self.training.batch, self.asked.seed, name, padding)
            for name, lesson in self.lessons.items()
        ]
        return parts[0] if len(parts) == 1 else MixedBatches(parts, self.asked.tuning.mix, self.asked.seed)


_HEAD_KEYS = ("pooling", "crf", "temperature", "head_dropout")


def ask(
    tasks: Mapping[str, Mapping[str, Any]],
    base: str | os.PathLike[str] | None,
    family: str,
    tokenizer: str | None,
    lowercase: bool,
    size: str | None,
    settings: Mapping[str, Any] | None,
    seed: int,
) -> Asked:
    """The request, checked as far as it can be before anything is read. Raises UsageError."""
    if not tasks:
        raise UsageError("no task was named; give at least one")
    chosen = find_family(family)
    known = {*chosen.settings_class().model_fields, *FineTuningSettings.model_fields, *_HEAD_KEYS}
    values = {key: None if value in ("none", "None") else value for key, value in (settings or {}).items()}
    for key in values:
        if key not in known:
            raise UsageError(f"there is no setting {key!r}{nearest(key, known)}; there are {', '.join(sorted(known))}")
    if base is not None and (size is not None or tokenizer is not None):
        raise UsageError("a base brings its shape and its tokeniser; leave out size and tokenizer")
    if size is not None and size not in chosen.sizes:
        raise UsageError(
            f"{family} has no size {size!r}{nearest(size, chosen.sizes)}; there are {', '.join(chosen.sizes)}"
        )
    if tokenizer is not None:
        given_tokeniser(tokenizer)
    parts = {name: _part(name, dict(part)) for name, part in tasks.items()}
    seed = whole_number("seed", values.get("seed", seed), 0, MOST_SEED)
    asked = Asked(parts, None if base is None else os.fspath(base), family, tokenizer, lowercase, size, values, seed)
    if asked.tuning.noise:  # which also raises where a value is off
        raise UsageError(
            "fine-tuning on labels adds no noise, so it would hide nothing; leave out the setting noise (llmbert train "
            "learns with noise)"
        )
    usual = FineTuningSettings()
    for key in (key for key in values if key in USED_BY and key not in USED_IN_FINE_TUNING):
        if getattr(asked.tuning, key) != getattr(usual, key):
            raise UsageError(f"fine-tuning on labels makes no use of {key}; leave it out")
    return asked


def _part(name: str, part: dict[str, Any]) -> Part:
    over = set(part) - {"task", "data", "valid", "fields"}
    if over or "task" not in part or "data" not in part:
        raise UsageError(f"task {name!r} needs task and data, and may have valid and fields{_not(over)}")
    valid, fields = part.get("valid"), part.get("fields")
    return Part(
        part["task"],
        path_list(part["data"]),
        None if valid is None else path_list(valid),
        dict(fields) if fields else None,
    )


def _not(names: set[str]) -> str:
    return f", not {sorted(names)[0]!r}" if names else ""


# ---- from examples to a course -------------------------------------------------------------------------------------


def prepare(
    asked: Asked,
    tokeniser: Tokeniser | None = None,
    settings: HeadedSettings | None = None,
    vocabulary_size: int | None = None,
    progress: Progress = silent,
    examples: Mapping[str, tuple[Examples, Examples]] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    learned: bool = False,
) -> Course:
    """Read the examples, make or take the tokeniser, and decide shape and training.

    tokeniser, settings, vocabulary_size: those of a run that goes on; examples: training and held-out ones that were
    read already; names: the labels of heads, where they are more than occur in training; learned: a checkpoint brings
    all weights, so the base is not read.
    """
    base = load(asked.base) if asked.base is not None and not learned else None
    if base is not None and lowercases(base):
        asked = replace(asked, lowercase=True)
    read = examples or {name: read_part(part, asked.lowercase, progress) for name, part in asked.parts.items()}
    read = {name: (lowered(a, asked.lowercase), lowered(b, asked.lowercase)) for name, (a, b) in read.items()}
    sentences = [text for train, _ in read.values() if train.task == "tag" for text in train.texts]
    characters = are_characters(sentences)
    tokeniser = tokeniser or (base.tokeniser if base else _tokeniser(asked, read, characters, progress))
    lessons = {
        name: Lesson(_head(asked, train, (names or {}).get(name)), train, valid)
        for name, (train, valid) in read.items()
    }
    if settings is None:
        settings = _settings(asked, lessons, tokeniser, characters, base)
    for name, lesson in lessons.items():
        lesson.head = settings.heads[name]
        _encode(lesson, tokeniser, settings, characters)
    kept = settings
    vocabulary = vocabulary_size or (base.model.vocabulary_size if base else tokeniser.vocabulary_size)

    def make() -> Headed:
        torch.manual_seed(asked.seed)
        if base is None:
            return Headed(kept, vocabulary).to(device())
        made = put_heads(base.model, kept.heads, dropout=kept.trunk_settings["dropout"])
        if (made.settings, made.vocabulary_size) != (kept, vocabulary):
            raise LLMBertError(f"{asked.base} has another shape than when it was begun with; fine-tune again")
        return made.to(device())

    training, epochs = _training(asked, lessons, settings)
    return Course(asked, lessons, tokeniser, characters, make, training, epochs)


def read_part(part: Part, lowercase: bool, progress: Progress = silent) -> tuple[Examples, Examples]:
    """Training and held-out examples. Raises LLMBertError for a held-out label that no training example has."""
    train = lowered(read_examples(part.data, part.task, part.fields, progress), lowercase)
    if part.valid is None:
        return split_examples(train, HELD_OUT)
    valid = lowered(read_examples(part.valid, part.task, part.fields, progress), lowercase)
    check_labels(valid, label_names(train), ", ".join(part.valid))
    if (train.labels is None) is not (valid.labels is None):
        raise LLMBertError(
            f"only one of {', '.join(part.data)} and {', '.join(part.valid)} has labels; give both alike"
        )
    return train, valid


def lowered(examples: Examples, lowercase: bool) -> Examples:
    if not lowercase:
        return examples
    texts = [text.lower() if isinstance(text, str) else [word.lower() for word in text] for text in examples.texts]
    return replace(examples, texts=texts, others=examples.others and [text.lower() for text in examples.others])


def _tokeniser(
    asked: Asked, read: Mapping[str, tuple[Examples, Examples]], characters: bool, progress: Progress
) -> Tokeniser:
    kind = asked.tokenizer or ("chars" if characters else "wordpiece")
    given = given_tokeniser(kind)
    if given is not None:
        return given
    texts: list[str] = []
    for train, _ in read.values():
        texts += (
            ["".join(space_words(words, characters)) for words in train.texts]
            if train.task == "tag"
            else [*train.texts, *(train.others or ())]
        )
    return train_tokeniser(kind, texts, asked.tuning.vocabulary_size, progress)


def _head(asked: Asked, train: Examples, names: Sequence[str] | None) -> HeadSettings:
    """The head of a task: its labels, and for numbers the unit they are learned in."""
    values: dict[str, Any] = {key: asked.values[key] for key in _HEAD_KEYS if key in asked.values}
    dropout = values.pop("head_dropout", asked.values.get("dropout"))
    values |= {} if dropout is None else {"dropout": dropout}
    if train.task == "regress":
        numbers = np.array(train.labels)
        values |= {"shift": float(numbers.mean()), "scale": float(numbers.std()) or 1.0}
    elif train.task == "embed" and train.labels is not None:  # cosines from 0 to 1
        values |= {"shift": float(min(train.labels)), "scale": float(max(train.labels) - min(train.labels)) or 1.0}
    labelled = train.task in ("classify", "multilabel", "tag")
    found = tuple(names or label_names(train)) if labelled else ()
    return checked(HeadSettings, {"task": train.task, "labels": found, **values})


def _settings(
    asked: Asked, lessons: Mapping[str, Lesson], tokeniser: Tokeniser, characters: bool, base: Run | None
) -> HeadedSettings:
    """The shape of trunk and heads, resolved."""
    heads = {name: lesson.head for name, lesson in lessons.items()}
    fields = find_family(asked.family).settings_class().model_fields
    values = {key: value for key, value in asked.values.items() if key in fields}
    if base is not None:
        shape = [key for key in values if key != "dropout"]
        if shape:
            raise UsageError(f"the shape is that of {asked.base}; leave out {shape[0]}")
        dropout = float(values.get("dropout", 0.1))
        return put_heads(base.model, heads, dropout=dropout).settings
    if asked.size is not None:
        shape_values = dict(find_family(asked.family).sizes[asked.size])
    else:
        longest = max(_longest(lesson, tokeniser, characters) for lesson in lessons.values())
        shape_values = {"context": min(LONGEST, 8 * -(-longest // 8))} | SMALL
    shape_values |= {"dropout": 0.2} | values
    shape_values = {key: value for key, value in shape_values.items() if key in fields}
    check_shape(asked.family, {**shape_values, **BARE.get(asked.family, {})}, values)
    return checked(HeadedSettings, {"trunk": asked.family, "trunk_settings": shape_values, "heads": heads})


def _longest(lesson: Lesson, tokeniser: Tokeniser, characters: bool) -> int:
    """Tokens of the longest training example."""
    rows = encode_examples(lesson.train, tokeniser, lesson.head.labels, None, characters=characters)
    return max(len(ids) for ids in (*rows.ids, *(rows.others or ())))


def _encode(lesson: Lesson, tokeniser: Tokeniser, settings: HeadedSettings, characters: bool) -> None:
    trunk = settings.build_trunk_settings()
    limit = None if find_family(settings.trunk).recurrent else int(trunk.context)
    options: dict[str, Any] = {
        "separators": settings.separators,
        "characters": characters,
        "word_at": lesson.head.word_at or "first",
        "shift": lesson.head.shift,
        "scale": lesson.head.scale,
    }
    lesson.train_rows, lesson.valid_rows = (
        encode_examples(each, tokeniser, lesson.head.labels, limit, **options) for each in (lesson.train, lesson.valid)
    )


# ---- how it is trained ---------------------------------------------------------------------------------------------


def _training(asked: Asked, lessons: Mapping[str, Lesson], settings: HeadedSettings) -> tuple[TrainingSettings, float]:
    """The training, its steps still open, and how many epochs it has where nothing else decides."""
    pretrained, tuning = asked.base is not None, asked.tuning
    # The rate that suits a width of 768 is 5e-5 (Devlin et al. 2019, §4); a trunk of 128 wants 1e-3, as a new one does:
    # CLINC150 with ten examples a class, 42.8 at 3e-4 and 10 readings, 67.3 at 1e-3 and 20, 68.2 at 1e-3 and 40.
    rate = min(1e-3, 5e-5 * (768 / settings.width) ** (5 / 3)) if pretrained and not tuning.lora_rank else 1e-3
    values: dict[str, Any] = {
        "batch": 32,
        "optimiser": "adamw",
        "learning_rate": rate,
        "beta2": 0.98,
        "weight_decay": 0.01,
        "schedule": "linear",
        "average": 0.995,
        "patience": 5,
    }
    set_ = {key: getattr(tuning, key) for key in asked.values if key in TrainingSettings.model_fields}
    training = checked(TrainingSettings, values | set_ | {"seed": asked.seed})
    contrasted = any(lesson.head.task == "embed" and lesson.train.labels is None for lesson in lessons.values())
    if contrasted and training.batch // training.accumulate < 2:
        raise UsageError(
            "pairs without numbers are told from the other pairs of their micro-batch; leave it two or more of them "
            f"(batch {training.batch} in {training.accumulate} parts leaves {training.batch // training.accumulate})"
        )
    examples = sum(len(lesson.train) for lesson in lessons.values())
    few = min(MOST_EPOCHS, LEAST_STEPS * training.batch / max(1, examples))  # so that few examples are learned at all
    return training, tuning.epochs or max(few, 10.0 if pretrained else 20.0)
