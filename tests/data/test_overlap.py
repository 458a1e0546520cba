"""Overlap of validation with training text, held against a plain count of spans."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data import overlap
from llmbert.data.corpus import build_shard
from llmbert.data.overlap import measure_overlap
from llmbert.data.shards import Shard
from llmbert.text.tokenisers import train_tokeniser

BYTES = train_tokeniser("bytes", [])


def shard(folder: Path, name: str, documents: list[str]) -> Shard:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("\n".join(documents) + "\n")
    return build_shard([str(folder / f"{name}.txt")], BYTES, folder / name, lines=True)


def counted(train: list[str], valid: list[str], window: int) -> float:
    """The definition, span by span."""
    spans = {text[at : at + window] for text in train for at in range(len(text) - window + 1)}
    covered = total = 0
    for text in valid:
        inside = np.zeros(len(text), bool)
        for at in range(len(text) - window + 1):
            if text[at : at + window] in spans:
                inside[at : at + window] = True
        covered += int(inside.sum())
        total += len(text)
    return covered / total


lines = st.lists(st.text(alphabet="ab", min_size=1, max_size=40), min_size=1, max_size=8)


@given(train=lines, valid=lines, span=st.integers(4, 9), chunk=st.sampled_from([1 << 16, 5, 17]))
@settings(max_examples=150, deadline=None)
def test_shared_spans_are_those_of_a_plain_count(
    train: list[str], valid: list[str], span: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("overlap")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "SPAN_BYTES", span)
        patch.setattr(overlap, "_CHUNK", chunk)
        measured = measure_overlap(shard(folder, "train", train), shard(folder, "valid", valid))
    assert measured["window"] == span
    assert measured["shared_tokens"] == pytest.approx(counted(train, valid, span))
    assert measured["duplicate_documents"] == sum(text in train for text in valid)


def test_a_copied_passage_is_found_and_its_share_is_exact(tmp_path: Path) -> None:
    passage = "It was the best of times, it was the worst of times, it was the age of wisdom."
    train = shard(tmp_path, "train", ["0123456789" * 3 + passage, "nothing like it"])
    valid = shard(tmp_path, "valid", ["# new text of some length before. " + passage[5:] + " And after it.", "new"])
    measured = measure_overlap(train, valid)
    assert measured["window"] == 50
    assert measured["shared_tokens"] == (len(passage) - 5) / int(valid.document_bytes.sum())
    assert "spans of 50" in measured["signature"]


def test_a_span_never_runs_from_one_document_into_the_next(tmp_path: Path) -> None:
    train = shard(tmp_path, "train", ["a" * 30, "b" * 30])
    valid = shard(tmp_path, "valid", ["a" * 30 + "b" * 30, "c" * 60])
    assert measure_overlap(train, valid)["shared_tokens"] == 0


def test_much_validation_text_is_measured_on_spread_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    known = "".join(random.choice(list("abcdefgh"), 40_000))
    new = "".join(random.choice(list("abcdefgh"), 40_000))
    train, valid = shard(tmp_path, "train", [known]), shard(tmp_path, "valid", [known + new])
    exact = measure_overlap(train, valid)["shared_tokens"]
    assert exact == pytest.approx(0.5)
    monkeypatch.setattr(overlap, "MOST_VALID_TOKENS", 64 * 200)
    measured = measure_overlap(train, valid)
    assert measured["measured_tokens"] <= 64 * 200
    assert measured["shared_tokens"] == pytest.approx(exact, abs=0.02)
