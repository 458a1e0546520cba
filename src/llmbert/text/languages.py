"""Codes of languages, as BCP 47 writes them: "en", "zh-CN", and the two of pairs, "en-de" or "zh-CN-en"."""

from __future__ import annotations

import re

_CODE = r"[a-z]{2,3}(?:[-_](?:[A-Z][a-z]{3}|[A-Z]{2}|\d{3}))*"  # a language, its script, its region
_PAIR = re.compile(rf"({_CODE})(?:-({_CODE}))?")
# ISO 639-1: "cn" or "jp", which are countries, would pass for languages otherwise.
_TWO_LETTERS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st "
    "su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)


def language_pair(text: str) -> tuple[str, str] | None:
    """Source and target of "en-de" or "zh-CN-en", or of "zh" the same twice; None where these are no codes.

    A region is told from a language by its capitals: "pt-BR" is one, "pt-br" two.
    """
    found = _PAIR.fullmatch(text.lower() if text.isupper() else text)
    if not found:
        return None
    pair = found[1], found[2] or found[1]
    return pair if all(len(base_code(each)) == 3 or base_code(each) in _TWO_LETTERS.split() for each in pair) else None


def base_code(code: str) -> str:
    """A language without its script and region: "zh" of "zh-CN"."""
    return re.split("[-_]", code)[0].lower()


def same_language(one: str, other: str) -> bool:
    """Whether two codes can mean the same: "zh" and "zh-CN" can, "zh-CN" and "zh-TW" cannot."""
    return one == other or (base_code(one) == base_code(other) and base_code(one) in (one, other))
