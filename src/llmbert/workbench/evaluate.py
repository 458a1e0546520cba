"""A run and text → scores with an interval and a signature; two runs → whether one is better than chance."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llmbert.data.corpus import Shard, build_shard
from llmbert.data.pairs import Reference, read_pairs
from llmbert.metrics import compare_texts, paired_difference, same_kind
from llmbert.models.headed import Headed
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, load
from llmbert.tasks.requests import fit_sources, truncation_of
from llmbert.workbench.measure import (
    part_of,
    pseudo_bytes,
    score_answers,
    score_shard,
    score_targets,
    shard_nats,
    target_language,
    task_of,
    usual_name,
    write_answers,
)


def evaluate(
    run: str | os.PathLike[str] | Run,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
    beams: int = 1,
    against: str | os.PathLike[str] | Run | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """How probable a run finds text: nats_per_token, perplexity, bits_per_byte, interval, likelihood, signature, ….

    Text is cut into documents as it was for training, unless said otherwise. A run that writes from a source is given
    pairs: the scores are of the targets, and "metrics" compare what it writes (with `beams`) with them. against:
    another run on the same text; "comparison" says which is better, and whether that may be chance.

    Raises LLMBertError for a run or data that cannot be read, UsageError for a run without a likelihood, and for two of
    two kinds.
    """
    known = run if isinstance(run, Run) else load(Path(run))
    other = None if against is None else against if isinstance(against, Run) else load(Path(against))
    paths = [os.fspath(data)] if isinstance(data, str | os.PathLike) else [os.fspath(path) for path in data]
    _check_scored(known)
    if other is not None:
        _check_alike(known, other)
    if known.reads_source:
        for name in (name for name, value in (("lines", lines), ("split_on", split_on)) if value):
            raise UsageError(f"{known.folder} writes from a source, and pairs are not cut; leave out {name}")
        return _evaluate_pairs(known, other, paths, fields, metrics, beams, progress)
    if metrics or beams != 1:
        over = "metrics" if metrics else "beams"
        raise UsageError(f"{known.folder} writes from no source, so there are no references; leave out {over}")
    source = known.facts.get("source")
    source = source if isinstance(source, dict) else {}
    cut = {} if lines or split_on else source  # a way of cutting that was asked for stands alone
    reading: dict[str, Any] = {
        "lines": bool(cut.get("lines")) if lines is None else lines,
        "split_on": split_on or cut.get("split_on"),
        "fields": fields or source.get("fields"),
        "progress": progress,
    }
    with tempfile.TemporaryDirectory(prefix="llmbert-") as folder:
        shard = build_shard(paths, known.tokeniser, Path(folder) / "a", **reading)
        scores = score_shard(known, shard, progress)
        if other is not None:
            read = partial(build_shard, paths, **reading)
            scores["comparison"] = {"bits_per_byte": _compare_nats(known, shard, other, read, Path(folder))}
        return scores


def _compare_nats(run: Run, shard: Shard, other: Run, read: Callable[..., Shard], folder: Path) -> dict[str, Any]:
    """The paired difference of two runs on the same text. read: tokenises it for another tokeniser.

    Of a pseudo-likelihood, which is taken of so many tokens, both are given the text that neither has more of.
    """
    runs, shards = (run, other), [shard, read(other.tokeniser, folder / "b")]
    part = ""
    if run.model.likelihood == "pseudo":
        most = min(map(pseudo_bytes, shards))
        if most < int(shard.document_bytes.sum()):
            shards = [read(each.tokeniser, folder / str(at), most_bytes=most) for at, each in enumerate(runs)]
            documents = shards[0].documents
            cut = bool(shards[0].document_bytes[-1] < shard.document_bytes[documents - 1])
            part = part_of(documents, shard.documents, cut)
    nats = (shard_nats(each, text, most=len(text.ids)) for each, text in zip(runs, shards, strict=True))
    return paired_difference(*nats) | ({"part": part} if part else {})


def _check_scored(run: Run) -> None:
    """Refuse a run that no text is probable under, or improbable: figures of nothing would be zeros."""
    if run.model.likelihood == "none":
        mend = "score with another family"
        if isinstance(run.model, Headed):
            mend = "score its labels on texts that have theirs: llmbert classify RUN or llmbert tag RUN with --in FILE"
        raise UsageError(f"{run.folder} ({run.family}) gives no text a probability; {mend}")


def _check_alike(run: Run, other: Run) -> None:
    """Refuse two runs whose figures could not stand in one column."""
    if other.reads_source != run.reads_source:
        raise UsageError(f"{run.folder} and {other.folder} are not asked alike: only one of them reads a source")
    kinds = [each.model.likelihood for each in (run, other)]
    if "none" in kinds:
        family = (run, other)[kinds.index("none")].family
        raise UsageError(f"a {family} gives no text a probability; compare with another family")
    if not same_kind({str(place): {"likelihood": kind} for place, kind in enumerate(kinds)}):
        raise UsageError(
            f"the likelihood of {run.folder} is {kinds[0]} and that of {other.folder} {kinds[1]}, and neither says "
            "which is better; compare runs of one kind"
        )


def _evaluate_pairs(
    run: Run,
    other: Run | None,
    paths: list[str],
    fields: Mapping[str, str] | None,
    metrics: Sequence[str] | None,
    beams: int,
    progress: Progress,
) -> dict[str, Any]:
    """Scores of the targets given their sources, metrics of what is written, and the comparison with another run."""
    prefix, trained_fields, lowercase, detokenise = _reading(run)
    pairs = list(read_pairs(paths, fields or trained_fields, prefix, lowercase, detokenise, progress))
    grouped: dict[str, Reference] = {}
    for pair in pairs:
        known = grouped.setdefault(pair.source, Reference(pair.source.removeprefix(prefix), [], prefix))
        known.targets.append(pair.target)
    references = list(grouped.values())
    name = next(iter(run.facts.get("prefixes") or {}), usual_name(run))
    kept = truncation_of(run, task_of(name).truncation)
    fitted = fit_sources(run, [pair.source for pair in pairs], kept)
    scores = score_targets(run, fitted, [pair.target for pair in pairs], progress)
    answers = write_answers(run, references, task_of(name), progress, beams=beams)
    scores["metrics"] = {name: score_answers(run, references, answers, name, metrics, beams)}
    if other is not None:
        theirs_prefix, _, theirs_lowercase, theirs_detokenise = _reading(other)
        if theirs_lowercase != lowercase:
            raise UsageError(f"only one of {run.folder} and {other.folder} is lower-cased; compare runs of one casing")
        if theirs_detokenise != detokenise:
            raise UsageError(
                f"{run.folder} and {other.folder} were not trained on targets put together alike (detokenise); "
                "compare runs of one way"
            )
        asked = [replace(reference, prefix=theirs_prefix) for reference in references]
        theirs = write_answers(other, asked, task_of(name), progress, beams=beams)
        targets, language = [reference.targets for reference in references], target_language(run, name, references)
        scores["comparison"] = compare_texts(
            answers,
            theirs,
            targets,
            tuple(scores["metrics"][name]),
            language=language,
            verbatim=task_of(name).verbatim,
        )
    return scores


def _reading(run: Run) -> tuple[str, Mapping[str, str] | None, bool, str | None]:
    """How a run's pairs are read: the prefix, the fields, whether lower-cased, and how targets are put together."""
    source = run.facts.get("source") or {}
    prefixes = run.facts.get("prefixes") or {}
    if len(prefixes) > 1:
        raise LLMBertError(
            f"{run.folder} knows {len(prefixes)} tasks ({', '.join(prefixes)}); evaluate one by its fields and "
            f"a file whose sources begin with its prefix"
        )
    fields = source.get("fields") if not source.get("mixture") else source["mixture"][0].get("fields")
    return next(iter(prefixes.values()), ""), fields, bool(source.get("lowercase")), source.get("detokenise")
