"""A store of pairs beside the runs: sources and targets as token shards, side by side, with their tokeniser."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.corpus import (
    Spool,
    digest_of,
    drawn,
    move_into_place,
    passing_folder,
    renamed_progress,
    spread,
    sweep_passing,
    write_rows,
    write_standard_input,
)
from llmbert.data.pairs.read import Pair, Portion, pair_sources, read_pairs
from llmbert.data.records import read_rows
from llmbert.data.shards import Shard, ShardWriter, refusing_full_disk
from llmbert.data.sources import STANDARD_INPUT, Meter
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.text.foreign import load_tokeniser
from llmbert.text.tokenisers import TOKENISERS, Frame, Tokeniser, train_tokeniser

FORMAT = 1
NAMES, SIDES = ("train", "valid"), ("source", "target")


@dataclass(frozen=True)
class PairShard:
    """Pairs as token ids. source, target: shards of as many documents; task: (pairs,) which portion each is of."""

    source: Shard
    target: Shard
    task: NDArray[np.uint8]

    @property
    def pairs(self) -> int:
        return self.source.documents

    def describe(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "source": self.source.describe(), "target": self.target.describe()}


@dataclass(frozen=True)
class Reference:
    """A held-out source with all its targets, as texts. source is without the task's prefix."""

    source: str
    targets: list[str]
    prefix: str


class PairCorpus:
    """An opened store: train and valid pairs, the tokeniser, and what was measured when it was built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._described: dict[str, Any] = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        if self._described["format"] != FORMAT:
            raise ValueError("another format")
        self.fingerprint: str = self._described["fingerprint"]
        self.tokeniser = load_tokeniser(folder)
        if self.tokeniser.fingerprint != self._described["tokeniser"]["fingerprint"]:
            raise ValueError("another tokeniser")
        self.prefixes: list[str] = self._described["prefixes"]
        self.train, self.valid = (self._open(name) for name in NAMES)

    def _open(self, name: str) -> PairShard:
        dtype, unknown = self._described["dtype"], self._described["unknown"][name]
        source, target = (Shard(self.folder, f"{name}.{side}", unknown[side], dtype) for side in SIDES)
        return PairShard(source, target, np.load(self.folder / f"{name}.task.npy", allow_pickle=False))

    def references(self) -> list[Reference]:
        """The held-out sources in their order, equal ones once with all their targets."""
        found: dict[tuple[str, str], Reference] = {}
        with (self.folder / "valid.jsonl").open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                prefix = self.prefixes[row["task"]]
                key = (prefix, row["source"])
                known = found.setdefault(key, Reference(row["source"].removeprefix(prefix), [], prefix))
                known.targets.append(row["target"])
        return list(found.values())

    def describe(self) -> dict[str, Any]:
        """What `pairs.json` holds: counts by split, overlap, settings, fingerprints."""
        return self._described


def open_pairs(folder: Path) -> PairCorpus:
    """Open a store of pairs. Raises LLMBertError where it is missing, unfinished or damaged."""
    if not (folder / "pairs.json").is_file():
        raise LLMBertError(f"{folder} is no store of pairs (it has no pairs.json); build it from the text again")
    try:
        return PairCorpus(folder)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LLMBertError(f"the store {folder} is damaged ({error}); delete it and build it again") from error


@dataclass(frozen=True)
class _Plan:
    portions: tuple[Portion, ...]
    lowercase: bool
    detokenise: str | None
    valid_share: float | None

    def pairs(self, name: str, progress: Progress) -> Iterator[tuple[int, Pair]]:
        """All pairs of the training paths or of the validation paths, each with the number of its portion."""
        for task, portion in enumerate(self.portions):
            paths = portion.paths if name == "train" else portion.valid
            if paths:
                for pair in read_pairs(
                    paths, portion.fields, portion.prefix, self.lowercase, self.detokenise, progress
                ):
                    yield task, pair


def build_pairs(
    portions: Sequence[Portion],
    folder_root: Path,
    tokeniser: Tokeniser | None = None,
    kind: str = "bpe",
    vocabulary_size: int | None = None,
    valid_share: float | None = None,
    lowercase: bool = False,
    detokenise: str | None = None,
    special_tokens: Sequence[str] = (),
    progress: Progress = silent,
) -> PairCorpus:
    """Read, split and tokenise pairs into a store below `folder_root`, or open the store of the same.

    One tokeniser serves both sides: the one given, or one of `kind` trained on sources and targets. A portion without
    validation files gives a part of its own, drawn by a hash of the source, so that equal sources stay together.
    Raises LLMBertError for pairs that cannot be read or are too few, and for a full disk.
    """
    if not portions or len(portions) > 255:
        raise UsageError(f"give between 1 and 255 sets of pairs, not {len(portions)}")
    folder_root = Path(folder_root)
    with refusing_full_disk(folder_root), ExitStack() as stack:
        folder_root.mkdir(parents=True, exist_ok=True)
        sweep_passing(folder_root)
        spool = Spool(folder_root, stack)
        plan = _Plan(tuple(_spooled(each, spool) for each in portions), lowercase, detokenise, valid_share)
        wanted = tokeniser.fingerprint if tokeniser else (kind, vocabulary_size)
        fingerprint, files = _fingerprint(plan, (wanted, *special_tokens), progress)
        folder = folder_root / fingerprint[:16]
        if folder.exists():
            try:
                return open_pairs(folder)
            except LLMBertError:
                shutil.rmtree(folder)
        passing = passing_folder(folder_root, folder.name, stack)
        split = _Split.of(plan, progress)
        tokeniser = (tokeniser or _train(split, kind, vocabulary_size, progress)).with_special_tokens(special_tokens)
        tokeniser.save(passing)
        _fill(passing, plan, split, tokeniser, {"fingerprint": fingerprint, "files": files}, progress)
        move_into_place(passing, folder)
    return open_pairs(folder)


def _spooled(portion: Portion, spool: Spool) -> Portion:
    """The portion with files in the place of what is no file, for it is read more than once."""

    def files(paths: tuple[str, ...]) -> tuple[str, ...]:
        def write(path: str, folder: Path) -> Path:
            (source,) = (each for each in pair_sources(paths) if each.path == path)
            if path == STANDARD_INPUT:
                return write_standard_input(folder / f"standard input{source.ending}")
            return write_rows(path, folder, (row for _, row in read_rows(source, Meter(silent, None))))

        return tuple(spool.files(paths, write))

    return replace(portion, paths=files(portion.paths), valid=portion.valid and files(portion.valid))


def _fingerprint(plan: _Plan, tokeniser: Any, progress: Progress) -> tuple[str, list[dict[str, Any]]]:
    listed = []
    for portion in plan.portions:
        for paths in (portion.paths, portion.valid or ()):
            sources = pair_sources(paths) if paths else []
            meter = Meter(renamed_progress(progress, "fingerprinting"), sum(source.size for source in sources))
            listed += [{"name": s.name, "bytes": s.size, "sha256": digest_of(s, meter)} for s in sources]
    rest = {"format": FORMAT, "tokeniser": tokeniser, "portions": [asdict(p) for p in plan.portions]}
    # Where a file lies is no part of what it says.
    for portion in rest["portions"]:
        portion.pop("paths"), portion.update(valid=bool(portion["valid"]))
    text = json.dumps([rest, plan.lowercase, plan.detokenise, plan.valid_share, listed], sort_keys=True, default=dict)
    return hashlib.sha256(("pairs" + text).encode()).hexdigest(), listed


@dataclass
class _Split:
    """Sends each pair to training or validation, as often as the files are read."""

    plan: _Plan
    valid: NDArray[np.bool_]  # of the pairs of the training paths, in order
    bytes: int  # of both sides, as UTF-8

    @classmethod
    def of(cls, plan: _Plan, progress: Progress) -> _Split:
        hashes, tasks, size = array("Q"), array("B"), 0
        for task, pair in plan.pairs("train", renamed_progress(progress, "surveying")):
            hashes.frombytes(blake2b(pair.group.encode(), digest_size=8).digest())
            tasks.append(task)
            size += sum(len(side) if side.isascii() else len(side.encode()) for side in (pair.source, pair.target))
        known, task_of = np.frombuffer(hashes, np.uint64), np.frombuffer(tasks, np.uint8)
        valid = np.zeros(len(known), np.bool_)
        for task, portion in enumerate(plan.portions):
            own = task_of == task
            if portion.valid is None:
                if own.sum() < 2:
                    raise LLMBertError("one pair cannot be split; give more pairs or a --valid file")
                valid[own] = drawn(known[own], plan.valid_share)
        return cls(plan, valid, size)

    def pairs(self, progress: Progress) -> Iterator[tuple[bool, int, Pair]]:
        for number, (task, pair) in enumerate(self.plan.pairs("train", progress)):
            if number >= len(self.valid):
                raise LLMBertError("the pairs changed while they were read; try again when nobody writes to the files")
            yield bool(self.valid[number]), task, pair
        for task, pair in self.plan.pairs("valid", progress):
            yield True, task, pair


def _train(split: _Split, kind: str, vocabulary_size: int | None, progress: Progress) -> Tokeniser:
    """One tokeniser of both sides of the training pairs, of an even share of them where they are many."""
    if kind not in TOKENISERS:
        raise UsageError(f"there is no tokeniser {kind!r}; choose one of {', '.join(TOKENISERS)}")
    limit = TOKENISERS[kind].sample_bytes
    share = min(1.0, limit / max(1, split.bytes)) if limit else 1.0
    pairs = split.pairs(renamed_progress(progress, "training the tokeniser"))
    texts = (side + "\n" for valid, _, pair in pairs if not valid for side in (pair.source, pair.target))
    return train_tokeniser(kind, spread(texts, share), vocabulary_size)


@dataclass
class _Writers:
    """The files of one split, being written."""

    source: ShardWriter
    target: ShardWriter
    task: array[int] = field(default_factory=lambda: array("B"))


def _fill(
    folder: Path,
    plan: _Plan,
    split: _Split,
    tokeniser: Tokeniser,
    described: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Write a whole store into an empty folder."""
    with ExitStack() as stack:
        writers = {
            name: _Writers(
                ShardWriter(folder, f"{name}.source", tokeniser, _source_frame(tokeniser)),
                ShardWriter(folder, f"{name}.target", tokeniser, tokeniser.target_frame),
            )
            for name in NAMES
        }
        for each in writers.values():
            stack.callback(each.source.close)
            stack.callback(each.target.close)
        texts = stack.enter_context((folder / "valid.jsonl").open("w", encoding="utf-8"))
        for is_valid, task, pair in split.pairs(renamed_progress(progress, "tokenising")):
            into = writers["valid" if is_valid else "train"]
            into.source.add(pair.place, [pair.source])
            into.target.add(pair.place, [pair.target])
            into.task.append(task)
            if is_valid:
                row = {"source": pair.source, "target": pair.target, "task": task}
                texts.write(json.dumps(row, ensure_ascii=False) + "\n")
        shards = {}
        for name, each in writers.items():
            if not each.task:
                raise LLMBertError(f"no pair is left for {'validation' if name == 'valid' else 'training'}; give more")
            np.save(folder / f"{name}.task.npy", np.frombuffer(each.task, np.uint8), allow_pickle=False)
            shards[name] = PairShard(each.source.finish(), each.target.finish(), np.frombuffer(each.task, np.uint8))
    whole = {
        **described,
        "format": FORMAT,
        "prefixes": [portion.prefix for portion in plan.portions],
        "settings": {
            "lowercase": plan.lowercase,
            "detokenise": plan.detokenise,
            "valid_share": plan.valid_share,
        },
        "tokeniser": {
            "kind": tokeniser.kind,
            "vocabulary_size": tokeniser.vocabulary_size,
            "fingerprint": tokeniser.fingerprint,
        },
        "dtype": str(shards["train"].source.ids.dtype.name),
        "unknown": {n: {"source": s.source.unknown, "target": s.target.unknown} for n, s in shards.items()},
        **{name: shard.describe() for name, shard in shards.items()},
        "overlap": _overlap(shards["train"], shards["valid"]),
    }
    (folder / "pairs.json").write_text(json.dumps(whole, ensure_ascii=False, indent=1, default=dict) + "\n", "utf-8")


def _source_frame(tokeniser: Tokeniser) -> Frame:
    """A source's frame with the begin token before it, as every document in a shard has one; batches leave it out."""
    before, behind = tokeniser.source_frame
    return (tokeniser.begin_id, *before), behind


def _overlap(train: PairShard, valid: PairShard) -> dict[str, int]:
    """How many held-out sources, targets and whole pairs stand in the training pairs too."""
    sources, targets = set(train.source.digests.tolist()), set(train.target.digests.tolist())
    both = set(zip(train.source.digests.tolist(), train.target.digests.tolist(), strict=True))
    pairs = list(zip(valid.source.digests.tolist(), valid.target.digests.tolist(), strict=True))
    return {
        "pairs": len(pairs),
        "sources": sum(source in sources for source, _ in pairs),
        "targets": sum(target in targets for _, target in pairs),
        "both": sum(pair in both for pair in pairs),
    }
