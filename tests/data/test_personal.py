"""Personal data: what is found and what is left, how overlaps end, and what stands in a find's place."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import random
import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.data.personal.find import CHECKSUMMED, KINDS, Find, find_personal, normalise_widths, resolve
from llmbert.data.personal.numbers import is_card, is_resident_id
from llmbert.data.personal.phones import find_phones
from llmbert.data.personal.pseudonyms import canonical, replacement
from llmbert.data.personal.scrubbing import scrub_pieces, scrub_text
from llmbert.protocols import UsageError

phonenumbers = pytest.importorskip("phonenumbers", reason="the extra privacy is not installed")
stdnum_iban = pytest.importorskip("stdnum.iban", reason="the extra privacy is not installed")

KEY = b"a key of no consequence"
CARD, RESIDENT, IBAN = "4111111111111111", "11010519491231002X", "GB82WEST12345698765432"


def seen(text: str, **options: object) -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for kind, start, end in find_personal(text, **options)]  # type: ignore[arg-type]


# ---- what is found -------------------------------------------------------------------------------------------------

# Each text with what is found in it, in angle brackets that are taken out first.
FOUND = {
    "mail": [
        "Write to ‹joe.bloggs@example.co.uk›.",
        "请发到‹zhang_san@163.com›。谢谢",
        'see <a href="mailto:‹a+b@example.org›">',
        "https://example.org/?from=‹joe@example.org›&page=2",
        "'‹o'neil@example.ie›', \"‹JOE@EXAMPLE.ORG›\"",
        "‹joe [at] example [dot] com›, ‹joe(at)example.org›",
        "mail ‹joe@example.org›.Please answer",
        "‹13812345678@qq.com›",
        '‹"joe b"@example.org›',
    ],
    "phone": [
        "call ‹(212) 555-0123›, ‹212.555.0123› or ‹+1-212-555-0123›",
        "‹713-853-1111› ‹713-853-9999›",
        "phone 7138531234".replace("7138531234", "‹7138531234›"),
        "desk ‹212-555-0123 x55›",
        "‹020 7946 0018›; ‹+44 (0)20 7946 0018›; ‹0044 20 7946 0018›",
        "‹+49 30 901820› and ‹+33 6 12 34 56 78›",
        "请拨打‹13812345678›或‹138-1234-5678›或‹138 1234 5678›",
        "电话：‹１３８１２３４５６７８›，转",
        "‹+86 138 1234 5678›、‹(+86)13812345678›、‹8613812345678›",
        "座机‹010-62345678›、‹（021）62345678›、‹0755-26001234转8001›",
        "热线‹400-820-8820›",
        "（‹13812345678›/‹13912345678›）",
        "tel 6234 5678".replace("6234 5678", "‹6234 5678›"),
        "broken ‹138 1234\n5678› and ‹212-555-\n0123› and ‹1381234\n5678›",
    ],
    "card": [
        f"card ‹{CARD}›, exp 12/27",
        "card ‹4111 1111 1111 1111› 12/27",
        "‹4111-1111-1111-1111›|123",
        "卡号‹3782 822463 10005›。",
        "‹４１１１１１１１１１１１１１１１›",
        "id,card\n7,‹4111111111111111›,x",
        "‹4111 1111 11\n11 1111›",
        f"Card‹{CARD}›, no‹{CARD}›",
    ],
    "iban": [
        f"to ‹{IBAN}› now",
        "‹GB82 WEST 1234 5698 7654 32› is",
        "账号‹DE89370400440532013000›。",
        "‹gb82-west-1234-5698-7654-32›",
    ],
    "id": [
        f"证件‹{RESIDENT}›，",
        "‹110105 19491231 002x›",
        "‹１１０１０５１９４９１２３１００２Ｘ›",
        "‹440524188001010014›",
        "|‹110105194912\n31002X›|",
        f"ID‹{RESIDENT}›，身份证NO‹{RESIDENT}›，sfz‹{RESIDENT}›",
    ],
    "old_id": ["身份证：‹110105491231002›"],
    "ip": [
        "from ‹192.168.0.1›:8080, ‹10.0.0.254›.",
        "‹2001:db8::1›, ‹fe80::1›/64",
        "地址:‹2001:db8:0:0:0:0:0:1›",
        "‹::ffff:192.0.2.1›",
    ],
}


@pytest.mark.parametrize(("kind", "marked"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_what_people_write_is_found_and_nothing_else(kind: str, marked: str) -> None:
    assert seen(re.sub("[‹›]", "", marked)) == [(kind, value) for value in re.findall("‹([^›]*)›", marked)]


NOT_FOUND = [
    "order 4111111111111112, PO-2024-118834, 114-3941689-8772232",
    "ISBN 978-7-111-12345-6, ISBN 0306406152, 3.14159265358979",
    "2024-01-15 10:00:00, 01.02.2024, 12:30:45, 1,299,000.00, $4111111111",
    "version 1.2.3.4, 10.0.19045.3803, v1.2.3.4, 1.2.3.400, 1.2.3.4.5",
    "身份证号110105194912310021，订单号13812345678，营收13800000000元",
    "110105491231002",
    "GB83WEST12345698765432, DE90 3704 0044 0532 0130 00",
    "@handle @property logo@2x.png user@localhost std::vector a::b 00:1a:2b:3c:4d:5e",
    "550e8400-e29b-41d4-a716-446655440000 d41d8cd98f00b204e9800998ecf8427e",
    "0000000000000000 1111111111111111",
]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert seen(text) == []


@pytest.mark.parametrize(("valid", "known"), [(CARD, is_card), (RESIDENT, is_resident_id)])
def test_a_number_with_one_wrong_digit_is_none(valid: str, known: object) -> None:
    for at, digit in enumerate(valid):
        for other in set("0123456789") - {digit}:
            assert not known(valid[:at] + other + valid[at + 1 :])  # type: ignore[operator]
    assert known(valid)  # type: ignore[operator]


def test_regions_say_whose_national_numbers_are_known() -> None:
    text = "030 901820 und 13812345678"
    assert seen(text, regions=["DE"]) == [("phone", "030 901820")]
    assert seen(text, regions=["CN"]) == [("phone", "13812345678")]
    with pytest.raises(UsageError, match="'XX'"):
        seen("030 901820", regions=["XX"])


def test_kinds_are_those_asked_for() -> None:
    assert seen(f"joe@example.org {CARD}", kinds=["mail"]) == [("mail", "joe@example.org")]
    with pytest.raises(UsageError, match="'mial'"):
        find_personal("", ["mial"])


def test_names_come_from_a_tagger() -> None:
    assert seen("Ann met Bo.", names=lambda text: [(0, 3), (8, 10)]) == [("name", "Ann"), ("name", "Bo")]


@given(st.text())
def test_widths_never_move_a_character(text: str) -> None:
    assert len(normalise_widths(text)) == len(text)


def test_a_hundred_thousand_digits_take_no_longer_than_they_should() -> None:
    for text in ("1" * 100_000, "12 " * 30_000, "0161 " * 20_000, "a." * 50_000 + "@", "1:" * 50_000, "(1-" * 30_000):
        find_personal(text)  # the suite's time limit is the assertion: none of these may grow with its square


@pytest.mark.parametrize("run", ["(", "[ ] ", "1 ((((", "(\n"])
def test_a_long_run_of_brackets_takes_no_longer_than_it_should(run: str) -> None:
    text = "call (212) 555-0123 " + run * (400_000 // len(run)) + "x"
    began = time.monotonic()
    assert [text[start:end] for start, end in find_phones(text, ["US", "CN"])] == ["(212) 555-0123"]
    assert time.monotonic() - began < 20  # a square would take minutes


# ---- overlaps ------------------------------------------------------------------------------------------------------

finds = st.lists(
    st.builds(
        lambda kind, start, length: Find(kind, start, start + length),
        *(st.sampled_from(list(KINDS)), st.integers(0, 30), st.integers(1, 12)),
    )
)


@given(finds)
def test_overlaps_end_as_the_rule_says(found: list[Find]) -> None:
    order = list(KINDS)
    left = sorted(set(found), key=lambda f: (f.kind not in CHECKSUMMED, f.start - f.end, order.index(f.kind), f.start))
    kept: list[Find] = []
    for find in left:
        if all(find.end <= other.start or other.end <= find.start for other in kept):
            kept.append(find)
    assert resolve(found) == sorted(kept, key=lambda f: f.start)


# ---- streams -------------------------------------------------------------------------------------------------------

PARTS = [
    "joe@example.org",
    "138 1234 5678",
    CARD,
    RESIDENT,
    IBAN,
    "192.168.0.1",
    "river ",
    "水，",
    "42 ",
    "\n",
    "a" * 300,
    "。" * 250,
]


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=60), st.lists(st.integers(1, 700)), st.integers(100, 900))
def test_a_text_in_pieces_is_scrubbed_as_a_whole(parts: list[str], sizes: list[int], block: int) -> None:
    text, pieces, at = " ".join(parts), [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    pieces.append(text[at:])
    whole, counted = Counter[str](), Counter[str]()
    expected = scrub_text(text, find_personal(text), replacement("mask"), whole)
    made = "".join(scrub_pieces([p for p in pieces if p], find_personal, replacement("mask"), counted, block))
    assert (made, counted) == (expected, whole)


@pytest.mark.parametrize("cut", range(1, len(CARD)))
def test_a_find_that_two_pieces_share_is_found(cut: int) -> None:
    filling = "the river rises " * 70_000  # longer than a piece of a file
    pieces = [filling + CARD[:cut], CARD[cut:] + " " + filling]
    counts = Counter[str]()
    made = "".join(scrub_pieces(pieces, lambda text: find_personal(text, ["card"]), replacement("mask"), counts))
    assert made == f"{filling}[CARD] {filling}"
    assert counts == {"card": 1}


# ---- what stands in their place ------------------------------------------------------------------------------------

VALUES = {
    "mail": ["joe.bloggs@example.co.uk", "Z9@b.example.org", "joe [at] example [dot] com"],
    "phone": [
        "(212) 555-0123",
        "+1-313-867-5309 x12",
        "020 7946 0018",
        "07911 123456",
        "+49 30 901820",
        "13812345678",
        "+86 138-1234-5678",
        "010-62345678",
        "（021）62345678转801",
        "１３８１２３４５６７８",
        "0755-26001234",
        "400-820-8820",
    ],
    "card": [CARD, "3782 822463 10005", "４１１１１１１１１１１１１１１１"],
    "iban": [IBAN, "DE89 3704 0044 0532 0130 00"],
    "id": [RESIDENT, "110105 19491231 002x", "１１０１０５１９４９１２３１００２Ｘ"],
    "old_id": ["110105491231002"],
    "ip": ["192.168.0.1", "2001:db8::1"],
    "name": ["Ann Lee", "ANN LEE", "王小明", "欧阳明"],
}


def shape(text: str) -> str:
    """Digits of each width as 9 and ９, letters as a; the rest stays."""
    return re.sub("[A-Za-z]", "a", re.sub("[0-9]", "9", re.sub("[０-９]", "９", re.sub("[Ａ-Ｚ]", "９", text))))


@pytest.mark.parametrize(("kind", "raw"), [(kind, raw) for kind, raws in VALUES.items() for raw in raws])
def test_a_pseudonym_is_stable_of_the_same_shape_and_nobodys(kind: str, raw: str) -> None:
    fake = replacement("pseudonym", KEY)(kind, raw)
    assert fake == replacement("pseudonym", KEY)(kind, raw)
    assert canonical(kind, fake) != canonical(kind, raw)
    keys = [hashlib.sha256(bytes([i])).digest() for i in range(25)]
    fakes = {replacement("pseudonym", key)(kind, raw) for key in keys}
    assert len(fakes) > 5
    for each in fakes | {fake}:
        assert is_nobodys(kind, each), each
        if kind in ("phone", "card", "iban"):
            assert shape(each) == shape(raw)
        if kind == "name":
            assert len(each.split()) == len(raw.split())


def is_nobodys(kind: str, fake: str) -> bool:
    plain = normalise_widths(fake)
    digits = "".join(c for c in plain if c.isalnum()).upper()
    if kind == "phone":
        reserved = re.search(r"[2-9]..55501..|2079460...|7700900...|8081570...|3069990...", digits)
        valid = False
        for region in (None, "CN", "US", "GB"):
            try:
                number = phonenumbers.parse(re.sub("转", " ext. ", plain), region)
            except phonenumbers.NumberParseException:
                continue
            valid = valid or phonenumbers.is_valid_number(number)
        return bool(reserved) or not valid
    if kind == "ip":
        address = ipaddress.ip_address(plain)
        return address.is_reserved if address.version == 4 else address in ipaddress.ip_network("2001:db8::/32")
    return {
        "mail": lambda: re.search(r"@example\.(com|org|net)\Z", plain) is not None,
        "card": lambda: not is_card(digits),
        "iban": lambda: not stdnum_iban.is_valid(digits),
        "id": lambda: len(digits) == 18 and digits.startswith("99") and not is_resident_id(digits),
        "old_id": lambda: len(digits) == 15 and digits.startswith("99"),
        "name": lambda: plain[0] == "某" or all(len(word) == 8 for word in plain.split()),
    }[kind]()


def test_one_value_in_many_writings_is_one() -> None:
    for how in ("hash", "pseudonym"):
        put = replacement(how, KEY)
        same = [
            *(("138 1234 5678", "+86-138-1234-5678"), ("１３８１２３４５６７８", "13812345678")),
            *(("+1 (212) 555-0123", "212.555.0123"), ("+44 161 496 0000", "0161 496 0000")),
        ]
        for one, two in same:
            assert canonical("phone", one) == canonical("phone", two)
        assert put("mail", "Joe@Example.org").lower() == put("mail", "joe@example.org").lower()
        assert re.sub(r"\D", "", put("card", "4111 1111 1111 1111")) == re.sub(r"\D", "", put("card", CARD))


def test_a_hash_is_the_keyed_one_of_the_standard() -> None:
    digest = hmac.new(KEY, b"card\0" + CARD.encode(), hashlib.sha256).hexdigest()
    assert replacement("hash", KEY)("card", "4111-1111-1111-1111") == f"[CARD:{digest[:16]}]"
    assert replacement("hash", KEY + b"!")("card", CARD) != f"[CARD:{digest[:16]}]"


def test_masks_are_the_same_in_every_language() -> None:
    text = f"请发到zhang@example.cn或joe@example.org，证件{RESIDENT}，旧身份证110105491231002"
    made = scrub_text(text, find_personal(text), replacement("mask"), Counter())
    assert made == "请发到[MAIL]或[MAIL]，证件[ID]，旧身份证[ID]"


@pytest.mark.parametrize(
    ("how", "key", "word"), [("hide", KEY, "'hide'"), ("hash", None, "--key"), ("hash", b"short", "16 bytes")]
)
def test_a_way_or_key_that_will_not_do_is_refused(how: str, key: bytes | None, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        replacement(how, key)


def test_pseudonyms_seldom_collide() -> None:
    draw, put = random.Random(0), replacement("pseudonym", KEY)
    mobiles = {f"138{draw.randrange(10**8):08}" for _ in range(2000)}
    assert len({put("phone", number) for number in mobiles}) > 0.999 * len(mobiles)
