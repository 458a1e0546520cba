"""Adversarial training of a text GAN: maximum likelihood first, then generator and discriminator in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llmbert.data.batches import IGNORED, Batch
from llmbert.nn.state import without_gradients
from llmbert.objectives.causal import Terms
from llmbert.objectives.cross_entropy import linear_cross_entropy

Phase = Literal["likelihood", "discriminate", "policy", "relaxed"]
JUDGED = 4096  # texts that the discriminator reads at a time


@dataclass
class AdversarialBatch(Batch):
    """One step's real texts, and what is to be learned from them.

    phase: likelihood trains the generator on the texts, discriminate the discriminator against as many drawn ones,
    policy the generator by the discriminator's judgement of finished texts, relaxed by its gradient through softened
    ones; sharpness: of these.
    """

    phase: Phase = "likelihood"
    sharpness: float = 1.0

    @property
    def counts(self) -> dict[str, int]:
        """What each term of the loss is divided by."""
        if self.phase == "likelihood":
            return {"nll": self.count}
        return {name: len(self.inputs) for name in TERMS[self.phase]}


TERMS: dict[str, tuple[str, ...]] = {
    "discriminate": ("real", "drawn"),
    "policy": ("policy",),
    "relaxed": ("relaxed",),
}


@dataclass(frozen=True)
class Alternating:
    """Batches of texts, each with its phase by its number: `likelihood` steps of the generator, `warm` of the
    discriminator, then rounds of `generator` and `discriminator` steps.

    style: "policy" (SeqGAN) or "relaxed" (Gumbel-softmax); sharpness: of the latter, growing from 1 to this along the
    `steps` of all (RelGAN's exponential course, Nie et al. 2019, §3.3).
    """

    batches: Any
    style: Literal["policy", "relaxed"]
    steps: int
    likelihood: int
    warm: int
    generator: int = 1
    discriminator: int = 5
    sharpness: float = 100.0

    def phase(self, number: int) -> Phase:
        """What the step of a number learns."""
        if number < self.likelihood:
            return "likelihood"
        number -= self.likelihood + self.warm
        if number < 0:
            return "discriminate"
        return self.style if number % (self.generator + self.discriminator) < self.generator else "discriminate"

    def kinds(self) -> list[tuple[float, int]]:
        """Each kind of step that there is: its share of all steps, and the number of one of them."""
        likelihood = min(self.likelihood, self.steps)
        begin, round_ = self.likelihood + self.warm, self.generator + self.discriminator
        rounds, over = divmod(max(0, self.steps - begin), round_)
        generator = rounds * self.generator + min(over, self.generator)
        counts = [
            (likelihood, 0),
            (self.steps - likelihood - generator, self.likelihood if self.warm else begin + self.generator),
            (generator, begin),
        ]
        return [(count / self.steps, number) for count, number in counts if count > 0]

    def iterate(self, position: int = 0) -> Iterator[AdversarialBatch]:
        """Batches from number `position` on, without end."""
        begin = self.likelihood + self.warm
        for number, batch in enumerate(self.batches.iterate(position), position):
            share = min(1.0, max(0.0, (number - begin) / max(1, self.steps - begin)))
            sharpness = self.sharpness**share
            yield AdversarialBatch(batch.inputs, batch.targets, phase=self.phase(number), sharpness=sharpness)


def adversarial(
    model: Any,
    batch: AdversarialBatch,
    memory: Any = None,
    label_smoothing: float = 0.0,
    *,
    rollouts: int = 8,
    relativistic: bool = False,
) -> tuple[Terms, None]:
    """The terms of a batch's phase; only the side that learns gets a gradient.

    rollouts: how often a text is finished from each place to judge the token there (Yu et al. 2017, eq. 4);
    relativistic: the discriminator says which of two texts is the real one (Jolicoeur-Martineau 2019, as in RelGAN).
    """
    if batch.phase == "likelihood":
        kept = batch.targets != IGNORED
        hidden, _ = model.generator.hidden(batch.inputs)
        head = model.head
        total = linear_cross_entropy(hidden[kept], head.weight, head.bias, batch.targets[kept], label_smoothing)
        return {"nll": (total, int(kept.sum()))}, None
    if batch.phase == "discriminate":
        return _discriminate(model, batch, relativistic), None
    with without_gradients(model.discriminator.parameters()):
        if batch.phase == "policy":
            return {"policy": (policy_loss(model, len(batch.inputs), rollouts), len(batch.inputs))}, None
        drawn = model.discriminator(model.soft_texts(len(batch.inputs), batch.sharpness))
        real = model.discriminator(_real(model, batch)).detach() if relativistic else 0.0
        return {"relaxed": (nn.functional.softplus(real - drawn).sum(), len(batch.inputs))}, None


def _discriminate(model: Any, batch: AdversarialBatch, relativistic: bool) -> Terms:
    """How wrongly real and drawn texts are told apart, in nats (Goodfellow et al. 2014, eq. 1)."""
    count = len(batch.inputs)
    with torch.no_grad():
        drawn_texts = model.soft_texts(count, batch.sharpness) if relativistic else model.draw(count)
    real, drawn = model.discriminator(_real(model, batch)), model.discriminator(drawn_texts)
    if relativistic:
        loss = nn.functional.softplus(drawn - real).sum()
        return {"real": (loss / 2, count), "drawn": (loss / 2, count)}
    return {
        "real": (nn.functional.softplus(-real).sum(), count),
        "drawn": (nn.functional.softplus(drawn).sum(), count),
    }


def _real(model: Any, batch: AdversarialBatch) -> Tensor:
    """A batch's texts as drawn ones are: without begin token, padded with zeros to the context."""
    texts = batch.targets.clamp_min(0)
    return nn.functional.pad(texts, (0, max(0, model.settings.context - texts.shape[1])))


def policy_loss(model: Any, count: int, rollouts: int) -> Tensor:
    """-Σ log G(y_t | y_<t) · (Q_t - mean of Q_t over the texts), summed over `count` texts (Williams 1992; Yu et al.
    2017, eq. 8): Q_t is the discriminator's belief that the text is real, on average over `rollouts` ways to finish it
    behind y_t. Nothing behind a text's end counts."""
    texts = model.draw(count)
    rewards = judge_prefixes(model, texts, rollouts)
    inside = texts != model.padding_id
    mean = (rewards * inside).sum(0) / inside.sum(0).clamp_min(1)
    begin = torch.full_like(texts[:, :1], model.begin_id)
    hidden, _ = model.generator.hidden(torch.cat((begin, texts[:, :-1]), dim=1))
    logarithms = model.head(hidden).float().log_softmax(-1).gather(2, texts[..., None])[..., 0]
    return -(logarithms * (rewards - mean) * inside).sum()


@torch.no_grad()
def judge_prefixes(model: Any, texts: Tensor, rollouts: int) -> Tensor:
    """Q (B, T) of every place of texts (B, T): the mean belief in `rollouts` texts that go on behind it.

    All that are being finished go along the time together, those of the next place joining them.
    """
    was_training = model.training
    model.eval()
    rewards = model.discriminator(texts).sigmoid()[:, None].repeat(1, texts.shape[1])
    memory, finished = None, texts[:0]  # (N, T), rollouts of one place of one text beside each other
    carried: tuple[Tensor, ...] | None = None
    begin = torch.full_like(texts[:, :1], model.begin_id)
    before = torch.cat((begin, texts[:, :-1]), dim=1)
    ended = (texts == model.end_id).cumsum(1) > 0
    for place in range(texts.shape[1] - 1):
        _, memory = model.generator.hidden(before[:, place, None], memory=memory)
        going = (~ended[:, place]).nonzero()[:, 0].repeat_interleave(rollouts)
        joining = tuple(part[:, going] for part in memory)
        carried = joining if carried is None else tuple(map(_side_by_side, carried, joining))
        finished = torch.cat((finished, texts[going]))
        if not len(finished):  # every text is empty
            continue
        last = finished[:, place, None]
        over = (last == model.end_id) | (last == model.padding_id)
        drawn, carried = model.go_on(last, tuple(part.contiguous() for part in carried))
        finished[:, place + 1, None] = drawn.masked_fill(over, model.padding_id)
    if len(finished):
        beliefs = torch.cat([model.discriminator(rows).sigmoid() for rows in finished.split(JUDGED)])
        rewards.mT[:-1][~ended.mT[:-1]] = beliefs.view(-1, rollouts).mean(1)
    model.train(was_training)
    return rewards


def _side_by_side(some: Tensor, more: Tensor) -> Tensor:
    """Memories (layers, N, D) and (layers, M, D) → (layers, N + M, D)."""
    return torch.cat((some, more), dim=1)
