"""A pointer mixes the vocabulary with the source's tokens: against the formula written out, and that it copies."""

from __future__ import annotations

import math

import torch

from llmbert.models.transformer import Transformer, TransformerSettings
from llmbert.nn.pointer import Pointer
from llmbert.training.loop import Trainer
from llmbert.training.settings import TrainingSettings


def test_it_is_the_mixture_of_the_paper() -> None:
    """See, Liu & Manning 2017, eq. 9, in plain loops; a token the source holds twice gets both places' weight."""
    torch.manual_seed(0)
    pointer = Pointer(8).double().requires_grad_(False)
    hidden, source = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    logits = torch.randn(2, 3, 11)
    ids = torch.tensor([[4, 7, 4, 9, 0], [5, 6, 7, 8, 10]])
    mask = torch.tensor([[True] * 4 + [False], [True] * 5])
    found = pointer(hidden, logits, pointer.keys(source), ids, mask[:, None, None])
    for row in range(2):
        for time in range(3):
            query = pointer.query(hidden[row, time])
            products = [float(query @ pointer.key(source[row, place])) / math.sqrt(8) for place in range(5)]
            weights = [math.exp(product) * bool(mask[row, place]) for place, product in enumerate(products)]
            gate = 1 / (1 + math.exp(-float(pointer.gate(hidden[row, time]))))
            expected = gate * logits[row, time].softmax(-1)
            for place, weight in enumerate(weights):
                expected[ids[row, place]] += (1 - gate) * weight / sum(weights)
            torch.testing.assert_close(found[row, time].exp(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, 3))


def copying(pointer: bool) -> float:
    """Nats per token of copies of tokens that training never showed, after some steps of copying others."""
    from llmbert.data.pairs import PairBatch
    from llmbert.objectives.seq2seq import sequence_to_sequence

    torch.manual_seed(0)
    settings = TransformerSettings(layers=1, width=32, heads=2, context=16, dropout=0.0, pointer=pointer, tied="none")
    model = Transformer(settings, 200)
    random = torch.Generator().manual_seed(1)

    def batch(low: int, high: int) -> PairBatch:
        name, end = torch.randint(low, high, (32, 1), generator=random), torch.full((32, 1), 3)
        source, target = torch.cat((name, end), dim=1), torch.cat((name, name, end), dim=1)
        inputs = torch.cat((torch.full((32, 1), 2), name, name), dim=1)
        return PairBatch(source, torch.ones_like(source, dtype=torch.bool), inputs, target)

    learning = TrainingSettings(steps=100, learning_rate=3e-3)
    trainer = Trainer(model, sequence_to_sequence, None, learning)  # type: ignore[arg-type]
    for _ in range(learning.steps):
        trainer.step(batch(4, 150))
    with torch.inference_mode():
        terms, _ = sequence_to_sequence(model.eval(), batch(150, 200))
    total, count = terms["nll"]
    return float(total) / count


def test_it_copies_what_it_has_never_written() -> None:
    assert copying(True) < 1.5 < 4 < copying(False)
