"""Which documents are nearly the same: candidates by MinHash and LSH, each verified by the true Jaccard similarity.

Signatures are MinHashes (Broder 1997) of a document's shingles by rensa; documents that agree in all rows of a band
are candidates (Indyk and Motwani 1998; Leskovec et al., "Mining of Massive Datasets", section 3.4). Of candidates the
Jaccard similarity |A ∩ B| / |A ∪ B| of the shingle sets is computed, so the threshold means what it says.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmbert.data.curation.shingles import SHINGLE, shingle_sets
from llmbert.data.hashes import Hashes, mix
from llmbert.protocols import LLMBertError, Progress, UsageError, silent

SIGNATURE = 128  # MinHashes of a document
MISSED = 0.005
"""The probability at most that two documents exactly as similar as the threshold become no candidates."""
HELD = 1 << 22  # shingles of looked-up documents that are held in memory
_LEAST = 0.1  # threshold: below it the bands of one row miss too much
_CHUNK = 4096  # documents whose buckets are looked at together
_SEED = 42


class Twin(NamedTuple):
    """A kept document that another is nearly the same as: its number, the Jaccard similarity, and the containment, the
    share of the other's shingles that stand in it too (Broder 1997)."""

    number: int
    jaccard: float
    containment: float


def choose_bands(threshold: float, hashes: int = SIGNATURE) -> tuple[int, int]:
    """Bands and rows: as many rows a band as leave at most MISSED at the threshold, (1 - t^rows)^bands.

    Raises UsageError for a threshold outside 0.1 to 1.
    """
    if not _LEAST <= threshold <= 1:
        raise UsageError(f"threshold is a Jaccard similarity between {_LEAST} and 1, not {threshold}")
    fitting = [rows for rows in range(1, hashes + 1) if (1 - threshold**rows) ** (hashes // rows) <= MISSED]
    rows = max(fitting)
    return hashes // rows, rows


class Signatures:
    """The signatures of documents, added in order: in memory 4 bytes a band for each document (84 at a threshold of
    0.8), and 8 for where its shingles lie on disk, in a file without a name in `folder`."""

    def __init__(self, threshold: float, folder: Path, size: int = SHINGLE) -> None:
        try:
            from rensa import RMinHash
        except ImportError as error:
            raise LLMBertError(
                "near duplicates need the package rensa, which is not installed; pip install 'llmbert[curate]', "
                "or say --no-near"
            ) from error
        self._digest = RMinHash.digest_matrix_from_flat_token_hashes
        self.threshold, self.size = threshold, size
        self.bands, self.rows = choose_bands(threshold)
        self.keys: list[NDArray[np.uint32]] = []  # (documents of a call, bands)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._starts = [np.zeros(1, np.int64)]
        self._held: OrderedDict[int, Hashes] = OrderedDict()
        self._room = HELD

    def add(self, texts: Sequence[str]) -> None:
        """Take in some texts, normalised as their shingles shall be."""
        hashes, starts = shingle_sets(texts, self.size)
        self._file.write(hashes.tobytes())
        self._starts.append(starts[1:] + self._starts[-1][-1])
        digests = self._digest(hashes, starts.astype(np.uint64), SIGNATURE, _SEED).to_rows()
        rows = np.array(digests, np.uint64).reshape(len(texts), SIGNATURE)[:, : self.bands * self.rows]
        keys = np.zeros((len(texts), self.bands), np.uint64)
        for row in rows.reshape(len(texts), self.bands, self.rows).transpose(2, 0, 1):
            keys = mix(keys + row + np.uint64(1))
        self.keys.append((keys >> np.uint64(32)).astype(np.uint32))

    def seal(self) -> NDArray[np.int64]:
        """After the last document: (documents + 1,) where each one's shingles begin."""
        self._starts = [np.concatenate(self._starts)]
        return self._starts[0]

    def shingles(self, number: int) -> Hashes:
        """A document's shingles, in rising order."""
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        start, end = self._starts[0][number : number + 2].tolist()
        self._file.seek(8 * start)
        found = np.frombuffer(self._file.read(8 * (end - start)), np.uint64)
        self._held[number] = found
        self._room -= len(found)
        while self._room < 0 and len(self._held) > 1:
            self._room += len(self._held.popitem(last=False)[1])
        return found

    def close(self) -> None:
        self._file.close()


def find_twins(
    signatures: Signatures, skipped: NDArray[np.bool_], progress: Progress = silent
) -> Iterator[tuple[int, Twin]]:
    """Each document (its number) that is nearly the same as an earlier one that is kept, with the first such.

    skipped: (documents,) true for those that are left out already. In order, a document is kept unless a kept one
    before it has at least the threshold's similarity; so none is left out for the sake of one that is itself left
    out, and of what is kept no two candidates are that similar. Besides the bands' keys (which it consumes) it takes
    8 bytes a band for each document that shares a bucket. Documents without a word have no twin.
    """
    starts = signatures.seal()
    sizes = np.diff(starts)
    buckets = _Buckets(signatures.keys, ~skipped & (sizes > 0), progress)
    for first, places in buckets.chunks():
        progress("comparing", first, len(sizes))
        for row in np.flatnonzero((places >= 0).any(1)).tolist():
            own = places[row].tolist()
            twin = _twin(signatures, sizes, first + row, buckets.kept(own))
            if twin is None:
                buckets.keep(own, first + row)
            else:
                yield first + row, twin


class _Buckets:
    """Who lies in which bucket, band by band, and of each bucket those that are kept so far."""

    def __init__(self, keys: list[NDArray[np.uint32]], active: NDArray[np.bool_], progress: Progress) -> None:
        self._places = [part.view(np.int32) for part in keys]
        bands = keys[0].shape[1] if keys else 0
        self._slots, self._filled = [], []
        for band in range(bands):
            progress("sorting signatures", band, bands)
            places, size = _shared(np.concatenate([part[:, band] for part in keys]), active)
            at = 0
            for part in self._places:
                part[:, band] = places[at : at + len(part)]
                at += len(part)
            self._slots.append(np.zeros(size, np.int32))
            self._filled.append(np.zeros(size, np.int32))

    def chunks(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """The number of a first document, and of it and those after it the bucket in each band; -1: alone in it."""
        at = 0
        for part in self._places:
            yield at, part
            at += len(part)

    def kept(self, places: list[int]) -> list[int]:
        """The kept documents in some document's buckets, in order."""
        found: set[int] = set()
        for slots, filled, place in zip(self._slots, self._filled, places, strict=True):
            if place >= 0 and (count := int(filled[place])):
                found.update(slots[place : place + count].tolist())
        return sorted(found)

    def keep(self, places: list[int], number: int) -> None:
        for slots, filled, place in zip(self._slots, self._filled, places, strict=True):
            if place >= 0:
                slots[place + filled[place]] = number
                filled[place] += 1


def _shared(keys: NDArray[np.uint32], active: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """For each document where its bucket's room begins, -1 where no other active one is in it; and the room in all."""
    numbers = np.flatnonzero(active)
    order = numbers[np.argsort(keys[numbers], kind="stable")]
    ordered = keys[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    bucket = np.cumsum(new) - 1
    together = np.bincount(bucket)[bucket] > 1 if len(order) else np.zeros(0, bool)
    members, new = order[together], new[together]
    begins = np.flatnonzero(new)
    places = np.full(len(keys), -1, np.int32)
    places[members] = begins[np.cumsum(new) - 1]
    return places, len(members)


def _twin(signatures: Signatures, sizes: NDArray[Any], number: int, candidates: list[int]) -> Twin | None:
    """The first candidate that is similar enough."""
    own, least = int(sizes[number]), signatures.threshold
    for other in candidates:
        size = int(sizes[other])
        if min(own, size) < least * max(own, size):
            continue  # even one set inside the other would not do
        both = shared_count(signatures.shingles(number), signatures.shingles(other))
        similarity = both / (own + size - both)
        if similarity >= least:
            return Twin(other, similarity, both / own)
    return None


def shared_count(first: Hashes, second: Hashes) -> int:
    """How many elements two sets have in common, each given in rising order."""
    few, many = sorted((first, second), key=len)
    if not len(few):
        return 0
    at = np.minimum(np.searchsorted(many, few), len(many) - 1)
    return int(np.count_nonzero(many[at] == few))
