"""GPT in GPT-2's style as GPT2LMHeadModel."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llmbert.models.gpt import GPT, GPTSettings
from llmbert.models.huggingface.layout import Layout, Name, linear, refuse
from llmbert.models.huggingface.llama import activation_of


def _fits(model: Any) -> bool:
    if not isinstance(model, GPT) or (model.settings.style, model.settings.norm) != ("gpt2", "layer"):
        return False
    s = model.settings
    return bool(s.qkv_bias and s.out_bias and s.feedforward_bias) and not s.qk_norm


def _names(settings: GPTSettings) -> list[Name]:
    names = [
        Name("embedding.weight", ("transformer.wte.weight",)),
        Name("position_embedding.weight", ("transformer.wpe.weight",)),
        *linear("norm", "transformer.ln_f"),
        Name("head.weight", ("lm_head.weight",)),
    ]
    for i in range(settings.layers):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        names += linear(f"{ours}.attention_norm", f"{theirs}.ln_1")
        names += linear(f"{ours}.feedforward_norm", f"{theirs}.ln_2")
        # GPT-2 holds its maps as Conv1D: (inputs, outputs), the transpose of a Linear.
        names += linear(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", transposed=True)
        names += linear(f"{ours}.attention.out", f"{theirs}.attn.c_proj", transposed=True)
        names += linear(f"{ours}.feedforward.up", f"{theirs}.mlp.c_fc", transposed=True)
        names += linear(f"{ours}.feedforward.down", f"{theirs}.mlp.c_proj", transposed=True)
    return names


def _config(model: GPT) -> dict[str, Any]:
    s = model.settings
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocabulary_size,
        "n_positions": s.context,
        "n_embd": s.width,
        "n_layer": s.layers,
        "n_head": s.heads,
        "n_inner": s.inner,
        "activation_function": "gelu_new" if s.activation == "gelu_tanh" else s.activation,
        "layer_norm_epsilon": s.norm_epsilon,
        "attn_pdrop": s.dropout,
        "embd_pdrop": s.dropout,
        "resid_pdrop": s.dropout,
        "tie_word_embeddings": s.tied,
    }


def _settings(config: Mapping[str, Any], names: Collection[str]) -> GPTSettings:
    refuse("GPT-2", config, {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False})
    refuse("GPT-2", config, {"add_cross_attention": False})
    return GPTSettings(
        style="gpt2",
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        inner=config.get("n_inner"),
        context=config["n_positions"],
        tied=config.get("tie_word_embeddings", True),
        dropout=config.get("resid_pdrop", 0.0),
        activation=activation_of("GPT-2", config.get("activation_function", "gelu_new")),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
    )


GPT2 = Layout(
    "gpt2",
    "gpt",
    _fits,
    _config,
    _settings,
    _names,
    base="transformer.",
    needless=("lm_head.weight", ".attn.bias", ".attn.masked_bias"),
)
