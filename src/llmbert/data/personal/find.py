"""A text → where personal data stands in it: mail, phones, cards, IBANs, resident IDs, IP addresses, names.

Each kind has its own finder; none logs or raises with what it found.
"""

from __future__ import annotations

import ipaddress
import re
import string
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from llmbert.data.personal.numbers import find_ibans, find_numbers
from llmbert.data.personal.phones import find_phones
from llmbert.protocols import UsageError

REGIONS = ("CN", "US", "GB")
"""Whose national forms of phone numbers are known; international ones are known of all."""

KINDS: dict[str, str] = {
    "iban": "checksum",
    "id": "checksum",
    "card": "checksum",
    "mail": "form",
    "ip": "form",
    "phone": "numbering plan",
    "old_id": "form",
    "name": "model",
}
"""Each kind, and on what it rests. iban: ISO 13616, ISO 7064 modulo 97; id: GB 11643-1999, 18 characters with birthday
and check character; card: ISO 7812, Luhn's formula and the issuers' lengths; mail: RFC 5321 and ways to write around
it; phone: the numbering plans of `phonenumbers`; old_id: 15 digits with a birthday, where the text says that it is an
ID; name: what a tagger says. The order settles ties."""

CHECKSUMMED = frozenset(kind for kind, ground in KINDS.items() if ground == "checksum")


class Find(NamedTuple):
    """Personal data of a kind at text[start:end], in characters of the text as it was given."""

    kind: str
    start: int
    end: int


Tagger = Callable[[str], Iterable[tuple[int, int]]]
"""A text → where names of persons begin and end in it."""


def find_personal(
    text: str,
    kinds: Collection[str] | None = None,
    *,
    names: Tagger | None = None,
    regions: Sequence[str] = REGIONS,
) -> list[Find]:
    """The finds in a text, in order, none overlapping another (see `resolve`).

    kinds: of KINDS, all by default; names: finds the persons, without it there are none; regions: ISO 3166 codes whose
    national phone numbers are known. Raises UsageError for a kind or region there is not, LLMBertError where a library
    is missing.
    """
    wanted = check_kinds(kinds)
    plain = normalise_widths(text)
    found = [Find("name", start, end) for start, end in names(text)] if names and "name" in wanted else []
    if not _SIGNS.search(plain):
        return resolve(found)
    if "mail" in wanted:
        found += [Find("mail", *span) for span in _mails(plain)]
    if "ip" in wanted:
        found += [Find("ip", *span) for span in _addresses(plain)]
    if "iban" in wanted:
        found += [Find("iban", *span) for span in find_ibans(plain)]
    if wanted & {"card", "id", "old_id"}:
        found += [Find(*each) for each in find_numbers(plain) if each[0] in wanted]
    if "phone" in wanted:
        found += [Find("phone", *span) for span in find_phones(plain, regions)]
    return resolve(found)


_SIGNS = re.compile(r"[0-9@]|[ (\[{<][Aa][Tt][ )\]}>]")  # without one of these a text holds nothing but names


def check_kinds(kinds: Collection[str] | None) -> frozenset[str]:
    """The kinds asked for, all where None. Raises UsageError for one there is not."""
    wanted = frozenset(KINDS if kinds is None else kinds)
    if unknown := sorted(wanted - set(KINDS)):
        raise UsageError(f"there is no kind {unknown[0]!r}; kinds of personal data are {', '.join(KINDS)}")
    if not wanted:
        raise UsageError(f"name at least one kind of {', '.join(KINDS)}")
    return wanted


def resolve(found: Iterable[Find]) -> list[Find]:
    """Finds without overlaps: of two that overlap the one with a checksum stays, then the longer one, then the one
    whose kind comes first in KINDS, then the earlier one."""
    order = list(KINDS)
    ranked = sorted(
        {find for find in found if find.start < find.end},
        key=lambda f: (f.kind not in CHECKSUMMED, f.start - f.end, order.index(f.kind), f.start),
    )
    return _kept(ranked)


def _kept(ranked: Sequence[Find]) -> list[Find]:
    """Those that overlap none before them; a sorted list of those kept is searched, so many finds stay cheap."""
    kept: list[tuple[int, int, str]] = []
    for kind, start, end in ranked:
        at = bisect_left(kept, (start, end, ""))
        before = kept[at - 1][1] if at else 0
        after = kept[at][0] if at < len(kept) else end
        if before <= start and end <= after:
            insort(kept, (start, end, kind))
    return [Find(kind, start, end) for start, end, kind in kept]


# ---- one width -----------------------------------------------------------------------------------------------------

_WIDTHS = {chr(0xFEE0 + ord(c)): c for c in string.digits + string.ascii_letters + "@+-().%/#_"}  # full-width forms
_WIDTHS |= dict.fromkeys(map(chr, [*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63]), "-")
_WIDTHS |= dict.fromkeys(map(chr, [0xA0, *range(0x2000, 0x2010), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF, 0xAD]), " ")
_WIDE = re.compile("[" + "".join(map(re.escape, _WIDTHS)) + "]")


def normalise_widths(text: str) -> str:
    """The text with full-width letters, digits and signs of numbers, and dashes and spaces of all kinds, as ASCII; as
    long as before."""
    return text if text.isascii() else _WIDE.sub(lambda wide: _WIDTHS[wide[0]], text)


# ---- mail ----------------------------------------------------------------------------------------------------------

# What stands for the @, each begun by what is quickly looked for.
_ATS = tuple(map(re.compile, ("@", "%40", " AT ", r"[(\[{<][ ]?[Aa][Tt][ ]?[)\]}>]")))
_LETTER = r"A-Za-z0-9\u00c0-\u024f"
_LOCAL = re.compile(rf"(?:\"[^\"\n]{{1,62}}\"|[{_LETTER}!#$%&'*+/=?^_`{{|}}~.-]{{1,64}})\Z")
_DOT = r"(?:\.|(?-i:[ ]DOT[ ])|[ ]?[(\[{<][ ]?dot[ ]?[)\]}>][ ]?)"
_LABEL = rf"[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?"
_DOMAIN = re.compile(
    rf"(?:{_LABEL}{_DOT}){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}})(?![{_LETTER}-])"
    r"|\[(?:[0-9]{1,3}\.){3}[0-9]{1,3}\]",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[a-z]{2})\.[A-Z][a-z]+\Z")  # "…@example.com.Please": a space is missing there
_ENDINGS = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|css|js)\Z", re.IGNORECASE)  # logo@2x.png is a file
_FRINGE = "!#$%&'*+/=?^`{|}~.-"  # may stand in a local part, and hardly ever begins one


def _mails(text: str) -> Iterator[tuple[int, int]]:
    for sign in _ATS:
        for at in sign.finditer(text):
            before, after = at.start(), at.end()
            if text[before] in "([{<":  # joe [at] example
                before -= text[before - 1 : before] == " "
                after += text[after : after + 1] == " "
            if (span := _mail(text, before, after)) is not None:
                yield span


def _mail(text: str, before: int, after: int) -> tuple[int, int] | None:
    """The address whose local part ends at `before` and whose domain begins at `after`."""
    local = _LOCAL.search(text, max(0, before - 64), before)
    domain = _DOMAIN.match(text, after) if local else None
    if local is None or domain is None or _ENDINGS.search(domain[0]):
        return None
    name = local[0]
    # 'mail=joe@…', 'a|joe@…': what stands before the last of these is no part of the address.
    cut = max((name.rfind(mark) for mark in "=|?&`{}/"), default=-1) + 1 if name[0] != '"' else 0
    emphasised = text[domain.end() : domain.end() + 1] == "_"
    name = name[cut:].lstrip(_FRINGE + "_" * emphasised)
    if not name or ".." in name or name.endswith("."):
        return None
    late = _SENTENCE.search(domain[0])
    return before - len(name), domain.end() - (len(late[0]) if late else 0)


# ---- addresses of machines -----------------------------------------------------------------------------------------

_V4_END = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9]|\.[0-9])")
_V4_BEGINNING = re.compile(r"(?<![0-9.])[0-9]{1,3}\Z")
_VERSION = re.compile(r"(?:\bv|\bver|version|release|firmware|build|版本|版|固件)[ .:号为是]{0,3}\Z", re.IGNORECASE)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_BEFORE_COLONS, _FROM_COLONS = re.compile(r"[0-9A-Fa-f:]*\Z"), re.compile(r"[0-9A-Fa-f:.]*")


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    for match in _V4_END.finditer(text):
        beginning = _V4_BEGINNING.search(text, max(0, match.start() - 3), match.start())
        if beginning is None:
            continue
        start, end = beginning.start(), match.end()
        says_version = _VERSION.search(text, max(0, start - 12), start)
        if not says_version and _stands_alone(text, start, end) and _is_address(text[start:end]):
            yield start, end
    end = 0
    for colons in _COLONS.finditer(text):
        if colons.start() >= end:
            before_colons = _BEFORE_COLONS.search(text, max(0, colons.start() - 40), colons.start())
            from_colons = _FROM_COLONS.match(text, colons.start(), colons.start() + 46)
            assert before_colons and from_colons
            start, end = before_colons.start(), from_colons.end()
            if text[start] == ":" and text[start + 1] != ":":  # "address:2001:…"
                start += 1
            # "::1." ends a sentence, "fe80::1:" begins a list.
            while end > start and text[end - 1] in ".:" and not text.startswith("::", end - 2):
                end -= 1
            has_digit = any(map(str.isdigit, text[start:end]))  # a::b is C++
            if has_digit and _stands_alone(text, start, end) and _is_address(text[start:end]):
                yield start, end


def _stands_alone(text: str, start: int, end: int) -> bool:
    around = text[start - 1 : start] + text[end : end + 1]
    return not any(c == "_" or (c.isascii() and c.isalnum()) for c in around)


def _is_address(text: str) -> bool:
    try:
        # Octets filled with zeros are written, though no library reads them.
        ipaddress.ip_address(text if ":" in text else ".".join(str(int(octet)) for octet in text.split(".")))
    except ValueError:
        return False
    return True
