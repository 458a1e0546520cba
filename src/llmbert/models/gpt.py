"""GPT: a Transformer decoder that predicts the next token, in GPT-2's style and in today's."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.models.scoring import sliding_window_nats
from llmbert.nn.attention import SelfAttention, document_mask
from llmbert.nn.cache import KeyValueCache
from llmbert.nn.dropout import Dropout
from llmbert.nn.feedforward import FeedForward, GatedFeedForward
from llmbert.nn.norms import NORMS
from llmbert.nn.positions import RotaryPositions, document_positions, stretched_frequencies
from llmbert.protocols import Condition, Likelihood, LLMBertError, Progress, silent


class RopeScaling(BaseModel):
    """How rotary positions are stretched to `factor` times the length; see `stretched_frequencies`.

    original_context None: all alike (Chen et al. 2023); a number: by how often each turns within it (Llama 3).
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    factor: float = Field(ge=1.0)
    original_context: int | None = Field(None, ge=1)  # tokens
    low_turns: float = Field(1.0, gt=0.0)
    high_turns: float = Field(4.0, gt=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> RopeScaling:
        if self.high_turns <= self.low_turns:
            raise ValueError(f"high_turns {self.high_turns:g} must be above low_turns {self.low_turns:g}")
        return self

    def stretch(self, frequencies: Tensor) -> Tensor:
        return stretched_frequencies(frequencies, self.factor, self.low_turns, self.high_turns, self.original_context)


class GPTSettings(BaseModel):
    """The shape of a GPT. `style` chooses the defaults of what is left None.

    gpt2: learned positions, LayerNorm, GELU, biases, tied head (Radford et al. 2019); opens as GPT-2 elsewhere.
    modern: rotary positions, RMSNorm, SwiGLU, grouped queries, QK-norm, no biases; opens as Qwen3 elsewhere, without
    QK-norm as Llama.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    style: Literal["gpt2", "modern"] = "modern"
    layers: int = Field(6, ge=1)
    width: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    key_value_heads: int | None = Field(None, ge=1)
    head_width: int | None = Field(None, ge=2)
    inner: int | None = Field(None, ge=1)  # width of the feed-forward layer
    context: int = Field(256, ge=2)  # tokens
    norm: Literal["layer", "rms", "batch"] | None = None
    tied: bool = True
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    rope_base: float = Field(10_000.0, gt=1.0)
    rope_scaling: RopeScaling | None = None
    qk_norm: bool | None = None
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    feedforward_bias: bool | None = None
    activation: Literal["gelu_tanh", "gelu", "silu", "relu"] | None = None
    norm_epsilon: float | None = Field(None, gt=0.0)

    @model_validator(mode="after")
    def _complete(self) -> GPTSettings:
        if self.head_width is None:
            if self.width % self.heads:
                raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
            self.head_width = self.width // self.heads
        self.key_value_heads = self.key_value_heads or self.heads
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of key_value_heads {self.key_value_heads}")
        if self.style == "gpt2" and (self.key_value_heads != self.heads or self.head_width * self.heads != self.width):
            raise ValueError("style gpt2 has neither grouped queries nor a free head_width; use style modern")
        if self.style == "modern" and self.head_width % 2:
            raise ValueError(f"rotary positions need an even head_width, not {self.head_width}")
        if self.inner is None:
            # SwiGLU has three matrices where GELU has two: 8/3 of the width gives both the same size.
            self.inner = 4 * self.width if self.style == "gpt2" else 16 * math.ceil(self.width * 8 / 3 / 16)
        self._fill()
        return self

    def _fill(self) -> None:
        """What is left None, by the style."""
        gpt2 = self.style == "gpt2"
        self.norm = self.norm or ("layer" if gpt2 else "rms")
        self.norm_epsilon = self.norm_epsilon or (1e-6 if self.norm == "rms" else 1e-5)
        self.activation = self.activation or ("gelu_tanh" if gpt2 else "silu")
        self.qk_norm = not gpt2 if self.qk_norm is None else self.qk_norm
        self.qkv_bias, self.out_bias, self.feedforward_bias = (
            gpt2 if bias is None else bias for bias in (self.qkv_bias, self.out_bias, self.feedforward_bias)
        )


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x): the pre-norm residual block."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        s = settings
        assert s.norm and s.inner and s.head_width and s.key_value_heads and s.norm_epsilon and s.activation
        assert s.qkv_bias is not None and s.feedforward_bias is not None
        self.attention_norm = NORMS[s.norm](s.width, s.norm_epsilon)
        self.attention = SelfAttention(
            s.width,
            s.heads,
            s.key_value_heads,
            s.head_width,
            bias=s.qkv_bias,
            qk_norm=bool(s.qk_norm),
            dropout=s.dropout,
            norm_epsilon=s.norm_epsilon if s.norm == "rms" else 1e-6,
            out_bias=s.out_bias,
        )
        self.feedforward_norm = NORMS[s.norm](s.width, s.norm_epsilon)
        kind = FeedForward if s.style == "gpt2" else GatedFeedForward
        self.feedforward = kind(s.width, s.inner, s.activation, bias=s.feedforward_bias)
        self.dropout = Dropout(s.dropout)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), angles, mask, cache, layer))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class GPT(nn.Module):
    """An autoregressive Transformer (Radford et al. 2018); a `Stepper` and a `Scorer`."""

    family = "gpt"
    likelihood: Likelihood = "exact"
    recurrent = False

    def __init__(self, settings: GPTSettings, vocabulary_size: int) -> None:
        super().__init__()
        self.settings, self.vocabulary_size = settings, vocabulary_size
        self.max_length: int | None = settings.context
        assert settings.norm and settings.head_width and settings.norm_epsilon
        self.embedding = nn.Embedding(vocabulary_size, settings.width)
        gpt2 = settings.style == "gpt2"
        self.position_embedding = nn.Embedding(settings.context, settings.width) if gpt2 else None
        scaling = settings.rope_scaling.stretch if settings.rope_scaling else None
        self.rotary = None if gpt2 else RotaryPositions(settings.head_width, settings.rope_base, scaling)
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = NORMS[settings.norm](settings.width, settings.norm_epsilon)
        self.head = nn.Linear(settings.width, vocabulary_size, bias=False)
        self._initialise()
        if settings.tied:
            self.head.weight = self.embedding.weight

    def _initialise(self) -> None:
        """GPT-2's normal(0, 0.02), residual outputs by 1/√(2·layers); the modern style starts those at zero."""
        gpt2 = self.settings.style == "gpt2"
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                if name.endswith("bias"):
                    nn.init.zeros_(weight)
            elif name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * self.settings.layers) if gpt2 else 0.0)
            elif gpt2 or "embedding" in name or name == "head.weight":
                nn.init.normal_(weight, std=0.02)
            else:
                nn.init.uniform_(weight, -math.sqrt(3 / weight.shape[1]), math.sqrt(3 / weight.shape[1]))

    def hidden(self, ids: Tensor, segments: Tensor | None = None, memory: None = None) -> tuple[Tensor, None]:
        """Last hidden states (B, T, D) of ids (B, T); a Transformer carries no memory from batch to batch.

        segments: (B, T) document numbers along each row; attention and positions stop where they change.
        """
        if ids.shape[1] > self.settings.context and self.position_embedding is not None:
            raise LLMBertError(f"{ids.shape[1]} tokens do not fit this model's context of {self.settings.context}")
        if segments is None:
            positions, mask = torch.arange(ids.shape[1], device=ids.device)[None], None
        else:
            positions, mask = document_positions(segments), document_mask(segments)
        return self._run(ids, positions, mask, None), None

    def _run(self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        x = self.embedding(ids)
        angles = None
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        elif self.rotary is not None:
            cosine, sine = self.rotary.angles(positions)
            angles = cosine[:, None].to(x.dtype), sine[:, None].to(x.dtype)
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, angles, mask, cache, layer)
        return self.norm(x)

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) → logits (B, T, V) float32."""
        return self.head(self.hidden(ids)[0]).float()

    forward = logits

    def start(self, batch: int, condition: Condition | None = None) -> KeyValueCache:
        s = self.settings
        assert s.key_value_heads and s.head_width
        return KeyValueCache(s.layers, batch, s.key_value_heads, s.head_width, self.embedding.weight.detach())

    def step(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """ids (B, T), state of t tokens → logits (B, T, V), state of t+T tokens."""
        x, state = self._take_in(ids, state)
        return self.head(x).float(), state

    def take_in(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """`step`, but logits (B, V) of what follows the last token alone: a prompt's others are nobody's business."""
        x, state = self._take_in(ids, state)
        return self.head(x[:, -1]).float(), state

    def _take_in(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        time = ids.shape[1]
        self.check_reach(state.even_end(time))
        state.reserve(time)
        x = self._run(ids, state.positions(time), state.mask(time), state)
        state.advance(time)
        return x, state

    def check_reach(self, tokens: int) -> None:
        """Raises LLMBertError for more tokens than there are positions."""
        if self.position_embedding is not None and tokens > self.settings.context:
            raise LLMBertError(f"the text outgrew this model's context of {self.settings.context} tokens")

    def token_nats(self, ids, starts, progress: Progress = silent):  # type: ignore[no-untyped-def]
        """Nats of each token with a sliding window of the model's context; see `sliding_window_nats`."""
        return sliding_window_nats(self, ids, starts, self.settings.context, progress=progress)

    @property
    def scoring_signature(self) -> str:
        """How `token_nats` gives context, for a score's signature."""
        from llmbert.models.scoring import window_stride

        return f"sliding-{self.settings.context}-{window_stride(self.settings.context)}"
