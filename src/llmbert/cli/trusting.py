"""Verbs that ask what a model keeps of what it read, make it forget, and tell whose texts are whose."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from llmbert.cli.exchange import refuse_given
from llmbert.cli.making import Language, check_language, parse_fields
from llmbert.protocols import UsageError


def audit(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run, measured as it is.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="PATH", help="Text to plant secrets in, if no run is given."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Folder for runs, audit.json and report.html.")
    ] = None,
    families: Annotated[str, typer.Option("--families", metavar="A,B", help="Which to train.")] = "ngram,lstm,gpt",
    mitigations: Annotated[
        str,
        typer.Option(
            "--mitigations", metavar="A,B", help="Of dedup, scrub, early-stop, private, private-once; none: -"
        ),
    ] = "dedup,scrub,early-stop,private",
    valid: Annotated[list[str] | None, typer.Option("--valid", metavar="PATH", help="Held-out text.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of a text file is a document.")] = False,
    split_on: Annotated[
        str | None, typer.Option("--split-on", metavar="REGEX", help="Cut into documents here.")
    ] = None,
    fields: Annotated[str | None, typer.Option("--fields", metavar="text=NAME", help="Which field is text.")] = None,
    tokenizer: Annotated[str, typer.Option("--tokenizer", metavar="T", help="Kind of tokeniser.")] = "bpe",
    canaries: Annotated[
        str | None, typer.Option("--canaries", metavar="KIND", help="What secrets are: card, number or words.")
    ] = None,
    repeats: Annotated[str, typer.Option("--repeats", metavar="N,M", help="How often they are planted.")] = "1,4,16,64",
    each: Annotated[int, typer.Option("--each", metavar="N", help="Secrets for each number of repeats.")] = 8,
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="Of each training.")] = "1m",
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Texts drawn of each run.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random but private noise.")] = 0,
    language: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Audit a run: whose texts it gives away, and what it copies. Or with --data: plant secrets in a text, train
    families on it, and measure what each keeps of them, with and without help."""
    from llmbert.cli.display import Display
    from llmbert.workbench.audit import audit as verb

    check_language(language)
    if run is not None:
        planting = set(context.params) - {"run", "samples", "as_json"}
        refuse_given(context, planting, "is of a training, and a run is audited as it is; leave it out, or the run")
        _audit_run(run, samples, as_json)
        return
    if not data or not out:
        raise UsageError("give a run, or --data and --out")
    with Display() as display:
        found = verb(
            data,
            out,
            families=_listed(families),
            mitigations=_listed(mitigations),
            valid=valid or None,
            lines=lines,
            split_on=split_on,
            fields=parse_fields(fields, ("text",)),
            tokenizer=tokenizer,
            canaries=canaries,
            repeats=_numbers("--repeats", repeats),
            each=each,
            budget=budget,
            samples=samples,
            seed=seed,
            language=language,
            progress=display,
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for row in found["runs"]:
        print(_told(row))
    print(f"{out}/report.html")


def _audit_run(run: str, samples: int, as_json: bool) -> None:
    from llmbert.cli.display import Display
    from llmbert.workbench.audit import audit_run

    with Display() as display:
        found = audit_run(run, samples=samples, progress=display)
    if as_json:
        print(json.dumps(found))
        return
    for attack, figures in found["membership"].items():
        auc, tpr = figures["auc"], figures["tpr"]
        ends = f"{auc['interval'][0]:.1f} to {auc['interval'][1]:.1f}"
        print(f"{attack:<14} AUC {auc['score']:5.1f} % ({ends})  found at 1 % false alarms {tpr['score']:.1f} %")
    if found["copied"]:
        people = found["copied_by_people"]["share"]
        print(f"copied         {found['copied']['share']:.2%} of what it draws; of held-out text {people:.2%}")
    print(f"{run}/report.html")


def forget(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run.")],
    documents: Annotated[list[str], typer.Argument(metavar="DOC...", help="Ids of documents, such as mail.txt:17.")],
    retrain: Annotated[bool, typer.Option("--retrain", help="Train a family anew that cannot forget sooner.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as one JSON object.")] = False,
) -> None:
    """Forget documents: make a run as if they had never stood in its text, and write a certificate of it."""
    from llmbert.cli.display import Display
    from llmbert.workbench.privacy.forget import forget as verb
    from llmbert.workbench.privacy.rows import CERTIFICATE

    with Display() as display:
        found = verb(run, documents, retrain=retrain, progress=display)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    count = len(found["documents"])
    again = ", ".join(found["retrained"]) or "nothing"
    print(f"{count} document{'s' * (count != 1)} forgotten; trained anew: {again}")
    print(f"{found['exact']}")
    if found["oddness"]["after"]:
        ranks = {when: found["oddness"][when]["ranks"] for when in ("before", "after")}
        for name, before, after in zip(found["places"], ranks["before"], ranks["after"], strict=True):
            print(f"{name}: more usual than {1 - before:.0%} of unseen documents before, {1 - after:.0%} now")
    if found["twins"]:
        print(f"the same text still stands there as {', '.join(found['twins'][:20])}; name these too to forget it")
    if found["left"]:
        print(f"made of the run as it was, and yours to remove: {', '.join(found['left'])}")
    print(f"{run}/{CERTIFICATE}")


def _told(row: dict[str, Any]) -> str:
    from llmbert.workbench.audit.wording import say

    planted = ", ".join(f"{each['repeats']}: {each['exposure']['mean']:.1f}" for each in row["canaries"]["planted"])
    quality = row["quality"]["bits_per_byte"]
    parts = [
        f"{row['run']:<20}",
        ("–" if quality is None else f"{quality:.3f} bits/byte") + say(f"likelihood_{row['likelihood']}", "en"),
        f"exposure by repeats {planted}; never planted {row['canaries']['control']['mean']:.2f}",
        f"membership AUC {row['membership']['loss']['auc']['score']:.1f} %",
    ]
    return "  ".join(parts) + (f"  ε {row['privacy']['epsilon']:.2f}" if row.get("privacy") else "")


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip() and name.strip() != "-"]


def _numbers(option: str, text: str) -> list[int]:

    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} takes whole numbers such as 1,4,16, not {text!r}") from error


# ---- watermark -----------------------------------------------------------------------------------------------------

KeyFile = Annotated[
    str | None, typer.Option("--watermark", metavar="KEYFILE", help="Mark the text: llmbert watermark key KEYFILE.")
]
Strength = Annotated[
    float | None,
    typer.Option("--watermark-strength", metavar="D", help="Added to green tokens' logits; unsaid 2."),
]

watermark = typer.Typer(
    help="Text marked by a secret key (llmbert generate and serve --watermark), and whether a text is.",
    rich_markup_mode=None,
)


def check_mark(path: str | None, strength: float | None) -> None:
    """Refuse a strength without a key: nothing would be marked."""
    if path is None and strength is not None:
        raise UsageError("--watermark-strength marks nothing by itself; give --watermark KEYFILE with it")


def mark_runs(runs: Sequence[Any], path: str | None, strength: float | None) -> None:
    """Let runs mark what they write with the key in a file; None: they do not."""
    if path is None:
        return
    from llmbert.trust.watermark import read_key

    key = read_key(path)
    for run in runs:
        run.mark(key, **({} if strength is None else {"strength": strength}))


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
