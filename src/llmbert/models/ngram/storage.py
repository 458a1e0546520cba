"""An n-gram model as named tensors and a configuration, and back, trusting neither.

Names: `log_probability.n` float32 (M,), and `words.n` (M,) from n = 2 on: the n-grams of length n, ordered by context
and then by word; `children.n` int32 (M,) and `backoff.n` float32 (M,) below the highest order: how many of the
n-grams of length n + 1 continue each, and its backoff weight. Logs are natural. For n = 1, M is V.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmbert.models.ngram.trie import Level
from llmbert.protocols import LLMBertError

if TYPE_CHECKING:
    from torch import Tensor


class NGramConfig(BaseModel):
    """What a model is: its settings ("arpa": read from an ARPA file), its vocabulary, its discounts level by level."""

    model_config = ConfigDict(extra="forbid")

    order: int = Field(ge=1)
    smoothing: Literal["kneser-ney", "ml", "additive", "arpa"]
    alpha: float = Field(0.01, gt=0, allow_inf_nan=False)
    noise: float = Field(0.0, ge=0, allow_inf_nan=False)
    contributions: int = Field(100, ge=1)
    delta: float = Field(1e-6, gt=0, lt=1)
    vocabulary_size: int = Field(ge=3, lt=2**31)
    begin_id: int = Field(2, ge=0)
    end_id: int = Field(3, ge=0)
    padding_id: int = Field(0, ge=0)
    unknown_id: int = Field(1, ge=0)
    discounts: list[tuple[float, float, float]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _special_ids_fit(self) -> NGramConfig:
        ids = {self.begin_id, self.end_id, self.padding_id, self.unknown_id}
        if len(ids) < 4 or max(ids) >= self.vocabulary_size:
            raise ValueError("the four special tokens need ids of their own inside the vocabulary")
        return self

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> NGramConfig:
        """The configuration in `config`; raises LLMBertError with the first thing wrong in it."""
        try:
            return cls.model_validate(dict(config))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "it"
            raise LLMBertError(f"the n-gram configuration is not valid: {where}: {first['msg']}") from None


def tensors_of(levels: list[Level]) -> dict[str, Tensor]:
    """The levels of a model as tensors; words take two bytes where the vocabulary allows."""
    import torch

    small = np.uint16 if len(levels[0]) <= 1 << 16 else np.int32
    tensors = {}
    for n, level in enumerate(levels, 1):
        tensors[f"log_probability.{n}"] = level.log_probability
        if n > 1:
            tensors[f"words.{n}"] = level.words.astype(small)
        if level.children is not None and level.backoff is not None:
            tensors[f"children.{n}"] = level.children
            tensors[f"backoff.{n}"] = level.backoff
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}


def levels_from_tensors(tensors: Mapping[str, Tensor], config: NGramConfig) -> list[Level]:
    """The levels in `tensors`, after every shape, index and value in them has been checked.

    Raises LLMBertError in one sentence for the first that does not hold.
    """
    if config.order > len(tensors):
        raise LLMBertError(f"{len(tensors)} tensors cannot hold an n-gram model of order {config.order}")
    expected = {f"log_probability.{n}" for n in range(1, config.order + 1)}
    expected |= {f"words.{n}" for n in range(2, config.order + 1)}
    expected |= {f"{part}.{n}" for part in ("children", "backoff") for n in range(1, config.order)}
    if set(tensors) != expected:
        name = sorted(set(tensors) ^ expected)[0]
        raise LLMBertError(f"the n-gram model of order {config.order} lacks, or should not have, the tensor {name!r}")
    levels: list[Level] = []
    size = config.vocabulary_size
    for n in range(1, config.order + 1):
        logs = _read(tensors, f"log_probability.{n}", "f", size)
        if n == 1 and len(logs) != size:
            raise LLMBertError(f"the n-gram model has {len(logs)} words, but its vocabulary {size}")
        words = np.arange(size, dtype=np.int32) if n == 1 else _read(tensors, f"words.{n}", "iu", size)
        level = Level(logs, words.astype(np.int32, copy=False))
        if n < config.order:
            level.children = _read(tensors, f"children.{n}", "iu", size).astype(np.int32)
            level.backoff = _read(tensors, f"backoff.{n}", "f", size)
        _check_level(level, levels, config)
        levels.append(level)
    return levels


def _read(tensors: Mapping[str, Tensor], name: str, kinds: str, vocabulary_size: int) -> np.ndarray:
    tensor = tensors[name].detach().cpu()
    kind = str(tensor.dtype)  # some kinds of tensor NumPy does not know
    fits = kind == "torch.float32" if kinds == "f" else kind.startswith(("torch.int", "torch.uint"))
    if tensor.ndim != 1 or not fits:
        raise LLMBertError(f"the n-gram tensor {name!r} is not one row of {'float32' if kinds == 'f' else 'integers'}")
    array: np.ndarray = tensor.numpy()
    beyond = vocabulary_size if name.startswith("words.") else 2**31
    if kinds != "f" and len(array) and not 0 <= int(array.min()) <= int(array.max()) < beyond:
        raise LLMBertError(f"the n-gram tensor {name!r} holds a number that is not from 0 to {beyond - 1}")
    if kinds == "f" and (np.isnan(array).any() or np.isposinf(array).any()):
        raise LLMBertError(f"the n-gram tensor {name!r} holds a value that is not a number")
    return array


def _check_level(level: Level, lower: list[Level], config: NGramConfig) -> None:
    """Raise LLMBertError unless `level` agrees with itself and continues the levels below it."""
    n, size = len(lower) + 1, len(level.words)
    wrong = f"the n-gram model is damaged at length {n}: "
    lengths = {len(array) for array in (level.log_probability, level.children, level.backoff) if array is not None}
    if lengths != {size}:
        raise LLMBertError(f"{wrong}its tensors differ in length")
    if size and float(level.log_probability.max()) > 1e-3:
        raise LLMBertError(f"{wrong}a probability is greater than 1")
    reserved = (config.begin_id, config.padding_id)
    if n == 1:
        if np.isfinite(level.log_probability[list(reserved)]).any():
            raise LLMBertError(f"{wrong}begin and padding must have no probability")
        return
    children = lower[-1].children
    assert children is not None
    if int(children.sum(dtype=np.int64)) != size:
        raise LLMBertError(f"{wrong}its {size} n-grams are not as many as their contexts announce")
    parents = np.repeat(np.arange(len(children)), children)
    unordered = (np.diff(level.words) <= 0) & (np.diff(parents) == 0)
    if unordered.any() or np.isin(level.words, reserved).any():
        raise LLMBertError(f"{wrong}the words after a context are out of order, repeated or never to be predicted")
