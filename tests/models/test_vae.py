"""A text VAE bounds the probability of texts, and its latent variable says what they are."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from llmbert.decoding import Engine, GenerationSettings, Request
from llmbert.metrics import latent_statistics
from llmbert.models.scoring import cut_pieces
from llmbert.models.vae import VAE, VAESettings
from llmbert.nn.recurrence import RecurrentState
from llmbert.protocols import Condition

BEGIN, END = 2, 3


def documents(*texts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    rows = [np.array([BEGIN, *text, END]) for text in texts]
    return np.concatenate(rows), np.concatenate(([0], np.cumsum([len(row) for row in rows])))


def make(network: str = "gru", **shape: Any) -> VAE:
    torch.manual_seed(3)
    settings: dict[str, Any] = {"width": 16, "heads": 2, "latent": 2, "context": 12} | shape
    model = VAE(VAESettings(network=network, **settings), 20).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return model


TEXTS = documents([5, 6, 7], [8, 9, 10, 11, 12, 5], [4], [5, 6, 8])


def test_the_bounds_lie_where_they_must() -> None:
    """With a latent of one dimension p(x) is an integral over a line: -log p(x) <= the weighted bound <= the ELBO's."""
    model = make(latent=1)
    ids, starts = TEXTS
    grid = torch.linspace(-8, 8, 4001)
    log_prior = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    exact = 0.0
    with torch.inference_mode():
        for begin, end in pairwise(starts):
            text = torch.from_numpy(ids[begin:end])[None].expand(len(grid), -1)
            logits = model.logits(text[:, :-1], Condition(latent=grid[:, None]))
            log_text = logits.log_softmax(-1).gather(2, text[:, 1:, None])[..., 0].sum(1)
            exact -= float((log_text + log_prior).double().logsumexp(0)) + math.log(16 / 4000)
    bound = float(model.token_nats(ids, starts).sum())
    weighted = model.importance_nats(ids, starts, draws=5000)
    assert weighted == pytest.approx(exact, abs=0.1)
    assert exact - 0.1 < weighted < bound


@pytest.mark.parametrize("network", ["gru", "lstm", "transformer"])
def test_a_text_is_scored_by_itself(network: str) -> None:
    model = make(network)
    ids, starts = TEXTS
    whole = model.token_nats(ids, starts)
    assert (whole[starts[:-1]] == 0).all() and (np.delete(whole, starts[:-1]) > 0).all()
    means, log_variances = model.posteriors(ids, starts)
    for number, (begin, end) in enumerate(pairwise(starts)):
        text = ids[begin:end]
        inside = torch.ones(1, len(text) - 1, dtype=torch.bool)
        with torch.inference_mode():
            mean, log_variance = model.infer(torch.from_numpy(text[1:])[None], inside)
        np.testing.assert_allclose(means[number], mean[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(log_variances[number], log_variance[0].numpy(), atol=1e-5)


def test_long_documents_are_even_parts() -> None:
    starts = np.array([0, 5, 30, 32])
    firsts, sizes = cut_pieces(starts, 10)
    assert firsts.tolist() == [0, 5, 13, 21, 30]
    assert sizes.tolist() == [4, 8, 8, 8, 1]
    model = make(context=12)
    ids, long = documents([4 + i % 16 for i in range(40)])
    nats = model.token_nats(ids, long)
    assert (nats[1:] > 0).all()
    assert len(model.posteriors(ids, long)[0]) == 4
    first, two, every = (model.importance_nats(ids, long, 4, most=most) for most in (1, 2, None))
    assert 0 < first < two < every == pytest.approx(model.importance_nats(ids, long, 4, most=4))
    head = int(cut_pieces(long, 12)[1][0]) + 1
    assert first == pytest.approx(model.importance_nats(ids[:head], np.array([0, head]), 4), rel=1e-5)


def test_the_prior_is_the_same_whatever_the_count() -> None:
    model = make()
    three, one = model.prior(3, 5).latent, model.prior(1, 7).latent
    assert three is not None and one is not None
    assert torch.equal(three[2], one[0])
    many = torch.cat([model.prior(1, seed).latent for seed in range(500)])  # type: ignore[misc]
    assert abs(float(many.mean())) < 0.1 and abs(float(many.std()) - 1) < 0.1


class LeaningStepper:
    """One token: A (4) with the probability sigmoid(1.5 z_0), else B (5)."""

    max_length, vocabulary_size = None, 6

    def start(self, batch: int, condition: Condition | None = None) -> RecurrentState:
        assert condition is not None and condition.latent is not None
        return RecurrentState((condition.latent[None],))

    def step(self, ids: torch.Tensor, state: RecurrentState) -> tuple[torch.Tensor, RecurrentState]:
        logits = torch.full((*ids.shape, self.vocabulary_size), -math.inf)
        logits[..., 4], logits[..., 5] = 1.5 * state.memory[0][0, :, :1], 0.0
        return logits, state


@pytest.mark.parametrize("latent", [2, 8, 32])
def test_what_is_drawn_of_z_says_nothing_of_what_is_drawn_of_the_tokens(latent: int) -> None:
    model, texts = make(latent=latent), 3000
    requests = (Request([], GenerationSettings(max_tokens=1, seed=i), model.prior(1, i)) for i in range(texts))
    engine = Engine(LeaningStepper(), BEGIN, END, lambda ids: "", max_batch=64)  # type: ignore[arg-type]
    share = sum(handle.ids == [4] for handle in engine.run(requests)) / texts
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(texts)


def test_statistics_tell_use_from_collapse() -> None:
    random = np.random.default_rng(0)
    used = latent_statistics(random.normal(0, 1, (800, 4)) * [1, 1, 0, 0], np.tile([-6.0, -6.0, 0.0, 0.0], (800, 1)))
    assert used["active_units"] == 2 and used["units"] == 4 and not used["collapsed"]
    assert 3 < used["mutual_information"] <= math.log(800)
    expected = 0.5 * (1 + math.exp(-6) - 1 + 6) * 2
    assert used["kl"] == pytest.approx(expected, rel=0.1)
    unused = latent_statistics(random.normal(0, 0.01, (800, 4)), np.zeros((800, 4)))
    assert unused["active_units"] == 0 and unused["collapsed"]
    assert unused["mutual_information"] < 0.05
    # Far from the prior, but the same for every text: the divergence is large and says nothing.
    apart = latent_statistics(np.ones((800, 4)) * 2, np.full((800, 4), -2.0))
    assert apart["kl"] > 5 and apart["collapsed"]


def test_mutual_information_of_separate_clusters_is_the_log_of_their_number() -> None:
    centres = np.array([[-20.0, 0], [20, 0], [0, 20], [0, -20]])
    found = latent_statistics(np.repeat(centres, 200, axis=0), np.zeros((800, 2)))
    assert found["mutual_information"] == pytest.approx(math.log(4), abs=0.1)
