"""Parsing ARPA files into arrays, with the number of the line for whatever is wrong."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from llmbert.models.ngram.arpa_names import BEGIN, END, UNKNOWN, token_names, token_text
from llmbert.models.ngram.build import Entries
from llmbert.protocols import LLMBertError, Progress

_BYTES_AT_ONCE = 1 << 21
_LN10 = float(np.log(10))
# At or below, a probability stands for zero (SRILM writes -99 for it).
_NOTHING = -99.0
# No backoff weight comes near; sums of greater ones might leave float32.
_HIGHEST = 1e6
# The names of the special tokens in a vocabulary made from an ARPA file, the same as every tokeniser gives them.
_SPECIAL_TEXTS = {
    "padding_id": "<|padding token|>",
    "unknown_id": "<|unknown token|>",
    "begin_id": "<|begin of text|>",
    "end_id": "<|end of text|>",
}


@dataclass
class Parsed:
    """An ARPA file as arrays: its n-grams, section by section, and the tokens that their ids stand for."""

    sections: list[Entries]
    tokens: list[str]


def parse_arpa(path: Path, tokens: Sequence[str] | None, special: Mapping[str, int], progress: Progress) -> Parsed:
    """Read the file at `path`; `special` gives begin_id, end_id, padding_id and unknown_id.

    Raises LLMBertError where the file cannot be read or is not well formed, with the number of the line.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            return _Parser(path, file, tokens, special, progress).parse()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LLMBertError(f"the compressed ARPA file {path} is damaged or cut short: {error}") from None
    except OSError as error:
        raise LLMBertError(f"cannot read the ARPA file {path}: {error.strerror or error}") from None


class _Parser:
    def __init__(
        self,
        path: Path,
        file: IO[bytes],
        tokens: Sequence[str] | None,
        special: Mapping[str, int],
        progress: Progress,
    ) -> None:
        self.path = path
        self.file = file
        self.progress = progress
        self.line = 0  # the number of the last line handed out
        self.pending: list[bytes] = []
        self.given = tokens is not None
        self.special = special
        self.ids: dict[bytes, int] = {}
        self.tokens = list(tokens) if tokens is not None else _special_tokens(special)
        self._name_tokens()

    def _name_tokens(self) -> None:
        if min(self.special.values()) < 0 or max(self.special.values()) >= len(self.tokens):
            raise LLMBertError(f"the special tokens' ids lie outside the {len(self.tokens)} tokens given")
        reserved = {self.special["begin_id"]: BEGIN, self.special["end_id"]: END, self.special["unknown_id"]: UNKNOWN}
        if self.given:
            names = token_names(self.tokens, {**reserved, self.special["padding_id"]: ""})
            # What other tools write is the plain text, where we would have escaped a mark in it.
            for number, text in enumerate(self.tokens):
                self.ids.setdefault(text.encode(errors="surrogatepass"), number)
            self.ids.update((name.encode(), number) for number, name in enumerate(names))
        self.ids.update((name.encode(), number) for number, name in reserved.items())
        self.ids.pop(b"", None)

    def fail(self, line: int, wrong: str) -> NoReturn:
        raise LLMBertError(f"{self.path}, line {line}: {wrong}")

    def parse(self) -> Parsed:
        sizes = self._header()
        sections = []
        for n, size in enumerate(sizes, 1):
            sections.append(self._section(n, size, highest=n == len(sizes)))
            self.progress("reading ARPA", n, len(sizes))
        line = self._next_line()
        if line != b"\\end\\":
            self.fail(self.line, "expected \\end\\ after the last section; the file may be cut short")
        return Parsed(sections, self.tokens)

    def _blocks(self) -> Iterator[list[bytes]]:
        """The lines left, many at a time; `self.line` is that of the last line handed out."""
        while True:
            lines = self.pending or self.file.readlines(_BYTES_AT_ONCE)
            self.pending = []
            if not lines:
                return
            self.line += len(lines)
            yield lines

    def _give_back(self, lines: list[bytes]) -> None:
        self.pending = lines + self.pending
        self.line -= len(lines)

    def _next_line(self) -> bytes:
        """The next line that is not blank, stripped; empty at the end of the file."""
        for lines in self._blocks():
            for i, line in enumerate(lines):
                if stripped := line.strip():
                    self._give_back(lines[i + 1 :])
                    return stripped
        return b""

    def _header(self) -> list[int]:
        """How many n-grams of each length the file announces."""
        line = self._next_line()
        while line != b"\\data\\":
            if not line:
                self.fail(self.line, "no \\data\\ line; this is not an ARPA file")
            line = self._next_line()
        sizes: list[int] = []
        while True:
            line = self._next_line()
            if line[:1] == b"\\":
                break
            found = re.fullmatch(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})", line)
            if not found or int(found[1]) != len(sizes) + 1:
                self.fail(self.line, f"expected 'ngram {len(sizes) + 1}=' and a count, or the first section")
            sizes.append(int(found[2]))
        if not sizes:
            self.fail(self.line, "the header announces no n-grams")
        self._give_back([line])
        return sizes

    def _section(self, n: int, size: int, highest: bool) -> Entries:
        if self._next_line() != b"\\%d-grams:" % n:
            self.fail(self.line, f"expected \\{n}-grams:")
        opened = self.line
        parts: list[Entries] = []
        for lines in self._blocks():
            first = self.line - len(lines) + 1
            until = next((i for i, line in enumerate(lines) if line[:1] == b"\\"), len(lines))
            text = b"".join(lines[:until])
            counts = _fields_by_line(text)
            numbers = first + np.flatnonzero(counts)
            parts.append(self._entries(n, text.split(), counts[counts > 0], numbers, highest))
            if until < len(lines):
                self._give_back(lines[until:])
                break
        found = sum(len(part) for part in parts)
        if found != size:
            self.fail(opened, f"the header announces {size} {n}-grams, but the section has {found}")
        return Entries.join(parts, n)

    def _entries(self, n: int, fields: list[bytes], counts: np.ndarray, numbers: np.ndarray, highest: bool) -> Entries:
        """The n-grams in some lines, `counts` fields each, that stand at `numbers` in the file."""
        if ((counts < n + 1) | (counts > n + 2)).any():
            wrong = int(np.flatnonzero((counts < n + 1) | (counts > n + 2))[0])
            self.fail(numbers[wrong], f"expected a number, {n} word{'s' * (n > 1)} and at most one number more")
        array = np.array(fields, dtype=object)
        begins = np.cumsum(counts) - counts
        names = array[begins[:, None] + np.arange(1, n + 1)]
        if n == 1 and not self.given:
            self._take_words(names[:, 0], numbers)
        words = np.fromiter(map(self.ids.get, names.ravel(), repeat(-1)), np.int64, names.size).reshape(-1, n)
        if (words < 0).any():
            line, place = (int(indices[0]) for indices in np.nonzero(words < 0))
            where = "the tokens given" if self.given else "the 1-grams"
            self.fail(numbers[line], f"the word {names[line, place].decode(errors='replace')!r} is not among {where}")
        values = self._floats(array[begins], numbers)
        above = (values > 1e-3) & (words[:, -1] != self.special["begin_id"])  # what is written for <s> is never used
        if above.any():
            self.fail(numbers[above][0], "the logarithm of a probability cannot be greater than 0")
        backoff = np.zeros(len(counts), np.float32)
        weighted = counts == n + 2
        if not highest:
            backoff[weighted] = self._floats(array[begins[weighted] + n + 1], numbers[weighted])
        return Entries(words, values, backoff, numbers)

    def _take_words(self, names: np.ndarray, numbers: np.ndarray) -> None:
        """Give the words of a file read without a vocabulary their ids."""
        for name, number in zip(names, numbers, strict=True):
            if name not in self.ids:
                try:
                    text = token_text(name.decode())
                except UnicodeDecodeError:
                    self.fail(number, "the word is not UTF-8 text; convert the file first")
                self.ids[name] = len(self.tokens)
                self.tokens.append(text)

    def _floats(self, texts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Decimal logarithms in text as natural ones: float32 (M,)."""
        try:
            values = np.fromiter(map(float, texts), np.float64, len(texts))
        except ValueError:
            values = np.fromiter(map(_float, texts), np.float64, len(texts))
        wrong = np.isnan(values) | (values > _HIGHEST)
        if wrong.any():
            text = texts[wrong][0].decode(errors="replace")
            self.fail(numbers[wrong][0], f"{text!r} is not the logarithm of a probability")
        return np.where(values <= _NOTHING, -np.inf, values * _LN10).astype(np.float32)


def _fields_by_line(text: bytes) -> np.ndarray:
    """How many fields, as `bytes.split` divides them, each line of `text` has."""
    if not text:
        return np.empty(0, np.int64)
    characters = np.frombuffer(text, np.uint8)
    space = _SPACE[characters]
    opens = ~space
    opens[1:] &= space[:-1]
    lines = np.flatnonzero(characters[:-1] == ord("\n")) + 1
    return np.add.reduceat(opens, np.concatenate([[0], lines]), dtype=np.int64)


_SPACE = np.isin(np.arange(256), list(b" \t\n\r\x0b\f"))


def _float(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _special_tokens(special: Mapping[str, int]) -> list[str]:
    tokens = [""] * len(special)
    if sorted(special.values()) != list(range(len(special))):
        raise LLMBertError("without a vocabulary, the special tokens' ids must be 0 to 3")
    for name, number in special.items():
        tokens[number] = _SPECIAL_TEXTS[name]
    return tokens
