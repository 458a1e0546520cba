"""The verdict of a comparison says no more than the figures do."""

from __future__ import annotations

from typing import Any

import pytest

from llmbert.workbench.wording import WORDS, compare_summary

TABLE: list[dict[str, Any]] = [{"name": "gpt", "bits_per_byte": 1.5}, {"name": "ngram", "bits_per_byte": 1.6}]


def lead(low: float, high: float) -> dict[str, Any]:
    return {"better": "a" if high < 0 else None, "interval": {"difference": [low, high]}}


def test_a_difference_that_holds_is_given_with_its_interval() -> None:
    said = compare_summary(TABLE, [{"bits_per_byte": 1.9}], lead(-0.15, -0.05), "en")
    assert said.startswith("Ship gpt: 1.500 bits/byte")
    assert "0.100 below ngram" in said
    assert "between 0.050 and 0.150" in said
    assert "chance" not in said


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    said = compare_summary(TABLE, [], lead(-0.15, 0.02), "en")
    assert "between -0.020 and 0.150" in said
    assert "may be chance" in said
    assert "出于偶然" in compare_summary(TABLE, [], lead(-0.15, 0.02), "zh")


def test_a_compressor_that_does_better_is_named() -> None:
    assert "does better than every model" in compare_summary(TABLE, [{"bits_per_byte": 1.2}], lead(-0.2, -0.1), "en")


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
