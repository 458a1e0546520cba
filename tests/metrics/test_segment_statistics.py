"""Intervals and comparisons of any score that is a function of sums over segments."""

import itertools
import json
import math
import os

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from llmbert.metrics import compare_texts
from llmbert.metrics.segments import (
    SegmentStatistics,
    approximate_randomisation,
    compare_statistics,
    describe_score,
    mean_statistics,
    paired_bootstrap,
)
from llmbert.protocols import LLMBertError


def mean(values, **given):
    return mean_statistics(np.asarray(values, dtype=float), {"unit": "test"}, **given)


def noisy_pair(seed=0, size=200, gap=0.3):
    """Two systems that share what makes a segment hard; `a` is better by `gap` on average."""
    generator = np.random.default_rng(seed)
    hard = generator.normal(0, 5, size)
    return mean(hard + gap + generator.normal(0, 1, size)), mean(hard + generator.normal(0, 1, size))


class TestIntervals:
    def test_of_a_mean_it_is_the_textbooks(self):
        values = np.random.default_rng(0).normal(50, 10, 400)
        result = describe_score("test", mean(values))
        low, high = result["interval"]
        assert result["score"] == pytest.approx(values.mean())
        assert (high - low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(400), rel=0.1)
        assert result["signature"].startswith("metric:test|unit:test|bootstrap:segments-1000-seed0|version:")

    def test_one_segment_has_none(self):
        assert describe_score("test", mean([3.0]))["interval"] is None

    def test_parts_share_the_scale(self):
        result = describe_score("test", mean([0.5, 1], scale=100, also={"recall": np.array([0, 1])}), empty=1)
        assert result["score"] == 75 and result["recall"] == 50 and result["empty"] == 1 and result["n"] == 2
        json.dumps(result)

    def test_they_hold_the_truth_of_a_ratio_about_as_often_as_they_say(self):
        held = 0
        for seed in range(150):
            lengths = np.random.default_rng(seed).integers(1, 40, 60)
            hits = np.random.default_rng(seed + 1000).binomial(lengths, 0.3)
            rows = np.stack([hits, lengths], axis=1).astype(float)
            statistics = SegmentStatistics(rows, lambda sums: sums[:, 0] / sums[:, 1])
            low, high = describe_score("test", statistics, resamples=200)["interval"]
            held += low <= 0.3 <= high
        assert 0.87 <= held / 150 <= 1


class TestComparisons:
    def test_a_small_steady_difference_is_seen_where_segments_differ_much(self):
        a, b = noisy_pair()
        scores = [describe_score("test", each) for each in (a, b)]
        assert scores[0]["interval"][0] < scores[1]["interval"][1], "the intervals of the two overlap"
        result = compare_statistics("test", a, b)
        assert result["better"] == "a" and result["p"] < 0.05 and result["p_randomisation"] < 0.05
        assert result["difference"] == pytest.approx(a.value - b.value) and result["interval"][0] > 0
        assert compare_statistics("test", b, a)["better"] == "b"
        json.dumps(result)

    def test_of_an_error_rate_the_lower_is_better(self):
        a, b = ([0.5] * 60, [0.7] * 60)
        result = compare_statistics("test", *(mean(each, lower_is_better=True) for each in (a, b)))
        assert result["difference"] < 0 and result["better"] == "a"

    def test_a_system_does_not_differ_from_itself(self):
        a, _ = noisy_pair()
        result = compare_statistics("test", a, a)
        assert result["difference"] == 0 and result["p"] == result["p_randomisation"] == 1 and result["better"] is None

    def test_equals_seldom_differ(self):
        calls = [compare_statistics("test", *noisy_pair(seed, gap=0), resamples=200) for seed in range(100)]
        assert sum(call["better"] is not None for call in calls) <= 12
        assert sum(call["p_randomisation"] < 0.05 for call in calls) <= 12

    def test_randomisation_is_the_share_of_all_swaps(self):
        generator = np.random.default_rng(2)
        for _ in range(5):
            values = generator.normal([0.4, 0], 1, (9, 2))
            d = values[:, 0] - values[:, 1]
            swaps = [abs(np.dot(signs, d)) >= abs(d.sum()) - 1e-12 for signs in itertools.product([1, -1], repeat=9)]
            p = approximate_randomisation(mean(values[:, 0]), mean(values[:, 1]), resamples=5000)
            assert p == pytest.approx(np.mean(swaps), abs=0.03)

    def test_the_paired_bootstrap_draws_the_same_segments_for_both(self):
        a = np.arange(50.0)
        assert paired_bootstrap(mean(a + 2), mean(a)) == pytest.approx(np.full(1000, 2.0))

    def test_sacrebleu_comes_to_like_p(self, monkeypatch):
        generator = np.random.default_rng(0)
        words = [f"w{i}" for i in range(30)]
        references = [" ".join(generator.choice(words, 12)) for _ in range(150)]

        def spoil(rate):
            changed = [[w if generator.random() > rate else "x" for w in text.split()] for text in references]
            return [" ".join(text) for text in changed]

        a, b = spoil(0.3), spoil(0.34)
        ours = compare_texts(a, b, references, ("bleu", "chrf"), resamples=2000)
        monkeypatch.setitem(os.environ, "SACREBLEU_SEED", "1")
        metrics = {"BLEU": BLEU(references=[references]), "chrF2": CHRF(references=[references])}
        test = PairedTest([("b", b), ("a", a)], metrics, None, test_type="ar", n_samples=2000)
        theirs = test()[1]
        for name, key in (("bleu", "BLEU"), ("chrf", "chrF2")):
            result = theirs[key][1]
            assert ours[name]["a"] == pytest.approx(result.score)
            assert ours[name]["p_randomisation"] == pytest.approx(result.p_value, abs=0.04)

    def test_one_segment_says_nothing(self):
        result = compare_statistics("test", mean([1.0]), mean([2.0]))
        assert result["difference"] == -1
        assert [result[name] for name in ("interval", "p", "p_randomisation", "better")] == [None] * 4

    def test_unequal_segments_are_refused(self):
        with pytest.raises(LLMBertError, match="a has 2 segments and system b has 3"):
            compare_statistics("test", mean([1, 2]), mean([1, 2, 3]))
