r"""The names that tokens go by in an ARPA file, where fields are divided by white space and three names are taken.

Begin, end and unknown are `<s>`, `</s>` and `<unk>`; padding has no name. Every other token is called by its own text,
except for what follows, which `token_text` undoes:

- white space, NUL and lone surrogates are written `\uXXXX`, their code in four lower-case hexadecimal digits;
- a token whose text is one of the three reserved names has its `<` written `\u003c`;
- the empty token is called `\empty`;
- of tokens with one and the same text, all but the first have `\#` and their id after it;
- a backslash that would be taken for one of these marks is written `\u005c`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

_RESERVED = frozenset((BEGIN, END, UNKNOWN))
_EMPTY = r"\empty"
_TO_ESCAPE = re.compile(r"[\s\x00\ud800-\udfff]|\\(?=u[0-9a-f]{4}|#[0-9]+\Z|empty\Z)")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_REPEATED = re.compile(r"\\#[0-9]+\Z")


def token_name(text: str) -> str:
    """The name of an ordinary token whose text is `text`."""
    if not text:
        return _EMPTY
    if text in _RESERVED:
        return _escape(text[0]) + text[1:]
    return _TO_ESCAPE.sub(lambda found: _escape(found[0]), text)


def token_text(name: str) -> str:
    """The text of the ordinary token called `name`; names that hold none of the marks stand for themselves."""
    name = _REPEATED.sub("", name)
    if name == _EMPTY:
        return ""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)


def token_names(tokens: Sequence[str], reserved: dict[int, str]) -> list[str]:
    """The names of all tokens, by id, no two alike; `reserved` gives those of the special tokens."""
    names: list[str] = []
    taken: set[str] = set()
    for number, text in enumerate(tokens):
        if number in reserved:
            name = reserved[number]
        else:
            name = token_name(text)
            if name in taken:
                name = rf"{name}\#{number}"
            taken.add(name)
        names.append(name)
    return names


def _escape(character: str) -> str:
    return rf"\u{ord(character):04x}"
