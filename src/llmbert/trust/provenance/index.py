"""Documents → an exact index of their text on disk, in blocks that depend on nothing but the documents."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.corpus import passing_folder, sweep_passing
from llmbert.data.shards import refusing_full_disk
from llmbert.data.suffixes import LARGEST, count_characters
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.trust.provenance.block import ENDINGS, ROW, Block, Row, write_block
from llmbert.trust.provenance.pieces import Given, cut_document, hash_piece, partition

FORMAT = 1
BLOCK_BYTES = 32 << 20
"""Text that is sorted at once; building takes about six times as much memory."""
OVERLAP = 1 << 16
LEAST_BLOCK = 32
HEAD = "index.json"
_TOLD = 1 << 20  # bytes between two words of progress


class TraceIndex:
    """An opened index. blocks: in the order of their pieces' hashes; facts: what `index.json` holds.

    overlap: a match longer than this is followed from piece to piece.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], blocks: list[Block]) -> None:
        self.folder, self.facts, self.blocks = folder, facts, blocks
        self.overlap: int = facts["overlap"]
        self._chains: dict[str, list[tuple[int, int, int]]] | None = None

    @property
    def documents(self) -> int:
        return int(self.facts["documents"])

    @property
    def exact(self) -> bool:
        """Whether all of it is text as it stood in its files."""
        return bool(self.facts["exact"] == self.documents)

    def document_ids(self) -> Iterator[str]:
        """Each document's id once, in the order of the index."""
        for block in self.blocks:
            for piece in np.flatnonzero(block.rows["byte"] == 0):
                yield block.ids[int(piece)]

    def bytes_after(self, block: int, place: int) -> Iterator[bytes]:
        """What stands in the document from a place of a block on, piece after piece."""
        here = self.blocks[block]
        piece = int(here.piece_at(place))
        row = here.rows[piece]
        begin = int(row["byte"]) + place - int(row["start"])
        if row["owned"] == row["size"]:
            yield here.text[place : int(row["start"] + row["size"])]
            return
        for byte, number, at in self._chain(here.ids[piece]):
            other = self.blocks[number]
            start, size = int(other.rows["start"][at]), int(other.rows["size"][at])
            if byte <= begin < byte + size:
                yield other.text[start + begin - byte : start + size]
                begin = byte + size

    def _chain(self, identity: str) -> list[tuple[int, int, int]]:
        """The pieces of a document that was cut: (its byte there, block, piece), in order."""
        if self._chains is None:
            self._chains = {}
            for number, block in enumerate(self.blocks):
                for piece in np.flatnonzero((block.rows["byte"] > 0) | (block.rows["owned"] < block.rows["size"])):
                    entry = (int(block.rows["byte"][piece]), number, int(piece))
                    self._chains.setdefault(block.ids[int(piece)], []).append(entry)
            for pieces in self._chains.values():
                pieces.sort()
        return self._chains[identity]

    def forget(self, document_ids: Iterable[str], progress: Progress = silent) -> TraceIndex:
        """Take documents out, and return the index without them; this one is not to be used any more.

        Only blocks that held one of them, and those that now fit together, are written anew; the folder then is, byte
        for byte, what `build_index` gives for the other documents. A process that dies on the way leaves the index as
        it was or as it shall be; files no longer named go now, or the next time.
        Raises LLMBertError for an id that is not there.
        """
        unwanted = set(document_ids)
        with refusing_full_disk(self.folder):
            _sweep(self.folder, self.facts)
            pieces, kept = _survivors(self.blocks, unwanted)
            hashes = np.concatenate([block.rows["hash"] for block in self.blocks] or [np.zeros(0, np.uint64)])[kept]
            sizes = np.concatenate([block.rows["size"] for block in self.blocks] or [np.zeros(0, np.int64)])[kept] + 1
            entries = []
            for begin, end in partition(hashes, sizes, self.facts["block_bytes"]):
                some = pieces[kept][begin:end]
                first = self.blocks[int(some[0, 0])]
                if (some[:, 0] == some[0, 0]).all() and len(some) == first.entry["pieces"]:
                    entries.append(first.entry)
                    continue
                rows = [self.blocks[int(block)].row(int(piece)) for block, piece in some]
                entries.append(write_block(self.folder, rows))
                progress("indexing anew", end, len(hashes))
            counts = _counts(self.blocks, kept)
            facts = _write_head(self.folder, self.facts["origin"], self.facts["block_bytes"], counts, entries)
            _sweep(self.folder, facts)
        return open_index(self.folder, verify=False)


def _survivors(blocks: Sequence[Block], unwanted: set[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Every piece as (block, number), in order, and which of them stay."""
    places, kept, met = [], [], set()
    for number, block in enumerate(blocks):
        names = [block.ids[piece] for piece in range(len(block.rows))]
        met.update(unwanted.intersection(names))
        kept += [name not in unwanted for name in names]
        places += [(number, piece) for piece in range(len(names))]
    if missing := sorted(unwanted - met):
        raise LLMBertError(f"the index holds no document {missing[0]!r}; give ids as a trace names them")
    return np.array(places, np.int64).reshape(-1, 2), np.array(kept, bool)


def _counts(blocks: Sequence[Block], kept: NDArray[np.bool_]) -> dict[str, int]:
    rows: Any = np.concatenate([block.rows for block in blocks] or [np.zeros(0, ROW)])[kept]
    first = rows["byte"] == 0
    return {
        "documents": int(first.sum()),
        "exact": int(rows["exact"][first].sum()),
        "bytes": int(rows["owned"].sum()),
    }


def _sweep(folder: Path, facts: dict[str, Any]) -> None:
    """Remove files that no block of the index is made of: what an interrupted change has left."""
    named = {f"{entry['name']}.{ending}" for entry in facts["blocks"] for ending in ENDINGS} | {HEAD}
    for file in folder.iterdir():
        if file.name not in named:
            file.unlink()


# ---- building ------------------------------------------------------------------------------------------------------


class _Spool:
    """All pieces in one passing file, and in memory where each begins and what is known of it: 72 bytes a piece."""

    def __init__(self, folder: Path) -> None:
        self.path, self.names = folder / "spool", folder / "names"
        self._text, self._ids = self.path.open("wb+"), self.names.open("wb+")
        self.hashes = array("Q")
        self._numbers = {key: array("q") for key in ("place", "size", "owned", "byte", "character", "exact", "id")}
        self._position = self._id_position = 0

    def add(self, document: Given, most: int, overlap: int) -> int:
        """Take a document; returns its bytes."""
        name = document.id.encode("utf-8", "surrogateescape")
        character = total = 0
        for piece in cut_document(document, most, overlap):
            self.hashes.append(hash_piece(document.id, piece.byte))
            self._text.write(piece.text)
            numbers = (self._position, len(piece.text), piece.owned, piece.byte, character, document.exact)
            for key, number in zip(self._numbers, (*numbers, self._id_position), strict=True):
                self._numbers[key].append(number)
            self._position += len(piece.text)
            character += count_characters(np.frombuffer(piece.text, np.uint8, piece.owned))
            total += piece.owned
        self._ids.write(len(name).to_bytes(4, "little") + name)
        self._id_position += 4 + len(name)
        return total

    def numbers(self, key: str) -> NDArray[np.int64]:
        return np.frombuffer(self._numbers[key], np.int64)

    def rows(self, order: NDArray[np.int64]) -> list[Row]:
        """Some pieces, in the order given."""
        columns = {key: self.numbers(key)[order].tolist() for key in self._numbers}
        names = [self._name(place) for place in columns["id"]]
        texts = [self._read(*place) for place in zip(columns["place"], columns["size"], strict=True)]
        exact = map(bool, columns["exact"])
        numbers = (columns[key] for key in ("byte", "character", "owned"))
        hashes = np.frombuffer(self.hashes, np.uint64)[order].tolist()
        return [Row(*row) for row in zip(hashes, names, texts, *numbers, exact, strict=True)]

    def _read(self, place: int, size: int) -> bytes:
        return os.pread(self._text.fileno(), size, place)

    def _name(self, place: int) -> str:
        begin = place + 4
        size = int.from_bytes(os.pread(self._ids.fileno(), 4, place), "little")
        return os.pread(self._ids.fileno(), size, begin).decode("utf-8", "surrogateescape")

    def flush(self) -> None:
        """Let all that was taken be read."""
        self._text.flush()
        self._ids.flush()

    def close(self) -> None:
        self._text.close()
        self._ids.close()

    def ordered(self) -> NDArray[np.int64]:
        """The pieces in the order of their hashes; a document that came twice as it was is kept once."""
        hashes = np.frombuffer(self.hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        if len(order) < 2 or not (same := np.flatnonzero(np.diff(hashes[order]) == 0)).size:
            return order
        dropped = []
        for at in same.tolist():
            first, second = self.rows(order[at : at + 2])
            if first[:-1] != second[:-1]:
                raise LLMBertError(f"two documents are called {second.id}; give each a name of its own")
            dropped.append(at + 1)
        return np.delete(order, dropped)


def build_index(
    documents: Iterable[Given],
    folder: Path,
    *,
    origin: str = "",
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = silent,
) -> TraceIndex:
    """Index documents into a new `folder`, whole or not at all; the same documents in any order give the same bytes.

    origin: what the text is of (a corpus store's fingerprint), which `open_index` asks for again; block_bytes: text
    that is sorted at once, which memory goes with. The text goes through a passing file once. Raises UsageError for a
    block size out of range, LLMBertError for two documents of one id, a full disk, or a folder that is there already.
    """
    folder = Path(folder)
    if not LEAST_BLOCK <= block_bytes <= LARGEST:
        raise UsageError(f"block_bytes is {block_bytes}; give {LEAST_BLOCK} to {LARGEST}")
    if folder.exists():
        raise LLMBertError(f"{folder} already exists; delete it, or choose another folder for the index")
    with refusing_full_disk(folder.parent), ExitStack() as stack:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_passing(folder.parent)
        spool = _Spool(passing_folder(folder.parent, "spool", stack))
        stack.callback(spool.close)
        made = passing_folder(folder.parent, "index", stack)
        done = told = 0
        for document in documents:
            done += spool.add(document, block_bytes - 1, _overlap(block_bytes))
            if done - told >= _TOLD:
                progress("collecting text", done, None)
                told = done
        entries, counts = _write_blocks(spool, made, block_bytes, progress)
        _write_head(made, origin, block_bytes, counts, entries)
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / HEAD).is_file():  # another builder that was faster has made the same
                raise
    return open_index(folder, verify=False)


def _overlap(block_bytes: int) -> int:
    return min(OVERLAP, block_bytes // 4)


def _write_blocks(
    spool: _Spool, folder: Path, block_bytes: int, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    spool.flush()
    order = spool.ordered()
    hashes, sizes = np.frombuffer(spool.hashes, np.uint64)[order], spool.numbers("size")[order] + 1
    entries, done, total = [], 0, int(sizes.sum())
    for begin, end in partition(hashes, sizes, block_bytes):
        entries.append(write_block(folder, spool.rows(order[begin:end])))
        done += int(sizes[begin:end].sum())
        progress("sorting suffixes", done, total)
    first = spool.numbers("byte")[order] == 0
    counts = {
        "documents": int(first.sum()),
        "exact": int(spool.numbers("exact")[order][first].sum()),
        "bytes": int(spool.numbers("owned")[order].sum()),
    }
    return entries, counts


def _write_head(
    folder: Path, origin: str, block_bytes: int, counts: dict[str, int], entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """`index.json`, in one move: from then on the index is what it says."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "origin": origin,
        "block_bytes": block_bytes,
        "overlap": _overlap(block_bytes),
        **counts,
        "blocks": entries,
    }
    facts["fingerprint"] = _fingerprint(facts)
    beside = folder / f"{HEAD}.{os.getpid()}.part"
    beside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    beside.replace(folder / HEAD)
    return facts


def _fingerprint(facts: dict[str, Any]) -> str:
    told = {key: value for key, value in facts.items() if key != "fingerprint"}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


# ---- opening -------------------------------------------------------------------------------------------------------


def open_index(folder: Path, origin: str | None = None, verify: bool = True) -> TraceIndex:
    """Open an index. origin: what its text must be of; verify: read every file and hold it against its digest.

    Raises LLMBertError where it is missing, damaged, of another format, or of another text.
    """
    folder = Path(folder)
    if not (folder / HEAD).is_file():
        raise LLMBertError(f"{folder} is no index of text (it has no {HEAD}); build it again")
    try:
        facts = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise LLMBertError(
                f"{folder} is an index of format {facts['format']!r}, and this llmbert reads {FORMAT}; "
                f"delete it and build it again"
            )
        if facts["fingerprint"] != _fingerprint(facts):
            raise ValueError(f"{HEAD} is not what was written")
        if origin is not None and facts["origin"] != origin:
            raise LLMBertError(f"{folder} is an index of another text; delete it and build it again")
        blocks = [Block(folder, entry, verify) for entry in facts["blocks"]]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise LLMBertError(f"the index {folder} is damaged ({error}); delete it and build it again") from error
    return TraceIndex(folder, facts, blocks)
