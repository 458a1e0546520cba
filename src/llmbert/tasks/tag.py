"""Texts → the spans in them that a fine-tuned run knows: names, diseases, parts of speech."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmbert.data.labelled import encode_words
from llmbert.metrics.labels import spans_of
from llmbert.protocols import Progress, UsageError, silent
from llmbert.tasks.heads import AnyRun, lowercases, open_headed, run_tags
from llmbert.text.tags import find_scheme, find_words


def tag(
    run: AnyRun,
    texts: Sequence[str | Sequence[str]],
    *,
    head: str | None = None,
    batch: int = 64,
    progress: Progress = silent,
) -> list[list[dict[str, Any]]]:
    """The spans of each text, in order: {"kind", "start", "end", "text", "confidence"}.

    start, end: offsets in characters, text[start:end] is the span; for a text that comes as a list of words they
    count words. confidence: the probability of the least certain of its words' tags. Where tags mark no spans (parts
    of speech) each word is one. A text of any length is read whole. Raises UsageError where the run has no such head.
    """
    known, name, settings = open_headed(run, ("tag",), head)
    characters = known.facts.get("words") == "characters"
    cut = [_words(text, characters) for text in texts]
    lowered = lowercases(known)
    sentences = [[word.lower() if lowered else word for word in words] for words, _ in cut]
    there = [i for i, words in enumerate(sentences) if words]
    found: list[list[dict[str, Any]]] = [[] for _ in texts]
    if not there:
        return found
    rows = encode_words(
        [sentences[i] for i in there],
        known.tokeniser,
        known.model.max_length,
        characters,
        word_at=settings.word_at or "first",
    )
    tags, shares = run_tags(known.model, rows, name, max(0, known.tokeniser.padding_id), batch, progress)
    spans = find_scheme(settings.labels) is not None
    for i, own, certain in zip(there, tags, shares, strict=True):
        found[i] = _spans(texts[i], cut[i][1], own, certain, spans)
    return found


def _words(text: str | Sequence[str], characters: bool) -> tuple[list[str], list[tuple[int, int]] | None]:
    """The words of a text and their places, or None where they came apart."""
    if isinstance(text, str):
        places = find_words(text, characters)
        return [text[start:end] for start, end in places], places
    words = list(text)
    if not all(isinstance(word, str) for word in words):
        raise UsageError(f"a text must be a string or a list of words, not {text!r}")
    return words, None


def _spans(
    text: str | Sequence[str],
    places: list[tuple[int, int]] | None,
    tags: list[str],
    certain: np.ndarray,
    spans: bool,
) -> list[dict[str, Any]]:
    marked = (
        [(span.kind, span.start, span.end) for span in spans_of(tags)]
        if spans
        else [(name, i, i + 1) for i, name in enumerate(tags)]
    )
    found = []
    for kind, first, last in marked:
        if places is None:
            start, end, own = first, last, " ".join(text[first:last])
        else:
            start, end = places[first][0], places[last - 1][1]
            own = str(text[start:end])
        confidence = float(certain[first:last].min())
        found.append({"kind": kind, "start": start, "end": end, "text": own, "confidence": confidence})
    return found
