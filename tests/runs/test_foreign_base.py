"""A model from elsewhere goes on learning from one's own text and pairs, and opens elsewhere again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_folders import VOCABULARY, transformers, write, write_bert

import llmbert
from llmbert.data.pairs import PairBatches
from llmbert.protocols import UsageError
from llmbert.text.foreign import ForeignTokeniser
from llmbert.workbench.sources import open_store

SOURCES = [f"the river runs to the sea {number} times" for number in range(80)]
TARGETS = [f"a river in {number} hills" for number in range(80)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"a": source, "b": target} for source, target in zip(SOURCES, TARGETS, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prose") / "prose.txt"
    path.write_text("\n".join(f"{source}. {target}." for source, target in zip(SOURCES, TARGETS, strict=True)), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_pairs_are_learned_from_a_base(kind: str, pairs: Path, tmp_path: Path) -> None:
    theirs = write(kind, tmp_path / "base")
    family = "t5" if kind == "t5" else "transformer"
    options: dict[str, Any] = {"fields": {"source": "a", "target": "b"}, "base": tmp_path / "base"}
    settings = {"steps": 4, "label_smoothing": 0.0, "batch": 4}
    run = llmbert.train(family, [pairs], tmp_path / "tuned", settings=settings, **options)
    assert isinstance(run.tokeniser, ForeignTokeniser)
    assert run.model.vocabulary_size == VOCABULARY > run.tokeniser.vocabulary_size
    assert run.facts["base"] == str(tmp_path / "base")
    # Teacher forcing is what Transformers does with the labels that its tokeniser makes.
    store = open_store(tmp_path / run.facts["corpus"])
    batch = next(PairBatches(store.train, (64, 64), 0, batch=4).iterate())
    spelling = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    rows = [row[kept].tolist() for row, kept in zip(batch.source, batch.source_mask, strict=True)]
    texts = [spelling.decode(row, skip_special_tokens=True) for row in rows]
    assert rows == spelling(texts)["input_ids"]
    labels = [row[row >= 0].tolist() for row in batch.targets]
    assert labels == spelling([TARGETS[SOURCES.index(text)] for text in texts])["input_ids"]
    shifted = theirs.prepare_decoder_input_ids_from_labels(batch.targets)
    assert torch.equal(batch.inputs[batch.targets >= 0], shifted[batch.targets >= 0])
    # And it opens there again, with all that was learned.
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "tuned").eval()
    assert again.config.decoder_start_token_id == theirs.config.decoder_start_token_id
    with torch.inference_mode():
        expected = again(
            input_ids=batch.source, attention_mask=batch.source_mask.long(), decoder_input_ids=batch.inputs
        ).logits
    found = run.logits(batch.source, batch.inputs, batch.source_mask)
    kept = batch.targets >= 0
    torch.testing.assert_close(found[kept], expected[kept], rtol=1e-4, atol=1e-4)
    assert np.isfinite(run.score(TARGETS[0], SOURCES[0])["nats"][0])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_text_is_read_on_from_a_base(kind: str, prose: Path, tmp_path: Path) -> None:
    write(kind, tmp_path / "base")
    before = llmbert.load(tmp_path / "base").score(SOURCES[3])["nats"][0]
    options: dict[str, Any] = {"lines": True, "base": tmp_path / "base"}
    run = llmbert.train("gpt", [prose], tmp_path / "tuned", settings={"steps": 30, "batch": 8}, **options)
    assert run.score(SOURCES[3])["nats"][0] < before - 20
    written = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned").eval()
    ids = torch.tensor([run.document_ids(SOURCES[3])])
    with torch.inference_mode():
        torch.testing.assert_close(run.logits(ids), written(ids).logits, rtol=1e-4, atol=1e-4)


def test_the_end_is_learned_where_one_token_ends_and_begins(prose: Path, tmp_path: Path) -> None:
    """GPT-2 has one token for both: the first of two is a target, the second is given."""
    write("gpt2", tmp_path / "base")
    options: dict[str, Any] = {"lines": True, "base": tmp_path / "base"}
    run = llmbert.train("gpt", [prose], tmp_path / "tuned", settings={"steps": 100, "batch": 8}, **options)
    ids = run.document_ids(SOURCES[3] + ". " + TARGETS[3] + ".")
    last = run.logits(ids[:-1])[0, -1].log_softmax(-1)
    assert float(last[ids[-1]]) > -1.5, "a text of the training text's form is ended"


def test_a_bert_is_trained_on(prose: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write_bert(tmp_path / "base")
    settings = {"steps": 3, "batch": 4, "next_sentence": "false"}
    run = llmbert.train("bert", [prose], tmp_path / "tuned", lines=True, base=tmp_path / "base", settings=settings)
    assert run.model.settings.mask_id == run.tokeniser.special_ids["[MASK]"] == 4
    again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "tuned")
    assert again.config.vocab_size == run.model.vocabulary_size


def test_what_a_base_has_no_room_for_is_refused(prose: Path, tmp_path: Path) -> None:
    write("t5", tmp_path / "base")  # without T5's own sentinels
    with pytest.raises(UsageError, match="100 special tokens, and the base has room for 20"):
        llmbert.train("t5", [prose], tmp_path / "x", base=tmp_path / "base", settings={"steps": 2})
    with pytest.raises(UsageError, match="n-grams are counted"):
        llmbert.train("ngram", [prose], tmp_path / "x", tokenizer=str(tmp_path / "base"))
    with pytest.raises(UsageError, match="our own tokenisers"):
        llmbert.train("gan", [prose], tmp_path / "x", tokenizer=str(tmp_path / "base"), settings={"steps": 2})
    with pytest.raises(UsageError, match="from elsewhere"):
        llmbert.compare([prose], tmp_path / "x", tokenizer=str(tmp_path / "base"), budget="9s")
    assert not (tmp_path / "x").exists()
