"""Rows of token ids → batches for a head, each resumable from a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llmbert.data.batches import IGNORED
from llmbert.data.labelled.encode import LabelledRows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class LabelledBatch:
    """Rows for one head. W: words of the longest row.

    ids (B, T) int64 and mask (B, T), true where there is a token; types (B, T), 1 from the second text on, or None;
    other: ids and mask of second texts that are encoded apart, or None; words (B, W) int64: at which token each word is
    read, and word_mask (B, W), or None; targets: (B,) int64 classes, (B, L) float32 several classes, (B, W) int64 tags,
    IGNORED beyond the last word, (B,) float32 numbers, or None.
    """

    head: str
    ids: Tensor
    mask: Tensor
    types: Tensor | None = None
    other: tuple[Tensor, Tensor] | None = None
    words: Tensor | None = None
    word_mask: Tensor | None = None
    targets: Tensor | None = None
    fresh: bool = True

    @property
    def count(self) -> int:
        """Tokens."""
        return int(self.mask.sum()) + (int(self.other[1].sum()) if self.other else 0)

    @property
    def counts(self) -> dict[str, int]:
        """What the head's loss is divided by: words that are tagged, or texts."""
        return {self.head: int(self.word_mask.sum()) if self.word_mask is not None else len(self.ids)}

    def _each(self, change: Callable[[Tensor], Tensor]) -> LabelledBatch:
        def each(part: Tensor | None) -> Tensor | None:
            return None if part is None else change(part)

        return LabelledBatch(
            self.head,
            change(self.ids),
            change(self.mask),
            each(self.types),
            (change(self.other[0]), change(self.other[1])) if self.other else None,
            each(self.words),
            each(self.word_mask),
            each(self.targets),
        )

    def split(self, parts: int) -> list[LabelledBatch]:
        """Micro-batches: the rows in at most `parts` nearly equal groups."""
        groups = [group for group in torch.arange(len(self.ids)).tensor_split(parts) if len(group)]
        return [self._rows(group) for group in groups]

    def _rows(self, group: Tensor) -> LabelledBatch:
        return self._each(lambda part: part[group.to(part.device)])

    def to(self, device: torch.device) -> LabelledBatch:
        return self._each(lambda part: part.to(device))


def gather_batch(rows: LabelledRows, some: Sequence[int], head: str, padding_id: int) -> LabelledBatch:
    """The rows numbered `some`, padded on the right to the longest."""
    ids, mask = _padded([rows.ids[i] for i in some], padding_id)
    batch = LabelledBatch(head, ids, mask)
    if rows.second is not None:
        begins = torch.tensor([rows.second[i] for i in some])
        batch.types = ((torch.arange(ids.shape[1]) >= begins[:, None]) & mask).long()
    if rows.others is not None:
        batch.other = _padded([rows.others[i] for i in some], padding_id)
    if rows.words is not None:
        batch.words, batch.word_mask = _padded([rows.words[i] for i in some], 0)
    if rows.targets is None:
        return batch
    if rows.words is not None:
        batch.targets = _padded([rows.targets[i] for i in some], IGNORED)[0]
    else:
        batch.targets = torch.from_numpy(np.array([rows.targets[i] for i in some]))
        batch.targets = batch.targets.float() if batch.targets.is_floating_point() else batch.targets.long()
    return batch


def _padded(rows: Sequence[NDArray[Any]], filling: int) -> tuple[Tensor, Tensor]:
    """(B, T) int64 and where it is filled in, (B, T) bool."""
    sizes = np.array([len(row) for row in rows])
    mask = np.arange(sizes.max()) < sizes[:, None]
    block = np.full(mask.shape, filling, dtype=np.int64)
    block[mask] = np.concatenate(rows)
    return torch.from_numpy(block), torch.from_numpy(mask)


class LabelledBatches:
    """Batches of `batch` rows for one head, like lengths together, in a new order each epoch.

    Batch number n is the same whenever and however often it is asked for. A short last batch would weigh its rows
    more: it is filled up from the epoch's first ones.
    """

    def __init__(self, rows: LabelledRows, batch: int, seed: int, head: str, padding_id: int = 0) -> None:
        self.rows, self.batch, self.seed = rows, min(batch, len(rows)), seed
        self.head, self.padding_id = head, padding_id
        self.sizes = np.array([len(ids) for ids in rows.ids])
        self.batches_per_epoch = -(-len(rows) // self.batch)

    def iterate(self, position: int = 0) -> Iterator[LabelledBatch]:
        """Batches from number `position` on, without end."""
        epoch, index = divmod(position, self.batches_per_epoch)
        while True:
            for group in self._plan(epoch)[index:]:
                yield gather_batch(self.rows, group.tolist(), self.head, self.padding_id)
            epoch, index = epoch + 1, 0

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        random = np.random.default_rng((self.seed, epoch))
        order = np.resize(random.permutation(len(self.rows)), self.batches_per_epoch * self.batch)
        pools = np.split(order, range(64 * self.batch, len(order), 64 * self.batch))
        order = np.concatenate([pool[np.argsort(-self.sizes[pool], kind="stable")] for pool in pools])
        groups = order.reshape(-1, self.batch)
        return [groups[i] for i in random.permutation(len(groups))]


class MixedBatches:
    """Batches of several tasks in turn, each of one task, drawn with p ∝ rows^(1/temperature) (Raffel et al. 2020,
    §3.5.2): temperature 1 draws in proportion to size, infinity evenly.

    Batch number n is the same whenever and however often it is asked for.
    """

    BLOCK = 1024

    def __init__(self, parts: Sequence[LabelledBatches], temperature: float, seed: int) -> None:
        self.parts, self.seed = list(parts), seed
        sizes = np.array([len(part.rows) for part in parts], dtype=np.float64)
        shares = (sizes / sizes.max()) ** (1 / temperature)
        self.shares = shares / shares.sum()
        self.batches_per_epoch = max(1, round(sum(part.batches_per_epoch for part in parts)))

    def iterate(self, position: int = 0) -> Iterator[LabelledBatch]:
        """Batches from number `position` on, without end."""
        block, index = divmod(position, self.BLOCK)
        taken = np.zeros(len(self.parts), dtype=np.int64)
        for earlier in range(block):
            taken += np.bincount(self._choices(earlier), minlength=len(self.parts))
        taken += np.bincount(self._choices(block)[:index], minlength=len(self.parts))
        streams = [part.iterate(int(n)) for part, n in zip(self.parts, taken, strict=True)]
        while True:
            for choice in self._choices(block)[index:]:
                yield next(streams[choice])
            block, index = block + 1, 0

    def _choices(self, block: int) -> NDArray[np.int64]:
        random = np.random.default_rng((self.seed, block))
        return random.choice(len(self.parts), size=self.BLOCK, p=self.shares)
