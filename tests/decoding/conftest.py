"""Small steppers that compute every row exactly, whatever stands beside it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

PADDING, UNKNOWN, BEGIN, END = range(4)


@dataclass
class TableState:
    last: Tensor  # (B, 2): the last two tokens, the older first; BEGIN before the text
    lengths: Tensor
    base: Tensor  # (B, V) added to every row's logits: its condition

    def select(self, rows):
        return TableState(self.last[rows], self.lengths[rows], self.base[rows])

    def extend(self, other):
        pairs = [(self.last, other.last), (self.lengths, other.lengths), (self.base, other.base)]
        return TableState(*(torch.cat(pair) for pair in pairs))

    def rewind(self, tokens):
        raise NotImplementedError


class TableStepper:
    """Logits looked up by the last two tokens (V, V, V): exact, so that batches can be compared bit for bit.

    A text longer than `max_length` fails, as one past the last position would.
    """

    def __init__(self, table: Tensor, max_length: int | None = None):
        self.table = table
        self.vocabulary_size = table.shape[0]
        self.max_length = max_length
        self.steps: list[tuple[int, int]] = []

    def start(self, batch, condition=None):
        base = torch.zeros(batch, self.vocabulary_size)
        if condition is not None:
            base = torch.nn.functional.one_hot(condition.label, self.vocabulary_size) * 50.0
        return TableState(torch.full((batch, 2), BEGIN), torch.zeros(batch, dtype=torch.int64), base)

    def step(self, ids, state):
        self.steps.append(tuple(ids.shape))
        assert state.lengths.shape[0] == ids.shape[0]
        if self.max_length is not None:
            assert int(state.lengths.max()) + ids.shape[1] <= self.max_length, "past the model's reach"
        logits, last = [], state.last
        for column in ids.T:
            last = torch.stack([last[:, 1], column], dim=1)
            logits.append(self.table[last[:, 0], last[:, 1]] + state.base)
        return torch.stack(logits, dim=1), TableState(last, state.lengths + ids.shape[1], state.base)

    def logits(self, ids, condition=None):
        return self.step(ids, self.start(len(ids), condition))[0]


@dataclass
class HiddenState:
    hidden: Tensor
    lengths: Tensor

    def select(self, rows):
        return HiddenState(self.hidden[rows], self.lengths[rows])

    def extend(self, other):
        return HiddenState(torch.cat([self.hidden, other.hidden]), torch.cat([self.lengths, other.lengths]))

    def rewind(self, tokens):
        raise NotImplementedError


class GruStepper(torch.nn.Module):
    """A recurrent model with dropout that must not act while text is written."""

    max_length = None

    def __init__(self, vocabulary_size: int = 30, width: int = 16):
        super().__init__()
        torch.manual_seed(5)
        self.vocabulary_size = vocabulary_size
        self.embedding = torch.nn.Embedding(vocabulary_size, width)
        self.dropout = torch.nn.Dropout(0.5)
        self.cell = torch.nn.GRUCell(width, width)
        self.head = torch.nn.Linear(width, vocabulary_size)
        torch.nn.init.normal_(self.head.weight, std=2.0)

    def start(self, batch, condition=None):
        return HiddenState(torch.zeros(batch, self.cell.hidden_size), torch.zeros(batch, dtype=torch.int64))

    def step(self, ids, state):
        hidden, logits = state.hidden, []
        for column in ids.T:
            hidden = self.cell(self.dropout(self.embedding(column)), hidden)
            logits.append(self.head(hidden))
        return torch.stack(logits, dim=1), HiddenState(hidden, state.lengths + ids.shape[1])

    def logits(self, ids, condition=None):
        return self.step(ids, self.start(len(ids)))[0]


def random_table(vocabulary_size: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(vocabulary_size, vocabulary_size, vocabulary_size, generator=generator) * spread


def letters(ids) -> str:
    """Token 4 is "a", 5 is "b" and so on; special tokens are dropped."""
    return "".join(chr(ord("a") + int(token) - 4) for token in ids if token >= 4)


class Steppers:
    """What tests need, under one name."""

    padding, unknown, begin, end = PADDING, UNKNOWN, BEGIN, END
    letters = staticmethod(letters)
    random_table = staticmethod(random_table)
    Table = TableStepper
    Gru = GruStepper

    @staticmethod
    def table(vocabulary_size: int = 24, seed: int = 0, spread: float = 2.0, max_length: int | None = None):
        table = random_table(vocabulary_size, seed, spread)
        table[:, :, END] -= 2 * spread  # texts of some length
        return TableStepper(table, max_length)

    @staticmethod
    def fixed(logits: Tensor, max_length: int | None = None):
        """The same distribution (V,) whatever came before."""
        return TableStepper(logits.expand(len(logits), len(logits), len(logits)), max_length)


@pytest.fixture(scope="session")
def steppers() -> type[Steppers]:
    return Steppers
