"""A run → what it keeps of its training text, measured and written into its folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.corpus import Corpus
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import FACTS, load, resume_command, write_json
from llmbert.runs.trail import note_trail
from llmbert.tasks.anomalies import oddness
from llmbert.trust.membership import membership_figures, membership_scores
from llmbert.trust.provenance.index import BLOCK_BYTES
from llmbert.trust.provenance.spans import IDEOGRAPH
from llmbert.workbench.audit.measuring import SPAN, copied_share, verbatim
from llmbert.workbench.audit.planting import ASKED, asked_whole, texts_to_ask
from llmbert.workbench.curation.trace import run_index
from llmbert.workbench.folders import note_done
from llmbert.workbench.pages import write_run_page
from llmbert.workbench.settings import whole_number
from llmbert.workbench.sources import beside, open_store

LEAST_TEXTS = 20


def audit_run(run: str | os.PathLike[str], *, samples: int = 1000, progress: Progress = silent) -> dict[str, Any]:
    """Measure what a run gives away of its training documents, without planting anything: membership inference (see
    `trust.membership`) and how much of `samples` texts that it draws stands in them; `run.json`, page and card get it.

    Raises LLMBertError where its corpus store is gone or too small, UsageError for a run of pairs.
    """
    folder = Path(run)
    whole_number("samples", samples, 1)
    known = load(folder)
    if known.facts.get("status") != "done":
        raise LLMBertError(f"{folder} is not finished; go on with it first: {resume_command(folder)}")
    if not known.facts.get("corpus"):
        raise UsageError(
            f"{folder} keeps no store of what it learned from; audit the run that was trained on documents"
        )
    store = open_store(beside(folder) / str(known.facts["corpus"]))
    if not isinstance(store, Corpus):
        raise UsageError(f"{folder} learned from pairs; audit a run of documents")
    random = np.random.default_rng(int(known.facts["seed"]))
    whole = asked_whole(store.train, store.valid)
    members = texts_to_ask(store.train, store.tokeniser.decode, ASKED, random, whole)
    others = texts_to_ask(store.valid, store.tokeniser.decode, ASKED, random, whole, store.train, members)
    count = min(len(members), len(others))
    if count < LEAST_TEXTS:
        raise LLMBertError(
            f"only {count} texts on either side can be asked about, too few; train with more held-out text"
        )

    def odd(texts: Sequence[str]) -> NDArray[np.float64]:
        return oddness(known, texts, progress)

    figures = membership_figures(membership_scores(odd, members[:count], others[:count]))
    index = run_index(known, BLOCK_BYTES, progress)
    attacks = [name for name in figures if name != "blind"]
    found = {
        "texts": count,
        "membership": figures,
        "best": max(attacks, key=lambda name: figures[name]["auc"]["score"]),
        "copied": verbatim(known, index, samples, int(known.facts["seed"]), progress),
        "copied_by_people": copied_share(others, index),
        "span": SPAN,
        "ideograph": IDEOGRAPH,
    }
    known.facts["audit"] = found
    write_run_page(known, store, progress)
    write_json(folder / FACTS, known.facts)
    note_done(note_trail, store.folder.parent, "audit", folder.name, texts=count, samples=samples)
    return found
