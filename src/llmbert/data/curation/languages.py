"""Which language a text is in: by its script, by the commonest words of English, else by lingua."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from llmbert.protocols import LLMBertError, UsageError

LOOKED_AT = 2000  # characters of a text for its script
ASKED = 300  # characters that lingua is asked about
SURE = 0.2  # how much likelier than the next one lingua must find a language (from 0 to 0.99)
LEAST_LETTERS = 20  # a text with fewer tells nothing; a Han character counts as three
ASKED_LETTERS = 60
"""Letters that lingua needs. Of WikiText-2's English lines with 20 to 40 it takes 28 % for another language (they are
headings, mostly names), of those with 60 or more 0.3 %; of Multi30k's German sentences 1 in 1,000 for another one."""
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_ENGLISH = frozenset(
    re.findall(
        "[a-z]+",
        "the of and to that is was for it with as on by this from are were which be have has had not you i they he she "
        "we his her their been would there what will can but if",
    )
)


def check_languages(codes: list[str]) -> frozenset[str]:
    """Codes of languages (ISO 639-1) that can be told. Raises UsageError for another one."""
    known = {language.iso_code_639_1.name.lower() for language in _lingua().Language.all()}
    if unknown := [code for code in codes if code not in known]:
        raise UsageError(f"{unknown[0]!r} is no language that can be told; give codes such as en, zh or de")
    return frozenset(codes)


def language_of(text: str) -> str | None:
    """The code of a text's language (ISO 639-1), None where it cannot be told.

    Where Han characters, each counted as three letters, outweigh other letters it is zh, or ja with kana among them; a
    text of which a fifth are common words of English is en; of others lingua is asked, in its quick mode.
    """
    text = text[:LOOKED_AT]
    letters = sum(map(str.isalpha, text))
    han, kana = len(_HAN.findall(text)), len(_KANA.findall(text))
    if letters + 2 * han < LEAST_LETTERS:
        return None
    if 3 * (han + kana) > letters - han - kana:
        return "ja" if 20 * kana > han else "zh"
    words = re.findall(r"[^\W\d_]+", text.lower())
    common = [word for word in words if word in _ENGLISH]
    if 5 * len(common) >= len(words) and len(set(common)) >= 3:
        return "en"
    if letters < ASKED_LETTERS:
        return None
    found = _detector().detect_language_of(text[:ASKED])
    return None if found is None else found.iso_code_639_1.name.lower()


@lru_cache(maxsize=1)
def _detector() -> Any:
    builder = _lingua().LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode()
    return builder.with_minimum_relative_distance(SURE).build()


def _lingua() -> Any:
    try:
        import lingua
    except ImportError as error:
        raise LLMBertError(
            "telling languages needs the package lingua-language-detector, which is not installed; "
            "pip install 'llmbert[curate]'"
        ) from error
    return lingua
