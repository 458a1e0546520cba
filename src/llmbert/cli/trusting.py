"""Verbs of evidence about models and their texts: watermark."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from llmbert.protocols import UsageError

# ---- watermark -----------------------------------------------------------------------------------------------------

KeyFile = Annotated[
    str | None, typer.Option("--watermark", metavar="KEYFILE", help="Mark the text: llmbert watermark key KEYFILE.")
]
Strength = Annotated[float, typer.Option("--watermark-strength", metavar="D", help="Added to green tokens' logits.")]

watermark = typer.Typer(
    help="Text marked by a secret key (llmbert generate and serve --watermark), and whether a text is.",
    rich_markup_mode=None,
)


def mark_runs(runs: Sequence[Any], path: str | None, strength: float) -> None:
    """Let runs mark what they write with the key in a file; None: they do not."""
    if path is None:
        return
    from llmbert.trust.watermark import read_key

    key = read_key(path)
    for run in runs:
        run.mark(key, strength)


@watermark.command("key")
def key(out: Annotated[str, typer.Argument(metavar="FILE", help="To write; only you may read it.")]) -> None:
    """Make a new random key. Who has it can find the mark, and can write texts that look marked: keep it."""
    from llmbert.trust.watermark import write_key

    write_key(out)
    print(f"{out}: a new key; without it no text can be told to be marked")


@watermark.command("detect")
def detect(
    tokeniser: Annotated[
        str, typer.Argument(metavar="RUN_OR_TOKENISER", help="Folder of the run that may have written it.")
    ],
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="That the text may be marked with.")],
    text: Annotated[str | None, typer.Option("--text", metavar="T", help="The text.")] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="PATH", help="Texts: file, folder, glob, - or hub:NAME.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each non-blank line is a text of its own.")] = False,
    split_on: Annotated[str | None, typer.Option("--split-on", metavar="REGEX", help="Cut into texts here.")] = None,
    fields: Annotated[str | None, typer.Option("--fields", metavar="text=NAME", help="The field that is text.")] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Standard deviations above chance.")] = 4.0,
    gamma: Annotated[float, typer.Option("--gamma", help="Share of green tokens, as it was written with.")] = 0.25,
    width: Annotated[int, typer.Option("--width", help="Tokens that a green list follows from, as written.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object for each text.")] = False,
) -> None:
    """Tell whether text carries the mark of a key; the model is not needed, its tokeniser is."""
    if (text is None) == (not data):
        raise UsageError("give either --text T or --data PATH")
    asked: dict[str, Any] = {"gamma": gamma, "width": width, "threshold": threshold}
    if text is not None:
        from llmbert.trust.watermark import detect_watermark

        _say_text(detect_watermark(text, tokeniser, key, **asked), as_json)
        return
    from llmbert.cli.display import Display
    from llmbert.cli.making import parse_fields
    from llmbert.trust.watermark import detect_in_documents

    cut: dict[str, Any] = {"lines": lines, "split_on": split_on, "fields": parse_fields(fields, ("text",))}
    marked = total = 0
    with Display() as display:
        for found in detect_in_documents(data or [], tokeniser, key, **cut, **asked, progress=display):
            total, marked = total + 1, marked + found["marked"]
            print(json.dumps(found, ensure_ascii=False) if as_json else f"{found['id']}\t{_figures(found)}")
    typer.echo(f"{marked:,} of {total:,} texts are marked", err=True)


def _say_text(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if sys.stdout.isatty():
        for token, green in found["tokens"]:
            typer.secho(token, fg={True: "green", False: "red"}.get(green), nl=False)
        print()
    print(_figures(found))
    share = "" if found["share"] is None else f", {found['share']:.1%} where chance has {found['gamma']:.0%}"
    print(f"{found['green']:,} of {found['counted']:,} distinct pairs are green{share}")
    if not found["marked"] and found["needed"]:
        print(f"with this share {found['needed']:,} pairs would tell")


def _figures(found: dict[str, Any]) -> str:
    said = "marked" if found["marked"] else "not marked, as far as this text tells"
    return f"z {found['z']:.2f}\tp {found['p']:.2g}\t{found['counted']} pairs\t{said}"
