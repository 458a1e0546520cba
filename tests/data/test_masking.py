"""Masked batches: what is hidden can be restored, special tokens never are, pairs are what their label says."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import CHINESE, ENGLISH, shared

from llmbert.data.batches import IGNORED
from llmbert.data.masking import (
    MaskedBatch,
    MaskedWindows,
    Masking,
    SentencePairs,
    Words,
    find_sentence_ends,
    find_words,
)
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.tokenisers import train_tokeniser

PADDING, UNKNOWN, BEGIN, END, MASK = range(5)
SPECIAL = (PADDING, UNKNOWN, BEGIN, END, MASK)


def documents(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Documents whose every token is another number, so that each can be followed."""
    first, parts = 5, []
    for length in lengths:
        parts.append(np.concatenate(([BEGIN], np.arange(first, first + length), [END])))
        first += length
    return np.concatenate(parts).astype(np.uint32), np.concatenate(([0], np.cumsum([len(p) for p in parts])))


def masking(ids: np.ndarray, **settings: Any) -> Masking:
    return Masking(MASK, max(6, int(ids.max()) + 1), SPECIAL, **settings)


def restored(batch: MaskedBatch) -> torch.Tensor:
    return torch.where(batch.targets != IGNORED, batch.targets, batch.inputs)


LENGTHS = st.lists(st.integers(0, 60), min_size=2, max_size=30).filter(lambda found: sum(n > 1 for n in found) > 1)
MAKERS: dict[str, Callable[..., Any]] = {
    "windows": lambda ids, starts, m, seed=0: MaskedWindows(ids, starts, m, 16, 4, seed),
    "pairs": lambda ids, starts, m, seed=0: SentencePairs(ids, starts, m, 16, 4, seed),
}
EACH = pytest.mark.parametrize("kind", MAKERS)


# ---- what is hidden ------------------------------------------------------------------------------------------------


@EACH
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_targets_are_the_originals_and_restoring_them_gives_the_text(kind: str, lengths: list[int], seed: int) -> None:
    """With nothing swapped, a hidden token is the mask; with the targets put back, each row is text of the corpus."""
    ids, starts = documents(lengths)
    for batch in islice(MAKERS[kind](ids, starts, masking(ids, masked=1.0, random=0.0), seed).iterate(), 6):
        hidden = batch.targets != IGNORED
        assert hidden.any()
        assert torch.equal(hidden, batch.inputs == MASK)
        for row in restored(batch).tolist():
            for token, following in pairwise(row):
                assert token <= END or following <= END or following == token + 1


@EACH
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 99), share=st.sampled_from([0.15, 0.5, 1.0]))
def test_special_tokens_are_neither_hidden_nor_drawn(kind: str, lengths: list[int], seed: int, share: float) -> None:
    ids, starts = documents(lengths)
    for batch in islice(
        MAKERS[kind](ids, starts, masking(ids, share=share, masked=0.3, random=0.6), seed).iterate(), 6
    ):
        assert not set(batch.targets.unique().tolist()) & set(SPECIAL)
        was, shown = restored(batch), batch.inputs
        swapped = (was != shown) & (shown != MASK)
        assert not set(shown[swapped].tolist()) & set(SPECIAL)
        assert torch.equal((was <= END) & (was == shown), was <= END)


def test_rates_are_those_of_the_paper() -> None:
    ids, starts = documents([40_000, 30_000])
    hidden = shown_mask = kept = swapped = tokens = 0
    for batch in islice(MaskedWindows(ids, starts, masking(ids), 64, 32, 0).iterate(), 60):
        aims = batch.targets != IGNORED
        tokens += int((batch.inputs > END).sum())
        hidden += int(aims.sum())
        shown_mask += int((batch.inputs[aims] == MASK).sum())
        kept += int((batch.inputs[aims] == batch.targets[aims]).sum())
        swapped += int(((batch.inputs[aims] != MASK) & (batch.inputs[aims] != batch.targets[aims])).sum())
        assert torch.equal(batch.inputs[~aims], restored(batch)[~aims])
    assert hidden / tokens == pytest.approx(0.15, abs=0.005)
    assert shown_mask / hidden == pytest.approx(0.8, abs=0.01)
    assert swapped / hidden == pytest.approx(0.1, abs=0.01)
    assert kept / hidden == pytest.approx(0.1, abs=0.01)


def test_random_tokens_come_from_the_whole_vocabulary() -> None:
    inputs, targets = Masking(MASK, 50, SPECIAL, share=1.0, masked=0.0, random=1.0).apply(
        np.full((40, 100), 7), np.random.default_rng(0)
    )
    assert (targets == 7).all()
    counts = torch.bincount(inputs.flatten(), minlength=50)
    assert counts[:5].sum() == 0
    assert counts[5:].min() > 40


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 11), min_size=9, max_size=9), min_size=1, max_size=6),
    share=st.sampled_from([0.15, 0.6]),
    seed=st.integers(0, 999),
)
def test_whole_words_are_hidden_or_shown_as_one(rows: list[list[int]], share: float, seed: int) -> None:
    """Tokens 8 to 11 go on with a word, which 7 cannot be."""
    left, right = np.arange(12) >= 8, (np.arange(12) > MASK) & (np.arange(12) != 7)
    ids = np.array(rows)
    _, targets = Masking(MASK, 12, SPECIAL, share, words=Words(left, right)).apply(ids, np.random.default_rng(seed))
    hidden = (targets != IGNORED).numpy()
    for row, marks in zip(rows, hidden, strict=True):
        for place in range(1, 9):
            if row[place] >= 8 and row[place - 1] > MASK and row[place - 1] != 7:
                assert marks[place] == marks[place - 1]
    assert hidden.any() == (ids > MASK).any()


def test_whole_words_are_hidden_at_the_same_rate() -> None:
    ids = np.random.default_rng(0).integers(5, 12, (400, 60))
    words = Words(np.arange(12) >= 8, np.ones(12, dtype=bool))
    _, targets = Masking(MASK, 12, SPECIAL, words=words).apply(ids, np.random.default_rng(1))
    assert float((targets != IGNORED).float().mean()) == pytest.approx(0.15, abs=0.02)


def test_something_is_hidden_even_in_the_shortest_text() -> None:
    for seed in range(20):
        _, targets = Masking(MASK, 9, SPECIAL).apply(np.array([[BEGIN, 6, END]]), np.random.default_rng(seed))
        assert targets.tolist() == [[IGNORED, 6, IGNORED]]
    _, targets = Masking(MASK, 9, SPECIAL).apply(np.array([[BEGIN, UNKNOWN, END]]), np.random.default_rng(0))
    assert (targets == IGNORED).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"share": 0.0}, "share of tokens"), ({"share": 1.5}, "share of tokens"), ({"masked": 0.8, "random": 0.3}, "sum")],
)
def test_shares_that_cannot_be_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Masking(MASK, 9, SPECIAL, **wrong)


def test_a_vocabulary_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="outside a vocabulary of 4"):
        Masking(MASK, 4, SPECIAL)
    with pytest.raises(LLMBertError, match="special tokens only"):
        Masking(MASK, 5, SPECIAL)


# ---- rows ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=30), context=st.integers(4, 24))
def test_rows_begin_and_end_and_keep_documents_apart(lengths: list[int], context: int) -> None:
    ids, starts = documents(lengths)
    owner = {int(token): int(np.searchsorted(starts, i, "right")) for i, token in enumerate(ids)}
    for batch in islice(MaskedWindows(ids, starts, masking(ids), context, 3, 0).iterate(), 8):
        rows = restored(batch)
        assert (rows[:, 0] == BEGIN).all()
        assert ((rows[:, -1] == END) | (rows[:, -1] == BEGIN)).all()
        assert rows.shape == (3, min(context, len(ids)))
        apart = torch.ones_like(rows) if batch.segments is None else batch.segments
        for row, segments in zip(rows.tolist(), apart.tolist(), strict=True):
            named = {(owner[token], segment) for token, segment in zip(row, segments, strict=True) if token > MASK}
            assert len({document for document, _ in named}) == len({segment for _, segment in named}) == len(named)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 60), context=st.integers(4, 7), rows=st.integers(1, 4))
def test_epochs_of_rows_reach_every_token(length: int, context: int, rows: int) -> None:
    ids, starts = documents([length])
    batches = MaskedWindows(ids, starts, masking(ids), context, rows, 0)
    found = islice(batches.iterate(), 120 * batches.batches_per_epoch)
    seen = {token for batch in found for token in restored(batch).flatten().tolist()}
    assert seen == set(ids.tolist())


def test_across_documents_has_no_segments() -> None:
    ids, starts = documents([5] * 40)
    assert all(
        batch.segments is None
        for batch in islice(MaskedWindows(ids, starts, masking(ids), 16, 2, 0, across_documents=True).iterate(), 9)
    )


def test_an_epoch_reads_nearly_everything_once() -> None:
    ids, starts = documents([700, 300])
    batches = MaskedWindows(ids, starts, masking(ids), 16, 4, 0)
    seen = torch.cat([restored(batch).flatten() for batch in islice(batches.iterate(), batches.batches_per_epoch)])
    own = seen[seen > END]
    assert len(own.unique()) > 0.85 * 1000  # a row's ends take the place of two tokens
    assert len(own) - len(own.unique()) < 4 * 16


# ---- pairs ---------------------------------------------------------------------------------------------------------


def parted(batch: MaskedBatch) -> list[tuple[list[int], list[int], int]]:
    """Each row's segments and label; the row must be [begin] A [end] B [end] padding, with types 0 and 1."""
    assert batch.mask is not None and batch.types is not None and batch.follows is not None
    found = []
    for row, mask, types, label in zip(restored(batch), batch.mask, batch.types, batch.follows, strict=True):
        tokens = row[mask].tolist()
        assert (row[~mask] == PADDING).all() and not mask[len(tokens) :].any() and not types[~mask].any()
        middle = tokens.index(END)
        assert tokens[0] == BEGIN and tokens[-1] == END and tokens.count(END) == 2
        assert types[mask].tolist() == [0] * (middle + 1) + [1] * (len(tokens) - middle - 1)
        found.append((tokens[1:middle], tokens[middle + 1 : -1], int(label)))
    return found


@settings(max_examples=50, deadline=None)
@given(lengths=LENGTHS, context=st.integers(5, 40), ends=st.integers(0, 9), seed=st.integers(0, 99))
def test_pairs_are_what_their_label_says(lengths: list[int], context: int, ends: int, seed: int) -> None:
    """B follows A in its document, or is from another; both are whole stretches of text that fit the context."""
    ids, starts = documents(lengths)
    owner = {int(token): int(np.searchsorted(starts, i, "right")) for i, token in enumerate(ids)}
    closing = [int(token) for token in ids if token > END and ends and token % (ends + 1) == 0]
    pairs = SentencePairs(ids, starts, masking(ids), context, 5, seed, closing)
    for batch in islice(pairs.iterate(), 5):
        assert batch.inputs.shape[1] <= context
        for first, second, label in parted(batch):
            for part in (first, second):
                assert part == list(range(part[0], part[0] + len(part)))
            if label == 0:
                assert second[0] == first[-1] + 1 and owner[first[0]] == owner[second[-1]]
            else:
                assert owner[first[0]] == owner[first[-1]] != owner[second[0]] == owner[second[-1]]


def test_half_of_the_pairs_follow_and_lengths_tell_nothing() -> None:
    random = np.random.default_rng(0)
    ids, starts = documents(random.integers(2, 300, 200).tolist())
    found = [pair for batch in islice(SentencePairs(ids, starts, masking(ids), 64, 32, 0).iterate(), 60) for pair in
             parted(batch)]  # fmt: skip
    labels = np.array([label for *_, label in found])
    assert labels.mean() == pytest.approx(0.5, abs=0.05)
    lengths = np.array([len(second) for _, second, _ in found])
    assert lengths[labels == 1].mean() == pytest.approx(lengths[labels == 0].mean(), rel=0.1)


def test_lengths_tell_nothing_where_few_documents_are_long() -> None:
    ids, starts = documents([2000] * 5 + [12] * 300)
    found = [pair for batch in islice(SentencePairs(ids, starts, masking(ids), 128, 32, 0).iterate(), 60) for pair in
             parted(batch)]  # fmt: skip
    long = np.array([len(second) > 12 for _, second, _ in found])
    labels = np.array([label for *_, label in found])
    assert long[labels == 1].mean() == pytest.approx(long[labels == 0].mean(), abs=0.05)


def test_segments_begin_with_sentences_where_these_are_known() -> None:
    """Sentences of ten tokens, whose last number ends in 9."""
    ids, starts = documents([995 - 5, 500, 800])
    closing = [int(token) for token in ids if token > END and token % 10 == 9]
    found = [pair for batch in islice(SentencePairs(ids, starts, masking(ids), 64, 8, 0, closing).iterate(), 12) for
             pair in parted(batch)]  # fmt: skip
    firsts = {int(ids[start + 1]) for start in starts[:-1]}
    for first, second, _ in found:
        assert first[0] % 10 == 0 or first[0] in firsts
        assert second[0] % 10 == 0 or second[0] in firsts


def test_an_epoch_of_pairs_reaches_every_document() -> None:
    ids, starts = documents([3, 200, 17, 61, 2, 40])
    pairs = SentencePairs(ids, starts, masking(ids), 32, 4, 0)
    seen = {first[0] for batch in islice(pairs.iterate(), pairs.batches_per_epoch) for first, *_ in parted(batch)}
    owner = {int(np.searchsorted(starts, np.flatnonzero(ids == token)[0], "right")) for token in seen}
    assert owner == {1, 2, 3, 4, 5, 6}


def test_one_document_is_cut_into_sections() -> None:
    ids, starts = documents([3000])
    pairs = SentencePairs(ids, starts, masking(ids), 16, 8, 0)
    cuts = [3000 * section // (3000 // (8 * 16)) for section in range(1, 3000 // (8 * 16))]
    for batch in islice(pairs.iterate(), 20):
        for first, second, label in parted(batch):
            own = {int(np.searchsorted(cuts, token - 5, "right")) for token in (first[0], second[0])}
            assert len(own) == 1 + label


def test_a_sentence_a_document_is_cut_within_itself() -> None:
    ids, starts = documents([12, 9, 20, 2, 15, 1, 0])
    for batch in islice(SentencePairs(ids, starts, masking(ids), 64, 4, 0).iterate(), 10):
        for first, second, label in parted(batch):
            assert label == 1 or second[0] == first[-1] + 1


@pytest.mark.parametrize("lengths", [[0, 0], [1], [1, 1], [0, 1]])
def test_text_too_short_for_pairs_is_refused(lengths: list[int]) -> None:
    ids, starts = documents(lengths)
    with pytest.raises(LLMBertError, match="too short for pairs"):
        SentencePairs(ids, starts, Masking(MASK, 9, SPECIAL), 16, 2, 0)


# ---- batches -------------------------------------------------------------------------------------------------------


def equal(a: MaskedBatch, b: MaskedBatch) -> bool:
    mine, other = vars(a), vars(b)
    return all(torch.equal(x, other[n]) if isinstance(x, torch.Tensor) else x == other[n] for n, x in mine.items())


@EACH
@pytest.mark.parametrize("lengths", [[900], [13, 40, 22, 9, 31] * 7])
def test_batch_n_is_the_same_however_it_is_reached(kind: str, lengths: list[int]) -> None:
    ids, starts = documents(lengths)

    def make(seed: int) -> Any:
        return MAKERS[kind](ids, starts, masking(ids), seed)

    batches = list(islice(make(0).iterate(), 70))
    assert len(batches) > make(0).batches_per_epoch * 2
    for n in (0, 1, 17, 43, 69):
        assert equal(next(make(0).iterate(n)), batches[n])
    assert sum(equal(a, b) for a, b in zip(batches, make(1).iterate(), strict=False)) == 0
    assert sum(equal(a, b) for a, b in pairwise(batches)) == 0


@EACH
def test_splitting_loses_nothing(kind: str) -> None:
    ids, starts = documents([30, 11, 40, 7])
    batch = next(MAKERS[kind](ids, starts, masking(ids)).iterate())
    for parts in (1, 2, 3, 4, 8):
        split = batch.split(parts)
        for name, value in vars(batch).items():
            if isinstance(value, torch.Tensor):
                assert torch.cat([getattr(part, name) for part in split]).equal(value)
        assert sum(part.count for part in split) == batch.count
        for term, count in batch.counts.items():
            assert sum(part.counts[term] for part in split) == count
    assert set(batch.counts) == ({"mlm"} if kind == "windows" else {"mlm", "nsp"})
    assert equal(batch.to(torch.device("cpu")), batch)


# ---- words and sentences -------------------------------------------------------------------------------------------


def groups(words: Words, ids: list[int]) -> list[list[int]]:
    """Ids as the words they make up."""
    found: list[list[int]] = []
    for token, goes_on in zip(ids, words.continues(np.array([ids]))[0], strict=True):
        if goes_on:
            found[-1].append(token)
        else:
            found.append([token])
    return found


TEXT = ENGLISH + " " + CHINESE + " Über naïve cafés, 12,000 of them (in 1999)."


@pytest.mark.parametrize(
    ("kind", "size"), [("wordpiece", 160), ("unigram", 400), ("bpe", 300), ("bytes", None), ("chars", None)]
)
def test_words_are_found_for_each_kind_of_tokeniser(kind: str, size: int | None) -> None:
    """Tokens of one English word belong together; words, punctuation and Chinese characters stand apart."""
    tokeniser = train_tokeniser(kind, [TEXT] * 3, size)
    words = find_words(tokeniser.token_bytes() or tokeniser.token_texts())
    for text, expected in (
        ("children mill", ["children", "mill"]),
        ("the town, high (water).", ["the", "town", ",", "high", "(", "water", ")", "."]),
        ("海上明月", ["海", "上", "明", "月"]),
        ("river 江 sea", ["river", "江", "sea"]),
        ("cafés naïve", ["cafés", "naïve"]),
    ):
        found = groups(words, tokeniser.encode(text).tolist())
        decoded = [tokeniser.decode(group).strip() for group in found]
        assert [word for word in decoded if word] == expected
    # A byte that ends a character does not say whether that was a Chinese one.
    if kind in ("wordpiece", "unigram", "chars"):
        found = groups(words, tokeniser.encode("river江流sea").tolist())
        assert [tokeniser.decode(group) for group in found] == ["river", "江", "流", "sea"]


def test_words_are_found_in_a_foreign_vocabulary() -> None:
    raw = find_words(["<s>", "</s>", "Ġthe", "re", "Ġ", "é", ",", "ä½ł", "Ġä½", "ł", "Ã©"])
    assert raw.joins_left.tolist() == [False, False, False, True, False, False, False, False, False, True, True]
    assert raw.joins_right.tolist() == [False, False, True, True, False, True, False, False, True, True, True]
    pieces = find_words(["[PAD]", "[CLS]", "run", "##ning", "##s", ",", "你", "##好"])
    assert pieces.joins_left.tolist() == [False, False, False, True, True, False, False, True]
    assert not pieces.joins_right[:2].any() and pieces.joins_right[2:].all()
    unigram = find_words(["<s>", "▁the", "re", "▁", "。", "你好", "<0xE4>", "<0xBD>"])
    assert unigram.joins_left.tolist() == [False, False, True, False, False, False, False, True]
    assert unigram.joins_right.tolist() == [False, True, True, True, False, False, True, True]


def test_whole_words_of_a_vocabulary_never_join() -> None:
    tokeniser = train_tokeniser("words", [ENGLISH])
    words = find_words(tokeniser.token_texts())
    assert not words.joins_left.any() and not words.joins_right.any()


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe", "chars"])
def test_sentence_ends_are_found(kind: str) -> None:
    tokeniser = train_tokeniser(kind, [TEXT] * 3, None if kind == "chars" else 400)
    ends = find_sentence_ends(tokeniser.token_bytes() or tokeniser.token_texts())
    texts = [tokeniser.decode([token]) for token in range(5, tokeniser.vocabulary_size)]
    for token, text in enumerate(texts, 5):
        assert (token in ends) == (text.strip()[-1:] in tuple(".!?。！？…"))
    assert len(ends) >= 2


def test_real_articles_make_pairs_of_sentences() -> None:
    """WikiText-2's articles: segments are from one article or two, and most begin behind a sentence's end."""
    text = gzip.decompress(shared("wikitext2/valid.txt.gz").read_bytes()).decode()[:400_000]
    articles = [part for part in text.split("\n = ") if part.strip()]
    tokeniser = train_tokeniser("wordpiece", articles, 2000)
    parts = [np.concatenate(([BEGIN], tokeniser.encode(article), [END])) for article in articles]
    ids, starts = np.concatenate(parts), np.concatenate(([0], np.cumsum([len(part) for part in parts])))
    ends = find_sentence_ends(tokeniser.token_texts())
    hidden = Masking(
        tokeniser.vocabulary_size, tokeniser.vocabulary_size + 1, words=find_words(tokeniser.token_texts())
    )
    pairs = SentencePairs(ids, starts, hidden, 128, 16, 0, ends)
    begun = guessed = tokens = 0
    for number, batch in enumerate(islice(pairs.iterate(), 40)):
        for _, second, _ in parted(batch) if number < 3 else ():
            places = [at for at in np.flatnonzero(ids == second[0]) if ids[at : at + len(second)].tolist() == second]
            assert places
            begun += any(int(ids[at - 1]) in ends or ids[at - 1] == BEGIN for at in places)
        guessed += batch.counts["mlm"]
        tokens += int((restored(batch) > END).sum())
    assert begun >= 40  # of 48; the others are in pieces without a sentence's end
    assert guessed / tokens == pytest.approx(0.15, abs=0.01)
