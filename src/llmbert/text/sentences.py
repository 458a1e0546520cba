"""Text into paragraphs and sentences, in English, German and Chinese; the parts joined give the text back exactly."""

from __future__ import annotations

import re

CLOSING = "\"'”’»)]}」』）】》〉＂＇"
"""What may stand between the mark that ends a sentence and the white space behind it."""
_CLOSING_GERMAN = CLOSING + "“‘«"
_OPENING = "\"'“‘„‚«»([{「『（【《〈-–—*•¿¡ \t\r\n\u00a0\u3000"

# The second sort may also stand at a sentence's end, and does where a word follows that begins many sentences.
_TITLES = {
    "en": "adj adm asst atty brig capt cmdr col cpl det dr drs ens esp fig figs fr gen gov hon insp lt maj messrs "
    "mlle mme mr mrs ms mt mx no nos op pfc ph pres prof pvt rep reps rev rt sen sens sgt spc sr st ste supt surg "
    "viz vs vol eq sec ch pp p al e.g i.e cf ca approx",
    "de": "abb abs abt allg art aufl bd bde best betr bzgl bzw ca dgl dipl dr ebd evtl fa fig fr frl gebr geb gegr ggf "
    "gest hl hr hrsg ing inkl insb jh kap kfm lfd lt max med min mio mrd nat nr o.ä od phil prof rer sog st str tel "
    "tsd u.a u.ä univ usf v.a verf vgl vs z.b z.t z.zt zit zzgl d.h i.d.r s.o s.u s",
}
_EITHER = {
    "en": "a.m p.m jr etc inc ltd co corp bros dept est jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed "
    "thu fri sat sun ave blvd rd u.s u.k u.n d.c ft in lb oz hr min",
    "de": "usw etc jan feb febr apr jun jul aug sept okt nov dez mo di mi do sa so u.s jr sen co e.v n.chr v.chr",
}
_STARTERS = {
    "en": "a after all also although an and another any as at because both but by do each even for from he her here "
    "his how however i if in it its many most my no not now on one or our she since so some such that the their then "
    "there these they this those though to two was we what when where while who why with yes you your",
    "de": "aber ab alle allerdings als also am an auch auf aus bei beide beim da dabei dafür damit danach dann das "
    "dass davon dazu dem den denn der des deshalb die dies diese dieser dieses doch dort durch ein eine einem einen "
    "einer er es für ganz hier ich ihr ihre im in ist jede jeder jetzt kein keine man mehr mein mit nach nicht noch "
    "nun nur ob oder schon sehr sein seine seit sie sind so trotzdem über um und uns unser unter viele vom von vor "
    "war was weil wenn wer wie wir wo zu zum zur zwar zwei",
}
# Numbers follow these: "No. 5", "Abb. 3"; "in No. He left" is no sentence that anybody writes.
_NUMBERED = {
    "en": "no nos nr op ca p pp vol ch sec eq fig figs approx",
    "de": "nr art abs abb bd s kap str jg ca",
}
_COMMON = {
    "en": "the of and to is are was in that it for with on you he she they this have not",
    "de": "der die das und ist sind war ein eine nicht mit auf zu den dem von sich auch es für",
}
_WORDS = {
    group: {language: frozenset(words.split()) for language, words in table.items()}
    for group, table in (
        ("titles", _TITLES),
        ("either", _EITHER),
        ("starters", _STARTERS),
        ("numbered", _NUMBERED),
        ("common", _COMMON),
    )
}

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff"
_END = re.compile(
    rf"(?P<wide>[。！？｡]+[。！？｡!?…]*|…{{2,}}|\.{{6}}|(?<=[{_CJK}])[!?]+|[!?]+(?=[{_CJK}])"
    rf"|(?<=[{_CJK}”’）】》)\]])\.(?=[{_CJK}“‘（【《]))"
    r"|(?P<narrow>[.!?…]+)"
    r"|(?P<blank>\n[^\S\n]*\n\s*|\u2029)"
)
# “走吧！”他笑着说。 is one sentence: what follows the quote says who spoke.
_SPOKEN = re.compile(r"[^，。！？；：“”没不\s]{0,8}[说道问喊叫答想嚷吼骂][着了]?[^，。！？；：“”\s]{0,3}[，。：！？]")
_WORD = re.compile(r"\w+")
_WORD_BEFORE = re.compile(r"[^\s\"'“”‘’„‚«»()\[\]{}/—–]+$")


def guess_language(text: str) -> str:
    """ "zh", "de" or "en": by script, then by umlauts and the commonest words of the first 10,000 characters."""
    head = text[:10_000]
    letters = sum(map(str.isalpha, head))
    if letters and sum(is_wide(character) for character in head) > 0.3 * letters:
        return "zh"
    words = re.findall(r"\w+", head.lower())
    german = sum(word in _words("common", "de") for word in words) + sum(c in "äöüß" for c in head.lower())
    return "de" if german > sum(word in _words("common", "en") for word in words) else "en"


def is_wide(character: str) -> bool:
    """Whether it is a letter of Chinese or Japanese, which stand without spaces between words."""
    return "\u3400" <= character <= "\u9fff" or "\u3040" <= character <= "\u30ff" or "\uf900" <= character <= "\ufaff"


def split_sentences(text: str, language: str | None = None, uncased: bool = False) -> list[str]:
    """The sentences, each with the white space that follows it: "".join of them is the text; [] for "".

    language: "en" or "de" for their abbreviations and ordinals, None: guessed; others get the rules without these.
    uncased: the text has lost its capitals, so that a small letter does not show that a sentence goes on.
    Marks of Chinese (。！？ and …… with closing quotes) count in every language. A blank line ends a sentence, a
    single line end does not. Linear in the length of the text.
    """
    language = guess_language(text) if language is None else language
    parts: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if match.start() < start:
            continue
        end = _end(text, start, match, language, uncased)
        if end > start:
            parts.append(text[start:end])
            start = end
    return [*parts, text[start:]] if start < len(text) else parts


def split_paragraphs(text: str) -> list[str]:
    """Lines and what stands between them, in turn: [line, break, line, …, line]; "".join of them is the text.

    A break holds the line ends with the white space around them (indentation, blank lines); the lines have none at
    their ends, save the text's own first and last.
    """
    parts, gap = [""], ""
    for number, line in enumerate(text.split("\n")):
        gap += "\n" if number else ""
        bare = line.strip()
        if not bare:
            gap += line
            continue
        before = line[: len(line) - len(line.lstrip())]
        if parts[-1] or gap:
            parts += [gap + before, bare]
        else:
            parts[-1] = before + bare
        gap = line[len(line.rstrip()) :]
    if gap and "\n" not in gap:
        parts[-1] += gap
    elif gap:
        parts += [gap, ""]
    return parts


def _end(text: str, start: int, match: re.Match[str], language: str, uncased: bool) -> int:
    """Where the sentence that began at `start` ends, white space included; 0 where the mark does not end it."""
    end = match.end()
    if match["blank"]:
        return end
    closing = _CLOSING_GERMAN if language == "de" and match["narrow"] else CLOSING
    while end < len(text) and text[end] in closing:
        end += 1
    closed = end > match.end()
    after = _past_space(text, end)
    if after == len(text):
        return after
    if match["wide"]:
        return 0 if _goes_on(text, match, end, closed) else after
    if after == end:  # 3.14, example.com
        return 0
    following = _first_letter(text, after)
    if following.islower() and (closed or not uncased):
        return 0
    if "\n" in text[end:after].replace("\n", "", 1) or match["narrow"] != "." or closed:
        return after
    return 0 if _abbreviated(text, start, match.start(), after, language, uncased) else after


def _goes_on(text: str, match: re.Match[str], end: int, closed: bool) -> bool:
    """Whether a sentence of Chinese goes on behind its mark: ？”，… or “走吧！”他说。 or …… before a comma."""
    if text[end] in "，、；：,;。！？）":
        return True
    if match["wide"] in ("...", "……", "......") and text[end] in ".…":
        return True
    return closed and "”" in text[match.end() : end] and bool(_SPOKEN.match(text, end)) and "。" not in match["wide"]


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _first_letter(text: str, at: int) -> str:
    """The first character behind opening quotes, brackets and dashes."""
    while at < len(text) and text[at] in _OPENING:
        at += 1
    return text[at : at + 1]


def _abbreviated(text: str, start: int, stop: int, after: int, language: str, uncased: bool) -> bool:
    """Whether the full stop at `stop` belongs to an abbreviation, an initial, an ordinal or the number of a list."""
    before = text[max(start, stop - 40) : stop].rstrip(" ")
    found = _WORD_BEFORE.search(before)
    word = found[0] if found else ""
    following = _word_at(text, after)
    if not text[start:stop].strip(_OPENING + word).strip() and (word.isdigit() or len(word) == 1):
        return True  # "1. First of all"
    starts = following.lower() in _words("starters", language) and (uncased or following[:1].isupper())
    lower = word.lower()
    if lower in _words("numbered", language) and following[:1].isdigit():
        return True
    if lower in _words("titles", language):
        return not (lower in ("no", "s", "p", "min", "max") and starts)
    if language == "de" and _is_ordinal(word):
        return not starts
    initial = len(word) == 1 and word.isalpha() and not is_wide(word)
    dotted = "." in word and all(len(part) <= 2 for part in word.split("."))
    return (initial or dotted or lower in _words("either", language)) and not starts


def _is_ordinal(word: str) -> bool:
    return (word.isdigit() and len(word) <= 3) or (len(word) > 1 and not word.strip("IVXLC"))


def _words(group: str, language: str) -> frozenset[str]:
    return _WORDS[group].get(language, frozenset())


def _word_at(text: str, at: int) -> str:
    while at < len(text) and text[at] in _OPENING:
        at += 1
    found = _WORD.match(text, at)
    return found[0] if found else ""
