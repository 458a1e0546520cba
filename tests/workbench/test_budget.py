"""What a budget measures before it decides: steps of several kinds, and evaluations that cost too much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
import torch

from llmbert.models import FAMILIES
from llmbert.models.vae import DRAWS
from llmbert.objectives.adversarial import AdversarialBatch, Alternating
from llmbert.training.settings import TrainingSettings
from llmbert.workbench import budget
from llmbert.workbench.budget import (
    Plan,
    affordable_evaluations,
    measure_speed,
    seconds_of_reading,
    tokens_read_at_the_end,
)
from llmbert.workbench.measure import (
    BOUNDED,
    DRAWN,
    IMPORTANCE_DRAWS,
    MOST_ANSWERS,
    MOST_PSEUDO,
    MOST_RESTORED,
    READ_FOR_A_RESTORED,
)


@dataclass
class Batch:
    seconds: float
    count: int = 10
    phase: str | None = None
    fresh: bool = True
    counts: dict[str, int] = field(default_factory=lambda: {"nll": 1})

    def split(self, parts: int) -> list[Batch]:
        return [self]

    def to(self, device: Any) -> Batch:
        return self


class Batches:
    """Quick steps, and from number 100 on slow ones: nine of ten are quick."""

    def iterate(self, position: int = 0) -> Iterator[Batch]:
        while True:
            yield Batch(0.02 if position >= 100 else 0.002)


class Phased(Batches):
    def kinds(self) -> list[tuple[float, int]]:
        return [(0.9, 0), (0.1, 100)]


@dataclass
class Lesson:
    batches: Any
    evaluation: float = 0.0
    observe: None = None

    def objective(self, model: Any, batch: Batch, memory: Any, smoothing: float) -> Any:
        time.sleep(batch.seconds)
        return {"nll": (next(model.parameters()).sum(), 1)}, None

    def evaluate(self) -> float:
        time.sleep(self.evaluation)
        return 0.0


PLAN = Plan(None, TrainingSettings(optimiser="sgd", steps=1000, precision="float32"))


def test_steps_of_several_kinds_count_by_their_share() -> None:
    model = torch.nn.Linear(2, 1)
    quick, mixed = (measure_speed(model, PLAN, Lesson(each), 0.3) for each in (Batches(), Phased()))
    assert quick.tokens_per_step == mixed.tokens_per_step == 10 and quick.tokens_per_second and mixed.tokens_per_second
    assert mixed.step_seconds[1] == pytest.approx(0.02, rel=0.5) and not quick.step_seconds
    assert quick.tokens_per_second / mixed.tokens_per_second == pytest.approx(
        (0.9 * 0.002 + 0.1 * 0.02) / 0.002, rel=0.4
    )


class Rounds(Batches):
    """A slow step, then five quick ones, over and over, as a GAN's two sides take turns."""

    def kinds(self) -> list[tuple[float, int]]:
        return [(1 / 6, 0), (5 / 6, 1)]

    def iterate(self, position: int = 0) -> Iterator[Batch]:
        for number in count(position):
            slow = number % 6 == 0
            yield Batch(0.02 if slow else 0.002, phase="policy" if slow else "discriminate")


def test_kinds_that_take_turns_are_timed_apart() -> None:
    plan = measure_speed(torch.nn.Linear(2, 1), PLAN, Lesson(Rounds()), 0.3)
    assert plan.step_seconds[0] == pytest.approx(0.02, rel=0.4) and plan.step_seconds[1] < 0.01


def test_each_phase_of_a_gan_has_its_share_of_the_time() -> None:
    plan = replace(PLAN, step_seconds=(0.1, 0.2, 3.0))
    likelihood, warm, steps = budget._phases(plan, 100.0)
    every = plan.training.discriminator_every
    rounds, over = divmod(steps - likelihood - warm, 1 + every)
    taken = (0.1 * likelihood, 0.2 * warm, (3.0 + 0.2 * every) * rounds)
    assert over == 0 and taken == pytest.approx([100 * share for share in budget.PHASES], abs=4.0)


@pytest.mark.parametrize(("alone", "warm"), [(100, None), (None, 50), (100, 50), (0, None), (0, 0)])
def test_phases_that_are_set_leave_the_others_what_time_is_left(alone: int | None, warm: int | None) -> None:
    plan = replace(PLAN, step_seconds=(0.1, 0.2, 3.0))
    first, second, steps = budget._phases(plan, 100.0, alone, warm)
    assert first == (first if alone is None else alone) and second == (second if warm is None else warm)
    rounds, over = divmod(steps - first - second, 1 + plan.training.discriminator_every)
    spent = 0.1 * first + 0.2 * second + 4.0 * rounds
    assert over == 0 and rounds >= 1 and 95 < spent <= 100
    assert budget._phases(plan, 100.0, 5000, 10) == (5000, 10, 5016), "what is set stands, with one round"


@pytest.mark.parametrize("values", [{}, {"likelihood_steps": "30"}, {"likelihood_steps": 5000, "warm_steps": 3}])
def test_all_kinds_of_a_gans_steps_are_timed_whatever_is_set(values: dict[str, Any]) -> None:
    """A step of likelihood takes 2 ms here, of the discriminator 4, of the generator 10."""
    seconds = {"likelihood": 0.002, "discriminate": 0.004, "relaxed": 0.01}

    class Texts:
        def iterate(self, position: int = 0) -> Iterator[Any]:
            while True:
                yield AdversarialBatch(torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))

    @dataclass
    class Steps(Lesson):
        def objective(self, model: Any, batch: Any, memory: Any, smoothing: float) -> Any:
            time.sleep(seconds[batch.phase])
            total = sum(weight.sum() for weight in model.parameters())
            return dict.fromkeys(batch.counts, (0.0 * total, 1)), None

    def teach(model: Any, plan: Plan) -> Lesson:
        set_ = plan.training
        alone = set_.steps * 6 // 10 if set_.likelihood_steps is None else set_.likelihood_steps
        warm = set_.steps // 10 if set_.warm_steps is None else set_.warm_steps
        return Steps(Alternating(Texts(), set_.adversarial, set_.steps, alone, warm))

    shape = {"layers": 1, "width": 8, "context": 8}
    plan = budget.plan_training("gan", FAMILIES["gan"], 50, 10_000, 1000, shape, values, None, 8.0, teach)
    assert len(plan.step_seconds) == 3 and plan.step_seconds[0] < plan.step_seconds[2]
    asked = TrainingSettings(**values)
    assert plan.training.likelihood_steps is not None and plan.training.warm_steps is not None
    assert asked.likelihood_steps in (None, plan.training.likelihood_steps)
    assert asked.warm_steps in (None, plan.training.warm_steps)
    rounds = plan.training.steps - plan.training.likelihood_steps - plan.training.warm_steps
    likelihood, discriminator, generator = plan.step_seconds
    taken = likelihood * plan.training.likelihood_steps + discriminator * plan.training.warm_steps
    taken += rounds / 6 * (generator + 5 * discriminator)
    assert rounds == 6 or taken <= 8


def test_layers_are_timed_as_they_will_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    @contextmanager
    def noted(model: Any, wanted: bool) -> Iterator[None]:
        asked.append(wanted)
        yield

    monkeypatch.setattr(budget, "recomputed_layers", noted)
    plan = replace(PLAN, training=PLAN.training.model_copy(update={"recompute": True}))
    measure_speed(torch.nn.Linear(2, 1), plan, Lesson(Batches()), 0.01)
    assert asked == [True]


def test_time_is_kept_for_what_is_read_again_on_account_of_others() -> None:
    """Reading all held-out text takes a second here; who reads nine tenths as much besides has as much less."""
    gpt, batches = FAMILIES["gpt"], Batches()
    left = []
    for also_read in (0, 900):
        asked = ("gpt", gpt, 50, 10_000, 1000, {"layers": 1, "width": 16, "heads": 2, "context": 16}, {}, None, 10.0)
        began = time.monotonic()
        plan = budget.plan_training(
            *asked, lambda model, plan: Lesson(batches), lambda model, tokens: tokens / 1000, also_read
        )
        assert plan.deadline is not None
        left.append(plan.deadline - began)
    assert left[0] - left[1] == pytest.approx(0.9, abs=0.1)


@pytest.mark.parametrize(
    ("readings", "dropout"), [(1.0, 0.0), (4.9, 0.0), (5.0, 0.07), (6.0, 0.1), (12.0, 0.2), (1000.0, 0.3)]
)
def test_dropout_begins_where_a_text_is_read_five_times(readings: float, dropout: float) -> None:
    gpt = FAMILIES["gpt"]
    plan = replace(PLAN, model=gpt.settings_class()(), tokens_per_second=1000.0, tokens_per_step=100.0)
    found = budget._fill(plan, readings * 100, 100_000, {}, {}, gpt)
    assert found.training.steps == readings * 1000
    assert found.model.dropout == dropout
    assert budget._fill(plan, readings * 100, 100_000, {"dropout": 0.4}, {}, gpt).model.dropout == 0.0  # plan's own


def test_noise_gets_no_dropout_unasked() -> None:
    gpt = FAMILIES["gpt"]
    training = PLAN.training.model_copy(update={"noise": 1.0})
    plan = replace(
        PLAN, model=gpt.settings_class()(), training=training, tokens_per_second=1000.0, tokens_per_step=100.0
    )
    assert budget._fill(plan, 100_000, 100_000, {}, {"noise": 1.0}, gpt).model.dropout == 0.0


@pytest.mark.parametrize(("values", "warmup"), [({}, 10), ({"warmup": "50"}, 50)])
def test_a_warm_up_that_is_set_stands_however_few_steps_a_budget_leaves(values: dict[str, Any], warmup: int) -> None:
    gpt = FAMILIES["gpt"]
    plan = Plan(gpt.settings_class()(), TrainingSettings(warmup=50), tokens_per_second=1000.0, tokens_per_step=100.0)
    found = budget._fill(plan, 10.0, 100_000, {}, values, gpt)
    assert (found.training.steps, found.training.warmup) == (100, warmup)


@pytest.mark.parametrize(("cost", "times"), [(0.001, 1000), (0.1, 10), (3.0, 3)])
def test_evaluations_take_no_more_than_a_tenth_of_a_short_budget_but_for_three(
    cost: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, cost])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert affordable_evaluations(Lesson(None), 10.0) == (times, cost)


@pytest.mark.parametrize(
    ("family", "valid", "read"),
    [
        ("lstm", 1000, 1000),
        ("gpt", 1000, 8000),  # a window slides by a quarter of its length
        ("bert", 500, 500 * 64),
        ("bert", 10**9, MOST_PSEUDO * 64),
        ("vae", 1000, 1000 * DRAWS + 1000 * IMPORTANCE_DRAWS),
        ("vae", 10**9, 10**9 + BOUNDED * 64 * IMPORTANCE_DRAWS),
        ("transformer", 1000, 1000 + MOST_ANSWERS * 64),
        ("gan", 10**9, DRAWN * 64 * 4),
    ],
)
def test_a_budget_keeps_time_for_what_is_measured_at_the_end(family: str, valid: int, read: int) -> None:
    assert tokens_read_at_the_end(FAMILIES[family], 64, valid) == read


def test_short_texts_are_bounded_sooner() -> None:
    """A hundred texts are a hundred documents where these are shorter than the context."""
    sentences, whole = (tokens_read_at_the_end(FAMILIES["vae"], 64, 70_000, documents) for documents in (3000, 1))
    assert whole - sentences == pytest.approx(BOUNDED * IMPORTANCE_DRAWS * (64 - 70_000 / 3000))


@pytest.mark.parametrize("family", ["gpt", "lstm", "vae", "bert"])
@pytest.mark.parametrize("valid", [50, 5000])
def test_how_long_reading_will_take_is_told_from_a_little_of_it(family: str, valid: int) -> None:
    """Reading costs a tenth of a millisecond a token here, however the family reads."""
    known, read = FAMILIES[family], []
    settings = known.settings_class()(**({"mask_id": 4} if family == "bert" else {}), width=16, layers=1, context=32)
    model = known.build(settings.model_copy(update={"heads": 1}) if family in ("gpt", "bert") else settings, 20)

    def seconds(model: Any, tokens: int) -> float:
        assert not model.training and tokens <= max(valid, budget.READ_AT_FIRST)
        read.append(tokens)
        return 1e-4 * budget.tokens_read(known, 32, tokens)

    expected = 1e-4 * tokens_read_at_the_end(known, 32, valid)
    assert seconds_of_reading(known, model, valid, seconds, 0.3) == pytest.approx(expected)
    assert 1e-4 * budget.tokens_read(known, 32, read[-2]) < 4 * 0.3, "it stops as soon as it has read long enough"


def test_few_texts_at_once_are_slow_so_more_are_tried() -> None:
    """As long as less than a batch is read a step takes the same time however many texts it has."""
    known, read = FAMILIES["lstm"], []
    model = known.build(known.settings_class()(width=16, layers=1, context=32), 20)

    def seconds(model: Any, tokens: int) -> float:
        read.append(tokens)
        return max(tokens, 8192) * 1e-4

    assert seconds_of_reading(known, model, 100_000, seconds, 0.3) == pytest.approx(10.0)
    assert read[-1] >= budget.READ_TOGETHER


def test_of_what_is_taken_out_of_text_only_so_much_is_restored() -> None:
    known = FAMILIES["t5"]
    settings = known.settings_class()(width=16, layers=1, heads=1, inner=16, context=32)
    found = seconds_of_reading(known, known.build(settings, 20), 10**7, lambda model, tokens: tokens * 1e-4, 0.3)
    assert found == pytest.approx(1e-4 * MOST_RESTORED * READ_FOR_A_RESTORED)
