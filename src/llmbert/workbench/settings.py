"""What the user asks of a training, by options and by `--set key=value`: sorted, checked, and said when it is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from llmbert.models import FAMILIES, Family, find_family, nearest
from llmbert.protocols import UsageError
from llmbert.runs import device
from llmbert.text.languages import base_code, language_pair
from llmbert.training.precision import resolve_precision
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.measure import TASKS
from llmbert.workbench.sources import USUAL_TOKENISER, Paths, Source, Store, path_list

CORPUS_KEYS = ("vocabulary_size",)
DEFAULT_BUDGET = "5m"
MOST_SEED = 2**63 - 1

LAYERED = ("gpt", "bert", "transformer", "t5", "vae")  # a vae has layers where its network is a Transformer
USED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("compile", "recompute"), LAYERED),
    "across_documents": ("gpt", "bert"),
    **dict.fromkeys(("batch_tokens", "keep_end", "mixture_temperature"), ("pairs",)),
    **dict.fromkeys(("next_sentence", "whole_words"), ("masked",)),
    **dict.fromkeys(("infilling", "blanks"), ("infilling",)),
    **dict.fromkeys(
        ("kl_schedule", "kl_steps", "kl_cycles", "free_bits", "word_dropout", "aggressive"),
        ("elbo",),
    ),
    **dict.fromkeys(
        (
            "adversarial",
            "likelihood_steps",
            "warm_steps",
            "discriminator_every",
            "discriminator_rate",
            "rollouts",
            "sharpness",
        ),
        ("adversarial",),
    ),
    **dict.fromkeys(("freeze", "lora_rank", "lora_alpha", "lora_targets"), ("fine-tune",)),
}
"""Settings of a training that not all make use of: by which families or objectives they are used."""
NEVER_PRIVATE = (
    "accumulate",
    "average",
    "clip_value",
    "compile",
    "recompute",
    "evaluate_every",
    "patience",
    "label_smoothing",
    "layer_decay",
    "matrix_learning_rate",
    "across_documents",
)
"""Settings that a training with noise makes no use of."""
USED_WITH: dict[str, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "ngram": {
        "alpha": ("smoothing=additive", lambda shape: shape.smoothing == "additive"),
        **dict.fromkeys(("contributions", "delta"), ("noise", lambda shape: shape.noise > 0)),
    },
    "gpt": dict.fromkeys(("rope_base", "rope_scaling"), ("style=modern", lambda shape: shape.style == "modern")),
    "vae": {
        **dict.fromkeys(("heads", "inner"), ("network=transformer", lambda shape: shape.network == "transformer")),
        "embedding_width": ("network=gru, lstm or rnn", lambda shape: shape.network != "transformer"),
    },
}
"""Settings of a model that not all of its family make use of: with which others they are used."""
USED_IN_FINE_TUNING = ("compile", "recompute", "freeze", "lora_rank", "lora_alpha", "lora_targets")
"""Of the settings that not all make use of those that fine-tuning on labels does."""


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """["order=5"] → {"order": "5"}. Raises UsageError for what is no key=value, or a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes key=value, not {pair!r}")
        key = key.strip().replace("-", "_")
        if key in found:
            raise UsageError(f"--set {key} is given twice; give it once")
        found[key] = value.strip()
    return found


def sort_settings(family: Family, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Settings for model, training and corpus. Raises UsageError for an unknown key, with the nearest one."""
    model_keys = set(family.settings_class().model_fields)
    training_keys = set() if family.counts else set(TrainingSettings.model_fields)
    known = model_keys | training_keys | set(CORPUS_KEYS)
    for key in given:
        if key not in known:
            raise UsageError(f"there is no setting {key!r}{nearest(key, known)}; there are {', '.join(sorted(known))}")
    values = {key: None if value in ("none", "None") else value for key, value in given.items()}
    return (
        {k: v for k, v in values.items() if k in model_keys},
        {k: v for k, v in values.items() if k in training_keys},
        {k: v for k, v in values.items() if k in CORPUS_KEYS},
    )


def checked(kind: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """`kind(**values)`. Raises UsageError with what is wrong first."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        got = f", not {first['input']!r}" if where else ""
        raise UsageError(f"{where or 'the settings'}: {'must be ' if where else ''}{message}{got}") from error


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as a whole number. Raises UsageError where it is none, too small or too large."""
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from error
    if number < least:
        raise UsageError(f"{name} must be at least {least}, not {number}")
    if most is not None and number > most:
        raise UsageError(f"{name} must be at most {most}, not {number}")
    return number


def parse_duration(text: str | float) -> float:
    """Seconds of "90s", "5m", "1h30m" or a number of seconds. Raises UsageError for anything else."""
    import re

    if isinstance(text, int | float) or re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        seconds = float(text)
    else:
        parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
        if not parts or not any(parts.groups()):
            raise UsageError(f"a budget is a time such as 90s, 5m or 1h30m, not {text!r}")
        seconds = sum(float(p or 0) * unit for p, unit in zip(parts.groups(), (3600, 60, 1), strict=True))
    if not 1 <= seconds <= 30 * 86_400:
        raise UsageError(f"a budget must lie between 1s and 30 days, not {text!r}")
    return seconds


# ---- a training ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a training is asked for; see `train`. also_read: tokens that are read after all that is measured, for which
    a budget leaves time."""

    family: str
    data: Paths
    out: str | os.PathLike[str]
    valid: Paths | None = None
    lines: bool = False
    split_on: str | None = None
    fields: Mapping[str, str] | None = None
    tokenizer: str = USUAL_TOKENISER
    lowercase: bool = False
    detokenise: str | None = None
    mixture: Sequence[Mapping[str, Any]] | None = None
    objective: str | None = None
    task: str | None = None
    languages: str | None = None
    base: str | os.PathLike[str] | None = None
    budget: str | float | None = None
    size: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    language: str = "en"
    store: Store | None = None
    without: Sequence[str] = ()
    part: tuple[int, int] | None = None
    licence: str | None = None
    valid_share: float | None = None
    kept_share: float | None = None
    also_read: int = 0


def source_of(asked: Asked, vocabulary_size: Any) -> Source:
    return Source(
        path_list(asked.data),
        path_list(asked.valid) if asked.valid is not None else None,
        asked.lines,
        asked.split_on,
        dict(asked.fields) if asked.fields else None,
        str(asked.tokenizer),
        None if vocabulary_size is None else whole_number("vocabulary_size", vocabulary_size, 5),
        asked.lowercase,
        _detokenising(asked.detokenise, asked.languages),
        [dict(part) for part in asked.mixture] if asked.mixture else None,
        keep=FAMILIES[asked.family].mixes,
        without=sorted(asked.without) or None,
        valid_share=asked.valid_share,
        kept_share=asked.kept_share,
    )


def meant_objective(training_values: Mapping[str, Any]) -> str | None:
    """The objective that a setting asks for."""
    asked = {key: value for key, value in training_values.items() if key == "infilling"}
    return "infilling" if checked(TrainingSettings, asked).infilling else None


def keeps_end(asked: Asked) -> bool:
    """Whether a source that is too long counts by its end, as the last turns of a conversation do; a mixture's begins
    with the prefix of its task."""
    task = asked.task or ("chat" if "turns" in (asked.fields or {}) else None)
    return task is not None and not asked.mixture and TASKS[task].truncation == "tail"


def budget_seconds(budget: str | float | None, family: Family, training_values: Mapping[str, Any]) -> float | None:
    """The time that decides what nobody said; None where all is said, or where a family counts."""
    if budget is None and (family.counts or "steps" in training_values):
        return None
    return parse_duration(DEFAULT_BUDGET if budget is None else budget)


def is_used(key: str, objective: str, family: str) -> bool:
    """Whether a setting makes a difference to a training."""
    by = USED_BY.get(key)
    return by is None or family in by or objective in by


def check_used(training_values: Mapping[str, Any], objective: str, family: str) -> None:
    """Refuse settings of a training that ask for something other than usual where it would come to nothing.

    Of a mixture's each needs a family that may use it: its members are trained by what they can use.
    """
    settings = checked(TrainingSettings, training_values)
    usual = TrainingSettings()
    meant = [key for key in training_values if getattr(settings, key) != getattr(usual, key)]
    members = [name for name, each in FAMILIES.items() if each.likelihood == "exact"]
    asked = members if FAMILIES[family].mixes else [family]
    for key in meant:
        if any(is_used(key, objective, each) for each in asked):
            continue
        if USED_BY[key] == ("fine-tune",):
            raise UsageError(f"{key} is for llmbert fine-tune; leave it out here, where all weights learn")
        raise UsageError(
            f"{key} makes no difference to a {family} that learns by {objective}; it is for {', '.join(USED_BY[key])}, "
            f"so leave it out"
        )
    if settings.across_documents and objective == "masked" and settings.next_sentence:
        raise UsageError(
            "across_documents makes no difference where pairs of segments are told; set next_sentence=false"
        )
    if settings.noise and FAMILIES[family].mixes:
        raise UsageError(
            "a mixture is weighed on text without noise, and members that count would count exactly; leave out noise, "
            "or train one member alone with it"
        )
    if settings.noise:
        _check_private(settings, training_values, meant)


def _check_private(settings: TrainingSettings, training_values: Mapping[str, Any], meant: Sequence[str]) -> None:
    unused = [key for key in meant if key in NEVER_PRIVATE]
    if unused:
        raise UsageError(f"training with noise makes no use of {unused[0]}; leave it out")
    if "optimiser" in training_values and settings.optimiser in ("muon", "adamw"):
        raise UsageError(f"training with noise is not by {settings.optimiser}; set optimiser=adam, or leave it out")
    if settings.precision == "bfloat16":
        raise UsageError("training with noise is in float32; leave out precision")


def idle_settings(family: str, values: Mapping[str, Any]) -> list[str]:
    """Which of a model's settings ask for something other than usual that comes to nothing beside the others."""
    kind = FAMILIES[family].settings_class()
    given, _, _ = sort_settings(FAMILIES[family], values)
    shape, fields = checked(kind, given), kind.model_fields
    return [
        key
        for key, (_, is_met) in USED_WITH.get(family, {}).items()
        if key in given and getattr(shape, key) != fields[key].default and not is_met(shape)
    ]


def check_shape(family: str, values: Mapping[str, Any], asked: Collection[str]) -> None:
    """Refuse settings of a model that are wrong, and those among `asked` that would come to nothing; values: all."""
    for key in idle_settings(family, values):
        if key in asked:
            raise UsageError(
                f"{key} makes no difference to this {family}; it is for {USED_WITH[family][key][0]}, so leave it out"
            )


def check_watched(family: str, settings: Mapping[str, Any]) -> None:
    """Refuse to tell TensorBoard of a training that has nothing to tell, or must not."""
    chosen = find_family(family)
    if chosen.counts or chosen.mixes:
        raise UsageError(f"a {family} takes no steps of its own to be told of; leave out --tensorboard")
    if checked(TrainingSettings, sort_settings(chosen, settings)[1]).noise:
        raise UsageError(
            "the losses of a training with noise tell of the text what the noise hides, so none are kept; leave out "
            "--tensorboard"
        )


def check_options(asked: Asked, objective: str) -> None:
    """Refuse options that would come to nothing with the family and what is read."""
    family = FAMILIES[asked.family]
    check_task(asked.task, objective, asked.family)
    of_pairs = {"lowercase": asked.lowercase, "languages": asked.languages, "detokenise": asked.detokenise}
    of_documents = {"lines": asked.lines, "split-on": asked.split_on}
    unused, what = (of_documents, "pairs") if objective == "pairs" else (of_pairs, "documents")
    for name in (name for name, value in unused.items() if value):
        raise UsageError(
            f"--{name} makes no difference to {what}, which a {asked.family} learns from here; leave it out"
        )
    if asked.languages and language_pair(asked.languages) is None:
        raise UsageError(
            f"--languages takes codes, such as en-de, zh or zh-CN-en with a region in capitals, not {asked.languages!r}"
        )
    beside = {"data": any(path_list(asked.data)), "valid": asked.valid, "fields": asked.fields}
    for name in (name for name, value in beside.items() if value and asked.mixture):
        raise UsageError(f"a mixture of sets of pairs says {name} of each; leave out --{name}, or write it there")
    if asked.without and objective == "pairs":
        raise UsageError("pairs have no ids by which some could be passed over; take them out of the data")
    if asked.base is not None and (family.counts or family.mixes):
        raise UsageError(f"a {asked.family} begins with no other run's weights; leave out --base")
    if asked.budget is not None and family.counts:
        raise UsageError(f"a {asked.family} takes the time that counting takes; leave out --budget")


def check_task(task: str | None, objective: str, family: str) -> None:
    if task is not None and task not in TASKS:
        raise UsageError(f"there is no task {task!r}{nearest(task, TASKS)}; there are {', '.join(TASKS)}")
    if task is not None and objective != "pairs":
        raise UsageError(
            f"--task {task} says what pairs are for, and a {family} learns from documents here; leave it out"
            + ("" if task != "classify" else ", or teach it labels with llmbert fine-tune --task classify")
        )


def _detokenising(style: str | None, languages: str | None) -> str | None:
    """How targets are put together, as `read_pairs` wants it. Raises UsageError for an unknown style."""
    if style is None:
        return None
    if style not in ("words", "hyphens"):
        raise UsageError(f"--detokenise is words or hyphens, not {style!r}")
    pair = language_pair(languages or "en")
    language = base_code(pair[1]) if pair else "en"  # what is no code is refused by `check_options`
    return language + ("+hyphens" if style == "hyphens" else "")


def check_precision(precision: str) -> None:
    if precision == "bfloat16" and resolve_precision("auto", device().type) == "float32":
        raise UsageError(
            "this machine has no bfloat16 units and would emulate them, a hundred times slower; leave precision=auto"
        )


def preset_of(family: str, size: str | None) -> dict[str, Any] | None:
    if size is None:
        return None
    sizes = FAMILIES[family].sizes
    if size not in sizes:
        raise UsageError(f"{family} has no size {size!r}{nearest(size, sizes)}; there are {', '.join(sizes)}")
    return dict(sizes[size])
