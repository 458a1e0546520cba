"""Packed matrices: the same numbers, whichever way they lie in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.nn.packed import BLOCK, ROWS, Packed, rounded_activations

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


@given(st.integers(1, 3 * BLOCK), st.floats(-4, 4))
@settings(max_examples=60, deadline=None)
def test_an_activation_is_off_by_half_a_step_of_its_block(columns: int, power: float) -> None:
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns)) * 10**power
    found = rounded_activations(x)
    for off, block in zip((found - x).split(BLOCK, dim=1), x.split(BLOCK, dim=1), strict=True):
        step = block.abs().amax(1, keepdim=True) / 127
        assert bool((off.abs() <= 0.5001 * step).all())
    torch.testing.assert_close(rounded_activations(found), found)


def test_activations_that_are_all_nothing_stay_so() -> None:
    assert torch.equal(rounded_activations(torch.zeros(2, 70)), torch.zeros(2, 70))
    wrong = torch.zeros(1, 2 * BLOCK)
    wrong[0, 1] = float("nan")
    found = rounded_activations(wrong)
    assert bool(found[0, :BLOCK].isnan().all()) and torch.equal(found[0, BLOCK:], torch.zeros(BLOCK))
