"""Perplexity and bits a byte: the figures, how sure they are, and what they refuse to say."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.metrics import TokenNats, build_signature, likelihood_scores, paired_difference, same_kind
from llmbert.metrics.bootstrap import mean_interval, merge_units, resampled_sums, two_sided_p
from llmbert.metrics.likelihood import bootstrap_units
from llmbert.protocols import LLMBertError

NAMED = {"likelihood": "exact", "tokeniser": "words-1a2b3c4d", "context": "sliding-64-8"}


def text(lengths, mean=3.0, seed=0, bytes_per_token=4, unknown=0, per_document=0.0, cut=0):
    """Documents of `lengths` scored tokens with exponential nats; `per_document` makes documents differ."""
    generator = np.random.default_rng(seed)
    lengths = np.asarray(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths + 1)])
    level = np.repeat(1 + per_document * generator.standard_normal(len(lengths)), lengths + 1)
    nats = (generator.exponential(mean, starts[-1]) * level).astype(np.float32)
    nats[starts[:-1]] = 0
    return TokenNats(nats, starts, lengths * bytes_per_token, lengths * bytes_per_token // 2, unknown, cut)


class TestFigures:
    def test_by_hand(self):
        nats = np.array([0, 1, 2, 0, 3, 4, 5], dtype=np.float32)
        scores = likelihood_scores(TokenNats(nats, [0, 3, 7], [10, 20], [5, 10]), **NAMED)
        assert scores["nats_per_token"] == 3 and scores["perplexity"] == pytest.approx(math.e**3)
        assert scores["bits_per_byte"] == pytest.approx(15 / math.log(2) / 30)
        assert scores["bits_per_character"] == pytest.approx(15 / math.log(2) / 15)
        counted = {name: scores[name] for name in ("tokens", "documents", "bytes", "characters", "unknown")}
        assert counted == {"tokens": 5, "documents": 2, "bytes": 30, "characters": 15, "unknown": 0}
        assert scores["infinite_tokens"] == 0 and scores["likelihood"] == "exact"

    def test_a_uniform_model_over_bytes_needs_eight_bits_a_byte(self):
        nats = np.full(1001, math.log(256), dtype=np.float32)
        nats[0] = 0
        scores = likelihood_scores(TokenNats(nats, [0, 1001], [1000], [1000]), **NAMED)
        assert scores["bits_per_byte"] == pytest.approx(8, rel=1e-6)
        assert scores["perplexity"] == pytest.approx(256, rel=1e-5)
        assert scores["interval"]["bits_per_byte"] == pytest.approx([8, 8], rel=1e-6)

    def test_nothing_is_said_by_byte_or_character_if_anything_was_unknown(self):
        scores = likelihood_scores(text([20] * 50, unknown=1), **NAMED)
        assert scores["bits_per_byte"] is None and scores["bits_per_character"] is None
        assert scores["interval"]["bits_per_byte"] is None
        assert scores["perplexity"] > 1 and len(scores["interval"]["perplexity"]) == 2

    def test_nothing_is_said_by_byte_or_character_if_anything_was_cut_off(self):
        scores = likelihood_scores(text([20] * 50, cut=3), **NAMED)
        assert scores["bits_per_byte"] is scores["bits_per_character"] is scores["interval"]["bits_per_byte"] is None
        assert scores["perplexity"] > 1 and len(scores["interval"]["perplexity"]) == 2
        assert scores["cut"] == 3 and "|cut:3|" in scores["signature"]

    def test_sums_do_not_lose_digits(self):
        nats = np.full(4_000_000, 0.1, dtype=np.float32)
        nats[0] = 0
        scores = likelihood_scores(TokenNats(nats, [0, len(nats)], [10], [10]), **NAMED, resamples=10)
        assert scores["nats_per_token"] == pytest.approx(float(np.float32(0.1)), rel=1e-9)

    def test_infinite_nats_are_counted_and_leave_valid_json(self):
        scored = text([20] * 50)
        scored.nats[[5, 6, 100]] = np.inf
        scores = likelihood_scores(scored, **NAMED)
        assert scores["infinite_tokens"] == 3
        assert [scores[name] for name in ("nats_per_token", "perplexity", "bits_per_byte", "bits_per_character")] == [
            None
        ] * 4
        assert scores["interval"]["perplexity"] is None and scores["interval"]["nats_per_token"] is None
        json.dumps(scores, allow_nan=False)

    def test_a_perplexity_too_large_for_a_float_is_none(self):
        scores = likelihood_scores(text([20] * 50, mean=5000.0), **NAMED)
        assert scores["perplexity"] is None and scores["nats_per_token"] > 4000
        json.dumps(scores, allow_nan=False)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(0, 9))
    def test_any_documents_give_json_and_an_interval_around_the_figure(self, lengths, seed):
        scores = likelihood_scores(text(lengths, seed=seed), **NAMED, resamples=50)
        assert json.loads(json.dumps(scores, allow_nan=False)) == scores
        for name in ("nats_per_token", "perplexity", "bits_per_byte", "bits_per_character"):
            interval = scores["interval"][name]
            if interval is not None:
                assert interval[0] <= interval[1]
            else:
                assert scores["interval"]["units"] < 2


class TestIntervals:
    def test_documents_are_resampled_where_there_are_thirty(self):
        scores = likelihood_scores(text([20] * 30), **NAMED)
        assert scores["interval"]["units"] == 30 and "documents" in scores["interval"]["method"]
        assert "|bootstrap:documents-1000-seed0|" in scores["signature"]

    def test_blocks_where_there_are_fewer(self):
        scores = likelihood_scores(text([20_000, 500, 1]), **NAMED)
        assert scores["interval"]["units"] == 40 + 1 + 1
        assert "|bootstrap:blocks512-1000-seed0|" in scores["signature"]

    def test_shorter_blocks_in_a_short_text(self):
        units, name = bootstrap_units(text([3000]))
        assert len(units) == 30 and name == "blocks100"
        units, name = bootstrap_units(text([100]))
        assert len(units) == 7 and name == "blocks16"

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.integers(1, 900), min_size=1, max_size=29))
    def test_blocks_add_up_to_their_documents(self, lengths):
        scored = text(lengths)
        units, _ = bootstrap_units(scored)
        assert np.allclose(units.sum(0), scored.per_document().sum(0), rtol=1e-6)
        assert units[:, 1].min() >= 1 and units[:, 1].max() <= 512

    def test_a_block_is_a_run_of_tokens(self):
        nats = np.array([0, 1, 2, 3, 4, 5, 6, 0, 9], dtype=np.float32)
        scored = TokenNats(nats, [0, 7, 9], [60, 7], [30, 7])
        assert scored.per_block(np.array([3, 1])).tolist() == [
            [3, 2, 20, 10],
            [7, 2, 20, 10],
            [11, 2, 20, 10],
            [9, 1, 7, 7],
        ]

    def test_one_unit_is_too_few(self):
        interval = likelihood_scores(text([10]), **NAMED)["interval"]
        assert interval["units"] == 1 and interval["nats_per_token"] is None and interval["bits_per_byte"] is None

    @pytest.mark.parametrize("lengths", [[60] * 200, [12_000]], ids=["documents", "blocks"])
    def test_they_hold_the_truth_about_as_often_as_they_say(self, lengths):
        held = 0
        for seed in range(120):
            scores = likelihood_scores(text(lengths, seed=seed), **NAMED, resamples=200)
            low, high = scores["interval"]["nats_per_token"]
            held += low <= 3.0 <= high
        assert 0.85 <= held / 120 <= 1.0

    def test_they_know_that_tokens_of_one_document_are_alike(self):
        alike = likelihood_scores(text([100] * 100, per_document=0.5), **NAMED)["interval"]["nats_per_token"]
        apart = likelihood_scores(text([100] * 100), **NAMED)["interval"]["nats_per_token"]
        assert alike[1] - alike[0] > 3 * (apart[1] - apart[0])

    def test_the_seed_fixes_them(self):
        first, again, other = (likelihood_scores(text([20] * 40), **NAMED, seed=seed)["interval"] for seed in (0, 0, 1))
        assert first == again and first["nats_per_token"] != other["nats_per_token"]

    def test_a_hundred_thousand_documents_take_moments(self):
        lengths = np.random.default_rng(0).integers(1, 60, 100_000)
        scored = text(lengths)
        begun = time.process_time()
        scores = likelihood_scores(scored, **NAMED)
        assert time.process_time() - begun < 4
        low, high = scores["interval"]["nats_per_token"]
        assert (high - low) / 2 == pytest.approx(1.96 * 3 / math.sqrt(lengths.sum()), rel=0.15)

    def test_more_units_than_can_be_drawn_are_joined_without_narrowing_the_interval(self):
        units = np.random.default_rng(0).exponential(3, (3000, 1))
        joined = merge_units(units, 1000)
        assert joined.shape == (1000, 1) and joined.sum() == pytest.approx(units.sum())
        whole, fewer = resampled_sums(units, 2000, 0).std(), resampled_sums(joined, 2000, 0).std()
        assert fewer == pytest.approx(whole, rel=0.1)


class TestPairs:
    def test_a_small_steady_difference_is_seen_where_documents_differ_much(self):
        a = text([100] * 60, per_document=0.5)
        b = TokenNats(a.nats * np.float32(1.01), a.starts, a.document_bytes, a.document_characters)
        result = paired_difference(a, b)
        scores = [likelihood_scores(each, **NAMED) for each in (a, b)]
        assert scores[0]["interval"]["bits_per_byte"][1] > scores[1]["interval"]["bits_per_byte"][0], "they overlap"
        assert result["better"] == "a" and result["p"] < 0.01
        assert result["difference"] == pytest.approx(scores[0]["bits_per_byte"] - scores[1]["bits_per_byte"])
        assert result["interval"]["difference"][0] < result["difference"] < result["interval"]["difference"][1] < 0
        assert paired_difference(b, a)["better"] == "b"

    def test_equals_do_not_differ(self):
        a = text([100] * 60)
        result = paired_difference(a, a)
        assert (result["difference"], result["p"], result["better"]) == (0, 1, None)

    def test_noise_is_rarely_taken_for_a_difference(self):
        claimed = sum(
            paired_difference(text([40] * 60, seed=n), text([40] * 60, seed=1000 + n), resamples=200)["better"]
            is not None
            for n in range(100)
        )
        assert claimed <= 14

    def test_other_tokenisers_of_one_long_document(self):
        a, b = text([9000], bytes_per_token=4), text([12_000], bytes_per_token=3, seed=1)
        result = paired_difference(a, b)
        expected = (a.nats.sum() - b.nats.sum()) / math.log(2) / 36_000
        assert result["difference"] == pytest.approx(expected, rel=1e-5)
        assert result["interval"]["units"] == 30 and result["better"] == "a"

    def test_unknown_or_infinite_text_is_not_compared(self):
        a = text([20] * 40)
        assert paired_difference(a, text([20] * 40, unknown=2))["difference"] is None
        assert paired_difference(a, text([20] * 40, cut=1))["difference"] is None
        infinite = text([20] * 40)
        infinite.nats[3] = np.inf
        result = paired_difference(a, infinite)
        assert (result["difference"], result["p"], result["interval"]["difference"]) == (None, None, None)
        json.dumps(result, allow_nan=False)

    def test_other_documents_are_refused(self):
        with pytest.raises(LLMBertError, match="different documents"):
            paired_difference(text([20] * 40), text([20] * 41))

    def test_p_is_never_zero(self):
        assert two_sided_p(np.full(999, -1.0)) == pytest.approx(2 / 1000)
        assert two_sided_p(np.zeros(10)) == 1


class TestSignature:
    def test_in_full(self):
        signature = likelihood_scores(text([20] * 40), **NAMED)["signature"]
        parts = signature.split("|")
        assert parts[:6] == [
            "metric:nll",
            "likelihood:exact",
            "tokeniser:words-1a2b3c4d",
            "unit:token+end",
            "context:sliding-64-8",
            "bootstrap:documents-1000-seed0",
        ]
        assert parts[6].startswith("version:llmbert-") and len(parts) == 7

    def test_a_part_cannot_pretend_to_be_two(self):
        with pytest.raises(LLMBertError, match="tokeniser"):
            build_signature("nll", tokeniser="words|likelihood:exact")

    def test_kinds_of_likelihood_do_not_share_a_column(self):
        exact, bound = ({"likelihood": kind} for kind in ("exact", "bound"))
        assert same_kind({"a": exact, "b": exact}) and not same_kind({"a": exact, "b": bound})


class TestRefusals:
    @pytest.mark.parametrize(
        ("nats", "starts", "sizes", "message"),
        [
            ([], [0], [], "no document"),
            ([0, 1], [0, 3], [5], "do not fit"),
            ([0, 1, 0], [0, 2, 3], [5, 5], "do not fit"),
            ([0, 1], [0, 2], [5, 5], "sizes"),
            ([0, math.nan], [0, 2], [5], "not numbers"),
            ([1, 1], [0, 2], [5], "begin token"),
        ],
    )
    def test_figures_that_do_not_fit(self, nats, starts, sizes, message):
        with pytest.raises(LLMBertError, match=message):
            TokenNats(np.array(nats, dtype=np.float32), starts, sizes, sizes)


@pytest.mark.parametrize("count", [2, 3, 5, 6, 10, 30])
def test_the_interval_of_a_mean_is_students(count):
    stats = pytest.importorskip("scipy.stats", reason="scipy, which is the reference here, is not installed")
    values = np.random.default_rng(count).normal(2.0, 0.3, count)
    theirs = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values.tolist()) == pytest.approx(theirs, abs=1e-3)
