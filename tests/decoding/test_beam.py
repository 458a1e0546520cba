"""Beam search: as good as trying everything where it can be tried, and greedy with one beam."""

from itertools import product

import pytest
import torch

from llmbert.decoding import Engine, GenerationSettings, Request, beam_search
from llmbert.protocols import Condition, UsageError


def search(steppers, model, requests, **options):
    return beam_search(
        model,
        requests,
        steppers.begin,
        steppers.end,
        steppers.letters,
        padding_id=steppers.padding,
        unknown_id=steppers.unknown,
        **options,
    )


def request(prompt=(), condition=None, **fields):
    return Request(list(prompt), GenerationSettings(**fields), condition)


def everything(steppers, model, prompt, max_tokens, alpha):
    """Score of every text there is: ended within max_tokens, or max_tokens long; best first."""
    letters = range(4, model.vocabulary_size)
    texts = [text for n in range(max_tokens + 1) for text in product(letters, repeat=n)]
    scored = []
    for text in texts:
        ends = [text] if len(text) == max_tokens else [(*text, steppers.end)]
        for each in ends:
            ids = torch.tensor([[steppers.begin, *prompt, *each]])
            nats = model.logits(ids).double().log_softmax(-1)[0, len(prompt) : len(prompt) + len(each)]
            total = float(sum(nats[n, token] for n, token in enumerate(each)))
            scored.append((total / len(each) ** alpha, text))
    return sorted(scored, key=lambda pair: -pair[0])


class TestAgainstEverything:
    @pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.6, 1.0, 2.0])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_enough_beams_find_the_best_texts_there_are(self, steppers, alpha, seed):
        model = steppers.Table(steppers.random_table(7, seed))
        asked = request([5, 4], beams=3**4, max_tokens=4, length_penalty=alpha)
        got = search(steppers, model, [asked], n_best=20)[0]
        expected = everything(steppers, model, [5, 4], 4, alpha)[:20]
        assert [each.tokens for each in got] == [text for _, text in expected]
        assert [each.score for each in got] == pytest.approx([score for score, _ in expected], abs=1e-4)

    @pytest.mark.parametrize("n_best", [1, 3])
    def test_the_early_finish_changes_nothing(self, steppers, n_best, monkeypatch):
        asked = [
            request([4 + n], beams=4, max_tokens=30, length_penalty=alpha) for n in range(10) for alpha in (0, 0.7, 1.5)
        ]
        model = steppers.Table(steppers.random_table(14, 3, spread=1.5))
        early = search(steppers, model, asked, n_best=n_best)
        steps = len(model.steps)
        monkeypatch.setattr("llmbert.decoding.beam._settled", lambda search, n_best: not search.live)
        late_model = steppers.Table(model.table)
        late = search(steppers, late_model, asked, n_best=n_best)
        assert early == late
        assert sum(rows for rows, _ in model.steps) < sum(rows for rows, _ in late_model.steps)
        assert steps <= len(late_model.steps)

    def test_a_penalty_below_zero_lets_scores_rise_and_nothing_is_cut_short(self, steppers, monkeypatch):
        """What goes on is paid for it: it may overtake what ended with more than it had."""
        asked = [request([4 + n], beams=4, max_tokens=20, presence_penalty=-3.0) for n in range(10)]
        model = steppers.Table(steppers.random_table(14, 3, spread=1.5))
        early = search(steppers, model, asked)
        monkeypatch.setattr("llmbert.decoding.beam._settled", lambda search, n_best: not search.live)
        assert early == search(steppers, model, asked)


class TestAgainstGreedy:
    def test_one_beam_is_greedy(self, steppers):
        for model in (steppers.table(), steppers.Gru()):
            prompts = [[], [5], [9, 10, 11], [20]]
            engine = Engine(model, 2, 3, steppers.letters, padding_id=0, unknown_id=1)
            greedy = [h.ids for h in engine.run(request(p, temperature=0, max_tokens=15) for p in prompts)]
            beams = search(steppers, model, [request(p, beams=1, max_tokens=15) for p in prompts])
            assert [list(each[0].tokens) for each in beams] == greedy

    def test_of_equals_the_lowest_id(self, steppers):
        logits = torch.zeros(10)
        logits[[6, 8]] = 3.0
        best = search(steppers, steppers.fixed(logits), [request(beams=2, max_tokens=2)], n_best=2)[0]
        assert [each.tokens for each in best] == [(6, 6), (6, 8)]

    def test_more_beams_find_more_probable_texts(self, steppers):
        model = steppers.table()
        prompts = [[4 + n] for n in range(20)]
        totals = []
        for beams in (1, 8):
            penalty = {"length_penalty": 0.0} if beams > 1 else {}  # one beam has nothing to rank
            asked = [request(p, beams=beams, max_tokens=8, **penalty) for p in prompts]
            totals.append(sum(each[0].log_probability for each in search(steppers, model, asked)))
        assert totals[1] > totals[0] + 1


class TestBatches:
    def test_a_request_gets_the_same_alone_and_beside_others(self, steppers):
        asked = [
            request([5] * n, beams=1 + n, max_tokens=3 + 2 * n, length_penalty=(n or 2) / 2, no_repeat_ngram=n % 3)
            for n in range(6)
        ]
        alone = [search(steppers, steppers.table(), [each])[0] for each in asked]
        assert search(steppers, steppers.table(), asked) == alone

    def test_conditions_stay_with_their_hypotheses(self, steppers):
        asked = [request([], Condition(label=torch.tensor([n])), beams=3, max_tokens=4) for n in (7, 9)]
        best = search(steppers, steppers.table(), asked)
        assert [each[0].tokens for each in best] == [(7,) * 4, (9,) * 4]

    def test_texts_past_the_models_reach_slide(self, steppers):
        for reach in (1, 2, 4, 7):
            model = steppers.table(max_length=reach)
            asked = [request([5] * n, beams=3, max_tokens=20) for n in (0, 2, 9)]
            assert all(len(each) == 2 for each in search(steppers, model, asked, n_best=2))

    def test_one_beam_reads_as_much_of_a_long_prompt_as_greedy_decoding(self, steppers):
        for reach in (2, 7, 12):
            model = steppers.table(max_length=reach)
            model.table[:, :, [steppers.padding, steppers.unknown]] = -torch.inf
            prompt = [4 + n % 20 for n in range(30)]
            asked = [request(prompt, max_tokens=tokens, temperature=0) for tokens in (1, 4, 20)]
            engine = Engine(model, steppers.begin, steppers.end, steppers.letters)
            found = search(steppers, model, asked)
            assert [list(each[0].tokens) for each in found] == [handle.ids for handle in engine.run(asked)]


class TestEndings:
    def test_a_hypothesis_ends_at_a_stop_string(self, steppers):
        table = torch.full((10, 10, 10), -9.0)
        for last in range(10):
            table[:, last, 4 + (last - 3) % 6 if last >= 4 else 4] = 9.0
        best = search(steppers, steppers.Table(table), [request(beams=2, stop=("de",), max_tokens=20)])[0][0]
        assert (best.finish, best.text) == ("stop", "abc")

    def test_end_and_length(self, steppers):
        logits = torch.full((8,), -torch.inf)
        logits[[3, 5]] = torch.tensor([0.9, 0.1]).log()
        asked = [request(beams=4, max_tokens=2, length_penalty=0.0)]
        best = search(steppers, steppers.fixed(logits), asked, n_best=3)[0]
        assert [(each.tokens, each.finish) for each in best] == [((), "end"), ((5,), "end"), ((5, 5), "length")]
        assert best[0].log_probability == pytest.approx(-0.1054, abs=1e-4)

    def test_a_model_that_allows_nothing_ends_the_text(self, steppers):
        logits = torch.full((8,), -torch.inf)
        logits[1] = 0.0
        best = search(steppers, steppers.fixed(logits), [request(beams=3)])[0]
        assert [(each.tokens, each.finish) for each in best] == [((), "end")]

    def test_bytes_end_as_whole_characters(self, steppers):
        token_bytes = [b""] * 4 + [bytes([byte]) for byte in range(256)]
        noise = torch.randn(260, generator=torch.Generator().manual_seed(0))
        noise[4 + 0xE0 :] += 5
        best = beam_search(
            steppers.fixed(noise),
            [request(beams=5, max_tokens=n) for n in range(1, 9)],
            2,
            3,
            lambda ids: b"".join(token_bytes[token] for token in ids).decode("utf-8", "replace"),
            token_bytes,
            n_best=5,
        )
        texts = [each.text for group in best for each in group]
        assert not any("\ufffd" in text for text in texts) and any(max(text, default="") > "\u0800" for text in texts)


class TestRefusals:
    def test_more_texts_than_beams(self, steppers):
        with pytest.raises(UsageError, match="n_best"):
            search(steppers, steppers.table(), [request(beams=2)], n_best=3)

    def test_prompts_outside_the_vocabulary(self, steppers):
        with pytest.raises(UsageError, match="tokeniser"):
            search(steppers, steppers.table(), [request([400], beams=2)])
