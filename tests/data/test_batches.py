"""Batches: every token is learned once an epoch, documents never leak, and number n is always the same."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmbert.data.batches import IGNORED, Batch, CarriedStreams, Windows

BEGIN, END = 2, 3


def documents(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Documents whose every token is another number, so that each can be followed."""
    first, parts = 4, []
    for length in lengths:
        parts.append(np.concatenate(([BEGIN], np.arange(first, first + length), [END])))
        first += length
    return np.concatenate(parts).astype(np.uint16), np.concatenate(([0], np.cumsum([len(p) for p in parts])))


def pairs(batch: Batch) -> list[tuple[int, int]]:
    kept = batch.targets != IGNORED
    return list(zip(batch.inputs[kept].tolist(), batch.targets[kept].tolist(), strict=True))


def epoch(batches: Windows | CarriedStreams) -> list[Batch]:
    return list(islice(batches.iterate(), batches.batches_per_epoch))


def test_targets_are_the_next_tokens_and_a_begin_token_is_never_one() -> None:
    ids, _ = documents([5, 30, 11, 60])
    for batch in epoch(Windows(ids, 8, 3, 0, BEGIN)):
        for token, target in pairs(batch):
            assert target != BEGIN
            assert token != END
            assert target == END or token == BEGIN or target == token + 1


def test_segments_part_documents_in_a_row() -> None:
    ids, starts = documents([3, 4, 2, 6, 5, 9])
    owner = np.searchsorted(starts, np.arange(len(ids)), side="right")
    where = {int(token): int(owner[i]) for i, token in enumerate(ids) if token > END}
    for batch in epoch(Windows(ids, 10, 2, 0, BEGIN)):
        assert batch.segments is not None
        for row, segments in zip(batch.inputs.tolist(), batch.segments.tolist(), strict=True):
            named = {(where[token], segment) for token, segment in zip(row, segments, strict=True) if token > END}
            assert len({document for document, _ in named}) == len({segment for _, segment in named}) == len(named)


def test_across_documents_has_no_segments() -> None:
    ids, _ = documents([3, 4, 2, 6, 5, 9])
    assert all(b.segments is None for b in epoch(Windows(ids, 10, 2, 0, BEGIN, across_documents=True)))


def test_an_epoch_of_windows_reads_nearly_everything_once() -> None:
    ids, _ = documents([1000])
    seen = [target for batch in epoch(Windows(ids, 16, 4, 0, BEGIN)) for _, target in pairs(batch)]
    assert len(set(seen)) >= len(ids) - 2 * 16
    assert len(seen) - len(set(seen)) < 4 * 16  # the last batch is filled up


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 60), context=st.integers(2, 7), rows=st.integers(1, 4))
def test_epochs_of_windows_reach_every_target_and_each_window_is_full(length: int, context: int, rows: int) -> None:
    ids, _ = documents([length])
    batches = Windows(ids, context, rows, 0, BEGIN)
    seen = set[int]()
    for batch in islice(batches.iterate(), 120 * batches.batches_per_epoch):
        assert batch.whole or len(ids) <= context
        seen |= {target for _, target in pairs(batch)}
    assert seen == set(ids[1:].tolist())


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=40), context=st.integers(2, 20), rows=st.integers(1, 9)
)
def test_an_epoch_of_streams_reads_everything_exactly_once(lengths: list[int], context: int, rows: int) -> None:
    ids, starts = documents(lengths)
    seen = [pair for batch in epoch(CarriedStreams(ids, starts, context, rows, 0)) for pair in pairs(batch)]
    expected = [
        (int(a), int(b)) for s, e in pairwise(starts) for a, b in zip(ids[s : e - 1], ids[s + 1 : e], strict=True)
    ]
    assert sorted(seen) == sorted(expected)


def test_a_stream_goes_on_where_the_batch_before_ended() -> None:
    ids, starts = documents([400])
    before: Batch | None = None
    for batch in epoch(CarriedStreams(ids, starts, 16, 4, 0)):
        assert len(batch.inputs) == 4
        if before is None:
            assert batch.fresh
        else:
            assert not batch.fresh
            assert torch.equal(batch.inputs[:, 0], before.targets[:, -1]) or IGNORED in before.targets[:, -1]
        before = batch


def test_a_fresh_memory_comes_with_new_documents() -> None:
    ids, starts = documents([7] * 24)
    found = epoch(CarriedStreams(ids, starts, 16, 4, 0))
    assert len(found) == 3
    assert all(batch.fresh and (batch.inputs[:, 0] == BEGIN).all() for batch in found)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(0, 3))
@example([1, 1, 1, 13, 16], 0)  # four streams of two tokens and less are left over, too many to be padded to 13
@settings(max_examples=40, deadline=None)
def test_short_streams_fill_a_step(lengths: list[int], seed: int) -> None:
    """At least `batch` rows and about the tokens of `batch` rows of `context`; only what is left over may be less."""
    rows, context = 3, 16
    ids, starts = documents(lengths)
    found = [batch for batch in epoch(CarriedStreams(ids, starts, context, rows, seed)) if batch.fresh]
    assert sum(len(batch.inputs) < rows for batch in found) <= 1
    more = [batch for batch in found if len(batch.inputs) > rows]
    assert sum(2 * batch.inputs.numel() <= rows * context for batch in more) <= 1
    for batch in found:
        assert batch.inputs.shape[1] <= context
        assert len(batch.inputs) == rows or batch.inputs.numel() <= 1.5 * rows * context


def test_the_windows_of_a_stream_are_of_one_size() -> None:
    ids, starts = documents([34] * 4)  # 35 inputs each
    found = epoch(CarriedStreams(ids, starts, 16, 4, 0))
    assert [batch.inputs.shape for batch in found] == [(4, 12), (4, 12), (4, 11)]


@pytest.mark.parametrize("kind", ["windows", "one stream", "many documents"])
def test_batch_n_is_the_same_however_it_is_reached(kind: str) -> None:
    ids, starts = documents([900] if kind != "many documents" else [13, 40, 22, 9, 31] * 7)

    def make(seed: int) -> Windows | CarriedStreams:
        return Windows(ids, 16, 4, seed, BEGIN) if kind == "windows" else CarriedStreams(ids, starts, 16, 4, seed)

    batches = list(islice(make(0).iterate(), 70))
    for n in (0, 1, 17, 69):
        again = next(make(0).iterate(n))
        assert torch.equal(again.inputs, batches[n].inputs)
        assert torch.equal(again.targets, batches[n].targets)
        assert again.fresh == batches[n].fresh
    if kind != "one stream":
        assert any(
            not torch.equal(a.inputs, b.inputs)
            for a, b in zip(batches, make(1).iterate(), strict=False)
            if a.inputs.shape == b.inputs.shape
        )


def test_splitting_loses_nothing() -> None:
    ids, starts = documents([50])
    batch = next(CarriedStreams(ids, starts, 9, 5, 0).iterate())
    for parts in (1, 2, 3, 5, 8):
        split = batch.split(parts)
        assert torch.cat([part.inputs for part in split]).equal(batch.inputs)
        assert sum(part.count for part in split) == batch.count
