"""A stepper's state and the rows in it: rows join, take a token in, leave, fork, and slide at the model's reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

import torch
from torch import Tensor

from llmbert.decoding.conditions import kind_of, stack_conditions
from llmbert.protocols import Condition, LLMBertError, State, Stepper, UsageError

_PREFILL_LOGITS = 2**24  # most logits of a prefill held at once (64 MiB)


@dataclass
class Row:
    """One text under way: `tokens` are its prompt and what was generated, begin left out; `taken` counts the tokens
    its state has taken in, begin included."""

    tokens: list[int]
    condition: Condition | None = None
    taken: int = 0


R = TypeVar("R", bound=Row)


class RunningBatch(Generic[R]):
    """Rows of one model that step together though they came at different times.

    Every row is prefilled with the begin token (begin_id None: without one) and then its tokens; rows of equally many
    tokens share a prefill, whatever their conditions, as long as these are of one kind. A row whose state is as long as
    the model reaches (`max_length`), and a prompt longer than that, slides: it is prefilled anew with the begin token
    and its last `max_length // 2` tokens, which costs one prefill every `max_length // 2` tokens.
    """

    def __init__(self, model: Stepper, begin_id: int | None, device: torch.device | str | None = None):
        self.model = model
        self.begin = [] if begin_id is None else [begin_id]
        self.device = torch.device(device) if device is not None else device_of(model)
        self.rows: list[R] = []
        self.state: State | None = None

    def advance(self, joining: Sequence[R] = ()) -> Tensor:
        """Let every row take in its last token, and `joining` rows all of theirs; return the next token's logits.

        Returns (B, V) float32 in the order of `rows`, which this call may change. Raises LLMBertError where the
        model's figures are not numbers.
        """
        reach = self.model.max_length
        stay = [index for index, row in enumerate(self.rows) if reach is None or row.taken < reach]
        slid = [row for row in self.rows if reach is not None and row.taken >= reach]
        self.keep(stay, [self.rows[index] for index in stay])
        parts = [self._step()] if self.rows else []
        for group in _alike([*slid, *joining], self.window):
            logits, state = self._prefill(group)
            self.state = state if self.state is None else self.state.extend(state)
            self.rows += group
            parts.append(logits)
        return self._checked(torch.cat(parts))

    def look_ahead(self, guesses: Sequence[Sequence[int]]) -> Tensor | None:
        """Let every row take in its last token and a guess at those behind it, all at once: logits (B, T, V) of what
        follows each, T being one more than the longest guess; None where a row would outgrow the model's reach.

        Places behind a row's own guess mean nothing. The rows must then `settle` on how many of them they keep.
        """
        reach, longest = self.model.max_length, max(map(len, guesses))
        if reach is not None and max(row.taken for row in self.rows) + longest + 1 > reach:
            return None
        assert self.state is not None
        padded = [
            [row.tokens[-1], *guess] + [0] * (longest - len(guess))
            for row, guess in zip(self.rows, guesses, strict=True)
        ]
        logits, self.state = self.model.step(torch.tensor(padded, device=self.device), self.state)
        return self._checked(logits.float())

    def settle(self, kept: Sequence[int], looked: int) -> None:
        """Of the `looked` tokens that every row has just taken in, row i keeps the first kept[i]."""
        assert self.state is not None
        back = torch.tensor([looked - count for count in kept], device=self.device)
        if bool(back.any()):
            self.state = self.state.rewind(back)
        for row, count in zip(self.rows, kept, strict=True):
            row.taken += count

    def _checked(self, logits: Tensor) -> Tensor:
        if bool(torch.isnan(logits).any() | torch.isposinf(logits).any()):
            raise LLMBertError("The model's predictions are not numbers; its training diverged: train it again.")
        return logits

    def keep(self, indices: Sequence[int], rows: list[R]) -> None:
        """Go on with `rows`, whose states are those at `indices` (an index may come twice or not at all)."""
        if not indices:
            self.state = None
        elif self.state is not None and list(indices) != list(range(len(self.rows))):
            self.state = self.state.select(torch.tensor(indices, device=self.device))
        self.rows = rows

    def window(self, row: Row) -> list[int]:
        """The ids a row is prefilled with."""
        reach, whole = self.model.max_length, [*self.begin, *row.tokens]
        if not whole:
            raise UsageError("There is nothing to begin with: give a prompt of at least one token.")
        if reach is None or len(whole) <= reach:
            return whole
        if reach == 1:  # no room for a begin token and a text
            return row.tokens[-1:]
        return [*self.begin, *row.tokens[-(reach // 2) :]]

    def _step(self) -> Tensor:
        assert self.state is not None
        ids = torch.tensor([row.tokens[-1:] for row in self.rows], device=self.device)
        logits, self.state = self.model.step(ids, self.state)
        for row in self.rows:
            row.taken += 1
        return logits[:, -1].float()

    def _prefill(self, rows: list[R]) -> tuple[Tensor, State]:
        """Rows of equally long windows; long ones in pieces, so that their logits need no more than 64 MiB."""
        ids = torch.tensor([self.window(row) for row in rows], device=self.device)
        state = self.model.start(len(rows), stack_conditions([row.condition for row in rows]))
        piece = max(1, _PREFILL_LOGITS // (len(rows) * self.model.vocabulary_size))
        for part in ids.split(piece, dim=1):
            logits, state = self.model.step(part, state)
        for row in rows:
            row.taken = ids.shape[1]
        return logits[:, -1].float(), state


def _alike(rows: Sequence[R], window: Callable[[R], list[int]]) -> Iterator[list[R]]:
    """Rows that can be prefilled together: as long as each other, with conditions of one kind."""

    def key(row: R) -> tuple[tuple[bool, bool, bool], int]:
        return kind_of(row.condition), len(window(row))

    for _, group in groupby(sorted(rows, key=key), key=key):
        yield list(group)


def device_of(model: object) -> torch.device:
    """Where a model's weights lie; the CPU for models without any."""
    if isinstance(model, torch.nn.Module):
        for weight in model.parameters():
            return weight.device
    return torch.device("cpu")


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """No gradients and no dropout within; modules that were in training are put back as they were."""
    modules = model.modules() if isinstance(model, torch.nn.Module) else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
