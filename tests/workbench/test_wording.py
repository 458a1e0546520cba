"""The verdict of a comparison says no more than the figures do."""

from __future__ import annotations

from typing import Any

import pytest

from llmbert.workbench.wording import WORDS, compare_summary, run_summary

TABLE: list[dict[str, Any]] = [{"name": "gpt", "bits_per_byte": 1.5}, {"name": "ngram", "bits_per_byte": 1.6}]


def lead(low: float, high: float) -> dict[str, Any]:
    return {"better": "a" if high < 0 else None, "interval": {"difference": [low, high]}}


def test_a_difference_that_holds_is_given_with_its_interval() -> None:
    said = compare_summary(TABLE, [{"name": "xz", "bits_per_byte": 1.9}], lead(-0.15, -0.05), "en")
    assert said.startswith("Ship gpt: 1.500 bits/byte")
    assert "0.100 below ngram" in said
    assert "between 0.050 and 0.150" in said
    assert "chance" not in said


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    said = compare_summary(TABLE, [], lead(-0.15, 0.02), "en")
    assert "between -0.020 and 0.150" in said
    assert "may be chance" in said
    assert "出于偶然" in compare_summary(TABLE, [], lead(-0.15, 0.02), "zh")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_needs_no_training_and_does_better_is_named(language: str) -> None:
    baselines = [{"name": name, "bits_per_byte": bits} for name, bits in (("xz", 1.4), ("frequencies", 1.2))]
    said = compare_summary(TABLE, baselines, lead(-0.2, -0.1), language)
    assert "frequencies" in said and "1.200" in said and "xz" not in said
    assert ("does better than every model" in said) == (language == "en")


def facts(**more: Any) -> dict[str, Any]:
    return {"family": "transformer", "train_seconds": 0.42, **more}


def test_scores_of_tasks_are_told_as_readers_know_them() -> None:
    scores = {"distinct1": {"score": 0.0421}, "bleu": {"score": 23.4}}
    said = run_summary(facts(metrics={"chat": scores}), {}, "en")
    assert said == (
        "This transformer reaches distinct-1 0.042, BLEU 23.40 on held-out pairs, after 0.42 s of training."
    )
    both = {"translate en-de": {"bleu": {"score": 30.0}}, "summarise": {"rougeL": {"score": 20.0}}}
    assert "reaches Translation en-de: BLEU 30.00; Summaries: ROUGE-L 20.00 on" in run_summary(
        facts(metrics=both), {}, "en"
    )
    chinese = run_summary(facts(metrics=both), {}, "zh")
    assert "翻译 en-de：BLEU 30.00；摘要：ROUGE-L 20.00" in chinese and "0.42 秒" in chinese


@pytest.mark.parametrize(
    ("distinct", "alike", "words"),
    [
        ([0.6, 0.7], [0.1, 0.2], "more varied than real texts"),
        ([0.3, 0.4], [0.5, 0.6], "less varied than real texts"),
        ([0.4, 0.6], [0.1, 0.2], "may be chance"),
        (None, None, "may be chance"),
    ],
)
def test_texts_are_called_more_varied_only_where_intervals_say_so(
    distinct: list[float] | None, alike: list[float] | None, words: str
) -> None:
    drawn = {
        name: {"score": 0.5 if ends is None else sum(ends) / 2, "interval": ends, "baseline": {"value": real}}
        for name, ends, real in (("distinct2", distinct, 0.5), ("self-bleu4", alike, 0.3))
    }
    said = run_summary(facts(draws=drawn), {}, "en")
    assert words in said and said.count("varied than") == (words != "may be chance")


@pytest.mark.parametrize("table", [[], [{"name": "gpt", "bits_per_byte": None}]])
def test_no_figure_is_said(table: list[dict[str, Any]]) -> None:
    assert compare_summary(table, [], None, "en") == WORDS["no_bits"][0]


def test_one_model_is_compared_with_none() -> None:
    assert compare_summary(TABLE[:1], [], None, "en") == "Ship gpt: 1.500 bits/byte on held-out text."


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_fill_in_the_same_values(key: str) -> None:
    import string

    english, chinese = ({field for _, field, _, _ in string.Formatter().parse(text) if field} for text in WORDS[key])
    assert english == chinese
