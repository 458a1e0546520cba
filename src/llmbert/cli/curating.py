"""Verbs on text before a training: what it holds, and how it becomes fewer, cleaner, safer or more documents."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from llmbert.cli.making import Language, check_language, parse_fields

data = typer.Typer(help="Look at text, and make it fewer, cleaner, safer or more documents.", rich_markup_mode=None)


@data.callback()
def _whole() -> None:
    """Look at text, and make it fewer, cleaner, safer or more documents."""


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


# ---- dedup ---------------------------------------------------------------------------------------------------------


@data.command("dedup")
def dedup(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Text: file, folder, glob, - or hub:NAME.")],
    out: Annotated[str, typer.Option("--out", metavar="OUT", help="A folder, or a file (.jsonl, .txt).")],
    threshold: Annotated[float, typer.Option("--threshold", help="Jaccard similarity of near duplicates.")] = 0.8,
    no_near: Annotated[bool, typer.Option("--no-near", help="Exact duplicates only.")] = False,
    shingle: Annotated[int, typer.Option("--shingle", metavar="N", help="Words (Chinese: characters) a shingle.")] = 5,
    spans: Annotated[
        int | None, typer.Option("--spans", metavar="N", help="Cut what repeats N bytes or more; 0: do not look.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each non-blank line is a document of its own.")] = False,
    split_on: Annotated[
        str | None, typer.Option("--split-on", metavar="REGEX", help="Cut a file into documents here.")
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="text=NAME", help="Which field holds the text.")
    ] = None,
    language: Language = "en",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Leave out documents that stand there already, exactly or nearly; with --spans cut repeated stretches."""
    check_language(language)
    from llmbert.cli.display import Display
    from llmbert.workbench.curation.dedup import dedup as verb

    with Display() as display:
        found = verb(
            paths,
            out,
            threshold=threshold,
            near=not no_near,
            shingle=shingle,
            spans=spans,
            lines=lines,
            split_on=split_on,
            fields=parse_fields(fields, ("text",)),
            language=language,
            overwrite=overwrite,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    removed = found["removed"]
    print(
        f"{found['kept']:,} of {found['documents']:,} documents kept → {found['kept_file']} "
        f"(left out: {removed['exact']:,} exact, {removed['near']:,} near duplicates, {removed['spans']:,} repeated)"
    )
    if spans:
        print(f"{found['changed']['spans']:,} documents shortened by {found['cut_bytes']:,} bytes of repeated spans")
    elif found["repeated_span_share"] is not None:
        print(
            f"{found['repeated_span_share']:.2%} of the text repeats spans of 100 bytes or more; --spans 100 cuts them"
        )
    print(f"{found['removed_file']} says why; {found['page']} shows it")


# ---- clean ---------------------------------------------------------------------------------------------------------


@data.command("clean")
def clean(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Text: file, folder, glob, - or hub:NAME.")],
    out: Annotated[str | None, typer.Option("--out", metavar="OUT", help="A folder, or a file (.jsonl, .txt).")] = None,
    keep_language: Annotated[
        str | None, typer.Option("--keep-language", metavar="en,zh", help="Leave out documents in other languages.")
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            "--rules", metavar="R,...", help="encoding, controls, boilerplate, length, words, symbols, repetition; all."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="LIMIT=VALUE", help="A single limit; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and write nothing.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Each non-blank line is a document of its own.")] = False,
    split_on: Annotated[
        str | None, typer.Option("--split-on", metavar="REGEX", help="Cut a file into documents here.")
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="text=NAME", help="Which field holds the text.")
    ] = None,
    language: Language = "en",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Repair encodings, take out boilerplate lines and control characters, leave out what is no text to learn from."""
    check_language(language)
    from llmbert.cli.display import Display
    from llmbert.workbench.curation.clean import clean as verb
    from llmbert.workbench.settings import parse_pairs

    with Display() as display:
        found = verb(
            paths,
            out,
            rules=_names(rules),
            limits=parse_pairs(settings or []),
            keep_language=_names(keep_language),
            dry_run=dry_run,
            lines=lines,
            split_on=split_on,
            fields=parse_fields(fields, ("text",)),
            language=language,
            overwrite=overwrite,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    kept = f"{found['kept']:,} of {found['documents']:,} documents kept"
    print(kept + (f" → {found['kept_file']}" if "kept_file" in found else " (a dry run: nothing is written)"))
    for head in ("removed", "changed"):
        for reason, count in found[head].items():
            print(f"  {head} {count:>9,}  {reason}")
    if "page" in found:
        print(f"{found['removed_file']} says why; {found['page']} shows it")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


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
