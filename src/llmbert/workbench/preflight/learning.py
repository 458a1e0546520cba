"""Checks of learning: the first loss, gradients, optimisers, the rate, memory and latents, a batch learned by heart."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmbert.data.batches import IGNORED
from llmbert.nn.norms import BatchNorm
from llmbert.protocols import LLMBertError
from llmbert.workbench.lessons import mean_loss
from llmbert.workbench.preflight.case import (
    SMALL,
    Case,
    Few,
    Outcome,
    differ,
    failed,
    few,
    in_double,
    main_term,
    passed,
    predict,
    shaken,
    skipped,
    still,
)

OVERFIT_STEPS = 100
RATES_BY_HEART = (0.02, 0.001)  # at a width of 32; what one rate shakes another may learn
ROWS_BY_HEART, TOKENS_BY_HEART = 2, 12
RATE_STEPS = 30  # at least, and ten beyond the warm-up
MOST_RATE_STEPS = 120
PATIENCE = 20.0  # seconds that a check may take steps for
SAME = 1e-5  # of a loss that is computed twice: more is a difference
ALONG = 1e-3  # how far a weight is moved to see its slope, as a share of its length
MOST_NUMBERS = 2_000_000  # weights of a model whose slopes are measured


def _nats(case: Case, model: Any, batches: list[Any]) -> float:
    """Nats a target over some batches, in evaluation mode."""
    with torch.no_grad():
        terms, _ = case.plain.objective(model, batches[0], None, 0.0)
    return mean_loss(model, case.plain.objective, batches, main_term(terms))


def check_first_loss(case: Case) -> Outcome:
    """A model that has learned nothing finds every token about as likely as any other."""
    if case.begins_trained:
        return skipped("it begins with the weights of a base")
    even = math.log(case.vocabulary_size)
    model = still(case.fresh).eval()
    loss = _nats(case, model, [case.batch])
    copies = getattr(case.plan.model, "pointer", False)  # what it copies it may well guess
    low = 0.0 if copies else even - max(0.7, 0.12 * even)
    echo = _echo(model, case.batch) if getattr(case.plan.model, "tied", "none") not in (False, "none") else 0.0
    high = max(even, float(np.logaddexp(even, echo))) + max(1.2, 0.35 * even)
    if not low <= loss <= high:
        why = "it is given what it is to predict" if loss < low else "its first weights are too large"
        return failed(
            f"a fresh {case.family} has a loss of {loss:.2f} nats/token, where one that knows nothing has about "
            f"{even:.2f} (ln of {case.vocabulary_size} tokens): {why}; look at how it is initialised and at the targets"
        )
    return passed(f"{loss:.2f} nats/token, ln V is {even:.2f}")


def _echo(model: Any, batch: Any) -> float:
    """How far above the others the logits of the tokens that are given lie: a fresh head that is the embedding says
    what it is given, the more so the wider it is, and forgets that in a few steps."""
    logits, kept = predict(model, batch), batch.targets != IGNORED
    own = logits.gather(-1, batch.inputs[..., None])[..., 0] - logits.mean(-1)
    return float(own[kept].mean())


def check_overfits(case: Case) -> Outcome:
    """A few rows are learned by heart, whatever else is planned."""
    batch = few(case.batch, ROWS_BY_HEART, TOKENS_BY_HEART)
    batch = batch if all(batch.counts.values()) else case.batch
    first = _nats(case, still(case.fresh), [batch])
    began, losses = time.monotonic(), []
    for rate in RATES_BY_HEART:
        loss, steps = _by_heart(case, batch, rate, 0.5 * first, began)
        if loss < 0.5 * first:
            return passed(f"from {first:.2f} to {loss:.2f} nats/token in {steps} steps on {len(batch.inputs)} rows")
        if time.monotonic() - began > PATIENCE:
            return skipped(f"from {first:.2f} to {loss:.2f} nats/token in {steps} steps, then time was up")
        losses.append(loss)
    return failed(
        f"{OVERFIT_STEPS} steps on the same {len(batch.inputs)} rows bring the loss from {first:.2f} to "
        f"{min(losses):.2f} nats/token only: {case.family} does not learn; see which weights get a gradient, and "
        "whether targets fit inputs"
    )


def _by_heart(case: Case, batch: Any, rate: float, enough: float, began: float) -> tuple[float, int]:
    """The loss of a batch that is learned again and again until it is low enough, and after how many steps."""
    model = still(case.fresh)
    trainer = case.trainer(
        model,
        optimiser="adamw",
        learning_rate=rate * (32 / max(32, getattr(case.plan.model, "width", 32))) ** 0.5,
        schedule="constant",
        warmup=0,
        steps=OVERFIT_STEPS,
        clip_norm=1.0,
        label_smoothing=0.0,
        average=0.0,
        accumulate=1,
        layer_decay=1.0,
    )
    loss = math.inf
    for step in range(1, OVERFIT_STEPS + 1):
        trainer.memory = None
        trainer.step(batch)
        if step % 10 == 0:
            loss = _nats(case, model, [batch])
            if not loss > enough or time.monotonic() - began > PATIENCE:
                return loss, step
    return loss, OVERFIT_STEPS


def check_accumulation(case: Case) -> Outcome:
    """Micro-batches give the full batch's gradient, also where they hold unequal numbers of targets."""
    batch = _uneven(case.batch)
    if len(batch.inputs) < 2:
        return skipped("a batch has a single row")
    if any(isinstance(module, BatchNorm) for module in case.fresh.modules()):
        return skipped("batch norm sees the micro-batch it is in; take norm=layer or rms to accumulate exactly")
    model = still(shaken(case.fresh))
    whole = _gradients(case, model, batch, 1)
    # What is zero in exact numbers, such as the slope of a bias that softmax does not see, is not compared by its size.
    least = 1e-4 * max(float(gradient.abs().max()) for gradient in whole.values())
    for parts in sorted({2, len(batch.inputs)}):
        split = _gradients(case, model, batch, parts)
        for name, gradient in whole.items():
            size = max(float(gradient.abs().max()), least, 1e-12)
            if name not in split or differ(gradient / size, split[name] / size, 10 * SMALL):
                return failed(
                    f"{parts} micro-batches give {name} another gradient than the whole batch; divide each term by "
                    "its count over the whole batch, not over the micro-batch, and split() all of a row"
                )
    return passed(f"{len(batch.inputs)} rows at once or one by one: the same gradients")


def _uneven(batch: Any) -> Any:
    """A batch whose first row has fewer targets than the others."""
    targets = batch.targets.clone()
    scored = (targets[0] != IGNORED).nonzero()[:, 0]
    targets[0, scored[len(scored) // 2 + 1 :]] = IGNORED
    return replace(batch, targets=targets)


def _gradients(case: Case, model: Any, batch: Any, parts: int) -> dict[str, Tensor]:
    """The gradients that a trainer's step finds; the weights stay as they are."""
    trainer = case.trainer(
        model,
        optimiser="sgd",
        learning_rate=0.0,
        weight_decay=0.0,
        clip_norm=None,
        clip_value=None,
        average=0.0,
        accumulate=parts,
    )
    trainer.step(batch)
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def check_optimisers(case: Case) -> Outcome:
    """Every weight that learns is held by one optimiser, once."""
    model = still(case.fresh)
    held = [id(w) for o in case.trainer(model).optimisers for group in o.param_groups for w in group["params"]]
    learning = {id(w): name for name, w in model.named_parameters() if w.requires_grad}
    missing = [name for key, name in learning.items() if key not in held]
    doubled = [name for key, name in learning.items() if held.count(key) > 1]
    if missing:
        return failed(f"no optimiser knows {_listed(missing)}, which will never learn; mend build_optimisers")
    if doubled:
        return failed(f"{_listed(doubled)} would be moved twice a step; mend the groups in build_optimisers")
    if set(held) - learning.keys():
        return failed("an optimiser holds weights that are not the model's; build it from the model that is trained")
    return passed(f"{len(learning)} weights, each in one optimiser")


def check_gradients(case: Case) -> Outcome:
    """Every weight that learns gets a finite gradient that is not zero, and it is the loss's slope."""
    model = still(shaken(case.fresh))
    for name, gradient in _gradients(case, model, case.batch, 1).items():
        if not bool(gradient.isfinite().all()):
            return failed(f"the gradient of {name} is not finite; look for a division by zero or a root of it")
    dead = [
        name for name, w in model.named_parameters() if w.requires_grad and (w.grad is None or not bool(w.grad.any()))
    ]
    if dead:
        return failed(
            f"{_listed(dead)} get{'s' if len(dead) == 1 else ''} no gradient, so what {case.family} does with it is "
            "nothing or is cut off; use it, or let no detach() or no_grad() stand in the way"
        )
    wrong, measured, count = _wrong_slopes(case)
    if wrong:
        return failed(
            f"the gradient of {_listed(wrong)} is not the slope of the loss (measured by moving it a little); look for "
            "a detach() on one of its ways, or a gradient written by hand"
        )
    return passed(f"{count} weights, all with a gradient, {measured} of them compared with the slope of the loss")


def _wrong_slopes(case: Case) -> tuple[list[str], int, int]:
    """Weights whose gradient is not the slope of the loss along a random direction, how many were tried, of how many.

    In float64, where the slope (f(w + d) - f(w - d)) / 2 is exact enough.
    """
    model = in_double(still(shaken(case.fresh)))
    named = [(name, w) for name, w in model.named_parameters() if w.requires_grad]
    if sum(w.numel() for _, w in named) > MOST_NUMBERS:
        return [], 0, len(named)
    batch = few(case.batch, 2, 12)
    batch = batch if all(batch.counts.values()) else case.batch

    def loss() -> Tensor:
        torch.manual_seed(0)
        terms, _ = case.plain.objective(model, batch, None, 0.0)
        return torch.stack([value / max(1, count) for value, count in terms.values()]).sum()

    loss().backward()
    draw, began, wrong, tried = torch.Generator().manual_seed(2), time.monotonic(), [], 0
    for name, weight in named:
        gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        direction = torch.randn(weight.shape, generator=draw, dtype=weight.dtype).to(weight.device)
        size = min(float(weight.detach().norm()), weight.numel() ** 0.5) + 0.1
        direction *= ALONG * size / float(direction.norm())
        slope = _slope(weight, direction, loss)
        expected = float((gradient * direction).sum())
        usual = float(gradient.norm() * direction.norm()) / weight.numel() ** 0.5
        if not abs(slope - expected) <= 0.05 * max(usual, abs(expected)) + 1e-8:
            wrong.append(name)
        tried += 1
        if time.monotonic() - began > PATIENCE:
            break
    return wrong, tried, len(named)


@torch.no_grad()
def _slope(weight: nn.Parameter, direction: Tensor, loss: Any) -> float:
    """How much the loss changes along a direction, by going both ways; the weight is left as it was."""
    before = weight.detach().clone()
    weight.copy_(before + direction)
    above = float(loss())
    weight.copy_(before - direction)
    below = float(loss())
    weight.copy_(before)
    return (above - below) / 2


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def check_rate(case: Case) -> Outcome:
    """A few dozen steps as planned, warm-up included: the loss stays finite, falls, and the rate does as it is told."""
    plan = case.plan.training
    steps = min(plan.steps, MOST_RATE_STEPS, max(RATE_STEPS, plan.warmup + 10))
    if steps < 8:
        return skipped(f"the training has {plan.steps} steps")
    if getattr(next(iter(case.lesson.batches.iterate())), "phase", "likelihood") != "likelihood":
        return skipped("it begins without maximum likelihood")
    model = copy.deepcopy(case.fresh).train()
    first = [batch.to(next(model.parameters()).device) for batch in islice(case.plain.batches.iterate(), 2)]
    before = _nats(case, model, first)
    trainer = case.trainer(model, lesson=case.lesson, precision=plan.precision)
    rates, losses, began = [], [], time.monotonic()
    try:
        for batch in islice(case.lesson.batches.iterate(), steps):
            figures = trainer.step(batch)
            rates.append(figures["rate"])
            losses.append(figures["loss"])
            if time.monotonic() - began > PATIENCE:
                break
    except LLMBertError as error:
        return failed(str(error))
    warm = rates[: plan.warmup]
    if plan.warmup > 1 and not (warm[0] < 1 and all(a < b for a, b in pairwise(warm))):
        return failed(
            f"a warm-up over {plan.warmup} steps is planned, but the rate begins at {warm[0]:.2g} of its height; mend "
            "the schedule (training/schedules.py)"
        )
    after = _nats(case, model, first)
    if not after < before and len(rates) < min(steps, 8):
        return skipped(f"time was up after {len(rates)} steps, too few to tell")
    if not after < before:
        return failed(
            f"after {len(rates)} steps as planned the loss of the first batches is {after:.2f} nats/token, and was "
            f"{before:.2f}: it does not fall; lower --set learning_rate (now {plan.learning_rate:g}) or "
            f"matrix_learning_rate (now {plan.matrix_learning_rate:g}), or raise --set warmup (now {plan.warmup})"
        )
    return passed(f"{len(rates)} steps as planned: from {before:.2f} to {after:.2f} nats/token")


def check_measuring(case: Case) -> Outcome:
    """Held-out loss measured twice is the same, and measuring leaves the model in the mode it was in."""
    model = copy.deepcopy(case.fresh).train()
    evaluate = case.teach(model, evaluate_every=1).evaluate
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    one, other = evaluate(), evaluate()
    stayed, moved = model.training, [n for n, w in model.named_parameters() if not torch.equal(w, before[n])]
    if one != other:
        return failed(
            f"the held-out loss is {one:.5f} nats/token, and {other:.5f} when it is measured again: something random "
            "is on while it is measured; switch to evaluation mode, and draw with a seed of its own"
        )
    if not stayed:
        return failed("measuring leaves the model in evaluation mode, so dropout is off from then on; switch it back")
    if moved:
        return failed(f"measuring changes {_listed(moved)}; held-out text must teach nothing")
    return passed(f"{one:.3f} nats/token, twice")


# ---- carried memory and latents ------------------------------------------------------------------------------------


def check_memory(case: Case) -> Outcome:
    """A carried memory goes on with its text, and is forgotten where another begins."""
    wrong = _broken_stream(case)
    if wrong:
        return failed(wrong)
    model, (first, second) = still(shaken(case.fresh)), _two_starts(case)
    trainer = case.trainer(
        model, optimiser="sgd", learning_rate=0.0, clip_norm=None, label_smoothing=0.0, average=0.0, accumulate=1
    )
    trainer.step(first)
    with torch.no_grad():
        terms, _ = case.plain.objective(model, second, None, 0.0)
    total, count = terms["nll"]
    alone, after = float(total) / max(1, count), trainer.step(second)["loss"]
    if not abs(alone - after) <= SAME * max(1.0, alone):
        return failed(
            f"a text that begins anew has a loss of {after:.4f} nats/token behind another and {alone:.4f} alone: the "
            "memory of the one before is carried into it; forget it where a batch is fresh (training/loop.py)"
        )
    carried = trainer.step(replace(second, fresh=False))["loss"]
    if abs(alone - carried) <= SAME * max(1.0, alone):
        return failed(
            "a text that goes on is read as if it began anew: its memory is lost between batches; carry it on"
        )
    return passed("the memory goes on with its text and is forgotten where another begins")


def _two_starts(case: Case) -> list[Any]:
    """Two batches that begin anew, of equally many rows."""
    return [replace(few(case.batch, 2, size), fresh=True) for size in (12, 8)]


def _broken_stream(case: Case) -> str | None:
    """What is wrong where a batch that goes on does not go on with the text of the one before."""
    before: Any = None
    for number, batch in enumerate(islice(case.plain.batches.iterate(), 24)):
        if not batch.fresh:
            if before is None or len(before.inputs) < len(batch.inputs):
                return (
                    f"batch {number} goes on with a text that no batch before it holds; mend `fresh` (data/batches.py)"
                )
            scored = batch.targets[:, 0] != IGNORED
            if bool((batch.inputs[:, 0] != before.targets[:, -1])[scored].any()):
                return (
                    f"batch {number} carries a memory on, but begins with other text than the one before ends with; "
                    "mark it fresh where a new text begins (data/batches.py)"
                )
        before = batch
    return None


def check_latent(case: Case) -> Outcome:
    """The KL term's weight rises to 1, and texts are told apart by their latents after a few steps."""
    steps, plan = case.plan.training.steps, case.plan.training
    asked = sorted({0, steps // 4, steps // 2, steps - 1})
    weights = [next(iter(case.lesson.batches.iterate(at))).kl_weight for at in asked]
    if weights[-1] < 1.0:
        return failed(
            f"the KL term weighs {weights[-1]:.2g} at the last step, so what is trained is no bound on the likelihood; "
            "let it rise to 1: --set kl_steps below the number of steps"
        )
    if steps > 3 and plan.kl_schedule in ("linear", "sigmoid") and not weights[0] < 0.5:
        return failed(
            f"the KL term weighs {weights[0]:.2g} from the first step on, under which the latent variable is given up "
            "at once; let it rise (kl_schedule)"
        )
    model = case.probe
    if case.trained is None:
        model = still(case.fresh)
        trainer = case.trainer(model, Few(case.lesson.batches), case.lesson, warmup=0, average=0.0)
        for batch in islice(trainer.batches.iterate(), min(steps, 12)):
            trainer.step(batch)
    batch = case.batch
    kept = batch.targets != IGNORED
    with torch.no_grad():
        mean, _ = model.eval().infer(batch.targets.masked_fill(~kept, 0), kept)
    spread = float(mean.std(0).max()) if len(mean) > 1 else 1.0
    if not spread > 1e-3:
        return failed(
            f"all texts have the same posterior (their means differ by {spread:.1g}): the latent variable has "
            "collapsed; give it --set free_bits, word_dropout or aggressive, or look at the encoder"
        )
    return passed(f"KL weight {weights[0]:.2g} to {weights[-1]:.2g}, means differ by {spread:.2g} between texts")
