"""The evidence lower bound of a text VAE, with what keeps its latent variable in use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmbert.data.batches import IGNORED, Batch
from llmbert.nn.gaussian import gaussian_kl
from llmbert.nn.state import without_gradients
from llmbert.objectives.causal import Terms
from llmbert.objectives.cross_entropy import linear_cross_entropy


@dataclass
class LatentBatch(Batch):
    """One step's texts. kl_weight: how much the KL term counts; encoder_only: only the encoder learns from them."""

    kl_weight: float = 1.0
    encoder_only: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """What each term of the loss is divided by: both by the targets, so that their sum is the bound per token."""
        return {"nll": self.count, "kl": self.count}


@dataclass(frozen=True)
class Annealed:
    """Batches of texts, each with the weight of its KL term by its number.

    aggressive: so many first batches train the encoder alone, but every `decoder_every`th, which trains all (He et al.
    2019, with a fixed length in the place of their test of the mutual information).
    """

    batches: Any
    weight: Callable[[int], float]
    aggressive: int = 0
    decoder_every: int = 10

    @property
    def batches_per_epoch(self) -> int:
        return int(self.batches.batches_per_epoch)

    def iterate(self, position: int = 0) -> Iterator[LatentBatch]:
        """Batches from number `position` on, without end."""
        for number, batch in enumerate(self.batches.iterate(position), position):
            alone = number < self.aggressive and number % self.decoder_every > 0
            weight = self.weight(number)
            yield LatentBatch(batch.inputs, batch.targets, kl_weight=weight, encoder_only=alone)


def kl_weight(schedule: str, step: int, warmup: int, cycles: int = 4, highest: float = 1.0) -> float:
    """How much the KL term counts at a step.

    constant: all the way `highest`; linear: rises from 0 over `warmup` steps (Bowman et al. 2016, §3.1); sigmoid: along
    the logistic curve around the middle of `warmup`; cyclical: rises `cycles` times during `warmup`, each time in the
    first half of a cycle (Fu et al. 2019, eq. 6).
    """
    if schedule == "constant" or step >= warmup:
        return highest
    share = step / warmup
    if schedule == "cyclical":
        share = min(1.0, 2 * ((share * cycles) % 1.0))
    elif schedule == "sigmoid":
        share = 1 / (1 + math.exp(-12 * (share - 0.5)))
    return highest * share


def evidence_lower_bound(
    model: Any,
    batch: LatentBatch,
    memory: Any = None,
    label_smoothing: float = 0.0,
    *,
    free_bits: float = 0.0,
    word_dropout: float = 0.0,
    unknown_id: int = 1,
) -> tuple[Terms, None]:
    """What the negative bound -log p(x|z) + w·KL(q(z|x) ‖ p(z)) sums: "nll" and "kl", in nats over all targets
    (Kingma & Welling 2014, eq. 3, with one draw of z; w: Higgins et al. 2017, eq. 4).

    free_bits: nats of each latent dimension that cost nothing, text by text (Kingma et al. 2016, eq. 15, which averages
    over the batch first; text by text, micro-batches add up); word_dropout: share of the decoder's inputs that it sees
    as the unknown token (Bowman et al. 2016, §3.2). model: `infer(ids, mask)`, `hidden(ids, z)` and a linear `head`.
    """
    kept = batch.targets != IGNORED
    with without_gradients(model.decoding_parameters() if batch.encoder_only else ()):
        mean, log_variance = model.infer(batch.targets.masked_fill(~kept, 0), kept)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        hidden = model.hidden(_with_gaps(batch.inputs, word_dropout, unknown_id), z)
        weight, bias = model.head.weight, model.head.bias
        nll = linear_cross_entropy(hidden[kept], weight, bias, batch.targets[kept], label_smoothing)
    kl = gaussian_kl(mean, log_variance)
    if free_bits:
        kl = kl.clamp_min(free_bits)
    count = int(kept.sum())
    return {"nll": (nll, count), "kl": (batch.kl_weight * kl.sum(), count)}, None


def _with_gaps(inputs: Tensor, share: float, unknown_id: int) -> Tensor:
    """Inputs with a share of their tokens, never the first, made unknown."""
    if not share:
        return inputs
    gaps = torch.rand(inputs.shape, device=inputs.device) < share
    gaps[:, 0] = False
    return inputs.masked_fill(gaps, unknown_id)
