"""Runs of random weights, far from the cautious ones that a training begins with, so that what they write differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llmbert.data.infilling import INFILLING_TOKENS
from llmbert.models import FAMILIES
from llmbert.runs import Run
from llmbert.text.tokenisers import train_tokeniser
from llmbert.text.vocabulary import MASK_TOKEN

SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {"layers": 2, "width": 16, "heads": 2, "context": 48},
    "lstm": {"layers": 1, "width": 16},
    "vae": {"network": "gru", "width": 16, "latent": 4, "context": 48},
    "gan": {"width": 16, "context": 12},
    "bert": {"layers": 1, "width": 16, "heads": 2, "context": 48},
    "transformer": {"layers": 1, "width": 16, "heads": 2, "inner": 32, "context": 96},
    "t5": {"layers": 1, "width": 16, "heads": 2, "context": 96},
}
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "ende": ("transformer", {"tasks": ["translate"], "languages": {"source": "en", "target": "de"}}),
    "t5": ("t5", {"tasks": ["summarise"]}),
    "between": ("gpt", {}),
}


def random_run(name: str, folder: Path, text: str) -> Run:
    """A run over bytes: of the family `name`, or one of NAMED."""
    torch.manual_seed(0)
    family, facts = NAMED.get(name, (name, {}))
    tokeniser = train_tokeniser("bytes", [text])
    if family == "bert":
        tokeniser = tokeniser.with_special_tokens([MASK_TOKEN])
    if name == "between":  # fills in between two texts
        tokeniser = tokeniser.with_special_tokens(INFILLING_TOKENS)
    size = tokeniser.vocabulary_size
    model = _mixture(size) if family == "mixture" else _model(family, size)
    if family == "bert":
        model.settings = model.settings.model_copy(update={"mask_id": tokeniser.special_ids[MASK_TOKEN]})
    return Run(folder / name, model.eval(), tokeniser, {"family": family, **facts})


def _model(family: str, size: int) -> Any:
    kind = FAMILIES[family]
    model = kind.build(kind.settings_class()(**SHAPES[family]), size)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.4)
    return model


def _mixture(size: int) -> Any:
    kind = FAMILIES["mixture"]
    members = [_model("gpt", size), _model("lstm", size)]
    return kind.model_class()(kind.settings_class()(members="gpt, lstm", way="linear"), members)
