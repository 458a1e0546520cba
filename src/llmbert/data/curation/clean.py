"""Documents → those worth learning from, repaired and without boilerplate; of each change and removal the reason."""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llmbert.data.curation.boilerplate import LineCounts, lines_of, without_lines
from llmbert.data.curation.found import Found
from llmbert.data.curation.languages import language_of
from llmbert.data.curation.output import Outputs
from llmbert.data.curation.quality import LIMITS as QUALITY
from llmbert.data.curation.quality import RULES as QUALITY_RULES
from llmbert.data.curation.quality import first_fault
from llmbert.data.curation.records import Record, Spool
from llmbert.data.curation.repair import remove_controls, repair_encoding
from llmbert.data.curation.shingles import normalise
from llmbert.protocols import Progress, silent

ENCODING, CONTROLS, BOILERPLATE, LANGUAGE, EMPTY = "encoding", "controls", "boilerplate", "language", "empty"
RULES = (ENCODING, CONTROLS, BOILERPLATE, *QUALITY_RULES)
LIMITS: dict[str, float] = {
    "boilerplate_documents": 10,  # a line that stands in so many documents, copies counted once,
    "boilerplate_share": 0.001,  # and in this share of all,
    "boilerplate_bytes": 16,  # and is so long (16 letters, 6 characters of Chinese), is boilerplate
    **QUALITY,
}
_REPAIRS = {ENCODING: repair_encoding, CONTROLS: remove_controls}
_COPY = 1 << 7  # beside the bits of _REPAIRS: a document whose whole text stood before
_EVERY = 1000


def clean_documents(
    records: Iterable[Record],
    outputs: Outputs | None,
    *,
    rules: Collection[str] = RULES,
    limits: Mapping[str, float] = LIMITS,
    languages: Collection[str] = (),
    progress: Progress = silent,
) -> Found:
    """Write the documents that are kept, repaired, and of each change and removal the reason; None: only count.

    In this order: `repair_encoding`, `remove_controls`, boilerplate lines, another language than `languages` (none:
    any; a text too short to tell stays), and `first_fault`. The lines of a document that stands there many times are
    counted once: they are its text and no boilerplate. The texts lie on disk meanwhile; in memory 9 bytes a document
    and about 90 more where it has several lines, 32 MB, and the lines that are boilerplate.
    """
    found = Found()
    folder = outputs.folder if outputs else Path(tempfile.gettempdir())
    with closing(Spool(folder)) as spool:
        changes = array("B")
        counts, seen = LineCounts(), set[int]()
        for record in records:
            found.bytes_read += len(record.text.encode())
            record, changed = _repaired(record, rules, found)
            spool.add(record)
            lines = lines_of(record.text, int(limits["boilerplate_bytes"])) if BOILERPLATE in rules else []
            if lines and _is_copy(record.text, seen):
                changed |= _COPY
            elif lines:
                counts.add(lines)
            changes.append(changed)
        found.documents = len(spool)
        least = max(int(limits["boilerplate_documents"]), round(limits["boilerplate_share"] * len(spool)), 2)
        frequent = (
            _frequent(spool, changes, counts, least, limits, progress) if BOILERPLATE in rules else Counter[str]()
        )
        for number, record in enumerate(spool):
            if not number % _EVERY:
                progress("cleaning", number, len(spool))
            _judge(record, changes[number], frequent, least, outputs, found, rules, limits, languages)
        progress("cleaning", len(spool), len(spool))
    return found


def _repaired(record: Record, rules: Collection[str], found: Found) -> tuple[Record, int]:
    """The record repaired, and which repairs changed it, as bits in the order of _REPAIRS."""
    changed = 0
    for bit, (name, repair) in enumerate(_REPAIRS.items()):
        if name in rules and (text := repair(record.text)) != record.text:
            changed |= 1 << bit
            before, after = _first_difference(record.text, text)
            found.show(name, id=record.id, text=before, twin_text=after)
            record = record._replace(text=text)
    return record, changed


def _first_difference(before: str, after: str) -> tuple[str, str]:
    """Both texts from the line on in which they begin to differ."""
    pairs = zip(before, after, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))
    start = before.rfind("\n", 0, at) + 1
    return before[start:], after[start:]


def _is_copy(text: str, seen: set[int]) -> bool:
    """Whether an equal text, as deduplication has it, was seen before; it is seen now."""
    digest = int.from_bytes(blake2b(normalise(text).encode(), digest_size=8).digest())
    before = len(seen)
    seen.add(digest)
    return len(seen) == before


def _frequent(
    spool: Spool,
    changes: array[int],
    counts: LineCounts,
    least: int,
    limits: Mapping[str, float],
    progress: Progress,
) -> Counter[str]:
    """The lines that may be boilerplate, with the exact number of documents they stand in."""
    exact: Counter[str] = Counter()
    for number, record in enumerate(spool):
        if not number % _EVERY:
            progress("counting lines", number, len(spool))
        if not changes[number] & _COPY:
            exact.update(counts.frequent(lines_of(record.text, int(limits["boilerplate_bytes"])), least))
    return exact


def _judge(
    record: Record,
    changed: int,
    frequent: Counter[str],
    least: int,
    outputs: Outputs | None,
    found: Found,
    rules: Collection[str],
    limits: Mapping[str, float],
    languages: Collection[str],
) -> None:
    """One document: kept, perhaps changed, or left out."""
    notes: list[tuple[str, dict[str, Any]]] = [(name, {}) for bit, name in enumerate(_REPAIRS) if changed >> bit & 1]
    text, gone = record.text, list[str]()
    if frequent and lines_of(record.text, int(limits["boilerplate_bytes"])):
        text, gone = without_lines(record.text, frequent, least)
    if gone:
        notes.append((BOILERPLATE, {"lines": gone}))
        found.show(BOILERPLATE, id=record.id, text="\n".join(gone), lines=len(gone))
        record = record._replace(text=text)
    reason = _reason(record.text, rules, limits, languages)
    for name, details in notes:
        found.changed[name] += 1
        if outputs:
            outputs.note(record, "changed", name, **details)
    if reason is None:
        found.kept += 1
        found.bytes_kept += len(record.text.encode())
        if outputs:
            outputs.keep(record)
        return
    name, details = reason
    found.removed[name] += 1
    found.show(name, id=record.id, text=record.text, **details)
    if outputs:
        outputs.note(record, "removed", name, **details)


def _reason(
    text: str, rules: Collection[str], limits: Mapping[str, float], languages: Collection[str]
) -> tuple[str, dict[str, Any]] | None:
    """Why a document is left out, with what was found; None where it is kept."""
    if not text.strip():
        return EMPTY, {}
    if languages and (code := language_of(text)) is not None and code not in languages:
        return LANGUAGE, {"value": code}
    fault = first_fault(text, dict.fromkeys(rules, True), limits, english=not languages or "en" in languages)
    return None if fault is None else (fault.name, {"value": round(fault.value, 4), "limit": fault.limit})
