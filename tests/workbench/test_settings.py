"""What a user may ask for, and what they are told when it is wrong."""

from __future__ import annotations

from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmbert.data.batches import Batch
from llmbert.data.masking import MaskedBatch
from llmbert.data.pairs import PairBatch
from llmbert.models import FAMILIES, find_family
from llmbert.models.gpt import GPTSettings
from llmbert.objectives.adversarial import AdversarialBatch, adversarial
from llmbert.objectives.causal import causal
from llmbert.objectives.elbo import LatentBatch, evidence_lower_bound
from llmbert.objectives.masked import masked_language_model
from llmbert.objectives.seq2seq import sequence_to_sequence
from llmbert.protocols import UsageError
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.budget import Plan, ladder, plan_training
from llmbert.workbench.lessons import Lesson
from llmbert.workbench.settings import checked, parse_duration, parse_pairs, sort_settings


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5m", 90), ("45", 45), (12, 12)]
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 minutes", "-3s", "0s", "99999h", "5m30"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


def test_settings_are_sorted_by_whom_they_concern() -> None:
    given = parse_pairs(["layers=3", "learning-rate=0.1", "vocabulary_size=99", "clip_norm=none"])
    model, training, corpus = sort_settings(find_family("gpt"), given)
    assert model == {"layers": "3"}
    assert training == {"learning_rate": "0.1", "clip_norm": None}
    assert corpus == {"vocabulary_size": "99"}
    assert checked(TrainingSettings, training).learning_rate == 0.1
    assert checked(GPTSettings, model).layers == 3


@pytest.mark.parametrize(
    ("family", "key", "meant"), [("gpt", "layer", "layers"), ("ngram", "ordr", "order"), ("lstm", "widht", "width")]
)
def test_an_unknown_key_is_refused_with_the_nearest(family: str, key: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        sort_settings(find_family(family), {key: "1"})


def test_an_ngram_takes_no_learning_rate() -> None:
    with pytest.raises(UsageError, match="learning_rate"):
        sort_settings(find_family("ngram"), {"learning_rate": "1"})


@pytest.mark.parametrize("pairs", [["order"], ["=5"], ["order=5", "order=6"]])
def test_pairs_that_are_none(pairs: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_pairs(pairs)


@pytest.mark.parametrize(
    "values", [{"layers": 0}, {"layers": "many"}, {"width": 30, "heads": 4}, {"dropout": 1.5}, {"style": "gpt3"}]
)
def test_a_value_out_of_range_is_one_sentence(values: dict[str, object]) -> None:
    with pytest.raises(UsageError) as raised:
        checked(GPTSettings, values)
    assert "\n" not in str(raised.value)
    assert any(key in str(raised.value) for key in values)


def random_lesson(model: Any, plan: Plan) -> Lesson:
    """Batches of random ids of the kind that a family learns from."""
    rows, time = plan.training.batch, plan.model.context
    ids = torch.randint(4, 298, (rows, time))
    inside = torch.ones_like(ids, dtype=torch.bool)
    batch: Any = {
        "causal": lambda: Batch(ids, ids),
        "masked": lambda: MaskedBatch(ids, ids),
        "pairs": lambda: PairBatch(ids, inside, ids, ids),
        "elbo": lambda: LatentBatch(ids, ids),
        "adversarial": lambda: AdversarialBatch(ids, ids),
    }[FAMILIES[model.family].objectives[0]]()
    objective: dict[str, Any] = {"causal": causal, "masked": masked_language_model, "pairs": sequence_to_sequence}
    objective |= {"elbo": evidence_lower_bound, "adversarial": adversarial}
    batches = SimpleNamespace(iterate=lambda position=0: repeat(batch))
    return Lesson(batches, objective[FAMILIES[model.family].objectives[0]], lambda: 0.0)


@pytest.mark.parametrize("family", [name for name, f in FAMILIES.items() if not f.counts and not f.mixes])
def test_more_time_never_means_a_smaller_model(family: str) -> None:
    values = {"context": 32, "mask_id": 299} if family == "bert" else {"context": 32}
    plans = [
        plan_training(family, FAMILIES[family], 300, 500_000, 30_000, values, {}, None, seconds, random_lesson)
        for seconds in (4.0, 30.0)
    ]
    widths = [rung["width"] * rung["layers"] for rung in ladder(family)]
    chosen = [plan.model.width * plan.model.layers for plan in plans]
    assert set(chosen) <= set(widths)
    assert chosen[0] <= chosen[1]
    assert plans[0].training.steps * plans[0].training.batch >= 20


def test_what_the_user_set_stands_above_the_budget() -> None:
    plan = plan_training(
        "gpt", FAMILIES["gpt"], 300, 500_000, 30_000, {"layers": 1, "width": 32}, {"steps": 7}, None, 5.0, random_lesson
    )
    assert (plan.model.layers, plan.model.width, plan.training.steps) == (1, 32, 7)


def test_a_text_that_is_read_many_times_gets_dropout() -> None:
    few, many = (
        plan_training("gpt", FAMILIES["gpt"], 300, train, valid, {"width": 32}, {}, None, 4.0, random_lesson)
        for train, valid in ((10_000_000, 3_000), (1_000, 300))
    )
    assert few.model.dropout == 0.0
    assert many.model.dropout > 0.0
