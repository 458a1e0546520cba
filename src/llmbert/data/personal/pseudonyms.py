"""A find → what stands in its place: a mask, a keyed hash, or a made-up value of the same shape."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any

from llmbert.data.personal.find import REGIONS, normalise_widths
from llmbert.data.personal.numbers import stdnum_module
from llmbert.data.personal.phones import is_north_american, library, read_phone, read_possible
from llmbert.protocols import UsageError

WAYS = ("mask", "hash", "pseudonym")
TAGS = {"old_id": "ID"}  # where a kind's tag is not its name in capitals
HASH_DIGITS = 16
"""Hexadecimal digits of a hash: 64 bits; among ten million values two share one with a chance of 1 in 400,000."""
LEAST_KEY = 16
"""Bytes of a key: a shorter one could be found by trying."""

Replace = Callable[[str, str], str]
"""(kind, raw value) → what stands in its place."""


def replacement(how: str, key: bytes | None = None, regions: Sequence[str] = REGIONS) -> Replace:
    """How finds are removed. mask: "[MAIL]". hash: "[MAIL:0123456789abcdef]", HMAC-SHA256 (RFC 2104) of the value under
    the key, cut to 64 bits. pseudonym: a value of the same shape that is nobody's, drawn from that HMAC: the same value
    in any writing gets the same one under a key, and without the key neither tells the value.

    Raises UsageError for another way, and for a key that is missing or shorter than 16 bytes.
    """
    if how not in WAYS:
        raise UsageError(f"there is no way {how!r} to remove personal data; take one of {', '.join(WAYS)}")
    if how == "mask":
        return lambda kind, raw: f"[{_tag(kind)}]"
    if not key or len(key) < LEAST_KEY:
        raise UsageError(
            f"{how} needs a secret key of {LEAST_KEY} bytes or more; make one (openssl rand -hex 32 > FILE) and give "
            "--key FILE, or put it into the environment as LLMBERT_SCRUB_KEY"
        )
    secret = key
    if how == "hash":
        return lambda kind, raw: f"[{_tag(kind)}:{_digest(secret, kind, raw, regions).hex()[:HASH_DIGITS]}]"
    return lambda kind, raw: _FAKES[kind](raw, _Draw(_digest(secret, kind, raw, regions)))


def _tag(kind: str) -> str:
    return TAGS.get(kind, kind.upper())


def canonical(kind: str, raw: str, regions: Sequence[str] = REGIONS) -> str:
    """A value in one writing: mail in lower case, numbers without gaps, phones as E.164 where a plan knows them."""
    plain = normalise_widths(raw)
    if kind == "mail":
        plain = plain.replace(" AT ", "@").replace(" DOT ", ".")
        plain = re.sub(r"[ ]?[(\[{<][ ]?at[ ]?[)\]}>][ ]?|%40", "@", plain, flags=re.IGNORECASE)
        return re.sub(r"[ ]?[(\[{<][ ]?dot[ ]?[)\]}>][ ]?", ".", plain, flags=re.IGNORECASE).lower()
    if kind == "phone":
        parsed = _read_any(plain, regions)
        if parsed is not None:
            return str(library().format_number(parsed, library().PhoneNumberFormat.E164)) + (parsed.extension or "")
        return "".join(c for c in plain if c.isdigit())
    if kind == "name":
        return " ".join(plain.split()).casefold()
    if kind == "ip":
        return _one_writing(plain)
    return "".join(c for c in plain if c.isalnum()).upper()


def _one_writing(address: str) -> str:
    """An IP address as the standard writes it: without leading zeros, and of IPv6 the shortest."""
    plain = address if ":" in address else re.sub(r"(?<![0-9])0+(?=[0-9])", "", address)
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:  # with something behind it
        return address.lower()


def _read_any(number: str, regions: Sequence[str]) -> Any:
    number = re.sub(r"转|轉|分机", " ext. ", re.sub(r"\s+", " ", number))
    number = "+" + number[2:] if number.startswith("00") else number
    if is_north_american(number):  # by chance some of these are numbers elsewhere
        regions = ["US", *regions]
    known = next((p for region in (None, *regions) if (p := read_phone(number, region)) is not None), None)
    return read_possible(number, None) if known is None and "+" in number else known


def _digest(key: bytes, kind: str, raw: str, regions: Sequence[str]) -> bytes:
    kind = TAGS.get(kind, kind)
    return hmac.new(key, f"{kind}\0{canonical(kind, raw, regions)}".encode(), hashlib.sha256).digest()


class _Draw:
    """Numbers that follow from a digest, as many as are wanted."""

    def __init__(self, digest: bytes) -> None:
        self._digest, self._blocks, self._left, self._room = digest, 0, 0, 1

    def below(self, end: int) -> int:
        """A number from 0 to end - 1; uneven by less than 2⁻⁶⁴."""
        if self._room < end << 64:
            self._left = int.from_bytes(hashlib.sha256(self._digest + self._blocks.to_bytes(8, "big")).digest(), "big")
            self._blocks, self._room = self._blocks + 1, 1 << 256
        self._left, drawn = divmod(self._left, end)
        self._room //= end
        return drawn

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))

    def pick(self, of: Sequence[str]) -> str:
        return of[self.below(len(of))]


def _fill(raw: str, characters: str) -> str:
    """The raw value with its letters and digits replaced in turn, each in its width; gaps and brackets stay."""
    rest = iter(characters)
    made = []
    for c in raw:
        plain = normalise_widths(c)
        if not (plain.isascii() and plain.isalnum()):
            made.append(c)
            continue
        new = next(rest)
        made.append(chr(ord(new) + 0xFEE0) if plain != c else new)
    return "".join(made)


_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvz"


def _fake_mail(raw: str, draw: _Draw) -> str:
    local = re.split(r"@|%40|(?-i:[ ]AT[ ])|[ ]?[(\[{<]", normalise_widths(raw), maxsplit=1, flags=re.IGNORECASE)[0]
    made = []
    for i, c in enumerate(local):
        letter = draw.pick(_VOWELS if i % 2 else _CONSONANTS)
        new = draw.digits(1) if c.isdigit() else letter if c.isalpha() else c
        made.append(new.upper() if c.isupper() else new)
    return "".join(made) + "@example." + draw.pick(("com", "org", "net"))  # RFC 2606


def _fake_phone(raw: str, draw: _Draw) -> str:
    plain = normalise_widths(raw)
    digits = "".join(c for c in plain if c.isdigit())
    parsed = _read_any(plain, REGIONS)
    national = library().national_significant_number(parsed) if parsed is not None else digits
    at = digits.find(national)
    if at < 0:
        national, at = digits, 0
    made = _fake_national(parsed.country_code if parsed is not None else 0, national, draw)
    ending = digits[at + len(national) :]
    letters = iter(digits[:at] + made + draw.digits(len(ending)))
    return "".join(_as_wide(c, next(letters)) if normalise_widths(c).isdigit() else c for c in raw)


def _as_wide(like: str, digit: str) -> str:
    return digit if like.isascii() else chr(ord(digit) + 0xFEE0)


def _fake_national(country: int, national: str, draw: _Draw) -> str:
    """A number that no subscriber has: of the ranges kept for fiction, or with a beginning that no plan gives out."""
    length = len(national)
    if country == 1 and length == 10:  # 555-0100 to 555-0199 in any area (ATIS-0300115)
        area = f"{2 + draw.below(8)}{draw.below(9)}{2 + draw.below(8)}"
        return f"{area}55501{draw.digits(2)}"
    if country == 44 and length == 10:  # Ofcom's numbers for drama
        reserved = {"7": "7700900", "8": "8081570", "3": "3069990"}.get(national[0], "2079460")
        return reserved + draw.digits(3)
    if country == 86 and length == 11 and national[0] == "1":  # mobiles begin with 13 to 19
        return "100" + draw.digits(8)
    if country == 0 and length == 7:
        return "55501" + draw.digits(2)
    for zeros in range(2, length):  # no area begins with 00, and were there a plan that has one, none with 000
        made = "0" * zeros + draw.digits(length - zeros)
        if read_phone(f"+{country}{made}", None) is None:
            return made
    return "0" * length


def _fake_card(raw: str, draw: _Draw) -> str:
    digits = [c for c in normalise_widths(raw) if c.isdigit()]
    body = digits[0] + draw.digits(len(digits) - 2)
    right = int(stdnum_module("luhn").calc_check_digit(body))
    return _fill(raw, body + str((right + 1 + draw.below(9)) % 10))


def _fake_iban(raw: str, draw: _Draw) -> str:
    characters = [c for c in normalise_widths(raw) if c.isalnum()]
    made = []
    for c in characters[4:]:
        letter = chr(ord("A") + draw.below(26))
        made.append(draw.digits(1) if c.isdigit() else letter if c.isupper() else letter.lower())
    return _fill(raw, "".join(characters[:2]) + "00" + "".join(made))  # check digits are 02 to 98


def _fake_id(raw: str, draw: _Draw) -> str:
    """Of province 99, which there is not, and with a wrong check character."""
    day = f"{1940 + draw.below(70)}{1 + draw.below(12):02}{1 + draw.below(28):02}"
    if sum(c.isalnum() for c in raw) == 15:
        return _fill(raw, "99" + draw.digits(4) + day[2:] + draw.digits(3))
    body = "99" + draw.digits(4) + day + draw.digits(3)
    right = stdnum_module("cn.ric").calc_check_digit(body + "0")
    return _fill(raw, body + draw.pick([c for c in "0123456789X" if c != right]))


def _fake_ip(raw: str, draw: _Draw) -> str:
    if ":" in normalise_widths(raw):
        return (
            f"2001:db8::{draw.below(1 << 16):x}:{draw.below(1 << 16):x}:{1 + draw.below((1 << 16) - 1):x}"  # RFC 3849
        )
    return f"{240 + draw.below(14)}.{draw.below(256)}.{draw.below(256)}.{draw.below(256)}"  # RFC 1112: given to nobody


_HEADS = (
    *("Bral", "Cavr", "Dovr", "Elvu", "Fenk", "Gorv", "Hulv", "Irzo", "Jovk", "Kesv", "Lurm", "Mavk", "Nolv"),
    *("Ozvi", "Pruv", "Quev", "Rulk", "Sovr", "Tarv", "Ulko", "Vemk", "Wolv", "Xilo", "Yarv", "Zunk"),
)
_TAILS = (
    *("abex", "edux", "ibon", "orvu", "ukel", "azim", "ezor", "ilux", "omek", "urax"),
    *("avod", "ejun", "ikov", "otuz", "uvem", "arix", "enko", "ivaz", "oluk", "uzeb"),
)
_MANSIONS = "角亢氐房心尾箕斗牛女虚危室壁奎娄胃昴毕觜参井鬼柳星张翼轸甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def _fake_name(raw: str, draw: _Draw) -> str:
    """Of made-up words; in Chinese 某, which is no surname, and names of stars."""
    if _HAN.search(raw):
        count = len(_HAN.findall(raw))
        made = iter("某" + "".join(draw.pick(_MANSIONS) for _ in range(count - 1)))
        return "".join(next(made) if _HAN.match(c) else c for c in raw)
    return re.sub(r"[^\W\d_]+", lambda word: _word(word[0], draw), raw)


def _word(word: str, draw: _Draw) -> str:
    made = draw.pick(_HEADS) + draw.pick(_TAILS)
    if len(word) == 1:
        return made[0] if word.isupper() else made[0].lower()
    return made.upper() if word.isupper() else made if word[0].isupper() else made.lower()


_FAKES: dict[str, Callable[[str, _Draw], str]] = {
    "mail": _fake_mail,
    "phone": _fake_phone,
    "card": _fake_card,
    "iban": _fake_iban,
    "id": _fake_id,
    "old_id": _fake_id,
    "ip": _fake_ip,
    "name": _fake_name,
}
