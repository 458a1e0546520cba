"""Counting n-grams by one packed number each, or by key and place apart where 64 bits cannot hold both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.models.ngram import counts


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(4, 9), max_size=30), min_size=1, max_size=8).filter(any),
    order=st.integers(1, 5),
    block=st.integers(1, 40),
)
def test_both_ways_of_sorting_count_the_same(documents: list[list[int]], order: int, block: int) -> None:
    parts = [[2, *document, 3] for document in documents]
    ids = np.concatenate(parts).astype(np.uint16)
    starts = np.cumsum([0, *map(len, parts)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_BLOCK", block)
        packed = counts.count_ngrams(ids, starts, 10, order)
        patch.setattr(counts, "_packed", counts._argsorted)
        apart = counts.count_ngrams(ids, starts, 10, order)
    for n, (one, two) in enumerate(zip(packed, apart, strict=True), 1):
        for name in ("words", "parents", "suffixes", "counts"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert one.counts.sum() == sum(max(0, len(part) - n + 1) for part in parts)
