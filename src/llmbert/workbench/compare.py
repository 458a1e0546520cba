"""One corpus, one budget, every family → one page that says which to ship."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbert.models import FAMILIES, find_family
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import FACTS, Run, load, write_json
from llmbert.workbench.pages import (
    baselines,
    curve,
    data_rows,
    fact_rows,
    flat_settings,
    prompts,
    samples,
    table_row,
    write_page,
)
from llmbert.workbench.settings import parse_duration, sort_settings, whole_number
from llmbert.workbench.train import Paths, Source, path_list, read_corpus, resume, train
from llmbert.workbench.wording import compare_summary, say


def compare(
    data: Paths,
    out: str | os.PathLike[str],
    *,
    valid: Paths | None = None,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    tokenizer: str = "bpe",
    vocabulary_size: int | None = None,
    budget: str | float = "3m",
    seeds: int = 1,
    families: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    language: str = "en",
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train every family on the same documents, split and tokeniser, each for `budget`, and write one page at `out`.

    families: which (all by default); settings: by family, what stands above the budget's choice; announce: told what
    comes next. A comparison that was stopped goes on where it was: finished runs are not trained again.

    Raises UsageError for what is asked wrongly (a tokeniser that loses text among it), LLMBertError for bad data.
    """
    began = time.monotonic()
    names = list(families or FAMILIES)
    for name in names:
        sort_settings(find_family(name), (settings or {}).get(name, {}))
    seconds = parse_duration(budget)
    whole_number("seeds", seeds, 1)
    folder = Path(out)
    if folder.exists() and not (folder / "compare.json").exists() and any(folder.iterdir()):
        raise LLMBertError(f"{folder} already exists and holds something else; choose another --out")
    source = Source(
        path_list(data),
        path_list(valid) if valid is not None else None,
        lines,
        split_on,
        dict(fields) if fields else None,
        str(tokenizer),
        vocabulary_size,
    )
    corpus, tokeniser = read_corpus(source, folder, progress)
    if not tokeniser.lossless:
        raise UsageError(
            f"a comparison in bits/byte needs a tokeniser that loses nothing, and {tokeniser.kind} does; "
            f"take --tokenizer bpe, bytes or chars"
        )
    total = seconds * seeds * sum(not FAMILIES[name].counts for name in names)
    announce(f"{len(names)} families, {seeds} seed{'s' * (seeds > 1)}: about {total / 60:.0f} minutes in all")
    asked = {"families": names, "seeds": seeds, "budget": budget, "corpus": corpus.fingerprint}
    _remember(folder, asked)
    runs: list[tuple[str, Run]] = []
    for seed in range(seeds):
        for name in names:
            label = name if seeds == 1 else f"{name}-{seed}"
            announce(f"{label}: training")
            runs.append(
                (
                    label,
                    _trained(folder / label, name, source, seconds, seed, settings, language, progress, stop),
                )
            )
    content = _content(runs, corpus, tokeniser, time.monotonic() - began, language, progress)
    write_page(folder, content, language)
    write_json(folder / "compare.json", asked | {"status": "done", "table": content["table"]})
    return content


def _remember(folder: Path, asked: dict[str, Any]) -> None:
    path = folder / "compare.json"
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        if any(before.get(key) != value for key, value in asked.items()):
            raise LLMBertError(f"{folder} already holds another comparison; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, asked | {"status": "training"})


def _trained(
    out: Path,
    name: str,
    source: Source,
    seconds: float,
    seed: int,
    settings: Mapping[str, Mapping[str, Any]] | None,
    language: str,
    progress: Progress,
    stop: Callable[[], bool],
) -> Run:
    if (out / FACTS).exists():
        status = json.loads((out / FACTS).read_text("utf-8")).get("status")
        return load(out) if status == "done" else resume(out, progress=progress, stop=stop)
    given = dict((settings or {}).get(name, {}))
    if source.vocabulary_size is not None:
        given["vocabulary_size"] = source.vocabulary_size
    return train(
        name,
        source.data,
        out,
        valid=source.valid,
        lines=source.lines,
        split_on=source.split_on,
        fields=source.fields,
        tokenizer=source.tokenizer,
        budget=None if FAMILIES[name].counts else seconds,
        settings=given,
        seed=seed,
        language=language,
        progress=progress,
        stop=stop,
    )


def _content(
    runs: list[tuple[str, Run]], corpus: Any, tokeniser: Any, seconds: float, language: str, progress: Progress
) -> dict[str, Any]:
    heads = prompts(corpus, tokeniser)
    table = sorted((table_row(label, run, language) for label, run in runs), key=_rank)
    trivial = baselines(corpus, tokeniser, language)
    signatures = [[say("signature_of", language, name=label), run.facts["scores"]["signature"]] for label, run in runs]
    return {
        "title": say("compare_title", language),
        "subtitle": say("compare_subtitle", language, models=len(runs), minutes=seconds / 60),
        "summary": compare_summary(table, trivial, language),
        "table": table,
        "baselines": trivial,
        "curves": [line for label, run in runs if (line := curve(label, run, language))],
        "samples": [sample for label, run in runs for sample in samples(label, run, heads, language, progress)[0]],
        "data": data_rows(corpus, language),
        "settings": {label: flat_settings(run.facts) for label, run in runs},
        "facts": fact_rows(runs[0][1].facts, language) + signatures,
    }


def _rank(row: Mapping[str, Any]) -> float:
    return float("inf") if row["bits_per_byte"] is None else row["bits_per_byte"]
