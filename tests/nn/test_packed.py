"""Packed matrices: the same numbers, whichever way they lie in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.nn.packed import ROWS, Packed

KINDS: Any = ["float32", "bfloat16", "int8"]


@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_panels_hold_the_matrix(rows: int, columns: int, kind: Any) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))
    plain, panels = Packed(weight, None, kind), Packed(weight, None, kind, panels=True)
    assert torch.equal(panels.matrix(), plain.matrix())
    ids = torch.randint(rows, (3, 2))
    assert torch.equal(panels.rows(ids), plain.rows(ids))
    x = torch.randn(4, columns)
    torch.testing.assert_close(panels.product(x), plain.product(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_of_many_rows_is_packed_piece_by_piece(kind: Any) -> None:
    weight = torch.randn(2 * ROWS + 5, 6)
    plain, panels = Packed(weight, None, kind), Packed(weight, None, kind, panels=True)
    assert torch.equal(panels.matrix(), plain.matrix())
    assert float((plain.rows(torch.arange(len(weight))) - weight).abs().max()) <= 0.02 * float(weight.abs().max())


def test_another_bias_is_no_other_matrix() -> None:
    packed = Packed(torch.randn(5, 4), None, "int8")
    biased = packed.with_bias(torch.ones(5))
    assert biased.weight is packed.weight and packed.bias is None
    x = torch.randn(2, 4)
    assert torch.equal(biased.product(x), packed.product(x) + 1)
