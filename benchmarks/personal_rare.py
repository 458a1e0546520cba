"""Values in forms that are seldom written: other gaps, words for signs, zeros before; see `personal_sentences`."""

from __future__ import annotations

from collections.abc import Callable

from personal_sentences import (
    CN_MOBILES,
    US_AREAS,
    WORDS,
    Draw,
    card_digits,
    cut,
    digits,
    iban_characters,
    id_characters,
    old_id,
    widen,
)


def rare_phone(draw: Draw, language: str) -> str:
    if language == "zh":
        number = draw.choice(CN_MOBILES) + digits(draw, 8)
        return draw.choice(
            [
                cut(number, (3, 4), "."),
                cut(number, (3, 2, 2, 2), " "),
                cut(number, (3, 4), " - "),
                cut(number, (3, 4), "–"),
                f"0086 {number}",
                f"86 10 {digits(draw, 8, '568')}",
                f"(010) {cut(digits(draw, 8, '568'), (4,), '-')} 转 {draw.randint(10, 99)}",
                cut(widen(number), (3, 4), "－"),
                f"+８６ {widen(number)}",
            ]
        )
    last = digits(draw, 4)
    return draw.choice(
        [
            f"+49 (0)89 / {digits(draw, 4, '23456789')} {digits(draw, 4)}",
            f"{draw.choice(US_AREAS)}/346-{last}",
            cut(f"{draw.choice(US_AREAS)}346{last}", (3, 3), "–"),
            cut(f"{draw.choice(US_AREAS)}346{last}", (3, 3), " - "),
            f"+1 ({draw.choice(US_AREAS)}) 346 {last}",
            f"({draw.choice(US_AREAS)}) 346 {last}",
            f"[{draw.choice(US_AREAS)}] 346-{last}",
            f"+44 7700 {digits(draw, 3)} {digits(draw, 3)}",
            f"(0161) {digits(draw, 3, '23456789')}-{last}",
            f"+31 (0) 20 {digits(draw, 3, '23456789')} {last}",
        ]
    )


def rare_card(draw: Draw, language: str) -> str:
    number, groups = card_digits(draw)
    forms = [("\u00a0", groups), (".", groups), ("  ", groups), (" ", (2,) * 9), ("–", groups), ("\n", groups[:1])]
    gap, sizes = draw.choice(forms)
    return cut(number, sizes, gap)


def rare_iban(draw: Draw, language: str) -> str:
    number = iban_characters(draw)
    gap, sizes = draw.choice([("-", (4,) * 8), (".", (4,) * 8), ("\u00a0", (4,) * 8), ("  ", (4,) * 8), ("\n", (12,))])
    return cut(number, sizes, gap)


def rare_id(draw: Draw, language: str) -> str:
    number = id_characters(draw)
    forms = [
        ("-", (6, 8)),
        (" ", (6, 4, 4)),
        (" ", (3, 3, 4, 4)),
        ("\n", (10,)),
        ("  ", (6, 8)),
        (".", (6, 8)),
        (" ", (2,) * 8),
    ]
    gap, sizes = draw.choice(forms)
    return cut(number, sizes, gap)


def rare_mail(draw: Draw, language: str) -> str:
    one, two = draw.choice(WORDS), draw.choice(WORDS)
    return draw.choice(
        [
            f"{one} @ {two}.example.org",
            f"{one} AT {two} DOT org",
            f"{one}＠{two}.example.org",
            f"{one}@{two}。example。org",
            f"{one}%40{two}.example.org",
            f"{one}@[198.51.100.{draw.randint(1, 250)}]",
            f'"{one} {two}"@example.org',
            f"{one}[at]{two}.org",
            f"{one}@xn--{two}-x9a.example.org",
            f"{one.title()}é@{two}.example.org",
        ]
    )


def rare_address(draw: Draw, language: str) -> str:
    octets = [str(draw.randint(1, 254)) for _ in range(4)]
    return draw.choice(
        [
            "::ffff:" + ".".join(octets),
            f"2001:DB8:0:0:{draw.randrange(1, 1 << 16):X}::",
            ".".join(octet.zfill(3) for octet in octets),
            widen(".".join(octets)),
            f"fd00::{draw.randrange(1, 1 << 16):x}",
        ]
    )


RARE: dict[str, Callable[[Draw, str], str]] = {
    **{"mail": rare_mail, "phone": rare_phone, "card": rare_card, "iban": rare_iban, "id": rare_id, "ip": rare_address},
    "old_id": old_id,
}
