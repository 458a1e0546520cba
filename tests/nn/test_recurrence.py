"""Recurrence in plain operations is recurrence in fused ones: outputs, memories and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, vmap

from llmbert.nn.recurrence import CELLS, Recurrence, unrolled

WIDTH, ROWS, TOKENS = 6, 3, 5


def made(cell: str, layers: int = 2, dropout: float = 0.0) -> Recurrence:
    torch.manual_seed(0)
    return Recurrence(cell, WIDTH, layers, dropout).double()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_unrolled_is_fused(cell: str, layers: int, begun: bool) -> None:
    recurrence = made(cell, layers)
    x = torch.randn(ROWS, TOKENS, WIDTH, dtype=torch.double, requires_grad=True)
    memory = tuple(torch.randn_like(part) for part in recurrence.blank(ROWS)) if begun else None

    def all_of_it() -> list[torch.Tensor]:
        y, last = recurrence(x, memory)
        loss = (y.sin().sum() + sum(part.cos().sum() for part in last)) / 3
        return [y, *last, *torch.autograd.grad(loss, [x, *recurrence.parameters()])]

    fused = all_of_it()
    with unrolled(recurrence):
        plain = all_of_it()
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", CELLS)
def test_each_rows_gradient_is_that_of_the_row_alone(cell: str) -> None:
    recurrence = made(cell)
    x = torch.randn(ROWS, TOKENS, WIDTH, dtype=torch.double)
    weights = {name: weight.detach() for name, weight in recurrence.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return functional_call(recurrence, (weights, {}), (row[None], None))[0].sin().sum()

    with unrolled(recurrence):
        together = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    for number, row in enumerate(x):
        recurrence.zero_grad()
        recurrence(row[None], None)[0].sin().sum().backward()
        for name, weight in recurrence.named_parameters():
            assert weight.grad is not None
            torch.testing.assert_close(together[name][number], weight.grad, rtol=1e-9, atol=1e-11)


def test_what_is_left_is_fused_again() -> None:
    recurrence = made("lstm", dropout=0.5)
    x = torch.ones(1, TOKENS, WIDTH, dtype=torch.double)
    with pytest.raises(ZeroDivisionError), unrolled(recurrence):
        dropped = [recurrence(x, None)[0] for _ in range(2)]
        assert not torch.equal(*dropped), "dropout between layers is kept"
        raise ZeroDivisionError
    assert not recurrence.unrolled
