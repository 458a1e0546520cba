"""Verbs that ask runs: translate, summarise, write, classify, tag and chat."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmbert.cli import exchange
from llmbert.cli.exchange import INTO, Batch, Fields, In, Into, Json, Out, Overwrite, Request, RunFolder, Texts, Weights
from llmbert.cli.labelling import classify, tag
from llmbert.protocols import LLMBertError, UsageError, silent

__all__ = ["chat", "classify", "summarise", "tag", "translate", "write"]

if TYPE_CHECKING:
    from llmbert.tasks.chat import Conversation

Lines = Annotated[bool, typer.Option("--lines", help="Each line of a .txt file is a text of its own.")]
Raw = Annotated[bool, typer.Option("--raw", help="As the model wrote it: not tidied up.")]
Beams = Annotated[int, typer.Option("--beams", help="1: no search.")]
LengthPenalty = Annotated[float, typer.Option("--length-penalty")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Of one answer.")]
NoRepeat = Annotated[int, typer.Option("--no-repeat-ngram", help="No n words twice; 0: off.")]


def translate(
    run: RunFolder,
    texts: Texts = None,
    source_language: Annotated[str | None, typer.Option("--from", metavar="LANG", help="en, de, zh, ….")] = None,
    target_language: Annotated[str | None, typer.Option("--to", metavar="LANG", help="en, de, zh, ….")] = None,
    path: In = None,
    fields: Fields = None,
    out: Out = None,
    into: Into = INTO,
    overwrite: Overwrite = False,
    lines: Lines = False,
    whole: Annotated[bool, typer.Option("--whole", help="Each line as it is, not by sentences (test sets).")] = False,
    beams: Beams = 5,
    length_penalty: LengthPenalty = 1.0,
    max_tokens: MaxTokens = None,
    no_repeat_ngram: NoRepeat = 0,
    batch: Batch = 32,
    raw: Raw = False,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Translate texts, line by line and sentence by sentence."""
    request = Request(texts or [], path, fields, out, into, overwrite, as_json, lines)
    options = _generation(beams, length_penalty, max_tokens, no_repeat_ngram) | {"raw": raw, "whole": whole}
    options |= {"source_language": source_language, "target_language": target_language}
    _answer(run, "translate", request, options, batch, weights)


def summarise(
    run: RunFolder,
    texts: Texts = None,
    path: In = None,
    fields: Fields = None,
    out: Out = None,
    into: Into = INTO,
    overwrite: Overwrite = False,
    lines: Lines = False,
    truncation: Annotated[
        str | None,
        typer.Option("--truncation", help="Of a long text: lead, head, tail, head+tail.", show_default="as trained"),
    ] = None,
    source_tokens: Annotated[int | None, typer.Option("--source-tokens", help="Most tokens read of a text.")] = None,
    whole_sentences: Annotated[bool, typer.Option("--whole-sentences", help="End with a sentence.")] = False,
    beams: Beams = 4,
    length_penalty: LengthPenalty = 1.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Of one summary.")] = 128,
    no_repeat_ngram: NoRepeat = 0,
    batch: Batch = 16,
    raw: Raw = False,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Summarise texts or dialogues."""
    request = Request(texts or [], path, fields, out, into, overwrite, as_json, lines)
    options = _generation(beams, length_penalty, max_tokens, no_repeat_ngram) | {"raw": raw}
    options |= {"truncation": truncation, "source_tokens": source_tokens}
    _answer(run, "summarise", request, options | ({"whole_sentences": True} if whole_sentences else {}), batch, weights)


def write(
    run: RunFolder,
    records: Annotated[
        list[str] | None, typer.Argument(metavar="[RECORD]...", help='"name[X], food[Y]", JSON, or "a | b | c".')
    ] = None,
    path: In = None,
    fields: Fields = None,
    out: Out = None,
    into: Into = INTO,
    overwrite: Overwrite = False,
    beams: Beams = 5,
    length_penalty: LengthPenalty = 1.0,
    max_tokens: MaxTokens = None,
    no_repeat_ngram: NoRepeat = 0,
    batch: Batch = 32,
    raw: Raw = False,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Write out records: slots, triples or JSON objects."""
    request = Request(records or [], path, fields, out, into, overwrite, as_json, form="record")
    options = _generation(beams, length_penalty, max_tokens, no_repeat_ngram) | {"raw": raw}
    _answer(run, "write", request, options, batch, weights)


def _generation(beams: int, length_penalty: float, max_tokens: int | None, no_repeat_ngram: int) -> dict[str, Any]:
    if beams < 1:
        raise UsageError(f"--beams must be at least 1, not {beams}")
    settings = {"beams": beams, "length_penalty": length_penalty, "no_repeat_ngram": no_repeat_ngram}
    return settings | ({} if max_tokens is None else {"max_tokens": max_tokens})


# ---- the writing tasks ---------------------------------------------------------------------------------------------


def _answer(folder: str, task: str, request: Request, options: dict[str, Any], batch: int, weights: str | None) -> None:
    """Ask a run for all items of a request; a single text without a file is shown while it is written."""
    exchange.check_request(request, batch)
    from llmbert.cli.display import Display
    from llmbert.runs import load

    whole, stream = _functions(task)
    shown_at_once = request.out or request.as_json or "whole_sentences" in options
    if len(request.texts) == 1 and not shown_at_once:
        (item,) = request.items(silent)
        with exchange.notes():
            exchange.print_stream(stream(load(folder, weights), item.source, **options))
        return
    with Display() as display, exchange.notes():
        items = request.items(display)
        run = load(folder, weights)
        found = _once_each(items, lambda sources: whole(run, sources, batch=batch, progress=display, **options))
        scores = _score(run, task, items, found, options)
    exchange.give(request, items, found, scores)


def _functions(task: str) -> tuple[Callable[..., list[str]], Callable[..., Iterator[str]]]:
    from importlib import import_module

    module = import_module(f"llmbert.tasks.{task}")
    return getattr(module, task), getattr(module, f"{task}_stream")


def _once_each(items: Sequence[exchange.Item], answer: Callable[[list[Any]], list[str]]) -> list[str]:
    """The answers for all items; equal sources (records with several references) are asked but once."""
    keys = [item.source if isinstance(item.source, str) else exchange.as_json(item.source) for item in items]
    unique = {key: item.source for key, item in zip(keys, items, strict=True)}
    found = dict(zip(unique, answer(list(unique.values())), strict=True))
    return [found[key] for key in keys]


def _score(
    run: Any, task: str, items: Sequence[exchange.Item], found: Sequence[str], options: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Scores against the references that came along, those of equal sources together; {} where there are none."""
    grouped: dict[str, tuple[str, list[str]]] = {}
    for item, answer in zip(items, found, strict=True):
        key = exchange.as_json(item.source)
        grouped.setdefault(key, (answer, []))[1].extend(item.targets)
    scored = [(answer, targets) for answer, targets in grouped.values() if targets]
    if not scored:
        return {}
    from llmbert.metrics import score_texts
    from llmbert.text.sentences import guess_language
    from llmbert.workbench.measure import TASKS

    stated = options.get("target_language") or (run.facts.get("languages") or {}).get("target")
    language = stated or guess_language(" ".join(targets[0] for _, targets in scored[:100]))
    hypotheses, references = zip(*scored, strict=True)
    return score_texts(list(hypotheses), list(references), TASKS[task].metrics, language=language)


# ---- chat ----------------------------------------------------------------------------------------------------------

TALKING = {"system", "speakers", "no_log", "seed", "max_tokens", "temperature", "top_k", "top_p", "beams"}
TALKING |= {"repetition_penalty"}
"""The options of `chat` that a page on earlier talk has no use for."""
HELP = "/good or /bad [note] rates the last reply, /save FILE keeps the text, /quit ends"


def chat(
    context: typer.Context,
    run: RunFolder,
    system: Annotated[str, typer.Option("--system", help="What holds for the whole conversation.")] = "",
    speakers: Annotated[
        list[str] | None, typer.Option("--speaker", metavar="NAME", help="Who takes part, the run the last; repeated.")
    ] = None,
    log: Annotated[str | None, typer.Option("--log", metavar="FILE", help="By default chats.jsonl beside RUN.")] = None,
    no_log: Annotated[bool, typer.Option("--no-log", help="Keep nothing.")] = False,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="Write a page on the log and leave.")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of dialogue or page: en or zh.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Of one reply.")] = 128,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0.8; 0 takes the likeliest token.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", help="0: all.")] = 0,
    top_p: Annotated[float | None, typer.Option("--top-p", help="0.95.")] = None,
    repetition_penalty: Annotated[float, typer.Option("--repetition-penalty")] = 1.0,
    beams: Annotated[int, typer.Option("--beams", help="Above 1: search instead of draws.")] = 1,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="With --report: print the figures as JSON.")] = False,
) -> None:
    """Talk with a run, a line at a time; with --report, show how earlier conversations went."""
    if log and no_log:
        raise UsageError("--log names a file to keep and --no-log keeps nothing; give one of them")
    if as_json and report is None:
        raise UsageError("--json prints the figures of a page; give --report FILE with it")
    from llmbert.tasks.chat_log import ChatLog, default_log

    if report is not None:
        exchange.refuse_given(
            context, TALKING, "is for talking, and --report shows earlier talk; leave one of them out"
        )
        _chat_report(Path(log) if log else default_log(run), report, language or "en", as_json)
        return
    from llmbert.runs import load
    from llmbert.tasks.chat import Conversation

    settings: dict[str, Any] = {"max_tokens": max_tokens, "top_k": top_k, "seed": seed, "beams": beams}
    settings |= {"repetition_penalty": repetition_penalty}
    settings |= {} if temperature is None else {"temperature": temperature}
    settings |= {} if top_p is None else {"top_p": top_p}
    loaded = load(run)
    kept = None if no_log else ChatLog(log or default_log(run))
    talk = Conversation(loaded, speakers=speakers or (), system=system, language=language, log=kept, **settings)
    print(
        f"{loaded.folder.name} ({loaded.family}): you are {', '.join(talk.speakers[:-1])}, it is {talk.own}",
        file=sys.stderr,
    )
    print(f"{HELP}; kept in {kept.path}" if kept else f"{HELP}; nothing is kept", file=sys.stderr)
    _talk(talk, sys.stdin.isatty())


def _talk(talk: Conversation, interactive: bool) -> None:
    """Turn about until the input ends; a person's slip is told and the conversation goes on, a script's ends it."""
    speaker = talk.speakers[0]
    while (line := _next_line(f"{speaker}: " if interactive else None)) is not None:
        try:
            if line.startswith("/"):
                if not _command(talk, line):
                    return
            elif line:
                speaker, text = _addressed(talk, line, speaker)
                talk.say(text, speaker)
                _show_reply(talk)
        except LLMBertError as error:
            if not interactive:
                raise
            print(f"llmbert: {error}", file=sys.stderr)


def _next_line(prompt: str | None) -> str | None:
    """The next line without its end, None at the end of the input; a prompt is shown where a person types."""
    try:
        line = input(prompt) if prompt is not None else sys.stdin.readline()
    except EOFError:
        print()
        return None
    return line.strip() if line or prompt is not None else None


def _show_reply(talk: Conversation) -> None:
    """The reply as it comes; Ctrl-C breaks it off, and what came counts."""
    print(f"{talk.own}: ", end="", flush=True)
    stream = talk.stream()
    try:
        for piece in stream:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        stream.close()  # type: ignore[attr-defined]
        print(" …", end="")
    print()


def _addressed(talk: Conversation, line: str, speaker: str) -> tuple[str, str]:
    """Who speaks and what: "Ann: hello" is Ann's, if she takes part; other lines are of whoever spoke last."""
    from llmbert.text.dialogue import turn_mark

    for name in talk.speakers[:-1]:
        for language in ("en", "zh"):
            if line.startswith(mark := turn_mark(name, language)):
                return name, line.removeprefix(mark).strip()
    return speaker, line


def _command(talk: Conversation, line: str) -> bool:
    """Do what a line with a slash asks for; False: to end."""
    name, _, rest = line.partition(" ")
    if name in ("/good", "/bad"):
        talk.rate(name == "/good", rest)
        print("thanks", file=sys.stderr)
    elif name == "/save":
        _save(talk, rest.strip())
    elif name != "/quit":
        raise UsageError(f"there is no {name}; {HELP}")
    return name != "/quit"


def _save(talk: Conversation, name: str) -> None:
    if not name:
        raise UsageError("say where to: /save FILE")
    path = Path(name)
    if path.exists():
        raise LLMBertError(f"{path} exists already; name another file")
    from llmbert.runs import write_text

    write_text(path, talk.text())
    print(f"saved: {path}", file=sys.stderr)


def _chat_report(log: Path, page: str, language: str, as_json: bool) -> None:
    from llmbert.cli.making import check_language
    from llmbert.report.numbers import duration
    from llmbert.tasks.chat_report import write_chat_report

    report = write_chat_report(log, page, check_language(language))
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    thumbs, seconds = report["thumbs"], report["seconds"]
    print(f"replies: {report['replies']:,}, conversations: {report['conversations']:,}")
    print(f"time per reply: median {duration(seconds['median'])}, 95 % within {duration(seconds['p95'])}")
    around = thumbs["interval"]
    liked = f", {thumbs['share_up']:.0%} liked ({around[0]:.0%} to {around[1]:.0%})" if around else ""
    print(f"thumbs: {thumbs['up']:,} up, {thumbs['down']:,} down{liked}")
    print(f"The page: {page}")
