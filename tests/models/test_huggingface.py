"""What is trained here opens in Transformers and gives the same logits; and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbert.models.gpt import GPT, GPTSettings
from llmbert.models.huggingface import export_model, import_model
from llmbert.protocols import LLMBertError

SHAPES: list[dict[str, Any]] = [
    {"style": "gpt2", "layers": 2, "width": 24, "heads": 3, "context": 32},
    {"style": "gpt2", "layers": 1, "width": 16, "heads": 4, "context": 17, "tied": False, "inner": 40},
    {"style": "modern", "layers": 2, "width": 24, "heads": 3, "context": 32},
    {"style": "modern", "layers": 2, "width": 16, "heads": 4, "key_value_heads": 2, "head_width": 6, "context": 19},
    {"style": "modern", "layers": 1, "width": 16, "heads": 4, "key_value_heads": 1, "context": 32, "tied": False,
     "inner": 24, "rope_base": 500.0},
]  # fmt: skip


def random_model(shape: dict[str, Any], vocabulary: int = 37) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTSettings(**shape), vocabulary).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def written(model: GPT, folder: Path) -> Path:
    config, tensors = export_model(model)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_transformers_gives_the_same_logits(shape: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = random_model(shape)
    other, report = transformers.AutoModelForCausalLM.from_pretrained(
        written(model, tmp_path), output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(0, 37, (3, 15))
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(ids), other.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_what_transformers_writes_is_read_here(shape: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    first = transformers.AutoModelForCausalLM.from_pretrained(
        written(random_model(shape), tmp_path), dtype=torch.float32
    )
    first.save_pretrained(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    model = import_model(config, load_file(tmp_path / "theirs" / "model.safetensors"))
    ids = torch.randint(0, 37, (2, 11))
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(ids), first.eval()(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_tensor_of_another_shape_is_refused() -> None:
    config, tensors = export_model(random_model(SHAPES[2]))
    tensors["model.norm.weight"] = torch.ones(7)
    with pytest.raises(LLMBertError, match=r"model\.norm\.weight.*\(7,\)"):
        import_model(config, tensors)


def test_a_missing_tensor_is_named() -> None:
    config, tensors = export_model(random_model(SHAPES[0]))
    del tensors["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(LLMBertError, match=r"transformer\.h\.1\.mlp\.c_fc\.bias"):
        import_model(config, tensors)


def test_shapes_that_lie_allocate_nothing() -> None:
    config, tensors = export_model(random_model(SHAPES[2]))
    with pytest.raises(LLMBertError):
        import_model({**config, "hidden_size": 1 << 20, "intermediate_size": 1 << 24}, tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mamba"},
        {"vocab_size": "many"},
        {"hidden_act": "relu"},
        {"num_hidden_layers": None},
        {"hidden_size": 25},
    ],
)
def test_what_cannot_be_read_is_said(change: dict[str, Any]) -> None:
    config, tensors = export_model(random_model(SHAPES[2]))
    with pytest.raises(LLMBertError):
        import_model({**config, **change}, tensors)
