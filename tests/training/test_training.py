"""Training: optimisers by their formulas, schedules, accumulation that equals the full batch, stopping and going on."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llmbert.data.batches import CarriedStreams, Windows
from llmbert.models import FAMILIES
from llmbert.objectives.causal import causal
from llmbert.protocols import LLMBertError, UsageError
from llmbert.training import loop
from llmbert.training.checkpoint import read_checkpoint, write_checkpoint
from llmbert.training.loop import Interrupted, Trainer, resolve_precision
from llmbert.training.optimisers import OPTIMISERS, Muon, build_optimisers, orthogonalise
from llmbert.training.schedules import SCHEDULES, factor, fewest_steps
from llmbert.training.settings import TrainingSettings

VOCABULARY = 30


def text(length: int = 3000, documents: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    parts = [
        np.concatenate(([2], 4 + (np.arange(length) * 3 + random.integers(0, 2, length)) % (VOCABULARY - 4), [3]))
        for _ in range(documents)
    ]
    return np.concatenate(parts).astype(np.uint16), np.concatenate(([0], np.cumsum([len(p) for p in parts])))


def trainer(
    family: str = "gpt", documents: int = 1, model_settings: dict[str, Any] | None = None, **settings: Any
) -> Trainer:
    shape = (
        {"layers": 2, "width": 16, "context": 16} | ({"heads": 2} if family == "gpt" else {}) | (model_settings or {})
    )
    values = {"steps": 12, "batch": 8, "precision": "float32"} | settings  # the same on every processor
    extra = {k: values.pop(k) for k in ("log", "checkpoint", "evaluate", "stop", "deadline") if k in values}
    chosen = TrainingSettings(**values)
    torch.manual_seed(chosen.seed)
    model = FAMILIES[family].build(FAMILIES[family].settings_class()(**shape), VOCABULARY)
    ids, starts = text(documents=documents, length=3000 // documents)
    batches = (
        Windows(ids, 16, chosen.batch, chosen.seed, 2)
        if family == "gpt"
        else CarriedStreams(ids, starts, 16, chosen.batch, chosen.seed)
    )
    return Trainer(model, causal, batches, chosen, **extra)


def weights(made: Trainer) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in made.model.parameters()])


# ---- optimisers ----------------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """0.5 Σ a w²: a loss whose gradient is known, a·w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        self.a = torch.tensor([[1.0, 2.0], [0.5, 4.0]])

    def step(self, optimisers: list[torch.optim.Optimizer]) -> None:
        self.w.grad = self.a * self.w.detach()
        for optimiser in optimisers:
            optimiser.step()


def by_hand(name: str, steps: int, rate: float) -> torch.Tensor:
    """The textbook formulas, written out; see docs/coverage.md for where other texts print them wrongly."""
    toy = Quadratic()
    w, m, v = toy.w.detach().clone(), torch.zeros(2, 2), torch.zeros(2, 2)
    for t in range(1, steps + 1):
        g = toy.a * w
        if name == "sgd":
            w = w - rate * g
        elif name == "momentum":
            m = 0.9 * m + g
            w = w - rate * m
        elif name == "nesterov":
            m = 0.9 * m + g
            w = w - rate * (g + 0.9 * m)
        elif name in ("adam", "adamw"):
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
            w = w - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        elif name == "adagrad":
            v = v + g * g
            w = w - rate * g / (v.sqrt() + 1e-10)
        elif name == "rmsprop":
            v = 0.99 * v + 0.01 * g * g
            w = w - rate * g / (v.sqrt() + 1e-8)
    return w


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_follows_its_formula(name: str) -> None:
    toy = Quadratic()
    settings = TrainingSettings(optimiser=name, learning_rate=0.05, momentum=0.9)  # type: ignore[arg-type]
    optimisers = build_optimisers(toy, settings)
    for _ in range(7):
        toy.step(optimisers)
    torch.testing.assert_close(toy.w.detach(), by_hand(name, 7, 0.05), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (20, 6), (6, 20)])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    got = orthogonalise(matrices)
    values = torch.linalg.svdvals(got)
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(got.flatten(1), (u @ vt).flatten(1)).min() > 0.97


def test_muon_takes_stacked_maps_one_by_one() -> None:
    torch.manual_seed(0)
    stacked = nn.Parameter(torch.randn(12, 4))
    stacked.sections = (4, 8)  # type: ignore[attr-defined]
    apart = [nn.Parameter(stacked.detach()[:4].clone()), nn.Parameter(stacked.detach()[4:].clone())]
    gradient = torch.randn(12, 4)
    stacked.grad, apart[0].grad, apart[1].grad = gradient, gradient[:4].clone(), gradient[4:].clone()
    Muon([stacked], lr=0.1).step()
    Muon(apart, lr=0.1).step()
    torch.testing.assert_close(stacked.detach(), torch.cat([w.detach() for w in apart]))


def test_queries_whose_products_are_not_scaled_move_as_much_less() -> None:
    torch.manual_seed(0)
    family = FAMILIES["t5"]
    model = family.build(family.settings_class()(layers=1, width=32, heads=2, inner=32), 40)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    for optimiser in build_optimisers(model, TrainingSettings(optimiser="muon", matrix_learning_rate=0.1)):
        optimiser.step()
    moved = {name: (weight - before[name]).norm() for name, weight in model.named_parameters()}
    queries, keys, _ = (
        part.norm()
        for part in (
            model.encoder.blocks[0].attention.qkv.weight - before["encoder.blocks.0.attention.qkv.weight"]
        ).split(32)
    )
    assert float(keys / queries) == pytest.approx(16**0.5, rel=0.1)
    assert float(moved["decoder.blocks.0.cross.key_value.weight"] / moved["decoder.blocks.0.cross.query.weight"]) > 4


@pytest.mark.parametrize(("optimiser", "pace"), [("muon", 16.0), ("adamw", 16.0), ("sgd", 1.0)])
def test_tables_that_are_drawn_large_move_as_much_faster(optimiser: Any, pace: float) -> None:
    family = FAMILIES["t5"]
    model = family.build(family.settings_class()(layers=1, width=32, heads=2, inner=32), 40)
    rates = {
        id(weight): group["lr"]
        for built in build_optimisers(model, TrainingSettings(optimiser=optimiser, learning_rate=0.01))
        for group in built.param_groups
        for weight in group["params"]
    }
    assert rates[id(model.embedding.weight)] == pytest.approx(0.01 * pace)
    assert rates[id(model.encoder.norm.weight)] == pytest.approx(0.01)


@pytest.mark.parametrize("family", ["gpt", "lstm"])
@pytest.mark.parametrize("optimiser", ["muon", "adamw", "sgd"])
def test_every_weight_is_given_to_exactly_one_optimiser(family: str, optimiser: str) -> None:
    made = trainer(family, optimiser=optimiser)
    held = [id(w) for o in made.optimisers for g in o.param_groups for w in g["params"]]
    assert sorted(held) == sorted({id(w) for w in made.model.parameters()})


# ---- schedules and clipping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_warms_up_and_never_rises_again(name: str) -> None:
    factors = [factor(name, step, 100, 10, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))
    assert factors[10] == pytest.approx(1.0)
    assert factors[-1] == (1.0 if name == "constant" else pytest.approx(0.1, abs=0.03))


def test_schedules_at_half_way() -> None:
    assert factor("linear", 50, 100, 0, 0.0) == pytest.approx(0.5)
    assert factor("cosine", 50, 100, 0, 0.2) == pytest.approx(0.6)
    assert factor("exponential", 50, 100, 0, 0.01) == pytest.approx(0.1)
    assert factor("wsd", 75, 100, 0, 0.0) == pytest.approx(0.5)


@given(
    name=st.sampled_from(list(SCHEDULES)), step=st.integers(0, 300), warmup=st.integers(0, 60), hold=st.integers(0, 60)
)
def test_the_fewest_steps_leave_every_rate_so_far_as_it_was(name: str, step: int, warmup: int, hold: int) -> None:
    fewest = fewest_steps(name, step, warmup, hold)
    if fewest is None:
        assert name != "constant" and (name != "wsd" or step < warmup)
        return
    assert fewest >= step
    rates = [[factor(name, at, steps, warmup, 0.0, hold) for at in range(step)] for steps in (fewest, 2 * fewest + 100)]
    assert rates[0] == rates[1]
    if name == "wsd" and step > warmup + hold + 2:
        assert any(factor(name, at, fewest - 3, warmup, 0.0, hold) < 1.0 for at in range(step)[warmup:])


def test_clipping_by_norm_keeps_the_direction_and_only_shortens() -> None:
    made = trainer(clip_norm=0.5)
    for scale, expected in ((100.0, 0.5), (1e-3, None)):
        for weight in made.model.parameters():
            weight.grad = torch.full_like(weight, scale)
        before = torch.cat([w.grad.flatten() for w in made.model.parameters()])
        norm = made._clip()
        after = torch.cat([w.grad.flatten() for w in made.model.parameters()])
        assert norm == pytest.approx(float(before.norm()), rel=1e-5)
        assert float(after.norm()) == pytest.approx(expected or float(before.norm()), rel=1e-4)
        assert torch.nn.functional.cosine_similarity(before, after, dim=0) == pytest.approx(1.0, abs=1e-4)


def test_clipping_by_value() -> None:
    made = trainer(clip_norm=None, clip_value=0.01)
    for weight in made.model.parameters():
        weight.grad = torch.full_like(weight, -3.0)
    made._clip()
    assert all(bool((w.grad == -0.01).all()) for w in made.model.parameters())


# ---- the loop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "documents"), [("gpt", 1), ("gpt", 30), ("lstm", 1), ("gru", 30), ("rnn", 3)])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_the_full_batch(family: str, documents: int, parts: int) -> None:
    """1x8 = 2x4 = 4x2 = 8x1, also where micro-batches hold unequal numbers of targets and memories are carried."""
    options = {"steps": 3, "optimiser": "sgd", "learning_rate": 0.5}
    whole, split = trainer(family, documents, **options), trainer(family, documents, accumulate=parts, **options)
    for made in (whole, split):
        made.model.double()  # the order of a sum is all that differs
        made.run()
    torch.testing.assert_close(weights(whole), weights(split), rtol=1e-9, atol=1e-12)
    assert whole.at.tokens == split.at.tokens


@pytest.mark.parametrize("family", ["gpt", "lstm"])
def test_it_learns(family: str) -> None:
    losses: list[float] = []
    made = trainer(family, steps=200, learning_rate=0.01, matrix_learning_rate=0.05, schedule="linear")
    made.watch = lambda line: losses.append(line["loss"])
    made.run()
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.3)
    assert losses[-1] < 1.0  # two continuations are equally likely: ln 2 is the least there is
    assert losses[-1] > math.log(2) - 0.1


@pytest.mark.parametrize("family", ["gpt", "lstm"])
def test_stopped_and_resumed_is_never_stopped(family: str, tmp_path: Path) -> None:
    """Bit for bit, with everything on: dropout, an average, early stopping's best weights, carried memory."""

    def make(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        made = trainer(
            family,
            documents=20,
            model_settings={"dropout": 0.2},
            steps=30,
            average=0.9,
            patience=10,
            evaluate_every=4,
            accumulate=2,
            log=tmp_path / folder / "log.jsonl",
            checkpoint=tmp_path / folder / "checkpoint.safetensors",
        )
        made.evaluate = lambda: float(weights(made).square().sum())
        return made

    whole = make("whole")
    whole.run()
    for stop_at in (7, 19):
        part = make("part")
        if stop_at != 7:
            part.resume()
        part.stop = lambda at=stop_at, part=part: part.at.step == at  # type: ignore[misc]
        with pytest.raises(Interrupted):
            part.run()
    part = make("part")
    part.resume()
    part.run()
    assert torch.equal(weights(whole), weights(part))
    assert losses(tmp_path / "whole") == losses(tmp_path / "part")


def losses(folder: Path) -> list[tuple[float, ...]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["gradient_norm"], line.get("valid", 0.0)) for line in lines]


# ---- a deadline ----------------------------------------------------------------------------------------------------


def slow(monkeypatch: pytest.MonkeyPatch, made: Trainer, seconds: float) -> Trainer:
    """The trainer with steps of so many seconds, by a clock of its own that begins at 0."""
    clock, learn = [0.0], made.objective

    def objective(*given: Any) -> Any:
        clock[0] += seconds
        return learn(*given)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    made.objective = objective
    return made


@pytest.mark.parametrize(
    ("deadline", "every", "steps"), [(30.0, 5, 60), (60.0, 5, 120), (15.0, 5, 30), (1.0, 5, 20), (1.0, 20, 36)]
)
def test_steps_are_fitted_to_a_deadline_as_if_they_had_been_asked_for(
    deadline: float, every: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned are 80 steps of half a second each. Nothing is trained for less than 20; what is known at step 20 only
    comes too late for less than 36, since the rates so far are those of 36 or more."""
    asked = {"schedule": "wsd", "warmup": 4, "evaluate_every": every}
    fitted = slow(monkeypatch, trainer(steps=80, deadline=deadline, **asked), 0.5)
    done = fitted.run()
    assert done.step == fitted.settings.steps == pytest.approx(steps, abs=1)
    whole = trainer(steps=done.step, **asked)
    whole.run()
    assert torch.equal(weights(fitted), weights(whole))


@pytest.mark.parametrize(("slowed", "ends"), [(1.0, 40.0), (1.02, 39.9), (1.1, 39.8), (1.5, 40.3), (3.0, 53.0)])
def test_a_machine_that_slows_once_the_rate_falls_takes_steps_away(
    slowed: float, ends: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the last 40 of 80 steps takes half a second times so much. All should be done in 40 s, and would take 42
    if they took a tenth more, 50 if a half."""
    made, clock = trainer(steps=80, deadline=40.0, schedule="wsd", evaluate_every=4), [0.0]
    learn = made.objective

    def objective(*given: Any) -> Any:
        clock[0] += 0.5 * (1.0 if made.at.step < 40 else slowed)
        return learn(*given)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    made.objective = objective
    done = made.run()
    assert clock[0] == pytest.approx(ends, abs=0.1)
    assert done.step == made.settings.steps <= 80


def test_a_machine_that_slept_does_not_end_a_training_at_its_full_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour passes at step 44 of 80: what is left shrinks by a quarter at each of the further evaluations."""
    made, clock, rates = trainer(steps=80, deadline=40.0, schedule="wsd", evaluate_every=4), [0.0], []
    learn = made.objective

    def objective(*given: Any) -> Any:
        clock[0] += 3600.0 if made.at.step == 43 else 0.5
        rates.append(made.optimisers[0].param_groups[0]["lr"])
        return learn(*given)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    made.objective = objective
    made.run()
    falls = [after / before for before, after in itertools.pairwise(rates[43:])]
    assert 50 < len(rates) < 70 and rates[-1] < 0.2 * rates[40]
    assert min(falls[:-3]) > 0.7


def test_a_rate_that_falls_from_the_first_step_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = slow(monkeypatch, trainer(steps=40, deadline=5.0, schedule="linear", evaluate_every=2), 0.5)
    assert made.run().step == 40


def test_resumed_it_takes_the_steps_it_was_fitted_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {"schedule": "wsd", "evaluate_every": 5, "checkpoint": tmp_path / "checkpoint.safetensors"}
    made = slow(monkeypatch, trainer(steps=80, deadline=30.0, **asked), 0.5)
    made.stop = lambda: made.at.step == 20
    with pytest.raises(Interrupted, match="step 20 of 60"):
        made.run()
    again = trainer(steps=80, **asked)
    again.resume()
    assert again.run().step == 60
    other = trainer(steps=80, batch=4, **asked)
    with pytest.raises(LLMBertError, match="other settings"):
        other.resume()


def test_early_stopping_keeps_the_best_weights() -> None:
    made = trainer(steps=40, evaluate_every=2, patience=3)
    values = iter([5.0, 3.0, 4.0, 4.0, 4.0, 1.0])
    best: list[torch.Tensor] = []

    def evaluate() -> float:
        value = next(values)
        if value == 3.0:
            best.append(weights(made).clone())
        return value

    made.evaluate = evaluate
    at = made.run()
    assert at.stopped_early
    assert at.step == 10
    assert torch.equal(weights(made), best[0])


def test_the_average_of_weights_is_the_recursion_over_each_steps_weights() -> None:
    """a ← d·a + (1 - d)·w with d = min(average, (1 + t) / (10 + t)), t the steps before."""
    plain, averaged = trainer(steps=20), trainer(steps=20, average=0.9)
    expected, batches = weights(plain).clone(), plain.batches.iterate()
    for step in range(20):
        plain.step(next(batches))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights(plain)
    averaged.run()
    torch.testing.assert_close(weights(averaged), expected)
    assert not torch.equal(weights(plain), weights(averaged))


def test_the_best_weights_go_with_their_statistics_and_averages_have_none() -> None:
    """Of a batch norm, whose running mean and variance are part of what was best."""
    values = iter([5.0, 3.0, 4.0, 4.0, 4.0])
    made = trainer(steps=40, evaluate_every=2, patience=3, model_settings={"norm": "batch"})
    kept: list[dict[str, torch.Tensor]] = []

    def evaluate() -> float:
        kept.append({n: b.clone() for n, b in made.model.named_buffers() if "running" in n})
        return next(values)

    made.evaluate = evaluate
    made.run()
    assert made.at.stopped_early and kept[1]
    found = dict(made.model.named_buffers())
    assert all(torch.equal(found[name], buffer) for name, buffer in kept[1].items())
    assert not all(torch.equal(found[name], buffer) for name, buffer in kept[-1].items())
    with pytest.raises(UsageError, match="batch norm holds"):
        trainer(average=0.9, model_settings={"norm": "batch"})


def test_nesterov_without_momentum_is_plain_descent() -> None:
    made, plain = trainer(steps=3, optimiser="nesterov", momentum=0.0), trainer(steps=3, optimiser="sgd")
    made.run()
    plain.run()
    assert torch.equal(weights(made), weights(plain))


def test_a_loss_that_is_no_number_is_said_with_the_mend() -> None:
    made = trainer(learning_rate=1e6, matrix_learning_rate=1e6, optimiser="sgd", clip_norm=None, steps=200)
    with pytest.raises(LLMBertError, match="learning_rate"):
        made.run()


@pytest.mark.parametrize(("emulated", "multiplied", "found"), [(True, False, "float32"), (True, True, "bfloat16")])
def test_a_gpu_computes_in_bfloat16_where_it_need_not_emulate_it(
    emulated: bool, multiplied: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return emulated if including_emulation else multiplied

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", "cuda") == found


@pytest.mark.parametrize("family", ["gpt", "lstm"])
def test_bfloat16_learns_what_float32_learns(family: str) -> None:
    """On a processor without bf16 units a GPT is slow, but right; torch's LSTM refuses."""
    if family == "lstm" and resolve_precision("auto", "cpu") == "float32":
        pytest.skip("this processor has no bf16 units, and torch's LSTM needs them")
    options: dict[str, Any] = {"steps": 15, "batch": 4, "model_settings": {"layers": 1}}
    lines: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for precision, found in lines.items():
        made = trainer(family, precision=precision, **options)
        made.watch = lambda line, found=found: found.append(line["loss"])  # type: ignore[misc]
        made.run()
        assert all(w.dtype == torch.float32 for w in made.model.parameters())
    assert lines["bfloat16"] == pytest.approx(lines["float32"], rel=0.05)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    made = [trainer(seed=seed, model_settings={"dropout": 0.1}) for seed in (0, 0, 1)]
    for each in made:
        torch.manual_seed(each.settings.seed)
        each.run()
    assert torch.equal(weights(made[0]), weights(made[1]))
    assert not torch.equal(weights(made[0]), weights(made[2]))


# ---- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"a": torch.arange(6).view(2, 3), "b": torch.tensor(1.5)}, {"step": 3, "valid": [[1, 2.5]]})
    tensors, facts = read_checkpoint(path)
    assert torch.equal(tensors["a"], torch.arange(6).view(2, 3))
    assert tensors["b"].shape == ()
    assert facts == {"step": 3, "valid": [[1, 2.5]]}
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 40, -3])
def test_a_truncated_checkpoint_is_refused_in_a_sentence(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"a": torch.arange(60)}, {"step": 3})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LLMBertError, match="damaged"):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LLMBertError, match="no checkpoint"):
        read_checkpoint(tmp_path / "c.safetensors")
