"""Training that no single document shows in: each document's gradient is clipped, and noise is added to their sum."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from llmbert.data.batches import IGNORED
from llmbert.nn.norms import BatchNorm
from llmbert.nn.recurrence import unrolled
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.training.optimisers import OPTIMISERS
from llmbert.training.schedules import factor
from llmbert.training.settings import TrainingSettings

FROM_SYSTEM = 1 << 40  # the seed that a generator of the system's says it has
STATE_AT, STATE_WORDS = 24, 624  # where the words of the Mersenne Twister lie in what torch tells of a generator
GRADIENT_BYTES = 256 << 20  # of the gradients of single documents that are held at once


def learn_privately(
    model: nn.Module,
    ids: NDArray[Any],
    starts: NDArray[np.int64],
    context: int,
    settings: TrainingSettings,
    *,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """DP-SGD (Abadi et al. 2016, algorithm 1) of a model that predicts the next token; returns what privacy rests on.

    ids (N,), starts (documents + 1,): as in a shard. In each of `settings.steps` steps every document is taken with
    the chance rate = batch / documents (Poisson sampling); of a longer one a stretch of `context` tokens drawn anew.
    The gradient of its mean loss is clipped to the norm `settings.clip_norm`, the sum of all gets Gaussian noise of
    `settings.noise` times that (both by Opacus), and is divided by the batch. Returned are noise, rate and steps, see
    `trust.accounting.spent`, and documents, seconds and tokens.

    generator: None draws sampling and noise from the system: from a seed that is written down they would hide nothing.
    Raises UsageError where there is nothing to clip by or batch norm, LLMBertError where Opacus is missing or the loss
    diverges.
    """
    documents = len(starts) - 1
    if settings.clip_norm is None:
        raise UsageError("private training clips each document's gradient; set clip_norm")
    if any(isinstance(module, BatchNorm) for module in model.modules()):
        raise UsageError("batch norm keeps averages of the text without noise; take norm=layer or rms")
    generator = generator or _system_generator()
    rate = min(1.0, settings.batch / documents)
    optimiser = _private_optimiser(model, settings, rate * documents, generator)
    gradients = _gradients_of(model)
    weights = sum(weight.numel() for weight in model.parameters())
    together = int(max(1, min(64, GRADIENT_BYTES // (4 * weights))))
    began, tokens, steps = time.monotonic(), 0, 0
    model.train()
    while steps < settings.steps and not stop():
        scale = factor(settings.schedule, steps, settings.steps, settings.warmup, settings.floor, settings.hold)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * scale
        chosen = (torch.rand(documents, generator=generator) < rate).nonzero()[:, 0].tolist()
        rows = [_stretch(ids[starts[i] : starts[i + 1]], context, generator) for i in chosen]
        optimiser.zero_grad()
        loss = _take_in(model, gradients, rows, together, optimiser)
        optimiser.step()
        tokens += sum(len(row) - 1 for row in rows)
        steps += 1
        progress("training privately", steps, settings.steps, **({"loss": loss} if rows else {}))
    model.eval()
    seconds = time.monotonic() - began
    return {
        "noise": settings.noise,
        "rate": rate,
        "steps": steps,
        "documents": documents,
        "seconds": seconds,
        "tokens": tokens,
    }


def _take_in(model: nn.Module, gradients: Any, rows: Sequence[Tensor], together: int, optimiser: Any) -> float:
    """Clip and sum the rows' gradients, `together` at a time; their mean loss, nats/token. The noise comes later."""
    device = next(model.parameters()).device
    total, parts = 0.0, [rows[i : i + together] for i in range(0, len(rows), together)] or [[]]
    for number, part in enumerate(parts):
        named = dict(model.named_parameters())
        if part:
            block = nn.utils.rnn.pad_sequence(list(part), batch_first=True, padding_value=IGNORED).to(device)
            losses, found = gradients({name: weight.detach() for name, weight in named.items()}, block)
            total += float(losses.sum())
        for name, weight in named.items():
            if weight.requires_grad:
                # A view: two biases that are only ever added have one gradient, and Opacus marks what it has seen.
                each = found[name].view_as(found[name]) if part else weight.new_zeros((0, *weight.shape))
                weight.grad_sample = each  # type: ignore[attr-defined]
        if number < len(parts) - 1:
            optimiser.signal_skip_step()
            optimiser.step()
            optimiser.zero_grad()
    mean = total / max(1, len(rows))
    if not np.isfinite(mean):
        raise LLMBertError(f"the loss became {mean}; lower the rate with --set learning_rate=…")
    return mean


def _gradients_of(model: nn.Module) -> Any:
    """A function of weights and rows (B, T + 1) → losses (B,), and each row's gradient by name (B, …)."""
    buffers = dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], row: Tensor) -> tuple[Tensor, Tensor]:
        inside = row[1:] != IGNORED
        logits = functional_call(model, (weights, buffers), (row[None, :-1].clamp_min(0),))[0]
        nats = nn.functional.cross_entropy(logits, row[1:].clamp_min(0), reduction="none")
        mean = (nats * inside).sum() / inside.sum().clamp_min(1)
        return mean, mean.detach()

    def found(weights: dict[str, Tensor], rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        # vmap falls back to a loop for fused kernels, and says so each time.
        with unrolled(model), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            each, losses = vmap(grad(loss, has_aux=True), in_dims=(None, 0), randomness="different")(weights, rows)
        return losses, each

    return found


def _stretch(document: NDArray[Any], context: int, generator: torch.Generator) -> Tensor:
    """A document's ids, or `context` + 1 of them from a place drawn at random."""
    spare = len(document) - context - 1
    begin = int(torch.randint(spare + 1, (1,), generator=generator)) if spare > 0 else 0
    return torch.from_numpy(document[begin : begin + context + 1].astype(np.int64))


def private_optimiser(settings: TrainingSettings) -> str:
    """The optimiser that learns with noise: Adam in the place of those that this does not suit."""
    return "adam" if settings.optimiser in ("muon", "adamw") else settings.optimiser


def _private_optimiser(model: nn.Module, settings: TrainingSettings, batch: float, generator: torch.Generator) -> Any:
    try:
        from opacus.optimizers import DPOptimizer
    except ImportError as error:
        raise LLMBertError("opacus trains privately and is missing; pip install 'llmbert[privacy]'") from error
    kind = private_optimiser(settings)
    groups = [{"params": [weight for weight in model.parameters() if weight.requires_grad]}]
    return DPOptimizer(
        OPTIMISERS[kind](groups, settings),
        noise_multiplier=settings.noise,
        max_grad_norm=settings.clip_norm,
        expected_batch_size=max(1.0, batch),
        generator=_on_device(generator, next(model.parameters()).device),
    )


def _on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator whose numbers lie on a device."""
    if device.type == "cpu":
        return generator
    if generator.initial_seed() == FROM_SYSTEM:
        return torch.Generator(device).manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))


def _system_generator() -> torch.Generator:
    """A generator whose whole state is the system's randomness: of a seed torch takes 32 bits, which can be tried."""
    generator = torch.Generator().manual_seed(FROM_SYSTEM)
    state = generator.get_state().clone()
    words = state.numpy()[STATE_AT : STATE_AT + 8 * STATE_WORDS].view(np.uint64)
    words[:] = np.frombuffer(os.urandom(4 * STATE_WORDS), np.uint32)
    generator.set_state(state)
    return generator
