"""Denoising: what is lost can be put back, in the measure that was asked for, and batch n is always the same."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data.batches import IGNORED
from llmbert.data.denoising import (
    SENTINELS,
    Denoising,
    Noise,
    corrupt_spans,
    delete_tokens,
    deletion_noise,
    find_sentinels,
    infill_spans,
    infilling_noise,
    noise_spans,
    restore,
    span_noise,
)
from llmbert.data.pairs.batches import PairBatch
from llmbert.data.shards import ShardWriter
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.tokenisers import train_tokeniser

PADDING, BEGIN, END = 0, 2, 3
MARKS = np.arange(900, 1000)
MASK = 899
tokens = st.lists(st.integers(4, 800), max_size=300).map(np.array)
densities = st.floats(0.01, 0.99)
lengths_of_spans = st.floats(1, 20)
seeds = st.integers(0, 1 << 30)


# ---- spans ---------------------------------------------------------------------------------------------------------


@given(tokens, densities, lengths_of_spans, st.integers(1, 100), seeds, st.booleans())
def test_what_is_lost_is_put_back(ids: Any, density: float, mean: float, marks: int, seed: int, free: bool) -> None:
    sources, targets = corrupt_spans(ids, density, mean, MARKS[:marks], np.random.default_rng(seed), free)
    assert restore(sources, targets, MARKS).tolist() == ids.tolist()


@given(tokens, densities, lengths_of_spans, st.integers(1, 100), seeds, st.booleans())
def test_sentinels_come_once_each_and_in_order(
    ids: Any, density: float, mean: float, marks: int, seed: int, free: bool
) -> None:
    """The same ones in source and target, and two never stand side by side."""
    source, target = corrupt_spans(ids, density, mean, MARKS[:marks], np.random.default_rng(seed), free)
    if len(ids) < 2:
        assert (source.tolist(), target.tolist()) == (ids.tolist(), [])
        return
    there, here = np.flatnonzero(source >= MARKS[0]), np.flatnonzero(target >= MARKS[0])
    assert 1 <= len(there) <= marks
    assert source[there].tolist() == target[here].tolist() == MARKS[: len(there)].tolist()
    assert here[0] == 0
    assert (np.diff(there) > 1).all()
    assert (np.diff([*here, len(target)]) > 1).all()
    if not free:
        assert (source[0], target[-1]) == (ids[0], ids[-1])
    assert Counter([*source[source < MARKS[0]], *target[target < MARKS[0]]]) == Counter(ids.tolist())


@given(st.integers(2, 600), densities, lengths_of_spans, seeds)
def test_the_spans_are_those_of_the_recipe(length: int, density: float, mean: float, seed: int) -> None:
    lost = noise_spans(length, density, mean, 100, np.random.default_rng(seed))
    count = min(max(round(length * density), 1), length - 1)
    assert lost.shape == (length,)
    assert int(lost.sum()) == count
    assert not lost[0]
    assert lost[-1]
    spans = int((lost[1:] & ~lost[:-1]).sum())
    assert spans == min(max(round(count / mean), 1), length - count, 100)


@pytest.mark.parametrize("density", [0.15, 0.5])
def test_the_share_and_the_length_are_right_on_average(density: float) -> None:
    random = np.random.default_rng(0)
    found = [noise_spans(512, density, 3.0, 100, random) for _ in range(400)]
    assert np.mean(found) == pytest.approx(density, abs=0.001)
    spans = sum(int((row[1:] & ~row[:-1]).sum()) for row in found)
    assert np.sum(found) / spans == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(("free", "divisions", "bound"), [(False, 9, 26.1), (True, 30, 58.3)])
def test_every_division_is_equally_probable(free: bool, divisions: int, bound: float) -> None:
    """Of 8 tokens 4 are lost, 1+3, 2+2 or 3+1, and 4 kept, likewise or in three parts whose outer ones may be empty.

    bound: of χ², p = 0.001.
    """
    random = np.random.default_rng(1)
    met = Counter(tuple(noise_spans(8, 0.5, 2.0, 100, random, free).tolist()) for _ in range(300 * divisions))
    assert len(met) == divisions
    assert sum((count - 300) ** 2 / 300 for count in met.values()) < bound


def test_free_spans_of_a_short_text_stand_anywhere() -> None:
    """Where the recipe knows but one place, the end."""
    random, short = np.random.default_rng(3), (10, 0.15, 3.0, 100)
    assert {int(noise_spans(*short, random).argmax()) for _ in range(200)} == {8}
    assert {int(noise_spans(*short, random, free=True).argmax()) for _ in range(200)} == set(range(9))


@given(st.integers(2, 600), densities, lengths_of_spans, seeds)
def test_free_spans_are_as_many_and_lose_as_much(length: int, density: float, mean: float, seed: int) -> None:
    bound, free = (noise_spans(length, density, mean, 100, np.random.default_rng(seed), f) for f in (False, True))
    assert bound.sum() == free.sum()
    assert np.diff(bound, prepend=False, append=False).sum() == np.diff(free, prepend=False, append=False).sum()


def test_an_example_by_hand() -> None:
    ids = np.array([10, 11, 12, 13, 14, 15])
    source, target = corrupt_spans(ids, 0.5, 3.0, MARKS, np.random.default_rng(0))
    assert source.tolist() == [10, 11, 12, 900]
    assert target.tolist() == [900, 13, 14, 15]


@pytest.mark.parametrize("ids", [[], [7]])
def test_a_text_that_is_too_short_loses_nothing(ids: list[int]) -> None:
    source, target = corrupt_spans(np.array(ids), 0.15, 3.0, MARKS, np.random.default_rng(0))
    assert source.tolist() == ids
    assert restore(source, target, MARKS).tolist() == ids


def test_two_tokens_lose_one() -> None:
    source, target = corrupt_spans(np.array([7, 8]), 0.15, 3.0, MARKS, np.random.default_rng(0))
    assert (source.tolist(), target.tolist()) == ([7, 900], [900, 8])


def test_a_small_kind_of_number_holds_any_sentinel() -> None:
    source, _ = corrupt_spans(np.array([7, 8], np.uint8), 0.5, 3.0, [70_000], np.random.default_rng(0))
    assert source.tolist() == [7, 70_000]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ([900, 5, 901, 6, 7], [10, 5, 11, 6, 7, 12]),
        ([901, 6, 900, 5], [10, 5, 11, 6, 12]),  # out of order
        ([900, 5], [10, 5, 11, 12]),  # one is missing
        ([8, 9, 900, 5, 901], [10, 5, 11, 12]),  # begins with no sentinel
        ([900, 5, 901, 6, 900, 7], [10, 5, 11, 6, 12]),  # one twice
        ([900, 5, 950, 6, 901, 7], [10, 5, 11, 7, 12]),  # one that was never asked for
        ([], [10, 11, 12]),
    ],
)
def test_what_a_model_wrote_is_put_in_as_far_as_it_goes(target: list[int], text: list[int]) -> None:
    assert restore(np.array([10, 900, 11, 901, 12]), np.array(target), MARKS).tolist() == text


# ---- infilling and deletion ----------------------------------------------------------------------------------------


@given(tokens, densities, lengths_of_spans, seeds)
def test_infilling_keeps_the_rest_in_order(ids: Any, density: float, mean: float, seed: int) -> None:
    source, target = infill_spans(ids, density, mean, MASK, np.random.default_rng(seed))
    assert target.tolist() == ids.tolist()
    kept = source[source != MASK]
    assert len(ids) - len(kept) == max(0, min(round(len(ids) * density), len(ids) - 1))
    rest = iter(ids.tolist())
    assert all(token in rest for token in kept.tolist())
    assert not ((source[1:] == MASK) & (source[:-1] == MASK)).any()
    assert (MASK in source) == (len(kept) < len(ids))


def test_infilled_spans_are_of_poisson_lengths() -> None:
    """Read off texts of single numbers: the gap in the numbers at each mask is the length of its span."""
    random, gaps = np.random.default_rng(2), []
    ids = np.arange(10, 410)
    for _ in range(200):
        source, _ = infill_spans(ids, 0.3, 3.0, MASK + 1000, random)
        edges = np.concatenate(([9], source, [410]))
        at = np.flatnonzero(edges == MASK + 1000)
        gaps += (edges[at + 1] - edges[at - 1] - 1).tolist()
    assert np.mean(gaps) == pytest.approx(3.0, abs=0.1)
    assert np.var(gaps) == pytest.approx(3.0, abs=0.25)
    assert np.mean(np.array(gaps) == 0) == pytest.approx(np.exp(-3), abs=0.01)


@given(tokens, densities, seeds)
def test_deletion_keeps_the_rest_in_order(ids: Any, density: float, seed: int) -> None:
    source, target = delete_tokens(ids, density, np.random.default_rng(seed))
    assert target.tolist() == ids.tolist()
    assert len(ids) - len(source) == max(0, min(round(len(ids) * density), len(ids) - 1))
    rest = iter(ids.tolist())
    assert all(token in rest for token in source.tolist())


@pytest.mark.parametrize(
    "make",
    [
        lambda: span_noise(MARKS, density=0.0),
        lambda: span_noise(MARKS, density=1.0),
        lambda: span_noise(MARKS, mean_length=0.5),
        lambda: span_noise(MARKS, mean_length=float("nan")),
        lambda: infilling_noise(MASK, density=1.5),
        lambda: infilling_noise(MASK, mean_length=float("inf")),
        lambda: deletion_noise(float("nan")),
        lambda: corrupt_spans(np.arange(9), -0.1, 3.0, MARKS, np.random.default_rng(0)),
    ],
)
def test_a_noise_that_cannot_be_is_refused(make: Any) -> None:
    with pytest.raises(UsageError, match=r"share|average"):
        make()


def test_a_tokeniser_takes_sentinels_no_text_can_spell() -> None:
    tokeniser = train_tokeniser("bytes", ["春江潮水连海平"]).with_special_tokens(SENTINELS)
    marks = find_sentinels(tokeniser.special_ids)
    assert len(marks) == len(SENTINELS) == 100
    assert (np.diff(marks) == 1).all()
    assert tokeniser.special_ids["<|sentinel 0|>"] == marks[0]
    text = "春江<|sentinel 0|>海平"
    ids = tokeniser.encode(text)
    assert not np.isin(ids, marks).any()
    source, target = corrupt_spans(ids, 0.3, 3.0, marks, np.random.default_rng(0))
    assert tokeniser.decode(restore(source, target, marks)) == text


def test_a_tokeniser_without_sentinels_is_refused() -> None:
    with pytest.raises(LLMBertError, match="sentinels"):
        find_sentinels(train_tokeniser("bytes", ["a"]).special_ids)


# ---- batches -------------------------------------------------------------------------------------------------------


def documents(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Documents whose every token is another number, so that each can be followed."""
    first, parts = 4, []
    for length in lengths:
        parts.append(np.concatenate(([BEGIN], np.arange(first, first + length), [END])))
        first += length
    return np.concatenate(parts).astype(np.uint16), np.concatenate(([0], np.cumsum([len(p) for p in parts])))


MANY = np.arange(60_000, 60_100)
SPANS = span_noise(MANY)


def epoch(batches: Denoising, number: int = 0) -> list[PairBatch]:
    each = batches.batches_per_epoch
    return list(islice(batches.iterate(number * each), each))


def pieces(batch: PairBatch) -> list[list[int]]:
    """The pieces of documents that a batch of corrupted spans was made of; holds it to its form on the way."""
    found = []
    for source, mask, inputs, targets in zip(batch.source, batch.source_mask, batch.inputs, batch.targets, strict=True):
        length = int(mask.sum())
        assert mask[:length].all()
        assert source[length - 1] == END
        assert (source[length:] == PADDING).all()
        scored = int((targets != IGNORED).sum())
        assert targets[scored - 1] == END
        assert (targets[scored:] == IGNORED).all()
        assert inputs[0] == BEGIN
        assert torch.equal(inputs[1:scored], targets[: scored - 1])
        assert (inputs[scored:] == PADDING).all()
        both = np.concatenate((source[: length - 1].numpy(), targets[: scored - 1].numpy()))
        assert not np.isin(both, (PADDING, BEGIN, END)).any()
        found.append(restore(source[: length - 1].numpy(), targets[: scored - 1].numpy(), MANY).tolist())
    return found


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 90), min_size=1, max_size=30),
    context=st.integers(4, 30),
    rows=st.integers(1, 9),
    seed=seeds,
)
def test_an_epoch_reads_every_document_once_and_mixes_none(
    lengths: list[int], context: int, rows: int, seed: int
) -> None:
    ids, starts = documents(lengths)
    owner = {int(ids[i]): d for d, (a, b) in enumerate(pairwise(starts)) for i in range(a + 1, b - 1)}
    for number in range(2):
        batches = Denoising(ids, starts, SPANS, context, rows, seed)
        found = [piece for batch in epoch(batches, number) for piece in pieces(batch)]
        assert all(2 <= len(piece) <= context for piece in found)
        assert all(piece == list(range(piece[0], piece[0] + len(piece))) for piece in found)
        assert all(len({owner[token] for token in piece}) == 1 for piece in found)
        met = Counter(token for piece in found for token in piece)
        assert met.keys() == owner.keys()
        twice = len(found) - len({piece[0] for piece in found})
        assert twice == len(found) - int(batches.pieces.sum()) < rows  # the last batch is filled up


def test_each_epoch_cuts_and_damages_anew() -> None:
    batches = Denoising(*documents([500]), SPANS, 32, 4, 0)
    first, second = ({tuple(piece) for batch in epoch(batches, n) for piece in pieces(batch)} for n in (0, 1))
    assert len(first & second) < len(first) / 4
    short = Denoising(*documents([20]), SPANS, 32, 1, 0)
    assert epoch(short, 0)[0].source.tolist() != epoch(short, 1)[0].source.tolist()


@pytest.mark.parametrize("lengths", [[900], [13, 40, 22, 9, 31] * 7])
@pytest.mark.parametrize("noise", [SPANS, infilling_noise(60_000), deletion_noise()])
def test_batch_n_is_the_same_however_it_is_reached(lengths: list[int], noise: Noise) -> None:
    def make(seed: int) -> Denoising:
        return Denoising(*documents(lengths), noise, 16, 4, seed)

    batches = list(islice(make(0).iterate(), 60))
    assert make(0).batches_per_epoch < 59
    for n in (0, 1, 17, 59):
        again = next(make(0).iterate(n))
        for name in ("source", "source_mask", "inputs", "targets"):
            assert torch.equal(getattr(again, name), getattr(batches[n], name))
        assert again.fresh
        other = next(make(1).iterate(n))
        assert other.source.shape != again.source.shape or not torch.equal(other.source, again.source)


def test_pieces_of_like_length_share_a_batch() -> None:
    lengths = [4, 30] * 200
    padded = [
        float((~batch.source_mask).float().mean()) for batch in epoch(Denoising(*documents(lengths), SPANS, 32, 8, 0))
    ]
    assert np.mean(padded) < 0.05


def test_across_documents_a_piece_runs_on() -> None:
    ids, starts = documents([5, 3, 4, 6, 5, 2, 7] * 6)
    found = [p for b in epoch(Denoising(ids, starts, SPANS, 24, 4, 0, across_documents=True)) for p in pieces(b)]
    assert max(map(len, found)) > 7
    assert {token for piece in found for token in piece} == set(ids[ids > END].tolist())
    assert all(piece == list(range(piece[0], piece[0] + len(piece))) for piece in found)


def test_targets_of_infilling_are_the_whole_text() -> None:
    for batch in epoch(Denoising(*documents([9, 14, 11, 8]), infilling_noise(60_000), 16, 2, 0)):
        for source, targets in zip(batch.source, batch.targets, strict=True):
            text = targets[targets != IGNORED].tolist()
            assert text == [*range(text[0], text[0] + len(text) - 1), END]
            assert set(source.tolist()) - {60_000, PADDING, END} < set(text)


def test_documents_of_less_than_two_tokens_are_left_out() -> None:
    ids, starts = documents([1, 0, 5, 1, 2])
    found = [piece for batch in epoch(Denoising(ids, starts, SPANS, 16, 1, 0)) for piece in pieces(batch)]
    assert sorted(found) == [[5, 6, 7, 8, 9], [11, 12]]
    with pytest.raises(LLMBertError, match="two tokens"):
        Denoising(*documents([1, 0, 1]), SPANS, 16, 1, 0)


def test_a_context_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="context"):
        Denoising(*documents([9]), SPANS, 3, 1, 0)


def test_a_shard_on_disk_is_read(tmp_path: Path) -> None:
    """Whole lines of a poem are lost and come back, from files that were written with sentinels in the vocabulary."""
    poem = "春江潮水连海平,海上明月共潮生。滟滟随波千万里,何处春江无月明。"
    tokeniser = train_tokeniser("chars", [poem]).with_special_tokens(SENTINELS)
    writer = ShardWriter(tmp_path, "train", tokeniser)
    for number in range(5):
        writer.add(str(number), [poem])
    shard, marks = writer.finish(), find_sentinels(tokeniser.special_ids)
    for batch in epoch(Denoising(shard.ids, shard.starts, span_noise(marks, 0.3), 64, 2, 0)):
        for source, targets in zip(batch.source.numpy(), batch.targets.numpy(), strict=True):
            text = restore(source[source > END], targets[targets > END], marks)
            assert tokeniser.decode(text) == poem
            assert tokeniser.decode(source) != poem


def test_what_is_counted_is_what_is_scored() -> None:
    batch = next(Denoising(*documents([9, 30, 17]), SPANS, 16, 3, 0).iterate())
    assert batch.counts == {"nll": batch.count}
    assert batch.count == int((batch.targets != IGNORED).sum())
    assert sum(part.count for part in batch.split(2)) == batch.count
