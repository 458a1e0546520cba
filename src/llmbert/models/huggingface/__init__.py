"""Our weights under Hugging Face's names and back, without importing Transformers: a file per architecture.

What Hugging Face has no architecture for keeps our own names under a model_type that begins with "llmbert-".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from llmbert.models import FAMILIES
from llmbert.models.headed import Headed
from llmbert.models.huggingface.bart import ENCODER_DECODERS
from llmbert.models.huggingface.bert import BERT_LAYOUTS
from llmbert.models.huggingface.gpt2 import GPT2
from llmbert.models.huggingface.heads import export_headed, import_headed, is_headed
from llmbert.models.huggingface.layout import Layout, Name, Tensors, refuse_endless, rename_in, rename_out
from llmbert.models.huggingface.llama import LLAMA, MISTRAL, QWEN2
from llmbert.models.huggingface.qwen3 import QWEN3
from llmbert.models.huggingface.t5 import T5_LAYOUTS
from llmbert.nn.state import fill, state_once, unfilled
from llmbert.protocols import LLMBertError

__all__ = ["LAYOUTS", "export_model", "import_model"]

SPECIAL_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
OWN = "llmbert-"  # how a model_type of our own begins

LAYOUTS: dict[str, Layout] = {
    layout.model_type: layout
    for layout in (GPT2, QWEN3, LLAMA, QWEN2, MISTRAL, *ENCODER_DECODERS, *T5_LAYOUTS, *BERT_LAYOUTS)
}
"""The architectures that are read and written; a model is written as the first one that it fits."""


def export_model(model: Any) -> tuple[dict[str, Any], Tensors]:
    """A model's `config.json` and tensors in the layout its ecosystem reads."""
    if isinstance(model, Headed):
        config, tensors = export_headed(model)
        return SPECIAL_IDS | config, tensors
    for layout in LAYOUTS.values():
        if layout.fits(model):
            return SPECIAL_IDS | layout.config(model), rename_out(state_once(model), layout.names(model.settings))
    own = {"model_type": OWN + model.family, "vocab_size": model.vocabulary_size}
    return own | {"settings": model.settings.model_dump()} | SPECIAL_IDS, state_once(model)


def import_model(config: Mapping[str, Any], tensors: Tensors, given: bool = False) -> nn.Module:
    """The model that a `config.json` and tensors describe, in evaluation mode.

    given: the tensors are given away, and `tensors` is empty afterwards; the model keeps those that fit as its weights
    instead of copies, so that no weight is in memory twice.
    Raises LLMBertError where the type is unknown, or a tensor is missing, of another shape or kind, or left over;
    nothing larger than the tensors is allocated before that is known.
    """
    if is_headed(config):
        return import_headed(config, tensors, given)
    kind = str(config.get("model_type"))
    vocabulary_size = config.get("vocab_size")
    if not isinstance(vocabulary_size, int) or vocabulary_size < 1:
        raise LLMBertError(f"config.json states vocab_size {vocabulary_size!r}; it must be a positive number")
    layout = LAYOUTS.get(kind)
    family = FAMILIES.get(layout.family if layout else kind.removeprefix(OWN) if kind.startswith(OWN) else "")
    if family is None or family.counts:
        known = ", ".join(LAYOUTS)
        raise LLMBertError(f"model_type {kind!r} is not one that can be read here; {known} and {OWN}* are")
    whole, tensors = tensors, layout.renewed(tensors) if layout else tensors
    try:
        settings = layout.settings(config, tensors) if layout else family.settings_class()(**config["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = _in_short(error)
        raise LLMBertError(f"config.json of model_type {kind!r} does not describe a model: {why}") from error
    refuse_endless(settings, len(tensors))
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in state_once(family.build(settings, vocabulary_size)).items()}
    names = _based(layout, layout.names(settings), tensors) if layout else [Name(name, (name,)) for name in shapes]
    own = rename_in(tensors, names, shapes, layout.needless if layout else ("head.weight",))
    if given:
        tensors.clear()
        whole.clear()
    with unfilled() if own.keys() >= shapes.keys() else nullcontext():
        model = family.build(settings, vocabulary_size)
    fill(model, own, given)
    return model.eval()


def _based(layout: Layout, names: list[Name], tensors: Collection[str]) -> list[Name]:
    """The names as a file of the bare model has them, where it leaves out the layout's prefix."""
    if not layout.base or any(name.startswith(layout.base) for name in tensors):
        return names
    return [replace(name, theirs=tuple(t.removeprefix(layout.base) for t in name.theirs)) for name in names]


def _in_short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join([*map(str, first["loc"]), first["msg"]])
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return " ".join(str(error).split())[:200]
