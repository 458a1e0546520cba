"""The CRF against sums and maxima over every labelling, its gradient against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmbert.nn.crf import CRF, allowed_transitions

BIO = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
BMES = ["B-X", "E-X", "M-X", "O", "S-X"]


def made(labels: int, allowed: Tensor | None = None) -> CRF:
    crf = CRF(labels, allowed).double()
    torch.nn.init.normal_(crf.transitions)
    return crf


def scored(crf: CRF, emissions: Tensor, path: tuple[int, ...]) -> float:
    """One labelling's score by eq. 1, written out."""
    table = (crf.transitions + crf.barred).detach()
    whole = [crf.labels, *path, crf.labels]
    return float(
        sum(table[a, b] for a, b in itertools.pairwise(whole)) + sum(emissions[t, y] for t, y in enumerate(path))
    )


def rows(crf: CRF, lengths: list[int], seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), crf.labels, dtype=torch.float64) * 2, mask


@given(labels=st.integers(1, 4), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
@torch.no_grad()
def test_partition_probability_and_best_path_equal_enumeration(labels: int, lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    crf = made(labels)
    emissions, mask = rows(crf, lengths, seed)
    gold = torch.randint(0, labels, mask.shape)
    partition, nats, best = crf.log_partition(emissions, mask), crf(emissions, gold, mask), crf.decode(emissions, mask)
    marginals = crf.marginals(emissions, mask)
    for row, length in enumerate(lengths):
        paths = list(itertools.product(range(labels), repeat=length))
        scores = torch.tensor([scored(crf, emissions[row], path) for path in paths], dtype=torch.float64)
        assert float(partition[row]) == pytest.approx(float(scores.logsumexp(0)), abs=1e-9)
        own = scores[paths.index(tuple(gold[row, :length].tolist()))]
        assert float(nats[row]) == pytest.approx(float(scores.logsumexp(0) - own), abs=1e-9)
        assert tuple(best[row, :length].tolist()) == paths[int(scores.argmax())]
        assert not best[row, length:].any()
        shares = scores.softmax(0)
        for t, label in itertools.product(range(length), range(labels)):
            share = sum(shares[i] for i, path in enumerate(paths) if path[t] == label)
            assert float(marginals[row, t, label]) == pytest.approx(float(share), abs=1e-9)
        assert not marginals[row, length:].any()


def test_a_row_does_not_depend_on_its_neighbours_or_padding() -> None:
    crf = made(5)
    emissions, mask = rows(crf, [6, 2, 4], 1)
    gold = torch.randint(0, 5, mask.shape)
    together = crf(emissions, gold.masked_fill(~mask, -100), mask)
    emissions[~mask] = 1e6
    torch.testing.assert_close(crf(emissions, gold, mask), together)
    for row, length in enumerate([6, 2, 4]):
        part = slice(row, row + 1), slice(0, length)
        torch.testing.assert_close(crf(emissions[part], gold[part], mask[part]), together[row : row + 1])
        assert torch.equal(crf.decode(emissions[part], mask[part])[0], crf.decode(emissions, mask)[row, :length])


@pytest.mark.parametrize("allowed", [None, allowed_transitions(BIO)])
def test_gradients_equal_finite_differences(allowed: Tensor | None) -> None:
    crf = made(5, allowed)
    emissions, mask = rows(crf, [4, 1, 3], 2)
    gold = torch.tensor([[0, 2, 4, 1], [4, 0, 0, 0], [1, 3, 3, 0]])
    emissions.requires_grad_()

    def loss(emissions: Tensor, transitions: Tensor) -> Tensor:
        return torch.func.functional_call(crf, {"transitions": transitions}, (emissions, gold, mask))

    assert torch.autograd.gradcheck(loss, (emissions, crf.transitions))


def test_impossible_paths_are_never_decoded_and_have_no_share() -> None:
    allowed = allowed_transitions(BIO)
    assert allowed is not None
    crf = made(len(BIO), allowed)
    emissions, mask = rows(crf, [7] * 40, 3)
    emissions *= 5
    free = CRF(len(BIO)).double()
    free.load_state_dict(crf.state_dict())
    wrong = 0
    for path, unbound in zip(crf.decode(emissions, mask).tolist(), free.decode(emissions, mask).tolist(), strict=True):
        assert all(allowed[a, b] for a, b in itertools.pairwise([5, *path, 5]))
        wrong += not all(allowed[a, b] for a, b in itertools.pairwise([5, *unbound, 5]))
    assert wrong > 20
    impossible = torch.tensor([[2, 4, 4, 4, 4, 4, 4]]).expand(40, -1)  # I-LOC at the start
    assert bool((crf(emissions, impossible, mask) > 1000).all())


def follows(labels: list[str]) -> set[str]:
    allowed = allowed_transitions(labels)
    assert allowed is not None
    names = [*labels, "|"]
    return {f"{a} {b}" for i, a in enumerate(names) for j, b in enumerate(names) if allowed[i, j]}


def test_what_may_follow_in_bio() -> None:
    allowed = follows(["B-X", "B-Y", "I-X", "O"])
    assert {"B-X I-X", "I-X I-X", "O B-X", "B-X B-X", "I-X O", "B-X B-Y", "| B-X", "| O", "I-X |", "B-X |"} <= allowed
    assert not allowed & {"O I-X", "B-Y I-X", "| I-X"}


def test_what_may_follow_in_bmes() -> None:
    allowed = follows(BMES)
    assert allowed == {
        *("| B-X", "| O", "| S-X", "| |", "O B-X", "O O", "O S-X", "O |", "B-X M-X", "B-X E-X", "M-X M-X", "M-X E-X"),
        *("E-X B-X", "E-X O", "E-X S-X", "E-X |", "S-X B-X", "S-X O", "S-X S-X", "S-X |"),
    }


@pytest.mark.parametrize("labels", [["NN", "VB"], ["O", "X"], ["B-", "O"], ["Q-PER", "O"], ["BE-PER"]])
def test_labels_that_are_no_span_tags_are_not_constrained(labels: list[str]) -> None:
    assert allowed_transitions(labels) is None
