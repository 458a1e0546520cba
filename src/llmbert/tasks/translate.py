"""Texts of one language to texts of another, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmbert.protocols import Progress, silent
from llmbert.tasks.requests import (
    TextForm,
    ask,
    ask_stream,
    check_texts,
    prefix_for,
    refuse_source,
    searching,
    source_length,
    source_room,
    text_form,
)
from llmbert.text.sentences import guess_language, is_wide, split_paragraphs, split_sentences
from llmbert.text.truncate import split_to_fit

_WIDE_MARKS = "，。、；：？！）】》」』"


@dataclass(frozen=True)
class _Part:
    """A sentence to translate, or, with `gap`, what stands between two and stays."""

    text: str
    gap: bool = False


def translate(
    run: Any,
    texts: Sequence[str],
    *,
    source_language: str | None = None,
    target_language: str | None = None,
    beams: int = 5,
    length_penalty: float = 1.0,
    whole: bool = False,
    raw: bool = False,
    batch: int = 32,
    progress: Progress = silent,
    **settings: Any,
) -> list[str]:
    """The translations, one for each text.

    Each line is translated sentence by sentence, all texts' sentences together in batches; line ends, blank lines and
    indentation stay where they are. A sentence longer than the model reads is cut at clauses. whole: each line goes in
    as it stands, as the segments of a test set do. raw: what the model wrote, without detokenising, capitals and the
    removal of loops (see `TextForm`). settings: those of `GenerationSettings`; max_tokens, of a sentence, is by default
    twice its own tokens and 20 more.

    Raises UsageError for languages the run does not know, LLMBertError for a run that reads no source.
    """
    texts = check_texts(texts)
    job = _Job(run, source_language, target_language, whole, raw)
    parts = [job.parts(text) for text in texts]
    sentences = [part.text for each in parts for part in each if not part.gap]
    chosen = searching(beams, length_penalty, settings)
    answers = ask(run, [job.source(sentence) for sentence in sentences], batch, progress, chosen)
    pieces = ([job.answer(*pair)] for pair in zip(sentences, answers, strict=True))
    return ["".join(_joined(each, pieces)) for each in parts]


def translate_stream(
    run: Any,
    text: str,
    *,
    source_language: str | None = None,
    target_language: str | None = None,
    beams: int = 5,
    length_penalty: float = 1.0,
    whole: bool = False,
    raw: bool = False,
    **settings: Any,
) -> Iterator[str]:
    """`translate` of one text, sentence by sentence as they are done; the pieces joined are its result."""
    job = _Job(run, source_language, target_language, whole, raw)
    parts = job.parts(text)
    sentences = [part.text for part in parts if not part.gap]
    chosen = searching(beams, length_penalty, settings)
    form = None if raw else job.form
    return _joined(parts, (ask_stream(run, job.source(sentence), sentence, form, chosen) for sentence in sentences))


class _Job:
    """What is the same for all sentences of a request."""

    def __init__(self, run: Any, source: str | None, target: str | None, whole: bool, raw: bool) -> None:
        refuse_source(run)
        self.run, self.whole, self.raw = run, whole, raw
        self.prefix = prefix_for(run, "translate", source, target)
        self.form: TextForm = text_form(run, source, target)
        self.length, self.room = source_length(run, self.prefix), source_room(run)

    def parts(self, text: str) -> list[_Part]:
        """A text's sentences and the gaps between its lines, in order."""
        found: list[_Part] = []
        for at, piece in enumerate(split_paragraphs(text)):
            if at % 2 or not piece.strip():
                found.append(_Part(piece, gap=True))
            else:
                found += self._sentences(piece)
        return found

    def _sentences(self, line: str) -> Iterator[_Part]:
        bare = line.strip()
        language = self.form.source_language or guess_language(bare)
        yield _Part(line[: len(line) - len(line.lstrip())], gap=True)
        for sentence in [bare] if self.whole else split_sentences(bare, language):
            pieces = [sentence] if self.room is None else split_to_fit(sentence, self.room, self.length)
            yield from (_Part(piece.strip()) for piece in pieces)
        yield _Part(line[len(line.rstrip()) :], gap=True)

    def source(self, sentence: str) -> str:
        return self.prefix + self.form.before(sentence)

    def answer(self, sentence: str, written: str) -> str:
        return written if self.raw else self.form.after(sentence, written)


def _joined(parts: Sequence[_Part], answers: Iterator[Iterable[str]]) -> Iterator[str]:
    """Gaps and translations, which come in pieces, in turn; a space between two sentences, none where Chinese meets."""
    before = ""  # the end of the sentence before, within the line
    for part in parts:
        if part.gap:
            before = "" if part.text else before
            yield part.text
            continue
        end = ""
        for piece in next(answers):
            if piece and not end and before and not _touch(before, piece):
                yield " "
            end = (end + piece)[-4:]
            yield piece
        before = end or before


def _touch(before: str, after: str) -> bool:
    """Whether two sentences stand without a space between them."""
    last = (before.rstrip("”’…") or before)[-1]
    return before[-1].isspace() or after[0].isspace() or is_wide(after[0]) or is_wide(last) or last in _WIDE_MARKS
