"""The bound of a text VAE: its terms against the definitions, and what keeps the latent variable in use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmbert.data.batches import IGNORED
from llmbert.models.vae import VAE, VAESettings
from llmbert.nn.gaussian import gaussian_kl
from llmbert.objectives.elbo import Annealed, LatentBatch, evidence_lower_bound, kl_weight

NETWORKS = ["gru", "lstm", "transformer"]


def make(network: str = "gru", **shape: Any) -> tuple[VAE, LatentBatch]:
    torch.manual_seed(0)
    model = VAE(VAESettings(network=network, width=16, heads=2, latent=4, context=16, **shape), 30)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.posterior.weight, std=0.5)
    inputs, targets = torch.randint(4, 30, (6, 9)), torch.randint(4, 30, (6, 9))
    targets[torch.arange(9) >= torch.tensor([[9], [4], [7], [2], [9], [5]])] = IGNORED
    return model, LatentBatch(inputs, targets)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)


def test_the_divergence_has_the_right_gradient() -> None:
    mean, log_variance = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(gaussian_kl, (mean, log_variance))


@pytest.mark.parametrize("network", NETWORKS)
def test_its_terms_are_reconstruction_and_divergence(network: str) -> None:
    model, batch = make(network)
    batch.kl_weight = 0.3
    torch.manual_seed(5)
    terms, memory = evidence_lower_bound(model, batch)
    kept = batch.targets != IGNORED
    mean, log_variance = model.infer(batch.targets.clamp_min(0), kept)
    torch.manual_seed(5)
    z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    expected = torch.nn.functional.cross_entropy(
        model.head(model.hidden(batch.inputs, z)).flatten(0, 1), batch.targets.flatten(), reduction="sum"
    )
    assert memory is None
    assert terms["nll"][1] == terms["kl"][1] == batch.count == 36
    torch.testing.assert_close(terms["nll"][0], expected)
    torch.testing.assert_close(terms["kl"][0], 0.3 * gaussian_kl(mean, log_variance).sum())


def test_free_bits_cost_nothing() -> None:
    model, batch = make()
    torch.nn.init.zeros_(model.posterior.weight)  # q is the prior
    free = evidence_lower_bound(model, batch, free_bits=0.5)[0]["kl"][0]
    assert float(free.detach()) == pytest.approx(6 * 4 * 0.5)
    free.backward()
    assert model.posterior.bias.grad is None or not model.posterior.bias.grad.any()


def test_micro_batches_add_up() -> None:
    model, batch = make()
    whole = evidence_lower_bound(model, batch, free_bits=0.3)[0]["kl"][0]
    parts = [evidence_lower_bound(model, part, free_bits=0.3)[0]["kl"][0] for part in batch.split(4)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize(
    ("network", "tied", "encoder"),
    [
        ("gru", True, ("inner.encoder.", "posterior.")),
        ("transformer", True, ("inner.decoder.encoder.", "posterior.")),
        ("transformer", False, ("inner.decoder.encoder.", "inner.decoder.embedding.", "posterior.")),
    ],
)
def test_all_learn_or_the_encoder_alone(network: str, tied: bool, encoder: tuple[str, ...]) -> None:
    for alone in (False, True):
        model, batch = make(network, tied=tied)
        batch.encoder_only = alone
        terms, _ = evidence_lower_bound(model, batch)
        (terms["nll"][0] + terms["kl"][0]).backward()
        for name, weight in model.named_parameters():
            moved = weight.grad is not None and bool(weight.grad.abs().sum() > 0)
            assert weight.requires_grad
            assert moved == (not alone or name.startswith(encoder)), name


def test_words_are_dropped_from_what_the_decoder_sees_only() -> None:
    model, batch = make()
    seen: list[torch.Tensor] = []
    hidden = model.hidden
    model.hidden = lambda ids, z: seen.append(ids) or hidden(ids, z)  # type: ignore[method-assign,assignment,func-returns-value]
    evidence_lower_bound(model, batch, word_dropout=0.5)
    (shown,) = seen
    assert torch.equal(shown[:, 0], batch.inputs[:, 0])
    gaps = shown != batch.inputs
    assert 0.25 < float(gaps[:, 1:].float().mean()) < 0.75
    assert (shown[gaps] == 1).all()


def test_the_weight_rises_as_it_is_told() -> None:
    def steps(schedule: str) -> list[float]:
        return [kl_weight(schedule, step, 100, cycles=2) for step in (0, 25, 50, 75, 99, 100, 500)]

    assert steps("constant") == [1.0] * 7
    assert steps("linear") == [0.0, 0.25, 0.5, 0.75, 0.99, 1.0, 1.0]
    assert steps("cyclical") == [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    sigmoid = steps("sigmoid")
    assert sigmoid[0] < 0.01 and sigmoid[2] == 0.5 and sigmoid[4] > 0.99
    assert sigmoid == sorted(sigmoid)


def test_a_batch_is_weighed_by_its_number_wherever_one_begins() -> None:
    class Counting:
        def iterate(self, position: int = 0) -> Any:
            while True:
                yield LatentBatch(torch.tensor([[position]]), torch.tensor([[position]]))
                position += 1

    annealed = Annealed(Counting(), lambda number: number / 100, aggressive=25)
    for begin in (0, 7, 22):
        for number, batch in zip(range(begin, begin + 12), annealed.iterate(begin), strict=False):
            assert int(batch.inputs) == number
            assert batch.kl_weight == number / 100
            assert batch.encoder_only == (number < 25 and number % 10 > 0)
