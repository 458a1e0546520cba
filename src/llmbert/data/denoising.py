"""Text → damaged text and what to make of it: span corruption as in T5, infilling and deletion as in BART."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmbert.data.batches import IGNORED
from llmbert.data.pairs.batches import POOL, PairBatch
from llmbert.protocols import LLMBertError, UsageError

Ids = NDArray[np.int64]
Noise = Callable[[Ids, np.random.Generator], tuple[Ids, Ids]]
"""(a text's ids, no begin or end among them; where chance comes from) → (the source, the target)."""

SENTINELS = tuple(f"<|sentinel {number}|>" for number in range(100))
"""The special tokens that stand for lost spans, in order, for `Tokeniser.with_special_tokens`."""


def find_sentinels(special_ids: Mapping[str, int]) -> Ids:
    """The ids of the sentinels of a tokeniser (its `special_ids`), in order. Raises LLMBertError where it has none."""
    found = [special_ids[name] for name in SENTINELS if name in special_ids]
    if not found:
        raise LLMBertError("the tokeniser has no sentinels, which stand for lost spans; train one that has them")
    return np.array(found, np.int64)


def span_noise(
    sentinel_ids: Sequence[int] | Ids, density: float = 0.15, mean_length: float = 3.0, free: bool = True
) -> Noise:
    """`corrupt_spans` as a noise, with T5's share and length, its spans free unless asked otherwise."""
    _check(density, mean_length)
    return lambda ids, random: corrupt_spans(ids, density, mean_length, sentinel_ids, random, free)


def infilling_noise(mask_id: int, density: float = 0.3, mean_length: float = 3.0) -> Noise:
    """`infill_spans` as a noise, with BART's defaults."""
    _check(density, mean_length)
    return lambda ids, random: infill_spans(ids, density, mean_length, mask_id, random)


def deletion_noise(density: float = 0.15) -> Noise:
    """`delete_tokens` as a noise."""
    _check(density)
    return lambda ids, random: delete_tokens(ids, density, random)


# ---- damage --------------------------------------------------------------------------------------------------------


def corrupt_spans(
    ids: NDArray[Any],
    density: float,
    mean_length: float,
    sentinel_ids: Sequence[int] | Ids,
    random: np.random.Generator,
    free: bool = False,
) -> tuple[Ids, Ids]:
    """Lose a share `density` of a text's tokens in spans of `mean_length` on average (Raffel et al. 2020, §3.1.4).

    → the text with the next sentinel in each span's place, and the lost spans, each behind its sentinel. A text of less
    than two tokens loses nothing. Where there are fewer sentinels than spans, the spans are longer. free: see
    `noise_spans`.
    """
    ids, marks = np.asarray(ids, np.int64), np.asarray(sentinel_ids, np.int64)
    lost = noise_spans(len(ids), density, mean_length, len(marks), random, free)
    first = lost.copy()
    first[1:] &= ~lost[:-1]
    places = np.flatnonzero(first)
    source = ids.copy()
    source[places] = marks[: len(places)]
    target = np.insert(ids[lost], np.cumsum(lost)[places] - 1, marks[: len(places)])
    return source[first | ~lost], target


def noise_spans(
    length: int, density: float, mean_length: float, most_spans: int, random: np.random.Generator, free: bool = False
) -> NDArray[np.bool_]:
    """(length,) true in the spans that are lost: round(length · density) tokens, though neither none nor all, in
    round(those / mean_length) spans, though one at least. Kept and lost spans alternate, the first is kept and the last
    lost, and of all such divisions each is equally probable.

    That is the recipe of T5's code, for pieces of many documents. In a text of a single span it always loses the end:
    with `free` spans stand anywhere, at the beginning too.
    """
    _check(density, mean_length)
    if length < 2:
        return np.zeros(length, bool)
    lost = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(lost / mean_length), 1), lost, length - lost, most_spans)
    lengths = np.zeros(2 * spans + 1, np.int64)
    lengths[1::2] = _composition(lost, spans, random)
    if free:
        lengths[0::2] = _composition(length - lost + 2, spans + 1, random)
        lengths[[0, -1]] -= 1  # the outer ones may be empty
    else:
        lengths[0:-1:2] = _composition(length - lost, spans, random)
    return np.repeat(np.arange(2 * spans + 1) % 2 == 1, lengths)


def _composition(total: int, parts: int, random: np.random.Generator) -> Ids:
    """(parts,) positive numbers that sum to `total`, all such rows equally probable."""
    cuts = np.sort(random.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)


def restore(inputs: NDArray[Any], targets: NDArray[Any], sentinel_ids: Sequence[int] | Ids) -> Ids:
    """The text that `corrupt_spans` made these of; targets may also come from a model.

    Of a sentinel that is met twice in the targets the first span counts; one that they lack stands for nothing, and
    what comes before their first sentinel is left out.
    """
    inputs, targets = np.asarray(inputs, np.int64), np.asarray(targets, np.int64)
    marks = np.asarray(sentinel_ids, np.int64)
    places = np.flatnonzero(np.isin(targets, marks))
    spans = np.split(targets, places)[1:]
    lost = {int(span[0]): span[1:] for span in reversed(spans)}
    nothing = np.empty(0, np.int64)
    parts = np.split(inputs, np.flatnonzero(np.isin(inputs, marks)))
    filled = [(lost.get(int(part[0]), nothing), part[1:]) for part in parts[1:]]
    return np.concatenate([parts[0], *(piece for pair in filled for piece in pair)])


def infill_spans(
    ids: NDArray[Any], density: float, mean_length: float, mask_id: int, random: np.random.Generator
) -> tuple[Ids, Ids]:
    """Lose a share of a text's tokens in spans of Poisson(mean_length) tokens (Lewis et al. 2020, §2.2).

    → the text with one mask in each span's place, so that a span's length must be guessed too (a span of none is a mask
    put in), and the whole text. Spans never touch.
    """
    _check(density, mean_length)
    ids = np.asarray(ids, np.int64)
    lost = min(round(len(ids) * density), len(ids) - 1)
    if lost < 1:
        return ids, ids
    kept = len(ids) - lost
    lengths = _poisson_lengths(lost, mean_length, kept + 1, random)
    before = np.sort(random.permutation(kept + 1)[: len(lengths)])  # how many kept tokens come before each span
    gone = np.zeros(len(ids), bool)
    firsts = before + np.cumsum(lengths) - lengths
    gone[np.repeat(firsts - np.cumsum(lengths) + lengths, lengths) + np.arange(lost)] = True
    return np.insert(ids[~gone], before, mask_id), ids


def _poisson_lengths(total: int, mean: float, most: int, random: np.random.Generator) -> Ids:
    """Poisson draws until they sum to `total`, the last cut short; at most `most` of them."""
    draws = random.poisson(mean, most)
    ends = np.minimum(np.cumsum(draws), total)
    ends = ends[: int(np.searchsorted(ends, total)) + 1]
    ends[-1] = total
    return np.diff(ends, prepend=0)


def delete_tokens(ids: NDArray[Any], density: float, random: np.random.Generator) -> tuple[Ids, Ids]:
    """Lose a share of a text's tokens without a trace (Lewis et al. 2020, §2.2) → what is left, and the whole text."""
    _check(density)
    ids = np.asarray(ids, np.int64)
    lost = min(round(len(ids) * density), len(ids) - 1)
    kept = np.ones(len(ids), bool)
    kept[random.permutation(len(ids))[: max(lost, 0)]] = False
    return ids[kept], ids


def _check(density: float, mean_length: float = 1.0) -> None:
    if not 0.0 < density < 1.0:
        raise UsageError(f"the share of tokens to lose must lie between 0 and 1, not at {density}")
    if not 1.0 <= mean_length < np.inf:
        raise UsageError(f"lost spans must be of 1 token or more on average, not {mean_length}")


# ---- batches -------------------------------------------------------------------------------------------------------


class Denoising:
    """Damaged pieces of documents as sources, what to make of them as targets.

    Each epoch cuts documents longer than `context` tokens elsewhere, damages everything anew, and puts pieces of like
    lengths together in batches. A document of less than two tokens is left out. A source ends in the end token; a
    target's input begins with the begin token, and the target ends in the end token. Batch number n is the same
    whenever and however often it is asked for. across_documents: pieces run on from one document into the next.
    """

    padding_id = 0  # masked, so any will do

    def __init__(
        self,
        ids: NDArray[Any],
        starts: NDArray[np.int64],
        noise: Noise,
        context: int,
        batch: int,
        seed: int,
        across_documents: bool = False,
    ) -> None:
        if context < 4:
            raise UsageError(f"pieces of {context} tokens are too short to damage; give a context of 4 or more")
        self.ids, self.noise, self.context, self.batch, self.seed = ids, noise, context, batch, seed
        starts = np.asarray(starts, np.int64)
        self.begin_id, self.end_id = int(ids[0]), int(ids[int(starts[1]) - 1])
        bounds = starts[[0, -1]] if across_documents else starts
        firsts, lengths = bounds[:-1] + 1, np.diff(bounds) - 2  # what lies between the begin and the end token
        self.firsts, self.lengths = firsts[lengths >= 2], lengths[lengths >= 2]
        if not len(self.firsts):
            raise LLMBertError("no document has two tokens or more, which damaging one needs; give more text")
        self.pieces = np.where(self.lengths > context, self.lengths // context + 1, 1)
        self.batches_per_epoch = -(-int(self.pieces.sum()) // batch)

    def iterate(self, position: int = 0) -> Iterator[PairBatch]:
        """Batches from number `position` on, without end."""
        epoch, index = divmod(position, self.batches_per_epoch)
        while True:
            firsts, sizes, groups = self._plan(epoch)
            for at in range(index, self.batches_per_epoch):
                random = np.random.default_rng((self.seed, epoch, at + 1))
                rows = [self._damaged(firsts[i], sizes[i], random) for i in groups[at]]
                yield self._collate(rows)
            epoch, index = epoch + 1, 0

    def fresh_rows(self, epoch: int) -> NDArray[np.bool_]:
        """Which rows of each batch of an epoch are pieces that no row before them was, (batches, batch): all but those
        that fill up the last batch."""
        groups = self._plan(epoch)[2]
        fresh = np.zeros(groups.size, bool)
        fresh[np.unique(groups, return_index=True)[1]] = True
        return fresh.reshape(groups.shape)

    def _plan(self, epoch: int) -> tuple[Ids, Ids, NDArray[np.int64]]:
        """Where each piece begins, how long it is, and which pieces each batch holds: (batches, batch)."""
        random = np.random.default_rng((self.seed, epoch))
        # A document of q·context + r tokens has q + 1 pieces, whose first cut leaves two tokens or more at both ends.
        rest = self.lengths % self.context
        low, high = np.maximum(rest, 2), np.minimum(self.context, self.context + rest - 2)
        cut = np.where(self.pieces > 1, random.integers(low, np.maximum(low, high) + 1), self.lengths)
        number = np.arange(self.pieces.sum()) - np.repeat(np.cumsum(self.pieces) - self.pieces, self.pieces)
        cuts, lengths = np.repeat(cut, self.pieces), np.repeat(self.lengths, self.pieces)
        begins = np.where(number > 0, cuts + (number - 1) * self.context, 0)
        sizes = np.minimum(cuts + number * self.context, lengths) - begins
        # A short last batch would weigh its pieces more: it is filled up from the epoch's first ones.
        order = np.resize(random.permutation(len(sizes)), self.batches_per_epoch * self.batch)
        pools = np.array_split(order, -(-len(order) // (POOL * self.batch)))
        order = np.concatenate([pool[np.argsort(-sizes[pool], kind="stable")] for pool in pools])
        groups = order.reshape(-1, self.batch)[random.permutation(self.batches_per_epoch)]
        return np.repeat(self.firsts, self.pieces) + begins, sizes, groups

    def _damaged(self, first: int, size: int, random: np.random.Generator) -> tuple[Ids, Ids]:
        piece = self.ids[first : first + size].astype(np.int64)
        return self.noise(piece[(piece != self.begin_id) & (piece != self.end_id)], random)

    def _collate(self, rows: list[tuple[Ids, Ids]]) -> PairBatch:
        width, time = (max(len(row[side]) for row in rows) + 1 for side in (0, 1))
        source = np.full((len(rows), width), self.padding_id)
        inputs, targets = np.full((len(rows), time), self.padding_id), np.full((len(rows), time), IGNORED)
        inputs[:, 0] = self.begin_id
        for row, (damaged, aim) in enumerate(rows):
            source[row, : len(damaged)], source[row, len(damaged)] = damaged, self.end_id
            inputs[row, 1 : len(aim) + 1] = targets[row, : len(aim)] = aim
            targets[row, len(aim)] = self.end_id
        lengths = np.array([[len(damaged) + 1] for damaged, _ in rows])
        mask = torch.from_numpy(np.arange(width) < lengths)
        return PairBatch(torch.from_numpy(source), mask, torch.from_numpy(inputs), torch.from_numpy(targets))
