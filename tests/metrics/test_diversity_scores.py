"""distinct-n and self-BLEU: figures by hand, nltk's figure, and intervals that hold."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from llmbert.metrics import compare_texts, score_texts
from llmbert.metrics.generation import bleu_among, pool_bleu

WORDS = st.lists(st.lists(st.sampled_from("abcde"), max_size=7), min_size=2, max_size=6)


def nltk_bleu(references, words, order):
    if not words:
        return 0.0
    return sentence_bleu(references, words, [1 / order] * order, SmoothingFunction().method1)


class TestDistinct:
    def test_by_hand(self):
        scores = score_texts(["a b a", "a b c", "", "d"], None, ("distinct1", "distinct2"), tokenise="none")
        assert scores["distinct1"]["score"] == pytest.approx(4 / 7) == pytest.approx(scores["distinct1"]["per_word"])
        assert scores["distinct2"]["score"] == pytest.approx(3 / 4)
        assert scores["distinct2"]["per_word"] == pytest.approx(3 / 7)
        assert [scores["distinct2"][name] for name in ("different", "total", "empty")] == [3, 4, 1]

    def test_case_and_chinese_follow_the_convention(self):
        def score(text, **given):
            return score_texts([text], None, ("distinct1",), **given)["distinct1"]["score"]

        assert score("The the") == 1 and score("The the", lowercase=True) == 0.5
        assert score("天天好", language="zh") == pytest.approx(2 / 3)

    def test_nothing_at_all_is_0(self):
        result = score_texts(["", "a"], None, ("distinct2",))["distinct2"]
        assert result["score"] == 0 and result["interval"] == [0, 0]

    @settings(max_examples=60, deadline=None)
    @given(WORDS)
    def test_the_interval_lies_around_the_score(self, texts):
        result = score_texts([" ".join(text) for text in texts], None, ("distinct1",), tokenise="none", resamples=200)
        low, high = result["distinct1"]["interval"]
        assert low - 1e-9 <= result["distinct1"]["score"] <= high + 1e-9

    def test_the_interval_holds_the_expected_figure_about_as_often_as_it_says(self):
        def draw(generator):
            lengths = generator.integers(5, 15, 60)
            words = np.minimum(generator.zipf(1.5, lengths.sum()), 800)
            return [" ".join(map(str, part)) for part in np.split(words, np.cumsum(lengths)[:-1])]

        generator = np.random.default_rng(0)
        samples = [" ".join(draw(generator)).split() for _ in range(400)]
        truth = np.mean([len(set(words)) / len(words) for words in samples])
        held = 0
        for _ in range(120):
            result = score_texts(draw(generator), None, ("distinct1",), tokenise="none", resamples=200)["distinct1"]
            held += result["interval"][0] <= truth <= result["interval"][1]
        assert 0.85 <= held / 120 <= 1

    def test_two_systems(self):
        generator = random.Random(0)
        rich = [" ".join(generator.choices([f"w{i}" for i in range(500)], k=8)) for _ in range(100)]
        poor = [" ".join(generator.choices([f"w{i}" for i in range(50)], k=8)) for _ in range(100)]
        result = compare_texts(rich, poor, None, ("distinct1", "self-bleu2"), resamples=300)
        assert result["distinct1"]["better"] == result["self-bleu2"]["better"] == "a"
        assert result["distinct1"]["difference"] > 0 > result["self-bleu2"]["difference"]
        assert compare_texts(rich, rich[::-1], None, ("distinct1",), resamples=300)["distinct1"]["better"] is None


class TestSelfBleu:
    @settings(max_examples=100, deadline=None)
    @given(WORDS, st.integers(1, 5))
    def test_it_is_nltks_bleu_against_all_others(self, texts, order):
        theirs = [nltk_bleu(texts[:i] + texts[i + 1 :], text, order) for i, text in enumerate(texts)]
        assert bleu_among(texts, order) == pytest.approx(theirs)

    @settings(max_examples=100, deadline=None)
    @given(WORDS, WORDS, st.integers(2, 5))
    def test_pool_bleu_is_nltks_bleu_against_the_pool(self, texts, pool, order):
        assert pool_bleu(texts, pool, order) == pytest.approx([nltk_bleu(pool, text, order) for text in texts])

    def test_the_extremes(self):
        def score(texts):
            return score_texts(texts, None, ("self-bleu4",))["self-bleu4"]["score"]

        assert score(["a b c d e"] * 20) == pytest.approx(1)
        assert score([f"{i}a {i}b {i}c" for i in range(20)]) == score(["a b"]) == 0

    def test_a_fixed_number_is_drawn_and_named(self):
        texts = [f"a {i % 7} b {i % 11} c" for i in range(3000)]
        begun = time.process_time()
        first, again, other = (score_texts(texts, None, ("self-bleu4",), seed=s)["self-bleu4"] for s in (0, 0, 1))
        assert time.process_time() - begun < 8
        assert first == again and first["n"] == 1000 and "|pool:1000-of-3000-seed0|" in first["signature"]
        assert "|pool:1000-of-3000-seed1|" in other["signature"]
        assert "|pool:20|" in score_texts(texts[:20], None, ("self-bleu4",))["self-bleu4"]["signature"]
