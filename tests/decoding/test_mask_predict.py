"""Filling gaps: what each way does reading by reading, what is never touched or written, and that seeds decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmbert.decoding.mask_predict import candidates, fill, gibbs, make_template, mask_predict
from llmbert.decoding.settings import GenerationSettings
from llmbert.models.bert import BERT, BERTSettings
from llmbert.protocols import LLMBertError, UsageError

VOCABULARY, MASK = 24, 4
SPECIAL = (0, 1, 2, 3)


def make(mask_id: int | None = MASK, seed: int = 1) -> BERT:
    torch.manual_seed(seed)
    shape = BERTSettings(layers=2, width=16, heads=2, context=32, mask_id=mask_id)
    model = BERT(shape, VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


class Watched:
    """A model that keeps what it was shown."""

    def __init__(self, model: BERT) -> None:
        self.model, self.seen = model, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode(self, ids: Tensor, *rest: Any, **more: Any) -> Tensor:
        self.seen.append(ids.clone())
        return self.model.encode(ids, *rest, **more)


def gappy(lengths: list[int], seed: int = 0) -> Tensor:
    """Rows of 14 tokens with gaps at the places after the first two, as many as said."""
    ids = torch.randint(5, VOCABULARY, (len(lengths), 14), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = 2
    for row, length in enumerate(lengths):
        ids[row, 2 : 2 + length] = MASK
    return ids


def log_probabilities(model: BERT, ids: Tensor) -> Tensor:
    logits = model.logits(ids)
    logits[..., [*SPECIAL, MASK]] = -torch.inf
    return logits.log_softmax(-1)


WAYS = {
    "mask-predict": lambda model, ids, **more: mask_predict(model, ids, 4, **more),
    "gibbs": lambda model, ids, **more: gibbs(model, ids, 2, **more),
    "gibbs in a random order": lambda model, ids, **more: gibbs(model, ids, 2, order="random", **more),
    "fill": fill,
}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 11), min_size=1, max_size=4), seed=st.integers(0, 50))
def test_gaps_alone_are_filled_and_never_with_what_is_forbidden(way: str, lengths: list[int], seed: int) -> None:
    ids = gappy(lengths, seed)
    before = ids.clone()
    found = WAYS[way](make(), ids, forbidden_ids=SPECIAL)
    assert torch.equal(ids, before)
    kept = ids != MASK
    assert torch.equal(found[kept], ids[kept])
    assert not set(found[~kept].tolist()) & {*SPECIAL, MASK}


def test_mask_predict_masks_the_least_certain_and_decays_linearly() -> None:
    """Written out for one row: Ghazvininejad et al. 2019, §3.2."""
    model, ids, iterations = make(), gappy([9]), 4
    watched = Watched(model)
    found = mask_predict(watched, ids, iterations, forbidden_ids=SPECIAL)
    text, gaps = ids[0].tolist(), [i for i in range(14) if int(ids[0, i]) == MASK]
    certainty: dict[int, float] = {}
    hidden = list(gaps)
    for reading in range(iterations):
        if reading:
            hidden = sorted(gaps, key=lambda i: (certainty[i], i))[: 9 * (iterations - reading) // iterations]
            for i in hidden:
                text[i] = MASK
        assert watched.seen[reading][0].tolist() == text
        with torch.inference_mode():
            best = log_probabilities(model, torch.tensor([text]))[0].max(-1)
        for i in hidden:
            text[i], certainty[i] = int(best.indices[i]), float(best.values[i])
    assert [int((seen == MASK).sum()) for seen in watched.seen] == [9, 6, 4, 2]
    assert found[0].tolist() == text


def test_gibbs_writes_from_left_to_right_and_then_draws_each_token_again() -> None:
    watched, ids = Watched(make()), gappy([3])
    found = gibbs(watched, ids, 2, GenerationSettings(seed=3), forbidden_ids=SPECIAL)
    masked = [[i for i in range(14) if int(seen[0, i]) == MASK] for seen in watched.seen]
    assert masked == [[2, 3, 4], [3, 4], [4], [2], [3], [4]]
    assert found.shape == ids.shape


def test_a_random_order_draws_each_gap_once_a_sweep() -> None:
    watched = Watched(make())
    gibbs(watched, gappy([6]), 3, GenerationSettings(seed=5), order="random", forbidden_ids=SPECIAL)
    later = [i for seen in watched.seen[6:] for i in range(14) if int(seen[0, i]) == MASK]
    sweeps = [later[:6], later[6:]]
    assert all(sorted(sweep) == [2, 3, 4, 5, 6, 7] for sweep in sweeps)
    assert sweeps[0] != sweeps[1]


def test_gibbs_draws_from_the_models_distribution() -> None:
    """One gap in 4000 equal rows: the tokens' shares are their probabilities."""
    model, ids = make(), gappy([1])
    drawn = gibbs(model, ids.expand(4000, -1), 1, forbidden_ids=SPECIAL)[:, 2]
    with torch.inference_mode():
        expected = log_probabilities(model, ids)[0, 2].exp()
    shares = torch.bincount(drawn, minlength=VOCABULARY) / 4000
    assert float((shares - expected).abs().max()) < 4 * 0.5 / 4000**0.5


def test_fill_takes_the_most_certain_gap_first() -> None:
    model, ids = make(), gappy([4])
    watched = Watched(model)
    found = fill(watched, ids, forbidden_ids=SPECIAL)
    text = ids.clone()
    for seen in watched.seen:
        assert torch.equal(seen, text)
        with torch.inference_mode():
            best = log_probabilities(model, text)[0].max(-1)
        at = max((i for i in range(14) if int(text[0, i]) == MASK), key=lambda i: float(best.values[i]))
        text[0, at] = best.indices[at]
    assert len(watched.seen) == 4
    assert torch.equal(found, text)


def test_candidates_are_the_most_probable_tokens() -> None:
    model, ids = make(), gappy([2, 0, 3])
    found = candidates(model, ids, 3, forbidden_ids=SPECIAL)
    assert [len(row) for row in found] == [2, 0, 3]
    with torch.inference_mode():
        best = log_probabilities(model, ids).exp().topk(3)
    for row, gap in ((0, 1), (2, 2)):
        tokens, shares = zip(*found[row][gap], strict=True)
        assert list(tokens) == best.indices[row, 2 + gap].tolist()
        assert shares == pytest.approx(best.values[row, 2 + gap].tolist(), rel=1e-5)
    assert len(candidates(model, ids, 99, forbidden_ids=SPECIAL)[0][0]) == VOCABULARY - 5


@pytest.mark.parametrize("way", WAYS)
def test_a_row_is_filled_as_if_it_were_alone(way: str) -> None:
    """Padding and other rows change nothing; the first row draws from the same stream."""
    model, ids = make(), gappy([5, 11, 2])
    alone = WAYS[way](model, ids[:1], forbidden_ids=SPECIAL)
    padded = torch.nn.functional.pad(ids, (0, 6))
    mask = torch.arange(20) < torch.tensor([[14], [20], [17]])
    found = WAYS[way](model, padded, mask=mask, forbidden_ids=SPECIAL)
    assert torch.equal(found[0, :14], alone[0])


@pytest.mark.parametrize("way", ["mask-predict", "gibbs", "gibbs in a random order"])
def test_a_seed_decides(way: str) -> None:
    def draw(seed: int) -> Tensor:
        sampled = GenerationSettings(temperature=1.5, seed=seed)
        return WAYS[way](make(), gappy([9, 9]), settings=sampled, forbidden_ids=SPECIAL)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert not torch.equal(draw(0)[0, 2:11], draw(0)[1, 2:11])


def test_top_k_of_one_is_greedy_and_settings_are_obeyed() -> None:
    model, ids = make(), gappy([8])
    once = gibbs(model, ids, 1, GenerationSettings(top_k=1), forbidden_ids=SPECIAL)
    assert torch.equal(once, gibbs(model, ids, 1, GenerationSettings(temperature=0), forbidden_ids=SPECIAL))
    apart = gibbs(model, ids, 1, GenerationSettings(temperature=0, no_repeat_ngram=1), forbidden_ids=SPECIAL)
    written = apart[0, :10].tolist()
    assert len(set(written)) == len(written)


def test_a_penalty_counts_what_was_written_and_not_the_prompt() -> None:
    model, ids = make(), gappy([8])
    greedy, once = GenerationSettings(temperature=0), GenerationSettings(temperature=0, presence_penalty=100)
    found = 0
    for token in range(5, VOCABULARY):
        ids[0, 1] = token
        plain, apart = (gibbs(model, ids, 1, settings, forbidden_ids=SPECIAL)[0] for settings in (greedy, once))
        assert apart[2] == plain[2] and len(set(apart[2:10].tolist())) == 8
        found += bool(apart[2] == token)
    assert found  # a token of the prompt may well be written


def test_a_template_stands_between_begin_and_end() -> None:
    assert make_template(3, begin_id=2, end_id=3, mask_id=4, prompt=[7, 8], suffix=[9]).tolist() == [
        [2, 7, 8, 4, 4, 4, 9, 3]
    ]


def test_what_cannot_be_filled_is_said() -> None:
    with pytest.raises(LLMBertError, match="no mask token"):
        mask_predict(make(mask_id=None), gappy([2]))
    with pytest.raises(UsageError, match="no beam search"):
        gibbs(make(), gappy([2]), settings=GenerationSettings(beams=2))
