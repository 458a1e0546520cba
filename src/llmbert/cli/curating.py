"""Verbs on text before a training: what it holds."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from llmbert.cli.making import Language, check_language, parse_fields

data = typer.Typer(name="data", help="Look at text and make it fit for a training.", rich_markup_mode=None)


# ---- stats ---------------------------------------------------------------------------------------------------------


@data.command("stats")
def stats(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Text: file, folder, glob, - or hub:NAME.")],
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="PATH", help="Another text: how far apart are they?")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each non-blank line is a document of its own.")] = False,
    split_on: Annotated[
        str | None, typer.Option("--split-on", metavar="REGEX", help="Cut a file into documents here.")
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="text=NAME", help="Which field is the text.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="T", help="How words are cut: words, space, marks, chars, or a run.")
    ] = "words",
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case the text first.")] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Folder for the page and all figures.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 0,
    language: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a text: sizes, lengths, Zipf, Heaps, entropy, collocations; with --against, how far from another."""
    from llmbert.cli.display import Display
    from llmbert.workbench.curation.statistics import statistics

    check_language(language)
    with Display() as display:
        found = statistics(
            paths,
            against=against or None,
            lines=lines,
            split_on=split_on,
            fields=parse_fields(fields, ("text",)),
            tokenizer=tokenizer,
            lowercase=lowercase,
            out=out,
            language=language,
            seed=seed,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for line in _stats_lines(found):
        print(line)
    if out is not None:
        print(f"{out}/report.html")


LENGTHS = {
    "document_words": "words of a document",
    "sentence_words": "words of a sentence",
    "word_characters": "characters of a word",
}


def _stats_lines(found: dict[str, Any]) -> list[str]:
    """The main figures, one thing a line."""
    lines = [
        f"{found['documents']:,} documents, {found['characters']:,} characters, {found['bytes']:,} bytes, "
        f"{found['words']:,} words ({found['tokenizer']}), {found['vocabulary']:,} different"
    ]
    used, law = found["frequencies"], found["growth"]["heaps"]
    if used["zipf"]:
        zipf, shifted = used["zipf"], used["mandelbrot"]
        lines.append(f"Zipf: exponent {zipf['exponent']:.3f} {_ends(zipf['interval'])}, KS {zipf['ks']:.3f}")
        lines.append(
            f"Zipf-Mandelbrot: exponent {shifted['exponent']:.3f} {_ends(shifted['interval'])}, shift "
            f"{shifted['shift']:.2f}, KS {shifted['ks']:.3f}"
        )
    if tail := used["power_law"]:
        lines.append(
            f"frequencies from {tail['least']:,} on: power law {tail['exponent']:.3f} {_ends(tail['interval'])}, "
            f"KS {tail['ks']:.3f}"
        )
    if law:
        lines.append(f"Heaps: exponent {law['exponent']:.3f} {_ends(law['interval'])}")
    for name, each in found["lengths"].items():
        best = each["families"][0] if each["families"] else None
        fit = f"; best {best['name']}, KS {best['ks']:.3f}" if best else ""
        lines.append(f"{LENGTHS[name]}: {each['count']:,}, mean {each['mean']:.2f}{fit}")
    known = found["entropy"]
    chars, words = known["characters"], known["words"]
    packed = known["packed"]["xz -6"]
    lines.append(
        f"entropy: {chars['corrected']:.3f} bits/character, {words['corrected']:.3f} bits/word; xz needs "
        f"{packed['bits_per_character']:.3f} bits/character ({packed['bits_per_byte']:.3f} bits/byte)"
    )
    for what in ("words", "characters") if "against" in found else ():
        apart = found["against"]["divergence"][what]
        halves = ", ".join("–" if each is None else f"{each:.4f}" for each in apart["halves"])
        ends = _ends(apart["interval"], 4) if apart["interval"] else ""
        lines.append(
            f"Jensen-Shannon, {what}: {apart['js']:.4f} bits {ends}, uncorrected {apart['plug_in']:.4f}; "
            f"halves of each text: {halves}"
        )
    return lines


def _ends(interval: list[float], digits: int = 3) -> str:
    return f"({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
