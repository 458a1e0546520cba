"""T5 keeps its promises: steps equal the whole, rows come and go, and what is padding is never seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmbert.models.t5 import T5, T5Settings
from llmbert.nn.cache import DecoderState
from llmbert.protocols import Condition, LLMBertError, Stepper, UsageError

VOCABULARY, BEGIN = 40, 2
SHAPES: list[dict[str, Any]] = [
    {"style": "v1.0", "layers": 2, "width": 16, "heads": 4},
    {"style": "v1.1", "layers": 1, "decoder_layers": 3, "width": 16, "heads": 2, "head_width": 6},
    {"layers": 2, "width": 16, "heads": 2, "tied": True, "buckets": 8, "max_distance": 6},
]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=["v1.0", "v1.1", "few-buckets"])


def make(shape: dict[str, Any]) -> T5:
    """A small model with weights that are far from their cautious beginnings."""
    torch.manual_seed(1)
    model = T5(T5Settings(**shape), VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return model


def random_ids(rows: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def sources(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Sources of 13, 1, 7, 9, … tokens, padded, with their mask."""
    lengths = torch.tensor([13, 1, 7, 9] * rows)[:rows]
    mask = torch.arange(13) < lengths[:, None]
    return random_ids(rows, 13, 5).masked_fill(~mask, 0), mask


def targets(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    ids = random_ids(rows, length, seed)
    ids[:, 0] = BEGIN
    return ids


def conditions(model: T5, rows: int = 4) -> Condition:
    return model.encode(*sources(rows))


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_it_is_a_stepper_whose_likelihood_has_a_condition() -> None:
    model = make(SHAPES[0])
    assert isinstance(model, Stepper)
    assert (model.family, model.likelihood, model.max_length) == ("t5", "conditional", None)
    logits = model.logits(targets(4, 5), conditions(model))
    assert logits.shape == (4, 5, VOCABULARY)
    assert logits.dtype == torch.float32


@EVERY_SHAPE
@pytest.mark.parametrize("sizes", [[1] * 20, [7, 1, 1, 11], [20]])
@torch.inference_mode()
def test_steps_equal_the_whole(shape: dict[str, Any], sizes: list[int]) -> None:
    model, ids = make(shape), targets(4, 20)
    condition = conditions(model)
    state, parts, at = model.start(4, condition), [], 0
    assert isinstance(state, DecoderState)
    for size in sizes:
        logits, state = model.step(ids[:, at : at + size], state)
        parts.append(logits)
        at += size
    assert state.lengths.tolist() == [20] * 4
    assert_same(torch.cat(parts, dim=1), model.logits(ids, condition))


@EVERY_SHAPE
@torch.inference_mode()
def test_no_token_sees_a_later_one(shape: dict[str, Any]) -> None:
    model, ids = make(shape), targets(4, 20)
    other = ids.clone()
    other[:, 12:] = random_ids(4, 8, 9)
    before, after = model.logits(ids, conditions(model)), model.logits(other, conditions(model))
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=0, atol=0)
    assert not torch.equal(before[:, 12:], after[:, 12:])


@EVERY_SHAPE
@torch.inference_mode()
def test_every_token_of_the_source_is_seen_in_its_place(shape: dict[str, Any]) -> None:
    model, ids = make(shape), targets(1, 6)
    source = random_ids(1, 9, 2)
    plain = model.logits(ids, model.encode(source))
    for place in range(9):
        other = source.clone()
        other[0, place] = 4 + (source[0, place] - 3) % (VOCABULARY - 4)
        assert not torch.allclose(model.logits(ids, model.encode(other)), plain, atol=1e-4)
    assert not torch.allclose(model.logits(ids, model.encode(source.flip(1))), plain, atol=1e-4)


@EVERY_SHAPE
@torch.inference_mode()
def test_rows_come_and_go(shape: dict[str, Any]) -> None:
    model, ids = make(shape), targets(4, 16)
    source, mask = sources()
    whole = model.logits(ids, model.encode(source, mask))
    _, state = model.step(ids[:3, :9], model.start(3, model.encode(source[:3], mask[:3])))
    _, late = model.step(ids[3:, :4], model.start(1, model.encode(source[3:, :9])))
    state = state.select(torch.tensor([2, 0, 2])).extend(late)  # rows 2, 0, 2 of 9 tokens and 3 of 4
    rows, places = torch.tensor([2, 0, 2, 3]), torch.tensor([9, 9, 9, 4])
    assert state.lengths.tolist() == places.tolist()
    for size in (1, 2, 1, 3):
        block = places[:, None] + torch.arange(size)
        logits, state = model.step(ids[rows[:, None], block], state)
        assert_same(logits, whole[rows[:, None], block])
        places = places + size


@EVERY_SHAPE
@pytest.mark.parametrize("back", [0, 1, 5, torch.tensor([3, 0, 2])])
@torch.inference_mode()
def test_rewinding_forgets_exactly(shape: dict[str, Any], back: Any) -> None:
    model, ids, other = make(shape), targets(3, 16), targets(3, 16, seed=4)
    source, mask = sources(3)
    _, state = model.step(ids[:, :4], model.start(3, model.encode(source, mask)))
    for t in range(4, 10):
        _, state = model.step(ids[:, t : t + 1], state)
    state = state.rewind(back)
    left = 10 - (back if isinstance(back, torch.Tensor) else torch.full((3,), back))
    assert state.lengths.tolist() == left.tolist()
    logits, state = model.step(other[:, :3], state)
    for row in range(3):
        text = torch.cat((ids[row, : left[row]], other[row, :3]))[None]
        alone = model.encode(source[row : row + 1, : int(mask[row].sum())])
        assert_same(logits[row], model.logits(text, alone)[0, -3:])
    with pytest.raises(LLMBertError, match="rewind"):
        state.rewind(30)


@EVERY_SHAPE
@torch.inference_mode()
def test_a_batch_equals_its_rows_alone(shape: dict[str, Any]) -> None:
    model, ids = make(shape), targets(4, 11)
    source, mask = sources()
    together = model.logits(ids, model.encode(source, mask))
    for row in range(4):
        alone = model.encode(source[row : row + 1, : int(mask[row].sum())])
        assert_same(together[row], model.logits(ids[row : row + 1], alone)[0])


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 9), after=st.integers(0, 9), filler=st.integers(0, VOCABULARY - 1))
@torch.inference_mode()
def test_padding_of_the_source_never_changes_a_logit(before: int, after: int, filler: int) -> None:
    """On either side: distances are counted between tokens, not from an edge."""
    model, ids, source = make(SHAPES[0]), targets(2, 6), random_ids(2, 5, 8)
    padded = torch.nn.functional.pad(source, (before, after), value=filler)
    mask = torch.nn.functional.pad(torch.ones(2, 5, dtype=torch.bool), (before, after))
    assert_same(model.logits(ids, model.encode(padded, mask)), model.logits(ids, model.encode(source)))


@torch.inference_mode()
def test_one_source_serves_many_texts() -> None:
    model, ids = make(SHAPES[1]), targets(3, 5)
    source = random_ids(1, 7, 1)
    logits, state = model.step(ids, model.start(3, model.encode(source)))
    assert state.lengths.tolist() == [5, 5, 5]
    assert_same(logits, model.logits(ids, model.encode(source.expand(3, -1))))


@torch.inference_mode()
def test_a_text_may_be_longer_than_any_context() -> None:
    model = make({**SHAPES[0], "context": 8})
    ids, condition = targets(1, 300), model.encode(random_ids(1, 200, 3))
    whole = model.logits(ids, condition)
    _, state = model.step(ids[:, :290], model.start(1, condition))
    logits, _ = model.step(ids[:, 290:], state)
    assert_same(logits, whole[:, 290:])


def test_micro_batches_give_the_gradient_of_the_whole() -> None:
    model, ids = make(SHAPES[1]), targets(4, 9)
    source, mask = sources()

    def gradient(groups: list[slice]) -> list[torch.Tensor]:
        model.zero_grad()
        for rows in groups:
            logits = model.logits(ids[rows, :-1], model.encode(source[rows], mask[rows]))
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[rows, 1:].flatten(), reduction="sum").backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    whole = gradient([slice(0, 4)])
    assert len(whole) == len(list(model.parameters()))
    for first, second in zip(whole, gradient([slice(0, 1), slice(1, 4)]), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_bfloat16_learns_the_same() -> None:
    """Under autocast, where positions stay float32: every weight's gradient points where float32's does."""
    model = make(SHAPES[1])
    ids = targets(4, 9)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.logits(ids, conditions(model)).square().sum().backward()
        gradients.append([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    for first, second in zip(*gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(first, second, dim=0) > 0.97


@pytest.mark.parametrize("style", ["v1.0", "v1.1"])
def test_a_new_model_begins_calmly(style: Any) -> None:
    """Attention's products and the logits are of deviation about 1, so the first loss is near that of a guess."""
    torch.manual_seed(0)
    model = T5(T5Settings(style=style, layers=2, width=128, heads=4), 500)
    ids = torch.randint(4, 500, (8, 32))
    with torch.inference_mode():
        logits = model.logits(ids, model.encode(ids))
    assert 0.7 < float(logits.std()) < 1.5
    queries = model.encoder.blocks[0].attention.qkv.weight[:128].detach()
    assert float(queries.std()) == pytest.approx((128 * 32) ** -0.5, rel=0.05)


def test_dropout_falls_only_in_training() -> None:
    model = make({**SHAPES[0], "dropout": 0.5})
    ids = targets(4, 6)
    assert torch.equal(model.logits(ids, conditions(model)), model.logits(ids, conditions(model)))
    model.train()
    assert not torch.equal(model.logits(ids, conditions(model)), model.logits(ids, conditions(model)))


def test_styles_set_what_is_left_open() -> None:
    first, later = T5Settings(style="v1.0", width=96), T5Settings(style="v1.1", width=96)
    assert (first.gated, first.activation, first.tied, first.scaled, first.inner) == (False, "relu", True, True, 384)
    assert (later.gated, later.activation, later.tied, later.scaled, later.inner) == (
        True, "gelu_tanh", False, False, 256,
    )  # fmt: skip
    assert T5Settings(style="v1.1", tied=True).scaled
    assert T5Settings(layers=3).decoder_layers == 3
    assert T5Settings(**later.model_dump()) == later


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"width": 30, "heads": 4}, "multiple of heads"),
        ({"buckets": 32, "max_distance": 16}, "max_distance 16"),
        ({"buckets": 2}, "buckets"),
        ({"activation": "swish"}, "activation"),
        ({"depth": 3}, "depth"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_settings_that_make_no_model_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        T5Settings(**wrong)


@pytest.mark.parametrize("condition", [None, Condition(), Condition(label=torch.tensor([1]))])
def test_without_a_source_nothing_is_written(condition: Condition | None) -> None:
    model = make(SHAPES[0])
    with pytest.raises(UsageError, match="source"):
        model.start(1, condition)
    with pytest.raises(UsageError, match="source"):
        model.logits(targets(1, 3), condition)


def test_texts_and_sources_must_be_as_many() -> None:
    model = make(SHAPES[0])
    with pytest.raises(LLMBertError, match=r"3 texts.*4 sources"):
        model.start(3, conditions(model))
