"""What the user set by `--set key=value`, sorted by whom it concerns, checked, and said in one sentence when wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from llmbert.models import Family, nearest
from llmbert.protocols import UsageError
from llmbert.training.settings import TrainingSettings

CORPUS_KEYS = ("vocabulary_size",)


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """["order=5"] → {"order": "5"}. Raises UsageError for what is no key=value, or a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes key=value, not {pair!r}")
        if key in found:
            raise UsageError(f"--set {key} is given twice; give it once")
        found[key.strip().replace("-", "_")] = value.strip()
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


def whole_number(name: str, value: Any, least: int) -> int:
    """`value` as a whole number. Raises UsageError where it is none, or too small."""
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from error
    if number < least:
        raise UsageError(f"{name} must be at least {least}, not {number}")
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
