"""Recurrence: plain RNN, LSTM and GRU layers with dropout between them, a whole window at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmbert.protocols import LLMBertError

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
"""torch's fused layers: LSTM with tanh candidate and h = o ⊙ tanh(c) (Hochreiter & Schmidhuber 1997, with Gers' forget
gate); GRU with candidate tanh(W x + r ⊙ (U h)) (Cho et al. 2014, in cuDNN's form); RNN h = tanh(W x + U h + b)."""

Memory = tuple[Tensor, ...]
"""Hidden states, one tensor (layers, B, D) for rnn and gru, two (h and c) for lstm."""


class Recurrence(nn.Module):
    """x (B, T, D) → (B, T, D), and the memory after the last step."""

    def __init__(self, cell: str, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cell = cell
        self.inner = CELLS[cell](width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        if self.cell == "lstm":
            y, (h, c) = self.inner(x, memory)
            return y, (h, c)
        y, h = self.inner(x, None if memory is None else memory[0])
        return y, (h,)

    def blank(self, batch: int) -> Memory:
        """The memory before the first token: zeros."""
        like = next(self.inner.parameters())
        zeros = like.new_zeros(self.inner.num_layers, batch, self.inner.hidden_size)
        return (zeros, zeros.clone()) if self.cell == "lstm" else (zeros,)


class RecurrentState:
    """The memory of B texts, with the last few steps' memories kept so that it can be rewound.

    Satisfies `State`: whatever is done to it consumes it. `past[-1]` is the memory now, `past[-1 - n]` the one n
    tokens ago.
    """

    REMEMBERED = 65  # 64 tokens back

    def __init__(self, memory: Memory) -> None:
        self.past: list[Memory] = [memory]
        self.lengths = torch.zeros(memory[0].shape[1], dtype=torch.int64, device=memory[0].device)

    @property
    def memory(self) -> Memory:
        return self.past[-1]

    def push(self, memories: list[Memory], tokens: int) -> RecurrentState:
        """Take in the memories after each of the last steps; `tokens` may be more, then the past is cut there."""
        kept = self.past if tokens == len(memories) else []
        self.past = (kept + memories)[-self.REMEMBERED :]
        self.lengths = self.lengths + tokens
        return self

    def _each(self, change) -> RecurrentState:  # type: ignore[no-untyped-def]
        self.past = [tuple(change(part) for part in memory) for memory in self.past]
        return self

    def select(self, rows: Tensor) -> RecurrentState:
        self.lengths = self.lengths[rows]
        return self._each(lambda part: part[:, rows])

    def extend(self, other: RecurrentState) -> RecurrentState:
        depth = min(len(self.past), len(other.past))
        self.past = [
            tuple(torch.cat((a, b), dim=1) for a, b in zip(mine, theirs, strict=True))
            for mine, theirs in zip(self.past[-depth:], other.past[-depth:], strict=True)
        ]
        self.lengths = torch.cat((self.lengths, other.lengths))
        return self

    def rewind(self, tokens: int | Tensor) -> RecurrentState:
        back = torch.as_tensor(tokens, device=self.lengths.device).expand(len(self.lengths))
        furthest = int(back.max())
        if furthest >= len(self.past) or bool((back > self.lengths).any()):
            raise LLMBertError(f"cannot rewind {furthest} tokens: only {len(self.past) - 1} are remembered")
        depth = len(self.past) - furthest
        rows = torch.arange(len(back))
        self.past = [
            tuple(
                torch.stack([self.past[-1 - int(back[b]) - depth + 1 + i][k][:, b] for b in rows.tolist()], dim=1)
                for k in range(len(self.memory))
            )
            for i in range(depth)
        ]
        self.lengths = self.lengths - back
        return self
