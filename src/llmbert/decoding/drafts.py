"""Drafts: a cheap guess at the next tokens, which the model then checks all at once (speculative decoding)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llmbert.protocols import Stepper, UsageError

MOST_CONTEXTS = 1 << 17  # whose likeliest token is remembered
FURTHEST = 4096  # tokens that a lookup looks back
NUMBER = 8  # bytes of a token's number


@dataclass(frozen=True)
class Proposal:
    """Tokens that may come next. distributions: (tokens, V) what each was drawn from; None: each was a sure guess."""

    tokens: list[int]
    distributions: Tensor | None = None


class Draft(Protocol):
    """Guesses up to `count` tokens behind `tokens` (begin token left out), drawn by `generator`, or the likeliest
    ones where there is none."""

    def propose(self, tokens: Sequence[int], count: int, generator: torch.Generator | None) -> Proposal: ...


class LookupDraft:
    """What followed the last few tokens when they last stood in the same text: prompt lookup (Saxena 2023).

    longest, shortest: tokens that must agree, the longest agreement first. It looks back FURTHEST tokens.
    """

    def __init__(self, longest: int = 4, shortest: int = 2) -> None:
        if not 1 <= shortest <= longest:
            raise UsageError(f"a lookup agrees on 1 token or more, from {shortest} to {longest} will not do")
        self.longest, self.shortest = longest, shortest

    def propose(self, tokens: Sequence[int], count: int, generator: torch.Generator | None) -> Proposal:
        """The tokens behind the last earlier place that ends like `tokens`; none where there is no such place."""
        text = list(tokens[-FURTHEST:])
        numbers = array("q", text).tobytes()  # in which bytes are looked for a hundred times quicker than numbers
        for size in range(min(self.longest, len(text) - 1), self.shortest - 1, -1):
            tail = numbers[-NUMBER * size :]
            place = numbers.rfind(tail, 0, len(numbers) - NUMBER)
            while place % NUMBER and place > 0:  # not at a number's beginning
                place = numbers.rfind(tail, 0, place + len(tail) - 1)
            if place >= 0:
                end = place // NUMBER + size
                return Proposal(text[end : end + count])
        return Proposal([])


class NGramDraft:
    """Guesses by a model that looks at few tokens only, such as an n-gram: each context is asked once and remembered.

    order: tokens that it looks at, the next one included; begin_id: what its texts begin with; never_ids: not worth a
    guess, since they are never written; memory: numbers of remembered distributions at most.
    """

    def __init__(
        self,
        model: Stepper,
        order: int,
        begin_id: int | None,
        never_ids: Sequence[int] = (),
        memory: int = 1 << 24,
    ) -> None:
        if order < 2:
            raise UsageError(f"a draft looks at one token before the next at least; order {order} looks at none")
        self.model, self.order, self.begin_id, self.memory = model, order, begin_id, memory
        self.never_ids = sorted({int(token) for token in never_ids if token >= 0})
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._likeliest: dict[tuple[int, ...], int] = {}

    def propose(self, tokens: Sequence[int], count: int, generator: torch.Generator | None) -> Proposal:
        """`count` tokens, each behind the one before."""
        begin = [] if self.begin_id is None else [self.begin_id]
        context = (*begin, *tokens)[-(self.order - 1) :]
        found: list[int] = []
        rows: list[Tensor] = []
        for _ in range(count):
            if generator is None:
                token = self._best(context)
            else:
                probabilities = self._known.get(context)
                if probabilities is None:
                    probabilities = self._remember(context)
                if not bool(probabilities.any()):  # nothing that may be written follows there
                    break
                rows.append(probabilities)
                token = int(torch.multinomial(probabilities, 1, generator=generator))
            found.append(token)
            context = (*context, token)[-(self.order - 1) :]
        return Proposal(found, torch.stack(rows) if rows else None)

    def _best(self, context: tuple[int, ...]) -> int:
        token = self._likeliest.get(context)
        if token is None:
            if len(self._likeliest) >= MOST_CONTEXTS:
                self._likeliest.clear()
            token = self._likeliest[context] = int(self._distribution(context).argmax())
        return token

    def _remember(self, context: tuple[int, ...]) -> Tensor:
        if (len(self._known) + 1) * self.model.vocabulary_size > self.memory:
            self._known.clear()
        found = self._known[context] = self._distribution(context)
        return found

    def _distribution(self, context: tuple[int, ...]) -> Tensor:
        """p(next token | context) among those that may be written, (V,) float32; zeros where there is none."""
        logits, _ = self.model.step(torch.tensor([context]), self.model.start(1))
        likely = logits[0, -1].float()
        likely[self.never_ids] = -torch.inf
        return likely.softmax(-1).nan_to_num(nan=0.0)
