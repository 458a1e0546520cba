"""The phases of a text GAN: who learns what, from which judgement, and when."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from llmbert.data.batches import IGNORED
from llmbert.models.gan import END, GAN, PADDING, GANSettings
from llmbert.objectives.adversarial import (
    AdversarialBatch,
    Alternating,
    adversarial,
    judge_prefixes,
    policy_loss,
)

VOCABULARY = 12


def make(**shape: Any) -> GAN:
    torch.manual_seed(1)
    settings: dict[str, Any] = {"width": 8, "filters": 6, "context": 6, "discriminator_dropout": 0.0} | shape
    model = GAN(GANSettings(**settings), VOCABULARY)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


def batch(phase: Any, rows: int = 5) -> AdversarialBatch:
    torch.manual_seed(2)
    inputs, targets = torch.randint(4, VOCABULARY, (rows, 5)), torch.randint(4, VOCABULARY, (rows, 5))
    targets[0, 3:] = IGNORED
    return AdversarialBatch(inputs, targets, phase=phase)


@pytest.mark.parametrize("discriminator", ["convolution", "recurrent"])
@pytest.mark.parametrize("phase", ["likelihood", "discriminate", "policy", "relaxed"])
def test_only_the_side_that_learns_gets_a_gradient(phase: str, discriminator: str) -> None:
    model, made = make(discriminator=discriminator), batch(phase)
    terms, memory = adversarial(model, made, relativistic=phase == "relaxed")
    assert memory is None
    assert {name: count for name, (_, count) in terms.items()} == made.counts
    torch.stack([total for total, _ in terms.values()]).sum().backward()
    learning = {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None}
    assert learning == ({"discriminator"} if phase == "discriminate" else {"generator"})
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_first_phase_is_maximum_likelihood() -> None:
    model, made = make(), batch("likelihood")
    expected = torch.nn.functional.cross_entropy(
        model.logits(made.inputs).flatten(0, 1), made.targets.flatten(), reduction="sum"
    )
    torch.testing.assert_close(adversarial(model, made)[0]["nll"][0], expected)


def test_the_discriminator_learns_by_the_cross_entropy_of_real_and_drawn() -> None:
    model, made = make().eval(), batch("discriminate")
    torch.manual_seed(7)
    terms, _ = adversarial(model, made)
    torch.manual_seed(7)
    drawn = model.discriminator(model.draw(5)).sigmoid()
    real = model.discriminator(torch.nn.functional.pad(made.targets.clamp_min(0), (0, 1))).sigmoid()
    torch.testing.assert_close(terms["real"][0], -real.log().sum())
    torch.testing.assert_close(terms["drawn"][0], -(1 - drawn).log().sum())


class Known:
    """A discriminator that likes texts by how many of their tokens are 5."""

    def __call__(self, texts: torch.Tensor) -> torch.Tensor:
        return (texts == 5).float().sum(-1) - 1

    def parameters(self) -> Any:
        return iter(())


def test_a_place_is_judged_by_what_may_follow_it() -> None:
    """Against all ways to finish a short text, each weighed by its probability."""
    model = make(context=3).eval()
    del model.discriminator
    model.discriminator = Known()
    texts = torch.tensor([[5, 7, 5], [7, END, PADDING]])
    found = judge_prefixes(model, texts, rollouts=4000)
    belief = lambda text: 1 / (1 + math.exp(1 - sum(token == 5 for token in text)))  # noqa: E731
    expected = torch.zeros(2, 3)
    for row, place in itertools.product(range(2), range(3)):
        text = texts[row].tolist()
        if place == 2 or END in text[: place + 1]:
            expected[row, place] = belief(text)
            continue
        for rest in itertools.product(range(1, VOCABULARY), repeat=2 - place):
            if rest[0] == 2 or (len(rest) == 2 and (rest[1] == 2 or rest[0] == END)):
                continue
            chance = _chance(model, text[: place + 1], list(rest))
            expected[row, place] += chance * belief(text[: place + 1] + list(rest))
        if place == 0:  # ended behind the first of the rest
            chance = _chance(model, text[:1], [END])
            expected[row, place] += chance * belief([*text[:1], END])
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@torch.no_grad()
def _chance(model: GAN, prefix: list[int], rest: list[int]) -> float:
    """How probable a rest is behind a prefix, begin and padding never drawn."""
    chance, text = 1.0, [2, *prefix]
    for token in rest:
        logits = model.logits(torch.tensor([text]))[0, -1]
        logits[[PADDING, 2]] = -math.inf
        chance *= float(logits.softmax(-1)[token])
        text.append(token)
    return chance


@pytest.mark.parametrize("style", ["policy", "relaxed"])
def test_the_generator_comes_to_write_what_is_liked(style: str) -> None:
    model = make(context=5, width=16)
    judge = torch.nn.Linear(VOCABULARY, 1, bias=False)
    torch.nn.init.zeros_(judge.weight)
    with torch.no_grad():
        judge.weight[0, 5] = 2.0
    del model.discriminator

    class Liking(torch.nn.Module):
        def forward(self, texts: torch.Tensor) -> torch.Tensor:
            one_hot = torch.nn.functional.one_hot(texts, VOCABULARY).float() if texts.dim() == 2 else texts
            return judge(one_hot).sum((1, 2)) - 3

    model.discriminator = Liking()
    optimiser = torch.optim.Adam(model.generator.parameters(), 0.02)
    share = lambda: float((model.draw(200) == 5).float().mean())  # noqa: E731
    before = share()
    for _ in range(40):
        optimiser.zero_grad()
        none = torch.zeros(32, 5, dtype=torch.int64)
        made = AdversarialBatch(none, none, phase=style, sharpness=3.0)  # type: ignore[arg-type]
        (total, count), *_ = adversarial(model, made, rollouts=2)[0].values()
        (total / count).backward()
        optimiser.step()
    assert share() > before + 0.4


def test_nothing_behind_the_end_is_learned_from() -> None:
    model = make()
    with torch.no_grad():
        model.head.bias[END] = 30.0  # every text is empty
    loss = policy_loss(model, 6, 2)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-4), "all texts are alike, so none is better than the mean"


def test_soft_texts_are_distributions_up_to_their_end() -> None:
    model = make()
    soft = model.soft_texts(40, sharpness=50.0)
    sums = soft.sum(-1)
    ids = soft.argmax(-1)
    for row in range(40):
        ends = (ids[row] == END).nonzero()
        length = int(ends[0]) + 1 if len(ends) and sums[row, int(ends[0])] > 0 else 6
        torch.testing.assert_close(sums[row, :length], torch.ones(length))
        assert float(sums[row, length:].sum()) == 0
    assert float(soft.amax(-1)[sums > 0].mean()) > 0.9, "a high sharpness nearly chooses"


def test_phases_follow_their_numbers() -> None:
    class Counting:
        def iterate(self, position: int = 0) -> Any:
            while True:
                yield AdversarialBatch(torch.tensor([[position]]), torch.tensor([[position]]))
                position += 1

    made = Alternating(Counting(), "relaxed", 40, likelihood=10, warm=4, discriminator=2, sharpness=16.0)
    expected = ["likelihood"] * 10 + ["discriminate"] * 4 + ["relaxed", "discriminate", "discriminate"] * 8
    for begin in (0, 9, 15):
        found = list(itertools.islice(made.iterate(begin), 12))
        assert [one.phase for one in found] == expected[begin : begin + 12]
        assert [int(one.inputs) for one in found] == list(range(begin, begin + 12))
    sharp = [one.sharpness for one in itertools.islice(made.iterate(14), 26)]
    assert sharp[0] == 1.0 and sharp == sorted(sharp) and sharp[-1] == pytest.approx(16.0, rel=0.15)


@pytest.mark.parametrize(("steps", "likelihood", "warm", "every"), [
    (100, 60, 10, 5), (10, 10, 0, 5), (10, 20, 0, 5), (50, 0, 0, 0), (40, 10, 30, 3), (7, 0, 2, 1),
])  # fmt: skip
def test_each_kind_of_step_is_named_with_its_share(steps: int, likelihood: int, warm: int, every: int) -> None:
    batches = Alternating(None, "policy", steps, likelihood, warm, discriminator=every)
    phases = [batches.phase(number) for number in range(steps)]
    kinds = batches.kinds()
    assert sum(share for share, _ in kinds) == pytest.approx(1)
    for share, number in kinds:
        assert share == pytest.approx(phases.count(batches.phase(number)) / steps)
