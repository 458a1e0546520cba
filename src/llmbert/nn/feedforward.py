"""The position-wise layers between two attentions, each (..., D) → (..., D)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from llmbert.nn.dropout import Dropout
from llmbert.nn.native import KINDS, FusedActivation, FusedGate, trains_native


def gelu_tanh(x: Tensor) -> Tensor:
    """½x(1 + tanh(√(2/π)(x + 0.044715 x³))) (Hendrycks & Gimpel 2016, §2)."""
    # torch's takes three times as long on a processor; of the others' it is as quick as ours.
    return FusedActivation.apply(x, "gelu_tanh") if trains_native(x) else nn.functional.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,  # x Φ(x), exactly
    "gelu_tanh": gelu_tanh,
    "silu": nn.functional.silu,
}


class FeedForward(nn.Module):
    """W₂ a(W₁ x + b₁) + b₂ (Vaswani et al. 2017, eq. 2); a is one of ACTIVATIONS, dropout follows it."""

    def __init__(self, width: int, inner: int, activation: str, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(width, inner, bias=bias)
        self.dropout = Dropout(dropout)
        self.down = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.activation(self.up(x))))


class GatedFeedForward(nn.Module):
    """W₂ (a(W_g x) ⊙ W_u x), mostly without biases (Shazeer 2020, eq. 6), gate and up in one product."""

    def __init__(self, width: int, inner: int, activation: str, dropout: float = 0.0, bias: bool = False) -> None:
        super().__init__()
        self.activation, self.kind = ACTIVATIONS[activation], activation
        self.sections = (inner, inner)
        self.gate_up = nn.Linear(width, 2 * inner, bias=bias)
        self.dropout = Dropout(dropout)
        self.down = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        both = self.gate_up(x)
        if self.kind in KINDS and trains_native(both):
            return self.down(self.dropout(FusedGate.apply(both, self.kind)))
        gate, up = both.chunk(2, dim=-1)
        return self.down(self.dropout(self.activation(gate) * up))
