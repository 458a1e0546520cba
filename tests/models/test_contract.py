"""What every family promises: step by step it predicts what it predicts at once, and its state can be handled."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from llmbert.models import FAMILIES
from llmbert.protocols import Condition, LLMBertError, Sampler, Scorer, Stepper, UsageError

VOCABULARY = 40
BEGIN, END = 2, 3
SHAPES: dict[str, list[dict[str, Any]]] = {
    "ngram": [
        {"order": 1},
        {"order": 3},
        {"order": 5},
        {"order": 3, "smoothing": "additive"},
        {"order": 3, "smoothing": "ml"},
    ],
    "rnn": [{"layers": 1, "width": 12}, {"layers": 2, "width": 12, "tied": False}],
    "lstm": [{"layers": 2, "width": 12}, {"layers": 1, "width": 12, "embedding_width": 8}],
    "gru": [{"layers": 2, "width": 12}, {"layers": 1, "width": 10, "tied": False, "initial_range": 0.3}],
    "gpt": [
        {"layers": 2, "width": 16, "heads": 4, "context": 32},
        {"layers": 2, "width": 16, "heads": 4, "key_value_heads": 2, "head_width": 6, "context": 32, "tied": False},
        {"layers": 1, "width": 16, "heads": 4, "key_value_heads": 1, "context": 32, "norm": "layer"},
        {"layers": 2, "width": 16, "heads": 2, "context": 32, "style": "gpt2"},
        {"layers": 1, "width": 16, "heads": 2, "context": 32, "style": "gpt2", "tied": False, "norm": "batch"},
        {"layers": 2, "width": 16, "heads": 4, "context": 32, "qk_norm": False, "rope_scaling": {"factor": 2.0}},
        {"layers": 1, "width": 16, "heads": 2, "context": 32, "qkv_bias": True, "feedforward_bias": True},
    ],
    "mixture": [{"way": "linear"}, {"way": "log-linear"}, {"way": "gate"}],
}
SOURCED: dict[str, list[dict[str, Any]]] = {
    "transformer": [
        {"layers": 2, "width": 16, "heads": 4, "context": 32},
        {"layers": 1, "decoder_layers": 2, "width": 16, "heads": 2, "context": 32, "norm_first": True, "tied": "none"},
        {"layers": 1, "width": 16, "heads": 2, "context": 32, "positions": "learned", "embedding_norm": True},
        {"layers": 1, "width": 16, "heads": 2, "context": 32, "pointer": True},
    ],
    "t5": [
        {"layers": 2, "width": 16, "heads": 4},
        {"layers": 1, "decoder_layers": 2, "width": 16, "heads": 2, "head_width": 6, "style": "v1.0"},
    ],
}
"""Families that write from a source: the same promises, under one."""
LATENT: dict[str, list[dict[str, Any]]] = {
    "vae": [
        {"network": "gru", "width": 12, "latent": 3},
        {"network": "lstm", "layers": 2, "width": 12, "embedding_width": 8, "latent": 3, "tied": False},
        {"network": "transformer", "layers": 2, "width": 16, "heads": 2, "latent": 3, "context": 32},
    ]
}
"""Families that write from a latent variable: the same promises, under one."""
DRAWING: dict[str, list[dict[str, Any]]] = {
    "gan": [
        {"width": 12, "context": 10},
        {"network": "gru", "layers": 2, "width": 12, "tied": True, "discriminator": "recurrent", "context": 10},
    ]
}
"""Families that write whole texts from nothing: steppers and samplers, not scorers."""
ENCODERS: dict[str, list[dict[str, Any]]] = {
    "bert": [
        {"layers": 2, "width": 16, "heads": 2, "context": 32, "mask_id": 39},
        {"layers": 1, "width": 16, "heads": 2, "context": 32, "mask_id": 39, "style": "roberta", "tied": False},
    ]
}
"""Families that see both sides of a token: they score, and do not step."""


def cases(families: dict[str, list[dict[str, Any]]]) -> list[Any]:
    return [
        pytest.param(name, shape, id=f"{name}-{i}")
        for name, shapes in families.items()
        for i, shape in enumerate(shapes)
    ]


SCORERS = cases(SHAPES)
CASES = SCORERS + cases(SOURCED) + cases(LATENT) + cases(DRAWING)


def corpus(documents: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    parts = [
        np.concatenate(([BEGIN], 4 + random.zipf(1.5, random.integers(3, 25)) % (VOCABULARY - 4), [END]))
        for _ in range(documents)
    ]
    return np.concatenate(parts).astype(np.uint16), np.concatenate(([0], np.cumsum([len(p) for p in parts])))


class Sourced:
    """An encoder-decoder that reads the same source in every row, handled as a family without one."""

    def __init__(self, model: Any) -> None:
        self.model, self.likelihood, self.vocabulary_size = model, model.likelihood, model.vocabulary_size
        self.max_length = model.max_length
        mask = torch.tensor([[True] * 7 + [False] * 2])
        with torch.inference_mode():
            self.condition = model.encode(texts(1, 9, seed=2), mask)

    def rows(self, batch: int) -> Condition:
        source, mask = self.condition.source, self.condition.source_mask
        assert source is not None and mask is not None
        ids = self.condition.source_ids
        return Condition(
            source.expand(batch, -1, -1),
            mask.expand(batch, -1),
            source_ids=None if ids is None else ids.expand(batch, -1),
        )

    def logits(self, ids: torch.Tensor, condition: Condition | None = None) -> torch.Tensor:
        return self.model.logits(ids, self.rows(len(ids)))

    def start(self, batch: int, condition: Condition | None = None) -> Any:
        return self.model.start(batch, self.rows(batch))

    def step(self, ids: torch.Tensor, state: Any) -> Any:
        return self.model.step(ids, state)


class Latent:
    """A model with the same latent variable in every row, handled as a family without one."""

    def __init__(self, model: Any) -> None:
        self.model, self.likelihood, self.vocabulary_size = model, model.likelihood, model.vocabulary_size
        self.max_length = model.max_length
        self.latent = model.prior(1, 5).latent

    def rows(self, batch: int) -> Condition:
        return Condition(latent=self.latent.expand(batch, -1))

    def logits(self, ids: torch.Tensor, condition: Condition | None = None) -> torch.Tensor:
        return self.model.logits(ids, self.rows(len(ids)))

    def start(self, batch: int, condition: Condition | None = None) -> Any:
        return self.model.start(batch, self.rows(batch))

    def step(self, ids: torch.Tensor, state: Any) -> Any:
        return self.model.step(ids, state)


def make(name: str, shape: dict[str, Any]) -> Any:
    """A small model of a family with weights that are far from their cautious beginnings."""
    family = FAMILIES[name]
    settings = family.settings_class()(**shape)
    if family.mixes:
        members = [make(each, SHAPES[each][1]) for each in ("ngram", "gpt", "lstm")]
        model = family.model_class()(settings, members).eval()
        for weight in filter(lambda weight: weight is not None, (model.weights, model.gate)):
            torch.nn.init.uniform_(weight, 0.1, 0.5)
        return model
    if family.counts:
        return family.model_class().fit(*corpus(), VOCABULARY, settings)
    torch.manual_seed(1)
    model = family.build(settings, VOCABULARY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return Sourced(model) if name in SOURCED else Latent(model) if name in LATENT else model


def texts(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    ids = torch.randint(4, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = BEGIN
    return ids


def in_steps(model: Any, ids: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    state, parts, at = model.start(len(ids)), [], 0
    for size in sizes:
        logits, state = model.step(ids[:, at : at + size], state)
        parts.append(logits)
        at += size
    assert state.lengths.tolist() == [ids.shape[1]] * len(ids)
    return torch.cat(parts, dim=1)


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_every_family_is_held_to_the_contract() -> None:
    assert set(SHAPES) | set(SOURCED) | set(LATENT) | set(DRAWING) | set(ENCODERS) == set(FAMILIES)


@pytest.mark.parametrize(("name", "shape"), cases(SOURCED))
def test_a_source_is_needed_and_read(name: str, shape: dict[str, Any]) -> None:
    model, ids = make(name, shape).model, texts(2, 5)
    assert isinstance(model, Stepper)
    assert model.likelihood == FAMILIES[name].likelihood == "conditional"
    with pytest.raises(UsageError, match="source"):
        model.logits(ids)
    with torch.inference_mode():
        one, other = (model.logits(ids, model.encode(texts(2, 6, seed=seed))) for seed in (1, 2))
    assert one.shape == (2, 5, VOCABULARY)
    assert one.dtype == torch.float32
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(("name", "shape"), cases(SOURCED))
def test_padding_never_changes_a_logit(name: str, shape: dict[str, Any]) -> None:
    """Batched equals single: sources of unlike lengths, padded on the right, with anything in the padding."""
    model, ids, sources = make(name, shape).model, texts(3, 8), texts(3, 11, seed=5)
    lengths = torch.tensor([11, 4, 7])
    mask = torch.arange(11) < lengths[:, None]
    with torch.inference_mode():
        together = model.logits(ids, model.encode(sources, mask))
        for row, length in enumerate(lengths.tolist()):
            alone = model.logits(ids[row : row + 1], model.encode(sources[row : row + 1, :length]))
            assert_same(together[row : row + 1], alone)


@pytest.mark.parametrize(("name", "shape"), cases(SOURCED))
def test_rows_with_sources_of_their_own_come_and_go(name: str, shape: dict[str, Any]) -> None:
    model, ids = make(name, shape).model, texts(3, 12)
    sources = [texts(1, length, seed=length) for length in (4, 9, 6)]
    with torch.inference_mode():
        whole = [model.logits(ids[i : i + 1], model.encode(source))[0] for i, source in enumerate(sources)]
        states = [model.start(1, model.encode(source)) for source in sources]
        for i, size in enumerate((5, 2, 7)):
            _, states[i] = model.step(ids[i : i + 1, :size], states[i])
        state = states[0].extend(states[1]).extend(states[2]).select(torch.tensor([2, 0, 1, 2]))
        rows, places = [2, 0, 1, 2], torch.tensor([7, 5, 2, 7])
        for _ in range(4):
            logits, state = model.step(ids[rows, places][:, None], state)
            for place, row in enumerate(rows):
                assert_same(logits[place, 0], whole[row][places[place]])
            places = places + 1


@pytest.mark.parametrize(("name", "shape"), cases(ENCODERS))
def test_an_encoder_scores_and_does_not_step(name: str, shape: dict[str, Any]) -> None:
    model = make(name, shape)
    assert isinstance(model, Scorer)
    assert not isinstance(model, Stepper)
    assert model.likelihood == FAMILIES[name].likelihood == "pseudo"
    ids, starts = corpus(6)
    nats = model.token_nats(ids, starts)
    assert (nats[starts[:-1]] == 0).all()
    assert (nats[starts[1:] - 1] == 0).all(), "an end that is given is not scored"
    assert (np.delete(nats, np.concatenate((starts[:-1], starts[1:] - 1))) > 0).all()


@pytest.mark.parametrize(("name", "shape"), cases(DRAWING))
def test_texts_are_drawn_whole(name: str, shape: dict[str, Any]) -> None:
    model = make(name, shape)
    assert isinstance(model, Stepper) and isinstance(model, Sampler)
    assert not isinstance(model, Scorer)
    assert model.likelihood == FAMILIES[name].likelihood == "none"
    drawn = model.sample(30, None, seed=3)
    assert len(drawn) == 30
    assert all(len(text) <= shape["context"] and not set(text.tolist()) & {0, BEGIN, END} for text in drawn)
    assert len({tuple(text) for text in drawn}) > 20
    assert all((a == b).all() for a, b in zip(drawn, model.sample(30, None, seed=3), strict=True))


@pytest.mark.parametrize(("name", "shape"), SCORERS)
def test_it_is_a_stepper_and_a_scorer(name: str, shape: dict[str, Any]) -> None:
    model = make(name, shape)
    assert isinstance(model, Stepper)
    assert isinstance(model, Scorer)
    assert model.likelihood == FAMILIES[name].likelihood
    assert model.scoring_signature
    assert model.logits(texts(2, 5)).shape == (2, 5, VOCABULARY)
    assert model.logits(texts(2, 5)).dtype == torch.float32


@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.parametrize("sizes", [[1] * 20, [7, 1, 1, 11], [20]])
def test_steps_equal_the_whole(name: str, shape: dict[str, Any], sizes: list[int]) -> None:
    model, ids = make(name, shape), texts(3, 20)
    with torch.inference_mode():
        assert_same(in_steps(model, ids, sizes), model.logits(ids))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_no_token_sees_a_later_one(name: str, shape: dict[str, Any]) -> None:
    model, ids = make(name, shape), texts(2, 20)
    other = ids.clone()
    other[:, 12:] = texts(2, 20, seed=9)[:, 12:]
    with torch.inference_mode():
        before, after = model.logits(ids), model.logits(other)
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=0, atol=0)
    if not (name == "ngram" and shape["order"] == 1):
        assert not torch.equal(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_rows_come_and_go(name: str, shape: dict[str, Any]) -> None:
    model, ids = make(name, shape), texts(4, 16)
    with torch.inference_mode():
        whole = model.logits(ids)
        _, state = model.step(ids[:3, :9], model.start(3))
        _, late = model.step(ids[3:, :4], model.start(1))
        state = state.select(torch.tensor([2, 0, 2])).extend(late)  # rows 2, 0, 2 of 9 tokens and 3 of 4
        rows = torch.tensor([2, 0, 2, 3])
        assert state.lengths.tolist() == [9, 9, 9, 4]
        places = torch.tensor([9, 9, 9, 4])
        for _ in range(5):
            logits, state = model.step(ids[rows, places][:, None], state)
            assert_same(logits[:, 0], whole[rows, places])
            places = places + 1


@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.parametrize("back", [0, 1, 5, torch.tensor([3, 0, 2])])
def test_rewinding_forgets_exactly(name: str, shape: dict[str, Any], back: Any) -> None:
    model, ids, other = make(name, shape), texts(3, 16), texts(3, 16, seed=4)
    with torch.inference_mode():
        _, state = model.step(ids[:, :4], model.start(3))
        for t in range(4, 10):
            _, state = model.step(ids[:, t : t + 1], state)
        state = state.rewind(back)
        left = 10 - (back if isinstance(back, torch.Tensor) else torch.full((3,), back))
        assert state.lengths.tolist() == left.tolist()
        logits, state = model.step(other[:, :3], state)
        for row in range(3):
            text = torch.cat((ids[row, : left[row]], other[row, :3]))[None]
            assert_same(logits[row], model.logits(text)[0, -3:])


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_rewinding_too_far_is_refused(name: str, shape: dict[str, Any]) -> None:
    model = make(name, shape)
    with torch.inference_mode():
        _, state = model.step(texts(1, 3), model.start(1))
        with pytest.raises(LLMBertError, match=r"rew[io]u?nd"):
            state.rewind(4)


@pytest.mark.parametrize(("name", "shape"), SCORERS)
def test_scores_are_the_log_softmax_of_logits(name: str, shape: dict[str, Any]) -> None:
    model = make(name, shape)
    ids, starts = corpus(12)
    nats = model.token_nats(ids, starts)
    assert nats.shape == ids.shape
    assert (nats[starts[:-1]] == 0).all()
    for begin, end in pairwise(starts):
        text = torch.from_numpy(ids[begin:end].astype(np.int64))[None]
        with torch.inference_mode():
            expected = -model.logits(text).log_softmax(-1)[0, :-1].gather(1, text[0, 1:, None])[:, 0]
        np.testing.assert_allclose(nats[begin + 1 : end], expected.numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["gpt"])
def test_a_long_text_is_scored_with_a_window_that_slides(name: str) -> None:
    """Every token is scored once, and with at least three quarters of a window before it after the first window."""
    model = make(name, SHAPES[name][0])
    ids = np.concatenate(([BEGIN], 4 + np.arange(200) * 7 % (VOCABULARY - 4), [END])).astype(np.uint16)
    nats = model.token_nats(ids, np.array([0, len(ids)]))
    window, stride = 32, 8
    text = torch.from_numpy(ids.astype(np.int64))[None]
    for target in range(1, len(ids)):
        last = target - 1
        end = window if last < window else min(window + stride * -(-(last + 1 - window) // stride), len(ids) - 1)
        with torch.inference_mode():
            logits = model.logits(text[:, end - window : end])[0, last - (end - window)]
        assert nats[target] == pytest.approx(float(-logits.log_softmax(-1)[ids[target]]), abs=2e-5)


def test_what_a_window_reads_as_context_gets_no_logits() -> None:
    model = make("gpt", SHAPES["gpt"][0])
    ids = np.concatenate(([BEGIN], 4 + np.arange(200) * 7 % (VOCABULARY - 4), [END])).astype(np.uint16)
    rows: list[int] = []
    model.head.register_forward_hook(lambda module, given, logits: rows.append(len(logits)))
    model.token_nats(ids, np.array([0, len(ids)]))
    assert sum(rows) == len(ids) - 1


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_a_state_is_carried_over_a_text_of_any_length(name: str) -> None:
    model = make(name, SHAPES[name][0])
    ids = np.concatenate(([BEGIN], 4 + np.arange(9000) * 7 % (VOCABULARY - 4), [END])).astype(np.uint16)
    nats = model.token_nats(ids, np.array([0, len(ids)]))
    text = torch.from_numpy(ids.astype(np.int64))[None]
    with torch.inference_mode():
        expected = -model.logits(text).log_softmax(-1)[0, :-1].gather(1, text[0, 1:, None])[:, 0]
    np.testing.assert_allclose(nats[1:], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_a_text_beyond_learned_positions_is_refused() -> None:
    model = make("gpt", {"layers": 1, "width": 16, "heads": 2, "context": 8, "style": "gpt2"})
    with pytest.raises(LLMBertError, match="context of 8"):
        model.logits(texts(1, 9))
    with pytest.raises(LLMBertError, match="context of 8"):
        model.step(texts(1, 9), model.start(1))


def test_attention_stops_at_the_end_of_a_document() -> None:
    """Two documents in one row are predicted as if each stood alone."""
    for shape in SHAPES["gpt"][:4]:
        model = make("gpt", shape)
        first, second = texts(1, 9), texts(1, 13, seed=3)
        segments = torch.cat((torch.ones(1, 9), 2 * torch.ones(1, 13)), dim=1).long()
        with torch.inference_mode():
            hidden, _ = model.hidden(torch.cat((first, second), dim=1), segments)
            assert_same(model.head(hidden[:, :9]), model.logits(first))
            assert_same(model.head(hidden[:, 9:]), model.logits(second))
