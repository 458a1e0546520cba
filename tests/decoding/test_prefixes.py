"""What prompts have in common is taken in once, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmbert.decoding import Engine, GenerationSettings, Request
from llmbert.decoding.stepping import Prefixes
from llmbert.models import find_family

BEGIN, END, SIZE = 2, 3, 12


class Counting:
    """A model whose taken-in tokens are counted."""

    def __init__(self, model: Any) -> None:
        self.model, self.tokens = model, 0
        self.vocabulary_size, self.max_length = model.vocabulary_size, model.max_length

    def start(self, batch: int, condition: Any = None) -> Any:
        return self.model.start(batch, condition)

    def step(self, ids: Tensor, state: Any) -> Any:
        self.tokens += ids.numel()
        return self.model.step(ids, state)


def model_of(family: str) -> Counting:
    torch.manual_seed(1)
    known = find_family(family)
    shape = {"layers": 2, "width": 16, "context": 48} | ({"heads": 2} if family == "gpt" else {})
    model = known.build(known.settings_class()(**shape), SIZE).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return Counting(model)


def request(prompt: list[int], seed: int = 0, temperature: float = 0.0, tokens: int = 6) -> Request:
    return Request(prompt, GenerationSettings(max_tokens=tokens, temperature=temperature, seed=seed))


def engine(model: Any, prefixes: int = 0) -> Engine:
    return Engine(model, BEGIN, END, str, padding_id=0, unknown_id=1, prefixes=prefixes, max_batch=4)


def written(model: Any, requests: list[Request], prefixes: int = 0) -> list[list[int]]:
    return [handle.ids for handle in engine(model, prefixes).run(requests)]


SYSTEM = [5, 9, 4, 7, 7, 10, 11, 4, 6, 8, 5, 5]


@pytest.mark.parametrize("family", ["gpt", "lstm"])
@settings(max_examples=15, deadline=None)
@given(
    tails=st.lists(st.lists(st.integers(4, 11), max_size=30), min_size=1, max_size=7),
    shared=st.integers(0, len(SYSTEM)),
    prefixes=st.integers(0, 3),
    temperature=st.sampled_from([0.0, 0.8]),
)
def test_texts_are_the_same_with_prefixes_and_without(
    family: str, tails: list[list[int]], shared: int, prefixes: int, temperature: float
) -> None:
    model = model_of(family)
    prompts = [SYSTEM[:shared] + tail for tail in tails] + [SYSTEM, SYSTEM]
    requests = [request(prompt, seed, temperature) for seed, prompt in enumerate(prompts)]
    alone = [written(model, [each])[0] for each in requests]
    assert written(model, requests, prefixes) == alone


def test_equal_prompts_that_come_together_are_taken_in_once() -> None:
    model = model_of("gpt")
    found = written(model, [request(SYSTEM, seed, 0.9, tokens=1) for seed in range(4)])
    assert model.tokens == len(SYSTEM) + 1, "the begin token and the prompt, once for all four"
    assert len({tuple(ids) for ids in found}) > 1, "and each draws its own"


def test_a_conversation_takes_in_what_is_new_alone() -> None:
    model = model_of("gpt")
    writer = engine(model, prefixes=2)
    history = list(SYSTEM)
    for turn in range(3):
        before = model.tokens
        answer = next(writer.run([request(history, tokens=3)])).ids
        new = model.tokens - before
        history += [*answer, 6, 9, 4 + turn, 8]
        if turn:
            assert new == 3 + 4 + 2, "the answer before, what was said behind it, and all but the last token written"
    assert writer.saved_tokens > 2 * len(SYSTEM)


def test_what_was_used_longest_ago_is_forgotten() -> None:
    model = model_of("gpt").model
    known = Prefixes(2)
    texts = [tuple([BEGIN, token] * 6) for token in (5, 6, 7)]
    states = []
    for text in texts:
        with torch.inference_mode():
            _, state = model.step(torch.tensor([text]), model.start(1))
        states.append(state)
    known.keep(texts[0], states[0])
    known.keep(texts[1], states[1])
    assert known.find((*texts[0], 9))[1] == len(texts[0]), "used, so it stays"
    known.keep(texts[2], states[2])
    assert known.find((*texts[0], 9))[1] == len(texts[0])
    assert known.find((*texts[1], 9)) == (None, 0)
    assert known.saved == 2 * len(texts[0])
    assert known.find(texts[2])[1] == len(texts[2]) - 1, "a token is left to be taken in"


def test_a_recurrent_state_that_cannot_go_back_so_far_is_not_used() -> None:
    model = model_of("lstm")
    long = [4 + i % 8 for i in range(200)]
    writer = engine(model, prefixes=1)
    next(writer.run([request(long, tokens=1)]))
    before = model.tokens
    next(writer.run([request(long[:20], tokens=1)]))
    assert model.tokens - before == 21, "taken in anew"
