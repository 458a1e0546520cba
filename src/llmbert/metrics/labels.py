"""Predicted labels and tags against the true ones: accuracy, macro-F1, and F1 of the spans that tags mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from llmbert.metrics.segments import (
    SegmentStatistics,
    compare_statistics,
    describe_score,
    f1_of,
    mean_statistics,
    ratio,
)
from llmbert.protocols import LLMBertError, UsageError

MOST_ENTRIES = 4_000_000  # of a table of counts; beyond it neighbouring segments share a row
Label = str | int


class Span(NamedTuple):
    """What tags mark: places `start` up to but without `end`, of that kind ("PER"; "" where tags name none)."""

    kind: str
    start: int
    end: int


def score_labels(
    predicted: Sequence[Label], true: Sequence[Label], *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """accuracy and macro-f1 of a classifier, in %, each as `describe_score` gives it.

    macro-f1 is the plain mean over all classes that occur on either side, with a part by_class: precision, recall,
    f1, true and predicted counts. Raises LLMBertError where there is nothing to score or the counts differ.
    """
    return {
        name: describe_score(name, statistics, resamples=resamples, seed=seed)
        for name, statistics in _label_statistics(predicted, true, _classes(predicted, true)).items()
    }


def compare_labels(
    a: Sequence[Label], b: Sequence[Label], true: Sequence[Label], *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Whether classifier `a` or `b` did better, by accuracy and macro-f1, each as `compare_statistics` gives it."""
    classes = _classes([*a, *b], true)
    of_a, of_b = (_label_statistics(each, true, classes) for each in (a, b))
    return {name: compare_statistics(name, of_a[name], of_b[name], resamples=resamples, seed=seed) for name in of_a}


def score_spans(
    predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]], *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """span-f1 (micro: over all spans) and span-f1-macro (mean over kinds), in %, of one tag sequence a sentence.

    A span counts where kind and both ends are right (CoNLL 2003). Tags in IOB, BIO, BIOES, BMES or BILOU, see
    `spans_of`. Parts: precision, recall, and by_class as in `score_labels`. Raises LLMBertError where the sequences
    do not fit together.
    """
    _check_tags(predicted, true)
    guess, truth = _spans_of_all(predicted, "predicted"), _spans_of_all(true, "true")
    statistics = _span_statistics(guess, truth, _kinds(guess, truth))
    return {name: describe_score(name, each, resamples=resamples, seed=seed) for name, each in statistics.items()}


def compare_spans(
    a: Sequence[Sequence[str]],
    b: Sequence[Sequence[str]],
    true: Sequence[Sequence[str]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Whether tagger `a` or `b` found the spans better; each as `compare_statistics` gives it."""
    for each in (a, b):
        _check_tags(each, true)
    spans_a, spans_b, spans = (_spans_of_all(each, name) for each, name in ((a, "a"), (b, "b"), (true, "true")))
    kinds = _kinds(spans_a, spans_b, spans)
    of_a, of_b = (_span_statistics(each, spans, kinds) for each in (spans_a, spans_b))
    return {name: compare_statistics(name, of_a[name], of_b[name], resamples=resamples, seed=seed) for name in of_a}


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans that tags mark, in order, read as conlleval does.

    "B-PER" (also S, U, and W for a span of one word) begins a span, "I-PER" or "M-PER" goes on with it, "E-PER" or
    "L-PER" ends it, "O" is outside. A tag that goes on or ends without a span of its kind begins one.

    Raises LLMBertError for a tag that begins with none of these letters.
    """
    spans: list[Span] = []
    kind, start = "", -1  # start -1: no span is open
    for place, tag in enumerate([*tags, "O"]):
        letter, _, of = tag.partition("-")
        if letter not in _LETTERS:
            raise LLMBertError(f'The tag "{tag}" is none of O, B-, I-, M-, E-, L-, S-, U-, W-; write tags as B-PER.')
        goes_on = letter in _INSIDE and of == kind and start >= 0
        if start >= 0 and not goes_on:
            spans.append(Span(kind, start, place))
            start = -1
        if letter != "O" and not goes_on:
            kind, start = of, place
        if letter in _LAST:
            spans.append(Span(kind, start, place + 1))
            start = -1
    return spans


_INSIDE = set("IMEL")
_LAST = set("ELSUW")
_LETTERS = _INSIDE | _LAST | set("BO")


def _spans_of_all(tags: Sequence[Sequence[str]], name: str) -> list[list[Span]]:
    found = []
    for i, sentence in enumerate(tags):
        if isinstance(sentence, str):
            raise UsageError(f"Sentence {i + 1} of {name} is one string; give a list of tags for each sentence.")
        try:
            found.append(spans_of(sentence))
        except LLMBertError as error:
            raise LLMBertError(f"Sentence {i + 1} of {name}: {error}") from error
    return found


def _check_tags(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> None:
    _check_counts(len(predicted), len(true), "tag sequences")
    for i, (guess, truth) in enumerate(zip(predicted, true, strict=True)):
        if len(guess) != len(truth):
            raise LLMBertError(
                f"Sentence {i + 1} has {len(guess)} predicted tags and {len(truth)} true ones; give one for each token."
            )


def _check_counts(predicted: int, true: int, noun: str) -> None:
    if predicted != true:
        raise LLMBertError(f"There are {predicted} predicted {noun} and {true} true ones; give one for each input.")
    if not true:
        raise LLMBertError(f"There are no {noun} to score; give at least one.")


def _classes(predicted: Sequence[Label], true: Sequence[Label]) -> list[Label]:
    classes = sorted({*predicted, *true}, key=str)
    if len(set(map(str, classes))) < len(classes):
        raise UsageError("Some labels are numbers here and text there; give all as text or all as numbers.")
    return classes


def _kinds(*spans: list[list[Span]]) -> list[Label]:
    return sorted({span.kind for sentences in spans for sentence in sentences for span in sentence})


def _label_statistics(
    predicted: Sequence[Label], true: Sequence[Label], classes: list[Label]
) -> dict[str, SegmentStatistics]:
    _check_counts(len(predicted), len(true), "labels")
    number = {label: i for i, label in enumerate(classes)}
    guess, truth = (np.array([number[label] for label in labels]) for labels in (predicted, true))
    everywhere = np.arange(len(truth))
    right = guess == truth
    counts = ((everywhere[right], truth[right]), (everywhere, guess), (everywhere, truth))
    return {
        "accuracy": mean_statistics(right, {"references": "one"}, scale=100),
        "macro-f1": _macro_statistics(counts, len(truth), classes),
    }


def _span_statistics(
    predicted: list[list[Span]], true: list[list[Span]], kinds: list[Label]
) -> dict[str, SegmentStatistics]:
    number = {kind: i for i, kind in enumerate(kinds)}
    tables: list[tuple[np.ndarray, np.ndarray]] = []
    hits = [list(set(guess) & set(truth)) for guess, truth in zip(predicted, true, strict=True)]
    for sentences in (hits, predicted, true):
        marks = [(i, number[span.kind]) for i, spans in enumerate(sentences) for span in spans]
        where, which = np.array(marks, dtype=np.int64).reshape(-1, 2).T
        tables.append((where, which))
    macro = _macro_statistics(tuple(tables), len(true), kinds)
    micro = np.stack([np.bincount(where, minlength=len(true)) for where, _ in tables], axis=1).astype(np.float64)
    signature: dict[str, str | int | float] = {"spans": "conlleval", "match": "kind+ends"}

    def parts(sums: np.ndarray) -> dict[str, Any]:
        exact = {"precision": float(100 * ratio(sums[0], sums[1])), "recall": float(100 * ratio(sums[0], sums[2]))}
        return {**exact, **macro.parts(macro.sums)}

    def score(sums: np.ndarray) -> np.ndarray:
        return 100 * ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])

    return {
        "span-f1": SegmentStatistics(micro, score, {"average": "micro", **signature}, parts),
        "span-f1-macro": replace(macro, signature={**macro.signature, **signature}),
    }


def _macro_statistics(
    counts: Sequence[tuple[np.ndarray, np.ndarray]], segments: int, classes: list[Label]
) -> SegmentStatistics:
    """Macro-F1 of (segment, class) marks of hits, predictions and truths: rows (n, 3 * classes)."""
    width = len(classes)
    units = max(1, min(segments, MOST_ENTRIES // max(1, 3 * width)))
    rows = np.zeros((units, 3 * width))
    for i, (where, which) in enumerate(counts):
        np.add.at(rows, (where * units // segments, which + i * width), 1.0)

    def score(sums: np.ndarray) -> np.ndarray:
        hits, predicted, true = (sums[:, i * width : (i + 1) * width] for i in range(3))
        met = (predicted + true) > 0  # a class that a resample lacks on both sides is left out of its mean
        return 100 * ratio(ratio(2 * hits, predicted + true).sum(axis=1), met.sum(axis=1))

    def parts(sums: np.ndarray) -> dict[str, Any]:
        return {"by_class": _by_class(sums.reshape(3, width), classes)}

    return SegmentStatistics(rows, score, {"average": "macro", "classes": "occurring"}, parts, segments=segments)


def _by_class(sums: np.ndarray, classes: list[Label]) -> dict[str, dict[str, float]]:
    hits, predicted, true = sums
    precision, recall = ratio(hits, predicted), ratio(hits, true)
    columns = zip(classes, precision, recall, f1_of(precision, recall), true, predicted, strict=True)
    return {
        str(label): {
            "precision": float(100 * p),
            "recall": float(100 * r),
            "f1": float(100 * f),
            "true": int(t),
            "predicted": int(g),
        }
        for label, p, r, f, t, g in columns
        if t + g
    }
