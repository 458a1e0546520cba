"""A run and texts → more texts: each rewritten by way of its latent variable, or new ones drawn from nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, load, write_text
from llmbert.tasks.classify import classify
from llmbert.tasks.latent import rewrite
from llmbert.workbench.documents.reading import Text, read_texts
from llmbert.workbench.sources import Paths


def augment(
    run: str | os.PathLike[str] | Run,
    data: Paths,
    out: str | os.PathLike[str],
    *,
    copies: int = 1,
    lines: bool | None = None,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    labeller: str | os.PathLike[str] | Run | None = None,
    least: float = 0.9,
    spread: float = 1.0,
    temperature: float | None = None,
    max_tokens: int = 100,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, int]:
    """Write new texts beside those of `data` into a JSONL file, `copies` for each; returns how many, and what fell out.

    A VAE rewrites each text from a draw of its latent variable, `spread` times as far from the mean, and the text keeps
    its label (fields: text=, label=); other families draw as many texts from nothing, which have no label unless a
    `labeller`, a run that classifies, is sure of one by `least` or more (pseudo-labels, Lee 2013). Each line has text,
    label where there is one, and of what it was made ("from"). Left out are empty texts, texts of `data` itself and
    repeated ones ("same", "twice"), texts too long for the model ("long") and unsure labels ("unsure").

    Raises UsageError for what is asked wrongly, LLMBertError for what cannot be read or written.
    """
    path = Path(out)
    if path.exists() and not overwrite:
        raise LLMBertError(f"{path} is there already; choose another --out or say --overwrite")
    if path.is_dir() or not path.parent.is_dir():
        raise LLMBertError(f"{path} cannot be a file there; make its folder first, or choose another --out")
    if copies < 1:
        raise UsageError(f"copies must be at least 1, not {copies}")
    if not 0 <= least <= 1:
        raise UsageError(f"least is a probability between 0 and 1, not {least}")
    judge = None if labeller is None else labeller if isinstance(labeller, Run) else load(Path(labeller))
    known = run if isinstance(run, Run) else load(Path(run))
    if known.reads_source or known.fills_gaps:
        raise UsageError(f"{known.family} writes nothing from nothing; take a vae, or one that goes on from a prompt")
    texts = list(read_texts(known, data, progress, lines=lines, split_on=split_on, fields=fields))
    labelled = texts[0].label is not None
    settings: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed}
    if hasattr(known.model, "posteriors"):
        settings["temperature"] = 0.0 if temperature is None else temperature
        rows, long = _rewritten(known, texts, copies, spread, settings, progress)
    else:
        if labelled and labeller is None:
            raise UsageError(f"{known.family} draws texts without labels; give a labeller, or leave out label=")
        settings["temperature"] = 1.0 if temperature is None else temperature
        drawn = known.generate_many([""] * (copies * len(texts)), progress=progress, **settings)
        rows, long = [Text("", text) for text in drawn], 0
    kept, counts = _sorted_out(rows, texts)
    if judge is not None:
        sure = _labelled(judge, kept, least, progress)
        counts["unsure"] = len(kept) - len(sure)
        kept = sure
    lines_out = (
        json.dumps(
            {"text": each.text}
            | ({} if each.label is None else {"label": each.label})
            | ({"from": each.id} if each.id else {}),
            ensure_ascii=False,
        )
        for each in kept
    )
    write_text(path, "".join(line + "\n" for line in lines_out))
    return {"written": len(kept), **counts, "long": long}


def _rewritten(
    run: Run, texts: list[Text], copies: int, spread: float, settings: dict[str, Any], progress: Progress
) -> tuple[list[Text], int]:
    """Rewritten texts with the ids and labels of what they were made of, and how many were too long to be."""
    reach = run.model.settings.context
    short = [each for each in texts if len(run.document_ids(each.text)) - 1 <= reach]
    if not short:
        raise UsageError(f"every text is longer than the {reach} tokens that the model reads at once; shorten them")
    made = rewrite(run, [each.text for each in short], copies, spread, progress=progress, **settings)
    rows = [each._replace(text=text) for each, some in zip(short, made, strict=True) for text in some]
    return rows, len(texts) - len(short)


def _sorted_out(rows: list[Text], texts: list[Text]) -> tuple[list[Text], dict[str, int]]:
    """Rows without empty, given and repeated texts, and how many of each there were."""
    given = {each.text.strip() for each in texts}
    seen: set[str] = set()
    kept: list[Text] = []
    counts = {"empty": 0, "same": 0, "twice": 0}
    for row in rows:
        text = row.text.strip()
        reason = "empty" if not text else "same" if text in given else "twice" if text in seen else None
        if reason:
            counts[reason] += 1
            continue
        seen.add(text)
        kept.append(row._replace(text=text))
    return kept, counts


def _labelled(judge: Run, rows: list[Text], least: float, progress: Progress) -> list[Text]:
    """Rows with the label that a run that classifies is sure of, without the others."""
    found = []
    for row, answer in zip(rows, classify(judge, [row.text for row in rows], progress=progress), strict=True):
        if "probabilities" not in answer or "label" not in answer:
            raise UsageError(f"{judge.folder} gives no probability of one label; take a run fine-tuned to classify")
        if answer["probabilities"][answer["label"]] >= least:
            found.append(row._replace(label=answer["label"]))
    return found
