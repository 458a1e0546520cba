"""A text → secrets planted in it, families trained on it, and what each gives away, with and without mitigations."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmbert.data.corpus import Corpus, build_corpus
from llmbert.models import find_family
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, command_line, disk_error, load, machine, run_status, write_json
from llmbert.tasks.anomalies import UNITS
from llmbert.trust.canaries import SPACES
from llmbert.trust.provenance import Given, TraceIndex, build_index, open_index
from llmbert.workbench.audit.measuring import canary_figures, copied_share, membership, verbatim
from llmbert.workbench.audit.mitigations import MITIGATIONS, cleaned
from llmbert.workbench.audit.page import dossier
from llmbert.workbench.audit.planting import Planted, plant, read_lines, write_texts
from llmbert.workbench.pages import write_page
from llmbert.workbench.settings import MOST_SEED, idle_settings, parse_duration, whole_number
from llmbert.workbench.sources import Paths, path_list
from llmbert.workbench.train import resume, train

REPEATS = (1, 4, 16, 64)
SAMPLES = 1000
EACH = 8  # canaries of every number of repeats
WORD_TOKENISERS = ("words", "jieba")  # to whom a card's number is a word that they do not know
ASKED = "asked.json"  # there once the text is read and planted
MADE = ("corpora", "planted", "runs")  # below an audit's folder
REFERENCE_ORDER = 3  # of the n-gram model that membership is compared with


def audit(
    data: Paths,
    out: str | os.PathLike[str],
    *,
    families: Sequence[str] = ("ngram", "lstm", "gpt"),
    mitigations: Sequence[str] = ("dedup", "scrub", "early-stop", "private"),
    valid: Paths | None = None,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    tokenizer: str = "bpe",
    canaries: str | None = None,
    repeats: Sequence[int] = REPEATS,
    each: int = EACH,
    budget: str | float = "1m",
    samples: int = SAMPLES,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    language: str = "en",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train each family on a text with secrets planted in it, once as it is and once with each mitigation, and measure
    what it gives away; writes `audit.json` and `report.html` into `out`, returns what is in the former.

    canaries: "card", "number" or "words" (see `trust.canaries.SPACES`; None: words where the tokeniser is of words);
    each: so many of them for every number of `repeats`; budget: time of each training; samples: texts that each run
    draws to see how much it copies; settings: of some families.
    What was trained already below `out` is taken as it is.

    Raises UsageError for what is asked wrongly, LLMBertError for text that cannot be used.
    """
    folder = Path(out)
    kind = canaries or ("words" if tokenizer in WORD_TOKENISERS else "card")
    _check(families, mitigations, kind, repeats, each, samples)
    parse_duration(budget)
    asked = {
        "data": [Path(path).name for path in path_list(data)],
        "valid": [Path(path).name for path in path_list(valid)] if valid is not None else None,
        "canaries": kind,
        "repeats": list(repeats),
        "each": each,
        "tokenizer": str(tokenizer),
        "seed": whole_number("seed", seed, 0, MOST_SEED),
        "language": language,
        "settings": json.loads(json.dumps(settings or {}, default=dict)),
        "budget": str(budget),
    }
    read: dict[str, Any] = {"lines": lines, "split_on": split_on, "fields": fields, "progress": progress}
    before = _asked_before(folder)
    with _kept_once_trained(folder):
        _refuse_another(folder, asked, before)
        stores = list(folder.glob("corpora/*"))
        corpus = build_corpus(
            path_list(data),
            folder / "corpora",
            kind="bytes",
            valid_paths=path_list(valid) if valid is not None else None,
            **read,
        )
        asked["text"] = corpus.fingerprint
        _refuse_another(folder, asked, before, None if corpus.folder in stores else corpus.folder)
        planted = plant(corpus, folder / "planted", kind, language, tuple(repeats), each, seed, progress, tokenizer)
        given = {"tokenizer": tokenizer, "seed": seed, "language": language, "progress": progress}
        reference = _reference(planted, folder, given)
        index = _index_of(planted, folder, progress)
        write_json(folder / ASKED, asked)
        rows = []
        for family in families:
            for name in _suiting(family, mitigations):
                values = _settings_of(family, name, mitigations, (settings or {}).get(family, {}))
                run = _trained(family, name, planted, folder, budget, values, given)
                rows.append(_measured(run, name, planted, reference, index, samples, progress))
        found = _told(asked, corpus, planted, samples) | {
            "copied_by_people": copied_share(planted.others, index),
            "runs": rows,
        }
        write_json(folder / "audit.json", found)
        write_page(folder, dossier(found, language), language)
    return found


def _suiting(family: str, mitigations: Sequence[str]) -> list[str]:
    return [name for name in ("none", *mitigations) if MITIGATIONS[name].suits(family)]


def _settings_of(family: str, name: str, mitigations: Sequence[str], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is trained by, without what makes a difference to other runs of the family alone (bounds of noise)."""
    each = {other: {**asked, **MITIGATIONS[other].settings(family)} for other in _suiting(family, mitigations)}
    idle = {other: idle_settings(family, values) for other, values in each.items()}
    others = [key for key in idle[name] if any(key not in found for found in idle.values())]
    return {key: value for key, value in each[name].items() if key not in others}


def _told(asked: Mapping[str, Any], corpus: Corpus, planted: Planted, samples: int) -> dict[str, Any]:
    """What was asked, of which text."""
    return {
        "command": command_line(),
        "machine": machine(),
        "asked": asked,
        "documents": corpus.train.documents,
        "fingerprint": corpus.fingerprint,
        "texts": min(len(planted.members), len(planted.others)),
        "controls": len(planted.canaries.controls),
        "candidates": len(planted.canaries.candidates),
        "samples": samples,
    }


def _asked_before(folder: Path) -> dict[str, Any] | None:
    """What an audit in the folder was asked; None for an empty one. Raises LLMBertError where it holds other things."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        return dict(json.loads((folder / ASKED).read_text("utf-8")))
    except (OSError, ValueError):
        raise LLMBertError(f"{folder} already exists and holds something else; choose another --out") from None


def _refuse_another(
    folder: Path, asked: Mapping[str, Any], before: Mapping[str, Any] | None, new_store: Path | None = None
) -> None:
    """Only the same audit of the same text goes on in a folder. new_store: of a text that was read just now, which
    goes again where it is refused."""
    if before and (differing := [key for key in asked if before.get(key) != asked[key]]):
        if new_store is not None:
            shutil.rmtree(new_store, ignore_errors=True)
        raise LLMBertError(f"{folder} holds an audit with another {differing[0]}; choose another --out")


@contextmanager
def _kept_once_trained(folder: Path) -> Iterator[None]:
    """Takes away again what was made in a new or an empty folder, and a new one itself, where nothing came of it that
    is worth keeping."""
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if not (folder / ASKED).exists():  # then it was new or empty: see `_asked_before`
            for made in MADE if existed else ("",):
                shutil.rmtree(folder / made, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_error(folder, error) from error
        raise


def _check(
    families: Sequence[str], mitigations: Sequence[str], kind: str, repeats: Sequence[int], each: int, samples: int
) -> None:
    if not families:
        raise UsageError("name at least one family to audit")
    for family in families:
        known = find_family(family)
        if known.likelihood not in UNITS or known.mixes:
            raise UsageError(f"a {family} does not score a text alone; audit other families")
    for name in mitigations:
        if name not in MITIGATIONS or name == "none":
            known_ones = ", ".join(each for each in MITIGATIONS if each != "none")
            raise UsageError(f"there is no mitigation {name!r}; choose of {known_ones}")
    if kind not in SPACES:
        raise UsageError(f"there are no canaries {kind!r}; choose one of {', '.join(SPACES)}")
    if samples < 1:
        raise UsageError(f"samples is {samples}; draw 1 or more")
    if each < 1 or not repeats or min(repeats) < 1:
        raise UsageError("plant at least one canary, once")


def _reference(planted: Planted, folder: Path, given: Mapping[str, Any]) -> Run | None:
    """An n-gram model of held-out text that nobody is asked about, to compare oddness with."""
    if len(planted.reference) < 20:
        return None
    path, out = folder / "planted" / "reference.jsonl", folder / "runs" / "reference"
    if run_status(out) == "done":
        return load(out)
    write_texts(path, planted.reference)
    return train("ngram", path, out, valid=planted.valid, settings={"order": REFERENCE_ORDER}, **given)


def _index_of(planted: Planted, folder: Path, progress: Progress) -> TraceIndex:
    """Where texts stand in the training text, with all that was planted."""
    path = folder / "planted" / "index"
    if path.exists():
        return open_index(path)
    texts = enumerate(read_lines(planted.train), 1)
    return build_index((Given(f"{number}", [text.encode()]) for number, text in texts), path, progress=progress)


def _trained(
    family: str,
    name: str,
    planted: Planted,
    folder: Path,
    budget: str | float,
    settings: dict[str, Any],
    given: Mapping[str, Any],
) -> Run:
    out = folder / "runs" / (family if name == "none" else f"{family}-{name}")
    if run_status(out) == "done":
        return load(out)
    if run_status(out) is not None:
        return resume(out, progress=given["progress"])
    path = cleaned(planted.train, name)
    timed: dict[str, Any] = {} if find_family(family).counts else {"budget": budget}
    known = {**given, "tokenizer": MITIGATIONS[name].tokenizer or given["tokenizer"]}
    return train(family, path, out, valid=planted.valid, settings=settings, **timed, **known)


def _measured(
    run: Run,
    name: str,
    planted: Planted,
    reference: Run | None,
    index: TraceIndex,
    samples: int,
    progress: Progress,
) -> dict[str, Any]:
    seed = int(run.facts["seed"])
    figures, curves = membership(run, planted, reference, seed, progress)
    scores = run.facts.get("scores") or {}
    kept = ("bits_per_byte", "nats_per_token", "perplexity")
    return {
        "run": run.folder.name,
        "family": run.family,
        "mitigation": name,
        "likelihood": run.model.likelihood,
        "tokeniser": run.tokeniser.fingerprint,
        "quality": {key: scores.get(key) for key in kept},
        "interval": (scores.get("interval") or {}).get("bits_per_byte"),
        "train_seconds": run.facts.get("train_seconds"),
        "privacy": run.facts.get("privacy"),
        "canaries": canary_figures(run, planted.canaries, progress, seed),
        "verbatim": verbatim(run, index, samples, seed, progress),
        "membership": figures,
        "roc": curves,
    }
