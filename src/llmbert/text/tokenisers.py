"""Tokenisers: str to ids and back, each kind saved as a `tokenizer.json` that Transformers opens."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.text.byte_level import byte_level_encoder
from llmbert.text.segment import RUN_CHARACTERS, cut_pieces
from llmbert.text.vocabulary import SPECIAL_TOKENS, TOKENISERS, byte_letters, bytes_of_piece

__all__ = ["SPECIAL_TOKENS", "TOKENISERS", "Tokeniser", "train_tokeniser"]

Ids = NDArray[np.int32]
Joined = tuple[Ids, NDArray[np.int64]]
Frame = tuple[tuple[int, ...], tuple[int, ...]]

_BATCH_CHARACTERS = 1 << 20


class Tokeniser:
    """An immutable tokeniser of one of the kinds in TOKENISERS.

    What a user types never becomes a special token, whatever its letters.
    """

    padding_id, unknown_id, begin_id, end_id = range(4)

    def __init__(self, kind: str, tokenizer: Tokenizer) -> None:
        self.kind = kind
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True  # not part of the file: set anew each time
        self._settings = TOKENISERS[kind]
        self.lossless: bool = self._settings.lossless
        self.vocabulary_size: int = tokenizer.get_vocab_size()

    @property
    def source_frame(self) -> Frame:
        """What stands before and behind a source."""
        return (), (self.end_id,)

    @property
    def target_frame(self) -> Frame:
        """What stands before and behind what a decoder writes, its begin token first."""
        return (self.begin_id,), (self.end_id,)

    @cached_property
    def reserved_ids(self) -> frozenset[int]:
        """Everything that is no text."""
        return frozenset((*range(len(SPECIAL_TOKENS)), *self.special_ids.values()))

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The ids of special tokens beyond the four that every tokeniser has (a mask, sentinels), by name."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {added[i].content: i for i in sorted(added) if added[i].special and i >= len(SPECIAL_TOKENS)}

    def with_special_tokens(self, names: Sequence[str]) -> Tokeniser:
        """This tokeniser with more special tokens, their ids behind all others; those it has already stay.

        Raises UsageError for a name without a space inside, which typed text could spell.
        """
        for name in names:
            if " " not in name.strip():
                raise UsageError(
                    f"a special token needs a space inside its name, so that no text can spell it: {name!r}"
                )
        wanted = [name for name in names if name not in self.special_ids and name not in SPECIAL_TOKENS]
        if not wanted:
            return self
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in wanted])
        return Tokeniser(self.kind, tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the kind and the serialised tokenizer, in hexadecimal."""
        return hashlib.sha256(f"{self.kind}\n{self._tokenizer.to_str()}".encode()).hexdigest()

    def encode(self, text: str) -> Ids:
        """The ids of a text: int32 (n,), no special tokens added.

        Raises LLMBertError for a text that holds a lone surrogate, as do all that encode.
        """
        if len(text) > RUN_CHARACTERS:
            return np.concatenate(list(self.encode_pieces([text])))
        return self.encode_joined([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, as `encode` gives them."""
        ids, lengths = self.encode_joined(texts)
        ends = np.cumsum(lengths).tolist()
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def encode_joined(self, texts: Sequence[str]) -> Joined:
        """The ids of all texts one after another, int32 (N,), and how many each has, int64 (texts,)."""
        try:
            if self._settings.prepare:
                texts = [self._settings.prepare(text) for text in texts]
            return self._encode(texts)
        except (UnicodeEncodeError, TypeError):
            _refuse_surrogates(texts)
            raise

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Ids]:
        """The ids of one document that comes in pieces of any length: the parts of what `encode` gives for the whole.

        Memory is bounded: a run of more than RUN_CHARACTERS (about a million) that has no place for a safe cut
        (white space, Chinese punctuation) is cut where it falls, and its ids there may differ.
        """
        batch: list[str] = []
        length = 0
        for piece in cut_pieces(pieces, self._settings.cut):
            batch.append(piece)
            length += len(piece)
            if length >= _BATCH_CHARACTERS:
                yield self.encode_joined(batch)[0]
                batch, length = [], 0
        yield self.encode_joined(batch)[0]

    def decode(self, ids: Iterable[int] | NDArray[Any]) -> str:
        """The text of some ids; special tokens are dropped.

        Bytes that are no character show as �, and take no whole one beside them with them.
        """
        numbers = ids.tolist() if isinstance(ids, np.ndarray) else [int(number) for number in ids]
        if self.kind == "unigram":  # the library makes a whole run of bytes � once one of them is stray
            pieces = self._bytes or []
            return b"".join([pieces[i] for i in numbers if i < len(pieces)]).decode("utf-8", "replace")
        return self._tokenizer.decode(numbers, skip_special_tokens=True)

    @property
    def drops_spaces(self) -> bool:
        """Whether decoding drops the space that a text begins with, so that what follows other text needs care."""
        return self._settings.spaced

    def decode_after(self, ids: Iterable[int] | NDArray[Any], before: Sequence[int] = ()) -> str:
        """`decode` of ids that stand behind others, with the space that it would put between them.

        before: the ids that they stand behind; where none of them is text, any word.
        """
        if not self.drops_spaces:
            return self.decode(ids)
        numbers = ids.tolist() if isinstance(ids, np.ndarray) else [int(number) for number in ids]
        hinge = self._hinge(before)
        return self.decode([*hinge, *numbers]).removeprefix(self.decode(hinge))

    def _hinge(self, before: Sequence[int]) -> list[int]:
        """The token of `before` that says how the text behind it begins."""
        last = next((int(number) for number in reversed(before) if int(number) not in self.reserved_ids), None)
        return self._anchor if last is None else [last]

    @cached_property
    def _anchor(self) -> list[int]:
        """A word to stand before other text, not of Chinese, which has no spaces beside it; [] where there is none."""
        words = (number for number, token in enumerate(self._tokens) if token.isascii() and token.isalnum())
        return [number for number in words if number not in self.reserved_ids][:1]

    def token_texts(self) -> list[str]:
        """Each token as text, by id, for display: a byte that is no text alone shows as �."""
        if self.kind in ("bytes", "bpe"):
            stood_for = self.token_bytes() or []
            special = dict.fromkeys(range(len(SPECIAL_TOKENS))) | dict.fromkeys(self.special_ids.values())
            return [
                self._tokens[i] if i in special else token.decode("utf-8", "replace")
                for i, token in enumerate(stood_for)
            ]
        return self._tokens

    def token_bytes(self) -> list[bytes] | None:
        """The bytes that each token stands for, by id (special tokens: none), or None where tokens are not bytes."""
        return None if self._bytes is None else list(self._bytes)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, each at once or not at all."""
        padding, unknown, begin, end = SPECIAL_TOKENS
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": padding,
            "unk_token": unknown,
            "bos_token": begin,
            "eos_token": end,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
            "llmbert_kind": self.kind,
        }
        if self._settings.prepare:
            config["llmbert_segmentation"] = "text goes through jieba first; tokenizer.json takes words and spaces"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "tokenizer.json", self._tokenizer.to_str(pretty=True))
        _write(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Tokeniser:
        """Open what `save` wrote. Raises LLMBertError where a file is missing, damaged or of another making."""
        folder = Path(folder)
        config = _read(folder / "tokenizer_config.json")
        try:
            kind = json.loads(config)["llmbert_kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(folder / "tokenizer_config.json", "does not say which kind of tokeniser it is") from error
        if not isinstance(kind, str) or kind not in TOKENISERS:
            raise _damaged(folder / "tokenizer_config.json", f"names the unknown kind {kind!r}")
        text = _read(folder / "tokenizer.json")
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise _damaged(folder / "tokenizer.json", "is damaged") from error
        if [tokenizer.id_to_token(number) for number in range(4)] != list(SPECIAL_TOKENS):
            raise _damaged(folder / "tokenizer.json", "lacks the special tokens at ids 0 to 3")
        return cls(kind, tokenizer)

    @cached_property
    def _bytes(self) -> list[bytes] | None:
        """`token_bytes`, to be left as it is."""
        if self.kind not in ("bytes", "bpe", "unigram"):
            return None
        values = {letter: byte for byte, letter in enumerate(byte_letters())}

        def spelt(token: str) -> bytes:
            return bytes_of_piece(token) if self.kind == "unigram" else bytes(values[letter] for letter in token)

        return [b"" if i in self.reserved_ids else spelt(token) for i, token in enumerate(self._tokens)]

    @cached_property
    def _tokens(self) -> list[str]:
        return [self._tokenizer.id_to_token(number) or "" for number in range(self.vocabulary_size)]

    @cached_property
    def _encode(self) -> Callable[[Sequence[str]], Joined]:
        """The fastest way to the ids that the tokenizer would give."""
        if self.kind == "bytes":
            return _encode_bytes
        if self.kind == "chars":
            return _characters_by_table(self._tokens[: self.vocabulary_size - len(self.special_ids)])
        if self.kind in ("words", "jieba"):
            return _words_by_lookup(self._tokens)
        if self.kind == "bpe":
            return byte_level_encoder(self._tokenizer)
        return self._encode_by_library

    def _encode_by_library(self, texts: Sequence[str]) -> Joined:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths


def train_tokeniser(
    kind: str, texts: Iterable[str], vocabulary_size: int | None = None, progress: Progress = silent
) -> Tokeniser:
    """Learn a tokeniser of one of the kinds in TOKENISERS from texts, each of which stands for itself.

    The texts are never joined: a document that is too long to hold comes in pieces (`safe_pieces`).

    vocabulary_size counts the special tokens; None: 260 for bytes, everything met for chars, words and jieba, 4096
    for bpe, unigram and wordpiece. Little text may give fewer. The same text gives the same tokeniser.
    Raises UsageError for an unknown kind or a size too small for it.
    """
    if kind not in TOKENISERS:
        raise UsageError(f"there is no tokeniser {kind!r}; choose one of {', '.join(TOKENISERS)}")
    try:
        return Tokeniser(kind, TOKENISERS[kind].train(texts, vocabulary_size, progress))
    except UnicodeEncodeError as error:
        raise _surrogate(error) from error


def _encode_bytes(texts: Sequence[str]) -> Joined:
    encoded = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return np.frombuffer(b"".join(encoded), np.uint8).astype(np.int32) + np.int32(len(SPECIAL_TOKENS)), lengths


def _characters_by_table(tokens: Sequence[str]) -> Callable[[Sequence[str]], Joined]:
    codes = [ord(token) for token in tokens[len(SPECIAL_TOKENS) :]]
    table = np.full(max(codes, default=0) + 2, Tokeniser.unknown_id, np.int32)
    table[codes] = np.arange(len(SPECIAL_TOKENS), len(tokens), dtype=np.int32)

    def encode(texts: Sequence[str]) -> Joined:
        characters = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
        return table[np.minimum(characters, len(table) - 1)], np.fromiter(map(len, texts), np.int64, len(texts))

    return encode


def _words_by_lookup(tokens: Sequence[str]) -> Callable[[Sequence[str]], Joined]:
    unknown = Tokeniser.unknown_id
    numbers = {token: number for number, token in enumerate(tokens) if number >= len(SPECIAL_TOKENS)}
    find = numbers.get
    newline = find("\n", unknown)

    def encode(texts: Sequence[str]) -> Joined:
        ids: list[int] = []
        lengths = np.empty(len(texts), np.int64)
        for row, text in enumerate(texts):
            if not text.isascii():
                text.encode()  # refuses lone surrogates
            before = len(ids)
            first, *others = text.split("\n")
            ids += [find(word, unknown) for word in first.split()]
            for line in others:
                ids.append(newline)
                ids += [find(word, unknown) for word in line.split()]
            lengths[row] = len(ids) - before
        return np.array(ids, np.int32), lengths

    return encode


def _refuse_surrogates(texts: Iterable[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _surrogate(error) from None


def _surrogate(error: UnicodeEncodeError) -> LLMBertError:
    code = ord(error.object[error.start])
    return LLMBertError(f"the text holds half a character (the lone surrogate U+{code:04X}); remove or replace it")


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LLMBertError(f"{path} is missing; give the folder of a tokeniser or of a run") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, "cannot be read") from error


def _damaged(path: Path, what: str) -> LLMBertError:
    return LLMBertError(f"{path} {what}; take the folder from the run that wrote it, or train the tokeniser anew")
