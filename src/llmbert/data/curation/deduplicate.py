"""Documents → those that say something new: without exact and near duplicates, and without repeated stretches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.curation.found import Found
from llmbert.data.curation.near import Signatures, find_twins
from llmbert.data.curation.output import Outputs
from llmbert.data.curation.records import Record, Spool
from llmbert.data.curation.shingles import SHINGLE, normalise
from llmbert.data.curation.spans import LEAST, Cut, cut_out, in_blocks, repeated_spans
from llmbert.protocols import Progress, silent

EXACT, NEAR, SPANS = "exact", "near", "spans"
_BATCH_CHARACTERS, _BATCH = 1 << 20, 4096
_DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])


@dataclass
class _Fate:
    """Of each document the number of its kept twin, -1 where it is kept, and how similar the two are."""

    twins: NDArray[np.int32]
    similar: NDArray[np.float32]
    contained: NDArray[np.float32]


def deduplicate(
    records: Iterable[Record],
    outputs: Outputs,
    *,
    threshold: float = 0.8,
    near: bool = True,
    shingle: int = SHINGLE,
    spans: int | None = None,
    progress: Progress = silent,
) -> Found:
    """Write the documents that are kept, and the others with their reason and twin, in their order.

    Of equal documents (as `normalise` has them) the first is kept; of nearly equal ones as `find_twins` has it. spans:
    of what is left, later occurrences of so many bytes or more are cut (`repeated_spans`, in blocks of BLOCK bytes);
    None: it is only measured how much that would be in the first block; 0: not even that.
    The texts lie on disk meanwhile, beside the outputs. In memory: about 130 bytes a document, 170 more where it shares
    a bucket of signatures, and 20 times a block of text while spans are looked for.
    """
    found = Found()
    with closing(Spool(outputs.folder)) as spool:
        fate = _judge(records, spool, outputs, found, threshold, near, shingle, progress)
        kept = np.flatnonzero(fate.twins < 0).astype(np.int32)
        cuts = _no_cuts(kept) if not spans else _cuts(spool, kept, spans, progress)
        _write(spool, fate, cuts, outputs, found, progress)
        if spans is None:
            block = next(in_blocks(_bytes(spool, kept.tolist())))
            progress("measuring repeated spans", 0, 1)
            repeats = repeated_spans([text for _, _, text in block], LEAST)
            found.repeated = (
                sum(cut.end - cut.start for cuts_ in repeats for cut in cuts_),
                sum(len(text) for _, _, text in block),
            )
    return found


def _judge(
    records: Iterable[Record],
    spool: Spool,
    outputs: Outputs,
    found: Found,
    threshold: float,
    near: bool,
    shingle: int,
    progress: Progress,
) -> _Fate:
    """Read everything, and find each document's twin."""
    signatures = Signatures(threshold, outputs.folder, shingle) if near else None
    digests = [np.zeros(0, _DIGEST)]
    try:
        for some in _batches(records):
            texts = []
            for record in some:
                spool.add(record)
                found.bytes_read += len(record.text.encode())
                texts.append(normalise(record.text))
            hashed = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
            digests.append(np.frombuffer(hashed, _DIGEST))
            if signatures:
                signatures.add(texts)
        found.documents = len(spool)
        fate = _exact(np.concatenate(digests))
        digests.clear()
        if signatures:
            _add_near(fate, signatures, progress)
    finally:
        if signatures:
            signatures.close()
    return fate


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    some: list[Record] = []
    room = _BATCH_CHARACTERS
    for record in records:
        some.append(record)
        room -= len(record.text)
        if room <= 0 or len(some) == _BATCH:
            yield some
            some, room = [], _BATCH_CHARACTERS
    if some:
        yield some


def _exact(digests: NDArray[Any]) -> _Fate:
    order = np.lexsort((digests["low"], digests["high"]))  # stable: the first of equal ones comes first
    ordered = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    twins = np.full(len(digests), -1, np.int32)
    twins[order[~new]] = first[~new]
    return _Fate(twins, np.ones(len(twins), np.float32), np.ones(len(twins), np.float32))


def _add_near(fate: _Fate, signatures: Signatures, progress: Progress) -> None:
    """Near twins too; a copy of a document that is left out shares its fate."""
    copies = np.flatnonzero(fate.twins >= 0)
    originals = fate.twins[copies]
    for number, twin in find_twins(signatures, fate.twins >= 0, progress):
        fate.twins[number], fate.similar[number], fate.contained[number] = twin
    lost = fate.twins[originals] >= 0
    copies, originals = copies[lost], originals[lost]
    for values in (fate.twins, fate.similar, fate.contained):
        values[copies] = values[originals]


def _bytes(spool: Spool, numbers: Iterable[int]) -> Iterator[bytes]:
    return (spool[number].text.encode() for number in numbers)


def _no_cuts(kept: NDArray[np.int32]) -> Iterator[tuple[int, list[Cut]]]:
    return ((number, []) for number in kept.tolist())


def _cuts(spool: Spool, kept: NDArray[np.int32], least: int, progress: Progress) -> Iterator[tuple[int, list[Cut]]]:
    """Of each kept document (its number) what to cut out of its UTF-8, with the numbers of the twins."""
    number, cuts = int(kept[0]), list[Cut]()
    for block in in_blocks(_bytes(spool, kept.tolist())):
        progress("looking for repeated spans", block[0][0], len(kept))
        for (at, offset, _), some in zip(block, repeated_spans([each for *_, each in block], least), strict=True):
            if kept[at] != number:
                yield number, cuts
                number, cuts = int(kept[at]), []
            cuts += [Cut(c.start + offset, c.end + offset, int(kept[block[c.twin][0]])) for c in some]
    yield number, cuts


def _write(
    spool: Spool,
    fate: _Fate,
    cuts: Iterator[tuple[int, list[Cut]]],
    outputs: Outputs,
    found: Found,
    progress: Progress,
) -> None:
    for number, record in enumerate(spool):
        if not number % _BATCH:
            progress("writing", number, len(spool))
        twin = int(fate.twins[number])
        if twin < 0:
            expected, some = next(cuts)
            assert expected == number
            _keep(record, some, spool, outputs, found)
            continue
        other = spool[twin]
        alike = float(fate.similar[number])
        details: dict[str, Any] = {"twin": other.id}
        reason = EXACT if normalise(record.text) == normalise(other.text) else NEAR
        if reason == NEAR:
            details |= {"jaccard": round(alike, 4), "containment": round(float(fate.contained[number]), 4)}
            found.similarities[int(100 * alike)] += 1
        outputs.note(record, "removed", reason, **details)
        found.removed[reason] += 1
        found.show(reason, text=record.text, twin_text=other.text, id=record.id, **details)
    progress("writing", len(spool), len(spool))


def _keep(record: Record, cuts: list[Cut], spool: Spool, outputs: Outputs, found: Found) -> None:
    if cuts:
        text = record.text.encode()
        shorter = cut_out(text, cuts).decode()
        places = [(len(text[: cut.start].decode()), len(text[: cut.end].decode())) for cut in cuts]
        spans = [[*place, spool[cut.twin].id] for place, cut in zip(places, cuts, strict=True)]
        found.cut_bytes += sum(cut.end - cut.start for cut in cuts)
        start, end = places[0]
        found.show(SPANS, text=record.text[start:end], id=record.id, twin=spans[0][2], spans=len(spans))
        if not shorter.strip():
            outputs.note(record, "removed", SPANS, cut=spans)
            found.removed[SPANS] += 1
            return
        outputs.note(record, "changed", SPANS, cut=spans)
        found.changed[SPANS] += 1
        record = record._replace(text=shorter)
    outputs.keep(record)
    found.kept += 1
    found.bytes_kept += len(record.text.encode())
