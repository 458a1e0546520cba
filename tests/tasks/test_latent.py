"""Texts by way of a latent variable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmbert.protocols import Condition
from llmbert.tasks import latent


def test_a_seed_is_that_of_the_latents_and_of_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def prior(count: int, seed: int) -> Condition:
        seeds.append(seed)
        return Condition(latent=torch.zeros(count, 2))

    def write(run: Any, latents: Any, progress: Any, **settings: Any) -> list[str]:
        seeds.append(settings["seed"])
        return []

    monkeypatch.setattr(latent, "write_latents", write)
    run: Any = SimpleNamespace(model=SimpleNamespace(prior=prior, posteriors=None))
    latent.sample(run, 3, seed=7)
    assert seeds == [7, 7]
