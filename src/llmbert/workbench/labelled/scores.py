"""What heads say against the labels of held-out examples: scores with intervals and signatures, by kind of head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmbert.data.labelled import Examples, LabelledRows
from llmbert.metrics import build_signature, score_labels, score_spans
from llmbert.metrics.bootstrap import percentile_interval
from llmbert.metrics.segments import SegmentStatistics, describe_score, mean_statistics, ratio
from llmbert.models.headed import Headed, HeadSettings
from llmbert.protocols import Progress, silent
from llmbert.tasks.heads import run_head, run_tags
from llmbert.text.tags import find_scheme

LEVEL = 0.95
NEAR = 1e-6  # a difference of cosines that rounding makes


def predict(
    model: Headed, rows: LabelledRows, head: str, padding_id: int, progress: Progress = silent
) -> list[Any] | np.ndarray:
    """What a head says of rows, in the terms of their labels: classes, lists of classes, tags or numbers; of pairs for
    `embed` the vectors of both sides, float32 (pairs, 2, D)."""
    settings = model.settings.heads[head]
    if settings.task == "tag":
        return run_tags(model, rows, head, padding_id, progress=progress)[0]
    outputs = run_head(model, rows, head, padding_id, progress=progress)
    if settings.task == "classify":
        return [settings.labels[i] for i in outputs.argmax(1)]
    if settings.task == "multilabel":
        return [[label for label, score in zip(settings.labels, row, strict=True) if score >= 0] for row in outputs]
    if settings.task == "regress":
        return settings.shift + settings.scale * outputs[:, 0].astype(np.float64)
    assert rows.others is not None
    second = run_head(model, LabelledRows(rows.others), head, padding_id, progress=progress)
    return np.stack([outputs, second], axis=1)


def score_head(
    settings: HeadSettings, predicted: Any, examples: Examples, *, resamples: int = 1000
) -> dict[str, dict[str, Any]]:
    """The scores of a head's predictions on examples, by name, each as `describe_score` gives it; the first is the main
    one, which early stopping goes by and which is better the higher it is.
    """
    if settings.task == "embed":
        return _vector_scores(predicted, examples, resamples)
    true = examples.labels
    assert true is not None
    if settings.task == "classify":
        return score_labels(predicted, true, resamples=resamples)
    if settings.task == "multilabel":
        return _several_scores(predicted, true, resamples)
    if settings.task == "regress":
        return _number_scores(np.asarray(predicted), np.asarray(true), resamples)
    if find_scheme(settings.labels):
        return score_spans(predicted, true, resamples=resamples)
    rows = np.array(
        [
            [len(own), sum(a == b for a, b in zip(own, guess, strict=True))]
            for own, guess in zip(true, predicted, strict=True)
        ]
    )
    words = SegmentStatistics(rows.astype(float), lambda sums: 100 * ratio(sums[:, 1], sums[:, 0]), {"of": "words"})
    return {"accuracy": describe_score("accuracy", words, resamples=resamples)}


def _several_scores(
    predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]], resamples: int
) -> dict[str, dict[str, Any]]:
    """Micro-averaged F1 over (text, class) and the share of texts whose classes are all right, in %."""
    pairs = [(set(guess), set(own)) for guess, own in zip(predicted, true, strict=True)]
    rows = np.array([[len(guess & own), len(guess), len(own)] for guess, own in pairs], dtype=float)
    micro = SegmentStatistics(
        rows, lambda sums: 100 * ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2]), {"average": "micro"}
    )
    exact = mean_statistics(np.array([guess == own for guess, own in pairs], dtype=float), {}, scale=100)
    return {
        "micro-f1": describe_score("micro-f1", micro, resamples=resamples),
        "exact": describe_score("exact", exact, resamples=resamples),
    }


def _number_scores(predicted: np.ndarray, true: np.ndarray, resamples: int) -> dict[str, dict[str, Any]]:
    """Spearman's rank correlation, in %, and the mean squared error."""
    squares = mean_statistics((predicted - true) ** 2, {}, lower_is_better=True)
    return {
        "spearman": _resampled("spearman", _spearman, (predicted, true), resamples),
        "mse": describe_score("mse", squares, resamples=resamples),
    }


def _vector_scores(vectors: np.ndarray, examples: Examples, resamples: int) -> dict[str, dict[str, Any]]:
    """Spearman's correlation of cosines with the labels; without labels how often, of all second texts, a first one's
    own is the nearest, in %."""
    if examples.labels is None:
        return found_scores([vectors], [examples], resamples)
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(1)
    return {"spearman": _resampled("spearman", _spearman, (cosines, np.asarray(examples.labels)), resamples)}


def found_scores(
    vectors: Sequence[np.ndarray], examples: Sequence[Examples], resamples: int = 1000
) -> dict[str, dict[str, Any]]:
    """How often a first text's own second text is the nearest of all that the same model was shown, in %; vectors: of
    each model, (pairs, 2, D), with the pairs they are of."""
    sizes = sorted({len(each) for each in examples})
    among = sizes[0] if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
    found = np.concatenate([_found(each, pairs) for each, pairs in zip(vectors, examples, strict=True)])
    return {"found": describe_score("found", mean_statistics(found, {"among": among}, scale=100), resamples=resamples)}


def _found(vectors: np.ndarray, pairs: Examples) -> np.ndarray:
    """(pairs,) 1 where a first text's own second text is the nearest, its share where others are as near: a model to
    which all texts are alike finds by chance. A text that stands there twice is one."""
    assert pairs.others is not None
    found = np.zeros(len(pairs))
    for row, (first, own) in enumerate(zip(vectors[:, 0], pairs.others, strict=True)):
        cosines = vectors[:, 1] @ first
        as_near = {pairs.others[i] for i in np.flatnonzero(cosines >= cosines.max() - NEAR)}
        found[row] = own in as_near and 1 / len(as_near)
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation in %, ties sharing their mean rank; 0 where one side is all alike."""
    ranks = [_ranks(values) for values in (a, b)]
    spreads = [float(rank.std()) for rank in ranks]
    if not all(spreads):
        return 0.0
    return float(100 * ((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())).mean() / (spreads[0] * spreads[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[where]


def _resampled(metric: str, score: Any, columns: tuple[np.ndarray, np.ndarray], resamples: int) -> dict[str, Any]:
    """A score that is no function of sums, with the interval of a bootstrap over examples (Efron 1979)."""
    random = np.random.default_rng(0)
    count = len(columns[0])
    draws = (random.integers(0, count, count) for _ in range(resamples))
    values = np.array([score(columns[0][draw], columns[1][draw]) for draw in draws])
    return {
        "score": score(*columns),
        "interval": list(percentile_interval(values, LEVEL)) if count >= 2 and resamples else None,
        "n": count,
        "empty": 0,
        "signature": build_signature(metric, bootstrap=f"segments-{resamples}-seed0"),
    }
