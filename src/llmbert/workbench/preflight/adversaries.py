"""Checks of a GAN: each side learns in its own phase and towards what it should, and texts stay different."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmbert.models.scoring import cut_pieces
from llmbert.workbench.preflight.case import Case, Outcome, failed, passed, skipped, still

TEXTS = 16  # in a step
STEPS = 40  # at most, of one side alone
WATCHED = 64  # texts whose variety is looked at
PATIENCE = 10.0  # seconds for each side
GAINED = 0.1  # how much more often what is liked must be written
MOST_ALIKE = 0.5  # least variety, as a share of that of real texts


class _Liking(nn.Module):
    """A discriminator that likes tokens with even numbers."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.register_buffer("even", (torch.arange(vocabulary_size) % 2 == 0).float())

    def forward(self, texts: Tensor) -> Tensor:
        """Ids (B, T) or distributions (B, T, V) → logits (B,)."""
        even: Tensor = self.even  # type: ignore[assignment]
        if texts.dim() == 3:
            return 8 * (texts @ even).mean(1) - 4
        return 8 * (even[texts] * (texts > 0)).mean(1) - 4


def check_adversaries(case: Case) -> Outcome:
    """In a phase one side gets gradients and the other none; the discriminator learns to tell real texts from drawn
    ones, and the generator to write what a discriminator likes."""
    style = case.lesson.batches.style
    wrong = _mixed_up(case, style)
    if wrong:
        return failed(wrong)
    told = _told_apart(case)
    if isinstance(told, Outcome):
        return told
    followed = _followed(case, style)
    if isinstance(followed, Outcome):
        return followed
    return passed(
        f"real texts are judged {told:.1f} above drawn ones after some steps; what is liked is written {followed:+.0%}"
    )


def _rows(case: Case, phase: str) -> Any:
    """Some texts for a phase."""
    first = next(iter(case.lesson.batches.iterate()))
    rows = {name: getattr(first, name)[:TEXTS] for name in ("inputs", "targets")}
    return replace(first, **rows, phase=phase).to(next(case.fresh.parameters()).device)


def _trainer(case: Case, model: Any, **settings: Any) -> Any:
    plain = {"schedule": "constant", "warmup": 0, "average": 0.0, "accumulate": 1, "clip_norm": 1.0, "steps": STEPS}
    return case.trainer(model, lesson=case.lesson, **{"optimiser": "adamw", **plain, **settings})


def _mixed_up(case: Case, style: str) -> str | None:
    """What is wrong where a phase teaches the wrong side, or a side not at all."""
    # Where two judgements are compared, what is added to both is of no effect: the bias of the discriminator's head.
    for phase, learner in (("discriminate", "discriminator"), (style, "generator")):
        model = still(case.fresh)
        trainer = _trainer(case, model, optimiser="sgd", learning_rate=0.0, weight_decay=0.0, clip_norm=None)
        trainer.step(_rows(case, phase))
        for name, weight in model.named_parameters():
            learns = weight.grad is not None and bool(weight.grad.any())
            if learns and not name.startswith(learner):
                return (
                    f"the phase {phase!r} is the {learner}'s, but {name} gets a gradient as well; keep the other side "
                    "out of it (objectives/adversarial.py)"
                )
            if not learns and name.startswith(learner) and not (style == "relaxed" and name.endswith("head.bias")):
                return (
                    f"{name} gets no gradient in the phase {phase!r}, which is the {learner}'s; look for a detach() or "
                    "no_grad() on its way (objectives/adversarial.py)"
                )
    return None


def _told_apart(case: Case) -> float | Outcome:
    """How far above drawn texts the real ones are judged by a discriminator that just learned, or what that says."""
    model, batch, began = still(case.fresh), _rows(case, "discriminate"), time.monotonic()
    trainer = _trainer(case, model, learning_rate=0.005)
    real = _padded(batch.targets, model)
    apart = 0.0
    for step in range(1, STEPS + 1):
        trainer.step(batch)
        if step % 5 == 0:
            with torch.no_grad():
                apart = float(model.discriminator(real).mean() - model.discriminator(model.draw(TEXTS)).mean())
            if apart > 1.0:
                return apart
            if time.monotonic() - began > PATIENCE:
                break
    if apart > 0.2:
        return apart
    if time.monotonic() - began > PATIENCE:
        return skipped(f"the discriminator judges real texts {apart:.1f} above drawn ones, then time was up")
    return failed(
        f"after {STEPS} steps on the same texts the discriminator judges real ones {apart:.2f} above drawn ones, by "
        "which nothing can be learned; look at the signs of its loss, and at which texts it is shown"
    )


def _padded(targets: Tensor, model: Any) -> Tensor:
    texts = targets.clamp_min(0)
    return nn.functional.pad(texts, (0, max(0, model.settings.context - texts.shape[1])))


def _followed(case: Case, style: str) -> float | Outcome:
    """How much more often a generator writes what a discriminator likes after some steps, or what that says."""
    model, began = still(case.fresh), time.monotonic()
    model.discriminator = _Liking(case.vocabulary_size).to(next(case.fresh.parameters()).device)
    even = model.discriminator.even.bool()
    before = _share(model, even)
    trainer = _trainer(case, model, learning_rate=0.02)
    batch = replace(_rows(case, style), sharpness=1.0)
    for step in range(1, STEPS + 1):
        trainer.step(batch)
        if step % 5 == 0 and _share(model, even) > before + GAINED:
            break
        if time.monotonic() - began > PATIENCE:
            gained = _share(model, even) - before
            return gained if gained > 0 else skipped(f"{step} steps of the generator, then time was up")
    gained = _share(model, even) - before
    if gained > 0.5 * GAINED:
        return gained
    return failed(
        f"a discriminator that likes half of the tokens moves the generator by {gained:+.1%} towards them in {step} "
        "steps: it does not follow; look at the sign of its loss and at the rewards (objectives/adversarial.py)"
    )


@torch.no_grad()
def _share(model: Any, liked: Tensor) -> float:
    """The share of drawn tokens that are liked."""
    texts = torch.cat([model.draw(WATCHED) for _ in range(4)])
    return float(liked[texts][texts > 0].float().mean())


def check_variety(case: Case) -> Outcome:
    """A generator's texts differ from each other about as much as real ones do: no mode collapse."""
    model = case.probe if case.trained is not None else case.fresh
    reach, shard = model.settings.context, case.store.train
    firsts, sizes = cut_pieces(np.asarray(shard.starts[: 8 * WATCHED]), reach)  # type: ignore[union-attr]
    some = np.linspace(0, len(firsts) - 1, min(WATCHED, len(firsts))).astype(int)
    ids: Any = shard.ids  # type: ignore[union-attr]
    real = [tuple(np.asarray(ids[firsts[i] + 1 : firsts[i] + sizes[i] + 1]).tolist()) for i in some]
    drawn = [tuple(text.tolist()) for text in model.sample(len(real), None, seed=0)]
    # Longer texts repeat more pairs, so as many pairs of both are looked at.
    pairs = [[pair for text in texts for pair in pairwise(text)] for texts in (drawn, real)]
    most = max(1, min(map(len, pairs)))
    different, of_real = (len(set(texts)) / len(texts) for texts in (drawn, real))
    distinct, distinct_real = (len(set(each[:most])) / most for each in pairs)
    said = (
        f"{different:.0%} of {len(drawn)} drawn texts differ (of real ones {of_real:.0%}), {distinct:.0%} of their "
        f"pairs of tokens (of real ones {distinct_real:.0%})"
    )
    if different < MOST_ALIKE * of_real or distinct < MOST_ALIKE * distinct_real:
        return failed(
            f"{said}: the generator writes the same again and again (mode collapse); stop earlier, or lower "
            "--set learning_rate or raise discriminator_every"
        )
    return passed(said)
