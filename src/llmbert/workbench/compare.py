"""One corpus, one budget, every family → one page that says which to ship."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from llmbert.data.corpus import Corpus
from llmbert.metrics import TokenNats, paired_difference
from llmbert.metrics.bootstrap import mean_interval
from llmbert.metrics.likelihood import perplexity
from llmbert.models import FAMILIES, find_family
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.report.numbers import duration
from llmbert.runs import FACTS, PARTIAL, Run, load, read_facts, read_json, write_json
from llmbert.text.foreign import FOREIGN
from llmbert.text.tokenisers import TOKENISERS
from llmbert.training.loop import Interrupted
from llmbert.workbench.advice import compare_advice
from llmbert.workbench.advice.wording import say as advise
from llmbert.workbench.evidence import LENGTH, Yardstick, evidence
from llmbert.workbench.lessons import OBJECTIVES, document_objective
from llmbert.workbench.measure import shard_nats
from llmbert.workbench.pages import (
    baselines,
    curve,
    data_rows,
    fact_rows,
    flat_settings,
    mixtures,
    prompts,
    samples,
    table_row,
    write_page,
)
from llmbert.workbench.settings import parse_duration, sort_settings, whole_number
from llmbert.workbench.sources import Paths, Source, given_tokeniser, path_list, read_corpus
from llmbert.workbench.train import resume, train
from llmbert.workbench.wording import compare_summary, say

EVIDENCE = 4  # of the way it is measured
PAGE = "compare.json"  # what was asked, and once it is done the table


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

    families: which (by default all); settings: by family, what stands above the budget's choice; announce: told what
    comes next. A comparison that was stopped goes on where it was: finished runs are not trained again. A family that
    cannot be trained on this text is left out, and the page says why.

    Raises UsageError for what is asked wrongly (a tokeniser that loses text among it), LLMBertError for bad data or
    where no family can be trained.
    """
    began = time.monotonic()
    names = list(dict.fromkeys(families or FAMILIES))
    for name in names:
        _check_settings(name, (settings or {}).get(name, {}))
    seconds = parse_duration(budget)
    whole_number("seeds", seeds, 1)
    folder = Path(out)
    _check_out(folder)
    _refuse_lossy(str(tokenizer))
    source = Source(
        path_list(data),
        path_list(valid) if valid is not None else None,
        lines,
        split_on,
        dict(fields) if fields else None,
        str(tokenizer),
        vocabulary_size,
        keep=any(FAMILIES[name].mixes for name in names),
    )
    learning = {name: document_objective(FAMILIES[name]) for name in names}
    special = dict.fromkeys(token for learns in learning.values() for token in OBJECTIVES[learns].special_tokens)
    corpus = read_corpus(source, folder, progress, tuple(special))
    _refuse_unknown(corpus, folder)
    total = seconds * seeds * sum(not FAMILIES[name].counts for name in names)
    announce(f"{len(names)} families, {seeds} seed{'s' * (seeds > 1)}: about {total / 60:.0f} minutes in all")
    asked = {"families": names, "seeds": seeds, "budget": budget, "corpus": corpus.fingerprint, **_given(settings)}
    _remember(folder, asked)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for seed in range(seeds):
        for name in (name for name in names if name not in failed):
            label = name if seeds == 1 else f"{name}-{seed}"
            announce(f"{label}: training")
            try:
                run = _trained(folder / label, name, source, corpus, seconds, seed, settings, language, progress, stop)
            except (Interrupted, KeyboardInterrupt):
                raise Interrupted(f"stopped at {label}; the same command goes on from there") from None
            except LLMBertError as error:
                if isinstance(error, UsageError) and (settings or {}).get(name):
                    raise
                failed[name] = str(error)
                announce(f"{name} is left out: {error}")
                continue
            runs[name].append(run)
    runs = {name: each for name, each in runs.items() if name not in failed}
    if not runs:
        raise LLMBertError(next(iter(failed.values())))
    content = _content(runs, corpus, corpus.tokeniser, time.monotonic() - began, language, progress)
    content["advice"] += [advise("failed", language, name=name, error=error) for name, error in failed.items()]
    write_page(folder, content, language)
    write_json(folder / PAGE, asked | {"status": "done", "table": content["table"]})
    return content


def _check_settings(name: str, given: Mapping[str, Any]) -> None:
    """Refuse settings that a family does not know, and those that all families of a comparison share."""
    _, of_training, of_corpus = sort_settings(find_family(name), given)
    for key in [*(key for key in of_training if key == "seed"), *of_corpus]:
        raise UsageError(f"all families share the {key} of the comparison; leave it out of the settings of {name}")


def _check_out(folder: Path) -> None:
    """Refuse a folder with anything of others; one that was stopped while it read its text holds that text's store."""
    if not folder.exists() or (folder / PAGE).exists():
        return
    if not folder.is_dir() or any(file.name != "corpora" and file.suffix != PARTIAL for file in folder.iterdir()):
        raise LLMBertError(f"{folder} already exists and holds something else; choose another --out")


def _refuse_lossy(tokenizer: str) -> None:
    given = given_tokeniser(tokenizer)
    kind = given.kind if given else tokenizer
    if kind == FOREIGN:
        raise UsageError(f"{tokenizer} has a tokeniser from elsewhere, in which n-grams are not counted; take our own")
    if not TOKENISERS[kind].lossless:
        lossless = ", ".join(name for name, each in TOKENISERS.items() if each.lossless)
        raise UsageError(
            f"a comparison in bits/byte needs a tokeniser that loses nothing, and {kind} does; take --tokenizer with "
            f"one of {lossless}"
        )


def _refuse_unknown(corpus: Corpus, out: Path) -> None:
    """Before anything is trained: what stands for several texts is no text, and no score of it is in bits/byte."""
    if not corpus.valid.unknown:
        return
    shutil.rmtree(corpus.folder)
    for folder in (corpus.folder.parent, out):
        with suppress(OSError):  # others have something there
            folder.rmdir()
    raise UsageError(
        f"{corpus.valid.unknown:,} of the {corpus.valid.tokens:,} held-out tokens are unknown, since no training text "
        f"has them, and then nothing is in bits/byte; take --tokenizer bytes or bpe instead of {corpus.tokeniser.kind}"
    )


def _given(settings: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """The settings of the families as JSON gives them back; None for none at all."""
    chosen = {name: dict(given) for name, given in (settings or {}).items() if given}
    return {"settings": json.loads(json.dumps(chosen, default=str)) or None}


def _remember(folder: Path, asked: dict[str, Any]) -> None:
    path = folder / PAGE
    if path.exists():
        before = read_json(path)
        if any(before.get(key) != value for key, value in asked.items()):
            raise LLMBertError(f"{folder} already holds another comparison; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, asked | {"status": "training"})


def _trained(
    out: Path,
    name: str,
    source: Source,
    corpus: Corpus,
    seconds: float,
    seed: int,
    settings: Mapping[str, Mapping[str, Any]] | None,
    language: str,
    progress: Progress,
    stop: Callable[[], bool],
) -> Run:
    if (out / FACTS).exists():
        training = read_facts(out).get("status") == "training"
        return resume(out, progress=progress, stop=stop) if training else load(out)
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
        objective=document_objective(FAMILIES[name]),
        budget=None if FAMILIES[name].counts else seconds,
        settings=given,
        seed=seed,
        language=language,
        progress=progress,
        stop=stop,
        store=corpus,
    )


def _content(
    runs: Mapping[str, Sequence[Run]],
    corpus: Any,
    tokeniser: Any,
    seconds: float,
    language: str,
    progress: Progress,
) -> dict[str, Any]:
    """The page of the runs of each family, one a seed: means over seeds; curves and texts are the first one's."""
    every = [run for seeds in runs.values() for run in seeds]
    first = {name: seeds[0] for name, seeds in runs.items()}
    shortest = min((run.model.max_length or LENGTH for run in every if not run.reads_source), default=LENGTH)
    heads, yardstick = prompts(corpus, tokeniser), Yardstick(corpus, min(LENGTH, shortest))
    trials = [[table_row(run.folder.name, run, language) for run in seeds] for seeds in runs.values()]
    table = sorted((over_seeds(name, rows, language) for name, rows in zip(runs, trials, strict=True)), key=_rank)
    trivial = baselines(corpus, tokeniser, language)
    signatures = [
        [say("signature_of", language, name=run.folder.name), run.facts["scores"]["signature"]] for run in every
    ]
    curves = [line for name, run in first.items() if (line := curve(name, run, language))]
    lead = _lead(table, runs, corpus, progress)
    found = [
        row
        for name, seeds in runs.items()
        for row in _evidence_over_seeds([evidence_rows(name, run, yardstick, progress) for run in seeds])
    ]
    # A comparison that was stopped and goes on has taken longer than since then.
    total = max(seconds, sum(run.facts.get("total_seconds") or 0.0 for run in every))
    told = {"models": len(runs), "time": duration(total, language), "seeds": len(every) // len(runs)}
    trained_again = [rows for rows in trials if len(rows) > 1]
    return {
        "title": say("compare_title", language),
        "subtitle": say("compare_subtitle_seeds" if trained_again else "compare_subtitle", language, **told),
        "summary": compare_summary(table, trivial, lead, language),
        "table": table,
        "baselines": trivial,
        "curves": curves,
        "evidence": found,
        "mixtures": mixtures(first, language),
        "advice": compare_advice(table, trivial, found, curves, lead, corpus.overlap, language, trained_again),
        "samples": [
            sample
            for name, run in first.items()
            if hasattr(run.model, "step") and not run.reads_source
            for sample in samples(name, run, heads, language, progress)[0]
        ],
        "seeds": [row for rows in trained_again for row in rows],
        "data": data_rows(corpus, language),
        "settings": {run.folder.name: flat_settings(run.facts) for run in every},
        "facts": fact_rows(every[0].facts, language) + signatures,
    }


def over_seeds(name: str, rows: Sequence[dict[str, Any]], language: str) -> dict[str, Any]:
    """The line of a family from those of its runs, one a seed: means, with the interval of the mean over the seeds, if
    they differ at all. What is noted of some of them only is noted with their number."""
    if len(rows) == 1:
        return rows[0]
    figures = {
        key: None if any(row[key] is None for row in rows) else fmean(row[key] for row in rows)
        for key, value in rows[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    key = "bits_per_byte" if figures.get("bits_per_byte") is not None else "nats_per_token"
    values = [] if figures.get(key) is None else [row[key] for row in rows]
    each = " · ".join(f"{value:.3f}" for value in values)
    mean = say("seeds_each" if each else "seeds_mean", language, seeds=len(rows), each=each)
    notes = Counter(note for row in rows if row["note"] for note in row["note"].split(" · "))
    return {
        **rows[0],
        **figures,
        "name": name,
        "perplexity": perplexity(figures.get("nats_per_token")),
        "interval": _interval_over_seeds(values) if key == "bits_per_byte" else None,
        "collapsed": all(row["collapsed"] for row in rows),
        "note": " · ".join([mean, *(f"{note}{_of(count, len(rows))}" for note, count in notes.items())]),
    }


def _of(count: int, seeds: int) -> str:
    return "" if count == seeds else f" ({count}/{seeds})"


def _interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """The interval of a mean over seeds that cannot be below 0; None where the seeds make no difference."""
    if len(set(values)) < 2:
        return None
    low, high = mean_interval(values)
    return max(low, 0.0), high


def _evidence_over_seeds(trials: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Evidence of a family from that of its runs: means, with the intervals of the means over the seeds."""
    if len(trials) == 1:
        return list(trials[0])
    found = []
    for row in trials[0]:
        same = [each for trial in trials for each in trial if each["metric"] == row["metric"]]
        values = [each["value"] for each in same]
        real = [each["baseline"]["value"] for each in same if each["baseline"]]
        baseline = row["baseline"] | {"value": fmean(real)} if real else None
        found.append(row | {"value": fmean(values), "interval": _interval_over_seeds(values), "baseline": baseline})
    return found


UNITS = {"verbatim": "%", "train_seconds": "s", "milliseconds": "ms", "peak_memory": "MB", "bytes_on_disk": "MB"}
REAL = {"reverse": "training"}  # the real text beside a metric, where it is not held-out text
CLOSEST = ("forward", "verbatim", "distinct2", "self-bleu4")  # best where nearest to real text


def evidence_rows(label: str, run: Run, yardstick: Yardstick, progress: Progress) -> list[dict[str, Any]]:
    """What a run writes, costs and takes, as rows of `write_report`'s evidence; real text beside what it writes."""
    measured = {"train_seconds": run.facts.get("train_seconds")}
    found = _known_evidence(run, yardstick, progress)
    measured |= {key: found.pop(key)["value"] for key in ("milliseconds",) if key in found}
    for key, size in (("peak_memory", run.facts.get("peak_memory")), ("bytes_on_disk", run.bytes_on_disk)):
        measured[key] = size / 1e6 if size else None
    found |= {key: {"value": value, "real": None, "signature": None} for key, value in measured.items() if value}
    return [
        {
            "name": label,
            "task": None,
            "metric": metric,
            "value": _scaled(metric, figures["value"]),
            "interval": None,
            "unit": UNITS.get(metric, ""),
            "higher_is_better": None if metric in CLOSEST else False,
            "closest": metric in CLOSEST,
            "signature": figures["signature"],
            "baseline": None
            if figures["real"] is None
            else {"name": REAL.get(metric, "held-out"), "value": _scaled(metric, figures["real"])},
        }
        for metric, figures in found.items()
    ]


def _scaled(metric: str, value: float) -> float:
    return 100 * value if UNITS.get(metric) == "%" else value


def _known_evidence(run: Run, yardstick: Yardstick, progress: Progress) -> dict[str, dict[str, Any]]:
    """The evidence of a run on a corpus, measured once and kept beside the runs."""
    path = run.folder.parent / "evidence" / f"{run.folder.name}.json"
    measured = [yardstick.corpus.fingerprint, yardstick.length, EVIDENCE, _made(run)]
    if path.exists():
        known = read_json(path)
        if known.get("measured") == measured:
            return dict(known["evidence"])
    found = evidence(run, yardstick, progress)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"measured": measured, "evidence": found})
    return found


def _made(run: Run) -> list[Any]:
    """What tells a run from another that was trained into a folder of the same name: how long it took, to the last
    digit, and how large it is."""
    return [run.facts.get("total_seconds"), run.bytes_on_disk]


def _lead(
    table: Sequence[Mapping[str, Any]], runs: Mapping[str, Sequence[Run]], corpus: Corpus, progress: Progress
) -> dict[str, Any] | None:
    """The difference of the best two in bits/byte, both resampled together; None where there are no two."""
    exact = [row for row in table if row["bits_per_byte"] is not None and row["likelihood"] == "exact"]
    best, *others = [row["name"] for row in exact] or [None]
    if not others:
        return None
    return paired_difference(*(_mean_nats(runs[name], corpus, progress) for name in (best, others[0])))


def _mean_nats(seeds: Sequence[Run], corpus: Corpus, progress: Progress) -> TokenNats:
    """The nats of every held-out token, their mean over the seeds."""
    found = [shard_nats(run, corpus.valid, progress) for run in seeds]
    return replace(found[0], nats=np.mean([each.nats for each in found], axis=0))


def _rank(row: Mapping[str, Any]) -> float:
    return float("inf") if row["bits_per_byte"] is None else row["bits_per_byte"]
