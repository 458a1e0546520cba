"""Verbs on text before a training: what it holds, and how it becomes fewer, cleaner, safer or more documents."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from llmbert.cli.documents import Json
from llmbert.cli.making import Language, check_language, parse_fields

Texts = Annotated[list[str], typer.Argument(metavar="PATH...", help="Text: file, folder, glob, - or hub:NAME.")]
Lines = Annotated[bool, typer.Option("--lines", help="Each non-blank line is a document of its own.")]
SplitOn = Annotated[str | None, typer.Option("--split-on", metavar="REGEX", help="Cut a file into documents here.")]
Field = Annotated[str | None, typer.Option("--fields", metavar="text=NAME", help="Which field holds the text.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

data = typer.Typer(help="Look at text, and make it fewer, cleaner, safer or more documents.", rich_markup_mode=None)


@data.callback()
def _whole() -> None:
    """Look at text, and make it fewer, cleaner, safer or more documents."""


@data.command("scrub")
def scrub(
    paths: Texts,
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
    lines: Lines = False,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="text=NAME", help="Which field holds the text; text=*: all.")
    ] = None,
    language: Language = "en",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier scrub wrote.")] = False,
    as_json: Json = False,
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
    paths: Texts,
    out: Annotated[str, typer.Option("--out", metavar="OUT", help="A folder, or a file (.jsonl, .txt).")],
    threshold: Annotated[float, typer.Option("--threshold", help="Jaccard similarity of near duplicates.")] = 0.8,
    no_near: Annotated[bool, typer.Option("--no-near", help="Exact duplicates only.")] = False,
    shingle: Annotated[int, typer.Option("--shingle", metavar="N", help="Words (Chinese: characters) a shingle.")] = 5,
    spans: Annotated[
        int | None, typer.Option("--spans", metavar="N", help="Cut what repeats N bytes or more; 0: do not look.")
    ] = None,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Field = None,
    language: Language = "en",
    overwrite: Overwrite = False,
    as_json: Json = False,
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
    paths: Texts,
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
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Field = None,
    language: Language = "en",
    overwrite: Overwrite = False,
    as_json: Json = False,
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
    paths: Texts,
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="PATH", help="Another text: how far apart are they?")
    ] = None,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Field = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="T", help="How words are cut: words, space, marks, chars, or a run.")
    ] = "words",
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case the text first.")] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Folder for the page and all figures.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 0,
    language: Language = "en",
    as_json: Json = False,
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
        chance = apart["chance"]
        told = (
            f"; by chance, of one source: {chance['mean']:.4f} {_ends(chance['interval'], 4)}, p {chance['p']:.3f}"
            if chance
            else ""
        )
        lines.append(f"Jensen-Shannon, {what}: {apart['js']:.4f} bits{told}")
    return lines


def _ends(interval: list[float], digits: int = 3) -> str:
    return f"({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


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
    as_json: Json = False,
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
    as_json: Json = False,
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
        score, around = each["accuracy"]["score"], each["accuracy"]["interval"]
        ends = f" ({around[0]:.2f} to {around[1]:.2f})" if around else ""
        print(
            f"{each['run']}: accuracy {score:.2f}{ends}, calibration error "
            f"{each['ece_before']['score']:.2f} → {each['ece_after']['score']:.2f} at temperature "
            f"{each['temperature']:.2f}" + _pseudo(each)
        )
    best = f"{out}/{found['best']}"
    print(f"{best}: llmbert classify {shlex.quote(best)} --in … uses it")


def _pseudo(each: dict[str, Any]) -> str:
    if "pseudo_labels" not in each:
        return ""
    total = sum(each["pseudo_labels"].values())
    return f"; sure of {each['sure']:,} of {each['unlabelled']:,} texts, {total:,} taken"
