"""The causal objective: its value, its gradient, and that it never holds all logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data.batches import IGNORED, Batch
from llmbert.models.gpt import GPT, GPTSettings
from llmbert.objectives import cross_entropy
from llmbert.objectives.causal import causal
from llmbert.objectives.cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("slice_", [1 << 22, 20])
def test_gradcheck(monkeypatch: pytest.MonkeyPatch, smoothing: float, bias: bool, slice_: int) -> None:
    """The hand-written gradients are the numerical ones, whatever the slices."""
    monkeypatch.setattr(cross_entropy, "SLICE", slice_)
    torch.manual_seed(0)
    hidden = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(9, dtype=torch.float64, requires_grad=True) if bias else None
    targets = torch.randint(0, 9, (7,))
    assert torch.autograd.gradcheck(
        lambda h, w, b: 0.7 * linear_cross_entropy(h, w, b, targets, smoothing), (hidden, weight, offset)
    )


@pytest.mark.parametrize("bias", [True, False])
def test_where_no_gradient_is_wanted_none_is_computed(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(7, 4, requires_grad=True), torch.randn(9, 4), torch.randint(0, 9, (7,))
    offset = torch.randn(9) if bias else None
    learned = linear_cross_entropy(hidden, weight, offset, targets)
    made: list[torch.Size] = []
    empty, zeros = torch.empty_like, torch.zeros_like
    monkeypatch.setattr(torch, "empty_like", lambda like, **how: (made.append(like.shape), empty(like, **how))[1])
    monkeypatch.setattr(torch, "zeros_like", lambda like, **how: (made.append(like.shape), zeros(like, **how))[1])
    with torch.no_grad():
        assert linear_cross_entropy(hidden, weight, offset, targets) == learned
    assert not {hidden.shape, weight.shape} & set(made)
    linear_cross_entropy(hidden, weight, offset, targets)
    assert {hidden.shape, weight.shape} <= set(made)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 50),
    smoothing=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 99),
)
def test_it_is_torchs_cross_entropy(rows: int, vocabulary: int, smoothing: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 6, generator=random)
    weight = torch.randn(vocabulary, 6, generator=random)
    targets = torch.randint(0, vocabulary, (rows,), generator=random)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(
        linear_cross_entropy(hidden, weight, None, targets, smoothing), expected, rtol=1e-4, atol=1e-4
    )


def test_terms_are_sums_with_their_counts_and_ignored_targets_count_nothing() -> None:
    torch.manual_seed(0)
    model = GPT(GPTSettings(layers=1, width=16, heads=2, context=8), 20)
    inputs, targets = torch.randint(4, 20, (2, 6)), torch.randint(4, 20, (2, 6))
    targets[0, 2] = targets[1, 5] = IGNORED
    terms, memory = causal(model, Batch(inputs, targets))
    total, count = terms["nll"]
    assert memory is None
    assert count == 10
    logits = model.logits(inputs).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(total, expected)
