"""Rows with encoded sources share a batch, and each gets what it would get alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.decoding import Engine, GenerationSettings, Request, beam_search, split_condition, stack_conditions
from llmbert.decoding.stepping import Row, RunningBatch
from llmbert.protocols import Condition, UsageError

BEGIN, END = 2, 3


class Copier:
    """An exact encoder-decoder: step t most wants the source's token t, less and less sure of it; END behind it.

    A source row holds its tokens as numbers, (B, S, 1); what is masked is never looked at.
    """

    vocabulary_size = 20
    max_length = None

    def __init__(self) -> None:
        self.prefills: list[int] = []

    def start(self, batch, condition=None):
        assert condition.source.shape[0] == batch
        mask = condition.source_mask
        mask = torch.ones(condition.source.shape[:2], dtype=torch.bool) if mask is None else mask
        self.prefills.append(batch)
        return CopierState(condition.source[..., 0], mask, torch.zeros(batch, dtype=torch.int64))

    def step(self, ids, state):
        logits = []
        for _ in range(ids.shape[1]):
            row = torch.zeros(len(ids), self.vocabulary_size)
            for b, place in enumerate(state.lengths.tolist()):
                tokens = state.source[b][state.mask[b]]
                wanted = int(tokens[place]) if place < len(tokens) else END
                row[b, wanted] = 5 / (place + 1)
                row[b, 4 + (int(tokens.sum()) + place) % 16] += 4 / (place + 1)
            logits.append(row)
            state.lengths = state.lengths + 1
        return torch.stack(logits, dim=1), state


class CopierState:
    def __init__(self, source, mask, lengths):
        self.source, self.mask, self.lengths = source, mask, lengths

    def select(self, rows):
        return CopierState(self.source[rows], self.mask[rows], self.lengths[rows])

    def extend(self, other):
        room = max(self.mask.shape[1], other.mask.shape[1])
        pad = lambda x: torch.nn.functional.pad(x, (0, room - x.shape[1]))  # noqa: E731
        return CopierState(
            torch.cat((pad(self.source), pad(other.source))),
            torch.cat((pad(self.mask), pad(other.mask))),
            torch.cat((self.lengths, other.lengths)),
        )

    def rewind(self, tokens):
        raise NotImplementedError


def read(tokens: list[int], masked: bool = True) -> Condition:
    source = torch.tensor(tokens, dtype=torch.float32)[None, :, None]
    return Condition(source, torch.ones(1, len(tokens), dtype=torch.bool) if masked else None)


def text(ids) -> str:
    return " ".join(str(int(i)) for i in ids)


sources = st.lists(st.lists(st.integers(4, 19), min_size=1, max_size=9), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(sources, st.booleans())
def test_stacking_and_splitting_undo_each_other(rows, masked):
    conditions = [read(row, masked) for row in rows]
    stacked = stack_conditions(conditions)
    assert stacked is not None
    assert stacked.source.shape == (len(rows), max(map(len, rows)), 1)
    if stacked.source_mask is None:
        assert not masked and len({len(row) for row in rows}) == 1
    else:
        assert stacked.source_mask.sum(1).tolist() == [len(row) for row in rows]
    apart = split_condition(stacked)
    assert [each.source[0, :, 0].tolist() for each in apart] == rows
    assert all(each.source_mask is None or bool(each.source_mask.all()) for each in apart)


def test_latents_and_labels_are_stacked_too():
    rows = [Condition(latent=torch.full((1, 3), float(i)), label=torch.tensor([i])) for i in range(4)]
    stacked = stack_conditions(rows)
    assert stacked.latent[:, 0].tolist() == [0, 1, 2, 3]
    assert stacked.label.tolist() == [0, 1, 2, 3]
    assert [int(each.label) for each in split_condition(stacked)] == [0, 1, 2, 3]
    assert stack_conditions([None, None]) is None


def test_rows_of_one_length_are_prefilled_at_once_and_kinds_apart():
    class Both(Copier):
        def start(self, batch, condition=None):
            condition = condition or stack_conditions([read([9])] * batch)
            return super().start(batch, condition)

    model = Both()
    rows = [Row([], read([5, 6])), Row([], read([7])), Row([4], read([8, 8, 8])), Row([])]
    logits = RunningBatch(model, BEGIN).advance(rows)
    assert sorted(model.prefills) == [1, 1, 2]
    assert logits.shape == (4, 20)


@settings(max_examples=30, deadline=None)
@given(sources, st.integers(1, 3), st.integers(1, 4))
def test_beams_and_rows_of_one_batch_find_what_they_find_alone(rows, beams, batch):
    chosen = GenerationSettings(max_tokens=12, beams=beams, temperature=0)
    requests = [Request([], chosen, read(row)) for row in rows]
    if beams > 1:
        together = [each[0].tokens for each in beam_search(Copier(), requests, BEGIN, END, text)]
        alone = [beam_search(Copier(), [each], BEGIN, END, text)[0][0].tokens for each in requests]
    else:
        engine = Engine(Copier(), BEGIN, END, text, max_batch=batch)
        together = [tuple(handle.ids) for handle in engine.run(requests)]
        alone = [tuple(next(Engine(Copier(), BEGIN, END, text).run([each])).ids) for each in requests]
        assert all(row[0] == found[0] for row, found in zip(rows, together, strict=True))
    assert together == alone


def test_without_a_begin_token_a_prompt_stands_alone(steppers):
    model = steppers.table()
    chosen = GenerationSettings(max_tokens=5, temperature=0)
    with_begin = next(Engine(model, 7, END, text).run([Request([9, 5], chosen)])).ids
    bare = next(Engine(model, None, END, text).run([Request([7, 9, 5], chosen)])).ids
    assert bare == with_begin
    assert beam_search(model, [Request([7, 9, 5], GenerationSettings(max_tokens=5, beams=1))], None, END, text)[0]
    with pytest.raises(UsageError, match="nothing to begin with"):
        next(Engine(model, None, END, text).run([Request([], chosen)]))


def test_several_tokens_may_end_a_text_and_one_of_them_begin_it(steppers):
    logits = torch.full((20,), -9.0)
    logits[8], logits[9] = 1.0, 2.0
    for ends, finish in (((9,), "end"), ((3, 9), "end"), ((3,), "length")):
        handle = next(
            Engine(steppers.fixed(logits), 9, ends, text).run(
                [Request([], GenerationSettings(max_tokens=3, temperature=0))]
            )
        )
        assert handle.finish == finish
        best = beam_search(
            steppers.fixed(logits), [Request([], GenerationSettings(max_tokens=3, beams=2))], 9, ends, text
        )[0][0]
        assert best.finish == finish
        # where it ends nothing, the begin token is never written
        assert set(handle.ids) <= {8} and set(best.tokens) <= {8}
    with pytest.raises(UsageError, match="no end token"):
        Engine(steppers.fixed(logits), 9, (), text)
