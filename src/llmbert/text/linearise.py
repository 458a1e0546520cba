"""Records as one line a model reads: slots "name[Blue Spice], eatType[pub]", or triples "subject | property | object".

And names out of such records and of their texts, and back in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmbert.protocols import UsageError

Slots = list[tuple[str, str]]
Triples = list[tuple[str, str, str]]
BETWEEN_TRIPLES = " && "
NAMES = ("name", "near")
"""The slots of E2E whose values are names, which no model can know beforehand."""

_SLOT = re.compile(r"\s*(?P<name>[^\[\],\\]+?)\s*\[(?P<value>(?:[^\]\\]|\\.)*)\]\s*(?:,|$)", re.DOTALL)
_VALUE = re.compile(r"\[(?:[^\]\\]|\\.)*\]", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WORD_EDGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def linearise(record: Any) -> str:
    """A record in the form models are trained on.

    A mapping becomes slots, a list of three-part lists (or a mapping with "triples") becomes triples. A string may be
    either form already, or JSON of such a record. Raises UsageError for anything else.
    """
    if isinstance(record, str):
        return _of_text(record)
    if isinstance(record, Mapping):
        if isinstance(record.get("triples"), list | tuple):
            return linearise(record["triples"])
        return format_slots(slots_of(record))
    if isinstance(record, Sequence) and record and all(_is_triple(item) for item in record):
        return format_triples(tidy_triple(*item) for item in record)
    if _is_triple(record):
        return format_triples([tidy_triple(*record)])
    raise UsageError(
        f"this is no record: {str(record)[:60]!r}; give an object, a list of [subject, property, object], or text "
        'like "name[Blue Spice], eatType[pub]"'
    )


def _of_text(text: str) -> str:
    bare = text.strip()
    if bare[:1] in ("{", "["):
        try:
            return linearise(json.loads(bare))
        except ValueError as error:
            raise UsageError(f"this record is not JSON ({error}): {bare[:60]!r}; mend it") from error
    if "[" in bare and not _BAR.search(_VALUE.sub("", bare)):  # a triple may hold brackets, and a slot's value bars
        return format_slots(parse_slots(bare))
    return format_triples(parse_triples(bare))


def _is_triple(item: Any) -> bool:
    return (
        isinstance(item, Sequence)
        and not isinstance(item, str)
        and len(item) == 3
        and all(isinstance(part, str | int | float) for part in item)
    )


def slots_of(record: Mapping[str, Any]) -> Slots:
    """An object's slots: nested ones as "address.city", each item of a list a slot of its own, yes and no for true and
    false; null is left out. Raises UsageError where nothing is left."""
    found = list(_slots_of(record, ""))
    if not found:
        raise UsageError("the record is empty; give at least one field with a value")
    return found


def _slots_of(record: Mapping[str, Any], before: str) -> Iterable[tuple[str, str]]:
    for key, value in record.items():
        name = before + str(key)
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Mapping):
                yield from _slots_of(item, f"{name}.")
            elif isinstance(item, bool):
                yield name, "yes" if item else "no"
            elif item is not None:
                yield name, str(item)


def format_slots(slots: Iterable[tuple[str, str]]) -> str:
    """`name[value], name[value]`; in a value \\, ] and a line end are written \\\\, \\] and \\n.

    `parse_slots` undoes it. Raises UsageError for a name that is empty or holds a bracket, a comma or a backslash.
    """
    parts = []
    for name, value in slots:
        if not name or name != name.strip() or re.search(r"[\[\],\\\n]", name):
            raise UsageError(f"a slot's name must be free of brackets, commas and outer spaces, unlike {name!r}")
        parts.append(f"{name}[{_escaped(value, ']')}]")
    return ", ".join(parts)


def parse_slots(text: str) -> Slots:
    """The slots of a meaning representation, in order. Raises UsageError naming the place that is off."""
    slots, at = [], 0
    while at < len(text.rstrip()):
        match = _SLOT.match(text, at)
        if not match:
            raise UsageError(
                f'the record is off at "{text[at : at + 40].strip()}"; write slots as name[value], name[value]'
            )
        slots.append((match["name"], _unescaped(match["value"])))
        at = match.end()
    if not slots:
        raise UsageError("the record is empty; write slots as name[value], name[value]")
    return slots


def format_triples(triples: Iterable[tuple[str, str, str]]) -> str:
    """`subject | property | object`, several with " && " between; \\, |, & and line ends in a part are escaped by \\.

    `parse_triples` undoes it, outer spaces of a part aside.
    """
    return BETWEEN_TRIPLES.join(" | ".join(_escaped(part, "|&") for part in triple) for triple in triples)


def parse_triples(text: str) -> Triples:
    """The triples of a text, apart by && or line ends. Raises UsageError where one has not three parts."""
    triples: Triples = []
    for each in re.split(r"\s*(?<!\\)&(?<!\\&)&\s*|\n", text):
        if not each.strip():
            continue
        parts = [_unescaped(part.strip()) for part in _BAR.split(each)]
        if len(parts) != 3:
            raise UsageError(
                f'"{each.strip()[:60]}" has {len(parts)} parts, not three; write subject | property | object'
            )
        triples.append((parts[0], parts[1], parts[2]))
    if not triples:
        raise UsageError("the record is empty; write subject | property | object")
    return triples


def tidy_triple(subject: Any, relation: Any, value: Any) -> tuple[str, str, str]:
    """A triple of DBpedia as words: "Aarhus_Airport" → "Aarhus Airport", "cityServed" → "city served", quotes off."""
    words = _WORD_EDGE.sub(" ", _tidy(relation))
    parts = [word.lower() if word.istitle() and at else word for at, word in enumerate(words.split(" "))]
    return _tidy(subject), " ".join(parts), _tidy(value)


def _tidy(part: Any) -> str:
    text = str(part).replace("_", " ").strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _escaped(text: str, marks: str) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    for mark in marks:
        text = text.replace(mark, f"\\{mark}")
    return text


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


# ---- names out and in (delexicalisation, Wen et al. 2015) -----------------------------------------------------------


def placeholder(slot: str) -> str:
    """What stands for a slot's value: "X-name", one word to every tokeniser of words."""
    return f"X-{'-'.join(slot.split())}"


def placeholder_values(slots: Iterable[tuple[str, str]], names: Iterable[str] = NAMES) -> dict[str, str]:
    """Placeholder → value, of those slots among `names` that have a value; of a slot given twice the first."""
    wanted = set(names)
    found: dict[str, str] = {}
    for slot, value in slots:
        if slot in wanted and value.strip():
            found.setdefault(placeholder(slot), value)
    return found


def delexicalise_slots(slots: Iterable[tuple[str, str]], names: Iterable[str] = NAMES) -> list[tuple[str, str]]:
    """The slots with placeholders as the values of those among `names`."""
    values = placeholder_values(slots, names)
    return [(slot, placeholder(slot) if values.get(placeholder(slot)) == value else value) for slot, value in slots]


def delexicalise(text: str, values: Mapping[str, str]) -> str:
    """The text with a placeholder wherever a value stands as whole words, exactly as written.

    values: placeholder → value. The longest value that fits is taken. A text that `relexicalise` would not give back,
    because it holds a placeholder already or two names touch, is left as it is.
    """
    by_value: dict[str, str] = {}
    for mark, value in values.items():
        by_value.setdefault(value, mark)
    if not by_value or any(mark.lower() in text.lower() for mark in values):
        return text
    bare = _whole_words(by_value).sub(lambda match: by_value[match[0]], text)
    return bare if relexicalise(bare, values) == text else text


def relexicalise(text: str, values: Mapping[str, str]) -> str:
    """The text with values in place of their placeholders, which may have lost their capitals on the way."""
    if not values:
        return text
    by_mark = {mark.lower(): value for mark, value in values.items()}
    found = _whole_words(values, re.IGNORECASE)
    return found.sub(lambda match: by_mark[match[0].lower()], text)


def left_placeholders(text: str) -> list[str]:
    """Placeholders for which no value was known."""
    return re.findall(r"\bX-[a-z][\w-]*", text)


def _whole_words(parts: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """Any of the parts, longest first, not inside a word; Chinese, which has no spaces, bounds none."""
    alternatives = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
    letter = r"[^\W_\u3040-\u30ff\u3400-\u9fff]"
    return re.compile(rf"(?<!{letter})(?<!{letter}-)(?:{alternatives})(?!{letter})(?!-{letter})", flags)
