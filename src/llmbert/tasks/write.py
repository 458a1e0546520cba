"""Records to text: slots, triples or objects to the sentences that say them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.tasks.requests import (
    TextForm,
    ask,
    ask_stream,
    fit_sources,
    prefix_for,
    refuse_source,
    searching,
    text_form,
)
from llmbert.text.linearise import (
    delexicalise_slots,
    format_slots,
    left_placeholders,
    linearise,
    parse_slots,
    placeholder_values,
    relexicalise,
)


@dataclass(frozen=True)
class _Request:
    """A record as the run reads it, and the names to put back into what it writes."""

    source: str
    values: dict[str, str]


def write(
    run: Any,
    records: Sequence[Any],
    *,
    beams: int = 5,
    length_penalty: float = 1.0,
    raw: bool = False,
    batch: int = 32,
    progress: Progress = silent,
    **settings: Any,
) -> list[str]:
    """A text for each record, which may be anything that `linearise` takes.

    Where the run learned from texts without names ("delexicalised" in its facts), they are taken out of the record and
    put back into the text; one warning counts the texts with a placeholder nobody has a name for. raw: what the model
    wrote. settings: those of `GenerationSettings`; max_tokens is by default twice a record's own and 20 more.

    Raises UsageError for what is no record, naming its number; LLMBertError for a run that reads no source.
    """
    form, prefix = _prepare(run)
    requests = [_request(record, form, f"record {number}") for number, record in enumerate(_listed(records), 1)]
    fitted = fit_sources(run, [request.source for request in requests], "head", prefix)
    chosen = searching(beams, length_penalty, settings)
    answers = ask(run, [prefix + source for source in fitted], batch, progress, chosen)
    if raw:
        return answers
    texts = [_after(form, request, answer) for request, answer in zip(requests, answers, strict=True)]
    _warn_of_placeholders(form, texts)
    return texts


def write_stream(
    run: Any, record: Any, *, beams: int = 1, length_penalty: float = 1.0, raw: bool = False, **settings: Any
) -> Iterator[str]:
    """`write` of one record, piece by piece as it is written (at once with beams above 1 or with names to put in)."""
    form, prefix = _prepare(run)
    request = _request(record, form, "the record")
    fitted = fit_sources(run, [request.source], "head", prefix)
    chosen = searching(beams, length_penalty, settings)
    pieces = ask_stream(run, prefix + fitted[0], request.source, None if raw else form, chosen)
    return pieces if raw or not request.values else iter([relexicalise("".join(pieces), request.values)])


def _prepare(run: Any) -> tuple[TextForm, str]:
    refuse_source(run)
    return text_form(run), prefix_for(run, "write")


def _listed(records: Sequence[Any]) -> list[Any]:
    if isinstance(records, str | dict):
        raise UsageError("give a list of records, even for a single one")
    return list(records)


def _request(record: Any, form: TextForm, place: str) -> _Request:
    try:
        line = linearise(record)
        values: dict[str, str] = {}
        if form.delexicalised and "[" in line and " | " not in line:
            slots = parse_slots(line)
            values = placeholder_values(slots, form.delexicalised)
            line = format_slots(delexicalise_slots(slots, form.delexicalised))
    except LLMBertError as error:
        raise UsageError(f"{place}: {error}") from error
    return _Request(form.before(line), values)


def _after(form: TextForm, request: _Request, answer: str) -> str:
    return relexicalise(form.after(request.source, answer), request.values)


def _warn_of_placeholders(form: TextForm, texts: Sequence[str]) -> None:
    left = sum(bool(left_placeholders(text)) for text in texts) if form.delexicalised else 0
    if left:
        warnings.warn(
            f"{left:,} of {len(texts):,} texts name a placeholder that their record has no value for",
            UserWarning,
            stacklevel=3,
        )
