"""Files to pairs of a source and a target: aligned lines, fields of records, turns of dialogues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from llmbert.data.records import read_rows, table_lines
from llmbert.data.sources import STANDARD_INPUT, Meter, Source, find_sources
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.text.detokenise import detokenise as detokenise_text
from llmbert.text.dialogue import SPEAKERS, Turn, reply_pairs
from llmbert.text.linearise import linearise

TEXT_ENDINGS = (".txt", ".md")
ROLES = ("source", "target", "turns")


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and what is to be made of it. group: pairs of one group stay in one split; place: for complaints."""

    source: str
    target: str
    group: str
    place: str


@dataclass(frozen=True)
class Portion:
    """One task's share of the data.

    paths: records, or two text files whose lines belong together (source, target); fields: which fields of a record
    are the source and the target ("a|b": the first one there is), or {"turns": NAME} for dialogues, where every turn
    after the first is the target of those before it; prefix: put before every source, to tell tasks apart.
    """

    paths: tuple[str, ...]
    valid: tuple[str, ...] | None = None
    fields: Mapping[str, str] | None = None
    prefix: str = ""


def read_pairs(
    paths: Sequence[str],
    fields: Mapping[str, str] | None = None,
    prefix: str = "",
    lowercase: bool = False,
    detokenise: str | None = None,
    progress: Progress = silent,
) -> Iterator[Pair]:
    """The pairs of some files; see `Portion`.

    detokenise: targets are tokens apart by spaces ("Hello , world ."), to be put together as people write: the
    language, with "+hyphens" where words were cut at hyphens too. A list of strings as a source is joined by spaces,
    any other structure (triples, an object) is written out by `linearise`; a list of strings as a target gives a pair
    for each. Raises LLMBertError for two text files of unequal length, a pair with an empty side, or a record without
    the field; UsageError for files that hold no pairs.
    """
    sources = pair_sources(paths)
    texts = [source for source in sources if source.ending in TEXT_ENDINGS]
    if texts and (len(texts) != 2 or len(sources) != 2 or fields):
        raise UsageError(
            f"pairs come from two text files whose lines belong together, or from records with --fields "
            f"source=NAME,target=NAME; {', '.join(source.name for source in sources)} is neither"
        )
    sizes = [source.size for source in sources]
    meter = Meter(progress, sum(sizes) if all(sizes) else None)
    pairs = _aligned(texts[0], texts[1], meter) if texts else _records(sources, meter, dict(fields or {}))
    language, _, hyphens = (detokenise or "").partition("+")
    found = False
    for pair in pairs:
        found = True
        _check(pair)
        target = detokenise_text(pair.target, language, bool(hyphens)) if language else pair.target
        sides = (pair.source, target, pair.group)
        source, target, group = (side.lower() for side in sides) if lowercase else sides
        yield Pair(prefix + source, target, prefix + group, pair.place)
    if not found:
        raise LLMBertError(f"no pair was found in {', '.join(map(str, paths))}; the files are empty")


def pair_sources(paths: Sequence[str]) -> list[Source]:
    """The files of some pairs; two that are named by their languages (train.en, train.de) are text, and standard input
    is JSONL unless it is one of two texts."""
    sources = find_sources(paths, usual=".txt" if len(paths) == 2 else None)
    if len(sources) == 2 and all(source.ending in TEXT_ENDINGS for source in sources):
        return sources
    return [replace(source, ending=".jsonl") if source.path == STANDARD_INPUT else source for source in sources]


def _check(pair: Pair) -> None:
    for side, text in (("source", pair.source), ("target", pair.target)):
        if not text or text.isspace():
            raise LLMBertError(f"{pair.place} has an empty {side}; remove the pair or fill it in")
        try:
            text.isascii() or text.encode()
        except UnicodeEncodeError as error:
            raise LLMBertError(f"{pair.place} holds half a character in its {side}; remove or replace it") from error


def _aligned(source: Source, target: Source, meter: Meter) -> Iterator[Pair]:
    lines = zip_longest(table_lines(source, meter), table_lines(target, meter))
    for number, (left, right) in enumerate(lines, 1):
        if left is None or right is None:
            rest = sum(1 for _ in lines)
            longer, shorter = (target, source) if left is None else (source, target)
            raise LLMBertError(
                f"{longer.name} has {number + rest:,} lines and {shorter.name} only {number - 1:,}; line by line they "
                f"must belong together"
            )
        left, right = left.rstrip("\r"), right.rstrip("\r")
        yield Pair(left, right, left, f"line {number} of {source.name} and {target.name}")


def _records(sources: Sequence[Source], meter: Meter, fields: dict[str, str]) -> Iterator[Pair]:
    unknown = [role for role in fields if role not in ROLES]
    if unknown:
        raise UsageError(f"--fields for pairs takes source=NAME,target=NAME or turns=NAME, not {unknown[0]}=")
    make = _dialogue_pairs if "turns" in fields else _field_pairs
    for source in sources:
        for place, record in read_rows(source, meter):
            yield from make(record, f"{source.name}, {place}", fields)


def _field_pairs(record: dict[str, Any], place: str, fields: dict[str, str]) -> Iterator[Pair]:
    source, target = (_need(record, fields.get(role, role), place) for role in ("source", "target"))
    with _saying(place):
        text = source if isinstance(source, str) else " ".join(source) if _is_texts(source) else linearise(source)
    if isinstance(target, str):
        yield Pair(text, target, text, place)
    elif _is_texts(target) or target == []:
        for each in target:
            yield Pair(text, each, text, place)
    else:
        raise LLMBertError(f"{place} holds no text in its target; give a string, or a list of strings")


def _dialogue_pairs(record: dict[str, Any], place: str, fields: dict[str, str]) -> Iterator[Pair]:
    found = [_turn(turn, place) for turn in _listed(_need(record, fields["turns"], place), place)]
    group = "\n".join(text for _, text in found)
    language = "zh" if sum("\u4e00" <= letter <= "\u9fff" for letter in group) > 0.2 * len(group) else "en"
    with _saying(place):
        turns = [
            Turn(speaker or SPEAKERS[language][number % 2], text)
            for number, (speaker, text) in enumerate(found)
            if text
        ]
    for source, target in reply_pairs(turns, language=language):
        yield Pair(source, target, group, place)


@contextmanager
def _saying(place: str) -> Iterator[None]:
    """What is refused within is refused with its place."""
    try:
        yield
    except LLMBertError as error:
        raise LLMBertError(f"{place}: {error}") from error


def _turn(turn: Any, place: str) -> tuple[str, str]:
    """Who speaks ("" where that is not said) and what."""
    text = turn.get("text") if isinstance(turn, dict) else turn
    speaker = turn.get("speaker") or "" if isinstance(turn, dict) else ""
    if not isinstance(text, str) or not isinstance(speaker, str):
        raise LLMBertError(f"{place} holds a turn that is no text; give strings, or objects with 'text' and 'speaker'")
    return speaker, text.strip()


def _listed(value: Any, place: str) -> list[Any]:
    if isinstance(value, str):
        return value.splitlines()
    if not isinstance(value, list):
        raise LLMBertError(f"{place} holds no list of turns; give a list of strings, or one string of lines")
    return value


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _need(record: dict[str, Any], names: str, place: str) -> Any:
    """The first field of `names` ("ref_tok|ref") that the record has."""
    for name in names.split("|"):
        if name in record:
            return record[name]
    known = ", ".join(repr(key) for key in list(record)[:20]) or "no fields at all"
    raise LLMBertError(f"{place} has no field {names!r} but {known}; name one of these with --fields source=…,target=…")
