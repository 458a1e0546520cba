"""The training loop: batches → smaller loss, with everything it needs to stop anywhere and go on exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llmbert.nn.state import state_once
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.training.checkpoint import optimiser_tensors, read_checkpoint, restore_optimisers, write_checkpoint
from llmbert.training.compilation import compiled_layers, recomputed_layers
from llmbert.training.optimisers import build_optimisers
from llmbert.training.precision import resolve_precision
from llmbert.training.schedules import factor, fewest_steps
from llmbert.training.settings import TrainingSettings

LEAST_STEPS = 20  # of a training that a deadline cuts short: fewer teach nothing
LATE = 0.02  # share of the steps left that are worth leaving out once the rate falls
UNHURRIED = 2  # first steps of a training, which are slow: memory is asked for, and matrices are packed


class Interrupted(LLMBertError):
    """Training was asked to stop; everything that can be gone on with is saved."""


class Batches(Protocol):
    """Batches without end from number `position` on; each has `counts` (how many things each term of its loss sums),
    `count` (tokens learned from, for the log), `fresh`, `split(parts)` and `to(device)`."""

    def iterate(self, position: int = 0) -> Iterator[Any]: ...


Objective = Callable[[Any, Any, Any, float], tuple[dict[str, tuple[Tensor, int]], Any]]
"""(model, batch, memory, label smoothing) → (named (sum, count) terms, memory)."""


@dataclass
class Progression:
    """How far a training has come; all of it but `seconds` is the same in every run of the same seed."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    best: float | None = None  # lowest valid nats/token so far
    worse: int = 0  # evaluations since then
    valid: list[list[float]] = field(default_factory=list)  # [tokens, nats/token]
    stopped_early: bool = False


@dataclass
class Trainer:
    """One model, its objective and batches, and all that moves while it learns.

    evaluate: nats/token on held-out text, or None for no held-out text; observe: what else is noted then; stop: true
    once training should save and stop; deadline: when to end, by `time.monotonic`: `settings.steps` is fitted to it,
    as long as it makes no difference to the steps already done, and if a slowed machine would make it late.
    """

    model: Any
    objective: Objective
    batches: Batches
    settings: TrainingSettings
    evaluate: Callable[[], float] | None = None
    observe: Callable[[], dict[str, float]] | None = None
    log: Path | None = None
    checkpoint: Path | None = None
    progress: Progress = silent
    stop: Callable[[], bool] = lambda: False
    watch: Callable[[dict[str, float]], None] | None = None  # told each log line (TensorBoard)
    deadline: float | None = None

    def __post_init__(self) -> None:
        self.optimisers = build_optimisers(self.model, self.settings)
        self.at = Progression()
        self.memory: Any = None
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.device = next(self.model.parameters()).device
        if self.settings.average:
            if any(isinstance(module, nn.BatchNorm1d) for module in self.model.modules()):
                raise UsageError(
                    "averaged weights would go with the statistics of others, which batch norm holds; leave out "
                    "average, or take another norm"
                )
            self.average = {n: w.detach().clone() for n, w in self.model.named_parameters()}

    # ---- one step --------------------------------------------------------------------------------------------------

    def step(self, batch: Any) -> dict[str, float]:
        """One optimiser step over a batch, in `accumulate` micro-batches; returns the figures of the step.

        Each term is a sum divided by its count over the whole batch, so the gradient is the full batch's whatever the
        number of micro-batches, but for terms that look from row to row: a contrastive loss's wrong answers, and the
        mean that a policy's rewards are held against, are those of the micro-batch.
        """
        settings = self.settings
        rate = factor(settings.schedule, self.at.step, settings.steps, settings.warmup, settings.floor, settings.hold)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * rate
            optimiser.zero_grad(set_to_none=True)
        counts = {name: max(1, count) for name, count in batch.counts.items()}
        sums: dict[str, list[Tensor]] = {name: [] for name in counts}
        memories = []
        parts = batch.split(settings.accumulate)
        for part, memory in zip(parts, self._split_memory(batch, len(parts)), strict=True):
            with self._precision():
                terms, memory = self.objective(self.model, part.to(self.device), memory, settings.label_smoothing)
            torch.stack([value / counts[name] for name, (value, _) in terms.items()]).sum().backward()
            for name, (value, _) in terms.items():
                sums[name].append(value.detach())
            memories.append(memory)
        self.memory = _join_memory(memories)
        norm_there = self._clip()
        for optimiser in self.optimisers:
            optimiser.step()
        self._move_average()
        norm, terms_total = self._readings(norm_there, sums, counts)
        total = sum(terms_total.values())
        if not math.isfinite(total):
            raise LLMBertError(
                f"the loss became {total} at step {self.at.step}; lower the rate with --set learning_rate=… "
                f"(now {settings.learning_rate:g}) or set clip_norm"
            )
        self.at.step += 1
        self.at.tokens += batch.count
        each = terms_total if len(terms_total) > 1 or "nll" not in terms_total else {}
        return {"loss": total, **each, "rate": rate, "gradient_norm": norm}

    def _precision(self) -> AbstractContextManager[Any]:
        if resolve_precision(self.settings.precision, self.device.type) == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _split_memory(self, batch: Any, parts: int) -> list[Any]:
        if self.memory is None or batch.fresh:
            return [None] * parts
        if parts == 1:
            return [self.memory]
        return list(zip(*(part.tensor_split(parts, dim=1) for part in self.memory), strict=True))

    @staticmethod
    def _readings(
        norm: Tensor, sums: dict[str, list[Tensor]], counts: dict[str, int]
    ) -> tuple[float, dict[str, float]]:
        """A step's figures as numbers, all read at once: a GPU's queue runs empty whenever one is."""
        known = {name: torch.stack(parts).sum() for name, parts in sums.items() if parts}
        first, *rest = torch.stack([each.double() for each in (norm, *known.values())]).tolist()
        return first, {name: value / counts[name] for name, value in zip(known, rest, strict=True)}

    def _clip(self) -> Tensor:
        """Clip gradients by value, then by norm: g · min(1, c/‖g‖); returns the norm behind the
        first and before the second."""
        gradients = [w.grad for w in self.model.parameters() if w.grad is not None]
        if self.settings.clip_value:
            nn.utils.clip_grad_value_(
                [w for w in self.model.parameters() if w.grad is not None], self.settings.clip_value
            )
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.settings.clip_norm:
            torch._foreach_mul_(gradients, (self.settings.clip_norm / norm.clamp_min(1e-12)).clamp_max(1.0))
        return norm

    @torch.no_grad()
    def _move_average(self) -> None:
        if not self.average:
            return
        # Early on the average looks back no further than the run is old, so that it isn't held down by the start.
        decay = min(self.settings.average, (1 + self.at.step) / (10 + self.at.step))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight, 1 - decay)

    # ---- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> Progression:
        """Train to the last step, or until patience ends; leaves the best (or averaged) weights in the model.

        Raises Interrupted, with all saved, once `stop()` is true.
        """
        settings = self.settings
        every = settings.evaluate_every or max(1, settings.steps // 20)
        self._open_log()
        started, saved = time.monotonic() - self.at.seconds, time.monotonic()
        self.model.train()
        with recomputed_layers(self.model, settings.recompute), compiled_layers(self.model, settings.compile):
            self._learn(every, started, saved)
        self._settle()
        return self.at

    def _learn(self, every: int, started: float, saved: float) -> None:
        source = self.batches.iterate(self.at.step)
        waited, first = 0.0, self.at.step
        paced: tuple[int, float] | None = None
        while self.at.step < self.settings.steps and not self.at.stopped_early:
            asked = time.monotonic()
            batch = next(source)
            waited += time.monotonic() - asked
            figures = self.step(batch)
            self.at.seconds = time.monotonic() - started
            if self.evaluate and (self.at.step % every == 0 or self.at.step == self.settings.steps):
                figures["valid"], further = self._evaluate()
                figures |= further
                self.at.seconds = time.monotonic() - started
            if paced is None and self.at.step >= first + UNHURRIED:
                paced = self.at.step, time.monotonic()
            if paced and self.at.step % every == 0:
                self._fit_to_deadline(*paced)
            self._record(figures, waited)
            if self.stop():
                self._save()
                raise Interrupted(f"stopped at step {self.at.step} of {self.settings.steps}, everything is saved")
            if self.checkpoint and time.monotonic() - saved >= self.settings.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
        if self.at.step > first:
            with suppress(LLMBertError):  # what follows may be stopped too; a full disk takes nothing from the model
                self._save()

    def _fit_to_deadline(self, since: int, when: float) -> None:
        """As many steps as the deadline leaves time for at the pace held since a step and its time, evaluations too,
        while the rate is still what it would have been had this number been asked for. Where the rate falls already it
        takes no more, but fewer where the machine has slowed: it falls faster then, by a quarter at most at a time."""
        settings, done = self.settings, self.at.step
        fewest = fewest_steps(settings.schedule, done, settings.warmup, settings.hold)
        if self.deadline is None or fewest is None or done == since:
            return
        now = time.monotonic()
        steps = done + max(0, int((self.deadline - now) * (done - since) / max(now - when, 1e-9)))
        if fewest > settings.steps:
            left = settings.steps - done
            if settings.steps - steps <= LATE * left:
                return
            fewest = done + max(1, left - left // 4)
        self.settings = settings.model_copy(update={"steps": max(fewest, LEAST_STEPS, steps)})

    def _evaluate(self) -> tuple[float, dict[str, float]]:
        """Nats/token on held-out text with the weights that would be kept, and further figures of them; notes the best
        ones for early stopping."""
        assert self.evaluate
        own = self._swap(self.average) if self.average else None
        value = self.evaluate()
        if self.at.best is None or value < self.at.best:
            self.at.best, self.at.worse = value, 0
            if self.settings.patience:
                self.best = {n: w.detach().clone() for n, w in _kept(self.model)}
        else:
            self.at.worse += 1
            self.at.stopped_early = bool(self.settings.patience and self.at.worse >= self.settings.patience)
        self.model.eval()
        further = self.observe() if self.observe else {}
        if own:
            self._swap(own)
        self.model.train()
        self.at.valid.append([self.at.tokens, value])
        return value, further

    @torch.no_grad()
    def _swap(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {}
        for name, weight in _kept(self.model):
            if name in weights:
                own[name] = weight.detach().clone()
                weight.copy_(weights[name])
        return own

    def _settle(self) -> None:
        """Leave in the model what is shipped: the best weights under early stopping, else the average or the last."""
        if self.best:
            self._swap(self.best)
        elif self.average:
            self._swap(self.average)
        self.model.eval()

    def _open_log(self) -> None:
        if self.log is None:
            return
        with self.log.open("ab") as file:
            file.truncate(self.at.log_bytes)

    def _record(self, figures: dict[str, float], waited: float) -> None:
        line = {"step": self.at.step, "tokens": self.at.tokens, "seconds": round(self.at.seconds, 3), **figures}
        if self.log is not None:
            with self.log.open("ab") as file:
                self.at.log_bytes += file.write(json.dumps(line).encode() + b"\n")
        if self.watch:
            self.watch(line)
        shown = {"loss": figures["loss"], "tokens/s": self.at.tokens / max(self.at.seconds, 1e-9)}
        if self.at.valid:
            shown["valid"] = self.at.valid[-1][1]
        if waited > 0.02 * self.at.seconds:
            shown["waiting for data"] = waited / self.at.seconds
        self.progress("training", self.at.step, self.settings.steps, **shown)

    # ---- stopping and going on -------------------------------------------------------------------------------------

    def _save(self) -> None:
        if not self.checkpoint:
            return
        names = {id(w): n for n, w in self.model.named_parameters()}
        tensors = {f"model.{n}": t for n, t in state_once(self.model).items()}
        tensors |= optimiser_tensors(self.optimisers, names)
        tensors |= {f"average.{n}": t for n, t in self.average.items()}
        tensors |= {f"best.{n}": t for n, t in self.best.items()}
        tensors |= {f"memory.{i}": t for i, t in enumerate(self.memory or ())}
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        write_checkpoint(self.checkpoint, tensors, {"settings": self.settings.model_dump(), **vars(self.at)})

    def resume(self) -> None:
        """Take up everything from the checkpoint, so that what follows is what would have followed; also the number of
        steps, which a deadline may have changed.

        Raises LLMBertError where the checkpoint is missing or damaged, or was written with other settings.
        """
        assert self.checkpoint
        tensors, facts = read_checkpoint(self.checkpoint)
        written, own = facts.pop("settings"), self.settings.model_dump()
        if written != own | {"steps": written.get("steps")}:
            raise LLMBertError(f"{self.checkpoint} was written with other settings; train again with another --out")
        part = {k: _under(tensors, k) for k in ("model", "average", "best", "memory")}
        try:
            lacking = self.model.load_state_dict(part["model"], strict=False)
            if lacking.unexpected_keys or set(state_once(self.model)) - part["model"].keys():
                raise RuntimeError("other weights")
        except RuntimeError as error:
            raise LLMBertError(
                f"{self.checkpoint} holds another model's weights; train again with another --out"
            ) from error
        restore_optimisers(self.optimisers, dict(self.model.named_parameters()), tensors)
        self.average, self.best = (
            {n: w.to(self.device) for n, w in part[kind].items()} for kind in ("average", "best")
        )
        self.memory = tuple(part["memory"][str(i)].to(self.device) for i in range(len(part["memory"]))) or None
        self.at = Progression(**facts)
        self.settings = self.settings.model_copy(update={"steps": written["steps"]})
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix + "."): t for n, t in tensors.items() if n.startswith(prefix + ".")}


def _join_memory(memories: list[Any]) -> Any:
    """Micro-batches' memories side by side again, cut off from the graph that made them."""
    if memories[0] is None:
        return None
    return tuple(torch.cat(parts, dim=1).detach() for parts in zip(*memories, strict=True))


def _kept(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What makes a model what it is at a moment: its weights, and the statistics that a batch norm has gathered."""
    yield from model.named_parameters()
    yield from ((n, b) for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var")))
