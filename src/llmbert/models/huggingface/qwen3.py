"""GPT in the modern style with QK-norm as Qwen3ForCausalLM."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llmbert.models.gpt import GPT, GPTSettings
from llmbert.models.huggingface.layout import Layout, refuse
from llmbert.models.huggingface.llama import config_modern, fits_modern, names_modern, settings_modern


def _config(model: GPT) -> dict[str, Any]:
    own = {"attention_bias": bool(model.settings.qkv_bias), "use_sliding_window": False}
    return config_modern("Qwen3ForCausalLM", "qwen3", model) | own


def _settings(config: Mapping[str, Any], names: Collection[str]) -> GPTSettings:
    refuse("Qwen3", config, {"use_sliding_window": False})
    bias = bool(config.get("attention_bias", False))
    # Without a head_dim Qwen3 takes 128, whatever the width.
    config = {"head_dim": 128, **config}
    return settings_modern("Qwen3", config, qk_norm=True, qkv_bias=bias, out_bias=bias)


QWEN3 = Layout(
    "qwen3",
    "gpt",
    fits_modern(True, ((False, False), (True, True)), (False,)),
    _config,
    _settings,
    names_modern,
    needless=("lm_head.weight", ".inv_freq"),
)
