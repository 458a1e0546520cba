"""Documents to a shard: token ids on disk in one long row, with where each document begins."""

from __future__ import annotations

import errno
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.read import Document
from llmbert.protocols import LLMBertError
from llmbert.text.foreign import ForeignTokeniser
from llmbert.text.tokenisers import Frame, Tokeniser

AnyTokeniser = Tokeniser | ForeignTokeniser
_SHORT_CHARACTERS = 1 << 16
_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 1 << 13
_ARRAYS = {"starts": "q", "document_bytes": "q", "document_characters": "q", "digests": "Q", "id_ends": "q"}


class DocumentIds(Sequence[str]):
    """The ids of a shard's documents, read from disk when asked for. `ends`: where each ends in `text` (UTF-8)."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        start = int(self._ends[number - 1]) if number else 0
        return self._text[start : int(self._ends[number])].tobytes().decode()


class Shard:
    """Documents as token ids, opened from disk and read as they are needed.

    ids: (N,) uint16 or uint32, each document from its begin token to its end token; starts: (documents + 1,) int64,
    where each begins, and N; document_bytes (UTF-8), document_characters: (documents,) int64; document_ids: one str
    a document; digests: (documents,) uint64, equal for documents of equal text; unknown: how many unknown tokens.
    """

    def __init__(self, folder: Path, name: str, unknown: int, dtype: str) -> None:
        self.folder, self.name, self.unknown = folder, name, unknown
        self.ids: NDArray[Any] = np.memmap(folder / f"{name}.ids", np.dtype(dtype).newbyteorder("<"), "r")
        arrays = {key: np.load(folder / f"{name}.{key}.npy", mmap_mode="r", allow_pickle=False) for key in _ARRAYS}
        self.starts: NDArray[np.int64] = arrays["starts"]
        self.document_bytes: NDArray[np.int64] = arrays["document_bytes"]
        self.document_characters: NDArray[np.int64] = arrays["document_characters"]
        self.digests: NDArray[np.uint64] = arrays["digests"]
        text = np.memmap(folder / f"{name}.document_ids", np.uint8, "r")
        self.document_ids: Sequence[str] = DocumentIds(text, arrays["id_ends"])
        lengths = (len(self.starts), int(self.starts[-1]), int(arrays["id_ends"][-1]))
        if lengths != (self.documents + 1, len(self.ids), len(text)):
            raise ValueError(f"{name}: the ids and the documents' places do not fit together")

    @property
    def documents(self) -> int:
        return len(self.document_bytes)

    @property
    def tokens(self) -> int:
        """Tokens that are scored: each document's own and its end token, not its begin token."""
        return len(self.ids) - self.documents

    def read(self, start: int, end: int) -> NDArray[Any]:
        """A copy of ids[start:end] that leaves no page of the file mapped: for reading all of it in passing."""
        path = self.folder / f"{self.name}.ids"
        return np.fromfile(path, self.ids.dtype, end - start, offset=start * self.ids.itemsize)

    def document(self, index: int) -> NDArray[Any]:
        """The ids of document `index`, from its begin token to its end token."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def text_of(self, index: int, tokeniser: AnyTokeniser) -> str:
        """The text of document `index`, exact where the tokeniser is lossless."""
        return tokeniser.decode(self.document(index))

    def describe(self) -> dict[str, int]:
        """Counts: documents, characters, bytes, tokens (scored ones), unknown."""
        return {
            "documents": self.documents,
            "characters": int(self.document_characters.sum()),
            "bytes": int(self.document_bytes.sum()),
            "tokens": self.tokens,
            "unknown": self.unknown,
        }


def count_unknown(ids: NDArray[Any], tokeniser: AnyTokeniser) -> int:
    """How many of the ids are the unknown token."""
    return int(np.count_nonzero(ids == tokeniser.unknown_id))


class ShardWriter:
    """Writes a shard's files one document after another, short ones many at a time; memory stays bounded but for
    40 bytes a document."""

    def __init__(self, folder: Path, name: str, tokeniser: AnyTokeniser, frame: Frame | None = None) -> None:
        """frame: what stands before and behind a document, the begin and the end token where nothing is given."""
        self._folder, self._name, self._tokeniser = folder, name, tokeniser
        self._before, self._behind = frame or ((tokeniser.begin_id,), (tokeniser.end_id,))
        self.dtype = "uint16" if tokeniser.vocabulary_size <= 1 << 16 else "uint32"
        self._arrays = {key: array(code) for key, code in _ARRAYS.items()}
        self._arrays["starts"].append(0)
        self._position = self.unknown = 0
        self._names: list[str] = []
        self._texts: list[str] = []
        self._held = self._id_bytes = 0
        self._ids = (folder / f"{name}.ids").open("wb")
        self._document_ids = (folder / f"{name}.document_ids").open("wb")

    @property
    def documents(self) -> int:
        return len(self._arrays["document_bytes"]) + len(self._texts)

    def add(self, document_id: str, pieces: Iterable[str]) -> None:
        """Tokenise one document and write it, at the latest by `finish`."""
        rest = iter(pieces)
        first = next(rest, "")
        second = next(rest, "") if len(first) > _SHORT_CHARACTERS else "".join(_bounded(rest, _SHORT_CHARACTERS))
        if len(first) + len(second) > _SHORT_CHARACTERS:
            self._flush()
            self._write_long(document_id, chain((first, second), rest))
            return
        self._names.append(document_id)
        self._texts.append(first + second if second else first)
        self._held += len(first) + len(second)
        if self._held > _BATCH_CHARACTERS or len(self._texts) >= _BATCH_DOCUMENTS:
            self._flush()

    def finish(self) -> Shard:
        """Write what is left, close the files and open the shard."""
        self._flush()
        self.close()
        for key, values in self._arrays.items():
            found = np.frombuffer(values, dtype=np.uint64 if values.typecode == "Q" else np.int64)
            with (self._folder / f"{self._name}.{key}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(found))
                file.write(found.data)
        return Shard(self._folder, self._name, self.unknown, self.dtype)

    def close(self) -> None:
        self._ids.close()
        self._document_ids.close()

    def _flush(self) -> None:
        if not self._texts:
            return
        texts, names = self._texts, self._names
        self._texts, self._names, self._held = [], [], 0
        ids, lengths = self._tokeniser.encode_joined(texts)
        around = len(self._before) + len(self._behind)
        ends = np.cumsum(lengths + around)
        row = np.empty(int(ends[-1]), self.dtype)
        inside = np.ones(len(row), bool)
        for place, number in enumerate(self._before):
            row[ends - lengths - around + place], inside[ends - lengths - around + place] = number, False
        for place, number in enumerate(reversed(self._behind), 1):
            row[ends - place], inside[ends - place] = number, False
        row[inside] = ids
        self._write(row)
        self._arrays["starts"].frombytes((ends + self._arrays["starts"][-1]).astype(np.int64).tobytes())
        encoded = [text.encode() for text in texts]
        self._arrays["document_bytes"].extend(map(len, encoded))
        self._arrays["document_characters"].extend(map(len, texts))
        self._arrays["digests"].frombytes(b"".join([blake2b(text, digest_size=8).digest() for text in encoded]))
        self._write_names(names)

    def _write_long(self, document_id: str, pieces: Iterable[str]) -> None:
        digest = blake2b(digest_size=8)
        sizes = [0, 0]

        def counted() -> Iterator[str]:
            for piece in pieces:
                encoded = piece.encode()
                digest.update(encoded)
                sizes[0] += len(encoded)
                sizes[1] += len(piece)
                yield piece

        self._write(np.array(self._before, self.dtype))
        for ids in self._tokeniser.encode_pieces(counted()):
            self._write(ids.astype(self.dtype))
        self._write(np.array(self._behind, self.dtype))
        self._arrays["starts"].append(self._position)
        self._arrays["document_bytes"].append(sizes[0])
        self._arrays["document_characters"].append(sizes[1])
        self._arrays["digests"].frombytes(digest.digest())
        self._write_names([document_id])

    def _write(self, row: NDArray[Any]) -> None:
        self.unknown += count_unknown(row, self._tokeniser)
        self._position += len(row)
        self._ids.write(row.astype(row.dtype.newbyteorder("<"), copy=False).data)

    def _write_names(self, names: list[str]) -> None:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._document_ids.write(b"".join(encoded))
        for name in encoded:
            self._id_bytes += len(name)
            self._arrays["id_ends"].append(self._id_bytes)


def write_part(shard: Shard, numbers: NDArray[np.int64], folder: Path, name: str, tokeniser: AnyTokeniser) -> Shard:
    """Some documents of a shard, by number and in that order, as a shard of their own in the files `name`.*."""
    lengths = np.diff(shard.starts)[numbers]
    unknown = 0
    with (folder / f"{name}.ids").open("wb") as file:
        for number in numbers.tolist():
            row = shard.document(number)
            unknown += count_unknown(row, tokeniser)
            file.write(np.ascontiguousarray(row).data)
    names = [shard.document_ids[number].encode("utf-8", "surrogateescape") for number in numbers.tolist()]
    (folder / f"{name}.document_ids").write_bytes(b"".join(names))
    arrays = {
        "starts": np.concatenate(([0], np.cumsum(lengths))),
        "document_bytes": shard.document_bytes[numbers],
        "document_characters": shard.document_characters[numbers],
        "digests": shard.digests[numbers],
        "id_ends": np.cumsum([len(each) for each in names]),
    }
    for key, values in arrays.items():
        kind = np.uint64 if _ARRAYS[key] == "Q" else np.int64
        np.save(folder / f"{name}.{key}.npy", np.asarray(values, kind), allow_pickle=False)
    return Shard(folder, name, unknown, shard.ids.dtype.name)


def _bounded(pieces: Iterator[str], enough: int) -> Iterator[str]:
    """Pieces until there is more than `enough`."""
    length = 0
    while length <= enough and (piece := next(pieces, "")):
        length += len(piece)
        yield piece


def head_of(
    ids: NDArray[Any], starts: NDArray[np.int64], most: int, least: int = 2
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A copy of the first `most` tokens of documents, and where each begins: whole documents, and behind them the head
    of the one that goes on beyond, where that is `least` tokens or more or the only one."""
    starts = np.asarray(starts)
    starts = starts[: max(1, int(np.searchsorted(starts, most))) + 1].copy()
    if starts[-1] > most:
        starts[-1] = most
        if len(starts) > 2 and most - starts[-2] < least:
            starts = starts[:-1]
    return np.array(ids[: int(starts[-1])]), starts


def write_shard(documents: Iterable[Document], tokeniser: AnyTokeniser, folder: Path, name: str) -> Shard:
    """Tokenise documents into the files `name`.* of a folder. Raises LLMBertError where the disk is full."""
    with refusing_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        writer = ShardWriter(folder, name, tokeniser)
        try:
            for document in documents:
                writer.add(document.id, document.pieces)
            return writer.finish()
        finally:
            writer.close()


@contextmanager
def refusing_full_disk(folder: Path) -> Iterator[None]:
    """Turns the system's "no space left" into an LLMBertError that names the folder and how much is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LLMBertError(
                f"{folder} cannot be written ({error.strerror or error}); choose another folder"
            ) from error
        raise LLMBertError(
            f"the disk is full while writing {folder} ({_free(folder)} are left); free space or use another disk"
        ) from error


def _free(folder: Path) -> str:
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path())
    return f"{shutil.disk_usage(there).free / 1e6:.0f} MB"
