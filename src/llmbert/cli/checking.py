"""The verb that looks for what would silently spoil a training."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from llmbert.cli.making import Fields, Lines, Set, SplitOn, Tokenizer, Valid, parse_fields, read_mixture

MARKS = {"ok": ("ok", "green"), "failed": ("failed", "bold red"), "skipped": ("skipped", "dim")}


def check(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run, finished or not; or name a training.")
    ] = None,
    family: Annotated[str, typer.Option("--family", metavar="F", help="Of a training, as train takes it.")] = "",
    data: Annotated[list[str], typer.Option("--data", metavar="PATH", help="Its text.")] = [],  # noqa: B006
    valid: Valid = None,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    out: Annotated[str, typer.Option("--out", metavar="RUN", help="Read the text beside this folder, for train.")] = "",
    tokenizer: Tokenizer = "bpe",
    task: Annotated[str | None, typer.Option("--task", help="What pairs are for.")] = None,
    languages: Annotated[str | None, typer.Option("--languages", metavar="en-de", help="Of pairs.")] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case pairs.")] = False,
    detokenise: Annotated[str | None, typer.Option("--detokenise", metavar="STYLE", help="As train takes it.")] = None,
    mixture: Annotated[str | None, typer.Option("--mixture", metavar="FILE", help="Sets of pairs.")] = None,
    objective: Annotated[str | None, typer.Option("--objective", help="How it learns.")] = None,
    base: Annotated[str | None, typer.Option("--base", metavar="RUN", help="Begin with this run's weights.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Of the training: 90s, 5m, 1h.")] = None,
    size: Annotated[str | None, typer.Option("--size", help="tiny, small, medium or large.")] = None,
    settings: Set = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    only: Annotated[str | None, typer.Option("--only", metavar="A,B", help="These checks alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Check a run, or the training that these options would begin: masks, labels, gradients, rate, resuming, …."""
    from llmbert.cli.display import Display
    from llmbert.workbench.preflight import check as verb
    from llmbert.workbench.settings import parse_pairs

    asked: dict[str, Any] = {"valid": valid, "lines": lines, "split_on": split_on, "fields": parse_fields(fields)}
    asked |= {"out": out, "task": task, "languages": languages, "lowercase": lowercase, "detokenise": detokenise}
    asked |= {"mixture": read_mixture(mixture), "objective": objective, "base": base, "budget": budget, "size": size}
    asked |= {"settings": parse_pairs(settings or []), "seed": seed}
    given = {name: value for name, value in asked.items() if value}
    if tokenizer != "bpe":
        given["tokenizer"] = tokenizer
    names = [name.strip() for name in only.split(",")] if only else None
    with Display() as display:
        results = verb.check(run, family=family, data=data, only=names, progress=display, **given)
    bad = [result for result in results if result.status == "failed"]
    if as_json:
        print(json.dumps({"ok": not bad, "checks": [each.describe() for each in results]}, ensure_ascii=False))
    else:
        say_results(results)
    return int(bool(bad))


def say_results(results: Sequence[Any]) -> None:
    """A line for each check, and behind the labels a few rows of them, scored tokens in colour."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True, file=sys.stdout)
    for each in results:
        word, style = MARKS[each.status]
        line = Text.assemble((f"{word:<8}", style), f"{each.name:<14}")
        console.print(line.append(each.said, style="" if each.status == "failed" else "dim"))
        for row in each.shown:
            console.print(_shown_row(row))
    count = {status: sum(each.status == status for each in results) for status in MARKS}
    seconds = sum(each.seconds for each in results)
    console.print(f"{count['ok']} ok, {count['failed']} failed, {count['skipped']} skipped in {seconds:.1f} s")


def _shown_row(row: Sequence[tuple[str, str, bool]]) -> Any:
    """One row of labels: what is given dim, and behind its arrow what is to be predicted, in colour."""
    from rich.text import Text

    text = Text("        ")
    for given, wanted, scored in row:
        text.append(_visible(given), style="dim")
        if scored:
            text.append("→").append(_visible(wanted), style="bold green")
        text.append(" ")
    return text


def _visible(token: str) -> str:
    """A token with its white space and special name made short and visible."""
    if token.startswith("<|") and " " in token:
        return token.removeprefix("<|").split()[0].join("⟨⟩")
    return token.replace("\n", "⏎").replace(" ", "␣") or "·"
