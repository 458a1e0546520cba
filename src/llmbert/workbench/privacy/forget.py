"""A run and documents of its text → the run as if these had never stood there, and a certificate of what was done."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.corpus import Corpus, Shard
from llmbert.models import find_family
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import MEMBERS, WEIGHTS, Run, disk_error, load, machine, read_facts, write_json
from llmbert.runs.trail import note_trail
from llmbert.tasks.anomalies import oddness
from llmbert.workbench.curation.trace import NAME as INDEX
from llmbert.workbench.curation.trace import trace
from llmbert.workbench.folders import fresh_folder
from llmbert.workbench.privacy.rows import CERTIFICATE
from llmbert.workbench.settings import Asked
from llmbert.workbench.sources import beside, open_store
from llmbert.workbench.train import carry_out, prepare

OF_SEVERAL = ("gpt", "bert", "t5")  # families that learn by one objective or another
COMPARED = 200  # documents never trained on that a forgotten one is compared with


def forget(
    run: str | os.PathLike[str],
    documents: Sequence[str],
    *,
    retrain: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make a run anew without some documents of its text, by their ids; returns the certificate, `forgotten.json`.

    Families that count are counted anew, tokeniser and all: the result is, to the byte, that of a training that never
    saw the documents. Of a mixture in shards (`--family mixture --set shards=N`) the members whose part held one are
    trained anew, and the weights of all; the tokeniser stays. Any other family is trained anew as a whole, which takes
    as long as before and must be asked for by `retrain`. The store of the old text goes, unless other runs need it.
    The files that were read stay as they are: they are the user's to clean.

    Raises LLMBertError where the text is gone or changed, UsageError for documents that were not there.
    """
    folder = Path(run)
    put_back(folder)
    facts = read_facts(folder)
    store = _store_of(folder, facts)
    wanted = list(dict.fromkeys(documents))
    places = _places(store, wanted, folder)
    chosen = find_family(facts["family"])
    sharded = chosen.mixes and (facts["settings"]["model"].get("shards") or 1) > 1
    if not chosen.counts and not sharded and not retrain:
        raise UsageError(
            f"a {facts['family']} is trained anew as a whole to forget, which takes as long as it took; say --retrain, "
            "or train with --family mixture --set shards=8 to forget sooner"
        )
    texts = [getattr(store, part).text_of(number, store.tokeniser) for part, number in places]
    fresh = _held_out(store)
    before = _scores(load(folder), texts, fresh, progress)
    began, old, earlier = datetime.now(UTC), _digest(folder), _earlier(folder)
    hit = _shards_of(store, facts, places) if sharded else None
    with _set_aside(folder) as aside:
        made = _made_anew(folder, aside, facts, wanted, hit, progress)
    certificate = {
        "run": folder.name,
        "time": began.isoformat(timespec="seconds"),
        "documents": wanted,
        "digests": [sha256(text.encode()).hexdigest() for text in texts],
        "way": "shards" if sharded else "whole",
        "exact": _exactness(chosen.counts, sharded),
        "retrained": sorted(made),
        "weights": {"before": old, "after": _digest(folder)},
        "corpus": {"before": facts["data"]["fingerprint"], "after": read_facts(folder)["data"]["fingerprint"]},
        "oddness": {"before": before, "after": _scores(load(folder), texts, fresh, progress)},
        "index": _index_anew(folder, store, progress),
        "store_removed": _remove_store(store, folder),
        "machine": machine(),
    }
    write_json(folder / CERTIFICATE, [*earlier, certificate])
    note_trail(beside(folder) / "corpora", "forget", folder.name, documents=len(wanted), way=certificate["way"])
    return certificate


def _store_of(folder: Path, facts: Mapping[str, Any]) -> Corpus:
    if facts.get("status") != "done":
        raise LLMBertError(f"{folder} is not finished; go on with it first: llmbert train --resume {folder}")
    if facts.get("part"):
        raise UsageError(f"{folder} is a member of a mixture; name the folder of the mixture")
    store = open_store(beside(folder) / str(facts["corpus"]))
    if not isinstance(store, Corpus):
        raise UsageError(f"{folder} learned from pairs; only documents can be forgotten so far")
    if store.fingerprint != facts["data"]["fingerprint"]:
        raise LLMBertError(f"the corpus at {store.folder} is not the one {folder} was trained on; nothing was done")
    return store


def _places(store: Corpus, wanted: Sequence[str], folder: Path) -> list[tuple[str, int]]:
    """Where each document stands: the shard's name and its number there. Raises UsageError for one that does not."""
    if not wanted:
        raise UsageError("name at least one document to forget, by its id")
    found: dict[str, tuple[str, int]] = {}
    for name in ("train", "valid", "kept"):
        shard: Shard | None = getattr(store, name, None)
        for number in range(0 if shard is None else shard.documents):
            if (known := shard.document_ids[number]) in wanted:  # type: ignore[union-attr]
                found[known] = (name, number)
    missing = [name for name in wanted if name not in found]
    if missing:
        known = store.train.document_ids[0]
        raise UsageError(f"{folder} has read no document {missing[0]!r}; its documents have ids such as {known!r}")
    return [found[name] for name in wanted]


def _held_out(store: Corpus) -> list[str]:
    """Documents that were not trained on, to compare with."""
    chosen = np.unique(np.linspace(0, store.valid.documents - 1, COMPARED).astype(int))
    return [store.valid.text_of(int(number), store.tokeniser) for number in chosen]


def _scores(run: Run, texts: Sequence[str], fresh: Sequence[str], progress: Progress) -> dict[str, Any] | None:
    """How odd a run finds the documents, each with its rank (0-1) among documents it never trained on."""
    try:
        found, others = oddness(run, texts, progress), np.sort(oddness(run, fresh, progress))
    except UsageError:  # a family that scores no text alone
        return None
    ranks = np.searchsorted(others, found) / len(others)
    return {
        "documents": [round(float(value), 5) for value in found],
        "ranks": [round(float(rank), 4) for rank in ranks],
        "never_seen": [float(others[0]), float(np.median(others)), float(others[-1])],
    }


def _shards_of(store: Corpus, facts: Mapping[str, Any], places: Sequence[tuple[str, int]]) -> set[int]:
    """The parts of the training text that held one of the documents."""
    shards = np.uint64(facts["settings"]["model"]["shards"])
    return {int(store.train.digests[number] % shards) for name, number in places if name == "train"}


def _made_anew(
    folder: Path,
    aside: Path,
    facts: Mapping[str, Any],
    wanted: Sequence[str],
    hit: set[int] | None,
    progress: Progress,
) -> list[str]:
    """Train the run anew without the documents; returns what was trained. aside: where the run lies as it was; hit:
    the parts whose members must be trained, the others are taken from there."""
    began, source, mixes = time.monotonic(), facts["source"], find_family(facts["family"]).mixes
    model, learning = facts["settings"].get("model") or {}, facts["settings"].get("training") or {}
    settings = {**model, **learning, "vocabulary_size": source["vocabulary_size"]}
    if mixes:
        settings = {**facts["asked"]["training"], **{key: model[key] for key in ("members", "shards")}}
    if hit is not None or settings.get("vocabulary_size") is None:
        settings.pop("vocabulary_size", None)
    asked = Asked(
        facts["family"],
        source["data"],
        folder,
        source["valid"],
        source["lines"],
        source["split_on"],
        source["fields"],
        source["tokenizer"] if hit is None else str(aside),
        objective=facts["objective"] if facts["family"] in OF_SEVERAL else None,
        budget=facts["budget"] if mixes else None,
        settings=settings,
        seed=facts["seed"],
        language=facts["language"],
        without=sorted({*wanted, *(source.get("without") or ())}),
        licence=facts.get("licence"),
    )
    training = prepare(asked, progress, began)
    with fresh_folder(training.out):
        for member in sorted((aside / MEMBERS).glob("*")) if hit is not None else ():
            if read_facts(member)["part"][0] not in (hit or ()):
                shutil.copytree(member, folder / MEMBERS / member.name)
        carry_out(training)
    if hit is None:
        return [str(facts["family"])]
    return [path.name for path in (folder / MEMBERS).glob("*") if read_facts(path)["part"][0] in hit]


@contextmanager
def _set_aside(folder: Path) -> Iterator[Path]:
    """The run under another name while it is made anew; it comes back where that fails."""
    aside = _aside(folder)
    try:
        folder.rename(aside)
        yield aside
    except BaseException as error:
        put_back(folder)
        if isinstance(error, OSError):
            raise disk_error(folder, error) from error
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return beside(folder) / f".{folder.name}.before"


def put_back(folder: Path) -> None:
    """Where forgetting was cut short, the run as it was before."""
    if _aside(folder).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _aside(folder).rename(folder)


def _digest(folder: Path) -> str:
    """SHA-256 of a run's weights, its members' among them."""
    found = sha256()
    for path in [folder / WEIGHTS, *sorted((folder / MEMBERS).glob(f"*/{WEIGHTS}"))]:
        found.update(path.read_bytes())
    return found.hexdigest()


def _exactness(counts: bool, sharded: bool) -> str:
    if counts:
        return "the same bytes as a training that never saw the documents, tokeniser included"
    if sharded:
        return "members that saw them and the weights were trained anew; the tokeniser was made with them and stays"
    return "trained anew as a whole without them, tokeniser included"


def _index_anew(folder: Path, store: Corpus, progress: Progress) -> str | None:
    """Where texts of the run were traced, an index of the new store; its fingerprint. The old one goes with its store.

    The bytes are those of an index made without the documents, whichever way (see `TraceIndex.forget`)."""
    if not store.folder.with_name(INDEX.format(store.folder.name)).exists():
        return None
    return str(trace(folder, progress=progress)["index"]["fingerprint"])


def _remove_store(store: Corpus, folder: Path) -> bool:
    """Take the old text's store away unless another run beside needs it."""
    for path in beside(folder).glob("*/run.json"):
        try:
            needed = json.loads(path.read_text("utf-8")).get("corpus", "")
        except (OSError, ValueError):
            continue
        if Path(needed).name == store.folder.name:
            return False
    shutil.rmtree(store.folder.with_name(INDEX.format(store.folder.name)), ignore_errors=True)
    shutil.rmtree(store.folder, ignore_errors=True)
    return True


def _earlier(folder: Path) -> list[Any]:
    try:
        return list(json.loads((folder / CERTIFICATE).read_text("utf-8")))
    except (OSError, ValueError):
        return []
