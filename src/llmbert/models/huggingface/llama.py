"""GPT in the modern style without QK-norm as LlamaForCausalLM; Mistral and Qwen2, which are the same but for biases.

Qwen2 is read, never written: whatever tokeniser lies beside one, Transformers puts Qwen2's own in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from llmbert.models.gpt import GPT, GPTSettings, RopeScaling
from llmbert.models.huggingface.layout import Layout, Name, linear, refuse, stacked
from llmbert.protocols import LLMBertError

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
}
"""Hugging Face's names of activations and ours; of ours the first name is written."""


def activation_of(title: str, name: Any) -> str:
    """Our name of an activation. Raises LLMBertError for one that is not here."""
    if name not in ACTIVATIONS:
        raise LLMBertError(f"{title} with activation {name!r} cannot be read here; {', '.join(ACTIVATIONS)} can")
    return ACTIVATIONS[name]


def activation_name(ours: str | None) -> str:
    return next(name for name, known in ACTIVATIONS.items() if known == ours)


def fits_modern(
    qk_norm: bool, biases: Collection[tuple[bool, bool]], feedforward_bias: Collection[bool]
) -> Callable[[Any], bool]:
    """Whether a GPT has these parts; biases: of (queries, keys and values; the output)."""

    def fits(model: Any) -> bool:
        if not isinstance(model, GPT) or (model.settings.style, model.settings.norm) != ("modern", "rms"):
            return False
        s = model.settings
        # Llama takes a free head width, but only beside a width that the heads divide.
        return (
            s.qk_norm == qk_norm
            and (s.qkv_bias, s.out_bias) in biases
            and s.feedforward_bias in feedforward_bias
            and (qk_norm or s.width % s.heads == 0)
        )

    return fits


def names_modern(settings: GPTSettings) -> list[Name]:
    """Where the weights of Llama and its kin lie."""
    s = settings
    assert s.head_width and s.key_value_heads and s.inner
    names = [
        Name("embedding.weight", ("model.embed_tokens.weight",)),
        Name("norm.weight", ("model.norm.weight",)),
        Name("head.weight", ("lm_head.weight",)),
    ]
    rows = (s.heads * s.head_width, s.key_value_heads * s.head_width, s.key_value_heads * s.head_width)
    for i in range(s.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        query_key_value = [f"{theirs}.self_attn.{part}_proj" for part in "qkv"]
        gate_up = [f"{theirs}.mlp.{part}_proj" for part in ("gate", "up")]
        bias = bool(s.feedforward_bias)
        names += linear(f"{ours}.attention_norm", f"{theirs}.input_layernorm", bias=False)
        names += stacked(f"{ours}.attention.qkv", query_key_value, rows, bias=bool(s.qkv_bias))
        names += linear(f"{ours}.attention.out", f"{theirs}.self_attn.o_proj", bias=bool(s.out_bias))
        names += linear(f"{ours}.attention.query_norm", f"{theirs}.self_attn.q_norm", bias=False)
        names += linear(f"{ours}.attention.key_norm", f"{theirs}.self_attn.k_norm", bias=False)
        names += linear(f"{ours}.feedforward_norm", f"{theirs}.post_attention_layernorm", bias=False)
        names += stacked(f"{ours}.feedforward.gate_up", gate_up, (s.inner, s.inner), bias=bias)
        names += linear(f"{ours}.feedforward.down", f"{theirs}.mlp.down_proj", bias=bias)
    if not s.qk_norm:
        names = [name for name in names if "query_norm" not in name.ours and "key_norm" not in name.ours]
    return names


def config_modern(architecture: str, model_type: str, model: GPT) -> dict[str, Any]:
    """What `config.json` of Llama and its kin have in common."""
    s = model.settings
    rope = {"rope_type": "default", "rope_theta": s.rope_base, **_scaling_out(s.rope_scaling)}
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": model.vocabulary_size,
        "max_position_embeddings": s.context,
        "hidden_size": s.width,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.key_value_heads,
        "head_dim": s.head_width,
        "intermediate_size": s.inner,
        "hidden_act": activation_name(s.activation),
        "rms_norm_eps": s.norm_epsilon,
        "attention_dropout": s.dropout,
        "rope_theta": s.rope_base,
        "rope_parameters": rope,
        # Where newer readers look into rope_parameters, older ones look here.
        **({"rope_scaling": rope} if s.rope_scaling else {}),
        "tie_word_embeddings": s.tied,
    }


def settings_modern(title: str, config: Mapping[str, Any], **parts: Any) -> GPTSettings:
    """The settings that `config.json` of Llama and its kin have in common, with those in `parts`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    refuse(title, rope, {"partial_rotary_factor": 1.0})
    refuse(title, config, {"partial_rotary_factor": 1.0})
    return GPTSettings(
        style="modern",
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        key_value_heads=config.get("num_key_value_heads"),
        head_width=config.get("head_dim"),
        inner=config["intermediate_size"],
        context=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        dropout=config.get("attention_dropout", 0.0),
        rope_base=rope.get("rope_theta") or config.get("rope_theta") or 10_000.0,
        rope_scaling=_scaling_in(title, rope, config["max_position_embeddings"]),
        activation=activation_of(title, config.get("hidden_act", "silu")),
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        **parts,
    )


def _scaling_out(scaling: RopeScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {}
    if scaling.original_context is None:
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_turns,
        "high_freq_factor": scaling.high_turns,
        "original_max_position_embeddings": scaling.original_context,
    }


def _scaling_in(title: str, rope: Mapping[str, Any], context: int) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(factor=rope["factor"])
    if kind == "llama3":
        return RopeScaling(
            factor=rope["factor"],
            original_context=rope.get("original_max_position_embeddings") or context,
            low_turns=rope["low_freq_factor"],
            high_turns=rope["high_freq_factor"],
        )
    raise LLMBertError(f"{title} with positions scaled by {kind!r} cannot be read here; 'linear' and 'llama3' can")


def _llama_config(model: GPT) -> dict[str, Any]:
    biases = {"attention_bias": bool(model.settings.qkv_bias), "mlp_bias": bool(model.settings.feedforward_bias)}
    return config_modern("LlamaForCausalLM", "llama", model) | biases


def _llama_settings(config: Mapping[str, Any], names: Collection[str]) -> GPTSettings:
    bias = bool(config.get("attention_bias", False))
    parts = {"qk_norm": False, "qkv_bias": bias, "out_bias": bias}
    return settings_modern("Llama", config, **parts, feedforward_bias=bool(config.get("mlp_bias", False)))


def _mistral_settings(config: Mapping[str, Any], names: Collection[str]) -> GPTSettings:
    window, context = config.get("sliding_window"), config["max_position_embeddings"]
    if window is not None and window < context:
        raise LLMBertError(f"Mistral with sliding_window {window} below its {context} positions cannot be read here")
    return settings_modern("Mistral", config, qk_norm=False)


def _qwen2_settings(config: Mapping[str, Any], names: Collection[str]) -> GPTSettings:
    refuse("Qwen2", config, {"use_sliding_window": False})
    return settings_modern("Qwen2", config, qk_norm=False, qkv_bias=True)


_NEEDLESS = ("lm_head.weight", ".inv_freq")
LLAMA = Layout(
    "llama",
    "gpt",
    fits_modern(False, ((False, False), (True, True)), (False, True)),
    _llama_config,
    _llama_settings,
    names_modern,
    needless=_NEEDLESS,
)
MISTRAL, QWEN2 = (
    Layout(kind, "gpt", lambda model: False, _llama_config, settings, names_modern, needless=_NEEDLESS)
    for kind, settings in (("mistral", _mistral_settings), ("qwen2", _qwen2_settings))
)
