"""The Transformer encoder-decoder and Marian, Pegasus, BART, mBART: the same logits, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbert.models.huggingface import LAYOUTS, export_model, import_model
from llmbert.models.huggingface.bart import KINDS
from llmbert.models.transformer import Transformer, TransformerSettings
from llmbert.protocols import LLMBertError

transformers = pytest.importorskip("transformers")

VOCABULARY = 61
SHAPES: list[dict[str, Any]] = [
    {"layers": 2, "width": 32, "heads": 4, "context": 24},
    {"layers": 1, "decoder_layers": 3, "width": 24, "heads": 2, "inner": 40, "context": 19, "activation": "gelu"},
    {"layers": 2, "width": 32, "heads": 1, "context": 24, "tied": "none", "scale_embedding": False},
    {"layers": 2, "decoder_layers": 1, "width": 16, "heads": 4, "context": 24, "activation": "silu", "tied": "none"},
]
GRID = [(kind, shape) for kind in KINDS for shape in SHAPES]


def settings_of(kind: Any, shape: dict[str, Any]) -> TransformerSettings:
    own = {"positions": kind.positions, "norm_first": kind.norm_first, "embedding_norm": kind.embedding_norm}
    return TransformerSettings(**own, **shape)


def make(settings: TransformerSettings) -> Transformer:
    torch.manual_seed(3)
    model = Transformer(settings, VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def texts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sources of 7, 11 and 4 tokens, padded; and targets of 9."""
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(4, VOCABULARY, (3, 11), generator=generator)
    mask = torch.arange(11) < torch.tensor([[7], [11], [4]])
    target = torch.randint(4, VOCABULARY, (3, 9), generator=generator)
    return torch.where(mask, source, 0), mask, target


def difference(ours: Any, theirs: Any) -> float:
    source, mask, target = texts()
    with torch.inference_mode():
        a = ours.logits(target, ours.encode(source, mask))
        b = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
    return float((a - b).abs().max())


def out_and_in(kind: Any, shape: dict[str, Any], folder: Path) -> tuple[float, float]:
    """The greatest differences of logits: ours opened there, theirs opened here."""
    model = make(settings_of(kind, shape))
    config, tensors = export_model(model)
    assert config["model_type"] == kind.model_type
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    theirs, loading = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["unexpected_keys"]
    out = difference(model, theirs.eval())
    for name, weight in theirs.named_parameters():
        if kind.positions == "learned" or "embed_positions" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    torch.nn.init.normal_(theirs.final_logits_bias)
    theirs.save_pretrained(folder / "theirs")
    back = import_model(theirs.config.to_dict(), load_file(folder / "theirs" / "model.safetensors"))
    return out, difference(back, theirs.eval())


def parity_rows(folder: Path) -> list[tuple[str, float, float]]:
    """Each architecture and shape in words, with the greatest difference of logits there and back."""
    rows = []
    for number, (kind, shape) in enumerate(GRID):
        place = folder / str(number)
        place.mkdir()
        words = ", ".join(f"{key} {value}" for key, value in shape.items() if key != "context")
        rows.append((f"{kind.model_type}: {words}", *out_and_in(kind, shape, place)))
    return rows


def test_logits_agree_in_both_directions(tmp_path: Path) -> None:
    for setting, out, back in parity_rows(tmp_path):
        assert out <= 1e-4, (setting, out)
        assert back <= 1e-4, (setting, back)


def test_transformers_writes_the_same_text(tmp_path: Path) -> None:
    model = make(settings_of(KINDS[0], SHAPES[0]))
    config, tensors = export_model(model)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    source, mask, _ = texts()
    with torch.inference_mode():
        written = theirs.generate(
            source, attention_mask=mask.long(), max_new_tokens=8, min_new_tokens=8, num_beams=1, do_sample=False,
            suppress_tokens=None, bad_words_ids=None,
        )  # fmt: skip
        state, ids, own = model.start(3, model.encode(source, mask)), torch.full((3, 1), 2), []
        for _ in range(8):
            logits, state = model.step(ids, state)
            logits[..., 3] = -torch.inf
            ids = logits[:, -1:].argmax(-1)
            own.append(ids)
    assert torch.equal(written[:, 1:], torch.cat(own, 1))


def test_a_missing_and_an_extra_weight_are_named() -> None:
    config, tensors = export_model(make(settings_of(KINDS[2], SHAPES[0])))
    lacking = {name: tensor for name, tensor in tensors.items() if "decoder.layers.1.fc1" not in name}
    with pytest.raises(LLMBertError, match=r"lack 'model\.decoder\.layers\.1\.fc1\.bias'"):
        import_model(config, lacking)
    with pytest.raises(LLMBertError, match=r"'model\.encoder\.adapter'"):
        import_model(config, tensors | {"model.encoder.adapter": torch.zeros(2)})


def test_what_cannot_be_read_is_refused() -> None:
    config, tensors = export_model(make(settings_of(KINDS[0], SHAPES[0])))
    with pytest.raises(LLMBertError, match="decoder_attention_heads 2"):
        import_model(config | {"decoder_attention_heads": 2}, tensors)


@pytest.mark.parametrize("special", [{"tied": "target"}, {"pointer": True}], ids=["partly tied", "pointer"])
def test_what_others_do_not_have_keeps_its_own_layout(special: dict[str, Any]) -> None:
    model = make(TransformerSettings(layers=1, width=16, heads=2, context=16, **special))
    config, tensors = export_model(model)
    assert config["model_type"] == "llmbert-transformer" not in LAYOUTS
    back = import_model(config, tensors)
    source, mask, target = texts()
    with torch.inference_mode():
        torch.testing.assert_close(
            model.logits(target, model.encode(source, mask)),
            back.logits(target, back.encode(source, mask)),  # type: ignore[operator]
        )
