"""Verbs that make runs: train and compare."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmbert.protocols import UsageError

if TYPE_CHECKING:
    from llmbert.cli.display import Display

Data = Annotated[list[str], typer.Option("--data", metavar="PATH", help="Text: file, folder, glob, - or hub:NAME.")]
Valid = Annotated[list[str] | None, typer.Option("--valid", metavar="PATH", help="Held-out text; else split off.")]
Lines = Annotated[bool, typer.Option("--lines", help="Each non-blank line is a document of its own.")]
SplitOn = Annotated[str | None, typer.Option("--split-on", metavar="REGEX", help="Cut a file into documents here.")]
Fields = Annotated[
    str | None,
    typer.Option("--fields", metavar="ROLE=NAME", help="Which field is text=; of pairs source=,target= or turns=."),
]
Tokenizer = Annotated[
    str, typer.Option("--tokenizer", metavar="T", help="bytes, chars, words, bpe, unigram, wordpiece, jieba, or a run.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A single setting; may be repeated.")]
Language = Annotated[str, typer.Option("--language", help="Language of the page: en or zh.")]


NAMES = "ngram, rnn, lstm, gru, gpt, transformer, t5, bert, vae, gan or mixture."
FamilyName = Annotated[str, typer.Option("--family", metavar="F", help=NAMES)]


def train(
    family: FamilyName = "",
    data: Data = [],  # noqa: B006 - typer wants a list
    valid: Valid = None,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    out: Annotated[str, typer.Option("--out", metavar="RUN", help="Folder to write the run to.")] = "",
    tokenizer: Tokenizer = "bpe",
    task: Annotated[
        str | None, typer.Option("--task", help="What pairs are for: translate, summarise, write, chat, classify.")
    ] = None,
    languages: Annotated[str | None, typer.Option("--languages", metavar="en-de", help="Of pairs.")] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case pairs.")] = False,
    detokenise: Annotated[
        str | None, typer.Option("--detokenise", metavar="STYLE", help="Join targets of words (or hyphens) apart.")
    ] = None,
    mixture: Annotated[
        str | None, typer.Option("--mixture", metavar="FILE", help="JSON list of sets of pairs, each with a prefix.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option("--objective", help="causal, infilling, masked, denoising, elbo, adversarial, pairs.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", metavar="RUN", help="Begin with this run's weights.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Time for all of it: 90s, 5m, 1h.")] = None,
    size: Annotated[str | None, typer.Option("--size", help="tiny, small, medium or large.")] = None,
    settings: Set = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a stopped run.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also log for TensorBoard; with --resume too.")
    ] = False,
    licence: Annotated[str | None, typer.Option("--licence", help="Of the text, for the model card.")] = None,
    language: Language = "en",
) -> None:
    """Train a model on text and write a run folder: weights, tokeniser, log, report and card."""
    parts = read_mixture(mixture)
    needed = {"--family": family, "--data": data or parts, "--out": out}
    free: dict[str, Any] = {"--valid": valid, "--lines": lines, "--split-on": split_on, "--fields": fields}
    free |= {"--budget": budget, "--size": size, "--set": settings, "--task": task}
    free |= {"--languages": languages, "--lowercase": lowercase, "--detokenise": detokenise, "--mixture": mixture}
    free |= {"--objective": objective, "--base": base, "--licence": licence, "--seed": seed}
    free |= {"--tokenizer": tokenizer != "bpe", "--language": language != "en"}
    _check_train(resume, needed, free)
    from llmbert.cli.display import Display
    from llmbert.workbench import train as verb
    from llmbert.workbench.settings import parse_pairs

    with Display() as display, ctrl_c(display) as stop:
        if resume is not None:
            run = _resume(resume, display, stop, tensorboard)
        else:
            run = verb.train(
                family,
                data,
                out,
                valid=valid or None,
                lines=lines,
                split_on=split_on,
                fields=parse_fields(fields),
                tokenizer=tokenizer,
                lowercase=lowercase,
                detokenise=detokenise,
                mixture=parts,
                objective=objective,
                task=task,
                languages=languages,
                base=base,
                budget=budget,
                size=size,
                settings=parse_pairs(settings or []),
                seed=seed,
                language=check_language(language),
                progress=display,
                stop=stop,
                tensorboard=tensorboard,
                licence=licence,
            )
    _say_run(run)


def _resume(folder: str, display: Display, stop: Callable[[], bool], tensorboard: bool) -> Any:
    """Go on with a training, or with a fine-tuning."""
    from llmbert.runs import read_facts
    from llmbert.workbench.fine_tune import resume_fine_tune
    from llmbert.workbench.train import resume

    if read_facts(Path(folder)).get("objective") != "labels":
        return resume(folder, progress=display, stop=stop, tensorboard=tensorboard)
    if tensorboard:
        raise UsageError(f"{folder} is being fine-tuned, which TensorBoard is not told of; leave out --tensorboard")
    return resume_fine_tune(folder, progress=display, stop=stop)


def _check_train(resume: str | None, needed: dict[str, Any], free: dict[str, Any]) -> None:
    """Refuse a training that lacks something, or a resumed one that is told something new."""
    if resume is None and (missing := [name for name, given in needed.items() if not given]):
        raise UsageError(f"train needs {missing[0]}; see llmbert train --help")
    if resume is not None and (over := [name for name, given in (needed | free).items() if given]):
        raise UsageError(f"--resume goes on with what was asked for first; leave out {over[0]}")


def compare(
    data: Data,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the runs and the page.")],
    valid: Valid = None,
    lines: Lines = False,
    split_on: SplitOn = None,
    fields: Fields = None,
    tokenizer: Tokenizer = "bpe",
    budget: Annotated[str, typer.Option("--budget", help="Time per family and seed: 90s, 3m.")] = "3m",
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds each.")] = 1,
    families: Annotated[str | None, typer.Option("--families", metavar="A,B", help="Which; all by default.")] = None,
    language: Language = "en",
) -> None:
    """Train every family on one text for one budget, and write one page that says which to ship."""
    from llmbert.cli.display import Display
    from llmbert.workbench import compare as verb

    with Display() as display, ctrl_c(display) as stop:
        content = verb.compare(
            data,
            out,
            valid=valid or None,
            lines=lines,
            split_on=split_on,
            fields=parse_fields(fields),
            tokenizer=tokenizer,
            budget=budget,
            seeds=seeds,
            families=[name.strip() for name in families.split(",")] if families else None,
            language=check_language(language),
            progress=display,
            stop=stop,
            announce=display.say,
        )
    print_comparison(content, Path(out))


ROLES = ("text", "source", "target", "turns")


def parse_fields(text: str | None, roles: Sequence[str] = ROLES) -> dict[str, str] | None:
    """ "source=en,target=de" → {"source": "en", "target": "de"}. Raises UsageError for another form or role."""
    if text is None:
        return None
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if any(role not in roles or not name for role, _, name in pairs):
        raise UsageError(f"--fields takes ROLE=NAME with a role of {', '.join(roles)}, not {text!r}")
    return {role: name for role, _, name in pairs}


def read_mixture(path: str | None) -> list[dict[str, Any]] | None:
    """The sets of pairs a file describes. Raises UsageError where it is not a JSON list of objects."""
    if path is None:
        return None
    try:
        parts = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--mixture {path} cannot be read ({error}); give a JSON list of sets of pairs") from error
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise UsageError(f"--mixture {path} is not a JSON list of objects with data, valid, fields, prefix and task")
    return parts


def check_language(language: str) -> str:
    if language not in ("en", "zh"):
        raise UsageError(f"--language is en or zh, not {language!r}")
    return language


@contextmanager
def ctrl_c(display: Display) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C (or SIGTERM) came: in training the first lets the step end and saves; else it stops at once.

    Python drops what is raised in a callback or a `__del__`; so each is noted too, and ends the next training, or the
    whole where none comes any more.
    """
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        if len(pressed) > 1 or display.stage != "training":
            raise KeyboardInterrupt
        display.say("stopping after this step, saving …")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
        if pressed:
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_run(run: Any) -> None:
    if "heads" in run.facts:
        from llmbert.cli.tuning import say_labelled

        say_labelled(run)
        return
    scores = run.facts["scores"]
    parts = [f"{run.facts['family']}, {run.facts['parameters']:,} parameters, {run.facts['total_seconds']:.0f} s"]
    if scores["perplexity"] is not None:
        most, pseudo = ("≤ " if scores["likelihood"] == "bound" else ""), scores["likelihood"] == "pseudo"
        name, unit = ("pseudo-perplexity", "pseudo-nats/token") if pseudo else ("perplexity", "nats/token")
        parts.append(f"valid {name} {most}{scores['perplexity']:.2f} ({most}{scores['nats_per_token']:.4f} {unit})")
    for name, found in (run.facts.get("metrics") or {}).items():
        parts.append(f"{name}: " + ", ".join(f"{key} {score['score']:.2f}" for key, score in found.items()))
    if scores["bits_per_byte"] is not None and scores["likelihood"] == "exact":
        around = scores["interval"]["bits_per_byte"]
        interval = f" ({around[0]:.3f} to {around[1]:.3f})" if around else ""
        parts.append(f"{scores['bits_per_byte']:.4f} bits/byte{interval}")
    print(" · ".join(parts))
    use = {"exact": "generate {} --prompt …", "bound": "latent {} --draw 5", "pseudo": "anomalies {} --data …"}
    use["conditional"] = f"{run.facts['task']} {{}} --in …" if run.facts.get("task") else ""
    usage = use.get(scores["likelihood"], "generate {}").format(shlex.quote(str(run.folder)))
    print(f"{run.folder}: report.html shows it" + (f", llmbert {usage} uses it" if usage else ""))
    cut = [run.facts.get(key) or 0 for key in ("cut_sources", "cut_targets")]
    if any(cut):
        print(f"{cut[0]:,} sources and {cut[1]:,} targets were longer than the context and were cut; --set context=…")


# By kind of likelihood. Of an encoder-decoder the rest of a text is the source, and what was taken out its target.
FIGURES = {
    "exact": "bits/byte",
    "bound": "≤ bits/byte",
    "pseudo": "pseudo-bits/byte",
    "conditional": "nats/token given the rest",
    "none": "no likelihood",
}


def print_comparison(content: dict[str, Any], out: Path) -> None:
    """The comparison's samples, table and verdict on the terminal."""
    from rich.console import Console
    from rich.table import Table

    from llmbert.report.numbers import data_size, duration

    console = Console(highlight=False, soft_wrap=True)
    for sample in content["samples"]:
        console.rule(f"{sample['name']} · {sample['settings']}", align="left", style="dim")
        console.print((sample["prompt"] + "▸" + sample["text"])[:320], markup=False)
    there = {row["likelihood"] for row in content["table"]}
    for number, kind in enumerate(kind for kind in FIGURES if kind in there):
        # Figures of different kinds are not comparable, so no column holds two of them.
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("model", FIGURES[kind], "95 %", "train time", "tokens/s", "size"):
            table.add_column(heading, justify="left" if heading == "model" else "right")
        for row in (row for row in content["table"] if row["likelihood"] == kind):
            figure, interval = row["nats_per_token" if kind == "conditional" else "bits_per_byte"], row["interval"]
            table.add_row(
                row["name"],
                "–" if figure is None else f"{figure:.3f}",
                "–" if not interval else f"{interval[0]:.3f} to {interval[1]:.3f}",
                duration(row["train_seconds"]),
                f"{row['tokens_per_second']:,.0f}",
                data_size(row["bytes_on_disk"]),
            )
        if number == 0 and kind in ("exact", "bound"):
            for row in content["baselines"]:
                table.add_row(row["name"], f"{row['bits_per_byte']:.3f}", style="dim")
        console.print(table)
    console.print(content["data"]["overlap"], markup=False)
    console.print(content["summary"], markup=False, style="bold")
    console.print(f"The page: {out / 'report.html'}", markup=False)
