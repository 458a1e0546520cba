"""How a run wants to be asked, as its facts tell, and how its answers become text again.

Facts that count here (`run.json`), each with what its absence means:
    "prefixes": {"translate en-de": "translate English to German: "}   one task, no prefix
    "tasks": ["translate"]                                             any task
    "languages": {"source": "en", "target": "de"}                      guessed from the text
    "longest_target": 68                   tokens of the longest one that it learned             not known
    "text": {"lowercase": true,            sources and targets were lower-cased                  as written
             "normalised": true,           sources went through `normalise_text`                 as written
             "tokens": "words",            targets are tokens apart by spaces                    text
                       "hyphens"           the same, cut at hyphens too
             "delexicalised": ["name"]}    slots whose values placeholders stood for             none
A folder of Hugging Face's T5 tells its prefixes in `config.json`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmbert.protocols import LLMBertError, Progress, UsageError
from llmbert.runs import CONFIG, read_json
from llmbert.tasks.endings import cut_repeats, without_repeats
from llmbert.text.detokenise import detokenise
from llmbert.text.languages import base_code, language_pair, same_language
from llmbert.text.normalise import cased_words, normalise_text, true_case
from llmbert.text.sentences import guess_language
from llmbert.text.truncate import fit_texts

_FOREIGN_TASKS = {"summarization": "summarise"}
_FOREIGN_TRANSLATION = re.compile(r"translation_(\w+?)_to_(\w+)")


@dataclass(frozen=True)
class TextForm:
    """The form of text a run was trained on."""

    lowercase: bool = False
    normalised: bool = False
    tokens: str | None = None
    delexicalised: tuple[str, ...] = ()
    source_language: str | None = None
    target_language: str | None = None

    def before(self, text: str) -> str:
        """A source as the run knows it."""
        if self.normalised:
            text = normalise_text(text, self.source_language or guess_language(text))
        return text.lower() if self.lowercase else text

    def after(self, source: str, answer: str) -> str:
        """What the run wrote as people write: tokens joined, capitals at sentence starts and of the source's names, a
        loop at the end taken out."""
        language = self.target_language or "en"
        if self.tokens:
            answer = detokenise(answer, language, hyphens=self.tokens == "hyphens")
        answer = cut_repeats(answer.strip())
        if self.lowercase and language != "zh":
            answer = true_case(answer, language, cased_words(source, self.source_language or "en"))
        return answer

    @property
    def plain(self) -> bool:
        """Whether an answer may be shown while it is written: nothing is done to it but at its end."""
        return not (self.lowercase or self.tokens or self.delexicalised)


def text_form(run: Any, source_language: str | None = None, target_language: str | None = None) -> TextForm:
    """The form a run's facts tell, with the languages asked for in place of the run's own."""
    facts = run.facts.get("text") or {}
    languages = run.facts.get("languages") or {}
    stated = source_language or languages.get("source"), target_language or languages.get("target")
    return TextForm(
        bool(facts.get("lowercase")),
        bool(facts.get("normalised")),
        facts.get("tokens"),
        tuple(facts.get("delexicalised") or ()),
        *(base_code(each) if each else None for each in stated),
    )


def prefixes_of(run: Any) -> dict[str, str]:
    """The run's tasks and what each source begins with: {"translate en-de": "translate English to German: "}."""
    if run.facts.get("prefixes"):
        return dict(run.facts["prefixes"])
    path = run.folder / CONFIG
    if run.facts or not path.exists():
        return {}
    found = read_json(path).get("task_specific_params") or {}
    named = {_foreign_name(name): values.get("prefix") for name, values in found.items() if isinstance(values, dict)}
    return {name: prefix for name, prefix in named.items() if isinstance(prefix, str)}


def _foreign_name(name: str) -> str:
    pair = _FOREIGN_TRANSLATION.fullmatch(name)
    return f"translate {pair[1]}-{pair[2]}" if pair else _FOREIGN_TASKS.get(name, name)


def prefix_for(run: Any, task: str, source_language: str | None = None, target_language: str | None = None) -> str:
    """What a source of this task begins with; "" for a run of one task.

    Raises UsageError where the run does not know the task or the pair of languages, or knows several, naming them.
    """
    known = prefixes_of(run)
    if not known:
        _check_single(run, task, source_language, target_language)
        return ""
    fitting = [name for name in known if _fits(name, task, source_language, target_language)]
    if len(fitting) == 1:
        return known[fitting[0]]
    asked = " ".join([task, *([f"{source_language or '?'}-{target_language or '?'}"] if task == "translate" else [])])
    tell = "say which languages" if fitting else "ask for one of these"
    raise UsageError(f"{run.folder} has no single task {asked!r} but {', '.join(fitting or known)}; {tell}")


def _fits(name: str, task: str, source_language: str | None, target_language: str | None) -> bool:
    kind, _, languages = name.partition(" ")
    if kind != task:
        return False
    source, target = language_pair(languages) or languages.partition("-")[::2]  # names of one's own are cut too
    return source_language in (None, source) and target_language in (None, target) if languages else True


def _check_single(run: Any, task: str, source_language: str | None, target_language: str | None) -> None:
    """Refuse what a run of one task says it does not do."""
    tasks = run.facts.get("tasks")
    if tasks and task not in tasks:
        raise UsageError(f"{run.folder} was not trained to {task} but to {', '.join(tasks)}; ask for that")
    languages = run.facts.get("languages") or {}
    for side, asked in (("source", source_language), ("target", target_language)):
        if asked and languages.get(side) and not same_language(languages[side], asked):
            raise UsageError(
                f"{run.folder} translates {languages.get('source')} to {languages.get('target')}, "
                f"and {asked} was asked for as the {side}; leave it out or take another run"
            )


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; UsageError for a single string, which would be taken apart into characters."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UsageError("give a list of texts, even for a single one")
    return list(texts)


def source_length(run: Any, prefix: str = "") -> Callable[[str], int]:
    """How many tokens a source takes, prefix and end token included."""
    return lambda text: len(run.encode_source(prefix + text))


def source_room(run: Any) -> int | None:
    """How many tokens a source may have; None where the model reaches any distance."""
    reach = getattr(run.model, "max_length", None)
    return int(reach) if reach is not None else None


def truncation_of(run: Any, usual: str) -> str:
    """Which part of a source that is too long a run is shown: the end where it learned from ends (`keep_end`), else
    what is usual, if that is a beginning or the run does not tell how it learned."""
    training = (run.facts.get("settings") or {}).get("training")
    if training is None:
        return usual
    return "tail" if training.get("keep_end") else "head" if usual == "tail" else usual


def fit_sources(run: Any, texts: Sequence[str], policy: str, prefix: str = "", room: int | None = None) -> list[str]:
    """Sources cut to what the run reads (or to `room` tokens, if that is less); one warning says how much went."""
    reach = source_room(run)
    limits = [limit for limit in (reach, room) if limit is not None]
    fitted = fit_texts(texts, min(limits) if limits else None, source_length(run, prefix), policy)
    if fitted.cut:
        warnings.warn(f"{fitted.sentence()}; kept: {policy}", UserWarning, stacklevel=3)
    return fitted.texts


def ask(
    run: Any,
    sources: Sequence[str],
    batch: int,
    progress: Progress,
    settings: dict[str, Any],
    most: int | None = None,
) -> list[str]:
    """What the run writes for each source, in order; a blank source gets a blank answer without asking.

    Where settings name no max_tokens, each answer has its own (`longest_answer`, and at most `most`), whoever else is
    asked for.
    """
    filled = [at for at, source in enumerate(sources) if source.strip()]
    answers = [""] * len(sources)
    if filled:
        asked = [sources[at] for at in filled]
        limits = None if "max_tokens" in settings else [longest_answer(run, source) for source in asked]
        if limits and most is not None:
            limits = [min(limit, most) for limit in limits]
        written = run.generate_many(sources=asked, batch=batch, limits=limits, progress=progress, **settings)
        for at, answer in zip(filled, written, strict=True):
            answers[at] = answer
    return answers


def ask_stream(run: Any, source: str, text: str, form: TextForm | None, settings: dict[str, Any]) -> Iterator[str]:
    """What the run writes for one source, piece by piece; with a form (None: as it was written) as `TextForm.after`
    gives it, at once where that changes more than the end."""
    if not source.strip():
        return
    pieces = run.stream(source=source, **{"max_tokens": longest_answer(run, source), **settings})
    if form is None:
        yield from pieces
    elif form.plain:
        yield from without_repeats(pieces)
    else:
        yield form.after(text, "".join(pieces))


def searching(beams: int, length_penalty: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an answer that is searched for: beams, or greedy where the temperature is not asked for."""
    chosen = {"beams": beams, "length_penalty": length_penalty, **settings}
    return chosen if "temperature" in settings else {**chosen, "temperature": 0.0}


def longest_answer(run: Any, source: str) -> int:
    """Tokens an answer may have where nobody said: twice its source's and 20 more, at most what the model reaches."""
    reach = source_room(run)
    most = 2 * len(run.encode_source(source)) + 20
    return most if reach is None else max(1, min(most, reach - 1))


def refuse_source(run: Any) -> None:
    """Raise LLMBertError where a run reads no source."""
    if not run.reads_source:
        raise LLMBertError(
            f"{run.folder} is a {run.family}, which writes on from a prompt and reads no source; take an "
            f"encoder-decoder: llmbert train --family transformer (or t5) on pairs"
        )
