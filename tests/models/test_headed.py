"""Heads on a trunk: what they read off the states, rows that do not see their padding, files that give them back."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from llmbert.models import FAMILIES
from llmbert.models.headed import Headed, HeadedSettings, HeadSettings, pool, put_heads
from llmbert.models.huggingface import export_model, import_model
from llmbert.protocols import LLMBertError

VOCABULARY = 40
SHAPE = {"layers": 2, "width": 16, "context": 12}
TRUNKS: dict[str, dict[str, Any]] = {
    "bert": SHAPE | {"heads": 2},
    "gpt": SHAPE | {"heads": 2},
    "lstm": SHAPE | {"embedding_width": 24},
    "transformer": SHAPE | {"heads": 2},
    "t5": SHAPE | {"heads": 2},
}
TAGS = ("B-X", "I-X", "O")
ALL_HEADS = {
    "topic": HeadSettings(task="classify", labels=("a", "b", "c")),
    "about": HeadSettings(task="multilabel", labels=("a", "b")),
    "names": HeadSettings(task="tag", labels=TAGS),
    "grade": HeadSettings(task="regress", shift=3.0, scale=2.0),
    "sense": HeadSettings(task="embed"),
}


def headed(trunk: str, heads: dict[str, HeadSettings] = ALL_HEADS, **shape: Any) -> Headed:
    torch.manual_seed(0)
    model = Headed(HeadedSettings(trunk=trunk, trunk_settings=TRUNKS[trunk] | shape, heads=heads), VOCABULARY)
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.3)
    return model.eval()


def rows(lengths: list[int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(4, VOCABULARY, mask.shape).where(mask, 0), mask


@torch.inference_mode()
@pytest.mark.parametrize(("trunk", "head"), list(product(TRUNKS, ALL_HEADS)))
def test_every_head_on_every_trunk_and_no_row_sees_its_padding(trunk: str, head: str) -> None:
    model = headed(trunk)
    ids, mask = rows([7, 3, 12])
    words = torch.tensor([[1, 3, 4], [1, 0, 0], [2, 5, 9]]) if head == "names" else None
    together = model(head, ids, mask, None, words)
    assert together.dtype == torch.float32
    outputs = {
        "topic": (3, 3),
        "about": (3, 2),
        "names": (3, 3, 3),
        "grade": (3, 1),
        "sense": (3, model.settings.width),
    }
    assert together.shape == outputs[head]
    if head == "sense":
        torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    for row, length in enumerate([7, 3, 12]):
        here = slice(row, row + 1)
        alone = model(head, ids[here, :length], mask[here, :length], None, None if words is None else words[here])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_pooling() -> None:
    states, mask = torch.arange(24.0).view(2, 4, 3), torch.tensor([[True] * 4, [True, True, False, False]])
    assert pool(states, mask, "first").tolist() == [[0, 1, 2], [12, 13, 14]]
    assert pool(states, mask, "last").tolist() == [[9, 10, 11], [15, 16, 17]]
    assert pool(-states, mask, "max").tolist() == [[0, -1, -2], [-12, -13, -14]]
    assert pool(states, mask, "mean").tolist() == [[4.5, 5.5, 6.5], [13.5, 14.5, 15.5]]


def test_a_text_is_read_where_the_trunk_has_seen_it_all() -> None:
    pooling = {trunk: headed(trunk).settings.heads["topic"].pooling for trunk in TRUNKS}
    assert pooling == {"bert": "mean", "gpt": "last", "lstm": "last", "transformer": "mean", "t5": "mean"}
    assert headed("gpt").settings.heads["sense"].pooling == "mean"


@torch.inference_mode()
def test_the_second_text_has_another_type_in_a_bert_alone() -> None:
    ids, mask = rows([6])
    types = torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert not torch.allclose(headed("bert")("topic", ids, mask, types), headed("bert")("topic", ids, mask))
    assert torch.equal(headed("gpt")("topic", ids, mask, types), headed("gpt")("topic", ids, mask))


def test_all_heads_teach_one_trunk() -> None:
    model = headed("bert")
    ids, mask = rows([5, 4])
    for head in ALL_HEADS:
        model.zero_grad()
        words = torch.tensor([[1, 2], [1, 3]]) if head == "names" else None
        model(head, ids, mask, None, words).square().sum().add(0).backward()
        touched = {n.split(".")[1] for n, w in model.heads.named_parameters(prefix="heads") if w.grad is not None}
        assert touched == ({head} if list(model.heads[head].parameters()) else set())
        if head != "sense":  # the square of a unit vector is 1 whatever the trunk says
            assert model.trunk.embedding.weight.grad.abs().sum() > 0


@torch.inference_mode()
@pytest.mark.parametrize("trunk", TRUNKS)
def test_files_give_the_model_back(trunk: str) -> None:
    model = headed(trunk)
    config, tensors = export_model(model)
    again = import_model(config, tensors)
    assert isinstance(again, Headed)
    assert again.settings == model.settings
    ids, mask = rows([7, 3])
    for head in ("topic", "sense"):
        assert torch.equal(again(head, ids, mask), model(head, ids, mask))


@torch.inference_mode()
@pytest.mark.parametrize("trunk", ["bert", "gpt", "lstm"])
def test_heads_are_put_on_what_a_trained_model_knows(trunk: str) -> None:
    family = FAMILIES[trunk]
    torch.manual_seed(5)
    extra = {"pooler": True} if trunk == "bert" else {}
    base = family.build(family.settings_class()(**TRUNKS[trunk], **extra), VOCABULARY).eval()
    model = put_heads(base, ALL_HEADS, dropout=0.25).eval()
    ids, mask = rows([8])
    known = base.encode(ids) if trunk == "bert" else base.hidden(ids)[0]
    assert torch.equal(model.encode(ids, mask), known)
    assert model.trunk.settings.dropout == 0.25
    assert not any("head" in name or "transform" in name for name, _ in model.trunk.named_parameters())
    if trunk == "bert":
        assert model.settings.heads["topic"].pooling == "first" and model.settings.heads["sense"].pooling == "mean"
        assert torch.equal(model.heads["topic"].pooler.weight, base.pooler.weight)
    with torch.no_grad():
        next(model.trunk.parameters()).add_(1.0)
    assert torch.equal(known, base.encode(ids) if trunk == "bert" else base.hidden(ids)[0])  # a copy
    other = put_heads(model, {"new": HeadSettings(task="regress")})
    assert torch.equal(next(other.trunk.parameters()), next(model.trunk.parameters()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "classify"},
        {"task": "regress", "labels": ("a",)},
        {"task": "classify", "labels": ("a", "a")},
        {"task": "guess"},
        {"task": "embed", "temperature": 0.0},
    ],
)
def test_heads_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HeadSettings(**wrong)


def test_a_trunk_that_counts_or_a_name_with_a_dot_is_refused() -> None:
    with pytest.raises(LLMBertError, match="no states"):
        put_heads(object(), ALL_HEADS)
    with pytest.raises(ValidationError, match="dot"):
        HeadedSettings(trunk="bert", trunk_settings=SHAPE, heads={"a.b": ALL_HEADS["grade"]})


# ---- Hugging Face --------------------------------------------------------------------------------------------------

CASES = {
    "bert, one of three classes": ("bert", HeadSettings(task="classify", labels=("x", "y", "z"), pooling="first")),
    "bert, several classes": ("bert", HeadSettings(task="multilabel", labels=("x", "y"), pooling="first")),
    "bert, a number in its own unit": ("bert", HeadSettings(task="regress", shift=10.0, scale=4.0, pooling="first")),
    "bert, tags without CRF": ("bert", HeadSettings(task="tag", labels=TAGS, crf=False)),
    "roberta, one of three classes": (
        "roberta",
        HeadSettings(task="classify", labels=("x", "y", "z"), pooling="first"),
    ),
    "roberta, tags without CRF": ("roberta", HeadSettings(task="tag", labels=TAGS, crf=False)),
}


def parity_rows(folder: Path) -> list[tuple[str, float, float]]:
    """(case, largest difference of logits when Transformers opens our file, and when we open theirs)."""
    return [(name, *_parity(folder / str(i), *case)) for i, (name, case) in enumerate(CASES.items())]


@torch.inference_mode()
def _parity(folder: Path, style: str, head: HeadSettings) -> tuple[float, float]:
    transformers = pytest.importorskip("transformers")
    model = headed("bert", {head.task: head}, style=style)
    ids, mask = rows([9, 4, 12])
    words = torch.arange(12).expand(3, -1)
    ours = model(head.task, ids, mask, None, words if head.task == "tag" else None)
    expected = head.shift + head.scale * ours if head.task == "regress" else ours
    config, tensors = export_model(model)
    from safetensors.torch import load_file, save_file

    from llmbert.runs import write_json

    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    kind = (
        transformers.AutoModelForTokenClassification
        if head.task == "tag"
        else (transformers.AutoModelForSequenceClassification)
    )
    theirs, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"], told
    assert theirs.config.architectures[0] == type(theirs).__name__
    if head.labels:
        assert tuple(theirs.config.id2label[i] for i in range(len(head.labels))) == head.labels
    out = theirs.eval()(ids, attention_mask=mask.long()).logits
    inside = mask[..., None].expand_as(out) if head.task == "tag" else torch.ones_like(out, dtype=torch.bool)
    difference = float((out - expected)[inside].abs().max())

    for weight in theirs.parameters():  # another model under the same names
        weight.copy_(torch.randn_like(weight) * 0.2)
    theirs.save_pretrained(folder / "theirs")
    config = transformers.AutoConfig.from_pretrained(folder / "theirs").to_dict() | {
        "architectures": [type(theirs).__name__]
    }
    again = import_model(config, load_file(folder / "theirs" / "model.safetensors"))
    assert again.settings.heads[head.task].labels == head.labels  # type: ignore[union-attr, operator, index]
    own = again(head.task, ids, mask, None, words if head.task == "tag" else None)
    return difference, float((theirs(ids, attention_mask=mask.long()).logits - own)[inside].abs().max())


def test_one_head_on_a_bert_is_hugging_faces_and_back(tmp_path: Path) -> None:
    for name, theirs, ours in parity_rows(tmp_path):
        assert theirs <= 1e-4 and ours <= 1e-4, name


@pytest.mark.parametrize(
    "heads",
    [
        {"t": HeadSettings(task="tag", labels=TAGS)},
        {"c": HeadSettings(task="classify", labels=("a", "b"))},
        {"c": HeadSettings(task="classify", labels=("a", "b")), "r": HeadSettings(task="regress")},
        {"e": HeadSettings(task="embed")},
    ],
)
def test_what_hugging_face_has_no_form_for_keeps_our_names(heads: dict[str, HeadSettings]) -> None:
    config, tensors = export_model(headed("bert", heads))
    assert config["model_type"] == "llmbert-headed"
    assert import_model(config, tensors).settings.heads.keys() == heads.keys()  # type: ignore[union-attr, operator]


def test_a_head_keeps_its_name_in_hugging_faces_form_too() -> None:
    head = HeadSettings(task="classify", labels=("a", "b"), pooling="first")
    config, tensors = export_model(headed("bert", {"mood": head}))
    assert config["model_type"] == "bert"
    assert list(import_model(config, tensors).settings.heads) == ["mood"]  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("trunk", ["vae", "gan", "mixture", "ngram"])
def test_what_cannot_be_a_trunk_is_refused(trunk: str) -> None:
    with pytest.raises(ValidationError, match="no states to put a head on"):
        HeadedSettings(trunk=trunk, heads={"grade": ALL_HEADS["grade"]})


def test_files_that_do_not_fit_together_are_refused_in_a_sentence() -> None:
    head = HeadSettings(task="classify", labels=("a", "b"), pooling="first")
    config, tensors = export_model(headed("bert", {"c": head}))
    with pytest.raises(LLMBertError, match="lack"):
        import_model(config, {n: t for n, t in tensors.items() if n != "classifier.weight"})
    with pytest.raises(LLMBertError, match="shape"):
        import_model(config | {"id2label": {"0": "a", "1": "b", "2": "c"}}, dict(tensors))
    with pytest.raises(LLMBertError, match="problem_type"):
        import_model(config | {"problem_type": "guessing"}, dict(tensors))
    own, weights = export_model(headed("gpt"))
    with pytest.raises(LLMBertError, match="does not describe"):
        import_model(own | {"settings": {"trunk": "gpt"}}, dict(weights))
    with pytest.raises(LLMBertError, match="too few"):
        deep = own["settings"] | {"trunk_settings": own["settings"]["trunk_settings"] | {"layers": 10**6}}
        import_model(own | {"settings": deep}, dict(weights))
