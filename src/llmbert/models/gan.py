"""Text GAN: a generator that writes whole texts from nothing, and a discriminator that tells them from real ones."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from llmbert.models.recurrent import Recurrent, RecurrentSettings
from llmbert.nn.dropout import Dropout
from llmbert.nn.recurrence import Memory, Recurrence, RecurrentState
from llmbert.protocols import Condition, Likelihood

FILTER_WIDTHS = (2, 3, 4, 5)
BEGIN, END, PADDING = 2, 3, 0
ROWS = 4096  # whose distributions over the vocabulary are held at a time


class GANSettings(BaseModel):
    """The shape of a text GAN. network, layers, width: of the generator; discriminator: a convolution over words (Kim
    2014, as in SeqGAN) or a recurrent network; context: tokens of the longest text, its end among them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    network: Literal["rnn", "lstm", "gru"] = "lstm"
    layers: int = Field(1, ge=1)
    width: int = Field(128, ge=4)
    embedding_width: int | None = Field(None, ge=4)
    tied: bool = False
    discriminator: Literal["convolution", "recurrent"] = "convolution"
    filters: int = Field(64, ge=1)  # of each width; the width of a recurrent one
    discriminator_dropout: float = Field(0.25, ge=0.0, lt=1.0)
    context: int = Field(32, ge=2)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)  # of the generator


class GAN(nn.Module):
    """A generator and its discriminator (Goodfellow et al. 2014; for text Yu et al. 2017).

    A `Stepper` by its generator, and a `Sampler`; it gives no text a probability that it was trained for.
    """

    family = "gan"
    likelihood: Likelihood = "none"
    recurrent = False
    begin_id, end_id, padding_id = BEGIN, END, PADDING  # of our own tokenisers
    max_length: int | None = None

    def __init__(self, settings: GANSettings, vocabulary_size: int) -> None:
        super().__init__()
        s = settings
        self.settings, self.vocabulary_size = settings, vocabulary_size
        shape = {"layers": s.layers, "width": s.width, "embedding_width": s.embedding_width, "dropout": s.dropout}
        recurrent = RecurrentSettings(**shape, context=s.context, tied=s.tied)
        self.generator = Recurrent(recurrent, vocabulary_size, s.network)
        kind = ConvolutionDiscriminator if s.discriminator == "convolution" else RecurrentDiscriminator
        width = s.embedding_width or s.width
        self.discriminator: Any = kind(vocabulary_size, width, s.filters, s.discriminator_dropout)

    @property
    def embedding(self) -> nn.Embedding:
        return self.generator.embedding

    @property
    def head(self) -> nn.Linear:
        return self.generator.head

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) → the generator's logits (B, T, V) float32."""
        return self.generator.logits(ids)

    forward = logits

    def start(self, batch: int, condition: Condition | None = None) -> RecurrentState:
        return self.generator.start(batch)

    def step(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """ids (B, T), state of t tokens → logits (B, T, V), state of t+T tokens."""
        return self.generator.step(ids, state)

    # ---- whole texts -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(self, count: int) -> Tensor:
        """Texts from the generator, (count, context) int64 without begin token, padded behind their end token.

        Randomness is torch's own, so that a training that goes on draws what it would have drawn.
        """
        begin = torch.full((count, 1), BEGIN, device=self.head.weight.device)
        return self.finish(begin, None, self.settings.context)

    @torch.no_grad()
    def finish(self, last: Tensor, memory: Memory | None, steps: int) -> Tensor:
        """What the generator writes behind `last` (B, 1) in `steps` steps, (B, steps), from the memory before it."""
        found, ended = [], torch.zeros(len(last), dtype=torch.bool, device=last.device)
        for _ in range(steps):
            last, memory = self.go_on(last, memory)
            last = last.masked_fill(ended[:, None], PADDING)
            ended = ended | (last[:, 0] == END)
            found.append(last)
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def go_on(self, last: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """A token drawn behind each of `last` (B, 1), (B, 1), and the memory of what was read."""
        hidden, memory = self.generator.hidden(last, memory=memory)
        drawn = []
        for rows in hidden[:, -1].split(ROWS):
            chances = self.head(rows).float().softmax(-1)
            chances[:, PADDING] = chances[:, BEGIN] = 0.0
            drawn.append(torch.multinomial(chances, 1))
        return torch.cat(drawn), memory

    def sample(self, count: int, condition: Condition | None, seed: int) -> list[np.ndarray]:
        """`count` texts as ids without begin and end token, the same for the same seed."""
        device = self.head.weight.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            rows = self.draw(count).cpu().numpy()
        return [row[: int(np.argmax(np.append(row, END) == END))] for row in rows]

    def soft_texts(self, count: int, sharpness: float) -> Tensor:
        """Texts as distributions over the vocabulary, (count, context, V), through which gradients flow: softmax of
        (logits + Gumbel noise) times `sharpness` (Jang et al. 2017; for text Kusner & Hernández-Lobato 2016).

        Behind the first place whose most probable token is the end token all is zero.
        """
        generator = self.generator
        begin = torch.full((count, 1), BEGIN, device=self.head.weight.device)
        x, memory = generator.enter(generator.embedding(begin)), None
        alive, found = torch.ones(count, 1, device=begin.device), []
        for _ in range(self.settings.context):
            y, memory = generator.recurrence(x, memory)
            logits = self.head(generator.leave(y[:, -1])).float()
            noise = -torch.empty_like(logits).exponential_().log()
            soft = ((logits + noise) * sharpness).softmax(-1)
            found.append(soft * alive)
            alive = alive * (soft.argmax(-1, keepdim=True) != END)
            x = generator.enter((soft @ generator.embedding.weight)[:, None])
        return torch.stack(found, dim=1)


class ConvolutionDiscriminator(nn.Module):
    """Convolutions of several widths over word vectors, the highest answer of each filter, one figure (Kim 2014)."""

    def __init__(self, vocabulary_size: int, width: int, filters: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size) for size in FILTER_WIDTHS)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(filters * len(FILTER_WIDTHS), 1)

    def features(self, texts: Tensor) -> Tensor:
        """texts: ids (B, T), or distributions (B, T, V) → what they are judged by (B, D)."""
        x = _embedded(self.embedding, texts).mT
        x = nn.functional.pad(x, (0, max(0, max(FILTER_WIDTHS) - x.shape[-1])))
        return torch.cat([convolution(x).relu().amax(-1) for convolution in self.convolutions], dim=-1)

    def forward(self, texts: Tensor) -> Tensor:
        """Texts as above → how real each is, logits (B,) float32."""
        return self.head(self.dropout(self.features(texts)))[:, 0].float()


class RecurrentDiscriminator(nn.Module):
    """A GRU over word vectors, and one figure from the mean of its states."""

    def __init__(self, vocabulary_size: int, width: int, filters: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.enter = nn.Linear(width, filters)
        self.recurrence = Recurrence("gru", filters, 1, 0.0)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(filters, 1)

    def features(self, texts: Tensor) -> Tensor:
        """texts: ids (B, T), or distributions (B, T, V) → what they are judged by (B, D)."""
        x = _embedded(self.embedding, texts)
        inside = (x.detach().abs().sum(-1, keepdim=True) > 0).to(x.dtype)
        states, _ = self.recurrence(self.enter(x), None)
        return (states * inside).sum(1) / inside.sum(1).clamp_min(1)

    def forward(self, texts: Tensor) -> Tensor:
        """Texts as above → how real each is, logits (B,) float32."""
        return self.head(self.dropout(self.features(texts)))[:, 0].float()


def _embedded(embedding: nn.Embedding, texts: Tensor) -> Tensor:
    """Word vectors (B, T, D) of ids or of distributions, zero where there is padding."""
    if texts.dim() == 3:
        return texts @ embedding.weight
    return embedding(texts) * (texts != PADDING)[..., None]
