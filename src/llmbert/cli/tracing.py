"""The verb that asks where a text comes from: trace."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from llmbert.cli.documents import Fields, Json, Lines, SplitOn
from llmbert.cli.exchange import refuse_given
from llmbert.cli.making import Language, check_language, parse_fields
from llmbert.protocols import UsageError

COLOURS = ("black on bright_yellow", "black on bright_cyan", "black on bright_green", "black on bright_magenta")


def trace(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run; or text: file, folder or glob.")],
    text: Annotated[str | None, typer.Option("--text", help="Text to trace; - reads it from stdin.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Trace what the run writes after this.")] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="PATH", help="Trace each document of these.")
    ] = None,
    least: Annotated[
        int | None, typer.Option("--least", metavar="N", help="Characters of a span; unsaid 20, of Chinese 8.")
    ] = None,
    neighbours: Annotated[int, typer.Option("--neighbours", metavar="K", help="Nearest passages, too.")] = 0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Of what --prompt has written.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="Of what --prompt has written.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of what --prompt has written.")] = 0,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    index_only: Annotated[
        bool, typer.Option("--index-only", help="Make the index beside the corpus, no more.")
    ] = False,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Folder for the page.")] = None,
    language: Language = "en",
    as_json: Json = False,
) -> None:
    """Show where a text stands word for word in the training text, and with --neighbours what comes near it."""
    check_language(language)
    if sum((text is not None, prompt is not None, bool(data), index_only)) != 1:
        raise UsageError("give one of --text, --prompt, --data and --index-only")
    if prompt is None:
        refuse_given(context, ("max_tokens", "temperature", "seed"), "is of what a run writes; give --prompt with it")
    if index_only:
        refuse_given(
            context, ("least", "neighbours", "out"), "is of a text that is traced; leave it or --index-only out"
        )
    from llmbert.cli.display import Display
    from llmbert.workbench.curation.trace import trace as verb

    given = _standard_input() if text == "-" else text
    generation: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    with Display() as display:
        found = verb(
            run,
            given,
            prompt=_standard_input() if prompt == "-" else prompt,
            data=data or None,
            least=least,
            neighbours=neighbours,
            lines=lines or None,
            split_on=split_on,
            fields=parse_fields(fields, ("text",)),
            out=out,
            language=language,
            progress=display,
            **(generation if prompt is not None else {}),
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for each in found["texts"]:
        _show(each, many=len(found["texts"]) > 1)
    index = found["index"]
    seen = "" if index["exact"] else ", compared as the run's tokeniser sees them"
    print(f"index of {index['documents']:,} documents, {index['bytes']:,} bytes{seen}")
    if found["texts"]:
        print(f"{100 * found['verbatim']:.1f} % of the characters stand there word for word")
    if out is not None:
        print(f"{out}/report.html")


def _show(found: dict[str, Any], many: bool) -> None:
    """A text with its spans in colours, then where each stands."""
    from rich.console import Console
    from rich.text import Text

    from llmbert.workbench.curation.trace import marked_parts

    console = Console(highlight=False)
    if many:
        print(f"{found['id']}: {100 * found['verbatim']:.1f} % word for word")
    spans = found["spans"]
    shown = Text()
    for part, mark in marked_parts(found["text"], spans):
        shown.append(part, style=COLOURS[(mark - 1) % len(COLOURS)] if mark else "")
    console.print(shown, soft_wrap=True)
    for number, span in enumerate(spans):
        excerpt = " ".join(span["text"].split())
        places = ", ".join(f"{each['id']} at {each['character']:,}" for each in span["documents"])
        more = f" and {span['count'] - len(span['documents']):,} more" if span["count"] > len(span["documents"]) else ""
        told = f" {span['length']} characters, “{_cut(excerpt)}”: {places}{more}"
        console.print(Text.assemble((f"[{number + 1}]", COLOURS[number % len(COLOURS)]), told), soft_wrap=True)
    for near in found.get("neighbours") or []:
        excerpt = " ".join(near["text"].split())
        print(f"{near['score']:8.3f}  {near['id']} at {near['character']:,}  {excerpt[:100]}")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]} … {text[-15:]}"


def _standard_input() -> str:
    """All of it as it stands: offsets count carriage returns too."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(newline="")
    return sys.stdin.read()
