"""Recurrence: plain RNN, LSTM and GRU layers with dropout between them, a whole window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        self.unrolled = False

    def forward(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        if self.unrolled:
            return _unrolled(self.cell, self.inner, x, memory or self.blank(len(x)))
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


@contextmanager
def unrolled(model: nn.Module) -> Iterator[None]:
    """Within it a model's recurrences go step by step in plain operations, which `torch.func` transforms; the fused
    layers it would take row by row, or not at all on a GPU."""
    found = [module for module in model.modules() if isinstance(module, Recurrence)]
    for module in found:
        module.unrolled = True
    try:
        yield
    finally:
        for module in found:
            module.unrolled = False


def _unrolled(cell: str, inner: nn.RNNBase, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """What the fused layers give, x (B, T, D) and a memory at the start → outputs and the memory at the end."""
    ends = []
    for layer in range(inner.num_layers):
        weights, recurrent, bias, recurrent_bias = (
            getattr(inner, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        gates, first = F.linear(x, weights, bias), tuple(part[layer] for part in memory)
        held, fixed = recurrent.detach(), recurrent_bias.detach()
        with torch.no_grad():
            states, _ = _through_time(cell, gates, first, held, fixed)
        # What the recurrent weights add, in one product for all steps, less its value: nothing, but it has their
        # gradient, which would else be a sum over the steps of products as large as the weights, for each row.
        before = torch.cat((first[0][:, None], states[:, :-1]), dim=1).detach()
        added = F.linear(before, recurrent, recurrent_bias)
        x, last = _through_time(cell, gates, first, held, fixed, added - added.detach())
        ends.append(last)
        if layer < inner.num_layers - 1:
            x = F.dropout(x, inner.dropout, inner.training)
    return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _through_time(
    cell: str, gates: Tensor, memory: Memory, weights: Tensor, bias: Tensor, added: Tensor | None = None
) -> tuple[Tensor, Memory]:
    """One layer, step by step: gates (B, T, G) that the inputs give, a memory of (B, D) → (B, T, D), the memory."""
    outputs = []
    # Unbound, since the way back of an index would fill all steps anew for each.
    further = [None] * gates.shape[1] if added is None else added.unbind(1)
    for of_inputs, more in zip(gates.unbind(1), further, strict=True):
        recurrent = F.linear(memory[0], weights, bias)
        memory = STEPS[cell](of_inputs, recurrent if more is None else recurrent + more, memory)
        outputs.append(memory[0])
    return torch.stack(outputs, dim=1), memory


def _rnn_step(gates: Tensor, recurrent: Tensor, memory: Memory) -> Memory:
    return (torch.tanh(gates + recurrent),)


def _lstm_step(gates: Tensor, recurrent: Tensor, memory: Memory) -> Memory:
    into, forget, candidate, out = (gates + recurrent).chunk(4, dim=-1)
    kept = torch.sigmoid(forget) * memory[1] + torch.sigmoid(into) * torch.tanh(candidate)
    return torch.sigmoid(out) * torch.tanh(kept), kept


def _gru_step(gates: Tensor, recurrent: Tensor, memory: Memory) -> Memory:
    (reset, update, candidate), (of_reset, of_update, of_candidate) = gates.chunk(3, dim=-1), recurrent.chunk(3, dim=-1)
    kept = torch.sigmoid(update + of_update)
    new = torch.tanh(candidate + torch.sigmoid(reset + of_reset) * of_candidate)
    return (new + kept * (memory[0] - new),)


STEPS: dict[str, Callable[[Tensor, Tensor, Memory], Memory]] = {
    "rnn": _rnn_step,
    "lstm": _lstm_step,
    "gru": _gru_step,
}


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
