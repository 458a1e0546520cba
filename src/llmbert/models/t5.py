"""T5: a Transformer that reads one text and writes another, with relative positions and no biases."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.nn.attention import CrossAttention, SelfAttention
from llmbert.nn.cache import DecoderState, KeyValueCache
from llmbert.nn.dropout import Dropout
from llmbert.nn.feedforward import FeedForward, GatedFeedForward
from llmbert.nn.norms import RMSNorm
from llmbert.nn.positions import RelativePositions
from llmbert.protocols import Condition, Likelihood, UsageError


class T5Settings(BaseModel):
    """The shape of a T5. `style` chooses the defaults of what is left None.

    v1.0: ReLU, one matrix for embedding and head (Raffel et al. 2020); v1.1: gated GELU, two matrices (Shazeer 2020).
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    style: Literal["v1.0", "v1.1"] = "v1.1"
    layers: int = Field(6, ge=1)  # of the encoder
    decoder_layers: int | None = Field(None, ge=1)  # None: as many
    width: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    head_width: int | None = Field(None, ge=1)
    inner: int | None = Field(None, ge=1)  # width of the feed-forward layer
    context: int = Field(256, ge=2)  # tokens of a training example; positions reach any length
    buckets: int = Field(32, ge=4)  # how many distances positions tell apart
    max_distance: int = Field(128, ge=3)  # tokens, beyond which all distances are one
    gated: bool | None = None
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] | None = None
    tied: bool | None = None
    scaled: bool | None = (
        None  # divide the head's input by √width, as a head tied to the embedding needs; None: if tied
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    norm_epsilon: float = Field(1e-6, gt=0.0)

    @model_validator(mode="after")
    def _complete(self) -> T5Settings:
        first = self.style == "v1.0"
        if self.head_width is None:
            if self.width % self.heads:
                raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; or give head_width")
            self.head_width = self.width // self.heads
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance {self.max_distance} must exceed half of the {self.buckets} buckets")
        self.decoder_layers = self.decoder_layers or self.layers
        self.gated = not first if self.gated is None else self.gated
        self.activation = self.activation or ("gelu_tanh" if self.gated else "relu")
        self.tied = first if self.tied is None else self.tied
        self.scaled = self.tied if self.scaled is None else self.scaled
        if self.inner is None:
            # A gated layer has three matrices where a plain one has two: 8/3 of the width gives both the same size.
            self.inner = 16 * math.ceil(self.width * 8 / 3 / 16) if self.gated else 4 * self.width
        return self


class EncoderBlock(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x): the pre-norm residual block, its products not scaled."""

    def __init__(self, settings: T5Settings) -> None:
        super().__init__()
        s = settings
        assert s.head_width and s.inner and s.activation
        self.attention_norm = RMSNorm(s.width, s.norm_epsilon)
        self.attention = SelfAttention(
            s.width, s.heads, s.heads, s.head_width, bias=False, dropout=s.dropout, scale=1.0
        )
        self.feedforward_norm = RMSNorm(s.width, s.norm_epsilon)
        self.feedforward = (
            GatedFeedForward(s.width, s.inner, s.activation, s.dropout)
            if s.gated
            else FeedForward(s.width, s.inner, s.activation, bias=False, dropout=s.dropout)
        )
        self.dropout = Dropout(s.dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), None, positions))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class DecoderBlock(EncoderBlock):
    """An encoder's block with a look at the encoded source between its two halves."""

    def __init__(self, settings: T5Settings) -> None:
        super().__init__(settings)
        s = settings
        assert s.head_width
        self.cross_norm = RMSNorm(s.width, s.norm_epsilon)
        self.cross = CrossAttention(s.width, s.heads, s.head_width, bias=False, dropout=s.dropout, scale=1.0)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        positions: Tensor,
        source: tuple[Tensor, Tensor],
        source_mask: Tensor | None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), None, positions, cache, layer))
        x = x + self.dropout(self.cross(self.cross_norm(x), source, source_mask))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class Stack(nn.Module):
    """The blocks of an encoder or a decoder, which share their relative positions, and the norm behind them."""

    def __init__(self, settings: T5Settings, layers: int, block: type[EncoderBlock], causal: bool) -> None:
        super().__init__()
        self.positions = RelativePositions(settings.heads, settings.buckets, settings.max_distance, causal)
        self.blocks = nn.ModuleList(block(settings) for _ in range(layers))
        self.norm = RMSNorm(settings.width, settings.norm_epsilon)


class T5(nn.Module):
    """An encoder-decoder Transformer (Raffel et al. 2020); a `Stepper` under the condition of a source."""

    family = "t5"
    likelihood: Likelihood = "conditional"
    recurrent = False
    max_length: int | None = None
    table_pace = 16.0  # its tables are drawn from N(0, 1), fifty times as large as others', and learn as much slower

    def __init__(self, settings: T5Settings, vocabulary_size: int) -> None:
        super().__init__()
        self.settings, self.vocabulary_size = settings, vocabulary_size
        assert settings.decoder_layers
        self.embedding = nn.Embedding(vocabulary_size, settings.width)
        self.encoder = Stack(settings, settings.layers, EncoderBlock, causal=False)
        self.decoder = Stack(settings, settings.decoder_layers, DecoderBlock, causal=True)
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Linear(settings.width, vocabulary_size, bias=False)
        self._initialise()
        if settings.tied:
            self.head.weight = self.embedding.weight

    def _initialise(self) -> None:
        """Normal weights: the embedding's of deviation 1, a map's of 1/√inputs, a query's of 1/√(inputs · D of a head).

        A query's smaller ones stand for the scale that attention leaves out, as in the authors' Mesh TensorFlow code.
        """
        s = self.settings
        assert s.head_width
        for name, weight in self.named_parameters():
            if name == "embedding.weight":
                nn.init.normal_(weight)
            elif name.endswith("table.weight"):
                nn.init.normal_(weight, std=s.width**-0.5)
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        for block in (*self.encoder.blocks, *self.decoder.blocks):
            maps = [block.attention.qkv.weight[: s.heads * s.head_width]]
            if isinstance(block, DecoderBlock):
                maps.append(block.cross.query.weight)
            for query in maps:
                nn.init.normal_(query.detach(), std=(s.width * s.head_width) ** -0.5)

    # ---- the source ------------------------------------------------------------------------------------------------

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Condition:
        """source (B, S) → its encoding (B, S, D). source_mask: (B, S) true where there is a token, None: everywhere."""
        if source_mask is None:
            source_mask = torch.ones_like(source, dtype=torch.bool)
        places = torch.arange(source.shape[1], device=source.device)[None]
        positions = self.encoder.positions(places, source.shape[1])
        if not bool(source_mask.all()):
            positions = positions.masked_fill(~source_mask[:, None, None], -torch.inf)
        x = self.dropout(self.embedding(source))
        for block in self.encoder.blocks:
            x = block(x, positions)
        return Condition(source=self.dropout(self.encoder.norm(x)), source_mask=source_mask)

    def _source_of(self, condition: Condition | None) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Keys and values of the encoded source for each of the decoder's blocks, and its mask (B, S)."""
        if condition is None or condition.source is None:
            raise UsageError("this model writes from a source; give one")
        source, mask = condition.source, condition.source_mask
        if mask is None:
            mask = torch.ones(source.shape[:2], dtype=torch.bool, device=source.device)
        return [block.cross.keys_values(source) for block in self.decoder.blocks], mask  # type: ignore[union-attr,operator]

    # ---- the target ------------------------------------------------------------------------------------------------

    def hidden(self, ids: Tensor, condition: Condition | None) -> Tensor:
        """What the head turns into logits: (B, T, D) for a target's ids (B, T), the begin token first."""
        cross, mask = self._source_of(condition)
        positions = self.decoder.positions(torch.arange(ids.shape[1], device=ids.device)[None], ids.shape[1])
        return self._decode(ids, positions, cross, None if bool(mask.all()) else mask[:, None, None], None)

    def _decode(
        self,
        ids: Tensor,
        positions: Tensor,
        cross: list[tuple[Tensor, Tensor]],
        source_mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        x = self.dropout(self.embedding(ids))
        for layer, block in enumerate(self.decoder.blocks):
            x = block(x, positions, cross[layer], source_mask, cache, layer)
        x = self.dropout(self.decoder.norm(x))
        return x * self.settings.width**-0.5 if self.settings.scaled else x

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) under a condition → logits (B, T, V) float32."""
        return self.predict(self.hidden(ids, condition), condition)

    def predict(self, hidden: Tensor, condition: Condition | None) -> Tensor:
        """What `hidden` (B, T, D) says of the next token: logits (B, T, V) float32."""
        return self.head(hidden).float()

    forward = logits

    def start(self, batch: int, condition: Condition | None = None) -> DecoderState:
        """The state before the first token of `batch` texts: one for each source, or all for the one there is."""
        cross, mask = self._source_of(condition)
        s = self.settings
        assert s.decoder_layers and s.head_width
        own = KeyValueCache(s.decoder_layers, len(mask), s.heads, s.head_width, cross[0][0].detach())
        return DecoderState(own, cross, mask).for_texts(batch)

    def step(self, ids: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """ids (B, T), state of t tokens → logits (B, T, V), state of t+T tokens."""
        time, cache = ids.shape[1], state.cache
        cache.reserve(time)
        places = cache.positions(time)
        if bool((places[:, 0] == places[0, 0]).all()):
            places = places[:1]
        positions = self.decoder.positions(places, cache.even_end(time))
        x = self._decode(ids, positions, state.cross_of_rows, state.mask, cache)
        cache.advance(time)
        return self.head(x).float(), state
