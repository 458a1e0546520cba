"""N-gram counts that no document shows in: bounded, noisy, and without what is rare."""

from __future__ import annotations

import numpy as np
import pytest

from llmbert.models.ngram.counts import count_ngrams
from llmbert.models.ngram.model import NGram, NGramSettings
from llmbert.models.ngram.private import private_counts
from llmbert.protocols import LLMBertError

BOUNDS = {"noise": 1.0, "contributions": 8, "delta": 1e-6}


def packed(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    rows = [[2, *document, 3] for document in documents]
    return np.concatenate([np.array(row) for row in rows]), np.cumsum([0, *(len(row) for row in rows)])


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


COMMON = [[5, 6, 7]] * 1000 + [[8, 9]] * 1000


def test_without_noise_documents_are_counted() -> None:
    documents = [[5, 6, 5, 6], [5, 6], [6]]
    found = private_counts(*packed(documents), 10, 2, noise=0.0, contributions=100, delta=0.5, random=seeded())
    exact = count_ngrams(*packed(documents), 10, 2)
    assert found[0].counts.tolist()[5:7] == [2, 3]  # twice in a document counts once
    kept = {(int(found[1].parents[i]), int(found[1].words[i])): int(found[1].counts[i]) for i in range(len(found[1]))}
    assert kept == {(5, 6): 2, (6, 3): 3, (2, 5): 2}  # those of a single document are not above the threshold
    assert len(exact[1]) > len(kept)


def test_a_document_counts_for_so_many_ngrams_at_most() -> None:
    ids, starts = packed([list(range(4, 60))] * 50)
    found = private_counts(ids, starts, 64, 1, noise=0.0, contributions=8, delta=1e-6, random=seeded())
    assert found[0].counts.sum() == 50 * 8


def test_what_one_document_alone_says_is_gone() -> None:
    secret = [20, 21, 22, 23]
    for seed in range(20):
        levels = private_counts(*packed([*COMMON, secret]), 32, 3, **BOUNDS, random=seeded(seed))
        assert not set(levels[1].words.tolist()) & set(secret)
    plain = NGram.fit(*packed([*COMMON, secret]), 32, NGramSettings(order=3))
    assert plain.token_nats(*packed([secret])).sum() < 20


def test_a_long_document_alone_brings_nothing_in() -> None:
    """It has many times more n-grams than it may count for, and each of those gets noise."""
    long = [int(token) for token in np.random.default_rng(1).integers(10, 60, 5000)]
    for seed in range(10):
        ids, starts = packed([*[[5]] * 50, long])
        levels = private_counts(ids, starts, 64, 2, noise=2.0, contributions=1, delta=0.3, random=seeded(seed))
        alone = [] if len(levels) < 2 else [int(word) for word in levels[1].words if word >= 10]
        assert len(alone) <= 1  # the one that it may count for


def test_what_is_common_stays_and_the_tables_fit_together() -> None:
    settings = NGramSettings(order=3, noise=1.0, contributions=8)
    model = NGram.fit(*packed(COMMON), 32, settings)
    nats = model.token_nats(*packed([[5, 6, 7]]))
    assert nats.sum() < 3.0  # of 13.9 by guessing
    distribution = model.next_distribution([[2], [2, 5], [2, 30], [8, 9]])
    assert np.allclose(distribution.sum(-1), 1.0, atol=1e-6)
    again = NGram.from_tensors(model.tensors(), model.config())
    assert np.array_equal(again.token_nats(*packed([[5, 6, 7]])), nats)


def test_lengths_of_which_nothing_is_left_are_left_out() -> None:
    model = NGram.fit(*packed(COMMON[:40] + COMMON[-40:]), 32, NGramSettings(order=5, noise=1.0, contributions=64))
    assert model.order < 5 and np.isfinite(model.token_nats(*packed([[5, 6, 7]]))).all()
    assert NGram.from_tensors(model.tensors(), model.config()).order == model.order


def test_the_noise_is_new_each_time() -> None:
    first, second = (private_counts(*packed(COMMON), 32, 2, **BOUNDS)[0].counts.tolist() for _ in range(2))
    assert first != second


def test_nothing_above_the_noise_is_refused() -> None:
    with pytest.raises(LLMBertError, match="less noise"):
        private_counts(*packed([[4]]), 5, 1, noise=0.0, contributions=1, delta=0.5, random=_never())


class _never(np.random.Generator):
    """Draws that end below every count."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, mean, spread, size):  # type: ignore[no-untyped-def,override]
        return np.full(size, -1e9)
