"""The verb that teaches a run a task from labelled examples."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from llmbert.cli.making import Language, Set, Valid, check_language, ctrl_c, parse_fields
from llmbert.protocols import UsageError

ROLES = ("text", "text_b", "label", "tokens", "tags")


def fine_tune(
    task: Annotated[
        str, typer.Option("--task", help="What is learned: classify, multilabel, tag, regress or embed.")
    ] = "",
    data: Annotated[
        list[str], typer.Option("--data", metavar="PATH", help="Labelled examples: table, JSONL, CoNLL.")
    ] = [],  # noqa: B006
    valid: Valid = None,
    fields: Annotated[
        str | None,
        typer.Option("--fields", metavar="ROLE=NAME", help="text=, text_b=, label=; of tags tokens=, tags=."),
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="RUN", help="Folder to write the run to.")] = "",
    base: Annotated[
        str | None, typer.Option("--base", metavar="RUN", help="Begin with these weights; else with random ones.")
    ] = None,
    family: Annotated[str, typer.Option("--family", metavar="F", help="Of a new trunk: bert, gpt, lstm, ….")] = "bert",
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", metavar="T", help="Of a new trunk.")] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case all text.")] = False,
    budget: Annotated[str | None, typer.Option("--budget", help="Time for all of it: 90s, 5m, 1h.")] = None,
    size: Annotated[str | None, typer.Option("--size", help="Of a new trunk: tiny, small, medium or large.")] = None,
    settings: Set = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    language: Language = "en",
) -> None:
    """Teach a model to classify, tag, rate or embed texts from labelled examples, and write a run folder."""
    needed: dict[str, Any] = {"--task": task, "--data": data, "--out": out}
    if missing := [name for name, given in needed.items() if not given]:
        raise UsageError(f"fine-tune needs {missing[0]}; see llmbert fine-tune --help")
    from llmbert.cli.display import Display
    from llmbert.workbench import fine_tune as verb
    from llmbert.workbench.settings import parse_pairs

    with Display() as display, ctrl_c(display) as stop:
        run = verb.fine_tune(
            task,
            data,
            out,
            base=base,
            family=family,
            valid=valid or None,
            fields=parse_fields(fields, ROLES),
            tokenizer=tokenizer,
            lowercase=lowercase,
            budget=budget,
            size=size,
            settings=parse_pairs(settings or []),
            seed=seed,
            language=check_language(language),
            progress=display,
            stop=stop,
        )
    say_labelled(run)


def say_labelled(run: Any) -> None:
    """A fine-tuned run's figures on held-out examples."""
    for name, head in run.facts["heads"].items():
        for metric, score in head["scores"].items():
            around = score["interval"]
            ends = f" ({around[0]:.2f} to {around[1]:.2f})" if around else ""
            print(f"{name}: {metric} {score['score']:.2f}{ends}   {score['signature']}")
    verbs = [verb for task, verb in (("tag", "tag"), ("classify", "classify")) if task in run.facts["tasks"]]
    uses = f", llmbert {verbs[0]} {shlex.quote(str(run.folder))} --in … uses it" if verbs else ""
    print(f"{run.folder}: report.html shows it{uses}")
