"""BERT: it sees both sides, padding and neighbours change nothing, and its pseudo-nats are what masking gives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmbert.models import bert
from llmbert.models.bert import BERT, BERTSettings
from llmbert.nn.state import state_once
from llmbert.protocols import LLMBertError, Scorer

VOCABULARY = 40
BEGIN, END, MASK = 2, 3, 4
SHAPES: list[dict[str, Any]] = [
    {"layers": 2, "width": 16, "heads": 4, "context": 32, "next_sentence": True},
    {"layers": 1, "width": 16, "heads": 2, "context": 32, "tied": False, "inner": 24, "activation": "relu"},
    {"style": "roberta", "layers": 2, "width": 16, "heads": 2, "context": 32, "pooler": True},
    {"style": "roberta", "layers": 1, "width": 16, "heads": 1, "context": 32, "types": 2, "dropout": 0.3},
]
EACH = pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))


def make(shape: dict[str, Any]) -> BERT:
    torch.manual_seed(1)
    model = BERT(BERTSettings(mask_id=MASK, **shape), VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return model


def texts(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    ids = torch.randint(5, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[:, -1] = BEGIN, END
    return ids


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


# ---- states and logits ---------------------------------------------------------------------------------------------


@EACH
def test_hidden_states_and_head_make_the_logits(shape: dict[str, Any]) -> None:
    model, ids = make(shape), texts(3, 9)
    with torch.inference_mode():
        logits = model.logits(ids)
        assert logits.shape == (3, 9, VOCABULARY)
        assert logits.dtype == torch.float32
        assert model.head is not None and model.head.bias is not None
        assert_same(model.head(model.hidden(ids)), logits)
        assert_same(model.head(model.finish(model.encode(ids))), logits)
    assert (model.head.weight is model.embedding.weight) == model.settings.tied


@EACH
def test_every_token_sees_both_sides(shape: dict[str, Any]) -> None:
    model, ids = make(shape), texts(1, 12)
    for changed in (1, 10):
        other = ids.clone()
        other[0, changed] = 5 + (other[0, changed] - 4) % (VOCABULARY - 5)
        with torch.inference_mode():
            moved = (model.logits(ids) - model.logits(other)).abs().amax(-1)[0]
        assert bool((moved > 1e-6).all())


@EACH
@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), extra=st.integers(0, 9), seed=st.integers(0, 99))
def test_padding_and_neighbours_change_no_logit(
    shape: dict[str, Any], lengths: list[int], extra: int, seed: int
) -> None:
    """A batch of padded texts is each text alone; RoBERTa's positions allow padding before a text too."""
    model, time = make(shape), max(lengths) + extra
    alone = [texts(1, length, seed + length) for length in lengths]
    with torch.inference_mode():
        for before in (False, True) if model.settings.style == "roberta" else (False,):
            ids = torch.zeros(len(lengths), time, dtype=torch.int64)
            mask = torch.zeros(len(lengths), time, dtype=torch.bool)
            places = [slice(time - n, time) if before else slice(0, n) for n in lengths]
            for row, (text, place) in enumerate(zip(alone, places, strict=True)):
                ids[row, place], mask[row, place] = text[0], True
            logits = model.logits(ids, mask)
            assert bool(logits.isfinite().all())
            for row, (text, place) in enumerate(zip(alone, places, strict=True)):
                assert_same(logits[row, place], model.logits(text)[0])


@EACH
def test_documents_in_one_row_are_read_as_if_each_stood_alone(shape: dict[str, Any]) -> None:
    model, parts = make(shape), [texts(1, 9), texts(1, 1), texts(1, 13, seed=3)]
    segments = torch.cat([torch.full_like(part, number) for number, part in enumerate(parts, 1)], dim=1)
    row, padding = torch.cat(parts, dim=1), torch.zeros(1, 2, dtype=torch.int64)
    with torch.inference_mode():
        states = model.encode(torch.cat((row, padding), 1), segments=torch.cat((segments, padding), 1))
        assert bool(states.isfinite().all())
        assert_same(states[:, :-2], torch.cat([model.encode(part) for part in parts], dim=1))


@EACH
def test_states_at_some_places_are_those_of_all(shape: dict[str, Any]) -> None:
    model, ids = make(shape), texts(3, 11)
    at = torch.tensor([30, 0, 12, 12])
    with torch.inference_mode():
        assert_same(model.encode(ids, at=at), model.encode(ids).flatten(0, 1)[at])
        assert model.encode(ids, at=at[:0]).shape == (0, 16)


def test_types_tell_segments_apart_and_none_means_the_first() -> None:
    model, ids = make(SHAPES[0]), texts(2, 8)
    with torch.inference_mode():
        assert_same(model.encode(ids), model.encode(ids, types=torch.zeros_like(ids)))
        assert not torch.allclose(model.encode(ids), model.encode(ids, types=torch.ones_like(ids)), atol=1e-3)


def test_pooler_and_next_sentence_head() -> None:
    model, ids = make(SHAPES[0]), texts(4, 8)
    with torch.inference_mode():
        states = model.encode(ids)
        pooled = model.pool(states)
        assert model.pooler is not None and model.next_sentence is not None
        assert_same(pooled, torch.tanh(states[:, 0] @ model.pooler.weight.T + model.pooler.bias))
        assert_same(model.pool(states[:, 0]), pooled)
        assert model.next_logits(pooled).shape == (4, 2)


@EACH
def test_dropout_is_off_in_evaluation_and_on_in_training(shape: dict[str, Any]) -> None:
    model, ids = make(shape), texts(2, 8)
    assert torch.equal(model.logits(ids), model.logits(ids))
    model.train()
    assert torch.equal(model.logits(ids), model.logits(ids)) == (model.settings.dropout == 0)


def test_a_new_model_is_near_uniform_and_holds_each_weight_once() -> None:
    model = BERT(BERTSettings(layers=2, width=32, heads=4, context=16), 200).eval()
    with torch.inference_mode():
        probabilities = model.logits(torch.randint(5, 200, (4, 16))).softmax(-1)
    assert 0.5 / 200 < float(probabilities.min()) < float(probabilities.max()) < 2 / 200
    assert "head.weight" not in state_once(model)


# ---- scoring -------------------------------------------------------------------------------------------------------


def corpus(lengths: list[int], seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    parts = [np.concatenate(([BEGIN], random.integers(5, VOCABULARY, length), [END])) for length in lengths]
    return np.concatenate(parts).astype(np.uint16), np.concatenate(([0], np.cumsum([len(p) for p in parts])))


def brute_nats(model: BERT, text: np.ndarray, target: int, hidden: list[int]) -> float:
    """-log p of text[target] where `hidden` are masked, read alone."""
    ids = torch.from_numpy(text.astype(np.int64))[None]
    shown = ids.clone()
    shown[0, hidden] = MASK
    with torch.inference_mode():
        return float(-model.logits(shown)[0, target].log_softmax(-1)[ids[0, target]])


@EACH
@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6), tokens=st.sampled_from([8192, 70]))
def test_each_token_is_scored_with_itself_masked_alone(shape: dict[str, Any], lengths: list[int], tokens: int) -> None:
    model, (ids, starts) = make(shape), corpus(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bert, "TOKENS_A_BATCH", tokens)
        nats = model.token_nats(ids, starts)
    assert nats.shape == ids.shape
    for begin, end in pairwise(starts):
        assert nats[begin] == nats[end - 1] == 0
        for place in range(1, end - begin - 1):
            assert nats[begin + place] == pytest.approx(brute_nats(model, ids[begin:end], place, [place]), abs=1e-4)


@pytest.mark.parametrize("passes", [1, 3, 7])
def test_fewer_passes_mask_every_so_many_tokens_at_once(passes: int) -> None:
    model, (ids, starts) = make(SHAPES[0]), corpus([30, 2, 11])
    model.scoring_passes = passes
    nats = model.token_nats(ids, starts)
    for begin, end in pairwise(starts):
        for place in range(1, end - begin - 1):
            hidden = list(range(1 + (place - 1) % passes, end - begin - 1, passes))
            assert nats[begin + place] == pytest.approx(brute_nats(model, ids[begin:end], place, hidden), abs=1e-4)


@settings(max_examples=12, deadline=None)
@given(length=st.integers(31, 140), context=st.integers(4, 32))
def test_a_long_text_is_read_in_windows_that_leave_a_quarter_on_either_side(length: int, context: int) -> None:
    """Each token is scored once, in a window between begin and end tokens, as if that were the whole text."""
    model = make({**SHAPES[0], "context": context})
    ids, starts = corpus([length])
    nats, room = model.token_nats(ids, starts), context - 2
    assert (nats[1:-1] > 0).all()
    for place in (1, 2, room, length // 2, length // 2 + 1, length - 1, length):
        found = []
        for first in range(max(1, place - room + 1), min(place, length - room + 1) + 1):
            before, behind = place - first, first + room - 1 - place
            if (before >= room // 4 or first == 1) and (behind >= room // 4 - 1 or first + room - 1 == length):
                window = np.concatenate(([BEGIN], ids[first : first + room], [END]))
                found.append(brute_nats(model, window, before + 1, [before + 1]))
        assert min(abs(nats[place] - value) for value in found) < 1e-4


def test_as_many_passes_as_tokens_are_one_token_at_a_time() -> None:
    model, (ids, starts) = make(SHAPES[2]), corpus([70, 9])
    each = model.token_nats(ids, starts)
    assert model.scoring_signature == "masked-32-each"
    model.scoring_passes = 30
    np.testing.assert_allclose(model.token_nats(ids, starts), each, atol=1e-5)
    assert model.scoring_signature == "masked-32-30-passes"


def test_scoring_leaves_the_model_in_its_mode_and_tells_how_far_it_is() -> None:
    model, (ids, starts) = make(SHAPES[3]), corpus([8, 5])
    model.train()
    told: list[tuple[float, float | None]] = []
    nats = model.token_nats(ids, starts, lambda stage, done, total=None, **figures: told.append((done, total)))
    assert model.training
    assert told[-1] == (13, 13)
    np.testing.assert_array_equal(nats, model.token_nats(ids, starts))
    assert isinstance(model, Scorer)
    assert model.likelihood == "pseudo"


def test_documents_without_tokens_score_nothing() -> None:
    ids, starts = corpus([0, 0])
    assert not make(SHAPES[0]).token_nats(ids, starts).any()


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_what_a_model_lacks_is_said() -> None:
    bare = BERT(BERTSettings(layers=1, width=16, heads=2, context=8, masked=False), VOCABULARY)
    ids, states = texts(1, 5), torch.zeros(1, 5, 16)
    for use, said in (
        (lambda: bare.logits(ids), "no masked-LM head"),
        (lambda: bare.pool(states), "no pooler"),
        (lambda: bare.next_logits(states[:, 0]), "no next-sentence head"),
        (lambda: bare.token_nats(*corpus([3])), "no mask token"),
        (lambda: bare.encode(texts(1, 9)), "9 tokens do not fit this model's context of 8"),
        (lambda: bare.encode(ids, types=torch.full_like(ids, 2)), "type 2 is none of this model's 2"),
        (lambda: BERT(BERTSettings(mask_id=VOCABULARY), VOCABULARY), "mask_id 40 is outside"),
    ):
        with pytest.raises(LLMBertError, match=said):
            use()


def test_a_row_longer_than_the_context_may_hold_short_documents() -> None:
    model = make({**SHAPES[0], "context": 8})
    segments = torch.tensor([[1] * 7 + [2] * 8])
    with torch.inference_mode():
        assert model.encode(texts(1, 15), segments=segments).shape == (1, 15, 16)
        with pytest.raises(LLMBertError, match="context of 8"):
            model.encode(texts(1, 15), segments=torch.tensor([[1] * 6 + [2] * 9]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 30, "heads": 4}, "not a multiple"),
        ({"style": "roberta", "next_sentence": True}, "no next-sentence head"),
        ({"types": 0}, "greater than or equal to 1"),
        ({"context": 3}, "greater than or equal to 4"),
        ({"norm_epsilon": float("nan")}, "finite"),
        ({"depth": 3}, "not permitted"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BERTSettings(**wrong)


def test_settings_survive_being_written_down() -> None:
    for shape in SHAPES:
        assert BERTSettings(**BERTSettings(**shape).model_dump()) == BERTSettings(**shape)
