"""Texts → classes, numbers and vectors, by the heads of a fine-tuned run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.labelled import LabelledRows, encode_texts
from llmbert.models.headed import Headed, HeadSettings
from llmbert.protocols import Progress, UsageError, silent
from llmbert.runs import Run, load
from llmbert.tasks.heads import AnyRun, lowercases, open_headed, run_head, warn_of_truncated
from llmbert.tasks.requests import ask, fit_sources, prefix_for, text_form

AT_ONCE = 4096  # texts of a stream that are held together, so that like lengths meet

Text = str | tuple[str, str]
"""A text, or the two of a pair."""


def classify(
    run: AnyRun, texts: Sequence[Text], *, head: str | None = None, batch: int = 64, progress: Progress = silent
) -> list[dict[str, Any]]:
    """What each text is: {"label": the most probable class, "probabilities": {class: p}}, in the order given.

    A head for several classes says {"labels": those with p ≥ 1/2, "probabilities": …}. A run that writes its classes
    out, as T5 does, says {"label": what it wrote}. run: a run or its folder; head: which of several. Raises UsageError
    where the run has no such head.
    """
    return list(classify_stream(run, texts, head=head, batch=batch, progress=progress))


def classify_stream(
    run: AnyRun, texts: Iterable[Text], *, head: str | None = None, batch: int = 64, progress: Progress = silent
) -> Iterator[dict[str, Any]]:
    """`classify` for any number of texts, some thousands of them held at a time."""
    opened = run if isinstance(run, Run) else load(Path(run))
    stream = iter(texts)
    if writes_classes(opened):
        while some := list(islice(stream, AT_ONCE)):
            yield from _written(opened, some, batch, progress)
        return
    known, name, settings = open_headed(opened, ("classify", "multilabel"), head)
    while some := list(islice(stream, AT_ONCE)):
        for scores in _outputs(known, name, some, batch, progress):
            yield _named(scores, settings)


def writes_classes(run: Run) -> bool:
    """Whether a run writes the class of a text out instead of choosing among the outputs of a head."""
    return not isinstance(run.model, Headed) and run.reads_source


def _written(run: Run, texts: Sequence[Text], batch: int, progress: Progress) -> Iterator[dict[str, Any]]:
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{run.folder} writes the class of one text; give texts, not pairs of them")
    form, prefix = text_form(run), prefix_for(run, "classify")
    fitted = fit_sources(run, [form.before(str(text)) for text in texts], "head", prefix)
    for answer in ask(run, [prefix + source for source in fitted], batch, progress, {"temperature": 0.0}):
        yield {"label": answer.strip()}


def _named(scores: np.ndarray, settings: HeadSettings) -> dict[str, Any]:
    labels = settings.labels
    if settings.task == "multilabel":
        shares = (1 / (1 + np.exp(-scores.astype(np.float64)))).tolist()
        probabilities = dict(zip(labels, shares, strict=True))
        return {"labels": [label for label, p in probabilities.items() if p >= 0.5], "probabilities": probabilities}
    shares = np.exp(scores - scores.max(), dtype=np.float64)
    probabilities = dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))
    return {"label": labels[int(scores.argmax())], "probabilities": probabilities}


def class_scores(
    run: AnyRun, texts: Sequence[Text], *, head: str | None = None, batch: int = 64, progress: Progress = silent
) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes of a head, and its scores of them before softmax for each text, float32 (texts, classes).

    Raises UsageError where the run has no head that chooses one class.
    """
    known, name, settings = open_headed(run, ("classify",), head)
    if not len(texts):
        return settings.labels, np.zeros((0, len(settings.labels)), np.float32)
    return settings.labels, np.stack(list(_outputs(known, name, texts, batch, progress)))


def estimate(
    run: AnyRun, texts: Sequence[Text], *, head: str | None = None, batch: int = 64, progress: Progress = silent
) -> list[float]:
    """The number that a regression head gives each text, in the unit of its training data."""
    known, name, settings = open_headed(run, ("regress",), head)
    scores = _outputs(known, name, texts, batch, progress)
    return [float(settings.shift + settings.scale * score[0]) for score in scores]


def embed(
    run: AnyRun, texts: Sequence[str], *, head: str | None = None, batch: int = 64, progress: Progress = silent
) -> np.ndarray:
    """A unit vector for each text, float32 (texts, D); texts that mean the same have a product near 1."""
    known, name, _ = open_headed(run, ("embed",), head)
    if not len(texts):
        return np.zeros((0, known.model.settings.width), np.float32)
    return np.stack(list(_outputs(known, name, texts, batch, progress)))


def encode_for(run: Run, texts: Sequence[Text]) -> LabelledRows:
    """Texts, or pairs of them, as the run's model takes them. Raises UsageError where they are neither, or mixed."""
    pairs = [isinstance(text, tuple) for text in texts]
    if any(pairs) and not all(pairs):
        raise UsageError("some texts are pairs and some are not; give one or the other")
    first = [text[0] if isinstance(text, tuple) else text for text in texts]
    second = [text[1] for text in texts if isinstance(text, tuple)] or None
    for text in (*first, *(second or ())):
        if not isinstance(text, str):
            raise UsageError(f"a text must be a string, not {text!r}")
    if lowercases(run):
        first, second = [text.lower() for text in first], second and [text.lower() for text in second]
    model = run.model
    return encode_texts(first, second, run.tokeniser, model.max_length, model.settings.separators)


def _outputs(run: Run, head: str, texts: Sequence[Text], batch: int, progress: Progress) -> Sequence[np.ndarray]:
    if not len(texts):
        return []
    rows = encode_for(run, texts)
    warn_of_truncated(rows, run.model.max_length)
    return list(run_head(run.model, rows, head, max(0, run.tokeniser.padding_id), batch, progress))
