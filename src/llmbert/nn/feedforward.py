"""The position-wise layers between two attentions, each (..., D) → (..., D)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from llmbert.nn.dropout import Dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,  # x Φ(x), exactly
    "gelu_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
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
        self.activation = ACTIVATIONS[activation]
        self.sections = (inner, inner)
        self.gate_up = nn.Linear(width, 2 * inner, bias=bias)
        self.dropout = Dropout(dropout)
        self.down = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.dropout(self.activation(gate) * up))
