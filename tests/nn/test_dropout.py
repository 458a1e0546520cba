"""Dropout: numbers go with the share asked for, independently, and the rest is scaled so that the mean stays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_the_share_goes_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    count = 1_000_003  # no multiple of the four decisions of one draw
    found = dropout(torch.ones(count), share)
    gone = (found == 0).float().mean().item()
    deviation = (share * (1 - share) / count) ** 0.5
    assert abs(gone - share) < 4 * deviation + 1 / 65536
    assert found.max().item() == pytest.approx(1 / (1 - share))


def test_neighbours_fall_independently() -> None:
    """The four decisions of one draw know nothing of each other, nor one draw of the next."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(400_000), 0.3) > 0).double() - 0.7
    for distance in range(1, 9):
        correlation = (kept[distance:] * kept[:-distance]).mean().item() / 0.21
        assert abs(correlation) < 4 / 400_000**0.5


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(0, 7), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_what_goes_back_went_the_same_way(shape: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(shape, requires_grad=True)
    found = dropout(x, 0.4)
    found.sum().backward()
    assert x.grad is not None
    assert torch.allclose(found, x * x.grad)


def test_same_seed_same_numbers_and_none_where_nothing_learns() -> None:
    layer, x = Dropout(0.5), torch.ones(64, 64, dtype=torch.bfloat16)
    torch.manual_seed(2)
    first = layer(x)
    torch.manual_seed(2)
    assert torch.equal(first, layer(x)) and first.dtype == x.dtype
    assert not torch.equal(first, layer(x))
    layer.eval()
    assert torch.equal(layer(x), x)
