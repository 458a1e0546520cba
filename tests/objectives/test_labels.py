"""Objectives over labels: their formulas, gradients, and micro-batches that add up to the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llmbert.data.labelled import Examples, LabelledBatch, encode_examples, gather_batch
from llmbert.models.headed import Headed, HeadedSettings, HeadSettings
from llmbert.objectives.labels import info_nce, labels
from llmbert.text.tokenisers import train_tokeniser

TEXTS = ["the hill", "a mill in the town", "the sea", "low and clear"]
TOKENISER = train_tokeniser("chars", TEXTS)
NAMES = ("a", "b", "c")
TAGS = ("B-X", "I-X", "O")
HEADS = {
    "classify": HeadSettings(task="classify", labels=NAMES, dropout=0.0),
    "multilabel": HeadSettings(task="multilabel", labels=NAMES, dropout=0.0),
    "tag": HeadSettings(task="tag", labels=TAGS, dropout=0.0),
    "softmax": HeadSettings(task="tag", labels=TAGS, crf=False, dropout=0.0),
    "regress": HeadSettings(task="regress", dropout=0.0),
    "alike": HeadSettings(task="embed"),
    "pairs": HeadSettings(task="embed", temperature=0.2),
}
WORDS = [text.split() for text in TEXTS]
EXAMPLES = {
    "classify": Examples("classify", TEXTS, None, ["a", "c", "b", "a"]),
    "multilabel": Examples("multilabel", TEXTS, None, [["a"], [], ["b", "c"], ["a", "b", "c"]]),
    "tag": Examples(
        "tag", WORDS, None, [["O", "B-X"], ["O", "B-X", "I-X", "I-X", "O"], ["O", "B-X"], ["B-X", "O", "O"]]
    ),
    "regress": Examples("regress", TEXTS, None, [0.5, -1.0, 2.0, 0.0]),
    "alike": Examples("embed", TEXTS, TEXTS[::-1], [0.1, 0.9, 0.4, 0.0]),
    "pairs": Examples("embed", TEXTS, TEXTS[1:] + TEXTS[:1], None),
}
EXAMPLES["softmax"] = EXAMPLES["tag"]


def model() -> Headed:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "context": 32}
    made = Headed(HeadedSettings(trunk="bert", trunk_settings=shape, heads=HEADS), TOKENISER.vocabulary_size)
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.3)
    return made


def batch(head: str, rows: tuple[int, ...] = (0, 1, 2, 3)) -> LabelledBatch:
    encoded = encode_examples(EXAMPLES[head], TOKENISER, HEADS[head].labels, 32)
    return gather_batch(encoded, rows, head, 0)


def outputs(made: Headed, one: LabelledBatch) -> Tensor:
    return made(one.head, one.ids, one.mask, one.types, one.words)


def loss(made: Headed, one: LabelledBatch, smoothing: float = 0.0) -> tuple[Tensor, int]:
    terms, memory = labels(made, one, None, smoothing)
    assert memory is None
    ((name, (total, count)),) = terms.items()
    assert name == one.head and count == one.counts[name]
    return total, count


@torch.inference_mode()
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_classes(smoothing: float) -> None:
    made, one = model(), batch("classify")
    logs = outputs(made, one).log_softmax(-1)
    own = torch.stack([logs[i, c] for i, c in enumerate([0, 2, 1, 0])])
    expected = -((1 - smoothing) * own + smoothing * logs.mean(-1)).sum()
    total, count = loss(made, one, smoothing)
    torch.testing.assert_close(total, expected)
    assert count == 4


@torch.inference_mode()
def test_several_classes() -> None:
    made, one = model(), batch("multilabel")
    shares, wanted = outputs(made, one).sigmoid(), torch.tensor([[1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]])
    expected = -torch.where(wanted.bool(), shares, 1 - shares).log().mean(1).sum()
    torch.testing.assert_close(loss(made, one)[0], expected)


@torch.inference_mode()
def test_tags_with_and_without_a_crf() -> None:
    made = model()
    one = batch("tag")
    head = made.heads["tag"]
    assert one.targets is not None and one.word_mask is not None
    total, count = loss(made, one)
    torch.testing.assert_close(total, head.crf(outputs(made, one), one.targets, one.word_mask).sum())
    assert count == 12
    plain = batch("softmax")
    logs = outputs(made, plain).log_softmax(-1)
    assert plain.targets is not None
    expected = -sum(logs[i, j, int(c)] for i, row in enumerate(plain.targets) for j, c in enumerate(row) if c >= 0)
    torch.testing.assert_close(loss(made, plain)[0], expected)


@torch.inference_mode()
def test_numbers_and_likeness() -> None:
    made, one = model(), batch("regress")
    expected = (outputs(made, one)[:, 0] - torch.tensor([0.5, -1.0, 2.0, 0.0])).square().sum()
    torch.testing.assert_close(loss(made, one)[0], expected)
    alike = batch("alike")
    assert alike.other is not None
    cosines = nn.functional.cosine_similarity(outputs(made, alike), made("alike", *alike.other))
    torch.testing.assert_close(loss(made, alike)[0], (cosines - torch.tensor([0.1, 0.9, 0.4, 0.0])).square().sum())


def unit(rows: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return nn.functional.normalize(torch.randn(rows, 5, dtype=torch.float64), dim=-1)


def test_info_nce_is_cross_entropy_among_the_batch_both_ways() -> None:
    first, second, t = unit(6, 0), unit(6, 1), 0.3
    expected = 0.0
    for a, b in ((first, second), (second, first)):
        for i in range(6):
            scores = (a[i] @ b.T / t).exp()
            expected -= float((scores[i] / scores.sum()).log()) / 2
    assert float(info_nce(first, second, t)) == pytest.approx(expected)
    assert float(info_nce(first, first, 0.01)) < float(info_nce(first, second, 0.01))


def test_info_nce_is_not_rounded_with_the_layers() -> None:
    first, second = unit(6, 0).float(), unit(6, 1).float()
    exact = float(info_nce(first, second, 0.01))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(info_nce(first, second, 0.01)) == exact


def test_a_second_text_that_occurs_twice_is_no_wrong_answer() -> None:
    first, second, t = unit(5, 0), unit(5, 1), 0.3
    second = torch.cat((second[:4], second[:1]))
    same = torch.eye(5, dtype=torch.bool)
    same[0, 4] = same[4, 0] = True
    away = [float(info_nce(first[rows], second[rows], t)) for rows in ([0, 1, 2, 3], [4, 1, 2, 3])]
    rest = float(info_nce(first, second, t, same))
    assert rest < float(info_nce(first, second, t))
    assert min(away) < rest
    gradient = torch.autograd.functional.jacobian(lambda a: info_nce(a, second, t, same), first)
    assert bool(gradient.isfinite().all())


def test_a_second_right_answer_is_no_wrong_one() -> None:
    """Two answers to one question draw near it, each as if the other were not there."""
    made, examples = model(), Examples("embed", ["the hill", "the hill", "the sea"], TEXTS[1:], None)
    encoded = encode_examples(examples, TOKENISER, (), 32)
    alone = gather_batch(encoded, (0, 1), "pairs", 0)
    assert float(loss(made, alone)[0]) == 0.0
    beside = gather_batch(encoded, (0, 1, 2), "pairs", 0)
    assert beside.other is not None
    first, second = outputs(made, beside), made("pairs", *beside.other)
    scores = first @ second.T / HEADS["pairs"].temperature
    told = (((0, 2), (1, 2), (0, 1, 2)), ((0, 2), (1, 2), (0, 1, 2)))  # among which, there and back
    expected = sum(
        each[row, list(among)].logsumexp(0) - each[row, row]
        for each, rows in zip((scores, scores.T), told, strict=True)
        for row, among in enumerate(rows)
    )
    torch.testing.assert_close(loss(made, beside)[0], expected / 2)


def test_gradients_equal_finite_differences() -> None:
    first, second = unit(4, 0).requires_grad_(), unit(4, 1).requires_grad_()
    same = torch.eye(4, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5, same), (first, second))


@pytest.mark.parametrize("head", HEADS)
def test_every_loss_has_the_gradient_of_finite_differences_at_its_weights(head: str) -> None:
    """Through head and trunk: one direction in all weights."""
    made, one = model().double(), batch(head)
    one.targets = one.targets.double() if one.targets is not None and one.targets.is_floating_point() else one.targets
    direction = [torch.randn_like(w) for w in made.parameters()]

    def at(step: float) -> Tensor:
        with torch.no_grad():
            for weight, move in zip(made.parameters(), direction, strict=True):
                weight.add_(move, alpha=step)
        value = loss(made, one)[0].double()
        with torch.no_grad():
            for weight, move in zip(made.parameters(), direction, strict=True):
                weight.add_(move, alpha=-step)
        return value

    loss(made, one)[0].backward()
    slope = sum(
        float((w.grad * move).sum()) for w, move in zip(made.parameters(), direction, strict=True) if w.grad is not None
    )
    step = 1e-3  # heads answer in float32
    finite = float((at(step) - at(-step)) / (2 * step))
    assert finite == pytest.approx(slope, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("head", [head for head in HEADS if head != "pairs"])
def test_micro_batches_add_up_to_the_whole(head: str) -> None:
    """All but the contrastive loss, whose wrong answers are the rows of its own micro-batch."""
    whole, split = model(), model()
    total, count = loss(whole, batch(head))
    (total / count).backward()
    counts = 0
    for part in batch(head).split(3):
        value, own = loss(split, part)
        (value / count).backward()
        counts += own
    assert counts == count
    for (name, a), b in zip(whole.named_parameters(), split.parameters(), strict=True):
        if a.grad is not None:
            assert np.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5), name
