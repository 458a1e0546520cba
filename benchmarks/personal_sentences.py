"""Sentences with personal data whose places are known, and with what only looks like it; seeded.

Shares nothing with the detector: check digits are worked out here, by their standards' formulas, and forms are those
that people write, not those that anything finds. A template's slots in braces are values; NEGATIVES fill others.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Draw = random.Random


@dataclass
class Sentence:
    """A text, and the personal data in it as (kind, start, end)."""

    text: str
    spans: list[tuple[str, int, int]]
    language: str


def digits(draw: Draw, count: int, first: str = "0123456789") -> str:
    return draw.choice(first) + "".join(draw.choice("0123456789") for _ in range(count - 1))


def cut(text: str, sizes: Sequence[int], gap: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return gap.join(part for part in [*parts, text[at:]] if part)


def widen(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c.isdigit() or c.isalpha() else c for c in text)


# ---- values --------------------------------------------------------------------------------------------------------


def luhn_digit(body: str) -> str:
    total = 0
    for place, c in enumerate(reversed(body)):
        value = int(c) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


CARD_BEGINNINGS = {  # issuer's beginning: length, groups
    **{"4": (16, (4, 4, 4)), "51": (16, (4, 4, 4)), "55": (16, (4, 4, 4)), "2221": (16, (4, 4, 4))},
    **{"34": (15, (4, 6)), "37": (15, (4, 6)), "6011": (16, (4, 4, 4)), "3530": (16, (4, 4, 4)), "36": (14, (4, 6))},
    **{"622202": (19, (6,)), "621700": (19, (4, 4, 4, 4)), "622848": (19, (4, 4, 4, 4)), "625912": (16, (4, 4, 4))},
}


def card_digits(draw: Draw) -> tuple[str, tuple[int, ...]]:
    beginning = draw.choice(list(CARD_BEGINNINGS))
    length, groups = CARD_BEGINNINGS[beginning]
    body = beginning + digits(draw, length - len(beginning) - 1)
    return body + luhn_digit(body), groups


def card(draw: Draw, language: str) -> str:
    number, groups = card_digits(draw)
    form = draw.random()
    if language == "zh" and form < 0.08:
        return widen(number)
    return number if form < 0.4 else cut(number, groups, " " if form < 0.8 else "-")


IBAN_FORMS = {  # country: the part that is a bank's, n digit, a letter, c either
    **{"DE": "n" * 18, "GB": "aaaa" + "n" * 14, "FR": "n" * 10 + "c" * 11 + "nn", "NL": "aaaa" + "n" * 10},
    **{"ES": "n" * 20, "IT": "a" + "n" * 10 + "c" * 12, "CH": "n" * 5 + "c" * 12, "BE": "n" * 12, "AT": "n" * 16},
    **{"PL": "n" * 24, "SE": "n" * 20, "NO": "n" * 11, "IE": "aaaa" + "n" * 14, "PT": "n" * 21},
}


def iban_characters(draw: Draw, wrong: int = 0) -> str:
    country = draw.choice(list(IBAN_FORMS))
    pools = {"n": "0123456789", "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "c": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    bank = "".join(draw.choice(pools[form]) for form in IBAN_FORMS[country])
    value = int("".join(str(int(c, 36)) for c in bank + country + "00"))
    check = 98 - value % 97
    return f"{country}{(check - 2 + wrong) % 97 + 2:02}{bank}"


def iban(draw: Draw, language: str) -> str:
    number, form = iban_characters(draw), draw.random()
    return number if form < 0.4 else cut(number, (4,) * 8, " ") if form < 0.9 else number.lower()


AREAS = [
    "110101",
    "110105",
    "120103",
    "130102",
    "210202",
    "310104",
    "310115",
    "320102",
    "330106",
    "350203",
    "370102",
    "420106",
    "440103",
    "440305",
    "500103",
    "510104",
    "610103",
    "652301",
]
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def id_characters(draw: Draw, wrong: int = 0) -> str:
    day = f"{draw.randint(1935, 2015)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}"
    body = draw.choice(AREAS) + day + digits(draw, 3)
    place = sum(int(c) * w for c, w in zip(body, WEIGHTS, strict=True)) % 11
    return body + "10X98765432"[(place + wrong) % 11]


def resident_id(draw: Draw, language: str) -> str:
    number, form = id_characters(draw), draw.random()
    if form < 0.12:
        return widen(number)
    if form < 0.25:
        return cut(number, (6, 8), " ")
    return number.lower() if form < 0.32 else number


WORDS = [
    "amber",
    "bridge",
    "cedar",
    "delta",
    "ember",
    "falcon",
    "garnet",
    "harbor",
    "island",
    "jasper",
    "kestrel",
    "lumen",
    "maple",
    "nectar",
    "opal",
    "prairie",
    "quartz",
    "river",
    "saffron",
    "timber",
]
HOSTS = [
    "example.com",
    "example.org",
    "mail.example.net",
    "example.co.uk",
    "dept.example.edu",
    "example.cn",
    "163.com",
    "qq.com",
    "clinic-north.example.org",
    "example.io",
]


def mail(draw: Draw, language: str) -> str:
    one, two, host, form = draw.choice(WORDS), draw.choice(WORDS), draw.choice(HOSTS), draw.random()
    if form < 0.05:
        return f"{one} [at] {host.replace('.', ' [dot] ')}"
    if form < 0.08:
        return f"{one}(at){host}"
    if form < 0.12:
        return f"o'{one}@{host}"
    local = draw.choice(
        [
            one,
            f"{one}.{two}",
            f"{one}_{two}",
            f"{one}{draw.randint(1, 9999)}",
            f"{one}+{two}",
            f"{one[0]}.{two}-{one}",
            digits(draw, draw.randint(6, 11), "123456789"),
            one.upper(),
            f"{one.title()}.{two.title()}",
        ]
    )
    return f"{local}@{host.upper() if form > 0.95 else host}"


US_AREAS = [
    "202",
    "206",
    "212",
    "213",
    "303",
    "305",
    "312",
    "313",
    "404",
    "415",
    "512",
    "602",
    "617",
    "702",
    "713",
    "718",
    "808",
    "907",
    "214",
    "503",
]


def phone_us(draw: Draw) -> str:
    area, middle, last = (
        draw.choice(US_AREAS),
        draw.choice("23456789") + draw.choice("023456789") + draw.choice("0123456789"),
        digits(draw, 4),
    )
    return draw.choice(
        [
            f"({area}) {middle}-{last}",
            f"{area}-{middle}-{last}",
            f"{area}.{middle}.{last}",
            f"{area} {middle} {last}",
            f"+1 {area} {middle} {last}",
            f"+1-{area}-{middle}-{last}",
            f"1-{area}-{middle}-{last}",
            f"({area}){middle}-{last}",
            f"{area}-{middle}-{last} x{draw.randint(10, 9999)}",
            f"({area}) {middle}-{last} ext. {draw.randint(10, 999)}",
            f"+1{area}{middle}{last}",
        ]
    )


def phone_gb(draw: Draw) -> str:
    return draw.choice(
        [
            f"020 7{digits(draw, 3)} {digits(draw, 4)}",
            f"+44 20 8{digits(draw, 3)} {digits(draw, 4)}",
            f"0161 {digits(draw, 3, '23456789')} {digits(draw, 4)}",
            f"+44 (0)20 7{digits(draw, 3)} {digits(draw, 4)}",
            f"077{digits(draw, 2)} {digits(draw, 6)}",
            f"+4478{digits(draw, 8, '23456789')}",
        ]
    )


def phone_abroad(draw: Draw) -> str:
    return draw.choice(
        [
            f"+49 30 {digits(draw, 8, '23456789')}",
            f"+33 6 {cut(digits(draw, 8), (2, 2, 2), ' ')}",
            f"+81 3-{digits(draw, 4, '356')}-{digits(draw, 4)}",
            f"+61 4{digits(draw, 2)} {digits(draw, 3)} {digits(draw, 3)}",
            f"+91 98{digits(draw, 3)} {digits(draw, 5)}",
            f"+65 6{digits(draw, 3, '2345')} {digits(draw, 4)}",
            f"+852 2{digits(draw, 3, '345')} {digits(draw, 4)}",
            f"0041 44 {digits(draw, 3, '2345')} {digits(draw, 2)} {digits(draw, 2)}",
        ]
    )


CN_MOBILES = [
    "130",
    "131",
    "133",
    "135",
    "136",
    "137",
    "138",
    "139",
    "150",
    "151",
    "152",
    "155",
    "158",
    "159",
    "170",
    "176",
    "177",
    "180",
    "182",
    "185",
    "186",
    "187",
    "188",
    "189",
    "198",
    "199",
]


def phone_cn_mobile(draw: Draw) -> str:
    number = draw.choice(CN_MOBILES) + digits(draw, 8)
    return draw.choice(
        [
            number,
            number,
            cut(number, (3, 4), " "),
            cut(number, (3, 4), "-"),
            f"+86 {number}",
            f"+86-{cut(number, (3, 4), '-')}",
            f"(+86){number}",
            f"86{number}",
            widen(number),
            cut(number, (4, 3), " "),
        ]
    )


def phone_cn_fixed(draw: Draw) -> str:
    area = draw.choice(["010", "021", "020", "028", "0755", "0571", "0512", "0532"])
    number = digits(draw, 8, "2568")
    return draw.choice(
        [
            f"{area}-{number}",
            f"({area}){number}",
            f"（{area}）{number}",
            f"{area} {number[:4]} {number[4:]}",
            f"{area}-{number}转{draw.randint(10, 9999)}",
            f"{area}-{number}-{draw.randint(100, 9999)}",
            f"+86 {area[1:]} {number}",
            f"{area}{number}",
            f"400-{digits(draw, 3, '68')}-{digits(draw, 4)}",
        ]
    )


def phone(draw: Draw, language: str) -> str:
    makers = (
        [phone_us, phone_us, phone_gb, phone_abroad]
        if language == "en"
        else [phone_cn_mobile, phone_cn_mobile, phone_cn_fixed]
    )
    return draw.choice(makers)(draw)


def address(draw: Draw, language: str) -> str:
    if draw.random() < 0.65:
        return ".".join(str(draw.randint(1, 254)) for _ in range(4))
    groups = [f"{draw.randrange(1, 1 << 16):x}" for _ in range(8)]
    return draw.choice(
        [":".join(groups), f"2001:{groups[0]}::{groups[1]}", f"fe80::{groups[0]}:{groups[1]}:{groups[2]}"]
    )


def old_id(draw: Draw, language: str) -> str:
    return (
        draw.choice(AREAS) + f"{draw.randint(30, 84)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}" + digits(draw, 3)
    )


VALUES: dict[str, Callable[[Draw, str], str]] = {
    **{"mail": mail, "phone": phone, "card": card, "iban": iban, "id": resident_id, "ip": address, "old_id": old_id}
}

# ---- what only looks like it ---------------------------------------------------------------------------------------


def no_card(draw: Draw) -> str:
    number, groups = card_digits(draw)
    number = number[:-1] + str((int(number[-1]) + draw.randint(1, 9)) % 10)
    return number if draw.random() < 0.5 else cut(number, groups, " ")


def no_iban(draw: Draw) -> str:
    number = iban_characters(draw, draw.randint(1, 96))
    return number if draw.random() < 0.5 else cut(number, (4,) * 8, " ")


def isbn(draw: Draw) -> str:
    body = "9787" + digits(draw, 8)
    check = str(-sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(body)) % 10)
    return draw.choice(
        [f"ISBN {body}{check}", f"ISBN {body[:3]}-{body[3]}-{body[4:7]}-{body[7:]}-{check}", f"ISBN {digits(draw, 9)}X"]
    )


def day(draw: Draw) -> str:
    return f"{draw.randint(1990, 2026)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"


def clock(draw: Draw) -> str:
    return f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:{draw.randint(0, 59):02}"


NEGATIVES: dict[str, Callable[[Draw], str]] = {
    "no_card": no_card,
    "no_iban": no_iban,
    "no_id": lambda draw: id_characters(draw, draw.randint(1, 10)),
    "isbn": isbn,
    "order": lambda draw: draw.choice(
        [
            f"PO-{draw.randint(2019, 2026)}-{digits(draw, 6)}",
            f"{digits(draw, 3)}-{digits(draw, 7)}-{digits(draw, 7)}",
            f"SO{digits(draw, 10)}",
            f"INV/{draw.randint(2019, 2026)}/{digits(draw, 5)}",
            f"20{draw.randint(19, 26)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}{digits(draw, 8)}",
            digits(draw, 8),
        ]
    ),
    "date": lambda draw: draw.choice(
        [
            day(draw),
            f"{draw.randint(1, 12):02}/{draw.randint(1, 28):02}/{draw.randint(1990, 2026)}",
            f"{day(draw)} {clock(draw)}",
            f"{draw.randint(1, 28):02}.{draw.randint(1, 12):02}.{draw.randint(1990, 2026)}",
        ]
    ),
    "version": lambda draw: draw.choice(
        [
            f"{draw.randint(1, 20)}.{draw.randint(0, 20)}.{draw.randint(256, 19999)}.{draw.randint(0, 9999)}",
            f"v{draw.randint(1, 9)}.{draw.randint(0, 30)}.{draw.randint(0, 30)}",
            f"{draw.randint(300, 999)}.{draw.randint(0, 99)}.{draw.randint(0, 99)}.{draw.randint(256, 999)}",
        ]
    ),
    "price": lambda draw: draw.choice(
        [
            f"${draw.randint(1, 999)},{digits(draw, 3)}.{digits(draw, 2)}",
            f"¥{digits(draw, 6, '123456789')}",
            f"€ {draw.randint(1, 99)}.{digits(draw, 3)},{digits(draw, 2)}",
        ]
    ),
    "handle": lambda draw: "@" + draw.choice([*WORDS, "river_bot", "张三丰", "dev.team"]),
    "code": lambda draw: draw.choice(
        [
            "`std::map<int, x::y>`",
            "`rows[1234567:1234599]`",
            f"`0x{draw.randrange(1 << 40):010x}`",
            f"{draw.randrange(1 << 128):032x}",
            "@property",
            "logo@2x.png",
            "`a::b`",
            str(uuid.UUID(int=draw.getrandbits(128), version=4)),
        ]
    ),
    "time": clock,
    "amount": lambda draw: f"{draw.randint(1, 9) * 10 ** draw.randint(6, 9)}",
    "lot": lambda draw: f"13{digits(draw, 9)}",  # eleven digits, as a mobile number has
}

# ---- templates -----------------------------------------------------------------------------------------------------

TUNED = {
    "en": [
        "Please write to {mail} or call {phone} before Friday.",
        "Dr. Harlow ({mail}, {phone}) will see you on {date}.",
        "I moved: my new number is {phone}; the old one, {phone}, is off.",
        "The refund goes to {iban}, not to {no_iban} as the form says.",
        "Charge card {card}, expiry 09/28, for {price}.",
        "Login from {ip} at {time}, then from {ip}.",
        "Order {order} was paid with {card} on {date}; the receipt went to {mail}.",
        "See https://example.org/help?from={mail}&page=2 for the rest.",
        'Contact: <a href="mailto:{mail}">{mail}</a>.',
        "Her book ({isbn}) is on the shelf since {date}.",
        "Firmware {version} fixes what {handle} reported; run {code} to check.",
        "The test number {no_card} is refused, as it should be.",
        "Name: Harlow | Tel: {phone} | Mail: {mail} | Room 12",
        "Fax {phone}.",
        "Passport and resident card {id} were copied; card {no_id} could not be read.",
        "We shipped {amount} units for {price} last year, tracking {order}.",
        "Pay into {iban}.\nThe bank's mail is {mail}.",
        "host {ip} answered; version {version} is installed on {ip}.",
        "Is it {phone}? Or was it {phone}, as {handle} says?",
        "\"{mail}\" and '{mail}' are the same person.",
        "- {mail}\n- {mail}\n- {phone}",
        "IBAN:{iban};BIC:TESTDEFF",
        "Nobody answered at {phone}, so I sent the {date} report to {mail}, {mail}, and {mail}.",
        "He typed {code} and {code}; the log said {time}.",
    ],
    "zh": [
        "请联系张医生，电话{phone}，邮箱{mail}。",
        "患者身份证号{id}，手机{phone}，于{date}入院。",
        "我的新号码是{phone}，旧号{phone}停用了。",
        "请把钱打到{card}（工商银行），不要打到{no_card}。",
        "邮件请发{mail}或{mail}，谢谢！",
        "服务器{ip}在{time}无响应，备用地址为{ip}。",
        "订单号{order}已于{date}发货，金额{price}。",
        "身份证：{id}；银行卡：{card}；预留手机：{phone}。",
        "姓名|电话|证件号\n李某|{phone}|{id}\n王某|{phone}|{id}",
        "他说证件号{no_id}有误，应为{id}。",
        "国外汇款请用{iban}，切勿用{no_iban}。",
        "书号{isbn}，定价{price}，{date}出版。",
        "固件升级到{version}后，{handle}反馈正常，命令为{code}。",
        "座机{phone}（工作日），夜间请拨{phone}。",
        "旧身份证号码{old_id}已更换为{id}。",
        "全年产量{amount}件，营收{lot}元。",
        "【通知】有问题请加QQ邮箱{mail}咨询，或致电{phone}！",
        "{phone}是我的手机号，{mail}是我的邮箱",
        "登录地址:{ip},登录时间:{date}",
        "持卡人卡号「{card}」、证件「{id}」均已核验。",
        "测试卡{no_card}校验不通过，符合预期。",
        "家属电话：{phone}、{phone}。",
    ],
}
HELD_OUT = {
    "en": [
        '{{"user": "{mail}", "phone": "{phone}", "ip": "{ip}", "build": "{version}"}}',
        "Reach me after hours ({phone} / {phone}), or leave a note: {mail}!",
        "patient,{id},{phone},{mail},{date}",
        "Wire to account {iban} (ours), quote {order}; the card on file, {card}, stays.",
        "On {date} at {time} {ip} asked for /index, agent {version}, user {handle}.",
        "Sent from my phone\n{phone}\n{mail}\n--",
        "The sum of {amount} and {price} appears in {isbn}, see {code}.",
        "cards tried: {card}, {no_card}, {card}; accounts tried: {no_iban}, {iban}",
        "Please cc {mail}; {mail}; and {mail}?",
    ],
    "zh": [
        "本人（证件{id}）委托同事办理，联系方式{phone}/{mail}，特此说明。",
        "表一：卡号 {card} 户名 某某 电话 {phone}",
        "日志：{time} 来自{ip}的用户{handle}下载了{isbn}的样章。",
        "收件人：赵某某 {phone} 北京市海淀区某路1号",
        "该账户（{iban}）与该卡（{card}）属同一人，身份证尾数不详，全号{id}",
        "编号{no_id}与{no_card}均为无效样例，共{amount}条。",
        "回复邮箱：{mail}；抄送：{mail}。截止{date}",
        "拨打{phone}无人接听后，转拨{phone}，留言请发至{mail}",
        "累计播放{lot}次，评分{price}，链接https://example.cn/{order}",
    ],
}
UNSEEN = {  # written last
    "en": [
        "Attn. Ms Quill\tmobile {phone}\te-mail {mail}\tid {id}",
        "{mail} wrote:\n> my card is {card}\n> and my phone {phone}\n> thanks",
        "* {phone} (home)\n* {phone} (work)\n* {mail}",
        "Whoever sits behind {ip} (build {version}) paid {price} with {card}; not with {no_card}!",
        "<contact><tel>{phone}</tel><mail>{mail}</mail><acct>{iban}</acct></contact>",
        "tel={phone}&mail={mail}&when={date}",
        "ward 7, bed 3, seen {date} {time}, next of kin {phone}, insurer ref {order}",
        "The account number {iban}, the reference {no_iban}, the article {isbn}, and the sum {price}.",
        "ping {ip}: 64 bytes, ttl 54, {time}; ping {ip}: lost",
        "Subject: {phone}... nobody picks up; {handle} says try {mail}.",
        "id: {id}, not {no_id}; {amount} rows; {code}",
        "**{mail}**, _{mail}_, [{mail}](mailto:{mail})",
    ],
    "zh": [
        "姓名：钱某某\t性别：女\t电话：{phone}\t身份证：{id}",
        "《告知书》签署人证件号码为{id}，签署时间{date}。",
        "1、{phone}；2、{phone}；3、{mail}",
        "我{date}在{ip}上看到{handle}发的{mail}，赶紧删了吧",
        "病历号{order}，床号3，联系人（女儿）{phone}，医保卡{card}",
        "tel:{phone} mail:{mail} 卡:{card}",
        "汇款账号为{iban}（欧元），{no_iban}已作废，金额{price}",
        "“{mail}”不是“{mail}”，别发错了",
        "设备{ip}升级至{version}，用时{time}，共{amount}字节",
        "校验失败：{no_id}、{no_card}；校验通过：{id}、{card}",
        "微信同号{phone}，加我时请注明{isbn}",
        "原证件（15位）身份证{old_id}，现用{id}。",
    ],
}
LEADS = {
    "en": ["", "", "Hello, ", "As agreed: ", "Note to self. ", "(Draft) ", "Re: Friday. "],
    "zh": ["", "", "您好，", "备注：", "【转发】", "另外，", "如题。"],
}
_SLOT = re.compile(r"{{|}}|{(\w+)}")


Values = dict[str, Callable[[Draw, str], str]]


def sentence(template: str, language: str, draw: Draw, values: Values = VALUES) -> Sentence:
    """A template with its slots filled; spans are those of the values."""
    text, spans, at = draw.choice(LEADS[language]), [], 0
    for slot in _SLOT.finditer(template):
        text += template[at : slot.start()]
        at = slot.end()
        name = slot[1]
        if name is None:
            text += slot[0][0]
        elif name in values:
            value = values[name](draw, language)
            spans.append((name, len(text), len(text) + len(value)))
            text += value
        else:
            text += NEGATIVES[name](draw)
    return Sentence(text + template[at:], spans, language)


def sentences(count: int, seed: int, templates: dict[str, list[str]], values: Values = VALUES) -> list[Sentence]:
    """So many sentences, half English and half Chinese."""
    draw = random.Random(seed)
    languages = ["en" if i % 2 else "zh" for i in range(count)]
    return [sentence(draw.choice(templates[language]), language, draw, values) for language in languages]
