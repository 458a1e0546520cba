"""A run and documents of its text → the run as if these had never stood there, and a certificate of what was done."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.corpus import Corpus, Shard, digest_of, usual_kept_share, usual_share
from llmbert.data.sources import HUB, STANDARD_INPUT, Meter, find_sources
from llmbert.models import find_family
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import (
    FACTS,
    MEMBERS,
    WEIGHTS,
    Run,
    disk_error,
    load,
    machine,
    read_facts,
    resume_command,
    run_status,
    write_json,
)
from llmbert.runs.trail import note_trail, read_trail
from llmbert.tasks.anomalies import oddness
from llmbert.text.tokenisers import TOKENISERS
from llmbert.workbench.curation.trace import NAME as INDEX
from llmbert.workbench.curation.trace import trace
from llmbert.workbench.folders import fresh_folder, note_done
from llmbert.workbench.pages import write_run_page
from llmbert.workbench.privacy.rows import CERTIFICATE, certificates_of
from llmbert.workbench.settings import Asked, idle_settings
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
    The files that were read stay as they are: they are the user's to clean. The certificate names the documents of the
    same text that stay ("twins"), and what was made of the run as it was, beside it ("left").

    Raises LLMBertError where the text is gone or changed, UsageError for documents that were not there.
    """
    folder = Path(run)
    put_back(folder)
    facts = read_facts(folder)
    _clear_left_stores(folder)
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
    certificate: dict[str, Any] = {
        "run": folder.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "documents": wanted,
        "places": [getattr(store, part).document_ids[number] for part, number in places],
        "twins": _twins(store, places),
        "way": "shards" if sharded else "whole",
        "exact": _exactness(facts, sharded),
        "weights": {"before": _digest(folder)},
        "corpus": {"before": store.fingerprint, "store": store.folder.name},
        "oddness": {"before": _scores(load(folder), texts, fresh, progress)},
        "machine": machine(),
    }
    earlier = certificates_of(folder)
    hit = _shards_of(store, facts, places) if sharded else None
    with _set_aside(folder) as aside:
        certificate["retrained"] = sorted(_made_anew(folder, aside, facts, wanted, hit, store, progress))
        _check_gone(folder, wanted)
        write_json(folder / CERTIFICATE, [*earlier, certificate])  # whatever comes now, the store can be cleared later
    certificate["weights"]["after"] = _digest(folder)
    certificate["corpus"]["after"] = read_facts(folder)["data"]["fingerprint"]
    certificate["oddness"]["after"] = _scores(load(folder), texts, fresh, progress)
    certificate["index"] = _index_anew(folder, store, progress)
    certificate["store_removed"] = _remove_store(store.folder, folder)
    certificate["left"] = _left(folder)
    write_json(folder / CERTIFICATE, [*earlier, certificate])
    write_run_page(load(folder), open_store(beside(folder) / read_facts(folder)["corpus"]), progress)
    told = {"documents": len(wanted), "way": certificate["way"]}
    note_done(note_trail, beside(folder) / "corpora", "forget", folder.name, **told)
    return certificate


def _store_of(folder: Path, facts: Mapping[str, Any]) -> Corpus:
    if facts.get("status") != "done":
        raise LLMBertError(f"{folder} is not finished; go on with it first: {resume_command(folder)}")
    if not facts.get("corpus"):
        raise UsageError(
            f"{folder} keeps no store of what it learned from; train it anew from data without the documents"
        )
    if facts.get("part"):
        raise UsageError(f"{folder} is a member of a mixture; name the folder of the mixture")
    store = open_store(beside(folder) / str(facts["corpus"]))
    if not isinstance(store, Corpus):
        raise UsageError(f"{folder} learned from pairs; only documents can be forgotten so far")
    if store.fingerprint != facts["data"]["fingerprint"]:
        raise LLMBertError(f"the corpus at {store.folder} is not the one {folder} was trained on; nothing was done")
    _refuse_changed(store, facts["source"])
    return store


def _refuse_changed(store: Corpus, source: Mapping[str, Any]) -> None:
    """The files are read again by the numbers of their documents, so they must be what they were."""
    described = store.describe()
    for key, paths in (("files", source["data"]), ("valid_files", source["valid"] or [])):
        if any(path == STANDARD_INPUT or path.startswith(HUB) for path in paths):
            raise UsageError("a text that came by standard input or from a hub cannot be read again; train from files")
        found = [digest_of(each, Meter(silent, None)) for each in find_sources(paths)] if paths else []
        if found != [entry["sha256"] for entry in described.get(key) or []]:
            raise LLMBertError(
                f"the files that {', '.join(Path(path).name for path in paths)} names have changed since the training; "
                "restore them, or train anew from what they hold now"
            )


def _places(store: Corpus, wanted: Sequence[str], folder: Path) -> list[tuple[str, int]]:
    """Where each document stands: the shard's name and its number there. Raises UsageError for one that does not."""
    if not wanted:
        raise UsageError("name at least one document to forget, by its id")
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in wanted}
    for name in ("train", "valid", "kept"):
        shard: Shard | None = getattr(store, name, None)
        for number in range(0 if shard is None else shard.documents):
            if (known := shard.document_ids[number]) in found:  # type: ignore[union-attr]
                found[known].append((name, number))
    usual = store.train.document_ids[0]
    if re.search(r"\[\d*:\d*\]\Z", usual):
        raise UsageError(f"{folder} has read but one document; train with --lines or --split-on to forget some of it")
    if missing := [name for name in wanted if not found[name]]:
        raise UsageError(f"{folder} has read no document {missing[0]!r}; its documents have ids such as {usual!r}")
    return [place for name in wanted for place in found[name]]


def _twins(store: Corpus, places: Sequence[tuple[str, int]]) -> list[str]:
    """The ids of documents that have the text of one of these, and are not among them."""
    among = set(places)
    gone = np.unique([getattr(store, name).digests[number] for name, number in places])
    alike = [(shard, int(number)) for shard in store.shards for number in np.flatnonzero(np.isin(shard.digests, gone))]
    return [shard.document_ids[number] for shard, number in alike if (shard.name, number) not in among]


def _left(folder: Path) -> list[str]:
    """What was made of a run as it was before and may tell of what is forgotten, as far as anybody can know: pages of
    comparisons, runs that began with it, and files it was exported to."""
    beside_it = beside(folder)
    found = [f"{beside_it / 'report.html'}"] if (beside_it / "compare.json").exists() else []
    for path in sorted(beside_it.glob(f"*/{FACTS}")):
        base = _facts_or_none(path).get("base")
        if base and Path(base).resolve() == folder.resolve():
            found.append(str(path.parent))
    with suppress(LLMBertError):  # of a trail that was changed nothing is taken
        entries = read_trail(beside_it / "corpora")
        found += [str(each["file"]) for each in entries if each["action"] == "export" and each["run"] == folder.name]
    return list(dict.fromkeys(found))


def _facts_or_none(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


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
    store: Corpus,
    progress: Progress,
) -> list[str]:
    """Train the run anew without the documents; returns what was trained. aside: where the run lies as it was; hit:
    the parts whose members must be trained, the others are taken from there."""
    began, source, mixes = time.monotonic(), facts["source"], find_family(facts["family"]).mixes
    model, learning = facts["settings"].get("model") or {}, facts["settings"].get("training") or {}
    if not mixes:  # of a run made before they were refused, those that made no difference to it
        idle = idle_settings(facts["family"], model)
        model = {key: value for key, value in model.items() if key not in idle}
    settings = {**model, **learning, "vocabulary_size": source["vocabulary_size"]}
    if mixes:
        settings = {**model, **facts["asked"]["training"]}
    settings = {key: value for key, value in settings.items() if value is not None}
    if hit is not None or source["tokenizer"] not in TOKENISERS:  # a tokeniser that is given has its vocabulary
        settings.pop("vocabulary_size", None)
    without = sorted({*wanted, *(source.get("without") or ())})
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
        base=facts.get("base"),
        budget=facts["budget"] if mixes else None,
        settings=settings,
        seed=facts["seed"],
        language=facts["language"],
        without=without,
        licence=facts.get("licence"),
        # So that a member which is taken over has learned nothing that is held out or kept from now on.
        valid_share=None if hit is None else _share_of(store, source),
        kept_share=None if hit is None else _kept_share_of(store, source),
    )
    training = prepare(asked, progress, began)
    with fresh_folder(training.out):
        for member in sorted((aside / MEMBERS).glob("*")) if hit is not None else ():
            if read_facts(member)["part"][0] not in (hit or ()):
                _take_over(member, folder / MEMBERS / member.name, training.facts, without)
        carry_out(training)
    if hit is None:
        return [str(facts["family"])]
    return [path.name for path in (folder / MEMBERS).glob("*") if read_facts(path)["part"][0] in hit]


def _share_of(store: Corpus, source: Mapping[str, Any]) -> float | None:
    """The share of documents that a store held out, where it drew them."""
    if source["valid"]:
        return None
    given = source.get("valid_share")
    return float(given) if given else usual_share(sum(shard.documents for shard in store.shards))


def _kept_share_of(store: Corpus, source: Mapping[str, Any]) -> float:
    """The share of training documents that a store keeps for the weights of a mixture."""
    drawn_from = [shard for shard in store.shards if shard is not store.valid or not source["valid"]]
    characters = sum(int(shard.document_characters.sum()) for shard in drawn_from)
    return float(source.get("kept_share") or usual_kept_share(characters))


def _take_over(member: Path, place: Path, facts: Mapping[str, Any], without: Sequence[str]) -> None:
    """Copy a member that never saw the documents, but for its page, which may show some of one."""
    shutil.copytree(member, place, ignore=shutil.ignore_patterns("report.html", "report.json", "README.md"))
    told = read_facts(place)
    told["corpus"] = facts["corpus"]
    told["source"] |= {"without": list(without)}
    write_json(place / FACTS, told)


def _check_gone(folder: Path, wanted: Sequence[str]) -> None:
    """Look the new store through. Raises LLMBertError where a document is still there."""
    store = open_store(beside(folder) / read_facts(folder)["corpus"])
    assert isinstance(store, Corpus)
    for shard in store.shards:
        left = set(wanted).intersection(shard.document_ids[:])
        if left:
            raise LLMBertError(f"{sorted(left)[0]!r} still stands in the text after forgetting; nothing was changed")


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
    _remove_aside(folder)


def _aside(folder: Path) -> Path:
    return beside(folder) / f".{folder.name}.before"


def put_back(folder: Path) -> None:
    """Where forgetting was cut short, the run as it was before; where it was done, what it had set aside goes."""
    aside = _aside(folder)
    shutil.rmtree(_going(folder), ignore_errors=True)
    if not aside.exists():
        return
    if run_status(folder) == "done" and (folder / CERTIFICATE).exists():
        _remove_aside(folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _remove_aside(folder: Path) -> None:
    """By a name under which nobody takes it for a run, should this be cut short."""
    _aside(folder).rename(_going(folder))
    shutil.rmtree(_going(folder), ignore_errors=True)


def _going(folder: Path) -> Path:
    return beside(folder) / f".{folder.name}.going"


def _digest(folder: Path) -> str:
    """SHA-256 of a run's weights, its members' among them."""
    found = sha256()
    for path in [folder / WEIGHTS, *sorted((folder / MEMBERS).glob(f"*/{WEIGHTS}"))]:
        found.update(path.read_bytes())
    return found.hexdigest()


def _exactness(facts: Mapping[str, Any], sharded: bool) -> str:
    """What is the same as in a training that never saw the documents, in a sentence."""
    given = facts["source"]["tokenizer"] not in TOKENISERS
    tokeniser = "the tokeniser, which was given, stays" if given else "tokeniser included"
    if sharded:
        return "members that saw them and the weights were trained anew; the tokeniser was made with them and stays"
    if facts.get("base"):
        return f"trained anew as a whole without them, from the same base; {tokeniser}"
    if facts.get("privacy"):
        return f"trained anew as a whole without them, with new noise; {tokeniser}"
    if find_family(facts["family"]).counts:
        return f"the same bytes as a training that never saw the documents; {tokeniser}"
    return f"trained anew as a whole without them; {tokeniser}"


def _index_anew(folder: Path, store: Corpus, progress: Progress) -> str | None:
    """Where texts of the run were traced, an index of the new store; its fingerprint. The old one goes with its store.

    The bytes are those of an index made without the documents, whichever way (see `TraceIndex.forget`)."""
    if not store.folder.with_name(INDEX.format(store.folder.name)).exists():
        return None
    return str(trace(folder, progress=progress)["index"]["fingerprint"])


def _remove_store(old: Path, folder: Path) -> bool:
    """Take the old text's store and its index away unless another run beside needs them."""
    for path in beside(folder).glob(f"*/{FACTS}"):
        if Path(_facts_or_none(path).get("corpus") or "").name == old.name:
            return False
    shutil.rmtree(old.with_name(INDEX.format(old.name)), ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return True


def _clear_left_stores(folder: Path) -> None:
    """What an earlier forgetting that was cut short had still to remove."""
    for certificate in certificates_of(folder):
        name = certificate.get("corpus", {}).get("store")
        if name and "store_removed" not in certificate:
            _remove_store(beside(folder) / "corpora" / Path(name).name, folder)
