"""One form for spaces, quotes and case: before a model reads a text, and back after it wrote one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmbert.text.sentences import CLOSING, split_sentences

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\u0085\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")
_QUOTES = str.maketrans(
    dict.fromkeys("“”„‟«»＂″", '"') | dict.fromkeys("‘’‚‛‹›＇′´`", "'") | {"–": "-", "—": "-", "−": "-", "…": "..."}
)
# Chinese keeps its own quotes and dashes; Latin letters and digits of double width become plain ones there.
_HALF_WIDTH = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_ENGLISH_I = re.compile(r"(?<![\w.'’-])i(?=$|\s|['’](?:m|ve|ll|d)\b|[,;!?)]|\.\s|\.$)")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")


def normalise_spaces(text: str) -> str:
    """Every kind of space a plain one, runs of them one, none at the ends of lines; line ends \\n, marks without width
    (byte order, soft hyphens, zero-width spaces) gone. Idempotent."""
    text = _SPACES.sub(" ", _LINE_END.sub("\n", text.translate(_INVISIBLE)))
    return "\n".join(line.strip(" ") for line in text.split("\n")).strip("\n")


def normalise_quotes(text: str, language: str = "en") -> str:
    """Typographic quotes, dashes and dots as the ASCII ones; in Chinese instead full-width letters and digits as ASCII.

    Idempotent. `` and '' (Penn Treebank) become double quotes.
    """
    if language == "zh":
        return text.translate(_HALF_WIDTH)
    return text.translate(_QUOTES).replace("''", '"')


def normalise_text(text: str, language: str = "en") -> str:
    """Spaces and quotes in one form: what a run trained on such text is given. Idempotent."""
    return normalise_quotes(normalise_spaces(text), language)


def cased_words(text: str, language: str = "en") -> dict[str, str]:
    """Names of a text: lower-cased word → as written, of words with a capital that begin no sentence ("iPhone" too)."""
    found: dict[str, str] = {}
    for sentence in split_sentences(text, language):
        for number, match in enumerate(_WORD.finditer(sentence)):
            word = match[0]
            if not word.islower() and (number or not word.istitle()) and word.lower() != word:
                found.setdefault(word.lower(), word)
    return found


def true_case(text: str, language: str = "en", known: Mapping[str, str] | None = None) -> str:
    """Lower-cased text with capitals again: at sentence starts, in English "I", and of the `known` words.

    known: lower-cased word → as it is written, for example `cased_words` of the source, whose names a translation
    keeps. What is lost otherwise stays lost (the nouns of German, names nobody told). Changes capitals only.
    Idempotent.
    """
    if known:
        text = _WORD.sub(lambda match: known.get(match[0], match[0]), text)
    if language == "en":
        text = _ENGLISH_I.sub("I", text)
    return "".join(map(_capitalised, split_sentences(text, language, uncased=True)))


def _capitalised(sentence: str) -> str:
    """The first letter upper-case, unless digits or a word with capitals inside come first."""
    for at, character in enumerate(sentence):
        if character.isalpha():
            word = _WORD.match(sentence, at)
            if word and not word[0].islower():
                return sentence
            upper = character.upper()
            return sentence[:at] + (upper if upper.lower() == character else character) + sentence[at + 1 :]
        if character.isdigit():
            return sentence
    return sentence


def ends_sentence(text: str) -> bool:
    """Whether the text ends with the mark of a sentence's end, closing quotes and brackets aside."""
    return text.rstrip().rstrip(CLOSING + "“‘").endswith((".", "!", "?", "…", "。", "！", "？"))
