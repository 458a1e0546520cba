"""Numbers that carry their own proof: payment cards, IBANs, Chinese resident IDs; and the old IDs, which carry none.

Texts come with all characters of one width (`personal.normalise_widths`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import Any, NamedTuple

from llmbert.protocols import LLMBertError

BREAK = r"[ \-]?\r?\n[ \t]?"
"""A line's end within a number."""

_CLUSTER = re.compile(rf"[0-9](?:(?:[ \-.]|[ ]{{2}}|[ ]-[ ]|{BREAK})?[0-9]){{12,}}[Xx]?")
_THREE_MORE = re.compile(r"[ \-][0-9]{3}(?![0-9])")
_GROUP = re.compile(r"[0-9]+[Xx]?")
_MOST_GROUPS = 10
IN_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ \-][A-Za-z0-9]{4}){0,7}[ \-]\Z")
"""What stands before the middle of something written like an IBAN."""
_AFTER_POINT = re.compile(r"[0-9]\.\Z")
_LABEL = re.compile(r"(?<![A-Za-z0-9_])(?:id|no|nr|card|sfzh?)\Z", re.IGNORECASE)
"""What people write right before a number, without a space."""

CARD_GROUPS = {
    *((4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (6, 13), (8, 8)),
    *((4, 4, 4, 1), (4, 4, 5), (6, 10), (4, 12), (4, 4, 4, 2)),
}
"""How cards are written in groups of digits (ISO 7812 leaves it open; these are the issuers' ways)."""

ID_GROUPS = {(6, 8, 4), (6, 4, 4, 4), (6, 12), (14, 4), (3, 3, 8, 4), (3, 3, 4, 4, 4), (4, 4, 4, 4, 2), (4, 4, 4, 6)}

# First digits from … to …, and the lengths of a card that begins so. Longer beginnings come first.
_ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (955800, 955999, frozenset({16, 17, 18, 19})),  # debit cards of Chinese banks older than UnionPay
    (2221, 2720, frozenset({16})),  # Mastercard
    (2200, 2204, frozenset(range(16, 20))),  # Mir
    (3528, 3589, frozenset(range(16, 20))),  # JCB
    (6011, 6011, frozenset(range(16, 20))),  # Discover
    (6304, 6304, frozenset(range(16, 20))),  # Maestro, as 6759 to 6763, 50 and 56 to 58
    (6759, 6763, frozenset(range(16, 20))),
    (3095, 3095, frozenset({14})),  # Diners Club, as 300 to 305, 36, 38 and 39
    (300, 305, frozenset({14})),
    (644, 649, frozenset(range(16, 20))),
    (34, 34, frozenset({15})),  # American Express, as 37
    (37, 37, frozenset({15})),
    (36, 36, frozenset(range(14, 20))),
    (38, 39, frozenset(range(14, 20))),
    (50, 50, frozenset(range(16, 20))),
    (51, 55, frozenset({16})),
    (56, 58, frozenset(range(16, 20))),
    (60, 60, frozenset({16})),  # RuPay, as 81 and 82
    (62, 62, frozenset(range(16, 20))),  # UnionPay
    (65, 65, frozenset(range(16, 20))),
    (81, 82, frozenset(range(16, 20))),
    (4, 4, frozenset({13, 16, 19})),  # Visa
)

PROVINCES = frozenset(
    [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83, 91]
)
"""The first two digits of a resident ID (GB/T 2260)."""

_SAYS_ID = re.compile(r"(?:身份证|证件|identity|\bID\b)[^0-9\n]{0,16}\Z", re.IGNORECASE)


class Window(NamedTuple):
    """Some groups of digits that follow one another, as one number."""

    start: int
    end: int
    digits: str
    groups: tuple[int, ...]  # how many digits each has; what only a line's end parts is one group
    whole: bool  # all of its cluster


def stdnum_module(name: str) -> Any:
    """A module of python-stdnum. Raises LLMBertError where the library is missing."""
    from importlib import import_module

    try:
        return import_module(f"stdnum.{name}")
    except ImportError as error:
        raise LLMBertError(
            "finding cards, IBANs and IDs needs python-stdnum, which is not installed; pip install 'llmbert[privacy]'"
        ) from error


def find_numbers(text: str) -> Iterator[tuple[str, int, int]]:
    """Cards, IDs and old IDs as (kind, start, end); a number may be both an ID and a card."""
    for cluster in _CLUSTER.finditer(text):
        for window in _windows(text, cluster.start(), cluster.end()):
            kind = _kind(text, window)
            if kind is not None and _stands_alone(text, window.start, window.end):
                yield kind, window.start, window.end


def _kind(text: str, window: Window) -> str | None:
    length, digits = len(window.digits), window.digits
    if length == 18 and _grouped(window, ID_GROUPS) and is_resident_id(digits):
        return "id"
    if not digits.isdigit():
        return None
    says_id = _SAYS_ID.search(text, max(0, window.start - 24), window.start)
    if says_id and length == 15 and len(window.groups) == 1 and _is_old_id(digits):
        return "old_id"
    if length == 18 and _is_born(digits):  # an ID with a slip of the pen
        return None
    is_own = 13 <= length <= 19 and _grouped(window, CARD_GROUPS) and not _goes_on(text, window)
    return "card" if is_own and is_card(digits) else None


def _goes_on(text: str, window: Window) -> bool:
    """Whether digits that look like a card are a part of something longer: of an IBAN, of UnionPay's 19 digits."""
    if len(window.groups) == 1:
        return False
    rest = _THREE_MORE.match(text, window.end) if len(window.digits) == 16 else None
    return bool(IN_IBAN.search(text, max(0, window.start - 45), window.start)) or (
        rest is not None and window.digits[:2] in ("62", "81", "95")
    )


def _grouped(window: Window, known: set[tuple[int, ...]]) -> bool:
    """Whether the groups are a way of writing such a number; any is, where nothing else stands beside them."""
    return window.groups in known or len(window.groups) == 1 or (window.whole and min(window.groups) > 1)


def _windows(text: str, start: int, end: int) -> Iterator[Window]:
    """The numbers that groups of a cluster may make, with one line's end within at most."""
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    for first in range(len(groups)):
        digits, sizes, apart, breaks = "", [0], [0], 0
        for last in range(first, min(first + _MOST_GROUPS, len(groups))):
            begin, stop = groups[last]
            if last > first:
                between = text[groups[last - 1][1] : begin]
                breaks += "\n" in between
                apart.append(0)
                if between.strip("\r\n"):
                    sizes.append(0)
            digits += text[begin:stop].upper()
            sizes[-1] += stop - begin
            apart[-1] += stop - begin
            if len(digits) > 19 or breaks > 1:
                break
            if len(digits) >= 13:
                whole = first == 0 and last == len(groups) - 1
                span = groups[first][0], stop
                yield Window(*span, digits, tuple(sizes), whole)
                if apart != sizes:
                    yield Window(*span, digits, tuple(apart), whole)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter (but for a label's), digit or decimal point touches a number, nor the @ of an address."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    touched = before and (before[-1] == "_" or (before[-1].isascii() and before[-1].isalnum()))
    if touched and not _LABEL.search(text, max(0, start - 8), start):
        return False
    if after and (after[0] in "_@" or (after[0].isascii() and after[0].isalnum())):
        return False
    return not _AFTER_POINT.match(before) and not (after[:1] == "." and after[1:].isdigit())


def is_card(digits: str) -> bool:
    """Whether digits are a card's number: an issuer's beginning and length, and Luhn's check digit."""
    for low, high, lengths in _ISSUERS:
        if low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths:
            return len(set(digits)) > 1 and bool(stdnum_module("luhn").is_valid(digits))
    return False


def is_resident_id(number: str) -> bool:
    """Whether 18 characters are a Chinese resident ID: province, birthday, check character (GB 11643-1999)."""
    return _is_born(number) and bool(stdnum_module("cn.ric").calc_check_digit(number) == number[17])


def _is_born(number: str) -> bool:
    if not number[:17].isdigit() or int(number[:2]) not in PROVINCES or number[6:8] not in ("18", "19", "20"):
        return False
    return _is_day(int(number[6:10]), number[10:14])


def _is_old_id(digits: str) -> bool:
    return int(digits[:2]) in PROVINCES and _is_day(1900 + int(digits[6:8]), digits[8:12])


def _is_day(year: int, month_day: str) -> bool:
    try:
        date(year, int(month_day[:2]), int(month_day[2:]))
    except ValueError:
        return False
    return True


# ---- IBAN ----------------------------------------------------------------------------------------------------------

_IBAN = re.compile(r"[0-9]{2}(?<=(?<![A-Za-z0-9_])[A-Za-z]{2}[0-9]{2})(?=[ \-.\r\n]{0,2}[A-Za-z0-9])")
_IBAN_BREAK = re.compile(rf"{BREAK}|[ ]{{1,2}}|[\-.]")


@cache
def iban_length(country: str) -> int:
    """Characters of an IBAN of that country; 0 where it has none."""
    found = stdnum_module("numdb").get("iban").info(country)
    structure = found[0][1].get("bban", "") if found else ""
    return 4 + sum(map(int, re.findall(r"([0-9]+)!", structure))) if structure else 0


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """IBANs, in one piece or in groups apart by a space, a hyphen or one line's end."""
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        wanted = iban_length(text[start : start + 2].upper())
        end, number = _take(text, start, wanted)
        if not wanted or len(number) < wanted or (text[end : end + 1].isascii() and text[end : end + 1].isalnum()):
            continue
        # The countries' own check digits are left alone: what keeps the international one was meant as an IBAN.
        if stdnum_module("iban").is_valid(number, check_country=False):
            yield start, end


def _take(text: str, start: int, wanted: int) -> tuple[int, str]:
    """So many letters and digits from there on, and where they end; fewer where something else comes between."""
    number: list[str] = []
    at, breaks = start, 0
    while len(number) < wanted and at < len(text):
        if number and (between := _IBAN_BREAK.match(text, at)):
            breaks += "\n" in between[0]
            at = between.end()
        if breaks > 1 or at >= len(text) or not (text[at].isascii() and text[at].isalnum()):
            break
        number.append(text[at])
        at += 1
    return at, "".join(number).upper()
