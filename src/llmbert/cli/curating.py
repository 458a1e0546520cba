"""Verbs that make a corpus better before anything learns from it: llmbert data."""

from __future__ import annotations

import json
from typing import Annotated

import typer

data = typer.Typer(help="Documents: fewer, cleaner, safer or more.", rich_markup_mode=None)


# ---- augment -------------------------------------------------------------------------------------------------------


@data.command("augment")
def augment(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Texts: file, folder, glob, - or hub:NAME.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="JSONL file for the new texts.")],
    ways: Annotated[
        str,
        typer.Option(
            "--ways",
            metavar="A,B",
            help="eda, synonym, insert, swap, delete, mask, crop, order, noise, drop-sentence, shuffle-sentences, "
            "back-translation; each copy takes the next.",
        ),
    ] = "eda",
    copies: Annotated[int, typer.Option("--copies", metavar="N", help="New texts for each given one.")] = 1,
    strength: Annotated[float, typer.Option("--strength", metavar="ALPHA", help="Share of words changed.")] = 0.1,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="ROLE=NAME", help="text=, label=; of tags tokens=, tags=.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each non-blank line is a text of its own.")] = False,
    split_on: Annotated[str | None, typer.Option("--split-on", metavar="REGEX", help="Cut into texts here.")] = None,
    lexicon: Annotated[
        str | None, typer.Option("--lexicon", metavar="FILE", help="Lines of WORD, tab, synonyms apart by tabs.")
    ] = None,
    neighbours: Annotated[
        str | None, typer.Option("--neighbours", metavar="RUN", help="Synonyms are nearest words in its embeddings.")
    ] = None,
    forth: Annotated[
        str | None, typer.Option("--forth", metavar="RUN", help="Translates to another language …")
    ] = None,
    back: Annotated[str | None, typer.Option("--back", metavar="RUN", help="… and this one back.")] = None,
    mask: Annotated[str, typer.Option("--mask", help="What mask puts in a word's place.")] = "_",
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make changed copies of texts by rules; labels and tags stay (llmbert augment lets a run write new ones)."""
    from llmbert.cli.display import Display
    from llmbert.cli.making import parse_fields
    from llmbert.workbench.curation.augmentation import FIELDS, augment_data

    with Display() as display:
        found = augment_data(
            paths,
            out,
            ways=[way.strip() for way in ways.split(",") if way.strip()],
            copies=copies,
            strength=strength,
            fields=parse_fields(fields, FIELDS),
            lines=lines,
            split_on=split_on,
            lexicon=lexicon,
            neighbours=neighbours,
            forth=forth,
            back=back,
            mask=mask,
            seed=seed,
            overwrite=overwrite,
            progress=display,
        )
    if as_json:
        print(json.dumps(found))
        return
    left = ", ".join(f"{found[name]:,} {name}" for name in ("same", "twice", "blank", "long") if found[name])
    print(f"{out}: {found['written']:,} new texts of {found['read']:,}" + (f"; left out: {left}" if left else ""))
