"""Texts to be filled in: what is taken away comes back, batches depend on the seed alone, and a GPT learns it."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data.batches import IGNORED, Batch, Windows
from llmbert.data.infilling import (
    INFILLING_TOKENS,
    Infilling,
    InfillingIds,
    blank_out,
    blanks_in,
    draw_blanks,
    draw_middle,
    find_infilling_ids,
    move_middle,
    restore,
)
from llmbert.models.gpt import GPT, GPTSettings
from llmbert.objectives.causal import causal
from llmbert.protocols import UsageError
from llmbert.runs import Run
from llmbert.runs.infilling import nearest_context
from llmbert.text.tokenisers import train_tokeniser
from llmbert.training.loop import Trainer
from llmbert.training.settings import TrainingSettings

BEGIN, END = 2, 3
MARKS = InfillingIds(90, 91, 92, 93, 94)
texts = st.lists(st.integers(4, 89), max_size=60).map(lambda ids: np.array(ids, np.uint16))


# ---- one text ------------------------------------------------------------------------------------------------------


@given(texts, st.data(), st.booleans())
def test_a_moved_middle_comes_back(ids: np.ndarray, data: st.DataObject, suffix_first: bool) -> None:
    first, last = sorted((data.draw(st.integers(0, len(ids))), data.draw(st.integers(0, len(ids)))))
    moved = move_middle(ids, first, last, MARKS, suffix_first)
    assert len(moved) == len(ids) + 3
    assert sorted(moved.tolist()) == sorted([*ids.tolist(), MARKS.prefix, MARKS.suffix, MARKS.middle])
    assert restore(moved, MARKS).tolist() == ids.tolist()
    # The middle is what is written last, so a model that stops behind it has filled it in.
    assert moved[len(moved) - (last - first) :].tolist() == ids[first:last].tolist()


def test_the_two_orders_are_those_of_the_paper() -> None:
    ids = np.array([10, 11, 12, 13, 14])
    p, s, m = MARKS.prefix, MARKS.suffix, MARKS.middle
    assert move_middle(ids, 1, 3, MARKS).tolist() == [p, 10, s, 13, 14, m, 11, 12]
    assert move_middle(ids, 1, 3, MARKS, suffix_first=True).tolist() == [p, s, 13, 14, m, 10, 11, 12]
    b, a = MARKS.blank, MARKS.answer
    assert blank_out(ids, [(0, 1), (2, 4)], MARKS).tolist() == [b, 11, b, 14, a, 10, a, 12, 13]
    assert blank_out(ids, [], MARKS).tolist() == ids.tolist()


@given(texts, st.data())
def test_answers_fill_their_blanks(ids: np.ndarray, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    spans = [(a, b) for a, b in pairwise(cuts)][::2]
    blanked = blank_out(ids, spans, MARKS)
    assert len(blanked) == len(ids) + 2 * len(spans)
    assert restore(blanked, MARKS).tolist() == ids.tolist()


def test_what_a_model_left_undone_or_overdid_is_restored_too() -> None:
    b, a = MARKS.blank, MARKS.answer
    assert restore(np.array([5, b, 6, b, 7, a, 8]), MARKS).tolist() == [5, 8, 6, 7]
    assert restore(np.array([5, b, 6, a, 8, a, 9]), MARKS).tolist() == [5, 8, 6]
    assert restore(np.array([MARKS.prefix, 5, 6]), MARKS).tolist() == [5, 6]
    assert restore(np.array([], np.int64), MARKS).tolist() == []


@settings(deadline=None)
@given(st.integers(2, 400), st.integers(0, 10**6))
def test_blanks_never_touch_and_make_up_their_share(length: int, seed: int) -> None:
    spans = draw_blanks(length, np.random.default_rng(seed))
    assert 1 <= len(spans) <= blanks_in(length)
    assert all(0 <= first < last <= length for first, last in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    taken = sum(last - first for first, last in spans)
    assert taken == pytest.approx(0.15 * length, abs=1)
    assert draw_blanks(length, np.random.default_rng(seed)) == spans


def test_draws_reach_every_place() -> None:
    random = np.random.default_rng(0)
    middles = {draw_middle(3, random) for _ in range(500)}
    assert middles == {(a, b) for a in range(4) for b in range(a, 4)}
    blanks = {tuple(draw_blanks(7, random)) for _ in range(500)}
    assert blanks == {((place, place + 1),) for place in range(7)}


def test_a_tokeniser_without_the_marks_is_refused() -> None:
    tokeniser = train_tokeniser("bytes", [])
    with pytest.raises(UsageError, match="infilling"):
        find_infilling_ids(tokeniser.special_ids)
    marks = find_infilling_ids(tokeniser.with_special_tokens(INFILLING_TOKENS).special_ids)
    assert marks.all() == (260, 261, 262, 263, 264)


# ---- batches -------------------------------------------------------------------------------------------------------


def corpus(lengths: list[int]) -> np.ndarray:
    """Documents of tokens that say where they stand: 4 + place % 80."""
    documents = [[BEGIN, *(4 + (7 * number + np.arange(size)) % 80), END] for number, size in enumerate(lengths)]
    return np.array([token for document in documents for token in document], np.uint16)


def windows(lengths: list[int], context: int = 40, batch: int = 4, **options: bool) -> Windows:
    return Windows(corpus(lengths), context, batch, 5, BEGIN, **options)


LENGTHS = [3, 0, 11, 25, 90, 1, 33, 7, 60, 14] * 6


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def test_at_rate_zero_nothing_is_changed() -> None:
    plain = windows(LENGTHS)
    made = Infilling(plain, MARKS, END, rate=0.0)
    assert made.batches_per_epoch == plain.batches_per_epoch
    for ours, theirs in islice(zip(made.iterate(), plain.iterate(), strict=False), 30):
        assert torch.equal(ours.targets, theirs.targets)
        assert ours.counts == theirs.counts
        assert torch.equal(ours.inputs, theirs.inputs)
        assert (ours.segments is None) == (theirs.segments is None)
        assert ours.segments is None or torch.equal(ours.segments, theirs.segments)


@pytest.mark.parametrize("position", [0, 1, 17, 40])
def test_batch_number_n_is_the_same_wherever_one_begins(position: int) -> None:
    made = Infilling(windows(LENGTHS), MARKS, END, rate=0.7)
    whole = list(islice(made.iterate(), position + 3))
    again = list(islice(Infilling(windows(LENGTHS), MARKS, END, rate=0.7).iterate(position), 3))
    assert all(same(a, b) for a, b in zip(whole[position:], again, strict=True))
    other = Infilling(Windows(corpus(LENGTHS), 40, 4, 6, BEGIN), MARKS, END, rate=0.7)
    assert not same(next(other.iterate(position)), again[0])


def fragments(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Each text in each row: its inputs and its targets."""
    found = []
    for row in range(len(batch.inputs)):
        inputs, targets = batch.inputs[row].tolist(), batch.targets[row].tolist()
        places = [0, *(at for at, token in enumerate(inputs) if token == BEGIN and at), len(inputs)]
        found += [(inputs[a:b], targets[a:b]) for a, b in pairwise(places)]
    return found


@pytest.mark.parametrize("options", [{}, {"suffix_first": 1.0, "blanks": 0.0}, {"suffix_first": 0.0, "blanks": 1.0}])
@pytest.mark.parametrize("lengths", [LENGTHS, [2000], [6] * 200, [37, 38, 39, 40, 41] * 9])
def test_what_is_filled_in_is_the_documents_own_text(lengths: list[int], options: dict[str, float]) -> None:
    made = Infilling(windows(lengths), MARKS, END, rate=1.0, **options)
    kinds = {MARKS.prefix: 0, MARKS.blank: 0}
    for batch in islice(made.iterate(), 40):
        assert batch.inputs.shape == batch.targets.shape == (4, 40)
        # Targets are the inputs one step on, and all of them are scored but begin tokens and padding.
        kept = batch.targets[:, :-1] != IGNORED
        assert torch.equal(batch.inputs[:, 1:][kept], batch.targets[:, :-1][kept])
        assert bool((batch.inputs[:, 1:][~kept] == BEGIN).logical_or(batch.inputs[:, 1:][~kept] == 0).all())
        for inputs, targets in fragments(batch):
            marked = set(inputs) & set(MARKS.all())
            if not marked:
                continue
            text = np.array([inputs[0], *(token for token in targets if token != IGNORED)])
            assert (text[0], text[-1]) == (BEGIN, END)  # whole, wherever its document was cut
            restored = restore(text[1:-1], MARKS)
            assert len(restored) >= 4
            assert not set(restored.tolist()) & {*MARKS.all(), BEGIN, END}
            assert ((np.diff(restored) - 1) % 80 == 0).all()
            kinds[MARKS.prefix if MARKS.prefix in marked else MARKS.blank] += 1
    blanks = options.get("blanks", 1 / 3)
    if max(lengths) >= 4:
        assert (kinds[MARKS.prefix] > 0) == (blanks < 1)
        assert (kinds[MARKS.blank] > 0) == (blanks > 0)


def test_shares_are_kept() -> None:
    made = Infilling(windows([30] * 400, context=36, batch=16), MARKS, END, rate=0.4, suffix_first=0.5, blanks=0.25)
    counts = {"plain": 0, "psm": 0, "spm": 0, "blanks": 0}
    for batch in islice(made.iterate(), 60):
        for inputs, _ in fragments(batch):
            if len(inputs) < 20:
                continue
            spm = MARKS.prefix in inputs and inputs[inputs.index(MARKS.prefix) + 1] == MARKS.suffix
            kind = "blanks" if MARKS.blank in inputs else "spm" if spm else "psm" if MARKS.prefix in inputs else "plain"
            counts[kind] += 1
    total = sum(counts.values())
    assert total > 500
    # An empty prefix makes PSM look like SPM.
    for kind, share in (("plain", 0.6), ("psm", 0.1), ("spm", 0.2), ("blanks", 0.1)):
        assert counts[kind] / total == pytest.approx(share, abs=0.05), counts


def test_attention_stays_in_its_text_unless_asked_otherwise() -> None:
    batch = next(Infilling(windows(LENGTHS), MARKS, END, rate=1.0).iterate())
    assert batch.segments is not None
    assert torch.equal(batch.segments, (batch.inputs == BEGIN).cumsum(1))
    across = next(Infilling(windows(LENGTHS, across_documents=True), MARKS, END, rate=1.0).iterate())
    assert across.segments is None
    assert [len(part.inputs) for part in batch.split(2)] == [2, 2]


@pytest.mark.parametrize("text", [[], [5], [5, 6, 7, 8, 9]])
def test_a_text_shorter_than_a_window_is_padded(text: list[int]) -> None:
    made = Infilling(Windows(np.array([BEGIN, *text, END], np.uint16), 40, 2, 0, BEGIN), MARKS, END, rate=1.0)
    batch = next(made.iterate())
    for row in range(2):
        kept = batch.targets[row][batch.targets[row] != IGNORED].tolist()
        assert kept[-1] == END
        assert restore(np.array(kept[:-1], np.int64), MARKS).tolist() == text


def test_shares_out_of_range_are_refused() -> None:
    for wrong in ({"rate": 1.5}, {"rate": -0.1}, {"blanks": 2.0}, {"blanks": 0.7, "suffix_first": 0.7}):
        with pytest.raises(UsageError, match="share"):
            Infilling(windows(LENGTHS), MARKS, END, **wrong)


def test_a_token_that_begins_and_ends_texts_is_refused() -> None:
    """Its end would never be scored, and no model would learn to stop."""
    with pytest.raises(UsageError, match="one for both"):
        Infilling(windows(LENGTHS), MARKS, BEGIN)


# ---- learning it ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> Run:
    """A small GPT that saw pieces of the alphabet, some of them to be filled in."""
    tokeniser = train_tokeniser("chars", ["abcdefghijkl"]).with_special_tokens(INFILLING_TOKENS)
    random = np.random.default_rng(0)
    documents = ["abcdefghijkl"[a : a + int(random.integers(5, 10))] for a in random.integers(0, 7, 1000)]
    ids = np.concatenate([[BEGIN, *tokeniser.encode(text), END] for text in documents]).astype(np.uint16)
    torch.manual_seed(0)
    model = GPT(GPTSettings(layers=2, width=32, heads=2, context=32), tokeniser.vocabulary_size)
    batches = Infilling(
        Windows(ids, 32, 16, 0, BEGIN), find_infilling_ids(tokeniser.special_ids), END, rate=0.8, suffix_first=0.2
    )
    Trainer(model, causal, batches, TrainingSettings(steps=250, batch=16, precision="float32")).run()
    return Run(Path("run"), model.eval(), tokeniser, {"family": "gpt"})


def test_a_gpt_learns_to_fill_in_and_still_to_write_on(run: Run) -> None:
    for before, middle, after in (("bcd", "efg", "hi"), ("e", "fg", "hij"), ("abc", "d", "efg")):
        assert run.infill(before, after, temperature=0, max_tokens=12) == middle
        assert run.infill(before, after, beams=3, temperature=0, max_tokens=12) == middle
    assert run.fill_blanks(["bc", "efg"], temperature=0) == ["d"]
    assert run.generate("cdef", temperature=0, max_tokens=3) == "ghi"


def test_marks_are_never_written(run: Run) -> None:
    """Half of all texts it saw began with one."""
    marks = set(find_infilling_ids(run.tokeniser.special_ids).all())
    for seed in range(5):
        tokens = [token.id for delta in run.write(seed=seed, max_tokens=20) for token in delta.tokens]
        assert tokens and not set(tokens) & marks
        assert set(run.infill("abc", "defg", max_tokens=9, temperature=3.0, seed=seed)) <= set("abcdefghijkl")
    best = run.generate("ab", beams=4, temperature=0, max_tokens=12)
    assert set(best) <= set("abcdefghijkl")


class Answerer:
    """A stepper that answers blank n with the letter n, and keeps what it was given."""

    family, likelihood, max_length = "gpt", "exact", 20

    def __init__(self, marks: InfillingIds, size: int) -> None:
        self.marks, self.vocabulary_size, self.seen = marks, size, [[]]

    def start(self, batch, condition=None):
        self.seen.append([])
        return self

    lengths = torch.zeros(1, dtype=torch.int64)

    def step(self, ids, state):
        self.seen[-1] += ids[0].tolist()
        answers = self.seen[-1].count(self.marks.answer)
        wanted = 3 + answers if self.seen[-1][-1] == self.marks.answer else self.marks.answer
        logits = torch.full((1, 1, self.vocabulary_size), -9.0)
        logits[0, 0, wanted] = 9.0
        return logits.expand(1, ids.shape[1], -1), state


def test_every_blank_is_answered_once_after_those_before_it() -> None:
    tokeniser = train_tokeniser("chars", ["abc"]).with_special_tokens(INFILLING_TOKENS)
    marks = find_infilling_ids(tokeniser.special_ids)
    model = Answerer(marks, tokeniser.vocabulary_size)
    run = Run(Path("run"), model, tokeniser, {"family": "gpt"})
    assert run.fill_blanks(["c", "", "cc"], temperature=0, max_tokens=5) == ["a", "b"]
    a, b, c = tokeniser.encode("abc").tolist()
    text = [BEGIN, c, marks.blank, marks.blank, c, c]
    assert model.seen[1:] == [[*text, marks.answer, a], [*text, marks.answer, a, marks.answer, b]]


def test_what_does_not_fit_is_left_out_at_the_far_ends(run: Run) -> None:
    text = np.arange(100)
    for sizes, kept in (
        ((100, 100), (10, 10)),
        ((3, 100), (3, 17)),
        ((100, 4), (16, 4)),
        ((5, 6), (5, 6)),
        ((0, 50), (0, 20)),
    ):
        before, after = nearest_context(text[: sizes[0]], text[: sizes[1]], 32)
        assert before.tolist() == text[sizes[0] - kept[0] : sizes[0]].tolist()
        assert after.tolist() == text[: kept[1]].tolist()
    assert [len(part) for part in nearest_context(text, text, None)] == [100, 100]
    far = "abcdefghijkl" * 3
    assert len(run.infill(far, far, temperature=0, max_tokens=500)) <= 8
    with pytest.raises(UsageError, match="context of 32"):
        run.fill_blanks([far, far])
    with pytest.raises(UsageError, match="two parts"):
        run.fill_blanks(["abc"])


def test_models_that_did_not_learn_it_are_refused() -> None:
    tokeniser = train_tokeniser("bytes", [])
    model = GPT(GPTSettings(layers=1, width=16, heads=2), 260)
    with pytest.raises(UsageError, match="--objective infilling"):
        Run(Path("run"), model, tokeniser, {}).infill("a", "b")
    with pytest.raises(UsageError, match="no setting 'beam'"):
        Run(Path("run"), model, tokeniser, {}).infill("a", "b", beam=1)
