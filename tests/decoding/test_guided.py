"""Text kept to a JSON Schema: whatever the model would rather write, it can be read, and drafts change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.decoding import Context, Engine, GenerationSettings, Guide, Request, WrittenPenalty, beam_search
from llmbert.decoding.drafts import Proposal
from llmbert.protocols import UsageError

pytest.importorskip("llguidance")

BEGIN, END = 2, 3
PIECES = [b"", b"", b"", b"", *(bytes([byte]) for byte in range(256)), b'{"', b'": ', b"true", b"12", "ü€".encode()]
"""Bytes, and some longer pieces that cross the parts of JSON."""


def decode(ids: Any) -> str:
    return b"".join(PIECES[i] for i in ids).decode("utf-8", "replace")


def guide() -> Guide:
    return Guide(PIECES, END, lambda text: [4 + byte for byte in text.encode()])


class Likes:
    """A model that likes the same tokens at every place, whatever came before."""

    def __init__(self, seed: int) -> None:
        self.vocabulary_size, self.max_length = len(PIECES), None
        self.taste = torch.randn(self.vocabulary_size, generator=torch.Generator().manual_seed(seed)) * 4

    def start(self, batch: int, condition: Any = None) -> Any:
        return Rows(torch.zeros(batch, dtype=torch.int64))

    def step(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        moved = Rows(state.lengths + ids.shape[1])
        drift = torch.sin((state.lengths[:, None] + torch.arange(ids.shape[1]))[..., None] + self.taste)
        return self.taste + 3 * drift, moved


class Rows:
    def __init__(self, lengths: torch.Tensor) -> None:
        self.lengths = lengths

    def select(self, rows: torch.Tensor) -> Rows:
        return Rows(self.lengths[rows])

    def extend(self, other: Rows) -> Rows:
        return Rows(torch.cat((self.lengths, other.lengths)))

    def rewind(self, tokens: Any) -> Rows:
        return Rows(self.lengths - tokens)


class Wild:
    """A draft that guesses anything."""

    def propose(self, tokens: Any, count: int, generator: Any) -> Proposal:
        return Proposal([4 + (sum(tokens) * 7 + i * 31) % (len(PIECES) - 4) for i in range(count)])


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "count": {"type": "integer", "minimum": 0, "maximum": 999},
        "kind": {"enum": ["a", "b"]},
        "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "count", "kind", "flags"],
    "additionalProperties": False,
}


def written(model: Any, draft: Any = None, rows: int = 1, **chosen: Any) -> list[str]:
    engine = Engine(model, BEGIN, END, decode, PIECES, padding_id=0, unknown_id=1, draft=draft)
    found = guide()
    requests = [
        Request([4 + 65], GenerationSettings(**{"max_tokens": 300, "seed": i, **chosen}), None, found.json(SCHEMA))
        for i in range(rows)
    ]
    return [handle.text for handle in engine.run(requests)]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([0.0, 0.7, 1.5]))
def test_what_is_written_is_what_the_schema_describes(seed: int, temperature: float) -> None:
    for text in written(Likes(seed), rows=3, temperature=temperature):
        found = json.loads(text)
        assert set(found) == set(SCHEMA["properties"])
        assert len(found["name"]) <= 5 and 0 <= found["count"] <= 999 and found["kind"] in "ab"
        assert len(found["flags"]) <= 3 and all(isinstance(flag, bool) for flag in found["flags"])


@pytest.mark.parametrize("seed", range(5))
def test_wrong_guesses_are_taken_back(seed: int) -> None:
    model = Likes(seed)
    assert written(model, Wild(), temperature=0.0) == written(model, temperature=0.0)


def test_a_text_beside_it_is_free() -> None:
    engine = Engine(Likes(1), BEGIN, END, decode, PIECES, padding_id=0, unknown_id=1)
    free = Request([70], GenerationSettings(max_tokens=30, temperature=0.0))
    alone = next(engine.run([free])).text
    kept = Request([70], GenerationSettings(max_tokens=300, temperature=0.0), None, guide().json(SCHEMA))
    beside, other = (handle.text for handle in engine.run([free, kept]))
    assert beside == alone
    assert isinstance(json.loads(other), dict)


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"type": "string", "pattern": "("}, {"$ref": "#/nowhere"}])
def test_a_schema_that_cannot_be_followed(schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="schema cannot be followed"):
        guide().json(schema)


def test_not_in_a_beam_search() -> None:
    asked = Request([70], GenerationSettings(beams=2, max_tokens=5), None, guide().json())
    with pytest.raises(UsageError, match="leave out beams"):
        beam_search(Likes(0), [asked], begin_id=BEGIN, end_id=END, decode=decode)


def test_penalties_count_what_was_written_and_not_the_prompt() -> None:
    logits = torch.zeros(2, 6)
    context = Context([[5, 5, 1, 1, 2], [0, 3]], begun=[2, 2])
    found = WrittenPenalty(0.5, 0.25)(logits, context)
    assert found.tolist() == [[0, -1.25, -0.75, 0, 0, 0], [0] * 6]
    assert not logits.any()


def test_penalties_make_a_text_move_on() -> None:
    engine = Engine(Likes(3), BEGIN, END, decode, padding_id=0, unknown_id=1)
    plain, moved = (
        next(engine.run([Request([70], GenerationSettings(max_tokens=40, temperature=0.0, **chosen))])).ids
        for chosen in ({}, {"frequency_penalty": 2.0, "presence_penalty": 2.0})
    )
    assert len(set(moved)) > len(set(plain))


def test_peeking_changes_no_text_under_way() -> None:
    model = Likes(2)
    engine = Engine(model, BEGIN, END, decode, padding_id=0, unknown_id=1)
    asked = Request([70, 71], GenerationSettings(max_tokens=20, temperature=0.0))
    alone = next(engine.run([asked])).ids
    handle = engine.add(asked)
    for _ in range(3):
        engine.step()
        logits, processed = engine.peek(Request([70, 71], GenerationSettings(top_k=2)))
        assert logits.shape == processed.shape == (1, len(PIECES))
        assert int((processed > -torch.inf).sum()) == 2
        assert engine.active == 1
    while handle.finish is None:
        engine.step()
    assert handle.ids == alone
