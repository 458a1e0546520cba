"""Long texts and dialogues to short ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmbert.protocols import Progress, silent
from llmbert.tasks.endings import complete_sentence
from llmbert.tasks.requests import (
    TextForm,
    ask,
    ask_stream,
    check_texts,
    fit_sources,
    prefix_for,
    refuse_source,
    searching,
    text_form,
    truncation_of,
)


def summarise(
    run: Any,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    truncation: str | None = None,
    source_tokens: int | None = None,
    whole_sentences: bool = False,
    beams: int = 4,
    length_penalty: float = 1.0,
    raw: bool = False,
    batch: int = 16,
    progress: Progress = silent,
    **settings: Any,
) -> list[str]:
    """The summaries, one for each text; a blank text gives a blank one.

    A text longer than the model reads, or than `source_tokens`, is cut by one of `TRUNCATIONS` (None: to its first
    sentences, or to its end where the run learned from ends), and one warning says how much went. max_tokens: most
    tokens of a summary; whole_sentences: one that ends within a sentence is cut back or given a full stop
    (`complete_sentence`; not for titles). raw: what the model wrote. settings: those of `GenerationSettings`.

    Raises UsageError for an unknown truncation or task, LLMBertError for a run that reads no source.
    """
    form, prefix = _prepare(run)
    prepared = [form.before(text) for text in check_texts(texts)]
    fitted = fit_sources(run, prepared, truncation or truncation_of(run, "lead"), prefix, source_tokens)
    chosen = {"max_tokens": max_tokens, **searching(beams, length_penalty, settings)}
    sources = [prefix + text if text.strip() else "" for text in fitted]
    answers = ask(run, sources, batch, progress, chosen)
    if raw:
        return answers
    tidy = [form.after(text, answer) for text, answer in zip(texts, answers, strict=True)]
    return [complete_sentence(each, form.target_language) for each in tidy] if whole_sentences else tidy


def summarise_stream(
    run: Any,
    text: str,
    *,
    max_tokens: int = 128,
    truncation: str | None = None,
    source_tokens: int | None = None,
    beams: int = 1,
    length_penalty: float = 1.0,
    raw: bool = False,
    **settings: Any,
) -> Iterator[str]:
    """`summarise` of one text, piece by piece as it is written (with beams above 1 at once)."""
    form, prefix = _prepare(run)
    kept = truncation or truncation_of(run, "lead")
    fitted = fit_sources(run, [form.before(text)], kept, prefix, source_tokens)[0]
    chosen = {"max_tokens": max_tokens, **searching(beams, length_penalty, settings)}
    source = prefix + fitted if fitted.strip() else ""
    return ask_stream(run, source, text, None if raw else form, chosen)


def _prepare(run: Any) -> tuple[TextForm, str]:
    refuse_source(run)
    return text_form(run), prefix_for(run, "summarise")
