"""BERT as BertForPreTraining, BertForMaskedLM or BertModel, and as RobertaForMaskedLM or RobertaModel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmbert.models.bert import BERT, BERTSettings
from llmbert.models.huggingface.layout import Layout, Name, linear, refuse, stacked
from llmbert.protocols import LLMBertError

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Their names of activations → ours; ours is written as the first of its names."""


@dataclass(frozen=True)
class _Kind:
    """What differs between the two: the prefix of the bare model, the parts of the masked-LM head, class names."""

    style: Literal["bert", "roberta"]
    base: str
    dense: str
    norm: str
    bias: str
    decoder: str
    name: str

    def skipped(self, padding_id: int) -> int:
        """Rows at the front of the position table that no token reads: RoBERTa counts from behind its padding's id."""
        return padding_id + 1 if self.style == "roberta" else 0


_TASKS = {
    (True, True): "ForPreTraining",
    (True, False): "ForMaskedLM",
    (False, True): "ForNextSentencePrediction",
    (False, False): "Model",
}
_HEAD = "cls.predictions"
_BERT = _Kind(
    "bert",
    "bert.",
    f"{_HEAD}.transform.dense",
    f"{_HEAD}.transform.LayerNorm",
    f"{_HEAD}.bias",
    f"{_HEAD}.decoder",
    "Bert",
)
_ROBERTA = _Kind(
    "roberta", "roberta.", "lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder", "Roberta"
)


def _names(kind: _Kind) -> Callable[[BERTSettings], list[Name]]:
    def names(s: BERTSettings) -> list[Name]:
        embeddings = f"{kind.base}embeddings"
        positions = f"{embeddings}.position_embeddings.weight"
        found = [
            Name("embedding.weight", (f"{embeddings}.word_embeddings.weight",)),
            Name("position_embedding.weight", (positions,), skip=kind.skipped(s.padding_id)),
            Name("type_embedding.weight", (f"{embeddings}.token_type_embeddings.weight",)),
            *linear("embedding_norm", f"{embeddings}.LayerNorm"),
            *linear("pooler", f"{kind.base}pooler.dense"),
            *linear("transform.dense", kind.dense),
            *linear("transform.norm", kind.norm),
            *linear("next_sentence", "cls.seq_relationship"),
            Name("head.weight", (f"{kind.decoder}.weight",)),
            # Transformers reads the decoder's own bias where nothing is tied, and shares it with this one elsewhere.
            Name("head.bias", (kind.bias if s.tied else f"{kind.decoder}.bias",)),
        ]
        for i in range(s.layers):
            found += _layer_names(f"blocks.{i}", f"{kind.base}encoder.layer.{i}", s.width)
        return found

    return names


def _layer_names(ours: str, theirs: str, width: int) -> list[Name]:
    query_key_value = [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")]
    return [
        *stacked(f"{ours}.attention.qkv", query_key_value, (width,) * 3, bias=True),
        *linear(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *linear(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm"),
        *linear(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense"),
        *linear(f"{ours}.feedforward.down", f"{theirs}.output.dense"),
        *linear(f"{ours}.feedforward_norm", f"{theirs}.output.LayerNorm"),
    ]


def _config(kind: _Kind) -> Callable[[BERT], dict[str, Any]]:
    def config(model: BERT) -> dict[str, Any]:
        s = model.settings
        heads = (s.masked, s.next_sentence)
        own = {
            "architectures": [kind.name + _TASKS[heads]],
            "model_type": kind.style,
            "vocab_size": model.vocabulary_size,
            "hidden_size": s.width,
            "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads,
            "intermediate_size": s.inner,
            "max_position_embeddings": s.context + kind.skipped(s.padding_id),
            "type_vocab_size": s.types,
            "hidden_act": next(theirs for theirs, ours in ACTIVATIONS.items() if ours == s.activation),
            "layer_norm_eps": s.norm_epsilon,
            "hidden_dropout_prob": s.dropout,
            "attention_probs_dropout_prob": s.dropout,
            "tie_word_embeddings": s.tied,
            "pad_token_id": s.padding_id,
        }
        return own if s.mask_id is None else own | {"mask_token_id": s.mask_id}

    return config


def _settings(kind: _Kind) -> Callable[[Mapping[str, Any], Collection[str]], BERTSettings]:
    def settings(config: Mapping[str, Any], names: Collection[str]) -> BERTSettings:
        refuse(kind.name, config, {"position_embedding_type": "absolute"})
        refuse(kind.name, config, {"is_decoder": False, "add_cross_attention": False})
        activation = config.get("hidden_act", "gelu")
        if activation not in ACTIVATIONS:
            raise LLMBertError(
                f"{kind.name} with hidden_act {activation!r} cannot be read here; {', '.join(ACTIVATIONS)} can"
            )
        padding = config.get("pad_token_id")
        if padding is None:
            padding = 0 if kind.style == "bert" else 1
        return BERTSettings.model_validate(
            {
                "style": kind.style,
                "layers": config["num_hidden_layers"],
                "width": config["hidden_size"],
                "heads": config["num_attention_heads"],
                "inner": config["intermediate_size"],
                "context": config["max_position_embeddings"] - kind.skipped(padding),
                "types": config.get("type_vocab_size", 2),
                "activation": ACTIVATIONS[activation],
                "norm_epsilon": config.get("layer_norm_eps", 1e-12),
                "dropout": config.get("hidden_dropout_prob", 0.1),
                "tied": config.get("tie_word_embeddings", True),
                "masked": any(name.startswith(kind.dense) for name in names),
                "pooler": any(name.endswith("pooler.dense.weight") for name in names),
                "next_sentence": any(name.startswith("cls.seq_relationship.") for name in names),
                "mask_id": config.get("mask_token_id"),
                "padding_id": padding,
            }
        )

    return settings


def _layout(kind: _Kind) -> Layout:
    # A tied head is written twice by older versions; position_ids were a buffer once.
    again = (f"{kind.decoder}.weight", f"{kind.decoder}.bias", kind.bias, "embeddings.position_ids")
    return Layout(
        kind.style,
        "bert",
        lambda model: isinstance(model, BERT) and model.settings.style == kind.style,
        _config(kind),
        _settings(kind),
        _names(kind),
        base=kind.base,
        needless=again,
        older=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
    )


BERT_LAYOUTS = (_layout(_BERT), _layout(_ROBERTA))
