"""The key-value cache: what no row has filled is numbers, since a masked place is multiplied by 0 and not left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmbert.nn.attention import attend
from llmbert.nn.cache import KeyValueCache


def test_memory_that_was_never_written_spoils_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds anything, here what is no number; rows of unequal lengths share one block of it."""
    fresh = torch.Tensor.new_empty

    def soiled(self: torch.Tensor, *size: Any, **options: Any) -> torch.Tensor:
        return fresh(self, *size, **options).fill_(torch.nan)

    monkeypatch.setattr(torch.Tensor, "new_empty", soiled)
    torch.manual_seed(0)

    def write(cache: KeyValueCache, tokens: int) -> torch.Tensor:
        cache.reserve(tokens)
        rows, mask = len(cache.lengths), cache.mask(tokens)
        query, key, value = (torch.randn(rows, 2, tokens, 4) for _ in range(3))
        keys, values = cache.write(0, key, value)
        cache.advance(tokens)
        return attend(query, keys, values, mask, mask is None and tokens > 1)

    old = KeyValueCache(1, 3, 2, 4, torch.zeros(1))
    write(old, 5)
    old = old.select(torch.tensor([2, 0]))
    write(old, 1)
    late = KeyValueCache(1, 2, 2, 4, torch.zeros(1))
    write(late, 2)
    both = old.extend(late.select(torch.tensor([1, 1, 0])))
    for _ in range(40):  # beyond what was reserved at first
        assert write(both, 1).isfinite().all()
    both = both.rewind(torch.tensor([3, 0, 1, 0, 2])).select(torch.tensor([4, 1, 2]))
    assert write(both, 3).isfinite().all()
