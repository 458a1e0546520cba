"""N-gram models as ARPA files, the text format of SRILM, KenLM and most speech tools.

The names of tokens in the file are those of `llmbert.models.ngram.arpa_names`; a name ending in `.gz` is compressed.
"""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from llmbert.models.ngram.arpa_names import BEGIN, END, UNKNOWN, token_names
from llmbert.models.ngram.arpa_parse import parse_arpa
from llmbert.models.ngram.build import levels_from_entries
from llmbert.models.ngram.model import NGram
from llmbert.models.ngram.storage import NGramConfig
from llmbert.models.ngram.trie import Level
from llmbert.protocols import LLMBertError, Progress, silent

# Lines put together at once.
_LINES_AT_ONCE = 1 << 16
# Longer tokens, in bytes, are rare, and their lines are put together one by one.
_LONGEST_IN_TABLE = 48
# Digits after the point: a float32 has no more to tell.
_DECIMALS = 7
_LOG10_OF_NOTHING = -99.0


def write_arpa(ngram: NGram, tokens: Sequence[str], path: Path | str, progress: Progress = silent) -> None:
    """Write a model as an ARPA file, whole or not at all; `tokens` are the texts of its vocabulary, by id.

    Raises LLMBertError for an additive model, which does not back off and so has no ARPA form, where `tokens` are not
    as many as the vocabulary, and where the file cannot be written.
    """
    config = ngram.settings
    if config.smoothing == "additive":
        raise LLMBertError("an additive n-gram model never backs off, so an ARPA file cannot hold it: use kneser-ney")
    if len(tokens) != ngram.vocabulary_size:
        raise LLMBertError(f"{len(tokens)} tokens do not name a vocabulary of {ngram.vocabulary_size}")
    path = Path(path)
    reserved = {config.begin_id: BEGIN, config.end_id: END, config.unknown_id: UNKNOWN, config.padding_id: ""}
    names = [name.encode() for name in token_names(tokens, reserved)]
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with beside.open("wb") as raw:
                _write(ngram, names, raw, path.suffix == ".gz", progress)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise LLMBertError(f"cannot write the ARPA file {path}: {error.strerror or error}") from None


def read_arpa(
    path: Path | str,
    tokens: Sequence[str] | None = None,
    progress: Progress = silent,
    *,
    begin_id: int = 2,
    end_id: int = 3,
    padding_id: int = 0,
    unknown_id: int = 1,
) -> tuple[NGram, list[str]]:
    """The model in an ARPA file of any origin, and its tokens by id.

    With `tokens`, ids are theirs, and every word of the file must be among them; those that the file lacks share the
    probability of `<unk>` evenly with it. Without, ids 0-3 are the special tokens and the words follow in the order
    of the file. N-grams may come in any order, with or without backoff weights, a probability of -99 or less is zero,
    and n-grams whose own beginning is missing are understood as if it had been written with its backed-off value.

    Raises LLMBertError, with the number of the line, where the file is not a well-formed ARPA file.
    """
    special = {"begin_id": begin_id, "end_id": end_id, "padding_id": padding_id, "unknown_id": unknown_id}
    parsed = parse_arpa(Path(path), tokens, special, progress)
    size = {"order": len(parsed.sections), "vocabulary_size": len(parsed.tokens)}
    config = NGramConfig.from_dict({**size, "smoothing": "arpa", **special})
    return NGram(levels_from_entries(parsed.sections, config, str(path)), config), parsed.tokens


# --- Writing ---


def _write(ngram: NGram, names: list[bytes], raw: IO[bytes], compress: bool, progress: Progress) -> None:
    # Neither a name nor a time goes into the compressed file, so that the same model gives the same bytes.
    file = gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=6) if compress else raw
    padding = ngram.settings.padding_id
    sizes = [len(level) - (n == 0) for n, level in enumerate(ngram.levels)]
    file.write(b"\\data\\\n" + b"".join(b"ngram %d=%d\n" % pair for pair in enumerate(sizes, 1)))
    table = _Names(names)
    done = 0
    for n, level in enumerate(ngram.levels, 1):
        file.write(b"\n\\%d-grams:\n" % n)
        for i in range(0, len(level), _LINES_AT_ONCE):
            nodes = np.arange(i, min(i + _LINES_AT_ONCE, len(level)))
            if n == 1:
                nodes = nodes[nodes != padding]
            for block in _lines(ngram.levels, n, nodes, table):
                file.write(block)
            done += len(nodes)
            progress("writing ARPA", done, sum(sizes))
    file.write(b"\n\\end\\\n")
    if compress:
        file.close()


class _Names:
    """The names of all tokens: as one matrix of bytes, NUL where a name has ended, and as a list."""

    def __init__(self, names: list[bytes]) -> None:
        self.names = names
        self.sizes = np.array([len(name) for name in names])
        short = [name if len(name) <= _LONGEST_IN_TABLE else b"" for name in names]
        table = np.array(short, dtype=np.bytes_)
        self.matrix = table.view(np.uint8).reshape(len(names), table.dtype.itemsize)

    def too_long(self, words: np.ndarray) -> np.ndarray:
        return self.sizes[words] > _LONGEST_IN_TABLE

    def block(self, words: np.ndarray) -> np.ndarray:
        return self.matrix[words, : int(self.sizes[words].max(initial=0))]


def _lines(levels: list[Level], n: int, nodes: np.ndarray, names: _Names) -> Iterator[bytes]:
    """The lines of some n-grams of length `n`, in order, as bytes."""
    words, level = _words(levels, n, nodes), levels[n - 1]
    by_hand = np.zeros(len(nodes), bool)
    for column in words:
        by_hand |= names.too_long(column)
    begun = 0
    for i in np.flatnonzero(by_hand).tolist():
        yield _block(level, nodes[begun:i], [column[begun:i] for column in words], names)
        text = b" ".join(names.names[column[i]] for column in words)
        yield _block(level, nodes[i : i + 1], [], names).replace(b"\t", b"\t" + text, 1)
        begun = i + 1
    yield _block(level, nodes[begun:], [column[begun:] for column in words], names)


def _words(levels: list[Level], n: int, nodes: np.ndarray) -> list[np.ndarray]:
    """The words of n-grams of length `n`, first word first: n arrays (M,)."""
    words = []
    for m in range(n, 0, -1):
        words.append(levels[m - 1].words[nodes])
        if m > 1:
            nodes = levels[m - 1].keys[nodes] // len(levels[0])
    return words[::-1]


def _block(level: Level, nodes: np.ndarray, words: list[np.ndarray], names: _Names) -> bytes:
    """Lines put together column by column in a matrix of bytes, its NUL bytes dropped at the end."""
    parts = [_decimals(level.log_probability[nodes]), _column(b"\t", len(nodes))]
    for i, column in enumerate(words):
        if i:
            parts.append(_column(b" ", len(nodes)))
        parts.append(names.block(column))
    if level.backoff is not None:
        weights = level.backoff[nodes]
        tail = np.concatenate([_column(b"\t", len(nodes)), _decimals(weights)], axis=1)
        tail[weights == 0] = 0
        parts.append(tail)
    parts.append(_column(b"\n", len(nodes)))
    block = np.concatenate(parts, axis=1).ravel()
    return block[block != 0].tobytes()


def _column(byte: bytes, rows: int) -> np.ndarray:
    return np.full((rows, 1), byte[0], np.uint8)


def _decimals(logs: np.ndarray) -> np.ndarray:
    """Natural logs (M,) as decimal logarithms in text: bytes (M, 11), NUL where a place is empty."""
    value = np.maximum(logs.astype(np.float64) / math.log(10), _LOG10_OF_NOTHING)
    scaled = np.rint(np.minimum(np.abs(value), 99.0) * 10**_DECIMALS).astype(np.int32)
    text = np.zeros((len(logs), 11), np.uint8)
    text[:, 0] = np.where((value < 0) & (scaled > 0), ord("-"), 0)
    text[:, 3] = ord(".")
    whole, rest = np.divmod(scaled, 10**_DECIMALS)
    text[:, 1:3] = _DIGITS[whole, 2:]
    text[:, 1][whole < 10] = 0
    text[:, 4:8] = _DIGITS[rest // 1000]
    text[:, 8:11] = _DIGITS[rest % 1000, 1:]
    return text


_DIGITS = np.array([b"%04d" % i for i in range(10000)]).view(np.uint8).reshape(10000, 4)
