"""Heads on a trunk as BertForSequenceClassification, BertForTokenClassification and RoBERTa's, else under our names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from llmbert.models.headed import Headed, HeadedSettings, HeadSettings, TagHead, TextHead, with_places
from llmbert.models.huggingface.bert import BERT_LAYOUTS
from llmbert.models.huggingface.layout import Layout, Name, Tensors, linear, refuse_endless, rename_in, rename_out
from llmbert.nn.state import fill, state_once, unfilled
from llmbert.protocols import LLMBertError

OWN_TYPE = "llmbert-headed"
_LAYOUTS: dict[str, Layout] = {layout.model_type: layout for layout in BERT_LAYOUTS}
HEAD_NAME = "llmbert_head"  # in a config.json, what a head is called where that is not its task
_CLASS_NAMES = {"bert": "Bert", "roberta": "Roberta"}
_TEXT, _TOKENS = "ForSequenceClassification", "ForTokenClassification"
_PROBLEMS = {
    "classify": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regress": "regression",
}


def is_headed(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` describes a trunk with heads that can be read here."""
    return config.get("model_type") == OWN_TYPE or (config.get("model_type") in _LAYOUTS and bool(_part(config)))


def _part(config: Mapping[str, Any]) -> str | None:
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    return next((part for part in (_TEXT, _TOKENS) if name.endswith(part)), None)


def export_headed(model: Headed) -> tuple[dict[str, Any], Tensors]:
    """`config.json` and tensors: as Hugging Face has them where there is one head of a form it knows on a BERT."""
    layout = _fitting(model)
    if layout is None:
        settings = model.settings.model_dump(mode="json")
        return {"model_type": OWN_TYPE, "vocab_size": model.vocabulary_size, "settings": settings}, state_once(model)
    (name, head), *_ = model.settings.heads.items()
    config = layout.config(_Trunk(model))
    config["architectures"] = [_CLASS_NAMES[layout.model_type] + (_TOKENS if head.task == "tag" else _TEXT)]
    labels = head.labels or ("value",)
    config |= {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "classifier_dropout": head.dropout,
    }
    config |= {HEAD_NAME: name} if name != head.task else {}
    if head.task != "tag":
        config["problem_type"] = _PROBLEMS[head.task]
    return config, rename_out(_unscaled(model, name, head), _names(layout, model.settings))


class _Trunk:
    """What a layout asks of a BERT to describe it, told by the trunk of a headed model."""

    def __init__(self, model: Headed) -> None:
        self.settings, self.vocabulary_size = model.trunk.settings, model.vocabulary_size


def _fitting(model: Headed) -> Layout | None:
    layout = _LAYOUTS.get(model.settings.trunk_settings.get("style", "")) if model.settings.trunk == "bert" else None
    heads = list(model.heads.values())
    if layout is None or len(heads) != 1:
        return None
    head = heads[0]
    fits = head.crf is None if isinstance(head, TagHead) else isinstance(head, TextHead) and head.pooling == "first"
    return layout if fits else None


def _names(layout: Layout, settings: HeadedSettings) -> list[Name]:
    ((head_name, head),) = settings.heads.items()
    ours = f"heads.{head_name}"
    trunk = [replace(name, ours=f"trunk.{name.ours}") for name in layout.names(settings.build_trunk_settings())]
    if head.task == "tag":
        return trunk + linear(f"{ours}.out", "classifier")
    # The pooler is the trunk's in BERT, a part of the head in RoBERTa; here always the head's.
    trunk = [name for name in trunk if not name.ours.startswith("trunk.pooler.")]
    if layout.model_type == "roberta":
        return [*trunk, *linear(f"{ours}.pooler", "classifier.dense"), *linear(f"{ours}.out", "classifier.out_proj")]
    return [*trunk, *linear(f"{ours}.pooler", "bert.pooler.dense"), *linear(f"{ours}.out", "classifier")]


def _unscaled(model: Headed, name: str, head: HeadSettings) -> Tensors:
    """The weights, with the unit of a number's head worked into its last map."""
    state: dict[str, Tensor] = state_once(model)
    if head.task == "regress":
        weight, bias = f"heads.{name}.out.weight", f"heads.{name}.out.bias"
        state |= {weight: state[weight] * head.scale, bias: state[bias] * head.scale + head.shift}
    return state


def import_headed(config: Mapping[str, Any], tensors: Tensors, given: bool) -> Headed:
    """The trunk and heads that a `config.json` and tensors describe, in evaluation mode; given: as in `import_model`.

    Raises LLMBertError where they do not fit together, or describe what cannot be read here.
    """
    kind = str(config.get("model_type"))
    vocabulary_size = config.get("vocab_size")
    if not isinstance(vocabulary_size, int) or vocabulary_size < 1:
        raise LLMBertError(f"config.json states vocab_size {vocabulary_size!r}; it must be a positive number")
    layout = _LAYOUTS.get(kind)
    tensors = layout.renewed(tensors) if layout else tensors
    try:
        if layout:
            settings = _foreign_settings(layout, config, tensors)
        else:
            settings = HeadedSettings(**with_places(config["settings"]))
    except ValidationError as error:
        first = error.errors()[0]
        why = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise LLMBertError(f"config.json of model_type {kind!r} does not describe a model: {why}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LLMBertError(f"config.json of model_type {kind!r} does not describe a model: {error}") from error
    refuse_endless(settings.build_trunk_settings(), len(tensors))
    with torch.device("meta"), unfilled():
        bare = Headed(settings, vocabulary_size)
    shapes = {name: weight.shape for name, weight in state_once(bare).items()}
    names = _names(layout, bare.settings) if layout else [Name(name, (name,)) for name in shapes]
    needless = (*layout.needless, "pooler.dense.weight", "pooler.dense.bias") if layout else ()
    own = rename_in(tensors, names, shapes, needless)
    if given:
        tensors.clear()
    with unfilled() if own.keys() >= shapes.keys() else nullcontext():
        model = Headed(settings, vocabulary_size)
    fill(model, own, given)
    return model.eval()


def _foreign_settings(layout: Layout, config: Mapping[str, Any], tensors: Tensors) -> HeadedSettings:
    trunk = layout.settings(config, tensors).model_dump()
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    labels = tuple(str(label) for _, label in sorted(named.items(), key=lambda pair: int(pair[0])))
    dropout = config.get("classifier_dropout")
    dropout = config.get("hidden_dropout_prob", 0.1) if dropout is None else dropout
    if _part(config) == _TOKENS:
        head = HeadSettings(task="tag", labels=labels, crf=False, dropout=dropout)
    else:
        problem = config.get("problem_type") or _PROBLEMS["regress" if len(labels) == 1 else "classify"]
        task: Any = next((task for task, name in _PROBLEMS.items() if name == problem), None)
        if task is None:
            raise LLMBertError(f"a head of problem_type {problem!r} cannot be read here")
        labels = () if task == "regress" else labels
        head = HeadSettings(task=task, labels=labels, pooling="first", dropout=dropout)
    name = config.get(HEAD_NAME)
    return HeadedSettings(trunk="bert", trunk_settings=trunk, heads={str(name) if name else head.task: head})
