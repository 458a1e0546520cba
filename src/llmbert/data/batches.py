"""Token shards → batches: windows for attention, carried streams for recurrence, each resumable from a number."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = -100  # a target that is not scored: padding, and the begin token after a document's end


@dataclass
class Batch:
    """One step's input. inputs, targets: (B, T) int64, targets IGNORED where nothing is scored.

    segments: (B, T) document numbers along each row where a row holds more than one, otherwise None;
    fresh: true where a carried memory must be forgotten before this batch. `whole`: all targets are scored, which is
    looked at once, before the batch goes to a GPU that would have to be waited for.
    """

    inputs: Tensor
    targets: Tensor
    segments: Tensor | None = None
    fresh: bool = True
    whole: bool = field(init=False)

    def __post_init__(self) -> None:
        self.whole = bool((self.targets != IGNORED).all())

    @property
    def count(self) -> int:
        """Targets that are scored."""
        return int((self.targets != IGNORED).sum())

    @property
    def counts(self) -> dict[str, int]:
        """What each term of the loss is divided by."""
        return {"nll": self.count}

    def split(self, parts: int) -> list[Self]:
        """Micro-batches: the rows in at most `parts` nearly equal groups."""
        cuts = [slice(int(r[0]), int(r[-1]) + 1) for r in torch.arange(len(self.inputs)).tensor_split(parts) if len(r)]
        return [self._with(itemgetter(rows)) for rows in cuts]

    def to(self, device: torch.device) -> Self:
        """The same on a device; a GPU copies while the program goes on."""
        moved = copy.copy(self)
        for name in ("inputs", "targets", "segments"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.device != device:
                pinned = tensor.pin_memory() if device.type == "cuda" else tensor
                setattr(moved, name, pinned.to(device, non_blocking=True))
        return moved

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with its tensors changed."""
        segments = None if self.segments is None else change(self.segments)
        return replace(self, inputs=change(self.inputs), targets=change(self.targets), segments=segments)


class Windows:
    """Windows of `context` tokens over all documents laid end to end, in a new order and phase each epoch.

    Batch number n is the same whenever and however often it is asked for, so a resumed run goes on exactly.
    begins_end: the begin token ends documents too, as in GPT-2.
    """

    def __init__(
        self,
        ids: NDArray[Any],
        context: int,
        batch: int,
        seed: int,
        begin_id: int,
        across_documents: bool = False,
        begins_end: bool = False,
    ) -> None:
        self.ids, self.context, self.batch, self.seed = ids, context, batch, seed
        self.begin_id, self.across_documents, self.begins_end = begin_id, across_documents, begins_end
        # One window less than fit, so that every epoch can begin at another place.
        self.windows = max(1, (len(ids) - 1) // context - 1)
        self.batches_per_epoch = -(-self.windows // batch)

    def iterate(self, position: int = 0) -> Iterator[Batch]:
        """Batches from number `position` on, without end."""
        epoch, index = divmod(position, self.batches_per_epoch)
        while True:
            random = np.random.default_rng((self.seed, epoch))
            slack = len(self.ids) - 1 - self.windows * self.context
            phase = int(random.integers(max(0, slack) + 1))  # up to where the last window ends the text
            # A short last batch would weigh its windows more: it is filled up from the epoch's first ones.
            order = np.resize(random.permutation(self.windows), self.batches_per_epoch * self.batch)
            for at in range(index, self.batches_per_epoch):
                yield self._gather(phase + self.context * order[at * self.batch : (at + 1) * self.batch])
            epoch, index = epoch + 1, 0

    def _gather(self, firsts: NDArray[np.int64]) -> Batch:
        spans = firsts[:, None] + np.arange(self.context + 1)
        block = torch.from_numpy(self.ids[np.minimum(spans, len(self.ids) - 1)].astype(np.int64))
        inputs, targets = block[:, :-1].contiguous(), block[:, 1:].clone()
        # Where one token ends a text and begins the next, only the second of the two is given.
        given = targets == self.begin_id
        targets[given & (inputs == self.begin_id) if self.begins_end else given] = IGNORED
        targets[torch.from_numpy(spans[:, 1:] >= len(self.ids))] = IGNORED
        begins = inputs == self.begin_id
        many = not self.across_documents and bool(begins[:, 1:].any())
        return Batch(inputs, targets, begins.cumsum(1) if many else None)


class CarriedStreams:
    """`batch` streams read side by side, `context` tokens a step, for a memory that is carried on.

    Documents longer than an even share of the text are cut into streams of that share; the streams are dealt out in
    groups of `batch`, like lengths together, in a new order each epoch, and a group begins with a fresh memory. So
    one long document becomes `batch` parallel streams, and many short ones are never padded much. A window is never
    longer than `context` and never reaches past the end of its document. Of streams that are shorter a group has as
    many as fill `batch` rows of `context` tokens: a step of few tokens costs nearly as much and moves the model as far.
    """

    def __init__(self, ids: NDArray[Any], starts: NDArray[np.int64], context: int, batch: int, seed: int) -> None:
        self.ids, self.context, self.batch, self.seed = ids, context, batch, seed
        starts = np.asarray(starts, dtype=np.int64)
        inputs = starts[1:] - starts[:-1] - 1  # a document's last token is a target only
        share = max(1, -(-int(inputs.sum()) // batch))
        pieces = -(-inputs // share)
        within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self.firsts = np.repeat(starts[:-1], pieces) + share * within
        self.sizes = np.minimum(share, np.repeat(inputs, pieces) - share * within)

    def iterate(self, position: int = 0) -> Iterator[Batch]:
        """Batches from number `position` on, without end."""
        epoch = 0
        while True:
            plan = self._plan(epoch)
            for group, at, size in plan[position:]:
                yield self._gather(group, at, size)
            position, epoch = max(0, position - len(plan)), epoch + 1

    @property
    def batches_per_epoch(self) -> int:
        """Of the first epoch; later ones differ a little where documents are many."""
        return len(self._plan(0))

    def _plan(self, epoch: int) -> list[tuple[NDArray[np.int64], int, int]]:
        """Each step as (streams that are read, how far into them, how many tokens of each at most)."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.sizes))
        pools = np.array_split(order, -(-len(order) // (64 * self.batch)))
        groups = [group for pool in pools for group in self._groups(pool[np.argsort(-self.sizes[pool], kind="stable")])]
        plan = []
        for i in random.permutation(len(groups)):
            longest = int(self.sizes[groups[i]].max())
            size = -(-longest // max(1, -(-longest // self.context)))  # windows of one size: none is a few tokens long
            plan += [(groups[i], at, size) for at in range(0, longest, max(1, size))]
        return plan

    def _groups(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Streams, the longest first, in groups that fill a step; a small rest goes with those before it."""
        first = 0
        while first < len(order):
            longest = max(1, int(self.sizes[order[first]]))
            rows = max(self.batch, self.batch * self.context // longest)
            if longest <= self.context and len(order) - first < 1.5 * rows:
                rows = len(order) - first
            yield order[first : first + rows]
            first += rows

    def _gather(self, group: NDArray[np.int64], at: int, size: int) -> Batch:
        sizes = np.clip(self.sizes[group] - at, 0, size)
        time = int(sizes.max())
        spans = np.minimum(self.firsts[group, None] + at + np.arange(time + 1), len(self.ids) - 1)
        block = torch.from_numpy(self.ids[spans].astype(np.int64))
        targets = block[:, 1:].clone()
        targets[torch.from_numpy(np.arange(time) >= sizes[:, None])] = IGNORED
        return Batch(block[:, :-1].contiguous(), targets, None, at == 0)


class Pieces:
    """Batches of whole texts, each to be read by itself.

    firsts, sizes: where the first input of each text lies in `ids`, and how many it has. Like lengths share a batch;
    every epoch has a new order. A short last batch would weigh its texts more: it is filled up from the epoch's first
    ones. Batch number n is the same whenever and however often it is asked for.
    """

    def __init__(
        self, ids: NDArray[Any], firsts: NDArray[np.int64], sizes: NDArray[np.int64], batch: int, seed: int
    ) -> None:
        self.ids, self.firsts, self.sizes, self.seed = ids, firsts, sizes, seed
        self.batch = min(batch, len(sizes))
        self.batches_per_epoch = -(-len(self.sizes) // self.batch)

    def iterate(self, position: int = 0) -> Iterator[Batch]:
        """Batches from number `position` on, without end."""
        epoch, index = divmod(position, self.batches_per_epoch)
        while True:
            random = np.random.default_rng((self.seed, epoch))
            order = np.resize(random.permutation(len(self.sizes)), self.batches_per_epoch * self.batch)
            pools = np.split(order, range(64 * self.batch, len(order), 64 * self.batch))
            order = np.concatenate([pool[np.argsort(-self.sizes[pool], kind="stable")] for pool in pools])
            groups = order.reshape(-1, self.batch)[random.permutation(self.batches_per_epoch)]
            for group in groups[index:]:
                yield self._gather(self.firsts[group], self.sizes[group])
            epoch, index = epoch + 1, 0

    def _gather(self, firsts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Batch:
        spans = np.minimum(firsts[:, None] + np.arange(int(sizes.max()) + 1), len(self.ids) - 1)
        block = torch.from_numpy(self.ids[spans].astype(np.int64))
        outside = torch.from_numpy(np.arange(int(sizes.max())) >= sizes[:, None])
        return Batch(block[:, :-1].masked_fill(outside, 0), block[:, 1:].masked_fill(outside, IGNORED))
