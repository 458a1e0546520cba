"""The likeliest tokens beside those that sorting finds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.nn.native import likeliest, native_library, why_not_native

pytestmark = pytest.mark.skipif(native_library() is None, reason=f"nothing is native here: {why_not_native()}")


@given(
    st.integers(1, 5), st.integers(1, 90), st.integers(1, 8), st.sets(st.integers(0, 89), max_size=4), st.integers(0, 9)
)
@settings(max_examples=100, deadline=None)
def test_they_are_those_that_sorting_finds(rows: int, size: int, count: int, forbidden: set[int], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randint(-6, 7, (rows, size), generator=draw).float()  # many are equal
    logits[torch.rand(rows, size, generator=draw) < 0.1] = -math.inf
    logits[:, 0] = 1.5
    values, ids = likeliest(logits, count, sorted(forbidden))
    expected = logits.double().log_softmax(-1)
    for row in range(rows):
        kept = [i for i in range(size) if i not in forbidden and logits[row, i] > -math.inf]
        best = sorted(kept, key=lambda i: (-float(logits[row, i]), i))[:count]
        assert ids[row, : len(best)].tolist() == best
        torch.testing.assert_close(values[row, : len(best)].double(), expected[row, best], rtol=1e-5, atol=1e-5)
        assert bool((values[row, len(best) :] == -math.inf).all())
