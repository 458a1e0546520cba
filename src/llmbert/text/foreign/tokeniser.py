"""Tokenisers that others made: any `tokenizer.json`, BERT's vocab.txt, GPT-2's vocab.json with merges.txt."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer

from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.foreign.files import find_tokenizer, read_config
from llmbert.text.segment import cut_pieces
from llmbert.text.tokenisers import Frame, Ids, Joined, Tokeniser
from llmbert.text.vocabulary import MASK_TOKEN, byte_letters, bytes_of_piece

FOREIGN = "foreign"
IDS = "llmbert_ids"  # where `save` keeps which ids are special, in tokenizer_config.json
NO_ID = -1
MASKS = ("[MASK]", "<mask>")
# Between a letter and a space with a letter behind it every split of the byte-level kind begins a new word.
_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])")
_SENTINEL = re.compile(r"<extra_id_\d+>$")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class ForeignTokeniser(Tokeniser):
    """A tokeniser from elsewhere, with what `Tokeniser` has.

    begin_id: what a document, or the text a decoder writes, begins with; end_id: what is scored as its end; padding_id,
    unknown_id: these two; each -1 where there is none. end_ids: all that end a text; prefix_ids, suffix_ids: what its
    own rules put around a text (BERT's [CLS] and [SEP]); forced_ids: what a written text must begin with; mask_id: what
    stands for a token to be guessed, -1 without one.
    lossless only where every byte has a token and nothing rewrites the text before. What a user types never becomes a
    special token: not by its name, nor as a piece of the vocabulary that has the name's letters.
    """

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any], ids: Mapping[str, Any]) -> None:
        """config: `tokenizer_config.json`; ids: `bos_token_id` and its like, as in Hugging Face's `config.json`."""
        self.kind = FOREIGN
        self._tokenizer, self._config = tokenizer, dict(config)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # not part of the file: set anew each time
        self._parts: dict[str, Any] = json.loads(tokenizer.to_str())
        self.vocabulary_size: int = max(tokenizer.get_vocab().values(), default=-1) + 1
        self._ids = {**self._named_ids(), **{name: value for name, value in ids.items() if value is not None}}
        self._ids |= self._config.get(IDS) or {}
        self.prefix_ids, self.suffix_ids = self._around()
        self.end_ids: tuple[int, ...] = tuple(_listed(self._ids.get("eos_token_id"))) or self.suffix_ids[-1:]
        self.forced_ids: tuple[int, ...] = tuple(_listed(self._ids.get("forced_bos_token_id")))
        begins = [_first(self._ids, "decoder_start_token_id", "bos_token_id", "cls_token_id")]
        self.begin_id = next((n for n in (*begins, *self.prefix_ids, *self.end_ids) if n != NO_ID), NO_ID)
        self.end_id = next(iter(self.end_ids), NO_ID)
        self.padding_id = _first(self._ids, "pad_token_id")
        self.unknown_id = self._unknown()
        self.mask_id = self.special_ids.get(MASK_TOKEN, NO_ID)
        self.lossless = self._keeps_everything()

    # ---- ids -------------------------------------------------------------------------------------------------------

    def config_ids(self) -> dict[str, Any]:
        """The special ids as `config.json` holds them."""
        return {name: value for name, value in self._ids.items() if name.endswith("_token_id")}

    @property
    def source_frame(self) -> Frame:
        """What its own rules put around a text."""
        return self.prefix_ids, self.suffix_ids

    @property
    def target_frame(self) -> Frame:
        """What stands before and behind what a decoder writes, its begin token first."""
        return (self.begin_id, *(self.forced_ids or self.prefix_ids)), (self.end_id,)

    @cached_property
    def reserved_ids(self) -> frozenset[int]:
        """Everything that is no text."""
        ends = (self.begin_id, self.end_id, self.padding_id, self.unknown_id)
        return frozenset((*ends, *self.special_ids.values())) - {NO_ID}

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The ids of all special tokens, by name; a mask and T5's sentinels by the names that ours have, too."""
        added = self._tokenizer.get_added_tokens_decoder()
        found = {added[number].content: number for number in sorted(added) if added[number].special}
        sentinels = {f"<|sentinel {name[10:-1]}|>": number for name, number in found.items() if _SENTINEL.match(name)}
        mask = next((found[name] for name in self._mask_names() if name in found), None)
        return found | sentinels | ({} if mask is None else {MASK_TOKEN: mask})

    def _mask_names(self) -> tuple[str, ...]:
        return (_content(self._config.get("mask_token") or ""), *MASKS)

    def _named_ids(self) -> dict[str, int]:
        """Ids of the special tokens that `tokenizer_config.json` names."""
        found = {}
        for role in ("bos", "eos", "pad", "cls", "sep"):
            name = self._config.get(f"{role}_token")
            number = self._tokenizer.token_to_id(_content(name)) if name else None
            if number is not None:
                found[f"{role}_token_id"] = number
        if "sep_token_id" in found:
            found.setdefault("eos_token_id", found["sep_token_id"])
        return found

    def _unknown(self) -> int:
        model = self._parts["model"]
        number = model.get("unk_id")
        if number is None and model.get("unk_token"):
            number = self._tokenizer.token_to_id(_content(model["unk_token"]))
        return NO_ID if number is None else number

    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before and behind a text: by the file's own template, or where the configuration says so."""
        whole, bare = (self._tokenizer.encode("a", add_special_tokens=flag).ids for flag in (True, False))
        places = [at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare]
        at = places[0] if bare and places else 0
        prefix, suffix = tuple(whole[:at]), tuple(whole[at + len(bare) :])
        first = self._ids.get("bos_token_id")
        if self._config.get("add_bos_token") is True and first is not None and first not in prefix:
            prefix = (first, *prefix)
        if self._config.get("add_bos_token") is False and prefix == (first,):
            prefix = ()
        return prefix, suffix

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the serialised tokenizer, in hexadecimal."""
        return hashlib.sha256(f"{self.kind}\n{self._tokenizer.to_str()}".encode()).hexdigest()

    def with_special_tokens(self, names: Sequence[str]) -> ForeignTokeniser:
        """This tokeniser with more special tokens, their ids behind all others; those it has already stay.

        Raises UsageError for a name without a space inside, which typed text could spell.
        """
        wanted = [name for name in names if name not in self.special_ids]
        if not wanted:
            return self
        for name in wanted:
            if " " not in name.strip():
                raise UsageError(
                    f"a special token needs a space inside its name, so that no text can spell it: {name!r}"
                )
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in wanted])
        return ForeignTokeniser(tokenizer, self._config, self._ids)

    # ---- text to ids -----------------------------------------------------------------------------------------------

    def encode(self, text: str) -> Ids:
        """The ids of a text: int32 (n,), no special tokens added. Raises LLMBertError for a lone surrogate."""
        return self.encode_joined([text])[0]

    def encode_joined(self, texts: Sequence[str]) -> Joined:
        """The ids of all texts one after another, int32 (N,), and how many each has, int64 (texts,)."""
        _refuse_surrogates(texts)
        rows = [self._respelt(each.ids) for each in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Ids]:
        """The ids of one document that comes in pieces of any length: the parts of what `encode` gives for the whole.

        Where words do not show where a text may be cut (SentencePiece), all of it is held.
        """
        whole = cut_pieces(pieces, _BETWEEN_WORDS) if self._is_byte_level else ["".join(pieces)]
        for piece in whole:
            yield self.encode(piece)

    def _respelt(self, ids: list[int]) -> list[int]:
        """Ids in which a piece that is a special token's name in letters is spelt out."""
        if self._forbidden.isdisjoint(ids):
            return ids
        return [part for number in ids for part in (self._spelling(number) if number in self._forbidden else (number,))]

    @cached_property
    def _forbidden(self) -> frozenset[int]:
        """Special tokens that no text may become. The unknown token is how some text is written."""
        return frozenset(self.special_ids.values()) - {self.unknown_id}

    def _spelling(self, number: int) -> list[int]:
        """A special token's name letter by letter, where need be byte by byte, else as the unknown token."""
        letters, found = byte_letters(), []
        for letter in self._tokenizer.id_to_token(number) or "":
            if self._is_byte_level:
                pieces = [letters[byte] for byte in letter.encode()]
            else:
                whole = self._tokenizer.token_to_id(letter) is not None
                pieces = [letter] if whole else [f"<0x{byte:02X}>" for byte in letter.encode()]
            for piece in pieces:
                part = self._tokenizer.token_to_id(piece)
                if part is not None and part not in self._forbidden:
                    found.append(part)
                elif self.unknown_id != NO_ID:
                    found.append(self.unknown_id)
        return found

    # ---- ids to text -----------------------------------------------------------------------------------------------

    @property
    def drops_spaces(self) -> bool:
        """Whether decoding drops the space that a text begins with, so that what follows other text needs care."""
        return bool(self._anchor)

    def _hinge(self, before: Sequence[int]) -> list[int]:
        """The same token whatever stands before: the last one may be a byte of a character."""
        return self._anchor

    @cached_property
    def _anchor(self) -> list[int]:
        """A token to stand before other text, or none where it makes no difference."""
        if self._is_byte_level:
            return []
        special = set(self.special_ids.values())
        for number in (*self.encode("a").tolist()[-1:], *range(self.vocabulary_size)):
            if number not in special and not _BYTE.fullmatch(self._tokens[number]) and self.decode([number]).strip():
                return [number]
        return []

    def token_texts(self) -> list[str]:
        """Each token as text, by id, for display: a byte that is no text alone shows as �."""
        stood_for = self.token_bytes()
        if stood_for is None:
            return self._tokens
        special = set(self.special_ids.values())
        return [
            self._tokens[number] if number in special else piece.decode("utf-8", "replace")
            for number, piece in enumerate(stood_for)
        ]

    def token_bytes(self) -> list[bytes] | None:
        """The bytes that each token stands for, by id (special tokens: none), or None where tokens are not bytes."""
        return self._bytes

    @cached_property
    def _bytes(self) -> list[bytes] | None:
        if not self._is_byte_level and not self._parts["model"].get("byte_fallback"):
            return None
        values = {letter: byte for byte, letter in enumerate(byte_letters())}
        added = self._tokenizer.get_added_tokens_decoder()
        found = []
        for number, token in enumerate(self._tokens):
            if number in added:
                found.append(b"" if added[number].special else added[number].content.encode())
            elif not self._is_byte_level:
                found.append(bytes_of_piece(token))
            elif all(letter in values for letter in token):
                found.append(bytes(values[letter] for letter in token))
            else:
                return None
        return found

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether tokens are written in the letters that GPT-2 gives to bytes."""
        steps = _steps(self._parts, "pre_tokenizer")
        return (
            self._parts["model"].get("type") == "BPE"
            and any(step["type"] == "ByteLevel" for step in steps)
            and (self._parts.get("decoder") or {}).get("type") == "ByteLevel"
        )

    def _keeps_everything(self) -> bool:
        """Whether decoding gives every text back as it was."""
        steps = _steps(self._parts, "pre_tokenizer")
        keeps = all(
            (step["type"] == "ByteLevel" and not step.get("add_prefix_space"))
            or (step["type"] in ("Split", "Digits") and step.get("behavior") != "Removed")
            for step in steps
        )
        vocabulary = self._parts["model"].get("vocab") or {}
        complete = all(letter in vocabulary for letter in byte_letters())
        return self._is_byte_level and keeps and complete and not _steps(self._parts, "normalizer")

    # ---- files -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, each at once or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self._config, IDS: self._ids}
        for name, text in (
            ("tokenizer.json", self._tokenizer.to_str(pretty=True)),
            ("tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2) + "\n"),
        ):
            beside = folder / f"{name}.{os.getpid()}.part"
            try:
                beside.write_text(text, encoding="utf-8")
                beside.replace(folder / name)
            finally:
                beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, ids: Mapping[str, Any] | None = None) -> ForeignTokeniser:
        """The tokeniser in a folder; `ids` as in Hugging Face's `config.json` and `generation_config.json`.

        Raises LLMBertError where there is none, it is damaged, or only SentencePiece could read it.
        """
        tokenizer = find_tokenizer(Path(folder))
        return cls(tokenizer, read_config(Path(folder)), ids or {})


def load_tokeniser(folder: Path, ids: Mapping[str, Any] | None = None) -> Tokeniser:
    """The tokeniser of a folder, one of ours or another's. Raises LLMBertError where there is none to be read."""
    if "llmbert_kind" in read_config(Path(folder)):
        return Tokeniser.load(folder)
    return ForeignTokeniser.load(folder, ids)


def _steps(parts: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The steps of a normaliser or pre-tokeniser, one or a sequence of them."""
    part = parts.get(name)
    if not part:
        return []
    return list(part.get("pretokenizers") or part.get("normalizers") or []) if part["type"] == "Sequence" else [part]


def _content(token: Any) -> str:
    """A token's name, which files write as a string or as an object."""
    return str(token.get("content", "")) if isinstance(token, Mapping) else str(token)


def _listed(ids: Any) -> list[int]:
    if ids is None:
        return []
    return [int(number) for number in ids] if isinstance(ids, list | tuple) else [int(ids)]


def _first(ids: Mapping[str, Any], *names: str) -> int:
    """The first id that is known under one of the names, or -1."""
    return next((number for name in names for number in _listed(ids.get(name))), NO_ID)


def _refuse_surrogates(texts: Iterable[str]) -> None:
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                code = ord(error.object[error.start])
                raise LLMBertError(
                    f"the text holds half a character (the lone surrogate U+{code:04X}); remove or replace it"
                ) from None
