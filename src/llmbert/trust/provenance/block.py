"""One block of an index: some pieces of text, their suffixes in order, and what each piece is part of."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmbert.data.shards import DocumentIds
from llmbert.data.suffixes import SEPARATOR, count_characters, suffix_array

ROW = np.dtype(
    [
        *(("hash", "<u8"), ("start", "<i8"), ("size", "<i8"), ("owned", "<i8")),
        *(("byte", "<i8"), ("character", "<i8"), ("id_end", "<i8"), ("exact", "<i8")),
    ]
)
"""Of a piece. start: its first byte in the block; size: its bytes; byte, character: where it begins in its document."""
ENDINGS = ("text", "suffixes", "pieces", "ids")
_DIGEST_BYTES = 16


class Row(NamedTuple):
    """A piece on its way into a block; see ROW."""

    hash: int
    id: str
    text: bytes
    byte: int
    character: int
    owned: int
    exact: bool


def write_block(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Write the files of a block, in the order given, and say what they are: name, pieces, bytes, digests.

    A block is named by a digest of what it holds, so that equal blocks are equal files, and a new one never stands in
    the place of an old one.
    """
    separator = bytes([SEPARATOR])
    text = b"".join(part for row in rows for part in (row.text, separator))
    ids = [row.id.encode("utf-8", "surrogateescape") for row in rows]
    table = np.zeros(len(rows), ROW)
    table["size"] = [len(row.text) for row in rows]
    table["start"][1:] = np.cumsum(table["size"] + 1)[:-1]
    table["id_end"] = np.cumsum([len(name) for name in ids])
    for key in ("hash", "byte", "character", "owned", "exact"):
        table[key] = [getattr(row, key) for row in rows]
    parts: dict[str, Any] = {"text": text, "pieces": table.tobytes(), "ids": b"".join(ids)}
    name = digest_of(*parts.values())
    suffixes = suffix_array(text).astype("<i4", copy=False)
    digests = {ending: digest_of(part) for ending, part in parts.items()} | {"suffixes": digest_of(suffixes.data)}
    for ending, part in {**parts, "suffixes": suffixes.data}.items():
        (folder / f"{name}.{ending}").write_bytes(part)
    return {"name": name, "pieces": len(rows), "bytes": len(text), "digests": {key: digests[key] for key in ENDINGS}}


def digest_of(*parts: Any) -> str:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


class Block:
    """An opened block. text and suffixes are mapped from disk; rows: (pieces,) ROW, ids: the document of each piece.

    Raises ValueError where a file is not what its entry says, OSError where it cannot be read.
    """

    def __init__(self, folder: Path, entry: dict[str, Any], verify: bool = True) -> None:
        self.entry, self.name = entry, str(entry["name"])
        mapped = {ending: _mapped(folder / f"{self.name}.{ending}") for ending in ENDINGS}
        sizes = {"text": entry["bytes"], "suffixes": 4 * entry["bytes"], "pieces": ROW.itemsize * entry["pieces"]}
        if wrong := next((ending for ending, size in sizes.items() if len(mapped[ending]) != size), None):
            raise ValueError(f"{self.name}.{wrong} is not as long as it was")
        for ending in ENDINGS if verify else ():
            if digest_of(mapped[ending]) != entry["digests"][ending]:
                raise ValueError(f"{self.name}.{ending} is not what was written")
        self.text = mapped["text"]
        self.bytes = np.frombuffer(self.text, np.uint8)
        self.suffixes = memoryview(mapped["suffixes"]).cast("i")
        self.places: NDArray[np.int32] = np.frombuffer(mapped["suffixes"], "<i4")
        self.rows: NDArray[Any] = np.frombuffer(mapped["pieces"], ROW)
        self.starts: NDArray[np.int64] = np.ascontiguousarray(self.rows["start"])
        self.ids: Sequence[str] = _Ids(np.frombuffer(mapped["ids"], np.uint8), self.rows["id_end"])
        self.has_cuts = bool((self.rows["owned"] < self.rows["size"]).any())

    def piece_at(self, places: Any) -> Any:
        """The piece that each place in the block lies in."""
        return np.searchsorted(self.starts, places, "right") - 1

    def owned(self, places: NDArray[Any]) -> NDArray[Any]:
        """Those of the places whose piece owns them: each place of a document once."""
        if not self.has_cuts:
            return places
        rows = self.rows[self.piece_at(places)]
        return places[places < rows["start"] + rows["owned"]]

    def character_of(self, piece: int, place: int) -> int:
        """Which character of its document stands at a place of a piece."""
        row = self.rows[piece]
        return int(row["character"]) + count_characters(self.bytes[int(row["start"]) : place])

    def row(self, piece: int) -> Row:
        """A piece as `write_block` takes it."""
        row = self.rows[piece]
        start, size = int(row["start"]), int(row["size"])
        byte, character, owned = (int(row[key]) for key in ("byte", "character", "owned"))
        text = self.text[start : start + size]
        return Row(int(row["hash"]), self.ids[piece], text, byte, character, owned, bool(row["exact"]))


class _Ids(DocumentIds):
    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        start = int(self._ends[number - 1]) if number else 0
        return self._text[start : int(self._ends[number])].tobytes().decode("utf-8", "surrogateescape")


def _mapped(path: Path) -> Any:
    """A file as read-only memory; an empty one, which cannot be mapped, as no bytes."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
