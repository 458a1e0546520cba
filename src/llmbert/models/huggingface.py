"""Our weights under Hugging Face's names and back, without importing Transformers.

gpt in GPT-2's style is GPT2LMHeadModel, in the modern style Qwen3ForCausalLM; what Hugging Face has no architecture
for keeps our own names under a model_type that begins with "llmbert-".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from llmbert.models import FAMILIES, Family
from llmbert.models.gpt import GPT, GPTSettings
from llmbert.models.recurrent import Recurrent
from llmbert.protocols import LLMBertError

Tensors = dict[str, Tensor]
NEEDLESS = ("head.weight", ".attn.bias", ".attn.masked_bias", ".inv_freq")
"""How tensors end that older files hold beside the weights: a tied head once more, masks, frequencies."""
SPECIAL_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def export_model(model: nn.Module) -> tuple[dict[str, Any], Tensors]:
    """A model's `config.json` and tensors in the layout its ecosystem reads."""
    if isinstance(model, GPT) and (model.settings.style, model.settings.norm) == ("gpt2", "layer"):
        return _gpt2_config(model) | SPECIAL_IDS, _rename_out(model, _gpt2_names(model.settings))
    if isinstance(model, GPT) and (model.settings.style, model.settings.norm) == ("modern", "rms"):
        return _qwen3_config(model) | SPECIAL_IDS, _rename_out(model, _qwen3_names(model.settings))
    if isinstance(model, GPT | Recurrent):
        own = {"model_type": f"llmbert-{model.family}", "vocab_size": model.vocabulary_size}
        return own | {"settings": model.settings.model_dump()} | SPECIAL_IDS, _state(model)
    raise TypeError(type(model).__name__)


def import_model(config: Mapping[str, Any], tensors: Tensors) -> nn.Module:
    """The model that a `config.json` and tensors describe, in evaluation mode.

    Raises LLMBertError where the type is unknown, or a tensor is missing, of another shape or kind, or left over;
    nothing larger than the tensors is allocated before that is known.
    """
    kind = config.get("model_type")
    vocabulary_size = config.get("vocab_size")
    if not isinstance(vocabulary_size, int) or vocabulary_size < 1:
        raise LLMBertError(f"config.json states vocab_size {vocabulary_size!r}; it must be a positive number")
    try:
        family, settings, names = _reader(str(kind), config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = _in_short(error)
        raise LLMBertError(f"config.json of model_type {kind!r} does not describe a model: {why}") from error
    if settings.layers > len(tensors):  # layers take time and memory even where they hold no weights
        raise LLMBertError(f"config.json states {settings.layers} layers, but model.safetensors has too few tensors")
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in _state(family.build(settings, vocabulary_size)).items()}
    own = _rename_in(tensors, names(settings), shapes)
    model = family.build(settings, vocabulary_size)
    model.load_state_dict(own, strict=False)
    return model.eval()


def _reader(kind: str, config: Mapping[str, Any]) -> tuple[Family, Any, Callable[[Any], list[Any]]]:
    """The family, its settings and the names of its tensors."""
    family = FAMILIES.get(kind.removeprefix("llmbert-")) if kind.startswith("llmbert-") else None
    if family and not family.counts:
        return family, family.settings_class()(**config["settings"]), lambda settings: []
    if kind == "gpt2":
        return FAMILIES["gpt"], _gpt2_settings(config), _gpt2_names
    if kind == "qwen3":
        return FAMILIES["gpt"], _qwen3_settings(config), _qwen3_names
    raise LLMBertError(f"model_type {kind!r} is not one that can be read here; gpt2, qwen3 and llmbert-* are")


def _in_short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join([*map(str, first["loc"]), first["msg"]])
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return " ".join(str(error).split())[:200]


def _state(model: nn.Module) -> Tensors:
    """All weights and running averages once: a tied head is left out."""
    tied = getattr(model.settings, "tied", False)
    return {n: t for n, t in model.state_dict().items() if not (tied and n == "head.weight")}


# ---- names: (ours, theirs, transposed), where theirs may be several tensors stacked in ours ------------------------


def _gpt2_names(settings: GPTSettings) -> list[tuple[str, tuple[str, ...], bool]]:
    names: list[tuple[str, tuple[str, ...], bool]] = [
        ("embedding.weight", ("transformer.wte.weight",), False),
        ("position_embedding.weight", ("transformer.wpe.weight",), False),
        ("norm.weight", ("transformer.ln_f.weight",), False),
        ("norm.bias", ("transformer.ln_f.bias",), False),
        ("head.weight", ("lm_head.weight",), False),
    ]
    layers = {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }
    for i in range(settings.layers):
        for ours, theirs in layers.items():
            # GPT-2 holds its maps as Conv1D: (inputs, outputs), the transpose of a Linear.
            linear = "norm" not in ours
            names.append((f"blocks.{i}.{ours}.weight", (f"transformer.h.{i}.{theirs}.weight",), linear))
            names.append((f"blocks.{i}.{ours}.bias", (f"transformer.h.{i}.{theirs}.bias",), False))
    return names


def _qwen3_names(settings: GPTSettings) -> list[tuple[str, tuple[str, ...], bool]]:
    names: list[tuple[str, tuple[str, ...], bool]] = [
        ("embedding.weight", ("model.embed_tokens.weight",), False),
        ("norm.weight", ("model.norm.weight",), False),
        ("head.weight", ("lm_head.weight",), False),
    ]
    layers = {
        "attention_norm": ("input_layernorm",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": ("self_attn.o_proj",),
        "attention.query_norm": ("self_attn.q_norm",),
        "attention.key_norm": ("self_attn.k_norm",),
        "feedforward_norm": ("post_attention_layernorm",),
        "feedforward.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
        "feedforward.down": ("mlp.down_proj",),
    }
    for i in range(settings.layers):
        for ours, theirs in layers.items():
            names.append((f"blocks.{i}.{ours}.weight", tuple(f"model.layers.{i}.{t}.weight" for t in theirs), False))
    return names


def _rename_out(model: GPT, names: list[Any]) -> Tensors:
    state, out = _state(model), {}
    s = model.settings
    assert s.head_width and s.key_value_heads and s.inner
    rows = {3: (s.heads * s.head_width, *(2 * [s.key_value_heads * s.head_width])), 2: (s.inner, s.inner)}
    for ours, theirs, transposed in names:
        if ours not in state:
            continue
        parts = state[ours].split(rows[len(theirs)]) if len(theirs) > 1 else (state[ours],)
        for name, part in zip(theirs, parts, strict=True):
            out[name] = part.T.contiguous() if transposed else part.contiguous()
    return out


def _rename_in(tensors: Tensors, names: list[Any], shapes: Mapping[str, torch.Size]) -> Tensors:
    wanted = names or [(name, (name,), False) for name in shapes]
    own: Tensors = {}
    used: set[str] = set()
    for ours, theirs, transposed in wanted:
        if ours not in shapes:
            continue
        missing = [name for name in theirs if name not in tensors]
        if missing:
            raise LLMBertError(f"model.safetensors has no tensor {missing[0]!r} that its config.json asks for")
        parts = [tensors[name].T if transposed else tensors[name] for name in theirs]
        if any(not part.is_floating_point() for part in parts):
            raise LLMBertError(f"model.safetensors holds {theirs[0]!r} as {parts[0].dtype}, which is no weight's type")
        if any(part.dim() != len(shapes[ours]) or part.shape[1:] != shapes[ours][1:] for part in parts) or (
            sum(len(part) for part in parts) != shapes[ours][0] if shapes[ours] else False
        ):
            raise LLMBertError(
                f"model.safetensors holds {theirs[0]!r} of shape {tuple(tensors[theirs[0]].shape)}, which does not fit "
                f"its config.json"
            )
        own[ours] = torch.cat(parts) if len(parts) > 1 else parts[0]
        used.update(theirs)
    over = [name for name in tensors if name not in used and not name.endswith(NEEDLESS)]
    if over:
        raise LLMBertError(f"model.safetensors holds {over[0]!r}, for which its config.json has no place")
    return own


# ---- settings ------------------------------------------------------------------------------------------------------


def _gpt2_config(model: GPT) -> dict[str, Any]:
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
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": s.dropout,
        "embd_pdrop": s.dropout,
        "resid_pdrop": s.dropout,
        "tie_word_embeddings": s.tied,
    }


def _gpt2_settings(config: Mapping[str, Any]) -> GPTSettings:
    if config.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
        raise LLMBertError(f"GPT-2 with activation {config['activation_function']!r} cannot be read here; gelu_new can")
    if config.get("layer_norm_epsilon", 1e-5) != 1e-5 or not config.get("scale_attn_weights", True):
        raise LLMBertError(
            "GPT-2 with another layer_norm_epsilon than 1e-5, or unscaled attention, cannot be read here"
        )
    return GPTSettings(
        style="gpt2",
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        inner=config.get("n_inner"),
        context=config["n_positions"],
        tied=config.get("tie_word_embeddings", True),
        dropout=config.get("resid_pdrop", 0.0),
    )


def _qwen3_config(model: GPT) -> dict[str, Any]:
    s = model.settings
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": model.vocabulary_size,
        "max_position_embeddings": s.context,
        "hidden_size": s.width,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.key_value_heads,
        "head_dim": s.head_width,
        "intermediate_size": s.inner,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "attention_dropout": s.dropout,
        "rope_theta": s.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": s.rope_base},
        "tie_word_embeddings": s.tied,
        "use_sliding_window": False,
    }


def _qwen3_settings(config: Mapping[str, Any]) -> GPTSettings:
    rope = config.get("rope_parameters") or {}
    odd = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6) != 1e-6,
        "attention_bias": bool(config.get("attention_bias")),
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "rope_parameters": rope.get("rope_type", "default") != "default" or bool(config.get("rope_scaling")),
    }
    for key, off in odd.items():
        if off:
            raise LLMBertError(f"Qwen3 with {key} {config.get(key)!r} cannot be read here")
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
        rope_base=rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
    )
