"""What a PATH stands for: files, folders, globs, standard input; and their bytes, unpacked."""

from __future__ import annotations

import contextlib
import glob
import gzip
import io
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from llmbert.data.decode_bytes import TextStream
from llmbert.protocols import LLMBertError, Progress

ENDINGS = (".txt", ".md", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
PACKED = (".gz", ".zst")
STANDARD_INPUT = "-"
HUB = "hub:"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One file to read (or standard input, or a data set of the hub).

    name: what documents' ids begin with; ending: one of ENDINGS, or "hub"; packed: "", ".gz" or ".zst".
    """

    path: str
    name: str
    ending: str
    packed: str = ""

    @property
    def size(self) -> int:
        """Bytes on disk; 0 where that is not known. Raises LLMBertError for a link to nothing."""
        if self.path == STANDARD_INPUT or self.ending == "hub":
            return 0
        try:
            return Path(self.path).stat().st_size
        except OSError as error:
            raise _unreadable(self.path, error) from error


def find_sources(paths: Sequence[str], usual: str | None = None) -> list[Source]:
    """The files that the paths stand for, in a stable order. usual: the ending that a named file has whose own nobody
    knows (parallel text is called train.en and train.de).

    Raises LLMBertError for a path that is not there, has an ending nobody reads, or matches nothing.
    """
    if not paths:
        raise LLMBertError("no data was named; give a file, a folder, a glob or - for standard input")
    sources: list[Source] = []
    for path in paths:
        try:
            sources += _expand(str(path), usual)
        except OSError as error:  # a name that is too long, a folder that nobody may look into
            raise _unreadable(path, error) from error
    named = Counter(source.name for source in sources)
    # Two files of one name: their whole paths tell them apart.
    return [s if named[s.name] == 1 else Source(s.path, s.path, s.ending, s.packed) for s in sources]


def _unreadable(path: str, error: OSError) -> LLMBertError:
    return LLMBertError(f"{path} cannot be read ({error.strerror or error}); check its name, link and permissions")


def _expand(path: str, usual: str | None) -> list[Source]:
    if path == STANDARD_INPUT:
        return [Source(path, "standard input", ".txt")]
    if path.startswith(HUB):
        return [Source(path, path, "hub")]
    if Path(path).is_dir():
        return _in_folder(Path(path))
    if Path(path).exists():
        return [_source(Path(path), Path(path).name, usual)]
    if glob.has_magic(path):
        return _matching(path)
    raise LLMBertError(f"{path} does not exist; check the name, or quote a glob so that LLMBert expands it")


def _in_folder(folder: Path) -> list[Source]:
    """Every readable file below, sorted; files of other kinds and hidden ones are passed over, and empty ones too."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    inside = [(file, file.relative_to(folder)) for file in files]
    found = [
        _source(file, relative.as_posix())
        for file, relative in inside
        if _endings(file.name)[0] in ENDINGS
        and not any(part.startswith(".") for part in relative.parts)
        and file.stat().st_size
    ]
    if not found:
        raise LLMBertError(f"{folder} holds no file to read; readable are {', '.join(ENDINGS)}, each also .gz or .zst")
    return found


def _matching(pattern: str) -> list[Source]:
    found: list[Source] = []
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 (a pattern may be absolute)
        found += _in_folder(Path(match)) if Path(match).is_dir() else [_source(Path(match), Path(match).name)]
    if not found:
        raise LLMBertError(f"{pattern} matches no file; check the pattern")
    return found


def _endings(name: str) -> tuple[str, str]:
    lower = name.lower()
    packed = next((ending for ending in PACKED if lower.endswith(ending)), "")
    return Path(lower.removesuffix(packed)).suffix, packed


def _source(path: Path, name: str, usual: str | None = None) -> Source:
    ending, packed = _endings(path.name)
    if usual and ending not in ENDINGS:
        return Source(str(path), name, usual, packed)
    if ending not in ENDINGS:
        raise LLMBertError(
            f"{path} has an ending that is not known; rename it to one of {', '.join(ENDINGS)}, each also .gz or .zst"
        )
    return Source(str(path), name, ending, packed)


@dataclass
class Meter:
    """Counts the bytes taken from disk over all sources and tells `progress`; notes the encodings met.

    total: in bytes, None where it is not known; encodings: by the name of the source, once it is read.
    """

    progress: Progress
    total: int | None
    done: int = 0
    encodings: MutableMapping[str, str] = field(default_factory=dict)

    def add(self, count: int) -> None:
        self.done += count
        self.progress("reading", self.done, self.total)


class _Counted(io.RawIOBase):
    """A stream that tells a meter of each read."""

    def __init__(self, stream: IO[bytes], meter: Meter) -> None:
        self._stream, self._meter = stream, meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        if data:
            self._meter.add(len(data))
        return len(data)


def read_text(source: Source, meter: Meter) -> Iterator[str]:
    """The source's text in pieces of about a million characters; errors as from `read_blocks` and `TextStream`."""
    stream = TextStream(source.name, read_blocks(source, meter))
    yield from stream
    meter.encodings[source.name] = stream.encoding


def read_blocks(source: Source, meter: Meter) -> Iterator[bytes]:
    """The source's bytes, unpacked, in blocks of about a megabyte.

    Raises LLMBertError where the source cannot be opened, is empty, or is not a whole packed file.
    """
    empty = True
    try:
        with contextlib.ExitStack() as stack:
            raw = (
                sys.stdin.buffer if source.path == STANDARD_INPUT else stack.enter_context(Path(source.path).open("rb"))
            )
            stream = io.BufferedReader(_Counted(raw, meter), BLOCK_BYTES)
            for block in _UNPACKED[source.packed](source, stream):
                empty = False
                yield block
    except OSError as error:
        raise LLMBertError(
            f"{source.name} cannot be read ({error.strerror or error}); check or copy it anew"
        ) from error
    if empty:
        raise LLMBertError(f"{source.name} is empty; give a file with text in it")


def _plain(source: Source, stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


def _gunzipped(source: Source, stream: IO[bytes]) -> Iterator[bytes]:
    with gzip.open(stream, "rb") as unpacked:
        while True:
            try:
                block = unpacked.read(BLOCK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise _torn(source, "gzip") from error
            if not block:
                return
            yield block


def _unzstandard(source: Source, stream: IO[bytes]) -> Iterator[bytes]:
    """Frame by frame, so that a file cut short is noticed; a little at a time, for it may unpack a thousandfold."""
    try:
        import zstandard
    except ImportError as error:
        raise LLMBertError(
            f"reading {source.name} needs the package zstandard, which is not installed; pip install 'llmbert[data]'"
        ) from error
    frame, held, length = zstandard.ZstdDecompressor().decompressobj(), [], 0
    started = False
    while packed := stream.read(1024):
        while packed:
            started = True
            try:
                block = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise _torn(source, "Zstandard") from error
            held.append(block)
            length += len(block)
            packed = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame, started = zstandard.ZstdDecompressor().decompressobj(), False
        if length >= BLOCK_BYTES:
            yield b"".join(held)
            held, length = [], 0
    if started:
        raise _torn(source, "Zstandard")
    if length:
        yield b"".join(held)


def _torn(source: Source, form: str) -> LLMBertError:
    return LLMBertError(f"{source.name} is not a whole {form} file; copy it again, or correct its ending")


_UNPACKED: dict[str, Callable[[Source, IO[bytes]], Iterator[bytes]]] = {
    "": _plain,
    ".gz": _gunzipped,
    ".zst": _unzstandard,
}
