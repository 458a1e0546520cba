"""Verbs that ask a run about other documents: anomalies, map and augment."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from llmbert.cli.making import Language, check_language, parse_fields
from llmbert.cli.using import RunFolder

ROLES = ("text", "label")
Data = Annotated[list[str], typer.Option("--data", metavar="PATH", help="Text: file, folder, glob, - or hub:NAME.")]
Lines = Annotated[bool, typer.Option("--lines", help="Each line a document, though the run was not so.")]
SplitOn = Annotated[str | None, typer.Option("--split-on", metavar="REGEX", help="Cut into documents here.")]
Fields = Annotated[str | None, typer.Option("--fields", metavar="ROLE=NAME", help="Which field is text=, label=.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def anomalies(
    run: RunFolder,
    data: Data,
    odd: Annotated[
        list[str] | None, typer.Option("--odd", metavar="PATH", help="Documents known not to belong: how well told?")
    ] = None,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Folder for the page and all scores.")] = None,
    language: Language = "en",
    as_json: Json = False,
) -> None:
    """Find odd documents: how surprised a run is by each, and with --odd how well that tells them apart (AUC)."""
    from llmbert.cli.display import Display
    from llmbert.workbench.documents import anomalies as verb

    check_language(language)
    with Display() as display:
        found = verb(
            run,
            data,
            odd=odd or None,
            lines=lines or None,
            split_on=split_on,
            fields=parse_fields(fields, ROLES),
            out=out,
            language=language,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for entry in reversed(found["oddest"]):
        score = "infinite" if entry["score"] is None else f"{entry['score']:.4f}"
        print(f"{score:>10}  {entry['id']}  {' '.join(entry['text'].split())[:100]}")
    quartiles = ", ".join("infinite" if each is None else f"{each:.4f}" for each in found["quartiles"])
    print(f"{found['documents']:,} documents, {found['unit']}: quartiles {quartiles}")
    for name in ("auc", "tpr"):
        if name in found:
            score, ends = found[name], found[name]["interval"]
            print(f"{name}  {score['score']:.1f} %  ({ends[0]:.1f} to {ends[1]:.1f})  {score['signature']}")
    if "baseline" in found:
        print(f"baseline: {found['baseline']['name']} documents are odd: auc {found['baseline']['auc']:.1f} %")
    _say_page(out)


def map_texts(
    run: RunFolder,
    data: Data,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    most: Annotated[int, typer.Option("--most", help="Texts at most, evenly spread.")] = 2000,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Folder for the page.")] = None,
    language: Language = "en",
    as_json: Json = False,
) -> None:
    """Map texts: each a point of the plane, near those the run finds alike; label=NAME gives the colours."""
    from llmbert.cli.display import Display
    from llmbert.workbench.documents import map_texts as verb

    check_language(language)
    with Display() as display:
        found = verb(
            run,
            data,
            lines=lines or None,
            split_on=split_on,
            fields=parse_fields(fields, ROLES),
            most=most,
            out=out,
            language=language,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if out is None:
        for point in found["points"]:
            label = " ".join((point["label"] or "").split())
            print("\t".join([point["id"], f"{point['x']:.4f}", f"{point['y']:.4f}", label]).rstrip())
    first, second = found["variance"]
    note = f"{len(found['points']):,} texts; the axes hold {first:.0%} and {second:.0%} of the variance"
    if "agreement" in found:
        shares = found["agreement"]
        note += (
            f"; neighbours of the same label: {shares['whole']:.0%} in all {found['dimensions']} dimensions, "
            f"{shares['flat']:.0%} on the map, {shares['chance']:.0%} by chance"
        )
    typer.echo(note, err=out is None)
    _say_page(out)


def augment(
    run: RunFolder,
    data: Data,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="JSONL file for the new texts.")],
    copies: Annotated[int, typer.Option("--copies", metavar="N", help="New texts for each given one.")] = 1,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    labeller: Annotated[
        str | None, typer.Option("--labeller", metavar="RUN", help="A run that classifies, to label new texts.")
    ] = None,
    least: Annotated[float, typer.Option("--least", help="How sure it must be of a label.")] = 0.9,
    spread: Annotated[float, typer.Option("--spread", help="Of a VAE: how far from the text, 1 as it learned.")] = 1.0,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Of the words; a VAE's are the likeliest unless said.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Of a new text, at most.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
    as_json: Json = False,
) -> None:
    """Make more texts: a VAE rewrites each (labels stay), other families draw new ones."""
    from llmbert.cli.display import Display
    from llmbert.workbench.documents import augment as verb

    with Display() as display:
        found: dict[str, Any] = verb(
            run,
            data,
            out,
            copies=copies,
            lines=lines or None,
            split_on=split_on,
            fields=parse_fields(fields, ROLES),
            labeller=labeller,
            least=least,
            spread=spread,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            overwrite=overwrite,
            progress=display,
        )
    if as_json:
        print(json.dumps(found))
        return
    fell = {
        "empty": "empty",
        "same": "as a given text",
        "twice": "written twice",
        "unsure": "of no sure label",
        "long": "given texts too long",
    }
    left = ", ".join(f"{found[key]:,} {words}" for key, words in fell.items() if found.get(key))
    print(f"{found['written']:,} new texts → {out}" + (f" (left out: {left})" if left else ""))


def _say_page(out: str | None) -> None:
    if out is not None:
        print(f"{out}/report.html")
