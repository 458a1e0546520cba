"""A watermark: which tokens are green, what becomes of a distribution, and that texts under way never notice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_speculative import PROMPTS, Fixed, Markov

from llmbert.decoding import (
    Context,
    Engine,
    GenerationSettings,
    GreenLists,
    LookupDraft,
    Request,
    Watermark,
    beam_search,
)
from llmbert.models import find_family
from llmbert.protocols import UsageError

KEY = bytes(range(7, 39))
LISTS = GreenLists(KEY)


def contexts(count: int, width: int, size: int = 5000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, (count, width))


class TestGreenLists:
    @pytest.mark.parametrize("width", [1, 2, 4])
    def test_the_writers_lists_are_the_detectors(self, width: int) -> None:
        lists, rows = GreenLists(KEY, 0.3, width), contexts(50, width)
        whole = lists.rows(rows, 500)
        for token in (0, 3, 499):
            assert (lists.greens(rows, np.full(50, token)) == whole[:, token]).all()

    def test_they_stay_what_they_are(self) -> None:
        """A text marked today is to be found by every later version."""
        assert np.flatnonzero(LISTS.rows(np.array([[5]]), 40)[0]).tolist() == GOLDEN_1
        assert np.flatnonzero(GreenLists(KEY, 0.5, 2).rows(np.array([[7, 5]]), 24)[0]).tolist() == GOLDEN_2

    @pytest.mark.parametrize("gamma", [0.1, 0.25, 0.5, 0.9])
    def test_a_share_of_gamma_is_green_over_tokens_and_over_contexts(self, gamma: float) -> None:
        table = GreenLists(KEY, gamma).rows(np.arange(1000)[:, None], 1000)
        near = 5 * math.sqrt(gamma * (1 - gamma) / 1000)  # five standard deviations of one row or column
        assert abs(table.mean() - gamma) < near / math.sqrt(1000)
        assert np.abs(table.mean(0) - gamma).max() < near and np.abs(table.mean(1) - gamma).max() < near

    def test_two_lists_share_what_chance_shares(self) -> None:
        table = LISTS.rows(np.arange(400)[:, None], 2000).astype(float)
        both = (table @ table.T / 2000)[np.triu_indices(400, 1)]
        assert abs(both.mean() - 1 / 16) < 1e-3 and both.std() < 1.1 * math.sqrt(1 / 16 * 15 / 16 / 2000)

    def test_keys_widths_and_order_matter(self) -> None:
        row = np.array([[1, 2]])
        one = GreenLists(KEY, 0.5, 2).rows(row, 2000)
        others = [GreenLists(KEY[::-1], 0.5, 2).rows(row, 2000), GreenLists(KEY, 0.5, 2).rows(row[:, ::-1], 2000)]
        others.append(GreenLists(KEY, 0.5, 1).rows(row[:, 1:], 2000))
        assert all(0.4 < (one == other).mean() < 0.6 for other in others)

    @pytest.mark.parametrize(
        ("asked", "word"),
        [((b"short",), "16 bytes"), ((KEY, 0.0), "gamma"), ((KEY, 1.0), "gamma"), ((KEY, 0.25, 0), "width")],
    )
    def test_what_cannot_be_is_refused_without_the_key(self, asked: Any, word: str) -> None:
        with pytest.raises(UsageError, match=word) as refusal:
            GreenLists(*asked)
        assert "short" not in str(refusal.value)


GOLDEN_1 = [1, 5, 9, 11, 14, 18, 22, 28, 29, 30, 31, 35, 36]
GOLDEN_2 = [1, 2, 4, 5, 6, 10, 11, 12, 13, 14, 16, 18, 20, 21, 22]

rows = st.lists(st.sampled_from([-torch.inf, -30.0, -3.0, 0.0, 0.5, 2.0, 40.0]), min_size=6, max_size=40)


class TestTheProcessor:
    @given(row=rows, strength=st.sampled_from([0.1, 2.0, 10.0]), last=st.integers(0, 30))
    def test_green_tokens_gain_and_special_ones_stay(self, row: list[float], strength: float, last: int) -> None:
        """p'(t) = p(t) for special tokens; the others' p(t) e^(delta green), scaled to what they had together."""
        logits, special = torch.tensor([row]), [0, 3]
        marked = Watermark(LISTS, strength, special)(logits, Context([[9, last]]))
        assert torch.equal(marked.isinf(), logits.isinf())
        if not bool((logits > -torch.inf).any()):
            return
        before = logits[0].double().softmax(0)
        factors = torch.tensor([math.exp(strength * green) for green in LISTS.rows(np.array([[last]]), len(row))[0]])
        expected = before * factors.double()
        expected[special] = 0
        text = 1 - float(before[special].sum())
        if float(expected.sum()) > 0:
            expected *= text / expected.sum()
        expected[special] = before[special]
        assert torch.allclose(marked[0].double().softmax(0), expected, atol=1e-5)
        whole = Watermark(LISTS, strength, special)(logits.log_softmax(-1), Context([[9, last]]))
        assert float(whole.exp().sum()) == pytest.approx(1.0, abs=1e-3), "a beam adds log-probabilities, and no others"

    def test_the_input_is_never_written_to_and_a_text_without_context_stays(self) -> None:
        logits = torch.randn(3, 50)
        before = logits.clone()
        marked = Watermark(GreenLists(KEY, 0.25, 2), 2.0)(logits, Context([[1], [], [1, 2]]))
        assert torch.equal(logits, before) and torch.equal(marked[:2], logits[:2])
        assert not torch.equal(marked[2], logits[2])

    def test_what_is_forgotten_is_the_same_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = Context([[token] for token in range(40)])
        logits = torch.randn(40, 64)
        whole = Watermark(LISTS, 2.0)(logits, texts)
        monkeypatch.setattr("llmbert.decoding.watermark._REMEMBERED", 64 * 41)
        mark = Watermark(LISTS, 2.0)
        mark(logits, Context([[token] for token in range(100, 140)]))
        assert torch.equal(mark(logits, texts), whole)

    @pytest.mark.parametrize("strength", [0, -1, math.nan, 101, True])
    def test_a_strength_that_is_none(self, strength: Any) -> None:
        with pytest.raises(UsageError, match="strength"):
            Watermark(LISTS, strength)


def request(prompt: list[int], **chosen: Any) -> Request:
    return Request(prompt, GenerationSettings(**{"max_tokens": 40, **chosen}))


def engine(model: Any, mark: Any = None, **options: Any) -> Engine:
    return Engine(model, 2, 3, str, padding_id=0, unknown_id=1, watermark=mark, **options)


def share_of_green(ids: list[int]) -> float:
    text = np.array(ids)
    return float(LISTS.greens(text[:-1, None], text[1:]).mean())


class TestInTheEngine:
    def test_a_text_is_the_same_in_any_company_and_again(self, steppers: Any) -> None:
        requests = [request([4 + at], seed=at) for at in range(9)]
        alone = [next(engine(steppers.table(), Watermark(LISTS)).run([each])).ids for each in requests]
        assert [h.ids for h in engine(steppers.table(), Watermark(LISTS), max_batch=4).run(requests)] == alone
        plain = [h.ids for h in engine(steppers.table(), max_batch=4).run(requests)]
        assert plain != alone

    @pytest.mark.parametrize("guess", [[], [5], [6, 7, 8, 9], [10, 4, 5]])
    def test_a_draft_changes_no_greedy_text(self, guess: list[int]) -> None:
        requests = [request(prompt, temperature=0.0) for prompt in PROMPTS]
        mark = Watermark(GreenLists(KEY, 0.25, 2), 3.0)
        plain = [h.ids for h in engine(Markov(), mark).run(requests)]
        assert [h.ids for h in engine(Markov(), mark, draft=Fixed(guess)).run(requests)] == plain
        assert plain != [h.ids for h in engine(Markov()).run(requests)]

    def test_a_draft_draws_from_the_same_distribution(self) -> None:
        requests = [request([5, 6], max_tokens=3, seed=seed) for seed in range(1500)]
        seen = []
        for draft in (None, Fixed([7, 8])):
            marked = engine(Markov(), Watermark(LISTS, 2.0), draft=draft, max_batch=64).run(requests)
            thirds = [(*h.ids, 3, 3)[1] for h in marked]
            seen.append(np.bincount(thirds, minlength=12))
        total = seen[0] + seen[1]
        statistic = ((seen[0] - seen[1])[total > 0] ** 2 / total[total > 0]).sum()
        assert statistic < 35  # chi-square of 11 degrees: beyond it once in four thousand

    def test_a_real_family_with_a_draft(self) -> None:
        torch.manual_seed(0)
        family = find_family("gpt")
        model = family.build(family.settings_class()(layers=1, width=16, heads=2, context=64), 64).eval()
        requests = [request([4, 5, 6, 4, 5, 6], temperature=0.0), request([9, 8, 9, 8], temperature=0.0)]
        mark = Watermark(LISTS, 1.0)
        plain = [h.ids for h in engine(model, mark).run(requests)]
        assert [h.ids for h in engine(model, mark, draft=LookupDraft()).run(requests)] == plain

    @pytest.mark.parametrize("beams", [1, 4])
    def test_searched_texts_are_marked_too(self, beams: int) -> None:
        model, asked = Markov(40, end=-9.0), [request([5], beams=beams, temperature=0.0, max_tokens=60)]
        ends = {"begin_id": 2, "end_id": 3, "decode": str}
        plain = beam_search(model, asked, **ends)[0][0].tokens  # type: ignore[arg-type]
        marked = beam_search(model, asked, **ends, watermark=Watermark(LISTS, 4.0))[0][0].tokens  # type: ignore[arg-type]
        assert share_of_green([*marked]) > share_of_green([*plain]) + 0.2

    def test_looking_at_the_next_token_does_not_give_the_lists_away(self, steppers: Any) -> None:
        asked = request([5, 6], temperature=1.0)
        shown = engine(steppers.table(), Watermark(LISTS)).peek(asked)
        plain = engine(steppers.table()).peek(asked)
        assert all(torch.equal(one, other) for one, other in zip(shown, plain, strict=True))

    def test_log_probabilities_are_the_models_own(self, steppers: Any) -> None:
        asked = request([5, 6], logprobs=3, max_tokens=5)
        handle = next(engine(steppers.table(), Watermark(LISTS, 50.0)).run([asked]))
        logits = steppers.table().logits(torch.tensor([[2, 5, 6, *handle.ids]]))[0].log_softmax(-1)
        for place, token in enumerate(handle.tokens):
            assert token.log_probability == pytest.approx(float(logits[2 + place, token.id]), abs=1e-5)
