"""One uniform number picks one token."""

import pytest
import torch

from llmbert.decoding.sampling import greedy, sample


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 1), (0.2, 1), (0.2501, 3), (0.4999, 3), (0.5001, 4), (1 - 2**-53, 4)]
)
def test_tokens_lie_in_the_order_of_their_ids_as_wide_as_they_are_probable(uniform, token):
    logits = torch.tensor([[0.0, 0.25, 0.0, 0.25, 0.5, 0.0]]).log()
    assert sample(logits, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


def test_the_numbers_at_the_edges_never_pick_what_was_ruled_out():
    for vocabulary in (2, 7, 5000):
        logits = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * 20
        logits[:, 0] = logits[:, -1] = -torch.inf
        logits[:, vocabulary // 2] = 0.0
        for uniform in (0.0, 1 - 2**-53):
            drawn = sample(logits, torch.full((3,), uniform, dtype=torch.float64))
            assert (logits.gather(1, drawn[:, None]) > -torch.inf).all()


def test_rows_draw_by_themselves():
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = sample(logits, uniforms)
    alone = [int(sample(logits[n : n + 1], uniforms[n : n + 1])) for n in range(50)]
    assert together.tolist() == alone


def test_greedy_takes_the_first_of_equals():
    assert greedy(torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0]])).tolist() == [1, 0]
