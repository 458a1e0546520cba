"""The Transformer encoder-decoder: a source in, a target out, one token at a time."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.nn.attention import CrossAttention, SelfAttention
from llmbert.nn.cache import DecoderState, KeyValueCache
from llmbert.nn.dropout import Dropout
from llmbert.nn.feedforward import FeedForward
from llmbert.nn.norms import LayerNorm
from llmbert.nn.pointer import Pointer
from llmbert.nn.positions import sinusoidal_positions
from llmbert.protocols import Condition, Likelihood, LLMBertError, UsageError


class TransformerSettings(BaseModel):
    """The shape of an encoder-decoder (Vaswani et al. 2017).

    norm_first: norms before each layer and one behind the stack (pre-norm), or after each layer (post-norm, as in the
    paper, which asks for lower rates: at ours the gradients grow);
    tied: "all" shares one matrix among source embedding, target embedding and head, "target" the last two, "none" none;
    pointer: it may copy tokens of the source, names above all, instead of choosing from the vocabulary (`nn.pointer`).
    Without a pointer it opens elsewhere as Marian (sinusoidal), Pegasus (sinusoidal, norm_first), BART (learned,
    embedding_norm) or mBART (learned, embedding_norm, norm_first), where all is tied or nothing.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    layers: int = Field(4, ge=1)  # of the encoder
    decoder_layers: int | None = Field(None, ge=1)  # None: as many
    width: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    inner: int | None = Field(None, ge=1)  # width of the feed-forward layer; None: 4 x width
    context: int = Field(256, ge=2)  # tokens, of source and target each
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    norm_first: bool = True
    embedding_norm: bool = False
    scale_embedding: bool = True
    tied: Literal["all", "target", "none"] = "all"
    activation: Literal["relu", "gelu", "silu"] = "relu"
    pointer: bool = False
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    norm_epsilon: float = Field(1e-5, gt=0.0)

    @model_validator(mode="after")
    def _complete(self) -> TransformerSettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width, not {self.width}")
        self.decoder_layers = self.decoder_layers or self.layers
        self.inner = self.inner or 4 * self.width
        return self


class _Layer(nn.Module):
    """What both kinds of layer share: x + sublayer(x) with the norm before (pre) or after (post)."""

    def __init__(self, s: TransformerSettings) -> None:
        super().__init__()
        assert s.inner
        self.norm_first = s.norm_first
        self.attention = SelfAttention(s.width, s.heads, s.heads, s.width // s.heads, bias=True)
        self.attention_norm = LayerNorm(s.width, s.norm_epsilon)
        self.feedforward = FeedForward(s.width, s.inner, s.activation)
        self.feedforward_norm = LayerNorm(s.width, s.norm_epsilon)
        self.dropout = Dropout(s.dropout)

    def _enter(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.norm_first else x

    def _leave(self, x: Tensor, change: Tensor, norm: nn.Module) -> Tensor:
        x = x + self.dropout(change)
        return x if self.norm_first else norm(x)


class EncoderLayer(_Layer):
    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, S, D); mask (B, 1, 1, S) true where a token may be looked at."""
        seen = self.attention(self._enter(x, self.attention_norm), None, mask, causal=False)
        x = self._leave(x, seen, self.attention_norm)
        return self._leave(x, self.feedforward(self._enter(x, self.feedforward_norm)), self.feedforward_norm)


class DecoderLayer(_Layer):
    def __init__(self, s: TransformerSettings) -> None:
        super().__init__(s)
        self.cross = CrossAttention(s.width, s.heads, s.width // s.heads, bias=True)
        self.cross_norm = LayerNorm(s.width, s.norm_epsilon)

    def forward(
        self,
        x: Tensor,
        keys_values: tuple[Tensor, Tensor],
        source_mask: Tensor | None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """x (B, T, D), keys_values of the source, each (B, H, S, D of a head)."""
        seen = self.attention(self._enter(x, self.attention_norm), None, mask, cache, layer)
        x = self._leave(x, seen, self.attention_norm)
        read = self.cross(self._enter(x, self.cross_norm), keys_values, source_mask)
        x = self._leave(x, read, self.cross_norm)
        return self._leave(x, self.feedforward(self._enter(x, self.feedforward_norm)), self.feedforward_norm)


class _Side(nn.Module):
    """What enters a stack: embeddings with positions; and the norm behind the stack, where norms come first."""

    def __init__(self, s: TransformerSettings, embedding: nn.Embedding, layers: nn.ModuleList) -> None:
        super().__init__()
        self.scale = math.sqrt(s.width) if s.scale_embedding else 1.0
        self.embedding, self.layers = embedding, layers
        self.position_embedding = nn.Embedding(s.context, s.width) if s.positions == "learned" else None
        if s.positions == "sinusoidal":
            self.register_buffer("sinusoids", sinusoidal_positions(s.context, s.width), persistent=False)
        self.embedding_norm = LayerNorm(s.width, s.norm_epsilon) if s.embedding_norm else nn.Identity()
        self.norm = LayerNorm(s.width, s.norm_epsilon) if s.norm_first else nn.Identity()
        self.dropout = Dropout(s.dropout)

    def enter(self, ids: Tensor, positions: Tensor) -> Tensor:
        """ids (B, T), positions (B, T) or (T,) → (B, T, D)."""
        table = self.position_embedding.weight if self.position_embedding is not None else self.sinusoids
        x = self.embedding(ids) * self.scale + table[positions]  # type: ignore[index]
        return self.dropout(self.embedding_norm(x))


class Transformer(nn.Module):
    """p(target | source), exact given the source (Vaswani et al. 2017); a `Stepper` under a condition."""

    family = "transformer"
    likelihood: Likelihood = "conditional"
    recurrent = False

    def __init__(self, settings: TransformerSettings, vocabulary_size: int) -> None:
        super().__init__()
        s = settings
        self.settings, self.vocabulary_size = settings, vocabulary_size
        self.max_length: int | None = s.context
        self.embedding = nn.Embedding(vocabulary_size, s.width)
        target_embedding = self.embedding if s.tied == "all" else nn.Embedding(vocabulary_size, s.width)
        assert s.decoder_layers
        self.encoder = _Side(s, self.embedding, nn.ModuleList(EncoderLayer(s) for _ in range(s.layers)))
        self.decoder = _Side(s, target_embedding, nn.ModuleList(DecoderLayer(s) for _ in range(s.decoder_layers)))
        self.head = nn.Linear(s.width, vocabulary_size)
        self.pointer = Pointer(s.width) if s.pointer else None
        self._initialise()
        if s.tied != "none":
            self.head.weight = target_embedding.weight

    def _initialise(self) -> None:
        """Embeddings normal(0, 1/√D), maps by Glorot & Bengio 2010 (queries, keys and values as one), biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.settings.width**-0.5)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=self.settings.width**-0.5)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Condition:
        """source (B, S) → its encoding (B, S, D). source_mask: (B, S) true where there is a token, None: everywhere.

        Raises LLMBertError for a source longer than the model's context.
        """
        if source.shape[1] > self.settings.context:
            raise LLMBertError(
                f"a source of {source.shape[1]} tokens does not fit this model's context of {self.settings.context}"
            )
        if source_mask is None:
            source_mask = torch.ones_like(source, dtype=torch.bool)
        mask = _open_mask(source_mask)
        # Counted over tokens, so that padding in front moves no token.
        positions = (source_mask.cumsum(1) - 1).clamp_min(0)
        x = self.encoder.enter(source, positions)
        for layer in self.encoder.layers:
            x = layer(x, mask)
        ids = source if self.pointer is not None else None
        return Condition(source=self.encoder.norm(x), source_mask=source_mask, source_ids=ids)

    def hidden(self, ids: Tensor, condition: Condition | None) -> Tensor:
        """The decoder's last hidden states (B, T, D) of ids (B, T), all at once."""
        source, source_mask = self._source(condition)
        self._check_length(ids.shape[1])
        mask = _open_mask(source_mask)
        x = self.decoder.enter(ids, torch.arange(ids.shape[1], device=ids.device))
        for layer in self.decoder.layers:
            x = layer(x, layer.cross.keys_values(source), mask)  # type: ignore[union-attr,operator]
        return self.decoder.norm(x)

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) under an encoded source → logits (B, T, V) float32. Raises UsageError without a source."""
        return self.predict(self.hidden(ids, condition), condition)

    def predict(self, hidden: Tensor, condition: Condition | None) -> Tensor:
        """What `hidden` (B, T, D) says of the next token: logits (B, T, V), with a pointer log p, float32."""
        if self.pointer is None:
            return self.head(hidden).float()
        _, source_mask = self._source(condition)
        return self._point(hidden, self._pointed(condition), _open_mask(source_mask))

    def _pointed(self, condition: Condition | None) -> tuple[Tensor, Tensor]:
        """What a pointer looks at, in the shape of a layer's keys and values: keys (B, 1, S, D), ids (B, 1, S, 1)."""
        source, _ = self._source(condition)
        assert self.pointer is not None and condition is not None
        if condition.source_ids is None:
            raise UsageError("a model that copies needs the tokens of its source; give the condition that encode made")
        return self.pointer.keys(source), condition.source_ids[:, None, :, None]

    def _point(self, hidden: Tensor, pointed: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        assert self.pointer is not None
        keys, ids = pointed
        return self.pointer(hidden, self.head(hidden), keys, ids[:, 0, :, 0], mask)

    def start(self, batch: int, condition: Condition | None = None) -> DecoderState:
        s = self.settings
        source, source_mask = self._source(condition)
        assert s.decoder_layers
        cache = KeyValueCache(s.decoder_layers, len(source), s.heads, s.width // s.heads, source)
        cross = [layer.cross.keys_values(source) for layer in self.decoder.layers]  # type: ignore[union-attr,operator]
        if self.pointer is not None:
            cross.append(self._pointed(condition))
        return DecoderState(cache, cross, source_mask).for_texts(batch)

    def step(self, ids: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """ids (B, T), state of t tokens → logits (B, T, V), state of t+T tokens."""
        time, cache = ids.shape[1], state.cache
        self._check_length(cache.even_end(time))
        cache.reserve(time)
        mask, source_mask = cache.mask(time), state.mask
        x, cross = self.decoder.enter(ids, cache.positions(time)), state.cross_of_rows
        for number, layer in enumerate(self.decoder.layers):
            x = layer(x, cross[number], source_mask, mask, cache, number)
        cache.advance(time)
        x = self.decoder.norm(x)
        logits = self.head(x).float() if self.pointer is None else self._point(x, cross[-1], source_mask)
        return logits, state

    def _source(self, condition: Condition | None) -> tuple[Tensor, Tensor]:
        if condition is None or condition.source is None:
            raise UsageError("this model writes from a source; give one")
        mask = condition.source_mask
        return condition.source, torch.ones_like(condition.source[..., 0], dtype=torch.bool) if mask is None else mask

    def _check_length(self, tokens: int) -> None:
        if tokens > self.settings.context:
            raise LLMBertError(f"the text outgrew this model's context of {self.settings.context} tokens")


def _open_mask(mask: Tensor) -> Tensor | None:
    """(B, S) → (B, 1, 1, S) for attention; None where all may be looked at."""
    return None if bool(mask.all()) else mask[:, None, None]
