"""Canaries: what is planted, and how far above chance a model ranks it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmbert.protocols import LLMBertError, UsageError
from llmbert.trust.canaries import (
    SPACES,
    draw_canaries,
    exposure,
    extrapolated_exposure,
    luhn_digit,
    split_secret,
)

WORDS = [f"word{i}" for i in range(200)]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", SPACES)
def test_canaries_are_all_different_and_the_same_for_the_same_seed(kind: str, language: str) -> None:
    space = SPACES[kind](language, WORDS)
    first, second = (draw_canaries(space, (1, 4), each=3, controls=5, candidates=200, seed=7) for _ in range(2))
    texts = [*first.planted[1], *first.planted[4], *first.controls, *first.candidates]
    assert len(set(texts)) == len(texts) == 211
    assert (first.planted, first.controls, first.candidates) == (second.planted, second.controls, second.candidates)
    assert all(text.startswith(space.prefix) for text in texts)
    assert len(first.copies()) == 3 * 1 + 3 * 4 and first.copies().count(first.planted[4][0]) == 4


def test_a_card_has_a_right_check_digit() -> None:
    stdnum = pytest.importorskip("stdnum.luhn", reason="python-stdnum, which checks numbers, is not installed")
    space = SPACES["card"]("en", [])
    random = np.random.default_rng(0)
    for _ in range(200):
        assert stdnum.is_valid(space.draw(random).replace(" ", ""))
    assert luhn_digit([7, 9, 9, 2, 7, 3, 9, 8, 7, 1]) == 3  # the standard's own example


def test_a_space_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="ask for fewer"):
        draw_canaries(SPACES["number"]("en", []), (1,), each=1, controls=0, candidates=10**9, seed=0)
    with pytest.raises(LLMBertError, match="give more text"):
        SPACES["words"]("en", WORDS[:50])


def test_exposure_is_the_bits_that_a_rank_saves() -> None:
    candidates = np.arange(1.0, 1024.0)  # 1,023 of them
    found = exposure(np.array([0.5, 1.5, 1023.5, 512.0]), candidates)
    assert found[:3] == pytest.approx([10.0, 9.0, 0.0])
    assert any(found[3] == pytest.approx(math.log2(1024 / rank)) for rank in (512, 513))  # a tie


def test_a_model_that_tells_nothing_apart_is_at_chance() -> None:
    found = exposure(np.full(4000, 7.0), np.full(1023, 7.0))
    assert found.mean() == pytest.approx(1 / math.log(2), abs=0.1)
    known = exposure(np.full(4000, 3.0), np.concatenate((np.full(511, 3.0), np.full(512, 7.0))))
    assert known.mean() == pytest.approx(1 + 1 / math.log(2), abs=0.1) and known.min() >= 1


def test_a_secret_never_seen_has_an_exposure_of_one_over_ln_2() -> None:
    random = np.random.default_rng(3)
    candidates, controls = random.normal(size=20_000), random.normal(size=20_000)
    found = exposure(controls, candidates)
    assert found.mean() == pytest.approx(1 / math.log(2), abs=4 * found.std() / math.sqrt(len(found)))
    assert np.median(found) == pytest.approx(1.0, abs=0.05)


def test_beyond_the_sample_a_fitted_distribution_speaks() -> None:
    pytest.importorskip("scipy", reason="scipy, which fits distributions, is not installed")
    candidates = np.random.default_rng(4).normal(10.0, 1.0, 5000)
    found = extrapolated_exposure(np.array([10.0, 4.0, -1000.0]), candidates, bits=46.5)
    assert found[0] == pytest.approx(1.0, abs=0.1)
    assert 25 < found[1] < 35  # -log2 of the chance below six standard deviations is 29.9
    assert found[2] == 46.5


def test_candidates_that_a_model_finds_impossible_lie_above_all_others() -> None:
    pytest.importorskip("scipy", reason="scipy, which fits distributions, is not installed")
    candidates = np.random.default_rng(4).normal(10.0, 1.0, 5000)
    scores = np.array([10.0, 6.0, np.inf])
    without = extrapolated_exposure(scores, candidates, bits=46.5)
    among = extrapolated_exposure(scores, np.concatenate((candidates, np.full(15_000, np.inf))), bits=46.5)
    assert among[:2] == pytest.approx(without[:2] + 2) and among[2] == 0, "a quarter of them is possible: two bits"
    assert extrapolated_exposure(scores, np.full(9, np.inf), bits=46.5).tolist() == [46.5, 46.5, 0.0]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", SPACES)
def test_the_prompt_for_a_secret_gives_a_part_of_it_away(kind: str, language: str) -> None:
    space = SPACES[kind](language, WORDS)
    text = space.prefix + space.draw(np.random.default_rng(1))
    prompt, rest = split_secret(text, space)
    assert prompt + rest == text and len(rest) > len(text[len(space.prefix) :]) / 2
    assert len(prompt) > len(space.prefix)


@pytest.mark.parametrize("long", range(5))
def test_a_secret_of_words_is_cut_between_two_however_unequal_they_are(long: int) -> None:
    space = SPACES["words"]("zh", WORDS)
    words = [("很长的一个词" * 20 if place == long else "词") + str(place) for place in range(5)]
    prompt, rest = split_secret(space.prefix + " " + " ".join(words), space)
    assert prompt == f"{space.prefix} {words[0]}" and rest.split() == words[1:]


def test_where_no_skew_normal_fits_the_normal_distribution_does(monkeypatch: pytest.MonkeyPatch) -> None:
    scipy_stats = pytest.importorskip("scipy.stats", reason="scipy, which fits distributions, is not installed")

    def refuse(*given: object) -> None:
        raise scipy_stats.FitError("outside the range")

    monkeypatch.setattr(scipy_stats.skewnorm, "fit", refuse)
    candidates = np.random.default_rng(0).normal(10, 2, 4000)
    found = extrapolated_exposure(np.array([10.0, 6.0]), candidates, bits=46.5)
    assert found == pytest.approx([1.0, 5.46], abs=0.2)  # half of all, and what lies below two deviations
