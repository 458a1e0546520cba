"""Norms by their formulas, rotary positions by their property, the cache by what it gives back."""

from __future__ import annotations

import pytest
import torch

from llmbert.nn.cache import KeyValueCache
from llmbert.nn.norms import NORMS, BatchNorm, LayerNorm, RMSNorm
from llmbert.nn.positions import RotaryPositions, document_positions, rotate
from llmbert.protocols import LLMBertError


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_layer_norm(x: torch.Tensor) -> None:
    y = LayerNorm(8)(x)
    torch.testing.assert_close(
        y, (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    )


def test_rms_norm(x: torch.Tensor) -> None:
    norm = RMSNorm(8)
    torch.nn.init.uniform_(norm.weight)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight)


def test_batch_norm_normalises_each_feature_over_all_tokens(x: torch.Tensor) -> None:
    norm = BatchNorm(8)
    y = norm(x).flatten(0, 1)
    torch.testing.assert_close(y.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(8), atol=1e-4, rtol=0)


def test_batch_norm_in_evaluation_takes_each_token_alone(x: torch.Tensor) -> None:
    norm = BatchNorm(8)
    norm(x)
    norm.eval()
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]))


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_differentiable(name: str) -> None:
    norm = NORMS[name](4).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


def test_rotary_products_depend_on_distance_alone() -> None:
    rotary = RotaryPositions(8)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(i: int, j: int) -> float:
        turned = [rotate(v, *rotary.angles(torch.tensor([p]))) for v, p in ((query, i), (key, j))]
        return float((turned[0] * turned[1]).sum())

    assert product(3, 1) == pytest.approx(product(103, 101), abs=1e-4)
    assert product(0, 0) == pytest.approx(float((query * key).sum()), abs=1e-5)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-4)


def test_positions_begin_anew_with_each_document() -> None:
    segments = torch.tensor([[0, 0, 0, 1, 1, 2], [4, 5, 5, 5, 5, 5]])
    assert document_positions(segments).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]


def filled(rows: int, tokens: int, seed: int) -> tuple[KeyValueCache, torch.Tensor]:
    keys = torch.randn(rows, 2, tokens, 4, generator=torch.Generator().manual_seed(seed))
    cache = KeyValueCache(1, rows, 2, 4, torch.zeros(1))
    cache.reserve(tokens)
    cache.write(0, keys, keys + 1)
    cache.advance(tokens)
    return cache, keys


def test_rows_of_unequal_length_share_a_cache() -> None:
    (cache, long), (other, short) = filled(2, 50, 0), filled(1, 7, 1)
    cache = cache.extend(other)
    assert cache.lengths.tolist() == [50, 50, 7]
    cache = cache.select(torch.tensor([2, 0])).rewind(torch.tensor([0, 20]))
    assert cache.lengths.tolist() == [7, 30]
    new = torch.randn(2, 2, 3, 4)
    cache.reserve(3)
    keys, values = cache.write(0, new, new)
    assert keys.shape == values.shape == (2, 2, 33, 4)
    torch.testing.assert_close(keys[0, :, :10], torch.cat((short[0], new[0]), dim=1))
    torch.testing.assert_close(keys[1], torch.cat((long[0, :, :30], new[1]), dim=1))
    mask = cache.mask(3)
    assert mask is not None
    assert mask[0, 0].sum(-1).tolist() == [8, 9, 10]
    assert mask[1, 0].sum(-1).tolist() == [31, 32, 33]


def test_a_cache_is_never_rewound_before_its_beginning() -> None:
    with pytest.raises(LLMBertError, match="rewind"):
        filled(1, 3, 0)[0].rewind(4)
