"""The Transformer encoder-decoder as Marian, Pegasus, BART or mBART, which differ in positions and norms alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from llmbert.models.huggingface.layout import Layout, Name, linear, refuse, stacked
from llmbert.models.transformer import Transformer, TransformerSettings

HEAD_BIAS = "final_logits_bias"


@dataclass(frozen=True)
class _Kind:
    """What makes one of the four: skip: rows before the first position that is used (BART counts from 2)."""

    model_type: str
    architecture: str
    positions: str
    norm_first: bool
    embedding_norm: bool
    skip: int = 0

    @property
    def norms(self) -> tuple[str, bool, bool]:
        return self.positions, self.norm_first, self.embedding_norm


KINDS = (
    _Kind("marian", "MarianMTModel", "sinusoidal", False, False),
    _Kind("pegasus", "PegasusForConditionalGeneration", "sinusoidal", True, False),
    _Kind("bart", "BartForConditionalGeneration", "learned", False, True, skip=2),
    _Kind("mbart", "MBartForConditionalGeneration", "learned", True, True, skip=2),
)


def _fits(kind: _Kind) -> Callable[[Any], bool]:
    def fits(model: Any) -> bool:
        if not isinstance(model, Transformer):
            return False
        s = model.settings
        norms = (s.positions, s.norm_first, s.embedding_norm)
        return norms == kind.norms and s.tied != "target" and s.norm_epsilon == 1e-5 and not s.pointer

    return fits


def _config(kind: _Kind) -> Callable[[Transformer], dict[str, Any]]:
    def config(model: Transformer) -> dict[str, Any]:
        s = model.settings
        sides = {
            f"{side}_{key}": value
            for side, layers in (("encoder", s.layers), ("decoder", s.decoder_layers))
            for key, value in (("layers", layers), ("attention_heads", s.heads), ("ffn_dim", s.inner))
        }
        tied = s.tied == "all"
        return {
            "architectures": [kind.architecture],
            "model_type": kind.model_type,
            "is_encoder_decoder": True,
            "vocab_size": model.vocabulary_size,
            "decoder_vocab_size": model.vocabulary_size,
            "max_position_embeddings": s.context,
            "d_model": s.width,
            **sides,
            "activation_function": s.activation,
            "scale_embedding": s.scale_embedding,
            "dropout": s.dropout,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "tie_word_embeddings": tied,
            "share_encoder_decoder_embeddings": tied,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
        }

    return config


def _settings(kind: _Kind) -> Callable[[Mapping[str, Any], Collection[str]], TransformerSettings]:
    def settings(config: Mapping[str, Any], names: Collection[str]) -> TransformerSettings:
        title = kind.architecture
        refuse(title, config, {"decoder_attention_heads": config["encoder_attention_heads"]})
        refuse(title, config, {"decoder_ffn_dim": config["encoder_ffn_dim"]})
        refuse(title, config, {"decoder_vocab_size": config["vocab_size"]})
        tied = config.get("tie_word_embeddings", True)
        activation = config.get("activation_function", "gelu")
        return TransformerSettings(
            layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            width=config["d_model"],
            heads=config["encoder_attention_heads"],
            inner=config["encoder_ffn_dim"],
            context=config["max_position_embeddings"],
            positions=kind.positions,
            norm_first=kind.norm_first,
            embedding_norm=kind.embedding_norm,
            scale_embedding=config.get("scale_embedding", False),
            tied="all" if tied else "none",
            activation={"swish": "silu"}.get(activation, activation),
            dropout=config.get("dropout", 0.1),
        )

    return settings


def _names(kind: _Kind) -> Callable[[TransformerSettings], list[Name]]:
    def names(s: TransformerSettings) -> list[Name]:
        assert s.decoder_layers
        found = [
            Name(
                "embedding.weight", ("model.shared.weight" if s.tied == "all" else "model.encoder.embed_tokens.weight",)
            ),
            Name("decoder.embedding.weight", ("model.decoder.embed_tokens.weight",)),
            Name("head.weight", ("lm_head.weight",)),
            Name("head.bias", (HEAD_BIAS,), row=True),
        ]
        for side, layers in (("encoder", s.layers), ("decoder", s.decoder_layers)):
            theirs = f"model.{side}"
            positions = f"{theirs}.embed_positions.weight"
            found.append(Name(f"{side}.position_embedding.weight", (positions,), skip=kind.skip))
            found += linear(f"{side}.embedding_norm", f"{theirs}.layernorm_embedding")
            found += linear(f"{side}.norm", f"{theirs}.layer_norm")
            for i in range(layers):
                found += _layer_names(f"{side}.layers.{i}", f"{theirs}.layers.{i}", s.width)
        return found

    return names


def _layer_names(ours: str, theirs: str, width: int) -> list[Name]:
    three = [f"{theirs}.self_attn.{part}_proj" for part in "qkv"]
    two = [f"{theirs}.encoder_attn.{part}_proj" for part in "kv"]
    return [
        *stacked(f"{ours}.attention.qkv", three, (width,) * 3, bias=True),
        *linear(f"{ours}.attention.out", f"{theirs}.self_attn.out_proj"),
        *linear(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm"),
        *linear(f"{ours}.cross.query", f"{theirs}.encoder_attn.q_proj"),
        *stacked(f"{ours}.cross.key_value", two, (width,) * 2, bias=True),
        *linear(f"{ours}.cross.out", f"{theirs}.encoder_attn.out_proj"),
        *linear(f"{ours}.cross_norm", f"{theirs}.encoder_attn_layer_norm"),
        *linear(f"{ours}.feedforward.up", f"{theirs}.fc1"),
        *linear(f"{ours}.feedforward.down", f"{theirs}.fc2"),
        *linear(f"{ours}.feedforward_norm", f"{theirs}.final_layer_norm"),
    ]


ENCODER_DECODERS = tuple(
    Layout(
        kind.model_type,
        "transformer",
        _fits(kind),
        _config(kind),
        _settings(kind),
        _names(kind),
        needless=("shared.weight", "embed_tokens.weight", "lm_head.weight")
        + (("embed_positions.weight",) if kind.positions == "sinusoidal" else ()),
    )
    for kind in KINDS
)
