"""Verbs that make documents fewer, cleaner or safer: llmbert data ..."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from llmbert.cli.making import Language, check_language, parse_fields

data = typer.Typer(help="Make documents fewer, cleaner or safer.", rich_markup_mode=None)


@data.callback()
def _whole() -> None:
    """Make documents fewer, cleaner or safer."""


@data.command("scrub")
def scrub(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Text: file, folder, glob, - or hub:NAME.")],
    out: Annotated[str, typer.Option("--out", metavar="OUT", help="A file (.txt, .md, .jsonl) or a folder.")],
    how: Annotated[str, typer.Option("--how", help="mask, hash or pseudonym.")] = "mask",
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="Secret of hash and pseudonym; or LLMBERT_SCRUB_KEY.")
    ] = None,
    kinds: Annotated[
        str | None, typer.Option("--kinds", metavar="K,...", help="iban, id, card, mail, ip, phone, old_id, name; all.")
    ] = None,
    names: Annotated[
        str | None, typer.Option("--names", metavar="RUN", help="A run that tags persons, to find names.")
    ] = None,
    regions: Annotated[
        str, typer.Option("--regions", metavar="R,...", help="Whose national phone numbers are known.")
    ] = "CN,US,GB",
    lines: Annotated[bool, typer.Option("--lines", help="Each non-blank line is a document of its own.")] = False,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="text=NAME", help="Which field holds the text; text=*: all.")
    ] = None,
    language: Language = "en",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier scrub wrote.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Remove personal data: mail, phones, cards, IBANs, resident IDs, IP addresses; with --names names too."""
    check_language(language)
    from llmbert.cli.display import Display
    from llmbert.workbench.curation.scrub import scrub as verb

    with Display() as display:
        found = verb(
            paths,
            out,
            how=how,
            key=key,
            kinds=[kind.strip() for kind in kinds.split(",")] if kinds is not None else None,
            names=names,
            regions=[region.strip().upper() for region in regions.split(",")],
            lines=lines,
            fields=parse_fields(fields, ("text",)),
            overwrite=overwrite,
            language=language,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    kept = ", ".join(f"{kind} {count:,}" for kind, count in found["kinds"].items() if count)
    print(f"{found['documents']:,} documents, finds in {found['found_in']:,}: {kept or 'none'} → {out}")
    if found["left"]:
        print(f"written as they were: {', '.join(found['left'])} (--fields text=* scrubs all fields)")
