"""Phone numbers: forms in which people write them, each tried against the numbering plans of `phonenumbers`.

The library's own matcher is not used: it takes two numbers beside each other for one, gives up on a text after 65,535
candidates, and reads a megabyte in a second. Texts come with all characters of one width (`personal.normalise_widths`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from llmbert.data.personal.numbers import BREAK, IN_IBAN
from llmbert.protocols import LLMBertError, UsageError

Span = tuple[int, int]

_GAP = rf"(?:[ .\-]|[ ]-[ ]|{BREAK})"
_EXTENSION = re.compile(
    r"(?:[ ]?(?:转|轉|分机)[ ]?[0-9]{1,6}"
    r"|[ ]?,?[ ]?(?:x|ext\.?|extension)[ ]?[0-9]{1,6}|[ ]?#[0-9]{1,6})(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_DIRECT = re.compile(r"-[0-9]{1,5}(?![0-9A-Za-z\-])")  # 010-12345678-8001

_CLUSTER = re.compile(r"[+(\[0-9][0-9 .\-()\[\]/+\r\n]*")  # taken whole: looking for its last digit here is quadratic
_BEHIND = " .-()[]/+\r\n"
# Each begins at its first digit, + or bracket. A gap is a space, dot, hyphen, or a line's end.
_INTERNATIONAL = re.compile(
    rf"(?<![0-9])(?:\(\+[1-9][0-9]{{0,2}}\)|\+[ ]?\(?[1-9]|(?<![0-9])00[1-9])"
    rf"(?:{_GAP}?\(?[0-9]+\)?|[ ]?/[ ]?[0-9]+){{1,8}}"
)
_CN_MOBILE = re.compile(
    rf"(?<![0-9])(?:\(?(?:\+|00)?86\)?{_GAP}?|0)?"
    rf"(?:1[3-9][0-9]{{9}}|1[3-9][0-9]{_GAP}(?:[0-9]{{4}}{_GAP}?[0-9]{{4}}|[0-9]{{3}}{_GAP}[0-9]{{5}})"
    rf"|1[3-9][0-9]{{2}}{_GAP}[0-9]{{3}}{_GAP}[0-9]{{4}}|1[3-9][0-9]{{2}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{3}}"
    rf"|1[3-9][0-9]{{5}}{_GAP}[0-9]{{4}}|1[3-9][0-9](?:{_GAP}[0-9]{{2}}){{4}}|1[3-9](?=[0-9]*{BREAK})(?:{BREAK}|[0-9]){{9}}[0-9])(?![0-9])"
)
_CN_FIXED = re.compile(
    rf"(?<![0-9])(?:\(0(?:10|2[0-9]|[3-9][0-9]{{2}})\){_GAP}?|0(?:10|2[0-9]|[3-9][0-9]{{2}}){_GAP}?)"
    rf"[2-9][0-9]{{2,3}}{_GAP}?[0-9]{{4}}(?![0-9])"
)
_CN_HOTLINE = re.compile(
    rf"(?<![0-9])[48]00{_GAP}(?:[0-9]{{3}}{_GAP}[0-9]{{4}}|[0-9]{{4}}{_GAP}[0-9]{{3}}|[0-9]{{7}})(?![0-9])"
)
_NANP = re.compile(
    rf"(?<![0-9])(?:1{_GAP}?)?(?:[(\[][2-9][0-9]{{2}}[)\]]{_GAP}?|[2-9][0-9]{{2}}(?:{_GAP}|[ ]?/[ ]?))"
    rf"[2-9][0-9]{{2}}{_GAP}[0-9]{{4}}(?![0-9])"
)
_TRUNK = re.compile(
    rf"(?<![0-9])\(?0[1-9][0-9]{{0,4}}\)?(?:(?:{_GAP}|/)?[0-9]+){{1,6}}"
)  # 0 and an area, as in most of the world
_PLAIN = re.compile(
    rf"(?<![0-9])[1-9][0-9]{{1,4}}(?:{_GAP}[0-9]{{2,4}}){{2,4}}(?![0-9])"
)  # countries without a trunk prefix
# Only where the text says that it is a phone number.
_SAID = re.compile(
    r"(?<![0-9])(?:1?[2-9][0-9]{9}|[2-9][0-9]{2}[ .\-][0-9]{4}|(?!(?:19|20)[0-9]{2}[ \-]?(?:19|20|0[1-9]|1[0-2]))"
    r"[2-8][0-9]{3}[ \-]?[0-9]{4})(?![0-9])"
)

_SAYS_PHONE = re.compile(
    r"(?:\btel|phone|\bcall(?:ed|ing)?|\bfax|\bcell|mobile|\bpager|\bdial|\bph|电话|手机|传真|致电|拨打|来电|座机|热线|☎|📞|📱)"
    r"[^0-9\n]{0,16}\Z",
    re.IGNORECASE,
)
_SAYS_ELSE = re.compile(
    r"(?:isbn|issn|\bdoi|order|invoice|tracking|serial|\bsku|\bp\.?o\.?|batch|订单|单号|运单|流水|发票|序列|货号|批号|条码)"
    r"[^0-9\n]{0,12}\Z",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<![0-9])[0-9]{1,2}([./\-])[0-9]{1,2}\1[0-9]{2,4}(?![0-9])|(?<![0-9])(?:19|20)[0-9]{2}[./\-][0-9]{1,2}[./\-]"
)
_GROUP_BEFORE = re.compile(r"[0-9]{4}[ \-]\Z")
_UNIT = re.compile(
    r"[ ]?(?:[元亿万人次件吨个股字米克天年]|美元|公里|比特|字节|"
    r"(?:units?|bytes|dollars|euros|USD|EUR|CNY|RMB|people|shares|tons)\b)"
)
_LAST_GROUP = re.compile(r"(?<=[0-9)])[^0-9)]*\(?[0-9]+\)?\Z")
_FIRST_GROUP = re.compile(r"[^0-9]{0,4}[0-9]+")
_REACH = 28  # characters before a number that may say what it is


def library() -> Any:
    """The module phonenumbers. Raises LLMBertError where it is missing."""
    try:
        import phonenumbers
    except ImportError as error:
        raise LLMBertError(
            "finding phone numbers needs phonenumbers, which is not installed; pip install 'llmbert[privacy]'"
        ) from error
    return phonenumbers


def find_phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Numbers in international form, and in the national forms of the regions (ISO 3166 codes); they may overlap.

    Ten digits in one piece, and numbers without an area, count only where the text says "tel", "电话" or the like.
    Raises UsageError for a region there is not.
    """
    forms = _forms(tuple(regions))
    for cluster in _CLUSTER.finditer(text):
        if sum(map(str.isdigit, cluster[0])) < 7:
            continue
        end = cluster.start() + len(cluster[0].rstrip(_BEHIND))
        for region, pattern, check in forms:
            at, last = cluster.start(), -2
            while match := pattern.search(text, at, end):
                span = check(text, *match.span(), region)
                if span is not None and _stands_alone(text, *span, last + 1 == span[0]):
                    yield span[0], _with_extension(text, span[1], region)
                    at = last = span[1]
                else:  # another may begin with its second group
                    at = _first_group_end(text, match.start())


def _first_group_end(text: str, start: int) -> int:
    match = _FIRST_GROUP.match(text, start)
    return match.end() if match else start + 1


def is_north_american(number: str) -> bool:
    """Whether a number is written as in the United States and Canada: (212) 555-0123."""
    return _NANP.match(number) is not None


@lru_cache(64)
def _forms(regions: tuple[str, ...]) -> list[tuple[str | None, re.Pattern[str], Callable[..., Span | None]]]:
    found: list[tuple[str | None, re.Pattern[str], Callable[..., Span | None]]] = [
        (None, _INTERNATIONAL, _longest),
        (None, _SAID, _said),
    ]
    for region in regions:
        if region not in library().SUPPORTED_REGIONS:
            raise UsageError(f"there is no region {region!r} with phone numbers; name ISO codes as in CN,US,GB")
        trunk = library().ndd_prefix_for_region(region, True)
        if region == "CN":
            found += [(region, _CN_MOBILE, _whole), (region, _CN_FIXED, _whole), (region, _CN_HOTLINE, _whole)]
        elif library().country_code_for_region(region) == 1:
            found.append((region, _NANP, _whole))
        else:
            found.append((region, _TRUNK if trunk == "0" else _PLAIN, _longest))
    return found


@lru_cache(1 << 16)
def read_phone(number: str, region: str | None) -> Any:
    """What the library makes of a number, or None where it belongs to no plan."""
    phones = library()
    try:
        parsed = phones.parse(number, region)
    except phones.NumberParseException:
        return None
    return parsed if phones.is_valid_number(parsed) else None


def read_possible(number: str, region: str | None) -> Any:
    """A number after a + of ten digits or more whose length its country has: plans grow faster than libraries."""
    phones = library()
    try:
        parsed = phones.parse(number, region)
    except phones.NumberParseException:
        return None
    return parsed if phones.is_possible_number(parsed) and sum(map(str.isdigit, number)) >= 10 else None


def _one_line(number: str) -> str:
    return re.sub(r"\s+", " ", number.replace("-\n", "-"))


def _says_else(text: str, start: int) -> bool:
    """Whether the words before a number say that it is an order's or the like, and none that it is a phone's."""
    before = max(0, start - _REACH)
    return bool(_SAYS_ELSE.search(text, before, start)) and not _SAYS_PHONE.search(text, before, start)


def _is_amount(text: str, start: int, end: int) -> bool:
    """Whether digits in one piece are counted: 13800000000元."""
    return text[start:end].isdigit() and _UNIT.match(text, end) is not None


def _whole(text: str, start: int, end: int, region: str) -> Span | None:
    known = (
        not _says_else(text, start)
        and not _is_amount(text, start, end)
        and read_phone(_one_line(text[start:end]), region) is not None
    )
    return (start, end) if known else None


def _longest(text: str, start: int, end: int, region: str | None) -> Span | None:
    """The longest beginning, by groups of digits, that is a number."""
    if _says_else(text, start):
        return None
    if text[start] == "(" and ")" not in text[start:end]:
        start += 1
    ends = [end]
    while shorter := _LAST_GROUP.search(text[start : ends[-1]]):
        ends.append(start + shorter.start())
    for known in (read_phone, read_possible) if text[start] in "+(" and region is None else (read_phone,):
        for last in ends:
            number = _one_line(text[start:last])
            fits = 7 <= sum(map(str.isdigit, number)) <= 18 and number.count("(") == number.count(")")
            if fits and not text[last : last + 1].isdigit() and (region is None or not _DATE.search(number)):
                plus = "+" + number[2:] if region is None and number.startswith("00") else number
                if known(plus, region) is not None:
                    return start, last
    return None


def _said(text: str, start: int, end: int, region: None) -> Span | None:
    return (start, end) if _SAYS_PHONE.search(text, max(0, start - _REACH), start) else None


def _stands_alone(text: str, start: int, end: int, follows: bool) -> bool:
    """Whether nothing touches a number that would make it a part of something else; follows: one stands just before."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (before[-1] in "_$€£¥#%" or (before[-1].isascii() and before[-1].isalnum())):
        return False
    joined = r"[A-Za-z0-9][\-/]|[0-9]\."  # "Tel.138…" is none of these
    if not follows and (re.fullmatch(joined, before) or not _begins(text, start, end)):
        return False
    if after and (after[0] in "_%@" or (after[0].isascii() and after[0].isdigit())):
        return False
    return not (len(after) == 2 and after[0] in "." and after[1].isdigit())


def _begins(text: str, start: int, end: int) -> bool:
    """Whether groups of digits are a number from its first one on, not the middle of a card or an IBAN."""
    if text[start] in "+(" or text[start:end].isdigit():
        return True
    before = text[max(0, start - 45) : start]
    inner = {c for c in text[start:end] if c in " -"}
    return not (_GROUP_BEFORE.search(before) and before[-1] in inner) and not IN_IBAN.search(before)


def _with_extension(text: str, end: int, region: str | None) -> int:
    extension = _EXTENSION.match(text, end) or (_DIRECT.match(text, end) if region == "CN" else None)
    return extension.end() if extension else end
