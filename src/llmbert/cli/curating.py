"""Verbs that make a corpus better before anything learns from it: llmbert data."""

from __future__ import annotations

import json
from typing import Annotated, Any

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


# ---- self-training -------------------------------------------------------------------------------------------------


def self_train(
    data: Annotated[list[str], typer.Option("--data", metavar="PATH", help="Labelled texts: table or JSONL.")],
    unlabelled: Annotated[list[str], typer.Option("--unlabelled", metavar="PATH", help="Texts without labels.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the runs of all rounds.")],
    valid: Annotated[list[str] | None, typer.Option("--valid", metavar="PATH", help="Held-out; else a fifth.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Trainings with pseudo-labels.")] = 2,
    least: Annotated[float, typer.Option("--least", help="Calibrated probability of a pseudo-label.")] = 0.9,
    fields: Annotated[str | None, typer.Option("--fields", metavar="ROLE=NAME", help="text=, label=.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each unlabelled line is a text of its own.")] = False,
    base: Annotated[str | None, typer.Option("--base", metavar="RUN", help="Begin with these weights.")] = None,
    family: Annotated[str, typer.Option("--family", metavar="F", help="Of a new trunk: bert, gpt, lstm, ….")] = "bert",
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", metavar="T", help="Of a new trunk.")] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case all text.")] = False,
    size: Annotated[str | None, typer.Option("--size", help="tiny, small, medium or large.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="May be repeated.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Teach a classifier with few labels and many texts: it labels what it is sure of, calibrated, and learns again."""
    from llmbert.cli.display import Display
    from llmbert.cli.making import parse_fields
    from llmbert.workbench.curation.self_training import self_train as verb
    from llmbert.workbench.settings import parse_pairs

    with Display() as display:
        found = verb(
            data,
            unlabelled,
            out,
            valid=valid or None,
            rounds=rounds,
            least=least,
            fields=parse_fields(fields, ("text", "label")),
            lines=lines,
            base=base,
            family=family,
            tokenizer=tokenizer,
            lowercase=lowercase,
            size=size,
            settings=parse_pairs(settings or []),
            seed=seed,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for each in found["rounds"]:
        score, ends = each["accuracy"]["score"], each["accuracy"]["interval"] or [0.0, 100.0]
        print(
            f"{each['run']}: accuracy {score:.2f} ({ends[0]:.2f} to {ends[1]:.2f}), calibration error "
            f"{each['ece_before']['score']:.2f} → {each['ece_after']['score']:.2f} at temperature "
            f"{each['temperature']:.2f}" + _pseudo(each)
        )
    print(f"{out}/{found['best']}: llmbert classify {out}/{found['best']} --in … uses it")


def _pseudo(each: dict[str, Any]) -> str:
    if "pseudo_labels" not in each:
        return ""
    total = sum(each["pseudo_labels"].values())
    return f"; sure of {each['sure']:,} of {each['unlabelled']:,} texts, {total:,} taken"
