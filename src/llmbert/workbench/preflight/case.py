"""What is checked: a model as it would be trained, what it would learn from, and copies of it that may be spoilt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from llmbert.data.batches import Windows
from llmbert.models import FAMILIES
from llmbert.protocols import Condition
from llmbert.training.loop import Trainer
from llmbert.workbench.budget import Plan
from llmbert.workbench.lessons import OBJECTIVES, Lesson
from llmbert.workbench.sources import Store

ROWS, TOKENS = 4, 48  # of a batch that is looked at closely
PADDING = 3  # tokens that padding is made longer by
SMALL = 1e-4  # of the largest number compared: more is a difference, less is rounding


@dataclass(frozen=True)
class Outcome:
    """What one check found. status: ok, failed or skipped; said: what was measured, or what is wrong and how to mend
    it; shown: rows of (input, target, scored) to look at."""

    status: str
    said: str
    shown: tuple[tuple[tuple[str, str, bool], ...], ...] = ()


def passed(said: str) -> Outcome:
    return Outcome("ok", said)


def failed(said: str) -> Outcome:
    return Outcome("failed", said)


def skipped(said: str) -> Outcome:
    return Outcome("skipped", said)


@dataclass
class Case:
    """A training that has not begun, or a run.

    make: a model with the weights that training begins with; trained: the model of a finished run; taught: the lesson,
    where it is there already; vocabulary_size: of the model.
    """

    family: str
    objective: str
    store: Store
    plan: Plan
    seed: int
    vocabulary_size: int
    make: Callable[[], Any]
    trained: Any = None
    taught: Lesson | None = None
    begins_trained: bool = False  # with the weights of a base

    @property
    def tokeniser(self) -> Any:
        return self.store.tokeniser

    @cached_property
    def fresh(self) -> Any:
        """The model that training begins with; not to be changed, see `still` and `shaken`."""
        return self.make()

    def teach(self, model: Any, **training: Any) -> Lesson:
        """The lesson that a model would learn by, under the plan but for some settings of the training."""
        plan = replace(self.plan, training=self.plan.training.model_copy(update=training))
        return OBJECTIVES[self.objective].teach(model, self.store, plan, self.seed)

    @cached_property
    def lesson(self) -> Lesson:
        """The lesson as planned."""
        return self.taught or self.teach(self.fresh)

    @cached_property
    def plain(self) -> Lesson:
        """The lesson without what its loss draws at random."""
        return self.teach(self.fresh, word_dropout=0.0) if self.plan.training.word_dropout else self.lesson

    @cached_property
    def context(self) -> int:
        """Tokens that a training example has at most."""
        return int(getattr(self.plan.model, "context", TOKENS + PADDING))

    @cached_property
    def batches(self) -> Any:
        """What is learned from; of a family that counts, windows of its text."""
        if not FAMILIES[self.family].counts:
            return self.plain.batches
        ids, begin = self.store.train.ids, self.tokeniser.begin_id  # type: ignore[union-attr]
        return Windows(ids, max(2, min(TOKENS, len(ids) // 4)), ROWS, self.seed, begin)

    @cached_property
    def batch(self) -> Any:
        """A few rows of an early batch, of one with several rows where there is one."""
        device = next(self.fresh.parameters()).device if hasattr(self.fresh, "parameters") else torch.device("cpu")
        first = max(islice(self.batches.iterate(), 4), key=lambda batch: len(batch.inputs))
        if hasattr(first, "phase"):  # of a GAN, whatever it begins with
            first = replace(first, phase="likelihood")
        cut = few(first, ROWS, max(2, min(TOKENS, self.context - PADDING)))
        return (cut if all(cut.counts.values()) else few(first, ROWS, self.context)).to(device)

    @cached_property
    def probe(self) -> Any:
        """A model in evaluation mode whose every weight matters: a finished run's, or one with random large weights."""
        if FAMILIES[self.family].counts:
            return self.trained or self.fresh
        return copy.deepcopy(self.trained).eval() if self.trained is not None else shaken(self.fresh).eval()

    @cached_property
    def exact(self) -> Any:
        """The probe in float64: large weights multiply rounding, on a GPU beyond what a fault would change."""
        return self.probe if FAMILIES[self.family].counts else in_double(copy.deepcopy(self.probe))

    def trainer(self, model: Any, batches: Any = None, lesson: Lesson | None = None, **settings: Any) -> Trainer:
        """A trainer of a copy, under the plan but for `settings`."""
        lesson = lesson or self.plain
        chosen = self.plan.training.model_copy(update={"precision": "float32", **settings})
        return Trainer(model, lesson.objective, batches or lesson.batches, chosen)


# ---- batches -------------------------------------------------------------------------------------------------------


def tensors_of(batch: Any) -> dict[str, Tensor]:
    """The tensors of a batch by name."""
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


def few(batch: Any, rows: int, tokens: int) -> Any:
    """The first rows of a batch, and the first tokens of each."""
    cut = {n: each[:rows, :tokens] if each.dim() == 2 else each[:rows] for n, each in tensors_of(batch).items()}
    return replace(batch, **cut)


@dataclass(frozen=True)
class Few:
    """Batches of which only a few rows and tokens are taken, so that a check is quick whatever the plan."""

    batches: Any
    rows: int = ROWS
    tokens: int = TOKENS

    def iterate(self, position: int = 0) -> Iterator[Any]:
        """Batches from number `position` on, without end."""
        return (few(batch, self.rows, self.tokens) for batch in self.batches.iterate(position))


def other_ids(ids: Tensor, vocabulary_size: int, seed: int = 0) -> Tensor:
    """Ids of the same shape, every one another than it was, and none of the four special ones of our tokenisers."""
    low = min(4, vocabulary_size - 2)
    room = vocabulary_size - low
    draw = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, room, ids.shape, generator=draw).to(ids.device)
    return (ids - low + steps) % room + low


def some_ids(case: Case, rows: int, tokens: int, seed: int = 0) -> Tensor:
    """Random ids (rows, tokens) of ordinary tokens behind a begin token."""
    low = min(4, case.vocabulary_size - 2)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(low, case.vocabulary_size, (rows, tokens), generator=draw)
    ids[:, 0] = max(0, case.tokeniser.begin_id)
    return ids.to(case.batch.inputs.device)


# ---- copies of a model ---------------------------------------------------------------------------------------------


def still(model: Any) -> Any:
    """A copy without dropout, in training mode; of a VAE, one whose draws of z are their means."""
    made = copy.deepcopy(model).train()
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    if getattr(made, "likelihood", "") == "bound":
        with torch.no_grad():
            made.posterior.weight[made.settings.latent :] = 0.0
            made.posterior.bias[made.settings.latent :] = -60.0
    return made


@torch.no_grad()
def shaken(model: Any) -> Any:
    """A copy with random weights of ordinary size in the place of cautious first ones, many of which are zero."""
    made, draw = copy.deepcopy(model), torch.Generator().manual_seed(1)
    for weight in made.parameters():
        noise = torch.randn(weight.shape, generator=draw).to(weight.device)
        if weight.dim() < 2:
            weight.add_(0.2 * noise)
        else:
            weight.copy_(noise * weight.shape[1] ** -0.5)
    return made


def in_double(model: Any) -> Any:
    """The model in float64, also where it computes its latents in float32 whatever it is given."""
    made = model.double()
    if made.likelihood == "bound":
        infer = made.infer
        made.infer = lambda *given: tuple(each.double() for each in infer(*given))
    return made


# ---- what a model says ---------------------------------------------------------------------------------------------


def condition_of(model: Any, batch: Any) -> Condition | None:
    """What the rows of a batch are written from: encoded sources, the means of their latents, or nothing."""
    if model.likelihood == "conditional":
        return model.encode(batch.source, batch.source_mask)
    if model.likelihood == "bound":
        kept = batch.targets >= 0
        return Condition(latent=model.infer(batch.targets.masked_fill(~kept, 0), kept)[0])
    return None


@torch.no_grad()
def predict(model: Any, batch: Any) -> Tensor:
    """Logits (B, T, V) float32 of a batch's inputs, by the way that writing and scoring take."""
    segments = getattr(batch, "segments", None)
    if model.likelihood == "pseudo":
        if segments is None:
            return model.logits(batch.inputs, batch.mask, batch.types)
        return model.head(model.finish(model.encode(batch.inputs, batch.mask, batch.types, segments))).float()
    if segments is not None and hasattr(model, "hidden"):
        return model.head(model.hidden(batch.inputs, segments)[0]).float()
    return model.logits(batch.inputs, condition_of(model, batch))


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors, as a share of their largest number; equal infinities are equal."""
    finite = a[a.isfinite()].abs()
    largest = max(1.0, float(finite.max())) if len(finite) else 1.0
    apart = torch.where(a == b, torch.zeros_like(a), (a - b).abs())
    return float(apart.max()) / largest if apart.numel() else 0.0


def differ(a: Tensor, b: Tensor, share: float = SMALL) -> bool:
    """Whether two tensors differ by more than rounding (what is no number differs from everything)."""
    return not gap(a, b) <= share


def main_term(terms: dict[str, Any]) -> str:
    """The term of a loss that says how well tokens are predicted."""
    return next(name for name in ("nll", "mlm") if name in terms)
