"""Relative positions: the buckets are T5's, and a number depends on nothing but the head and the distance."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmbert.nn.positions import RelativePositions, relative_buckets

SHAPES = [(32, 128), (32, 17), (8, 5), (16, 1000), (4, 3), (33, 128), (128, 128)]


@pytest.mark.parametrize(("buckets", "max_distance"), SHAPES)
@pytest.mark.parametrize("causal", [False, True])
def test_the_buckets_are_those_of_transformers(buckets: int, max_distance: int, causal: bool) -> None:
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = torch.arange(-3000, 3001)
    expected = modeling.T5Attention._relative_position_bucket(distances, not causal, buckets, max_distance)
    found = relative_buckets(distances, buckets, max_distance, causal)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


@given(st.integers(4, 64), st.integers(1, 300), st.booleans())
def test_buckets_widen_in_order_and_none_is_beyond_the_table(buckets: int, more: int, causal: bool) -> None:
    before = relative_buckets(-torch.arange(2000), buckets, buckets // 2 + more, causal)
    kept = buckets if causal else buckets // 2
    assert (before.diff() >= 0).all()
    assert before[: kept // 2].tolist() == list(range(kept // 2))
    assert int(before.max()) == kept - 1
    if not causal:
        after = relative_buckets(torch.arange(1, 2000), buckets, buckets // 2 + more, causal)
        assert torch.equal(after, before[1:] + kept)


@pytest.mark.parametrize("causal", [False, True])
def test_a_number_depends_on_head_and_distance_alone(causal: bool) -> None:
    torch.manual_seed(0)
    positions = RelativePositions(3, 16, 20, causal)
    whole = positions(torch.arange(50)[None], 50)
    assert whole.shape == (1, 3, 50, 50)
    for distance in range(-49, 50):
        stripe = whole[0].diagonal(distance, dim1=1, dim2=2)
        assert torch.equal(stripe, stripe[:, :1].expand_as(stripe))
        assert bool(stripe.isinf().any()) == (causal and distance > 0)


@pytest.mark.parametrize("causal", [False, True])
def test_rows_of_different_lengths_have_their_own_places(causal: bool) -> None:
    positions = RelativePositions(2, 16, 20, causal)
    whole = positions(torch.arange(40)[None], 40)[0]
    places = torch.tensor([[5, 6, 7], [30, 31, 32], [0, 1, 2]])
    found = positions(places, 33)
    for row in range(3):
        torch.testing.assert_close(found[row], whole[:, places[row], :33], rtol=0, atol=0)


def test_gradients_add_up_over_equal_distances() -> None:
    positions = RelativePositions(1, 32, 128, causal=False)
    positions(torch.arange(6)[None], 6).sum().backward()
    gradient = positions.table.weight.grad
    assert gradient is not None
    assert gradient[:6, 0].tolist() == [6, 5, 4, 3, 2, 1]
    assert gradient[17:22, 0].tolist() == [5, 4, 3, 2, 1]


def test_a_forbidden_key_has_no_weight_and_gives_no_gradient() -> None:
    positions = RelativePositions(1, 8, 16, causal=True)
    shares = positions(torch.arange(4)[None], 4).softmax(-1)[0, 0]
    assert math.isclose(float(shares[0, 0].detach()), 1.0)
    assert torch.equal(shares.triu(1), torch.zeros(4, 4))
    shares[:, 0].sum().backward()
    assert positions.table.weight.grad is not None
    assert positions.table.weight.grad.isfinite().all()
