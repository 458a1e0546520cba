"""Files in Hugging Face's layout: what is wrong with one is named, and nothing larger than it is allocated."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmbert.models import find_family
from llmbert.models.gpt import GPT, GPTSettings
from llmbert.models.huggingface import export_model, import_model
from llmbert.protocols import LLMBertError

GPT2_SHAPE: dict[str, Any] = {"style": "gpt2", "layers": 2, "width": 24, "heads": 3, "context": 32}
MODERN_SHAPE: dict[str, Any] = {"layers": 2, "width": 24, "heads": 3, "context": 32}


def random_model(shape: dict[str, Any], vocabulary: int = 37) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTSettings(**shape), vocabulary).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def test_a_tensor_of_another_shape_is_refused() -> None:
    config, tensors = export_model(random_model(MODERN_SHAPE))
    tensors["model.norm.weight"] = torch.ones(7)
    with pytest.raises(LLMBertError, match=r"model\.norm\.weight.*\(7,\)"):
        import_model(config, tensors)


def test_a_missing_tensor_is_named() -> None:
    config, tensors = export_model(random_model(GPT2_SHAPE))
    del tensors["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(LLMBertError, match=r"transformer\.h\.1\.mlp\.c_fc\.bias"):
        import_model(config, tensors)


def test_shapes_that_lie_allocate_nothing() -> None:
    config, tensors = export_model(random_model(MODERN_SHAPE))
    with pytest.raises(LLMBertError):
        import_model({**config, "hidden_size": 1 << 20, "intermediate_size": 1 << 24}, tensors)


@pytest.mark.parametrize(("family", "shape"), [("transformer", {}), ("vae", {"network": "transformer"})])
def test_no_room_is_made_for_any_number_of_computed_positions(family: str, shape: dict[str, Any]) -> None:
    known = find_family(family)
    settings = known.settings_class()(layers=1, width=16, heads=2, context=8, **shape)
    config, tensors = export_model(known.build(settings, 20))
    if "settings" in config:
        config["settings"]["context"] = 3_000_000
    else:
        config["max_position_embeddings"] = 3_000_000
    with pytest.raises(LLMBertError, match="3000000 positions"):
        import_model(config, tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mamba"},
        {"vocab_size": "many"},
        {"hidden_act": "tanh"},
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
        {"partial_rotary_factor": 0.5},
        {"use_sliding_window": True},
        {"num_hidden_layers": None},
        {"hidden_size": 25},
    ],
)
def test_what_cannot_be_read_is_said(change: dict[str, Any]) -> None:
    config, tensors = export_model(random_model(MODERN_SHAPE))
    with pytest.raises(LLMBertError):
        import_model({**config, **change}, tensors)


def test_what_is_left_over_is_named_but_not_what_older_files_hold_too() -> None:
    config, tensors = export_model(random_model(GPT2_SHAPE))
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    import_model(config, tensors)
    with pytest.raises(LLMBertError, match=r"'transformer\.h\.2\.ln_1\.weight'"):
        import_model(config, tensors | {"transformer.h.2.ln_1.weight": torch.ones(24)})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_weights_are_read_as_whole_ones(kind: torch.dtype) -> None:
    for shape in (GPT2_SHAPE, MODERN_SHAPE):
        config, tensors = export_model(random_model(shape))
        halved = {name: tensor.to(kind) for name, tensor in tensors.items()}
        model = import_model(config | {"dtype": str(kind).removeprefix("torch.")}, halved)
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        expected = import_model(config, {name: tensor.float() for name, tensor in halved.items()})
        ids = torch.randint(0, 37, (2, 9))
        assert torch.equal(model.logits(ids), expected.logits(ids))


def test_a_file_of_the_bare_model_is_read_too() -> None:
    config, tensors = export_model(random_model(GPT2_SHAPE))
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    ids = torch.randint(0, 37, (2, 9))
    assert torch.equal(import_model(config, bare).logits(ids), import_model(config, tensors).logits(ids))


@pytest.mark.parametrize("style", ["gpt2", "modern"])
def test_tensors_are_copied_unless_they_are_given_away(style: str) -> None:
    torch.manual_seed(0)
    model = GPT(GPTSettings(style=style, layers=2, width=24, heads=2, context=16), 40).eval()
    config, tensors = export_model(model)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    ids = torch.randint(40, (2, 9))
    copied = import_model(config, tensors)
    before = copied.logits(ids)
    given = import_model(config, dict(tensors), given=True)
    assert torch.equal(given.logits(ids), before)
    gone = dict(tensors)
    import_model(config, gone, given=True)
    assert not gone
    for tensor in tensors.values():
        tensor.zero_()
    assert torch.equal(copied.logits(ids), before)
    assert not torch.equal(given.logits(ids), before)
    assert given.head.weight is given.embedding.weight
