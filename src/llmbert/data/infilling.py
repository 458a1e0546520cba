"""Documents → texts that a left-to-right model learns to fill in: middles moved to the end, blanks answered there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llmbert.data.batches import IGNORED, Batch, Windows
from llmbert.protocols import UsageError

Ids = NDArray[np.int64]

INFILLING_TOKENS = (
    "<|prefix token|>",
    "<|suffix token|>",
    "<|middle token|>",
    "<|blank token|>",
    "<|answer token|>",
)
"""The special tokens that a tokeniser needs; their raw space keeps typed text from spelling them."""

LEAST_TOKENS = 4  # shorter texts are left as they are
BLANK_SHARE = 0.15  # of a text's tokens that blanks take away, as in Donahue et al. 2020
BLANK_TOKENS = 3.0  # mean length of a blank


@dataclass(frozen=True)
class InfillingIds:
    """The ids of INFILLING_TOKENS."""

    prefix: int
    suffix: int
    middle: int
    blank: int
    answer: int

    def all(self) -> tuple[int, ...]:
        return astuple(self)


def find_infilling_ids(special_ids: Mapping[str, int]) -> InfillingIds:
    """The ids by a tokeniser's `special_ids`. Raises UsageError where it lacks them."""
    missing = [name for name in INFILLING_TOKENS if name not in special_ids]
    if missing:
        raise UsageError(
            f"the tokeniser has no {missing[0]!r}, so nothing can be filled in; train a gpt with --objective infilling"
        )
    return InfillingIds(*(special_ids[name] for name in INFILLING_TOKENS))


# ---- one text ------------------------------------------------------------------------------------------------------


def move_middle(
    ids: NDArray[np.integer], first: int, last: int, marks: InfillingIds, suffix_first: bool = False
) -> Ids:
    """A text with its tokens [first, last) moved to the end: fill in the middle (Bavarian et al. 2022, §3).

    PSM: prefix mark, prefix, suffix mark, suffix, middle mark, middle. suffix_first, SPM in the form that shares its
    marks with PSM: prefix mark, suffix mark, suffix, middle mark, prefix, middle.
    """
    before, middle, after = ids[:first], ids[first:last], ids[last:]
    if suffix_first:
        return _joined([[marks.prefix, marks.suffix], after, [marks.middle], before, middle])
    return _joined([[marks.prefix], before, [marks.suffix], after, [marks.middle], middle])


def blank_out(ids: NDArray[np.integer], spans: Sequence[tuple[int, int]], marks: InfillingIds) -> Ids:
    """A text with a blank for each span [first, last); behind it an answer mark and the tokens of each span.

    Infilling by language modelling (Donahue et al. 2020, §3). Spans are in order and do not overlap.
    """
    parts: list[Sequence[int] | NDArray[np.integer]] = []
    at = 0
    for first, last in spans:
        parts += [ids[at:first], [marks.blank]]
        at = last
    parts.append(ids[at:])
    for first, last in spans:
        parts += [[marks.answer], ids[first:last]]
    return _joined(parts)


def restore(ids: NDArray[np.integer], marks: InfillingIds) -> Ids:
    """The text that `move_middle` or `blank_out` made `ids` of; a text without their marks is itself.

    Answers that are missing are empty, and those without a blank are left out: what a model wrote is restored too.
    """
    found = np.asarray(ids, np.int64)
    if len(found) and found[0] == marks.prefix:
        before, rest = _cut(found[1:], marks.suffix)
        after, middle = _cut(rest, marks.middle)
        return _joined([before, middle, after])
    places = np.flatnonzero(found == marks.answer)
    text, *answers = np.split(found, places)
    pieces = np.split(text, np.flatnonzero(text == marks.blank))
    filled = [pieces[0]]
    for number, piece in enumerate(pieces[1:]):
        answer = answers[number][1:] if number < len(answers) else found[:0]
        filled += [answer, piece[1:]]
    return _joined(filled)


def _cut(ids: Ids, mark: int) -> tuple[Ids, Ids]:
    """What stands before the first `mark`, and what stands behind it."""
    places = np.flatnonzero(ids == mark)
    return (ids[: places[0]], ids[places[0] + 1 :]) if len(places) else (ids, ids[:0])


def _joined(parts: Sequence[Sequence[int] | NDArray[np.integer]]) -> Ids:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def draw_middle(length: int, random: np.random.Generator) -> tuple[int, int]:
    """Where a middle begins and ends: two of the length + 1 places between tokens, drawn alike."""
    first, last = np.sort(random.integers(0, length + 1, 2))
    return int(first), int(last)


def blanks_in(length: int) -> int:
    """How many blanks a text of so many tokens gets."""
    return max(1, round(length * BLANK_SHARE / BLANK_TOKENS))


def draw_blanks(length: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Spans that make up about BLANK_SHARE of a text of 2 tokens or more: none empty, none touching another."""
    count = min(blanks_in(length), length // 2)
    taken = min(max(count, round(length * BLANK_SHARE)), length - count)
    lengths = _parts(taken, count, random)
    # A token between any two spans; before the first and behind the last there may be none.
    gaps = _parts(length - taken + 2, count + 1, random)
    gaps[0] -= 1
    firsts = np.cumsum(gaps[:-1]) + np.cumsum(lengths) - lengths
    return [(int(first), int(first + size)) for first, size in zip(firsts, lengths, strict=True)]


def _parts(total: int, count: int, random: np.random.Generator) -> Ids:
    """`total` as a sum of `count` numbers of at least 1, every way as likely: int64 (count,)."""
    ends = np.sort(random.permutation(total - 1)[: count - 1] + 1)
    return np.diff(ends, prepend=0, append=total).astype(np.int64)


# ---- batches -------------------------------------------------------------------------------------------------------


class Infilling:
    """The windows of `Windows`, some of the texts in them to be filled in.

    rate: the share of texts that are (0: the windows as they are); suffix_first: of these the share in SPM; blanks: of
    these the share with blanks; the others in PSM. A text is a document, or the part of one that falls into a window
    (Bavarian et al. 2022 call the latter context-level): it begins with the begin token, its end token says that it is
    filled in, and all its tokens but the begin token are scored. It always fits its window: what its marks need is
    taken from the window's end. Batch number n is a function of n and the windows' seed.
    """

    def __init__(
        self,
        windows: Windows,
        marks: InfillingIds,
        end_id: int,
        *,
        rate: float = 0.5,
        suffix_first: float = 1 / 3,
        blanks: float = 1 / 3,
    ) -> None:
        for name, share in (("rate", rate), ("suffix_first", suffix_first), ("blanks", blanks)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name} is a share between 0 and 1, not {share}")
        if suffix_first + blanks > 1:
            raise UsageError(f"suffix_first {suffix_first} and blanks {blanks} are shares that sum to at most 1")
        if rate and end_id == windows.begin_id:
            raise UsageError(
                "filling in needs a token that ends a text and begins none, and this tokeniser has one for both; take "
                "another base, or one of our own tokenisers"
            )
        self.windows, self.marks, self.end_id = windows, marks, end_id
        self.rate, self.suffix_first, self.blanks = rate, suffix_first, blanks
        self.batches_per_epoch = windows.batches_per_epoch

    def iterate(self, position: int = 0) -> Iterator[Batch]:
        """Batches from number `position` on, without end."""
        for number, batch in enumerate(self.windows.iterate(position), position):
            yield self._changed(batch, np.random.default_rng((self.windows.seed, 1, number)))

    def _changed(self, batch: Batch, random: np.random.Generator) -> Batch:
        inputs, targets = batch.inputs.numpy(), batch.targets.numpy()
        rows, time = inputs.shape
        block = np.zeros((rows, time + 1), np.int64)
        scored = np.zeros((rows, time + 1), bool)
        for row in range(rows):
            kept = np.flatnonzero(targets[row] != IGNORED)
            last = int(kept[-1]) + 1 if len(kept) else 0
            # A window's last target is in no input, and what stands behind the last scored one is padding.
            window = np.append(inputs[row, :last], targets[row, last - 1 : last])
            found = self._row(window, time + 1, random)
            block[row, : len(found)], scored[row, : len(found)] = found, found != self.windows.begin_id
        made, aims = torch.from_numpy(block[:, :-1].copy()), torch.from_numpy(block[:, 1:].copy())
        aims[torch.from_numpy(~scored[:, 1:])] = IGNORED
        begins = made == self.windows.begin_id
        many = not self.windows.across_documents and bool(begins[:, 1:].any())
        return Batch(made, aims, begins.cumsum(1) if many else None, batch.fresh)

    def _row(self, window: Ids, room: int, random: np.random.Generator) -> Ids:
        """A window's tokens with some of its texts to be filled in, at most `room` of them."""
        begins = np.flatnonzero(window == self.windows.begin_id)
        found: list[Ids] = []
        for text in np.split(window, begins):
            chosen, way = random.random(2)
            body = text[text != self.windows.begin_id]
            body = body[:-1] if len(body) and body[-1] == self.end_id else body
            if chosen < self.rate and min(len(body), self._fitting(len(body), room, way)) >= LEAST_TOKENS:
                text = self._text(body[: self._fitting(len(body), room, way)], way, random)
            found.append(text[:room])
            room -= len(found[-1])
        return _joined(found)

    def _fitting(self, length: int, room: int, way: float) -> int:
        """How many of a text's tokens fit with their marks, and the begin and end token."""
        least = min(length, room - 2)
        return least - max(0, least + self._marks(least, way) - (room - 2))

    def _marks(self, length: int, way: float) -> int:
        return 2 * blanks_in(length) if way < self.blanks else 3

    def _text(self, body: Ids, way: float, random: np.random.Generator) -> Ids:
        if way < self.blanks:
            changed = blank_out(body, draw_blanks(len(body), random), self.marks)
        else:
            changed = move_middle(
                body, *draw_middle(len(body), random), self.marks, way < self.blanks + self.suffix_first
            )
        return _joined([[self.windows.begin_id], changed, [self.end_id]])
