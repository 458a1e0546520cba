"""Heads on a trunk that encodes text: classes, tags, numbers and sentence vectors, read off its states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.models import find_family
from llmbert.nn.crf import CRF, allowed_transitions
from llmbert.nn.dropout import Dropout
from llmbert.nn.state import state_once
from llmbert.protocols import Condition, Likelihood, LLMBertError

Pooling = Literal["first", "mean", "max", "last"]
WordPlace = Literal["first", "last"]


class HeadSettings(BaseModel):
    """What one head tells of a text. L: labels.

    classify: one of L classes; multilabel: which of L; tag: one of L for each word; regress: a number; embed: a unit
    vector (D,), near those of texts that mean the same.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    task: Literal["classify", "multilabel", "tag", "regress", "embed"]
    labels: tuple[str, ...] = ()
    pooling: Pooling | None = None  # how the states of a text become one; None: as suits the trunk
    word_at: WordPlace | None = None  # tags: at which of its tokens a word is read; None: as suits the trunk
    crf: bool = True  # tags: a conditional random field over them, instead of each by itself
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    temperature: float = Field(0.05, gt=0.0)  # of the contrastive loss
    shift: float = 0.0  # numbers are learned as (number - shift) / scale
    scale: float = Field(1.0, gt=0.0)

    @model_validator(mode="after")
    def _complete(self) -> HeadSettings:
        if (self.task in ("classify", "multilabel", "tag")) != bool(self.labels):
            raise ValueError(f"{self.task} {'needs labels' if not self.labels else 'has no labels'}")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels have the same name")
        return self


def _usual_pooling(head: HeadSettings, both_sides: bool) -> Pooling:
    return "mean" if both_sides or head.task == "embed" else "last"


def _usual_place(head: HeadSettings, both_sides: bool) -> WordPlace | None:
    """Who sees one side only knows a word at its last token, and before it not even which word it is."""
    if head.task != "tag":
        return None
    return "first" if both_sides else "last"


class HeadedSettings(BaseModel):
    """A trunk of a family, with its settings, and the heads on it by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    trunk: str = "bert"
    trunk_settings: dict[str, Any] = Field(default_factory=dict)
    heads: dict[str, HeadSettings] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> HeadedSettings:
        for name in self.heads:
            if not name or "." in name:
                raise ValueError(f"a head cannot be called {name!r}; choose a name without a dot")
        family = find_family(self.trunk)
        if family.counts or family.mixes or family.likelihood in ("bound", "none"):
            raise ValueError(f"{self.trunk} has no states to put a head on; choose bert, gpt or lstm")
        self.trunk_settings = self.build_trunk_settings().model_dump()
        both_sides = hasattr(family.model_class(), "encode")
        self.heads = {
            name: head.model_copy(
                update={
                    "pooling": head.pooling or _usual_pooling(head, both_sides),
                    "word_at": head.word_at or _usual_place(head, both_sides),
                }
            )
            for name, head in self.heads.items()
        }
        return self

    def build_trunk_settings(self) -> Any:
        return find_family(self.trunk).settings_class()(**{**self.trunk_settings, **BARE.get(self.trunk, {})})

    @property
    def layers(self) -> int:
        return int(self.trunk_settings["layers"])

    @property
    def width(self) -> int:
        """D of the states."""
        return int(self.trunk_settings.get("embedding_width") or self.trunk_settings["width"])

    @property
    def separators(self) -> int:
        """End tokens between the two texts of a pair: RoBERTa was taught with two."""
        return 2 if self.trunk_settings.get("style") == "roberta" else 1


def with_places(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were saved, of tags that were taught before it was noted where a word is read: at its first."""
    heads = {
        name: {"word_at": "first"} | head if isinstance(head, dict) and head.get("task") == "tag" else head
        for name, head in (saved.get("heads") or {}).items()
    }
    return {**saved, "heads": heads}


BARE: dict[str, dict[str, Any]] = {"bert": {"masked": False, "pooler": False, "next_sentence": False}}
"""Settings that leave out of a trunk what predicts tokens."""


class TextHead(nn.Module):
    """States (B, T, D) → outputs (B, L): dropout, and a linear map of the pooled state.

    The first token's state passes through tanh(W x + b) before, as in BERT (Devlin et al. 2019, §3.2, §4).
    """

    def __init__(self, settings: HeadSettings, width: int, outputs: int) -> None:
        super().__init__()
        assert settings.pooling
        self.pooling: Pooling = settings.pooling
        self.pooler = nn.Linear(width, width) if self.pooling == "first" else None
        self.dropout = Dropout(settings.dropout)
        self.out = nn.Linear(width, outputs)
        _initialise(self)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        pooled = pool(states, mask, self.pooling)
        if self.pooler is not None:
            pooled = torch.tanh(self.pooler(pooled))
        return self.out(self.dropout(pooled)).float()


class TagHead(nn.Module):
    """States (B, T, D) → scores of tags (B, W, L) at a token of each word; with a CRF or without."""

    def __init__(self, settings: HeadSettings, width: int) -> None:
        super().__init__()
        self.dropout = Dropout(settings.dropout)
        self.out = nn.Linear(width, len(settings.labels))
        _initialise(self)
        self.crf = CRF(len(settings.labels), allowed_transitions(settings.labels)) if settings.crf else None

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """words (B, W): the place at which each word is read."""
        at = states.gather(1, words[..., None].expand(-1, -1, states.shape[-1]))
        return self.out(self.dropout(at)).float()

    def decode(self, scores: Tensor, word_mask: Tensor) -> Tensor:
        """The best tags (B, W) int64, 0 where the mask is false."""
        return scores.argmax(-1) * word_mask if self.crf is None else self.crf.decode(scores, word_mask)

    def marginals(self, scores: Tensor, word_mask: Tensor) -> Tensor:
        """p(tag at a word) given the text, (B, W, L)."""
        return scores.softmax(-1) if self.crf is None else self.crf.marginals(scores, word_mask)


class VectorHead(nn.Module):
    """States (B, T, D) → unit vectors (B, D): the pooled state by its length (Reimers & Gurevych 2019, §3)."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        assert settings.pooling
        self.pooling: Pooling = settings.pooling
        self.temperature = settings.temperature

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.normalize(pool(states, mask, self.pooling).float(), dim=-1)


def _initialise(head: nn.Module) -> None:
    """normal(0, 0.02) for matrices, 0 for biases, as in BERT."""
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.02) if weight.dim() > 1 else nn.init.zeros_(weight)


def pool(states: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """States (B, T, D) → (B, D): of the first token, mean or maximum over tokens, or of the last token. mask (B, T)."""
    if how == "first":
        return states[:, 0]
    if how == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    if how == "max":
        return states.masked_fill(~mask[..., None], float("-inf")).amax(1)
    weight = mask[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def make_head(settings: HeadSettings, width: int) -> nn.Module:
    if settings.task == "tag":
        return TagHead(settings, width)
    if settings.task == "embed":
        return VectorHead(settings)
    return TextHead(settings, width, max(1, len(settings.labels)))


class Headed(nn.Module):
    """A trunk with one or more heads on it; the trunk's states serve them all (multi-task learning, Caruana 1997).

    The trunk has `encode(ids, mask, types) → (B, T, D)` and sees a text from both sides, or `hidden(ids)` and sees
    what came before: there a text is read at its last token, and a word at its own. A first token
    has nothing to say before it was taught to.
    """

    family = "headed"
    likelihood: Likelihood = "none"
    recurrent = False

    def __init__(self, settings: HeadedSettings, vocabulary_size: int) -> None:
        super().__init__()
        trunk = find_family(settings.trunk).build(settings.build_trunk_settings(), vocabulary_size)
        if hasattr(trunk, "head"):
            trunk.head = None  # predicts tokens; the embedding it may be tied to stays
        self.both_sides = hasattr(trunk, "encode")
        self.settings = settings
        self.vocabulary_size = vocabulary_size
        self.max_length: int | None = trunk.max_length
        self.trunk: Any = trunk
        self.heads = nn.ModuleDict({name: make_head(head, settings.width) for name, head in settings.heads.items()})

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """States (B, T, D) of ids (B, T); mask (B, T) true where there is a token, types (B, T) 1 in a second text."""
        if not self.both_sides:  # what is padded comes after all that sees it
            return self.trunk.hidden(ids)[0]
        kinds = types if types is not None and self.settings.trunk_settings.get("types", 1) > 1 else None
        states = self.trunk.encode(ids, mask, kinds) if kinds is not None else self.trunk.encode(ids, mask)
        if isinstance(states, Condition):
            assert states.source is not None
            return states.source
        return states

    def forward(
        self, head: str, ids: Tensor, mask: Tensor, types: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor:
        """What a head says, float32: (B, L) of classes or numbers (L 1), (B, W, L) of tags, (B, D) unit vectors."""
        states = self.encode(ids, mask, types)
        return self.heads[head](states, mask if words is None else words)

    def predict_tokens(self, *args: Any, **options: Any) -> NoReturn:
        raise LLMBertError(
            "a run with heads predicts no tokens, so it neither writes nor scores text; let it classify or tag"
        )

    logits = start = step = token_nats = predict_tokens


def put_heads(model: Any, heads: Mapping[str, HeadSettings], *, dropout: float | None = None) -> Headed:
    """New heads on a copy of the weights of a trained model, or of a headed one's trunk. dropout: of the trunk, None:
    as it is.

    Where a BERT learned to sum a text up in its first token, heads read it there, and have its pooler as their own.
    Raises LLMBertError where the model has no states.
    """
    if not isinstance(model, nn.Module):
        raise LLMBertError("a model that counts has no states to put a head on; give the run of a bert, gpt or lstm")
    source: Any = model.trunk if isinstance(model, Headed) else model
    trunk_settings = source.settings.model_dump() | ({} if dropout is None else {"dropout": dropout})
    pooler = getattr(source, "pooler", None)
    if pooler is not None:
        heads = {
            name: head.model_copy(update={"pooling": head.pooling or ("mean" if head.task == "embed" else "first")})
            for name, head in heads.items()
        }
    settings = HeadedSettings(trunk=str(source.family), trunk_settings=trunk_settings, heads=dict(heads))
    made = Headed(settings, source.vocabulary_size)
    known = state_once(source)
    made.trunk.load_state_dict({name: known[name] for name in state_once(made.trunk)}, strict=False)
    for head in made.heads.values():
        if pooler is not None and isinstance(head, TextHead) and head.pooler is not None:
            head.pooler.load_state_dict(pooler.state_dict())
    return made
