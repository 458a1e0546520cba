"""Verbs on the command line, a file per group; each verb loads what it needs only when it is called."""

from __future__ import annotations

import os
import re
import sys

import typer

from llmbert.cli import (
    asking,
    checking,
    curating,
    documents,
    labelling,
    making,
    serving,
    tracing,
    trusting,
    tuning,
    using,
)
from llmbert.protocols import LLMBertError

app = typer.Typer(
    name="llmbert",
    help="Grow language generators on your own text and your own machine; measure them honestly; use them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(making.train)
app.command("evaluate")(using.evaluate)
app.command("generate")(using.generate)
app.command("export")(using.export)
app.command("latent")(using.latent)
app.command("anomalies")(documents.anomalies)
app.command("map")(documents.map_texts)
app.command("augment")(documents.augment)
app.command("trace")(tracing.trace)
app.command("compare")(making.compare)
app.command("check")(checking.check)
app.command("fine-tune")(tuning.fine_tune)
for writing in ("translate", "summarise", "write", "chat"):
    app.command(writing)(getattr(asking, writing))
app.command("classify")(labelling.classify)
app.command("tag")(labelling.tag)
app.command("audit")(trusting.audit)
app.command("forget")(trusting.forget)
app.command("serve")(serving.serve)
app.add_typer(serving.feedback, name="feedback")
app.add_typer(curating.data, name="data")

INTERRUPTED = 130  # what typer makes of Ctrl-C
app.add_typer(trusting.watermark, name="watermark")
app.command("self-train")(curating.self_train)
MANY = ("--data", "--valid", "--odd", "--unlabelled")  # options that take any number of values
NO_MEMORY = "the memory of this machine is not enough; take a smaller --size or --set batch=…"


@app.callback(invoke_without_command=True)
def _whole(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and leave.")
) -> None:
    if context.invoked_subcommand is None and not version:
        typer.echo(context.get_help())
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"llmbert {installed('llmbert')}")
        raise typer.Exit


def main() -> None:
    """The command `llmbert`: exit code 0 done, 1 failed, 2 wrong usage; a failure is one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        code = app(spread(sys.argv[1:]), standalone_mode=False) or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except LLMBertError as error:
        _leave(str(error), error.exit_code)
    except KeyboardInterrupt:
        _leave("stopped", 1)
    except BrokenPipeError:
        # Whoever read our output has left; point stdout elsewhere so that closing it stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _leave(NO_MEMORY, 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own words on a wrong command line
            _leave(f"{error.format_message()} (llmbert --help tells the verbs and options)", 2)
        if os.environ.get("LLMBERT_TRACE"):
            raise
        said = " ".join(str(error).split())[:300]
        if isinstance(error, RuntimeError) and re.search("out of memory|can't allocate memory", said):
            _leave(NO_MEMORY, 1)  # torch's way of a MemoryError
        _leave(f"something unforeseen failed ({type(error).__name__}: {said}); LLMBERT_TRACE=1 shows where", 1)


def spread(arguments: list[str]) -> list[str]:
    """`--data A B C` → `--data A --data B --data C`, so that a shell's own globs work; the others of MANY likewise, and
    the `--against` of `data stats`, which elsewhere has one value."""
    many = (*MANY, "--against") if arguments[:2] == ["data", "stats"] else MANY
    found: list[str] = []
    option = ""
    for index, argument in enumerate(arguments):
        if argument.startswith("-") and argument != "-":
            option = argument
        elif option in many and arguments[index - 1] != option:
            found.append(option)
        found.append(argument)
    return found


def _leave(sentence: str, code: int) -> None:
    print(f"llmbert: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(code)
