"""Files → labelled examples: texts with a class, several, a number or a second text each; words with a tag each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llmbert.data.records import read_rows, table_lines
from llmbert.data.sources import PACKED, Meter, Source, find_sources
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.text.tags import all_tags, find_scheme, mend_tags

Task = Literal["classify", "multilabel", "tag", "regress", "embed"]
TASKS: dict[str, tuple[str, ...]] = {
    "classify": ("text", "text_b", "label"),
    "multilabel": ("text", "text_b", "label"),
    "tag": ("tokens", "tags"),
    "regress": ("text", "text_b", "label"),
    "embed": ("text", "text_b", "label"),
}
"""What can be learned from labelled text, and the fields each takes. embed: pairs of texts that mean the same or,
with a label, texts as alike as it says."""

COLUMN_FILES = (".conll", ".bio", ".iob", ".bioes", ".bmes", ".txt")
BETWEEN_LABELS = "|"  # in a table, where a field cannot be a list


@dataclass
class Examples:
    """Labelled texts as they were read; example i is row i of each list.

    texts: each a text, or for tags a list of words; others: second texts, or None; labels: each a str, a list of str
    (several labels, tags) or a float, or None where pairs have none; notes: what was passed over or mended, by name.
    """

    task: str
    texts: list[Any]
    others: list[str] | None
    labels: list[Any] | None
    notes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> Examples:
        """Those rows alone, in that order; what was noted of all that was read is noted of no part."""

        def some(values: list[Any] | None) -> list[Any] | None:
            return None if values is None else [values[i] for i in rows]

        return Examples(self.task, [self.texts[i] for i in rows], some(self.others), some(self.labels))

    def counts(self) -> dict[str, int]:
        """How many examples (for tags: words) have each label, the most frequent first; {} for numbers and pairs."""
        if self.labels is None or self.task in ("regress", "embed"):
            return {}
        found: Counter[str] = Counter()
        for label in self.labels:
            found.update([label] if isinstance(label, str) else label)
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything in it, in hexadecimal."""
        digest = hashlib.sha256(self.task.encode())
        for row in zip(self.texts, self.others or self.texts, self.labels or self.texts, strict=True):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def read_examples(
    paths: Sequence[str], task: str, fields: Mapping[str, str] | None = None, progress: Progress = silent
) -> Examples:
    """The labelled examples of files, folders, globs and "hub:NAME", in order.

    Records (.jsonl, .json, .csv, .tsv, .parquet, each also .gz or .zst) have fields text, text_b (a second text) and
    label, or tokens and tags; `fields` says what they are called ("left.name" is field name of field left). Tags may
    also stand in columns (.txt, .conll, .bio), a word a line and a blank line between sentences; `fields` then gives
    numbers of columns from 0, or from -1 backwards. Several labels are a list, in a table divided by "|".
    Blank texts are passed over and counted in `notes`.

    Raises UsageError for an unknown task or field name, LLMBertError for a record that lacks what it should have.
    """
    if task not in TASKS:
        raise UsageError(f"there is no task {task!r} to learn from labels; there are {', '.join(TASKS)}")
    named = dict(fields or {})
    for name in named:
        if name not in TASKS[task]:
            raise UsageError(f"{task} takes the fields {', '.join(TASKS[task])}, not {name!r}; write --fields NAME=…")
    sources = [source for path in paths for source in _sources(path)]
    if not sources:
        raise LLMBertError("no labelled data was named; give a file, a folder or a glob")
    sizes = [source.size for source in sources]
    meter = Meter(progress, sum(sizes) if all(sizes) else None)
    found = Examples(task, [], [] if named.get("text_b") or task == "embed" else None, [], {})
    for source in sources:
        if source.ending == ".txt":
            if task != "tag":
                raise LLMBertError(f"{source.name} holds no fields; give {task} a .jsonl, .json, .csv or .tsv file")
            _read_columns(source, meter, named, found)
        else:
            _read_records(source, meter, named, found)
    if not found.texts:
        raise LLMBertError(f"no labelled example was found in {', '.join(map(str, paths))}; every record is blank")
    if found.labels is not None and not found.labels:
        found.labels = None
    return _mended(found) if task == "tag" else found


def _sources(path: str) -> list[Source]:
    """As `find_sources`, and files of columns whatever their ending."""
    name = Path(path).name
    packed = next((ending for ending in PACKED if name.lower().endswith(ending)), "")
    if Path(name.lower().removesuffix(packed)).suffix in COLUMN_FILES and Path(path).is_file():
        return [Source(path, name, ".txt", packed)]
    return find_sources([path])


# ---- records -------------------------------------------------------------------------------------------------------


def _read_records(source: Source, meter: Meter, named: Mapping[str, str], found: Examples) -> None:
    for place, record in read_rows(source, meter):
        row = _Record(source, place, record, named)
        if found.task == "tag":
            words, tags = row.strings("tokens"), row.strings("tags")
            if len(words) != len(tags):
                raise row.refusal(f"has {len(words)} tokens and {len(tags)} tags; give one tag for each token")
            if words:
                found.texts.append(words)
                _labels(found).append(tags)
            continue
        texts = [row.text("text")] + ([row.text("text_b")] if found.others is not None else [])
        if not all(text.strip() for text in texts):
            found.notes["blank"] = found.notes.get("blank", 0) + 1
            continue
        found.texts.append(texts[0])
        if found.others is not None:
            found.others.append(texts[1])
        if found.task == "embed" and not row.has("label"):
            if found.labels:
                raise row.refusal("has no label, but those before it do; give all pairs a label or none")
            continue
        _labels(found).append(_LABELS[found.task](row))
        if len(_labels(found)) != len(found.texts):
            raise row.refusal("has a label, but those before it have none; give all pairs a label or none")


def _labels(found: Examples) -> list[Any]:
    assert found.labels is not None
    return found.labels


class _Record:
    """One record and how its fields are called; refuses what is not there in one sentence."""

    def __init__(self, source: Source, place: str, record: Mapping[str, Any], named: Mapping[str, str]) -> None:
        self._source, self._place, self._record, self._named = source, place, record, named

    def refusal(self, what: str) -> LLMBertError:
        return LLMBertError(f"{self._source.name}, {self._place} {what}")

    def has(self, name: str) -> bool:
        return name in self._named or name in self._record

    def value(self, name: str) -> Any:
        called = self._named.get(name, name)
        if called in self._record:
            return self._record[called]
        value: Any = self._record
        for part in called.split("."):
            if not isinstance(value, Mapping) or part not in value:
                names = ", ".join(repr(known) for known in list(self._record)[:20]) or "no fields at all"
                raise self.refusal(f"has no field {called!r} but {names}; name it with --fields {name}=NAME")
            value = value[part]
        return value

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise self.refusal(f"holds no text in field {self._named.get(name, name)!r} but {value!r}; give text there")
        return _whole(self, value)

    def label(self) -> str:
        value = self.value("label")
        if isinstance(value, bool | int | str) and str(value).strip():
            return _whole(self, str(value))
        raise self.refusal(f"holds no label in field {self._named.get('label', 'label')!r} but {value!r}; give one")

    def several(self) -> list[str]:
        value = self.value("label")
        if isinstance(value, str):
            value = split_labels(value)
        if not isinstance(value, list) or not all(isinstance(part, str | int) for part in value):
            raise self.refusal(f"holds no list of labels but {value!r}; give a list, or labels with | between")
        return [_whole(self, str(part)) for part in value]

    def number(self) -> float:
        value = self.value("label")
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if number != number or number in (float("inf"), float("-inf")):
            raise self.refusal(f"holds no number as its label but {value!r}; give one")
        return number

    def strings(self, name: str) -> list[str]:
        value = self.value(name)
        if isinstance(value, str):  # in a table
            value = value.split()
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise self.refusal(f"holds no list of strings in field {self._named.get(name, name)!r}; give one")
        return [_whole(self, part) for part in value]


def split_labels(text: str) -> list[str]:
    """The labels that stand in one field of a table: "sport|health" → ["sport", "health"]."""
    return [part.strip() for part in text.split(BETWEEN_LABELS) if part.strip()]


def _whole(row: _Record, text: str) -> str:
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise row.refusal(f"holds half a character (U+{code:04X}); remove or replace it") from error
    return text


_LABELS = {"classify": _Record.label, "multilabel": _Record.several, "regress": _Record.number, "embed": _Record.number}


# ---- columns and tags ----------------------------------------------------------------------------------------------


def _read_columns(source: Source, meter: Meter, named: Mapping[str, str], found: Examples) -> None:
    """A word a line with its tag in another column, a blank line between sentences (CoNLL 2003)."""
    try:
        columns = int(named.get("tokens", 0)), int(named.get("tags", -1))
    except ValueError as error:
        raise UsageError(f"{source.name} has columns: give their numbers, --fields tokens=0,tags=-1") from error
    words: list[str] = []
    tags: list[str] = []
    width = 0
    for number, line in enumerate(_and_blank(table_lines(source, meter)), 1):
        line = line.removesuffix("\r")
        parts = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or parts[0] == "-DOCSTART-":
            if words:
                found.texts.append(words)
                _labels(found).append(tags)
            words, tags = [], []
            continue
        width = width or len(parts)
        if len(parts) != width or not -width <= min(columns) <= max(columns) < width or width < 2:
            raise LLMBertError(
                f"{source.name}, line {number} has {len(parts)} columns where {max(2, width)} were expected; give a "
                "word and its tag on each line, and a blank line between sentences"
            )
        words.append(parts[columns[0]])
        tags.append(parts[columns[1]].strip())


def _and_blank(lines: Iterator[str]) -> Iterator[str]:
    yield from lines
    yield ""


def _mended(found: Examples) -> Examples:
    """Tags written as their scheme has it; how many sentences had to be is noted."""
    scheme = find_scheme(tag for tags in _labels(found) for tag in tags)
    if scheme is None:
        return found
    mended = [mend_tags(tags, scheme) for tags in _labels(found)]
    found.notes["mended"] = sum(a != b for a, b in zip(mended, _labels(found), strict=True))
    found.labels = mended
    return found


# ---- labels --------------------------------------------------------------------------------------------------------


def label_names(examples: Examples) -> list[str]:
    """The labels that occur, sorted; for span tags all tags of the scheme, so that any span can be written.

    Raises LLMBertError where there is but one class to tell apart.
    """
    names = sorted(examples.counts())
    if examples.task == "classify" and len(names) < 2:
        raise LLMBertError(f"every example has the label {names[0]!r}; give examples of at least two classes")
    scheme = find_scheme(names) if examples.task == "tag" else None
    return all_tags(names, scheme) if scheme else names


def check_labels(examples: Examples, names: Sequence[str], where: str) -> None:
    """Refuse examples with a label that `names` lacks. where: what to call the examples."""
    unknown = sorted(set(examples.counts()) - set(names))
    if unknown:
        others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise LLMBertError(
            f"{where} has the label {unknown[0]!r}{others}, which no training example has; correct or remove it"
        )


def split_examples(examples: Examples, share: float) -> tuple[Examples, Examples]:
    """Training and held-out examples, told apart by a hash of the text: the same text is always on the same side.

    An example whose label would be met nowhere else is learned from. What was noted of all of them stays with the
    training ones. Raises LLMBertError where one side would be empty.
    """
    hashes = [_hash(text) for text in examples.texts]
    limit = max(int(share * 2**32), min(hashes) + 1)  # of few texts at least one
    held = [number < limit for number in hashes]
    if examples.counts():
        train_labels = set(examples.take([i for i, out in enumerate(held) if not out]).counts())
        alone = [out and not _labels_at(examples, i) <= train_labels for i, out in enumerate(held)]
        held = [out and not only for out, only in zip(held, alone, strict=True)]
    train, valid = ([i for i, out in enumerate(held) if out is side] for side in (False, True))
    if not train or not valid:
        raise LLMBertError(f"{len(examples)} examples are too few to hold any out; give more, or a --valid file")
    return replace(examples.take(train), notes=examples.notes), examples.take(valid)


def _labels_at(examples: Examples, row: int) -> set[str]:
    label = _labels(examples)[row]
    return {label} if isinstance(label, str) else set(label)


def split_folds(examples: Examples, folds: int, seed: int) -> list[tuple[Examples, Examples]]:
    """(training, held-out) for each of `folds` parts of shuffled examples: each example is held out once, and the same
    text is always on the same side. Raises UsageError where there are fewer texts than folds."""
    groups: dict[int, list[int]] = {}
    for row in np.random.default_rng(seed).permutation(len(examples)).tolist():
        groups.setdefault(_hash(examples.texts[row]), []).append(row)
    if not 2 <= folds <= len(groups):
        raise UsageError(f"folds must lie between 2 and the {len(groups)} different texts, not {folds}")
    parts: list[list[int]] = [[] for _ in range(folds)]
    for rows in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).extend(rows)
    rest = [[row for other in parts if other is not part for row in other] for part in parts]
    return [(examples.take(a), examples.take(b)) for a, b in zip(rest, parts, strict=True)]


def _hash(text: Any) -> int:
    plain = text if isinstance(text, str) else "\x00".join(text)
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=4).digest())
