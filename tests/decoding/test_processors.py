"""Processors: what they keep, and that Transformers keeps the same."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.decoding import Context, GenerationSettings, build_processors
from llmbert.decoding.processors import (
    ForbidTokens,
    MinP,
    NoRepeatNgram,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
)

NOTHING = Context([[], [], [], []])


def random_logits(seed, rows=4, vocabulary=300, spread=3.0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def kept(logits):
    return logits > -torch.inf


TRUNCATIONS = [TopK(1), TopK(7), TopP(0.2), TopP(0.9), MinP(0.05), MinP(1.0), Typical(0.3), Typical(0.95)]

# few distinct values, so that ties are common, and minus infinity among them
rows = st.lists(st.sampled_from([-torch.inf, -3.0, -1.0, 0.0, 0.5, 2.0, 40.0]), min_size=2, max_size=30)
logit_rows = rows.filter(lambda row: max(row) > -torch.inf).map(lambda row: torch.tensor([row]))


class TestAsInTransformers:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize(
        ("ours", "theirs", "argument"),
        [
            *[(TopK(k), "TopKLogitsWarper", k) for k in (1, 5, 50, 1000)],
            *[(TopP(p), "TopPLogitsWarper", p) for p in (0.05, 0.5, 0.9, 0.99)],
            *[(MinP(p), "MinPLogitsWarper", p) for p in (0.01, 0.1, 0.5)],
            *[(Typical(p), "TypicalLogitsWarper", p) for p in (0.1, 0.5, 0.9)],
        ],
    )
    def test_truncations(self, ours, theirs, argument, seed):
        generation = pytest.importorskip("transformers.generation.logits_process")
        logits = random_logits(seed)
        expected = getattr(generation, theirs)(argument)(torch.zeros(4, 1, dtype=torch.long), logits.clone())
        assert torch.equal(ours(logits, NOTHING), expected)

    @pytest.mark.parametrize("temperature", [0.1, 0.7, 1.5])
    def test_temperature(self, temperature):
        generation = pytest.importorskip("transformers.generation.logits_process")
        logits = random_logits(1)
        expected = generation.TemperatureLogitsWarper(temperature)(None, logits.clone()).log_softmax(-1)
        assert torch.allclose(Temperature(temperature)(logits, NOTHING).log_softmax(-1), expected, atol=1e-4)

    @pytest.mark.parametrize("penalty", [0.8, 1.2, 2.0])
    def test_repetition_penalty(self, penalty):
        generation = pytest.importorskip("transformers.generation.logits_process")
        logits, ids = random_logits(2), torch.randint(0, 300, (4, 40), generator=torch.Generator().manual_seed(3))
        expected = generation.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
        assert torch.equal(RepetitionPenalty(penalty)(logits, Context(ids.tolist())), expected)

    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    @pytest.mark.parametrize("length", [1, 2, 5, 60])
    def test_no_repeat_ngram(self, n, length):
        generation = pytest.importorskip("transformers.generation.logits_process")
        logits = random_logits(2, vocabulary=6)
        ids = torch.randint(0, 4, (4, length), generator=torch.Generator().manual_seed(length))
        expected = generation.NoRepeatNGramLogitsProcessor(n)(ids, logits.clone())
        assert torch.equal(NoRepeatNgram(n)(logits, Context(ids.tolist())), expected)

    def test_the_whole_chain(self):
        generation = pytest.importorskip("transformers.generation.logits_process")
        logits, ids = random_logits(7), torch.randint(4, 300, (4, 20), generator=torch.Generator().manual_seed(3))
        asked = GenerationSettings(
            temperature=0.8, top_k=60, top_p=0.9, min_p=0.01, typical_p=0.95, repetition_penalty=1.2, no_repeat_ngram=1
        )
        ours = logits
        for processor in build_processors(asked, forbidden_ids=(0, 2)):
            ours = processor(ours, Context(ids.tolist()))
        theirs = logits.clone()
        for each in (
            generation.SuppressTokensLogitsProcessor([0, 2]),
            generation.RepetitionPenaltyLogitsProcessor(1.2),
            generation.NoRepeatNGramLogitsProcessor(1),
            generation.TemperatureLogitsWarper(0.8),
            generation.TopKLogitsWarper(60),
            generation.TopPLogitsWarper(0.9),
            generation.MinPLogitsWarper(0.01),
            generation.TypicalLogitsWarper(0.95),
        ):
            theirs = each(ids, theirs)
        assert torch.allclose(ours.softmax(-1), theirs.softmax(-1), atol=1e-6)


class TestTruncations:
    @settings(max_examples=60, deadline=None)
    @given(logit_rows, st.sampled_from(TRUNCATIONS))
    def test_they_keep_some_tokens_and_change_none_they_keep(self, logits, truncation):
        before = logits.clone()
        after = truncation(logits, Context([[]]))
        assert torch.equal(logits, before), "the input was written to"
        assert kept(after).any()
        assert torch.equal(after[kept(after)], logits[kept(after)])

    @settings(max_examples=60, deadline=None)
    @given(logit_rows, st.sampled_from([each for each in TRUNCATIONS if not isinstance(each, Typical)]))
    def test_the_most_probable_token_stays_and_no_better_one_goes(self, logits, truncation):
        stays = kept(truncation(logits, Context([[]])))[0]
        assert stays[logits[0].argmax()]
        if not stays.all():
            # log-probabilities this low are equal probabilities: 0
            assert logits[0][stays].softmax(0).min() >= logits[0].softmax(0)[~stays].max()

    @settings(max_examples=80, deadline=None)
    @given(logit_rows, st.floats(0.01, 0.999))
    def test_top_p_is_the_smallest_set_with_enough_mass(self, logits, p):
        probabilities = logits[0].double().softmax(0)
        chosen = probabilities[kept(TopP(p)(logits, Context([[]])))[0]]
        assert chosen.sum() >= p - 1e-6
        assert chosen.sum() - chosen.min() < p + 1e-6

    @pytest.mark.parametrize("shortlist", [1, 3, 50])
    @pytest.mark.parametrize("truncation", [TopP, Typical])
    def test_nothing_depends_on_the_shortlist(self, truncation, shortlist):
        for seed in range(5):
            logits = (random_logits(seed) * 2).round() / 2
            for p in (0.3, 0.8, 0.99):
                short, whole = (truncation(p, size)(logits, NOTHING) for size in (shortlist, 300))
                assert torch.equal(short, whole)

    def test_top_p_takes_the_lowest_of_equal_ids(self):
        stays = kept(TopP(0.5)(torch.zeros(1, 8), Context([[]])))
        assert stays[0].tolist() == [True] * 4 + [False] * 4

    @given(logit_rows, st.integers(1, 40))
    @settings(max_examples=60, deadline=None)
    def test_top_k_keeps_k_and_those_equal_to_the_last(self, logits, k):
        possible = int(kept(logits).sum())
        stays = kept(TopK(k)(logits, Context([[]])))[0]
        least = logits[0][stays].min()
        assert stays.sum() >= min(k, possible)
        assert (logits[0][stays] > least).sum() < k

    def test_typical_may_drop_the_most_probable(self):
        # the entropy is 1.75 nats: a token of 0.1 (2.30 nats of surprise) is nearer to it than the one of 0.4 (0.92)
        logits = torch.tensor([[0.4, *[0.1] * 6]]).log()
        assert kept(Typical(0.35)(logits, Context([[]])))[0].tolist() == [False] + [True] * 6


class TestTemperature:
    @pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1e-6, 1e6, 1e300])
    def test_extremes_stay_distributions(self, temperature):
        probabilities = Temperature(temperature)(random_logits(0), NOTHING).softmax(-1)
        assert torch.allclose(probabilities.sum(-1), torch.ones(4))

    def test_what_was_ruled_out_stays_so(self):
        logits = torch.tensor([[-torch.inf, 0.0, 1.0]])
        assert Temperature(0.5)(logits, Context([[]]))[0, 0] == -math.inf


class TestRules:
    def test_forbidden_tokens(self):
        after = ForbidTokens((0, 2))(torch.zeros(2, 4), Context([[], []]))
        assert kept(after).tolist() == [[False, True, False, True]] * 2

    def test_no_repeat_ngram_never_empties_a_row(self):
        logits = torch.zeros(1, 3)
        assert kept(NoRepeatNgram(1)(logits, Context([[0, 1, 2]]))).all()

    def test_no_repeat_ngram_counts_what_the_model_rules_out_as_gone(self):
        logits = torch.tensor([[-torch.inf, 0.0, 0.0]])
        assert torch.equal(NoRepeatNgram(1)(logits, Context([[1, 2]])), logits)

    def test_rows_have_their_own_past(self):
        after = NoRepeatNgram(2)(torch.zeros(3, 5), Context([[1, 2, 1], [], [3, 3]]))
        assert [torch.nonzero(~row)[:, 0].tolist() for row in kept(after)] == [[2], [], [3]]

    def test_repetition_penalty_without_a_past(self):
        logits = random_logits(0)
        assert torch.equal(RepetitionPenalty(2.0)(logits, NOTHING), logits)


class TestOrder:
    def test_neutral_settings_need_no_processor_but_the_forbidden(self):
        assert build_processors(GenerationSettings(), forbidden_ids=(2, 0)) == [ForbidTokens((0, 2))]

    def test_the_order_is_fixed(self):
        asked = GenerationSettings(
            temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, typical_p=0.9, repetition_penalty=2.0, no_repeat_ngram=2
        )
        names = [type(each).__name__ for each in build_processors(asked)]
        rules = ["ForbidTokens", "RepetitionPenalty", "NoRepeatNgram"]
        assert names == [*rules, "Temperature", "TopK", "TopP", "MinP", "Typical"]

    @pytest.mark.parametrize("fields", [{"temperature": 0, "top_k": 3, "typical_p": 0.5}, {"beams": 4}])
    def test_greedy_and_beams_truncate_nothing(self, fields):
        names = [type(each).__name__ for each in build_processors(GenerationSettings(no_repeat_ngram=2, **fields))]
        assert names == ["ForbidTokens", "NoRepeatNgram"]
