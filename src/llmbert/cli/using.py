"""Verbs that use runs: evaluate, generate, export and latent."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmbert.cli.exchange import Weights, notes, print_stream
from llmbert.cli.trusting import KeyFile, Strength, check_mark, mark_runs
from llmbert.protocols import UsageError

if TYPE_CHECKING:
    from llmbert.decoding import Delta

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Folder that llmbert train --out wrote.")]


def evaluate(
    run: RunFolder,
    data: Annotated[list[str], typer.Option("--data", metavar="PATH", help="Text to score.")],
    lines: Annotated[bool, typer.Option("--lines", help="Each line a document, though the run was not so.")] = False,
    split_on: Annotated[
        str | None, typer.Option("--split-on", metavar="REGEX", help="Cut into documents here.")
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="ROLE=NAME", help="text=, or source=,target= or turns= of pairs.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="A,B", help="Of what is written: bleu, chrf, rouge1, …")
    ] = None,
    beams: Annotated[int, typer.Option("--beams", help="Of what is written.")] = 1,
    against: Annotated[
        str | None, typer.Option("--against", metavar="RUN", help="Is this run better or worse?")
    ] = None,
    weights: Weights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score text with a run: nats/token, perplexity, bits/byte, with interval and signature."""
    from llmbert.cli.display import Display
    from llmbert.cli.making import parse_fields
    from llmbert.runs import load
    from llmbert.workbench import evaluate as verb

    with Display() as display, notes():
        scores = verb.evaluate(
            load(run, weights),
            data,
            lines=lines or None,
            split_on=split_on,
            fields=parse_fields(fields),
            metrics=[name.strip() for name in metrics.split(",")] if metrics else None,
            beams=beams,
            against=against,
            progress=display,
        )
    if as_json:
        print(json.dumps(scores, ensure_ascii=False))
        return
    interval = scores["interval"] or {}
    for name in ("nats_per_token", "perplexity", "bits_per_character", "bits_per_byte"):
        value, around = scores[name], interval.get(name)
        shown = "–" if value is None else f"{value:.4f}"
        print(f"{name.replace('_', ' '):<20}{shown:>12}" + (f"   {around[0]:.4f} to {around[1]:.4f}" if around else ""))
    cut = f", {scores['cut']:,} cut" if scores["cut"] else ""
    documents = scores.get("part") or f"{scores['documents']:,} documents"
    print(f"{scores['tokens']:,} tokens, {documents}{cut}, {scores['unknown']:,} unknown")
    print(scores["signature"])
    for name, found in (scores.get("metrics") or {}).items():
        for metric, score in found.items():
            _say_score(f"{name} {metric}", score)
    for metric, found in (scores.get("comparison") or {}).items():
        _say_comparison(metric, found, run, str(against))


def _say_score(name: str, score: dict[str, Any]) -> None:
    around, trivial = score["interval"], score.get("baseline")
    print(
        f"{name:<20}{score['score']:>12.3f}"
        + (f"   {around[0]:.3f} to {around[1]:.3f}" if around else "")
        + (f"   ({trivial['name']}: {trivial['value']:.3f})" if trivial else "")
    )
    print(f"  {score['signature']}")


def _say_comparison(metric: str, found: dict[str, Any], run: str, against: str) -> None:
    interval = found["interval"]["difference"] if isinstance(found["interval"], dict) else found["interval"]
    better = {"a": run, "b": against}.get(found["better"] or "", "neither, as far as this text tells")
    ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    sure = "" if found["p"] is None else f", p {found['p']:.3f}"  # a single unit has none
    shown = "–" if found["difference"] is None else f"{found['difference']:.3f}{ends}{sure}"
    part = f", on {found['part']}" if found.get("part") else ""
    print(f"difference in {metric}: {shown}; better: {better}{part}")


def generate(
    run: RunFolder,
    prompt: Annotated[str, typer.Option("--prompt", help="Text to go on from; - reads it from stdin.")] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="0 takes the most probable token.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="0: all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="1: all.")] = 1.0,
    min_p: Annotated[float, typer.Option("--min-p")] = 0.0,
    typical_p: Annotated[float, typer.Option("--typical-p")] = 1.0,
    repetition_penalty: Annotated[float, typer.Option("--repetition-penalty")] = 1.0,
    no_repeat_ngram: Annotated[int, typer.Option("--no-repeat-ngram")] = 0,
    beams: Annotated[int, typer.Option("--beams", help="Above 1: beam search.")] = 1,
    length_penalty: Annotated[float, typer.Option("--length-penalty")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option("--stop", help="Text to end before; may be repeated.")] = None,
    draft: Annotated[
        str | None, typer.Option("--draft", metavar="RUN", help="An n-gram that guesses ahead, or lookup: sooner done.")
    ] = None,
    watermark: KeyFile = None,
    watermark_strength: Strength = None,
    weights: Weights = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Write on from a prompt, token by token."""
    check_mark(watermark, watermark_strength)
    from llmbert.runs import load

    text = sys.stdin.read() if prompt == "-" else prompt
    settings: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "beams": beams,
        "length_penalty": length_penalty,
        "stop": tuple(stop or ()),
        "seed": seed,
    }
    if beams > 1 and temperature == 1.0:
        settings["temperature"] = 0.0
    if beams < 1:
        raise UsageError(f"--beams must be at least 1, not {beams}")
    with notes():
        known = load(run, weights)
        if known.reads_source:
            raise UsageError(
                f"{run} is a {known.family}, which writes from a source: llmbert translate, summarise or write"
            )
        mark_runs([known], watermark, watermark_strength)
        deltas = known.write(text, draft=draft, **settings)
        if as_json:
            _print_whole(text, list(deltas), settings)
        else:
            first = next(deltas, None)  # a run that does not write says so now, before anything is shown
            print_stream(chain([text, first.text if first else ""], (delta.text for delta in deltas)))


def _print_whole(prompt: str, written: Sequence[Delta], settings: dict[str, Any]) -> None:
    """What was written as one JSON object."""
    found = {
        "prompt": prompt,
        "text": "".join(delta.text for delta in written),
        "tokens": [token.id for delta in written for token in delta.tokens],
        "finish": next((delta.finish for delta in written if delta.finish), None),
        "settings": settings,
    }
    print(json.dumps(found, ensure_ascii=False))


def export(
    run: RunFolder,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="model.gguf of a gpt; model.arpa of an n-gram.")],
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="KIND", help="Of .gguf: f32 (as it is), f16, bf16, q8_0.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Even if --out exists.")] = False,
) -> None:
    """Write a run as one file that other programs open (a run's folder itself is what Hugging Face's open)."""
    path = Path(out)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give another --out, or --overwrite")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; make it, or give another --out")
    from llmbert.cli.display import Display
    from llmbert.runs import load
    from llmbert.runs.trail import note_export

    with Display() as display:
        if path.suffix == ".gguf":
            load(run).write_gguf(path, weights or "f32")
        elif ".arpa" in path.suffixes[-2:]:
            if weights is not None:
                raise UsageError("an ARPA file holds probabilities and no weights; leave out --weights")
            load(run).write_arpa(path, display)
        else:
            raise UsageError(f"{path.name} should end in .gguf, or for an n-gram in .arpa or .arpa.gz")
    note_export(Path(run), path)
    print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")


def latent(
    run: RunFolder,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="To be rebuilt.")] = None,
    draw: Annotated[int, typer.Option("--draw", metavar="N", help="Texts from draws of the prior.")] = 0,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Texts on the line between the two given.")] = 0,
    without: Annotated[str | None, typer.Option("--without", help="Take off what this text has …")] = None,
    like: Annotated[str | None, typer.Option("--like", help="… and put on what this one has.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="At most so many each.")] = 100,
    temperature: Annotated[float, typer.Option("--temperature", help="0: the most probable token always.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Texts by way of a latent variable: rebuilt, drawn, between two others, or changed by arithmetic."""
    given = texts or []
    _check_latent(given, draw, steps, without, like)
    from llmbert.cli.display import Display
    from llmbert.runs import load
    from llmbert.tasks import latent as task

    settings: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    with Display() as display:
        known = load(run)
        if draw:
            made = task.sample(known, draw, seed, display, **settings)
        elif steps:
            made = task.interpolate(known, given[0], given[1], steps, seed=seed, **settings)
        elif without is not None and like is not None:
            made = [task.edit(known, text, without, like, seed=seed, **settings) for text in given]
        else:
            made = task.reconstruct(known, given, display, seed=seed, **settings)
    print(json.dumps({"texts": made}, ensure_ascii=False) if as_json else "\n".join(made))


def _check_latent(given: list[str], draw: int, steps: int, without: str | None, like: str | None) -> None:
    """Refuse what asks for nothing, or for two things at once."""
    if (without is None) != (like is None):
        raise UsageError("--without and --like belong together; give both")
    if sum((bool(draw), bool(steps), without is not None)) > 1:
        raise UsageError("--draw, --steps and --without with --like are different things; ask for one")
    if draw < 0 or steps < 0:
        raise UsageError("--draw and --steps count texts; give 1 or more")
    if draw and given:
        raise UsageError("--draw takes no text; leave it out, or leave out --draw")
    if steps and len(given) != 2:
        raise UsageError(f"--steps goes from one text to another; give two, not {len(given)}")
    if not draw and not given:
        raise UsageError("give texts to rebuild, or --draw N")
