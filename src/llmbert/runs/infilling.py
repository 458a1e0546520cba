"""Filling in: what of a text fits a model's context, and how a model that reads both ways fills gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from llmbert.decoding import GenerationSettings
from llmbert.decoding.mask_predict import fill, gibbs, make_template
from llmbert.decoding.stepping import device_of, evaluating
from llmbert.protocols import Progress, UsageError, silent

MARKS = 4  # the begin token, and the marks of prefix, suffix and middle


def nearest_context(before: NDArray[Any], after: NDArray[Any], reach: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """The end of `before` and the start of `after` that fill at most three quarters of a context of `reach` tokens.

    The rest is for what is written; what one of them leaves of its half is the other's.
    """
    if reach is None:
        return before, after
    room = max(0, reach * 3 // 4 - MARKS)
    behind = min(len(after), max(room // 2, room - len(before)))
    front = min(len(before), room - behind)
    return before[len(before) - front :], after[:behind]


def within_reach(settings: GenerationSettings, prompt: int, reach: int | None) -> GenerationSettings:
    """Settings under which a prompt of so many tokens is never left behind. Raises UsageError where it does not fit."""
    if reach is None:
        return settings
    left = reach - prompt - 1
    if left < 1:
        raise UsageError(f"{prompt} tokens do not fit this model's context of {reach}; give less text")
    return replace(settings, max_tokens=min(settings.max_tokens, left))


def fill_gaps(
    model: Any,
    before: Sequence[int],
    after: Sequence[int],
    settings: GenerationSettings,
    *,
    begin_id: int,
    end_id: int,
    forbidden_ids: Sequence[int],
    progress: Progress = silent,
) -> list[int]:
    """`max_tokens` tokens between two texts by a model that reads both ways, fewer where its context ends.

    Greedy settings fill the most certain gap first; settings that draw, or look at what was written before (penalties,
    `no_repeat_ngram`), go from left to right (Wang & Cho 2019). Raises UsageError for beams and for log-probabilities.
    """
    if settings.beams > 1:
        raise UsageError("a model that fills gaps has no beam search; leave out beams")
    if settings.logprobs:
        raise UsageError("a model that fills gaps has no next token to tell log-probabilities of; leave out logprobs")
    gaps = min(settings.max_tokens, max(1, model.settings.context - 2 - len(before) - len(after)))
    ids = make_template(
        gaps, begin_id=begin_id, end_id=end_id, mask_id=model.settings.mask_id or 0, prompt=before, suffix=after
    ).to(device_of(model))
    looks_back = settings.repetition_penalty != 1 or settings.no_repeat_ngram > 0
    looks_back = looks_back or settings.frequency_penalty != 0 or settings.presence_penalty != 0
    with evaluating(model):
        filled = (
            fill(model, ids, forbidden_ids=forbidden_ids, progress=progress)
            if settings.greedy and not looks_back
            else gibbs(model, ids, settings=settings, forbidden_ids=forbidden_ids, progress=progress)
        )
    return filled[0, 1 + len(before) : 1 + len(before) + gaps].tolist()
