"""A stepper's state and the rows in it: rows join, take a token in, leave, fork, and slide at the model's reach."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
    its state has taken in, begin included; `room`: most tokens to be written behind the prompt."""

    tokens: list[int]
    condition: Condition | None = None
    taken: int = 0
    room: int | None = None


R = TypeVar("R", bound=Row)


class RunningBatch(Generic[R]):
    """Rows of one model that step together though they came at different times.

    Every row is prefilled with the begin token (begin_id None: without one) and then its tokens; rows of equally many
    tokens share a prefill, whatever their conditions, as long as these are of one kind. A row whose state is as long as
    the model reaches (`max_length`) slides: it is prefilled anew with the begin token and its last `max_length // 2`
    tokens, which costs one prefill every `max_length // 2` tokens. Of a prompt longer than that as much of its end is
    taken in as leaves room for what is to be written, half of what the model reaches at least.

    Rows that begin alike are prefilled once. prefixes: so many states of earlier prompts are kept, and a prompt that
    begins like one of them takes in only what is new.
    """

    def __init__(
        self, model: Stepper, begin_id: int | None, device: torch.device | str | None = None, prefixes: int = 0
    ):
        self.model = model
        self.known = Prefixes(prefixes)
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
        for some, keeps in ((slid, False), (joining, True)):
            for group in _alike(some, self.window):
                logits, state = self._prefill(group, keeps)
                self.state = state if self.state is None else self.state.extend(state)
                self.rows += group
                parts.append(logits)
        return self._checked(parts[0] if len(parts) == 1 else torch.cat(parts))

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
        largest = logits.amax(-1)  # not a number where any is none
        if bool((torch.isnan(largest) | torch.isposinf(largest)).any()):
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
        kept = reach // 2
        if not row.taken and row.room is not None:
            kept = max(kept, reach - len(self.begin) - row.room)
        return [*self.begin, *row.tokens[-kept:]]

    def _step(self) -> Tensor:
        assert self.state is not None
        ids = torch.tensor([row.tokens[-1] for row in self.rows], device=self.device)[:, None]
        logits, self.state = self.model.step(ids, self.state)
        for row in self.rows:
            row.taken += 1
        return logits[:, -1].float()

    def _prefill(self, rows: list[R], keeps: bool) -> tuple[Tensor, State]:
        """Rows of equally long windows, equal ones once; long ones in pieces, so that their logits need no more than
        64 MiB. keeps: these are prompts, which others may begin like."""
        windows = [tuple(self.window(row)) for row in rows]
        plain = all(row.condition is None for row in rows)
        distinct = list(dict.fromkeys(windows)) if plain else windows
        for row in rows:
            row.taken = len(windows[0])
        if plain and keeps and self.known.most:
            logits, state = self._prefill_known(distinct)
        else:
            conditions = stack_conditions([row.condition for row in rows]) if not plain else None
            logits, state = self._take_in(distinct, self.model.start(len(distinct), conditions))
        if len(distinct) < len(windows):
            of = torch.tensor([distinct.index(window) for window in windows], device=self.device)
            logits, state = logits[of], state.select(of)
        return logits, state

    def _take_in(self, windows: Sequence[Sequence[int]], state: State) -> tuple[Tensor, State]:
        """What follows equally long windows, (B, V), behind a state of as many rows."""
        ids = torch.tensor(windows, device=self.device)
        take_in = getattr(self.model, "take_in", None)  # where a model can leave out the logits in between
        if take_in is not None:
            return take_in(ids, state)
        piece = max(1, _PREFILL_LOGITS // (len(windows) * self.model.vocabulary_size))
        for part in ids.split(piece, dim=1):
            logits, state = self.model.step(part, state)
        return logits[:, -1].float(), state

    def _prefill_known(self, windows: Sequence[tuple[int, ...]]) -> tuple[Tensor, State]:
        """Windows one by one, each behind the longest beginning that is known, and known from then on."""
        found: list[tuple[Tensor, State]] = []
        for window in windows:
            state, known = self.known.find(window)
            logits, state = self._take_in([window[known:]], self.model.start(1) if state is None else state)
            self.known.keep(window, state)
            found.append((logits, state))
        (first, state), *others = found
        for _, other in others:
            state = state.extend(other)
        return torch.cat([first, *(logits for logits, _ in others)]), state


class Prefixes:
    """States of the last few prompts, each of one row, by their tokens; `saved` counts tokens that were not taken in
    anew. A model that does not remember far enough back to begin in the middle of a prompt shares whole ones alone."""

    LEAST = 8  # tokens in common that are worth a copy

    def __init__(self, most: int) -> None:
        self.most, self.saved = most, 0
        self._states: dict[tuple[int, ...], State] = {}

    def find(self, window: tuple[int, ...]) -> tuple[State | None, int]:
        """A state that has taken in the longest known beginning of a window, and how many tokens that is; a token at
        least is left to be taken in. (None, 0) where nothing is worth it."""
        shared = {known: min(_common(known, window), len(window) - 1) for known in self._states}
        for known, length in sorted(shared.items(), key=lambda entry: -entry[1]):
            if length < self.LEAST:
                break
            try:
                state = copy.deepcopy(self._states[known]).rewind(len(known) - length)
            except LLMBertError:
                continue
            self._states[known] = self._states.pop(known)  # used last
            self.saved += length
            return state, length
        return None, 0

    def keep(self, window: tuple[int, ...], state: State) -> None:
        """Remember a copy of a state that has taken in a window, and forget what was used longest ago."""
        if len(window) < self.LEAST:
            return
        self._states.pop(window, None)
        self._states[window] = copy.deepcopy(state)
        while len(self._states) > self.most:
            del self._states[next(iter(self._states))]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


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


def modules_of(model: object) -> tuple[torch.nn.Module, ...]:
    """All that may be in training of a model; () for one that is no module."""
    return tuple(model.modules()) if isinstance(model, torch.nn.Module) else ()


def evaluating(model: object) -> AbstractContextManager[None]:
    """No gradients and no dropout within; modules that were in training are put back as they were."""
    return resting(modules_of(model))


@contextmanager
def resting(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """`evaluating` for whoever comes often: to look for a model's modules takes as long as a small step."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
