"""Cross-entropy in one native call: what torch says of the same logits, loss and slope."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.nn.native import native_library, nats_and_slope_, why_not_native

pytestmark = pytest.mark.skipif(native_library() is None, reason=f"nothing is native here: {why_not_native()}")


def expected_of(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.double().requires_grad_()
    with torch.enable_grad():
        nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        (slope,) = torch.autograd.grad(nats.sum(), logits)
    return nats.detach(), slope


@given(st.integers(1, 9), st.integers(2, 3000), st.sampled_from([0.0, 0.1]), st.floats(-1, 2), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_loss_and_slope_are_those_of_torch(
    kind: torch.dtype, rows: int, vocabulary: int, smoothing: float, power: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, vocabulary, generator=draw) * 10**power).to(kind)
    targets = torch.randint(vocabulary, (rows,), generator=draw)
    nats, slope = expected_of(logits, targets, smoothing)
    found = nats_and_slope_(logits, targets, smoothing)
    torch.testing.assert_close(found, nats, rtol=2e-6, atol=2e-6)
    step = 1e-6 if kind == torch.float32 else 2**-8  # half of what lies between two numbers of eight bits
    torch.testing.assert_close(logits.double(), slope, rtol=step, atol=1e-6)


def test_any_number_of_threads_says_the_same() -> None:
    logits, targets = torch.randn(33, 1001), torch.randint(1001, (33,))
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append((nats_and_slope_(own := logits.clone(), targets), own))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_impossible_has_no_slope_and_what_is_no_number_stays_none() -> None:
    logits = torch.randn(2, 40)
    logits[0, 3], logits[1, 7] = -torch.inf, torch.nan
    nats = nats_and_slope_(logits, torch.tensor([1, 1]))
    assert bool(nats[0].isfinite()) and abs(float(logits[0, 3])) < 1e-30
    assert bool(nats[1].isnan()) and bool(logits[1].isnan().all())
    assert float(logits[0].sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("targets", [[-100, 1], [0, 7]])
def test_a_target_that_is_no_token_is_refused(targets: list[int]) -> None:
    logits = torch.zeros(2, 7)
    with pytest.raises(IndexError, match="not below 7"):
        nats_and_slope_(logits, torch.tensor(targets))
    assert not logits.any(), "nothing was written"
