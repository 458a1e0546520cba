"""Verbs of runs in use: the server, and what people thought of its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from llmbert.cli.exchange import Weights
from llmbert.cli.trusting import KeyFile, Strength, check_mark, mark_runs
from llmbert.protocols import LLMBertError, UsageError

MISSING = "llmbert serve needs FastAPI and uvicorn; install them: pip install 'llmbert[serve]'"


def serve(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs; NAME=FOLDER names one.")],
    host: Annotated[str, typer.Option("--host", help="Another than this machine's own needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    keys: Annotated[
        str | None, typer.Option("--keys", metavar="FILE", help="Who may ask: lines of [NAME] KEY [REQUESTS_A_MINUTE].")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="Requests a minute of a key or address; 0: any number.")] = 0,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", metavar="NAME", help="A name that the server goes by; repeated.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option("--allow-origin", metavar="URL", help="A web page that may ask; repeated.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Texts of a run written at a time.")] = 32,
    queue: Annotated[int, typer.Option("--queue", help="Requests of a run that may wait.")] = 256,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Most of one answer.")] = 4096,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", help="Most of one prompt.")] = 16384,
    body_bytes: Annotated[int, typer.Option("--body-bytes", help="Most of one request.")] = 1 << 20,
    seconds: Annotated[float, typer.Option("--seconds", help="Most for one request.")] = 300,
    drain: Annotated[float, typer.Option("--drain", metavar="SECONDS", help="To finish in, when stopped.")] = 30,
    feedback: Annotated[
        str | None, typer.Option("--feedback", metavar="FILE", help="Database of thumbs and response times.")
    ] = None,
    log_text: Annotated[bool, typer.Option("--log-text", help="Let the log hold prompts and answers.")] = False,
    watermark: KeyFile = None,
    watermark_strength: Strength = None,
    weights: Weights = None,
) -> None:
    """Serve runs by OpenAI's protocol, with a page to see them at work."""
    check_mark(watermark, watermark_strength)
    try:
        from llmbert.serving.catalogue import load_runs
        from llmbert.serving.server import check_address, open_socket
        from llmbert.serving.server import serve as answer
        from llmbert.serving.settings import LOOPBACK, ServeSettings, read_keys
    except ImportError as error:
        raise LLMBertError(f"{MISSING} (there is no {error.name})") from error
    from llmbert.cli.display import Display

    settings = ServeSettings(
        keys=read_keys(keys),
        hosts=tuple(name.lower() for name in allow_host or ()) or (LOOPBACK if host in LOOPBACK else ()),
        origins=tuple(allow_origin or ()),
        rate=rate,
        body_bytes=body_bytes,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        batch=batch,
        queue=queue,
        seconds=seconds,
        drain_seconds=drain,
        keep_text=log_text,
        feedback=Path(feedback) if feedback else None,
    )
    check_address(host, settings)
    listening = open_socket(host, port)
    with listening:
        with Display() as display:
            known = load_runs(runs, weights, display)
        onward = [served.run for served in known.values() if served.writes_onward]
        if watermark is not None and not onward:
            raise UsageError("none of these runs writes from left to right and carries a mark; leave out --watermark")
        mark_runs(onward, watermark, watermark_strength)
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"http://{shown}:{listening.getsockname()[1]}/   {', '.join(known)}", err=True)
        answer(known, settings, listening)


feedback = typer.Typer(help="What people thought of a server's answers.", rich_markup_mode=None)


@feedback.command("report")
def report(
    database: Annotated[str, typer.Argument(metavar="FILE", help="What llmbert serve --feedback wrote.")],
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write a page.")] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", metavar="FILE", help="Write prompts with liked or corrected answers, JSONL."),
    ] = None,
    worst: Annotated[int, typer.Option("--worst", min=0, help="So many of the worst answers.")] = 10,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Even if a file exists.")] = False,
    language: Annotated[str, typer.Option("--language", help="Of the page: en or zh.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Satisfaction, response times and the worst answers; pairs for a training that learns from them."""
    from llmbert.cli.making import check_language
    from llmbert.report.numbers import duration
    from llmbert.serving.feedback_report import feedback_report, write_feedback_page, write_pairs

    for path in (out, pairs):
        if path is not None and Path(path).exists() and not overwrite:
            raise UsageError(f"{path} exists; give another name, or --overwrite")
    check_language(language)
    found = feedback_report(Path(database), worst)
    if out is not None:
        write_feedback_page(Path(database), found, Path(out), language)
    written = write_pairs(Path(database), Path(pairs)) if pairs is not None else None
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, run in found["runs"].items():
        _say_run(name, run, duration)
    for each in found["worst"]:
        print(f"  {each['run']}: {_short(each['prompt'])} → {_short(each['answer'])}  {each['note']}".rstrip())
    for line in (f"The page: {out}" if out else "", f"{pairs}: {written} pairs" if pairs else ""):
        if line:
            print(line)


def _say_run(name: str, run: dict[str, Any], duration: Any) -> None:
    thumbs, seconds = run["thumbs"], run["seconds"]
    around = thumbs["interval"]
    liked = f"{thumbs['share_up']:.0%} liked ({around[0]:.0%} to {around[1]:.0%})" if around else "none rated"
    print(f"{name}: {run['answers']:,} answers, {thumbs['up']:,} up, {thumbs['down']:,} down, {liked}")
    if seconds:
        times = ", ".join(f"{share} {duration(seconds[share])}" for share in ("p50", "p95", "p99"))
        print(f"  time per answer: {times}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
