"""Pairs → batches of like length, resumable from a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llmbert.data.batches import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmbert.data.pairs.store import PairShard

POOL = 64  # batches whose pairs are sorted by length together


@dataclass
class PairBatch:
    """One step's input. source (B, S) int64 with its mask (B, S), true where there is a token; inputs, targets (B, T):
    what the decoder is given, from its begin token, and what it is to predict, to its end token; IGNORED is not scored.
    groups: how many rows, one after the other, are of like length, each a micro-batch of its own; (): all are.
    """

    source: Tensor
    source_mask: Tensor
    inputs: Tensor
    targets: Tensor
    fresh: bool = True
    groups: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Targets that are scored."""
        return int((self.targets != IGNORED).sum())

    @property
    def counts(self) -> dict[str, int]:
        """What each term of the loss is divided by."""
        return {"nll": self.count}

    def split(self, parts: int) -> list[PairBatch]:
        """Micro-batches: the rows of each group in at most `parts` nearly equal ones, no wider than the group."""
        sides = (self.source, self.source_mask, self.inputs, self.targets)
        if not self.groups:
            cut = [side.tensor_split(parts) for side in sides]
            return [PairBatch(a, b, c, d, self.fresh) for a, b, c, d in zip(*cut, strict=True) if len(a)]
        found = []
        for a, b, c, d in zip(*(side.split(self.groups) for side in sides), strict=True):
            source, target = int(b.sum(1).max()), int((d != IGNORED).sum(1).max())
            narrow = PairBatch(a[:, :source], b[:, :source], c[:, :target], d[:, :target], self.fresh)
            found += narrow.split(parts)
        return found

    def to(self, device: torch.device) -> PairBatch:
        return replace(
            self,
            source=self.source.to(device),
            source_mask=self.source_mask.to(device),
            inputs=self.inputs.to(device),
            targets=self.targets.to(device),
        )


class PairBatches:
    """Batches of pairs of like length: `batch` rows each, or as many as fit `tokens` padded tokens on either side.

    Every epoch takes each pair once in a new order; of several tasks, pairs are drawn so that a task's share is its
    size to the power 1/`temperature` (Raffel et al. 2020, §3.5.2; 1: in proportion), and every batch holds some of
    each that has enough, a group of like length by task: optimisers that normalise a step's length (Adam, Muon) would
    let the task of the most batches have the last word over the others. What is longer than `longest` (source and
    target tokens, each with its end token) is cut: a source at its end, or at its start where
    `keep_end`, a target at its end and without end token then; `cut_sources` and `cut_targets` say how many.
    Batch number n is the same whenever it is asked for.
    """

    def __init__(
        self,
        pairs: PairShard,
        longest: tuple[int, int],
        seed: int,
        *,
        batch: int = 32,
        tokens: int | None = None,
        temperature: float = 1.0,
        keep_end: bool = False,
    ) -> None:
        self.pairs, self.longest, self.seed = pairs, longest, seed
        self.batch, self.tokens, self.temperature = batch, tokens, temperature
        # A source is its tokens and the end token; of a target one token is only given and one only predicted.
        sources, targets = (np.diff(np.asarray(side.starts)) - 1 for side in (pairs.source, pairs.target))
        self.cut_sources, self.cut_targets = int((sources > longest[0]).sum()), int((targets > longest[1]).sum())
        self.sources, self.targets = np.minimum(sources, longest[0]), np.minimum(targets, longest[1])
        # Without its begin token a source is what stands from one token further on.
        self.skip = 1 + (sources - self.sources if keep_end else np.zeros_like(sources))

    def iterate(self, position: int = 0) -> Iterator[PairBatch]:
        """Batches from number `position` on, without end."""
        epoch = 0
        while True:
            plan = self._plan(epoch)
            for groups in plan[position:]:
                batch = self.gather(np.concatenate(groups))
                yield replace(batch, groups=tuple(map(len, groups))) if len(groups) > 1 else batch
            position, epoch = max(0, position - len(plan)), epoch + 1

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The rows of each batch of an epoch."""
        return [np.concatenate(groups) for groups in self._plan(epoch)]

    def _plan(self, epoch: int) -> list[list[NDArray[np.int64]]]:
        """The groups of rows of like length of each batch of an epoch."""
        random = np.random.default_rng((self.seed, epoch))
        order = self._draw(random)
        tasks = np.unique(self.pairs.task[order])
        if len(tasks) == 1:
            return [[rows] for rows in self._alike(order, 1.0, random)]
        sizes = np.ones_like(order) if self.tokens is None else np.maximum(self.sources[order], self.targets[order])
        shares = [float(sizes[self.pairs.task[order] == task].sum() / sizes.sum()) for task in tasks]
        apart = [
            self._alike(order[self.pairs.task[order] == task], share, random)
            for task, share in zip(tasks, shares, strict=True)
        ]
        # Cut by its share, each task has about as many groups as the largest, or where it is rare, fewer; all are dealt
        # out evenly.
        most = len(apart[int(np.argmax(shares))])
        batches = min(len(groups) for groups in apart if len(groups) >= 0.75 * most)
        dealt: list[list[NDArray[np.int64]]] = [[] for _ in range(batches)]
        for groups in apart:
            for at, rows in enumerate(groups):
                dealt[at * batches // len(groups)].append(rows)
        return [groups for groups in dealt if groups]

    def _alike(self, order: NDArray[np.int64], share: float, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Pairs in groups of like length, each of `share` of a batch's size, the groups in random order."""
        batch = max(1, int(share * self.batch))
        tokens = None if self.tokens is None else max(1, int(share * self.tokens))
        typical = batch if tokens is None else max(1, tokens // max(1, int(self.targets[order].mean())))
        groups = []
        for first in range(0, len(order), POOL * typical):
            pool = order[first : first + POOL * typical]
            groups += self._cut(pool[np.lexsort((self.sources[pool], self.targets[pool]))], batch, tokens)
        return [groups[i] for i in random.permutation(len(groups))]

    def _draw(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The pairs of an epoch in their order."""
        tasks = np.bincount(self.pairs.task)
        if len(tasks) == 1 or self.temperature == 1.0:
            return random.permutation(self.pairs.pairs)
        shares = tasks ** (1 / self.temperature)
        wanted = np.maximum(1, np.round(shares / shares.sum() * self.pairs.pairs)).astype(np.int64)
        drawn = []
        for task, count in enumerate(wanted):
            own = np.flatnonzero(self.pairs.task == task)
            rounds = [random.permutation(own) for _ in range(-(-int(count) // max(1, len(own))))] if len(own) else []
            drawn.append(np.concatenate(rounds)[:count] if rounds else own)
        return random.permutation(np.concatenate(drawn))

    def _cut(self, rows: NDArray[np.int64], batch: int, tokens: int | None) -> list[NDArray[np.int64]]:
        """Sorted rows in groups of `batch`, or of at most `tokens` padded tokens on either side."""
        if tokens is None:
            return [rows[i : i + batch] for i in range(0, len(rows), batch)]
        found, first, widest = [], 0, 0
        lengths = np.maximum(self.sources[rows], self.targets[rows]).tolist()
        for at, length in enumerate(lengths):
            widest = max(widest, length)
            if at > first and widest * (at - first + 1) > tokens:
                found.append(rows[first:at])
                first, widest = at, length
        return [*found, rows[first:]]

    def gather(self, rows: NDArray[np.int64]) -> PairBatch:
        """The batch of some pairs."""
        source, source_mask = _block(self.pairs.source, rows, self.sources[rows], self.skip[rows, None])
        inputs, inside = _block(self.pairs.target, rows, self.targets[rows], 0)
        targets, _ = _block(self.pairs.target, rows, self.targets[rows], 1)
        inputs, source = inputs.masked_fill(~inside, 0), source.masked_fill(~source_mask, 0)
        # A source that was cut still says that it has ended.
        last = self.pairs.source.ids[np.asarray(self.pairs.source.starts)[rows + 1] - 1].astype(np.int64)
        source[torch.arange(len(rows)), source_mask.sum(1) - 1] = torch.from_numpy(last)
        return PairBatch(source, source_mask, inputs, targets.masked_fill(~inside, IGNORED))


def _block(side: Any, rows: NDArray[np.int64], lengths: NDArray[np.int64], skip: Any) -> tuple[Tensor, Tensor]:
    """Tokens [skip, skip + length) of some documents, (B, longest) int64, and where each row holds some."""
    places = np.arange(int(lengths.max()))
    spans = np.minimum(np.asarray(side.starts)[rows, None] + skip + places, len(side.ids) - 1)
    return torch.from_numpy(side.ids[spans].astype(np.int64)), torch.from_numpy(places < lengths[:, None])
