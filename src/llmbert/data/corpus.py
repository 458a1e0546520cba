"""A corpus store: the training and validation shards of some text, with their tokeniser, in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.overlap import measure_overlap
from llmbert.data.read import Document, first_bytes, read_documents
from llmbert.data.shards import (
    AnyTokeniser,
    Shard,
    ShardWriter,
    count_unknown,
    refusing_full_disk,
    write_part,
    write_shard,
)
from llmbert.data.sources import BLOCK_BYTES, HUB, STANDARD_INPUT, Meter, Source, find_sources, read_blocks
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.text.foreign import load_tokeniser
from llmbert.text.segment import cut_pieces
from llmbert.text.tokenisers import TOKENISERS, Tokeniser, train_tokeniser

__all__ = ["Corpus", "Shard", "build_corpus", "build_shard", "count_unknown", "open_corpus"]

FORMAT = 1
HASHED_CHARACTERS = 1 << 16
KEPT_SHARE, KEPT_CHARACTERS = 0.03, 200_000
KEPT_STRETCH, MOST_STRETCHES = 1000, 32  # of a single document: characters in one place at least, and places at most
_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number: multiplying by it makes another hash of a hash


@dataclass(frozen=True)
class Reading:
    """How paths become documents; see `read_documents`. without: the ids of those that are passed over."""

    lines: bool = False
    split_on: str | None = None
    fields: Mapping[str, str] | None = None
    without: tuple[str, ...] = ()

    def documents(
        self, paths: Sequence[str], progress: Progress = silent, encodings: dict[str, str] | None = None
    ) -> Iterator[Document]:
        documents = read_documents(
            paths,
            lines=self.lines,
            split_on=self.split_on,
            fields=self.fields,
            progress=progress,
            encodings=encodings,
        )
        if not self.without:
            return documents
        forgotten = frozenset(self.without)
        return (document for document in documents if document.id not in forgotten)

    def described(self) -> dict[str, Any]:
        """The settings as a store tells them."""
        told = asdict(self)
        return told if self.without else {key: value for key, value in told.items() if key != "without"}


class Corpus:
    """An opened store: `train` and `valid` shards, the tokeniser, and what was measured when it was built.

    folder: where it is; fingerprint: of the text, the settings and the tokeniser; overlap: see `measure_overlap`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._described: dict[str, Any] = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        if self._described["format"] != FORMAT:
            raise ValueError("another format")
        self.fingerprint: str = self._described["fingerprint"]
        self.tokeniser = load_tokeniser(folder)
        self.tokeniser_fingerprint: str = self._described["tokeniser"]["fingerprint"]
        if self.tokeniser.fingerprint != self.tokeniser_fingerprint:
            raise ValueError("another tokeniser")
        dtype = self._described["dtype"]
        self.train, self.valid = (
            Shard(folder, name, self._described[name]["unknown"], dtype) for name in ("train", "valid")
        )
        kept = self._described.get("kept")
        self.kept = None if kept is None else Shard(folder, "kept", kept["unknown"], dtype)
        self.overlap: dict[str, Any] = self._described["overlap"]

    @property
    def shards(self) -> list[Shard]:
        """All there are."""
        return [self.train, self.valid, *([self.kept] if self.kept is not None else [])]

    def part(self, number: int, parts: int) -> Corpus:
        """The same with only those training documents whose hash modulo `parts` is `number`; its shard is written
        beside the whole one's, or found there again. Raises LLMBertError where none is left."""
        chosen = np.flatnonzero(self.train.digests % np.uint64(parts) == number)
        if not len(chosen):
            raise LLMBertError(f"part {number} of {parts} of the training text has no document; take fewer parts")
        folder = self.folder / f"part-{number}-of-{parts}"
        if not folder.exists():
            with refusing_full_disk(self.folder), ExitStack() as stack:
                passing = passing_folder(self.folder, folder.name, stack)
                unknown = write_part(self.train, chosen, passing, "train", self.tokeniser).unknown
                (passing / "unknown").write_text(str(unknown), "utf-8")
                with suppress(OSError):  # another process was faster, and wrote the same
                    passing.rename(folder)
        found = copy(self)
        found.train = Shard(folder, "train", int((folder / "unknown").read_text("utf-8")), self._described["dtype"])
        return found

    def describe(self) -> dict[str, Any]:
        """What `corpus.json` holds: counts by split, overlap, encodings, settings, fingerprints."""
        return self._described


def open_corpus(folder: Path) -> Corpus:
    """Open a corpus store. Raises LLMBertError where it is missing, unfinished or damaged."""
    folder = Path(folder)
    if not (folder / "corpus.json").is_file():
        raise LLMBertError(f"{folder} is no corpus store (it has no corpus.json); build it from the text again")
    try:
        return Corpus(folder)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LLMBertError(f"the corpus store {folder} is damaged ({error}); delete it and build it again") from error


def build_shard(
    paths: Sequence[str],
    tokeniser: AnyTokeniser,
    folder: Path,
    *,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    most_bytes: int | None = None,
    progress: Progress = silent,
) -> Shard:
    """All documents of the paths, or the first `most_bytes` of their text, tokenised into `folder`: other text for a
    tokeniser that is there already."""
    reading = Reading(lines, split_on, fields)
    documents = reading.documents(paths, renamed_progress(progress, "tokenising"))
    if most_bytes is not None:
        documents = first_bytes(documents, most_bytes)
    return write_shard(documents, tokeniser, Path(folder), "text")


def build_corpus(
    paths: Sequence[str],
    folder_root: Path,
    tokeniser: Tokeniser | None = None,
    kind: str = "bpe",
    vocabulary_size: int | None = None,
    valid_paths: Sequence[str] | None = None,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    valid_share: float | None = None,
    keep: bool = False,
    kept_share: float | None = None,
    special_tokens: Sequence[str] = (),
    without: Sequence[str] = (),
    progress: Progress = silent,
) -> Corpus:
    """Read, split, tokenise and measure some text into a store below `folder_root`, or open the store of the same.

    tokeniser: one to use; None: one of `kind` and `vocabulary_size` is trained on the training text.
    valid_paths: the validation text; without it documents are drawn by a hash of their text, so that equal ones stay
    together: valid_share of them, by default a twentieth of 1000 or more and a tenth of fewer, never none and never
    all. Text of one document gives its last tenth, counted in characters. keep: a small part of the training text
    (KEPT_SHARE, and at most KEPT_CHARACTERS) becomes a shard of its own, which no model of this store learns from, so
    that mixtures of models can be weighed on it; kept_share: of many documents this share in the place of that.
    special_tokens: more that the tokeniser shall have (a mask, sentinels). without: ids of documents that are passed
    over, as if they did not stand there.

    A text of any size is read as a stream. A store appears whole or not at all. Raises LLMBertError for text that
    cannot be read, for too little of it, and for a full disk.
    """
    if valid_share is not None and not 0 < valid_share < 1:
        raise UsageError(f"valid_share is {valid_share}; give a share between 0 and 1")
    folder_root = Path(folder_root)
    tokeniser = tokeniser and tokeniser.with_special_tokens(special_tokens)
    with refusing_full_disk(folder_root), ExitStack() as stack:
        folder_root.mkdir(parents=True, exist_ok=True)
        sweep_passing(folder_root)
        spool, write = Spool(folder_root, stack), partial(_write_documents, fields)
        plan = _Plan(
            spool.files(paths, write),
            spool.files(valid_paths, write) if valid_paths else None,
            Reading(lines, split_on, fields, tuple(sorted(without))),
            valid_share,
            keep,
            kept_share,
        )
        fingerprint, files = _fingerprint(
            plan,
            tokeniser.fingerprint if tokeniser else (kind, vocabulary_size, *special_tokens),
            progress,
        )
        folder = folder_root / fingerprint[:16]
        if folder.exists():
            try:
                return open_corpus(folder)
            except LLMBertError:
                shutil.rmtree(folder)
        partial_folder = passing_folder(folder_root, folder.name, stack)
        wanted = _Wanted(tokeniser, kind, vocabulary_size, tuple(special_tokens))
        _fill(partial_folder, plan, wanted, {"fingerprint": fingerprint, **files}, progress)
        move_into_place(partial_folder, folder)
    return open_corpus(folder)


@dataclass(frozen=True)
class _Wanted:
    """Which tokeniser a store gets: the one given, or one to be trained, with these special tokens."""

    given: Tokeniser | None
    kind: str
    vocabulary_size: int | None
    special_tokens: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """What goes into a store: files, how they are read, how they are split."""

    paths: list[str]
    valid_paths: list[str] | None
    reading: Reading
    valid_share: float | None
    keep: bool = False
    kept_share: float | None = None


def passing_folder(root: Path, name: str, stack: ExitStack) -> Path:
    """A new hidden folder that goes with the stack; its name says which process it belongs to."""
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.{os.getpid()}.", suffix=".part", dir=root))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def sweep_passing(root: Path) -> None:
    """Remove the passing folders of processes that were killed."""
    for folder in root.glob(".*.part"):
        owner = folder.name.split(".")[2]
        if owner.isdigit() and not Path("/proc", owner).exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


class Spool:
    """Standard input and data sets of the hub, which come but once, written to files that go with the stack."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._root, self._stack, self._known = root, stack, dict[str, str]()

    def files(self, paths: Sequence[str], write: Callable[[str, Path], Path]) -> list[str]:
        """The paths with files in the place of what is no file. write: path, folder → the file it was written to."""
        return [self._file(str(path), write) for path in paths]

    def _file(self, path: str, write: Callable[[str, Path], Path]) -> str:
        if path != STANDARD_INPUT and not path.startswith(HUB):
            return path
        if path not in self._known:
            folder = passing_folder(self._root, "spool", self._stack)
            self._known[path] = str(write(path, folder))
        return self._known[path]


def write_standard_input(target: Path) -> Path:
    with target.open("wb") as file:
        for block in read_blocks(find_sources([STANDARD_INPUT])[0], Meter(silent, None)):
            file.write(block)
    return target


def write_rows(path: str, folder: Path, rows: Iterable[Any]) -> Path:
    """A line of JSON for each row of a data set of the hub."""
    target = folder / (path.removeprefix(HUB).replace("/", "--") + ".jsonl")
    with target.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, default=str) + "\n")
    return target


def _write_documents(fields: Mapping[str, str] | None, path: str, folder: Path) -> Path:
    if path == STANDARD_INPUT:
        return write_standard_input(folder / "standard input.txt")
    return write_rows(path, folder, ("".join(each.pieces) for each in read_documents([path], fields=fields)))


def renamed_progress(progress: Progress, name: str) -> Progress:
    """`progress` under another name than the reader's own."""

    def renamed(stage: str, done: float, total: float | None = None, **figures: float | str) -> None:
        progress(name, done, total, **figures)

    return renamed


def _fingerprint(plan: _Plan, tokeniser: Any, progress: Progress) -> tuple[str, dict[str, Any]]:
    """SHA-256 of the files' bytes and names, the settings and the tokeniser's; and the list of files."""
    listed: dict[str, Any] = {}
    for name, paths in (("files", plan.paths), ("valid_files", plan.valid_paths or [])):
        sources = find_sources(paths) if paths else []
        meter = Meter(renamed_progress(progress, "fingerprinting"), sum(source.size for source in sources))
        listed[name] = [{"name": s.name, "bytes": s.size, "sha256": digest_of(s, meter)} for s in sources]
    settings = {"format": FORMAT, "valid_share": plan.valid_share, "tokeniser": tokeniser, **plan.reading.described()}
    settings |= {"keep": True} if plan.keep else {}
    settings |= {"kept_share": plan.kept_share} if plan.keep and plan.kept_share else {}
    text = json.dumps({**settings, **listed}, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest(), listed


def digest_of(source: Source, meter: Meter) -> str:
    digest = hashlib.sha256()
    try:
        with Path(source.path).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                meter.add(len(block))
    except OSError as error:
        raise LLMBertError(f"{source.path} cannot be read ({error.strerror}); check its permissions") from error
    return digest.hexdigest()


@dataclass
class _Survey:
    """What a first reading finds. hashes: of each document's beginning."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    blank: bool = True
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    encodings: dict[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> NDArray[np.uint64]:
        return np.frombuffer(self.hashes, np.uint64)

    def take(self, document: Document) -> None:
        self.documents += 1
        beginning: list[str] = []
        room = HASHED_CHARACTERS
        for piece in document.pieces:
            self.characters += len(piece)
            self.bytes += len(piece) if piece.isascii() else len(piece.encode())
            if self.blank and piece and not piece.isspace():
                self.blank = False
            if room > 0:
                beginning.append(piece[:room])
                room -= len(piece)
        text = "".join(beginning).encode()
        self.hashes.frombytes(blake2b(text, digest_size=8).digest())


def _survey(plan: _Plan, paths: list[str], progress: Progress, what: str) -> _Survey:
    survey = _Survey()
    for document in plan.reading.documents(paths, renamed_progress(progress, "surveying"), survey.encodings):
        survey.take(document)
    if survey.blank:
        raise LLMBertError(f"the {what} text has only blank lines; give files with text in them")
    return survey


def usual_share(documents: int) -> float:
    """Of so many documents the share that is held out unless somebody says otherwise."""
    return 1 / 20 if documents >= 1000 else 1 / 10


def usual_kept_share(characters: int) -> float:
    """Of documents with so many characters together the share that is kept for the weights of a mixture."""
    return min(KEPT_SHARE, KEPT_CHARACTERS / max(1, characters))


def drawn(hashes: NDArray[np.uint64], share: float | None) -> NDArray[np.bool_]:
    """Which documents are for validation by the hash of each: (documents,) bool, some of either kind."""
    if share is None:
        share = usual_share(len(hashes))
    low, high = int(hashes.min()), int(hashes.max())
    if low == high:  # one text, over and over: it cannot be kept apart
        return np.arange(len(hashes)) == len(hashes) - 1
    limit = min(max(int(share * 2**64), low + 1), high)
    return hashes < np.uint64(limit)


class _Split:
    """Sends each document of a plan to training or to validation, as often as the text is read."""

    def __init__(self, plan: _Plan, survey: _Survey) -> None:
        self._plan, self._survey = plan, survey
        self._drawn = None if plan.valid_paths or survey.documents == 1 else drawn(survey.digests, plan.valid_share)
        share = plan.valid_share or 1 / 10
        self._cut = int(survey.characters * (1 - share)) if plan.valid_share else survey.characters * 9 // 10
        if self._drawn is None and not plan.valid_paths and not 0 < self._cut < survey.characters:
            raise LLMBertError("one document of one character cannot be split; give more text or a validation file")
        self._kept = self._keeping_documents() if plan.keep and survey.documents > 1 else None
        self._cuts = self._stretches() if survey.documents == 1 else []

    def _stretches(self) -> list[tuple[str, int]]:
        """Where the only document is cut: (part, the character it ends before), but for the part that ends it.

        What is kept is taken evenly from all of the training text: at its end it would be another scene than the rest,
        and the one that the validation text goes on with.
        """
        whole, cuts = [] if self._plan.valid_paths else [("train", self._cut)], []
        if not self._plan.keep:
            return whole
        end = self._survey.characters if self._plan.valid_paths else self._cut
        if end < 3:
            raise LLMBertError("the text is too short to keep some of it for the weights of a mixture; give more text")
        wanted = max(1, int(min(KEPT_SHARE * end, KEPT_CHARACTERS)))
        count = max(1, min(MOST_STRETCHES, wanted // KEPT_STRETCH))
        length = max(1, wanted // count)
        for number in range(count):
            begin = max(1, int((number + 0.5) * end / count) - length // 2)
            cuts += [("train", begin), ("kept", begin + length)]
        return cuts + whole

    def _keeping_documents(self) -> NDArray[np.bool_]:
        """Which training documents are kept apart."""
        digests, share = self._survey.digests, self._plan.kept_share or usual_kept_share(self._survey.characters)
        training = np.ones(len(digests), bool) if self._drawn is None else ~self._drawn
        if training.sum() < 2:
            raise LLMBertError("there are too few documents to keep one for the weights of a mixture; give more text")
        kept = np.zeros(len(digests), bool)
        kept[training] = drawn(digests[training] * _MIX, share)
        return kept

    @property
    def names(self) -> tuple[str, ...]:
        """The parts there are."""
        return ("train", "valid", "kept") if self._plan.keep else ("train", "valid")

    @property
    def rule(self) -> str:
        """How it splits, in words."""
        if self._plan.valid_paths:
            return "files of their own"
        return "by a hash of each document" if self._drawn is not None else f"after character {self._cut}"

    def documents(self, progress: Progress, valid: bool = True) -> Iterator[tuple[str, Document]]:
        """Each document with its part, "train", "valid" or "kept"; valid False: those that are not of valid files."""
        seen = 0
        documents = self._plan.reading.documents(self._plan.paths, progress)
        for index, document in enumerate(documents):
            seen += 1
            if self._survey.documents == 1:
                yield from self._parts(document)
            elif index < self._survey.documents:
                is_valid = self._drawn is not None and self._drawn[index]
                is_kept = self._kept is not None and self._kept[index]
                yield "valid" if is_valid else "kept" if is_kept else "train", document
        if seen != self._survey.documents:
            raise LLMBertError("the text changed while it was being read; try again when nobody writes to its files")
        if self._plan.valid_paths and valid:
            for document in self._plan.reading.documents(self._plan.valid_paths, progress):
                yield "valid", document

    def _parts(self, document: Document) -> Iterator[tuple[str, Document]]:
        """The only document, cut where a part ends."""
        pieces, begin = iter(document.pieces), 0
        for name, end in self._cuts:
            rest: list[str] = []
            yield name, Document(_place(document.id, begin, end), _head(pieces, end - begin, rest), document.source)
            pieces, begin = chain(rest, pieces), end
        name = _place(document.id, begin, None) if self._cuts else document.id
        yield "train" if self._plan.valid_paths else "valid", Document(name, pieces, document.source)


def _place(name: str, begin: int, end: int | None) -> str:
    """The name of a part of a document, by its characters."""
    return f"{name}[{begin or ''}:{'' if end is None else end}]"


def _head(pieces: Iterable[str], count: int, rest: list[str]) -> Iterator[str]:
    """The first `count` characters; what is left of the last piece goes to `rest`."""
    for piece in pieces:
        if len(piece) >= count:
            rest.append(piece[count:])
            yield piece[:count]
            return
        count -= len(piece)
        yield piece


def _fill(
    folder: Path,
    plan: _Plan,
    wanted: _Wanted,
    described: dict[str, Any],
    progress: Progress,
) -> None:
    """Write a whole store into an empty folder."""
    survey = _survey(plan, plan.paths, progress, "training")
    encodings = dict(survey.encodings)
    if plan.valid_paths:
        encodings |= _survey(plan, plan.valid_paths, progress, "validation").encodings
    split = _Split(plan, survey)
    tokeniser = wanted.given or _train(
        split, survey, wanted.kind, wanted.vocabulary_size, progress
    ).with_special_tokens(wanted.special_tokens)
    tokeniser.save(folder)
    train, valid, *kept = _tokenise(folder, split, tokeniser, progress)
    described |= {
        "format": FORMAT,
        "settings": {**plan.reading.described(), "valid_share": plan.valid_share},
        "split": split.rule,
        "encodings": encodings,
        "tokeniser": {
            "kind": tokeniser.kind,
            "vocabulary_size": tokeniser.vocabulary_size,
            "fingerprint": tokeniser.fingerprint,
        },
        "dtype": str(train.ids.dtype.name),
        "train": train.describe(),
        "valid": valid.describe(),
        **{shard.name: shard.describe() for shard in kept},
        "overlap": measure_overlap(train, valid, progress),
    }
    text = json.dumps(described, ensure_ascii=False, indent=2, default=dict)
    # A file name that is no UTF-8 reaches Python as lone surrogates; they go out as their escapes.
    (folder / "corpus.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _train(split: _Split, survey: _Survey, kind: str, vocabulary_size: int | None, progress: Progress) -> Tokeniser:
    """A tokeniser of the training documents, or of pieces spread evenly over them where they are many."""
    if kind not in TOKENISERS:
        raise UsageError(f"there is no tokeniser {kind!r}; choose one of {', '.join(TOKENISERS)}")
    if kind == "bytes":
        return train_tokeniser(kind, [], vocabulary_size)
    limit = TOKENISERS[kind].sample_bytes
    share = min(1.0, limit / survey.bytes) if limit else 1.0
    documents = split.documents(renamed_progress(progress, "training the tokeniser"), valid=False)
    pieces = (piece for part, document in documents if part != "valid" for piece in _cut(document.pieces, kind))
    return train_tokeniser(kind, spread(pieces, share), vocabulary_size)


def _cut(pieces: Iterable[str], kind: str) -> Iterator[str]:
    return cut_pieces(pieces, TOKENISERS[kind].cut)


def spread(pieces: Iterable[str], share: float) -> Iterator[str]:
    """Of the pieces as many as make up `share` of the characters, evenly spread."""
    credit = 0.0
    for piece in pieces:
        credit += len(piece) * share
        if credit >= len(piece):
            credit -= len(piece)
            yield piece


def _tokenise(folder: Path, split: _Split, tokeniser: Tokeniser, progress: Progress) -> list[Shard]:
    """The shards of training and validation, and of what is kept, where anything is."""
    with ExitStack() as stack:
        writers = {name: ShardWriter(folder, name, tokeniser) for name in split.names}
        for writer in writers.values():
            stack.callback(writer.close)
        for part, document in split.documents(renamed_progress(progress, "tokenising")):
            writers[part].add(document.id, document.pieces)
        return [writer.finish() for writer in writers.values()]


def move_into_place(partial_folder: Path, folder: Path) -> None:
    """Give the finished folder its name; another builder that was faster has written the same."""
    partial_folder.chmod(0o755)
    try:
        partial_folder.rename(folder)
    except OSError:
        if not any((folder / name).is_file() for name in ("corpus.json", "pairs.json")):
            raise
