"""Recurrent families: plain RNN, LSTM and GRU over token embeddings."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.models.scoring import carried_state_nats
from llmbert.nn.dropout import Dropout
from llmbert.nn.recurrence import Memory, Recurrence, RecurrentState
from llmbert.protocols import Condition, Likelihood, Progress, silent


class RecurrentSettings(BaseModel):
    """The shape of a recurrent model; `context` is how far back-propagation reaches, the state reaches further."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    layers: int = Field(2, ge=1)
    width: int = Field(256, ge=4)
    embedding_width: int | None = Field(None, ge=4)
    context: int = Field(64, ge=2)  # tokens of truncated back-propagation through time
    tied: bool = True
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    initial_range: float | None = Field(None, gt=0.0)  # weights uniform in ±this (Zaremba et al. 2014); None: by width

    @model_validator(mode="after")
    def _complete(self) -> RecurrentSettings:
        self.embedding_width = self.embedding_width or self.width
        return self


class Recurrent(nn.Module):
    """p(next | all before) through a carried state (Mikolov et al. 2010); a `Stepper` and a `Scorer`.

    An embedding narrower or wider than the state passes through a linear map on both sides, so that the head may be
    tied to it (Press & Wolf 2017).
    """

    likelihood: Likelihood = "exact"
    recurrent = True
    max_length: int | None = None
    scoring_signature = "carried-state"

    def __init__(self, settings: RecurrentSettings, vocabulary_size: int, family: str) -> None:
        super().__init__()
        self.settings, self.vocabulary_size, self.family = settings, vocabulary_size, family
        assert settings.embedding_width
        same = settings.embedding_width == settings.width
        self.embedding = nn.Embedding(vocabulary_size, settings.embedding_width)
        self.enter = nn.Identity() if same else nn.Linear(settings.embedding_width, settings.width, bias=False)
        self.recurrence = Recurrence(family, settings.width, settings.layers, settings.dropout)
        self.leave = nn.Identity() if same else nn.Linear(settings.width, settings.embedding_width, bias=False)
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Linear(settings.embedding_width, vocabulary_size)
        nn.init.normal_(self.embedding.weight, std=settings.embedding_width**-0.5 if settings.tied else 0.1)
        nn.init.zeros_(self.head.bias)
        if settings.tied:
            self.head.weight = self.embedding.weight
        if settings.initial_range:
            for weight in self.parameters():
                nn.init.uniform_(weight, -settings.initial_range, settings.initial_range)

    def hidden(self, ids: Tensor, segments: None = None, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Last hidden states (B, T, D) of ids (B, T), and the memory to carry on with."""
        x = self.enter(self.dropout(self.embedding(ids)))
        y, memory = self.recurrence(x, memory)
        return self.leave(self.dropout(y)), memory

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) → logits (B, T, V) float32."""
        return self.head(self.hidden(ids)[0]).float()

    forward = logits

    def start(self, batch: int, condition: Condition | None = None) -> RecurrentState:
        return RecurrentState(self.recurrence.blank(batch))

    def step(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """ids (B, T), state of t tokens → logits (B, T, V), state of t+T tokens.

        A few tokens are taken one at a time, so that the state can be rewound into the middle of them; a long prompt
        is taken at once.
        """
        if ids.shape[1] >= RecurrentState.REMEMBERED:
            hidden, memory = self.hidden(ids, memory=state.memory)
            return self.head(hidden).float(), state.push([memory], ids.shape[1])
        outputs, memories, memory = [], [], state.memory
        for t in range(ids.shape[1]):
            hidden, memory = self.hidden(ids[:, t : t + 1], memory=memory)
            outputs.append(self.head(hidden).float())
            memories.append(memory)
        return torch.cat(outputs, dim=1), state.push(memories, len(memories))

    def token_nats(self, ids, starts, progress: Progress = silent):  # type: ignore[no-untyped-def]
        """Nats of each token with the state carried along its document; see `carried_state_nats`."""
        return carried_state_nats(self, ids, starts, progress=progress)
