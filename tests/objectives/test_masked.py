"""The masked objective: its value, that it looks at guessed tokens alone, and that micro-batches are the full batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llmbert.data.batches import IGNORED
from llmbert.data.masking import MaskedBatch, MaskedWindows, Masking, SentencePairs
from llmbert.models.bert import BERT, BERTSettings
from llmbert.objectives.masked import masked_language_model
from llmbert.training.loop import Trainer
from llmbert.training.settings import TrainingSettings

VOCABULARY, MASK = 30, 4
BEGIN, END = 2, 3


def make(**shape: Any) -> BERT:
    torch.manual_seed(1)
    settings = BERTSettings(layers=2, width=16, heads=2, context=24, mask_id=MASK, next_sentence=True, **shape)
    model = BERT(settings, VOCABULARY)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def corpus(documents: int = 12, length: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Documents that count upwards in steps of their own, modulo the vocabulary."""
    random = np.random.default_rng(0)
    parts = [
        np.concatenate(([BEGIN], 5 + (random.integers(25) + random.integers(1, 4) * np.arange(length)) % 25, [END]))
        for _ in range(documents)
    ]
    return np.concatenate(parts).astype(np.uint16), np.arange(documents + 1) * (length + 2)


def batches(kind: str, **settings: Any) -> MaskedWindows | SentencePairs:
    masking = Masking(MASK, VOCABULARY, (0, 1, 2, 3, MASK), **settings)
    return (MaskedWindows if kind == "windows" else SentencePairs)(*corpus(), masking, 24, 8, 0)


def expected(model: BERT, batch: MaskedBatch, smoothing: float = 0.0) -> dict[str, torch.Tensor]:
    """The terms from all logits, by torch's own loss."""
    states = model.encode(batch.inputs, batch.mask, batch.types, batch.segments)
    assert model.head is not None
    found = {
        "mlm": torch.nn.functional.cross_entropy(
            model.head(model.finish(states)).flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=smoothing,
        )
    }
    if batch.follows is not None:
        pooled = model.next_logits(model.pool(states))
        found["nsp"] = torch.nn.functional.cross_entropy(pooled, batch.follows, reduction="sum")
    return found


@pytest.mark.parametrize("kind", ["windows", "pairs"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tied", [True, False])
def test_terms_and_gradients_are_those_of_all_logits(kind: str, smoothing: float, tied: bool) -> None:
    batch = next(batches(kind).iterate())
    gradients = []
    for compute in (
        lambda model: {n: v for n, (v, _) in masked_language_model(model, batch, None, smoothing)[0].items()},
        lambda model: expected(model, batch, smoothing),
    ):
        model = make(tied=tied)
        terms = compute(model)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        gradients.append((terms, {n: w.grad for n, w in model.named_parameters() if w.grad is not None}))
    (terms, own), (others, theirs) = gradients
    assert set(terms) == set(others) == set(batch.counts)
    for name in terms:
        torch.testing.assert_close(terms[name], others[name], rtol=1e-4, atol=1e-4)
    assert set(own) == set(theirs)
    for name in own:
        torch.testing.assert_close(own[name], theirs[name], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["windows", "pairs"])
def test_counts_are_the_batchs(kind: str) -> None:
    batch = next(batches(kind).iterate())
    terms, memory = masked_language_model(make(), batch)
    assert {name: count for name, (_, count) in terms.items()} == batch.counts
    assert memory is None
    assert ("nsp" in terms) == (kind == "pairs")


def test_a_batch_without_a_guess_has_no_loss_and_no_gradient() -> None:
    """A micro-batch of few rows may hold none."""
    inputs = torch.full((2, 6), 7)
    model = make()
    terms, _ = masked_language_model(model, MaskedBatch(inputs, torch.full_like(inputs, IGNORED)))
    total, count = terms["mlm"]
    total.backward()
    assert (float(total.detach()), count) == (0.0, 0)
    assert all(w.grad is None or not w.grad.any() for w in model.parameters())


@pytest.mark.parametrize("kind", ["windows", "pairs"])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_micro_batches_are_the_full_batch(kind: str, parts: int) -> None:
    """Whatever the rows hold: after three steps the weights are the same."""
    found = []
    for accumulate in (1, parts):
        # Adam would make much of the rounding in gradients that are zero, such as that of the keys' bias.
        settings = TrainingSettings(
            steps=3, accumulate=accumulate, optimiser="sgd", learning_rate=0.1, precision="float32"
        )
        model = make()
        trainer = Trainer(model, masked_language_model, batches(kind), settings)
        for _, batch in zip(range(3), batches(kind).iterate(), strict=False):
            trainer.step(batch)
        found.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=2e-5)


def test_it_learns() -> None:
    """Counting can be read off the neighbours on both sides: far better than 25 equal guesses."""
    random = np.random.default_rng(0)
    parts = [np.concatenate(([BEGIN], 5 + (random.integers(25) + np.arange(60)) % 25, [END])) for _ in range(8)]
    ids, starts = np.concatenate(parts), np.arange(9) * 62
    torch.manual_seed(0)
    model = BERT(BERTSettings(layers=2, width=32, heads=2, context=16, mask_id=MASK), VOCABULARY)
    settings = TrainingSettings(steps=150, learning_rate=1e-2, matrix_learning_rate=2e-2, precision="float32")
    rows = MaskedWindows(ids, starts, Masking(MASK, VOCABULARY, (0, 1, 2, 3, MASK)), 16, 16, 0)
    trainer = Trainer(model, masked_language_model, rows, settings)
    trainer.run()
    nats = model.token_nats(ids, starts)
    assert nats[nats > 0].mean() < 0.6 * np.log(25)
