"""T5 as T5ForConditionalGeneration, v1.0 and v1.1, and mT5's checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from llmbert.models.huggingface.layout import Layout, Name, linear, refuse, stacked
from llmbert.models.t5 import T5, T5Settings
from llmbert.protocols import LLMBertError

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu"}
"""Their name of an activation: ours. Their "gated-gelu" alone means the tanh approximation, as its checkpoints do."""
CONTEXT = 512  # what the published models were trained on


def _fits(model: Any) -> bool:
    """Not a gated one with the exact GELU: what Hugging Face calls "gated-gelu" is the other."""
    return isinstance(model, T5) and not (model.settings.gated and model.settings.activation == "gelu")


def _names(settings: T5Settings) -> list[Name]:
    assert settings.decoder_layers
    return [
        Name("embedding.weight", ("shared.weight",)),
        Name("head.weight", ("lm_head.weight",)),
        *_stack_names(settings, "encoder", settings.layers),
        *_stack_names(settings, "decoder", settings.decoder_layers),
    ]


def _stack_names(s: T5Settings, side: str, layers: int) -> list[Name]:
    assert s.head_width and s.inner
    table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    names = [
        Name(f"{side}.positions.table.weight", (table,)),
        *linear(f"{side}.norm", f"{side}.final_layer_norm", bias=False),
    ]
    rows = s.heads * s.head_width
    for i in range(layers):
        ours, theirs = f"{side}.blocks.{i}", f"{side}.block.{i}.layer"
        own, cross, last = f"{theirs}.0.SelfAttention", f"{theirs}.1.EncDecAttention", 1 if side == "encoder" else 2
        names += linear(f"{ours}.attention_norm", f"{theirs}.0.layer_norm", bias=False)
        names += stacked(f"{ours}.attention.qkv", [f"{own}.{part}" for part in "qkv"], (rows,) * 3, bias=False)
        names += linear(f"{ours}.attention.out", f"{own}.o", bias=False)
        if side == "decoder":
            names += linear(f"{ours}.cross_norm", f"{theirs}.1.layer_norm", bias=False)
            names += linear(f"{ours}.cross.query", f"{cross}.q", bias=False)
            names += stacked(f"{ours}.cross.key_value", [f"{cross}.{part}" for part in "kv"], (rows,) * 2, bias=False)
            names += linear(f"{ours}.cross.out", f"{cross}.o", bias=False)
        names += linear(f"{ours}.feedforward_norm", f"{theirs}.{last}.layer_norm", bias=False)
        inner = f"{theirs}.{last}.DenseReluDense"
        names += linear(f"{ours}.feedforward.down", f"{inner}.wo", bias=False)
        if s.gated:
            gate_up = [f"{inner}.wi_0", f"{inner}.wi_1"]
            names += stacked(f"{ours}.feedforward.gate_up", gate_up, (s.inner,) * 2, bias=False)
        else:
            names += linear(f"{ours}.feedforward.up", f"{inner}.wi", bias=False)
    return names


def _config(model: T5) -> dict[str, Any]:
    s = model.settings
    activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == s.activation)
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": model.vocabulary_size,
        "d_model": s.width,
        "d_kv": s.head_width,
        "d_ff": s.inner,
        "num_layers": s.layers,
        "num_decoder_layers": s.decoder_layers,
        "num_heads": s.heads,
        "n_positions": s.context,
        "relative_attention_num_buckets": s.buckets,
        "relative_attention_max_distance": s.max_distance,
        "feed_forward_proj": _projection(activation, bool(s.gated)),
        "dropout_rate": s.dropout,
        "layer_norm_epsilon": s.norm_epsilon,
        "tie_word_embeddings": s.tied,
        "scale_decoder_outputs": s.scaled,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 2,
    }


def _projection(activation: str, gated: bool) -> str:
    if not gated:
        return activation
    return "gated-gelu" if activation == "gelu_new" else f"gated-{activation}"


def _settings(config: Mapping[str, Any], names: Collection[str]) -> T5Settings:
    if not any(name.startswith("decoder.block.") for name in names):
        raise LLMBertError("T5 without a decoder (T5EncoderModel) cannot be read here; T5ForConditionalGeneration can")
    projection = config.get("feed_forward_proj", "relu")
    gated = projection.startswith("gated-")
    activation = "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
    refuse("T5", {"feed_forward_proj": activation}, {"feed_forward_proj": tuple(ACTIVATIONS)})
    stated = config.get("tie_word_embeddings", True)
    return T5Settings(
        style="v1.1" if gated else "v1.0",
        layers=config["num_layers"],
        decoder_layers=config.get("num_decoder_layers"),
        width=config["d_model"],
        heads=config["num_heads"],
        head_width=config["d_kv"],
        inner=config["d_ff"],
        context=config.get("n_positions", CONTEXT),
        buckets=config.get("relative_attention_num_buckets", 32),
        max_distance=config.get("relative_attention_max_distance", 128),
        gated=gated,
        activation=ACTIVATIONS[activation],
        tied=_tied(names, stated),
        scaled=config.get("scale_decoder_outputs", stated),
        dropout=config.get("dropout_rate", 0.0),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
    )


def _tied(tensors: Collection[str], stated: bool) -> bool:
    """Whether the head is the embedding. Newer configs state true always, so where there are two, they decide."""
    if "lm_head.weight" not in tensors:
        return stated
    if not isinstance(tensors, Mapping) or "shared.weight" not in tensors:
        return False
    head, embedding = tensors["lm_head.weight"], tensors["shared.weight"]
    return head.dtype == embedding.dtype and torch.equal(head, embedding)


def _mt5_settings(config: Mapping[str, Any], names: Collection[str]) -> T5Settings:
    """mT5 has another word for the same: a gated T5 v1.1 whose head is never scaled."""
    return _settings({"feed_forward_proj": "gated-gelu", **config, "scale_decoder_outputs": False}, names)


_T5 = Layout(
    "t5",
    "t5",
    _fits,
    _config,
    _settings,
    _names,
    needless=(
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
        ".EncDecAttention.relative_attention_bias.weight",  # the first checkpoints hold one that nothing reads
    ),
)
T5_LAYOUTS = (_T5, replace(_T5, model_type="mt5", fits=lambda model: False, settings=_mt5_settings))
"""T5, read and written, and mT5, only read."""
