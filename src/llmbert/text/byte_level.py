"""A quick way to the ids of byte-level BPE: split in Python, each distinct word asked of the library once.

Text is split as GPT-2 does it. Python's `re` has no classes of letters and numbers, so they are listed here for the
characters of the basic plane that Unicode has had since version 3.2, whose class no table disputes. Text with any
other character (emoji, scripts added later) is left to the library.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

LONGEST_WORD = 64
MOST_WORDS = 1 << 17

Rows = list[list[int]]


def byte_level_encoder(tokenizer: Tokenizer) -> Callable[[Sequence[str]], tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """An encoder of many texts: all ids one after another, int32 (N,), and how many each text has, int64."""
    cache: dict[str, list[int]] = {}

    def by_library(texts: Iterable[str]) -> Rows:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        nonlocal cache
        split, strange = _patterns()
        known = cache if len(cache) < MOST_WORDS else {}
        cache = known
        words = [None if strange.search(text) else split.findall(text) for text in texts]
        missing = {word for row in words if row for word in row} - known.keys()
        if any(len(word) > LONGEST_WORD for word in missing):
            words = [row if row and max(map(len, row)) <= LONGEST_WORD else None for row in words]
            missing = {word for word in missing if len(word) <= LONGEST_WORD}
        known.update(zip(missing, by_library(missing), strict=True))
        others = iter(by_library(text for text, row in zip(texts, words, strict=True) if row is None))
        rows = [
            next(others) if row is None else list(chain.from_iterable(map(known.__getitem__, row))) for row in words
        ]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths

    return encode


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """GPT-2's split, and what is no character of sure class."""
    classes: dict[str, list[int]] = {"L": [], "N": [], "other": []}
    for code in range(0x10000):
        then, now = (table.category(chr(code)) for table in (unicodedata.ucd_3_2_0, unicodedata))
        kind, kind_now = (category[0] if category[0] in "LN" else "other" for category in (then, now))
        if then not in ("Cn", "Cs", "Co") and kind == kind_now:
            classes[kind].append(code)
    letters, numbers = _ranges(classes["L"]), _ranges(classes["N"])
    space = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    split = re.compile(
        rf"'s|'t|'re|'ve|'m|'ll|'d| ?[{letters}]+| ?[{numbers}]+| ?[^{space}{letters}{numbers}]+"
        rf"|[{space}]+(?![^{space}])|[{space}]+"
    )
    return split, re.compile(f"[^{_ranges(sorted(chain.from_iterable(classes.values())))}]")


def _ranges(codes: Sequence[int]) -> str:
    """Sorted code points as the inside of a regular expression's set."""
    starts = [code for before, code in zip([-2, *codes], codes, strict=False) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], -2], strict=True) if after != code + 1]
    return "".join(f"\\u{start:04x}-\\u{end:04x}" for start, end in zip(starts, ends, strict=True))
