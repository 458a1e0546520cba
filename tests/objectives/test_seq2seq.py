"""The loss of targets given their sources: what it sums, and that padding and label smoothing change it rightly."""

from __future__ import annotations

import pytest
import torch

from llmbert.data.batches import IGNORED
from llmbert.data.pairs import PairBatch
from llmbert.models.transformer import Transformer, TransformerSettings
from llmbert.objectives.seq2seq import sequence_to_sequence


def make(pointer: bool = False) -> tuple[Transformer, PairBatch]:
    torch.manual_seed(0)
    settings = TransformerSettings(layers=1, width=16, heads=2, context=16, dropout=0.0, pointer=pointer)
    model = Transformer(settings, 30)
    ids = torch.randint(4, 30, (3, 8))
    lengths = torch.tensor([[8], [3], [5]])
    inside = torch.arange(8) < lengths
    targets = torch.randint(4, 30, (3, 8)).masked_fill(~inside, IGNORED)
    return model, PairBatch(ids.masked_fill(~inside, 0), inside, ids, targets)


@pytest.mark.parametrize("pointer", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_cross_entropy_of_what_is_scored(smoothing: float, pointer: bool) -> None:
    model, batch = make(pointer)
    terms, memory = sequence_to_sequence(model, batch, None, smoothing)
    logits = model.logits(batch.inputs, model.encode(batch.source, batch.source_mask))
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    total, count = terms["nll"]
    assert memory is None
    assert count == batch.count == 16
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("pointer", [False, True])
def test_each_pair_counts_alone(pointer: bool) -> None:
    """The loss of a batch is the sum of its rows' losses, so any accumulation equals the full batch."""
    model, batch = make(pointer)
    whole = sequence_to_sequence(model, batch)[0]["nll"][0]
    parts = [sequence_to_sequence(model, part)[0]["nll"][0] for part in batch.split(3)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize("pointer", [False, True])
def test_gradients_reach_every_weight(pointer: bool) -> None:
    model, batch = make(pointer)
    sequence_to_sequence(model, batch, None, 0.1)[0]["nll"][0].backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
