"""What is measured on the way of a training, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmbert.objectives.elbo import Annealed
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.lessons import LEAST_VALID, VALID_SHARE, _some_batches, _valid_tokens, mean_loss


@pytest.mark.parametrize(
    ("every", "tokens"),
    [
        (None, VALID_SHARE * 1000 * 100),  # a twentieth of 2,000 steps
        (100, VALID_SHARE * 1000 * 100),
        (50, VALID_SHARE * 1000 * 50),
        (1, LEAST_VALID),
        (1000, VALID_SHARE * 1000 * 100),  # who measures twice because time is short does not read ten times as much
    ],
)
def test_who_measures_often_reads_little_and_who_measures_seldom_no_more(every: int | None, tokens: float) -> None:
    assert _valid_tokens(TrainingSettings(steps=2000, evaluate_every=every), 1000) == pytest.approx(tokens)


class Few:
    """Three batches of ten tokens an epoch, over and over."""

    batches_per_epoch = 3

    def iterate(self, position: int = 0) -> Iterator[Any]:
        yield from repeat(SimpleNamespace(count=10))


class FewPairs(Few):
    batches_per_epoch: Any = None

    def plan(self, epoch: int) -> list[list[int]]:
        return [[0], [1], [2]]


@pytest.mark.parametrize("batches", [Few(), FewPairs(), Annealed(Few(), lambda step: 1.0)])
def test_a_short_held_out_text_is_measured_once_and_no_more(batches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Annealed, "iterate", lambda annealed, position=0: annealed.batches.iterate(position))
    assert [len(_some_batches(batches, tokens)) for tokens in (5, 15, 10_000)] == [1, 2, 3]


class Part:
    def __init__(self, nll: float, kl: float, count: int) -> None:
        self.terms = {"nll": (torch.tensor(nll), count), "kl": (torch.tensor(kl), count)}

    def split(self, parts: int) -> list[Part]:
        return [self]

    def to(self, device: Any) -> Part:
        return self


def test_terms_are_summed_over_all_batches_in_one_pass() -> None:
    passes = []

    def objective(model: Any, part: Part, memory: Any, smoothing: float) -> tuple[Any, None]:
        assert not model.training
        passes.append(part)
        return part.terms, None

    model, parts = torch.nn.Linear(1, 1).train(), [Part(6.0, 3.0, 3), Part(2.0, 1.0, 1)]
    assert mean_loss(model, objective, parts, "nll") == 2.0
    assert mean_loss(model, objective, parts, "nll", "kl") == 3.0
    assert len(passes) == 4 and model.training
