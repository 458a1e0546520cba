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
from llmbert.workbench.budget import Plan, fitting, ladder, plan_training, rungs_of, shape_for
from llmbert.workbench.lessons import Lesson
from llmbert.workbench.settings import (
    NEVER_PRIVATE,
    USED_BY,
    USED_WITH,
    Asked,
    check_options,
    check_shape,
    check_used,
    checked,
    meant_objective,
    parse_duration,
    parse_pairs,
    sort_settings,
)

NO = ("false", "False", "no", "off", "0", 0, False)


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


@pytest.mark.parametrize(
    ("family", "objective", "key", "value"),
    [
        ("gpt", "causal", "free_bits", "0.5"),
        ("gpt", "causal", "rollouts", "4"),
        ("gpt", "causal", "infilling", "0.3"),
        ("gpt", "causal", "word_dropout", "0.1"),
        ("gpt", "causal", "whole_words", "true"),
        ("gpt", "causal", "keep_end", "true"),
        ("lstm", "causal", "compile", "true"),
        ("lstm", "causal", "across_documents", "true"),
        ("t5", "denoising", "batch_tokens", "64"),
        ("bert", "masked", "across_documents", "yes"),
        ("mixture", "causal", "free_bits", "0.5"),
    ],
)
def test_a_setting_that_would_come_to_nothing_is_refused(family: str, objective: str, key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{key} makes no difference"):
        check_used({key: value, "batch": "4"}, objective, family)


@pytest.mark.parametrize(
    ("family", "given", "key"),
    [
        ("ngram", {"alpha": "0.5"}, "alpha"),
        ("ngram", {"alpha": "0.5", "smoothing": "ml"}, "alpha"),
        ("ngram", {"contributions": "50"}, "contributions"),
        ("ngram", {"delta": "1e-9", "noise": "0"}, "delta"),
        ("gpt", {"style": "gpt2", "rope_base": "5000"}, "rope_base"),
        ("gpt", {"style": "gpt2", "rope_scaling": {"factor": 2.0}}, "rope_scaling"),
        ("vae", {"heads": "8"}, "heads"),
        ("vae", {"network": "lstm", "inner": "64"}, "inner"),
        ("vae", {"network": "transformer", "embedding_width": "32"}, "embedding_width"),
    ],
)
def test_a_shape_that_would_come_to_nothing_is_refused(family: str, given: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError, match=f"{key} makes no difference to this {family}"):
        check_shape(family, given, given)
    check_shape(family, given, [other for other in given if other != key])  # stated by a base, not by the user


def test_shapes_that_make_a_difference_are_taken() -> None:
    for family, given in (
        ("ngram", {"alpha": "0.5", "smoothing": "additive"}),
        ("ngram", {"contributions": "50", "delta": "1e-9", "noise": "1"}),
        ("gpt", {"rope_base": "5000", "rope_scaling": {"factor": 2.0}}),
        ("vae", {"network": "transformer", "heads": "8", "inner": "64"}),
        ("vae", {"network": "gru", "embedding_width": "32"}),
    ):
        check_shape(family, given, given)
    for family, keys in USED_WITH.items():
        shape = find_family(family).settings_class()
        assert set(keys) <= set(shape.model_fields)
        check_shape(family, shape().model_dump(), shape.model_fields)  # as a saved config states them


def test_settings_that_make_a_difference_are_taken() -> None:
    check_used({"free_bits": "0.5", "label_smoothing": "0.1"}, "elbo", "vae")
    check_used({"rollouts": 4, "steps": 3}, "adversarial", "gan")
    check_used({"compile": "true", "infilling": "0.3"}, "infilling", "gpt")
    check_used({"next_sentence": "no", "across_documents": "true"}, "masked", "bert")
    check_used({"batch_tokens": 64, "keep_end": True}, "pairs", "transformer")
    check_used({"compile": "true", "batch": "4"}, "causal", "mixture")  # of its members a gpt uses it
    check_used({"free_bits": "0.0", "next_sentence": "true", "infilling": None}, "causal", "lstm")  # as is usual
    check_used({"noise": "1", "optimiser": "adam", "precision": "float32", "preflight": "false"}, "causal", "gpt")
    assert set(USED_BY) <= set(TrainingSettings.model_fields) >= set(NEVER_PRIVATE)


@pytest.mark.parametrize("setting", [("freeze", "3"), ("lora_rank", "8"), ("lora_alpha", "2"), ("lora_targets", "*")])
def test_what_is_for_fine_tuning_is_refused_elsewhere(setting: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{setting[0]} is for llmbert fine-tune"):
        check_used(dict([setting]), "causal", "gpt")


@pytest.mark.parametrize(
    "setting",
    [("optimiser", "muon"), ("optimiser", "adamw"), ("average", "0.9"), ("accumulate", "2"), ("label_smoothing", "0.1"),
     ("precision", "bfloat16"), ("patience", "3")],
)  # fmt: skip
def test_training_with_noise_refuses_what_it_makes_no_use_of(setting: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=setting[1] if setting[0] == "optimiser" else setting[0]):
        check_used(dict([("noise", "1"), setting]), "causal", "gpt")


def test_a_mixture_learns_without_noise() -> None:
    with pytest.raises(UsageError, match="leave out noise"):
        check_used({"noise": "1"}, "causal", "mixture")


@pytest.mark.parametrize(
    ("family", "objective", "options", "word"),
    [
        ("gpt", "causal", {"lowercase": True}, "--lowercase"),
        ("gpt", "causal", {"languages": "en-de"}, "--languages"),
        ("t5", "denoising", {"detokenise": "words"}, "--detokenise"),
        ("transformer", "pairs", {"lines": True}, "--lines"),
        ("transformer", "pairs", {"split_on": "x"}, "--split-on"),
        ("mixture", "causal", {"base": "runs/gpt"}, "--base"),
        ("ngram", "causal", {"base": "runs/gpt"}, "--base"),
        ("ngram", "causal", {"budget": "5m"}, "--budget"),
        ("gpt", "causal", {"task": "chat"}, "--task"),
        ("transformer", "pairs", {"languages": "english-german"}, "--languages takes codes"),
        ("transformer", "pairs", {"languages": "en-cn"}, "--languages takes codes"),
        ("t5", "pairs", {"mixture": [{"data": "pairs.tsv"}]}, "--data"),
        ("t5", "pairs", {"data": [], "mixture": [{"data": "pairs.tsv"}], "valid": "held.tsv"}, "--valid"),
        ("t5", "pairs", {"data": [], "mixture": [{"data": "pairs.tsv"}], "fields": {"source": "en"}}, "--fields"),
        ("t5", "pairs", {"without": ["pairs.tsv:3"]}, "no ids"),
    ],
)
def test_an_option_that_would_come_to_nothing_is_refused(
    family: str, objective: str, options: dict[str, Any], word: str
) -> None:
    check_options(Asked(family, "text.txt", "run"), objective)
    with pytest.raises(UsageError, match=word):
        check_options(Asked(family, **{"data": "text.txt", "out": "run", **options}), objective)


@pytest.mark.parametrize("value", [0.3, "0.3", "1", 1])
def test_a_share_to_fill_in_asks_for_infilling(value: Any) -> None:
    assert meant_objective({"infilling": value}) == "infilling"


@pytest.mark.parametrize("value", [0, 0.0, "0", "0.0", "0.00", None])
def test_no_share_to_fill_in_asks_for_nothing(value: Any) -> None:
    assert meant_objective({"infilling": value}) is None and meant_objective({}) is None


def test_a_bert_is_the_same_however_no_is_written() -> None:
    store: Any = SimpleNamespace(tokeniser=SimpleNamespace(special_ids={"[MASK]": 4}))
    bert = find_family("bert")
    built = [checked(bert.settings_class(), shape_for(bert, store, {"next_sentence": no}, None)) for no in NO]
    assert all(each == built[0] and not each.next_sentence and not each.pooler for each in built)
    assert checked(bert.settings_class(), shape_for(bert, store, {}, None)).pooler


def test_a_short_training_warms_up_for_a_tenth_of_it_unless_told() -> None:
    def warmup(**values: Any) -> int:
        asked = ("lstm", FAMILIES["lstm"], 300, 500_000, 30_000, {}, values, None, None, random_lesson)
        return int(plan_training(*asked).training.warmup)

    assert (warmup(), warmup(steps="40"), warmup(steps=4000), warmup(steps=40, warmup=30)) == (50, 4, 50, 30)


@pytest.mark.parametrize("pairs", [["order"], ["=5"], ["order=5", "order=6"], ["batch-tokens=1", "batch_tokens=2"]])
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


def test_rungs_that_what_the_user_set_does_not_fit_are_passed_over() -> None:
    gpt = FAMILIES["gpt"]
    shape: dict[str, Any] = {"key_value_heads": "2", "context": 16}
    plan = plan_training("gpt", gpt, 300, 500_000, 30_000, shape, {}, None, 2.0, random_lesson)
    assert (plan.model.heads, plan.model.key_value_heads) == (4, 2), "the smallest rung has 3 heads"
    assert [each.heads for each in fitting(gpt, rungs_of("gpt", {"key_value_heads": 3}, None, 2.0))] == [3, 6, 12]
    with pytest.raises(UsageError, match="heads 3 is not a multiple of key_value_heads 5"):
        fitting(gpt, rungs_of("gpt", {"key_value_heads": 5}, None, 2.0))


def test_a_text_that_is_read_many_times_gets_dropout() -> None:
    few, many = (
        plan_training("gpt", FAMILIES["gpt"], 300, train, valid, {"width": 32}, {}, None, 4.0, random_lesson)
        for train, valid in ((10_000_000, 3_000), (1_000, 300))
    )
    assert few.model.dropout == 0.0
    assert many.model.dropout > 0.0
