"""Training text to a `tokenizers.Tokenizer`: one builder for each kind, all reproducible to the byte.

Two trainers of the `tokenizers` library depend on the order of a hash table that differs from process to process.
WordPiece gets its continuing characters numbered beforehand; Unigram's choice of pieces is stable, but its scores are
not, so they are estimated anew here from counts.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from llmbert.protocols import Progress, UsageError
from llmbert.text.segment import PIECE_CHARACTERS, cut_pieces, segment_words

SPECIAL_TOKENS = ("<|padding token|>", "<|unknown token|>", "<|begin of text|>", "<|end of text|>")
"""Ids 0, 1, 2, 3 in every tokeniser. No kind can compose a token that holds a raw space, so typed text never is one."""
MASK_TOKEN = "<|mask token|>"
"""The special token that stands for a hidden one; only tokenisers of encoders have it, behind all their others."""

SUBWORD_VOCABULARY = 4096
LONG_WORD = 1000
"""A longer run of characters is no word: never in a vocabulary of words, cut up for the training of subwords."""

WHITE_SPACE = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `str.split` splits on, as the inside of a regular expression's set."""
_CLAUSE_MARKS = "、。，！？；："
_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"

_BEFORE_SPACE = re.compile(r"(?=[ \t\r\n])")
_AFTER_WORD = re.compile(rf"(?<=\S)(?=[ \t\r\n])|(?<=[\u4e00-\u9fff])(?=[{_CLAUSE_MARKS}])")
_AROUND_CLAUSE = re.compile(rf"(?=[ \n{_CLAUSE_MARKS}])")


@dataclass(frozen=True)
class Kind:
    """How one kind of tokeniser is trained and used.

    train: (texts, vocabulary size or None, progress) to a tokenizer; cut: where a text may be cut without a change
    of its ids (None: anywhere); lossless: decoding gives every text back as it was, unknown tokens aside;
    prepare: a step before the tokenizer that its file cannot hold; spaced: tokens are words, between which decoding
    puts the spaces, and none before the first; sample_bytes: how much text (UTF-8) training
    takes in, the first that comes (None: all of it).
    """

    train: Callable[[Iterable[str], int | None, Progress], Tokenizer]
    cut: re.Pattern[str] | None
    lossless: bool = False
    prepare: Callable[[str], str] | None = None
    spaced: bool = False
    sample_bytes: int | None = None


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate((*SPECIAL_TOKENS, *tokens))}


def _watched(texts: Iterable[str], progress: Progress) -> Iterator[str]:
    done = told = 0
    for text in texts:
        yield text
        done += len(text)
        if done - told >= 1 << 20:
            told = done
            progress("training the tokeniser", done)


def _apart(texts: Iterable[str], cut: re.Pattern[str] | None, progress: Progress) -> Iterator[str]:
    """The texts, none joined to another, the long ones in pieces."""
    for text in _watched(texts, progress):
        if len(text) <= PIECE_CHARACTERS:
            yield text
        else:
            yield from cut_pieces([text], cut)


# --- bytes and characters -------------------------------------------------------------------------------------------


def byte_letters() -> list[str]:
    """The printable character that byte-level tokenisers write for each byte 0..255 (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = {byte: chr(byte) for byte in plain}
    letters.update({byte: chr(256 + number) for number, byte in enumerate(others)})
    return [letters[byte] for byte in range(256)]


def bytes_of_piece(piece: str) -> bytes:
    """The bytes that a piece of SentencePiece's kind stands for: "<0xE4>" one byte, "▁" a space."""
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()


_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _bytes(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """One token a byte of UTF-8: id = 4 + byte. Nothing is learnt, so `texts` is left unread."""
    if vocabulary_size not in (None, 260):
        raise UsageError(f"the bytes tokeniser has 260 tokens, never {vocabulary_size}; leave the vocabulary size out")
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(byte_letters()), merges=[], unk_token=SPECIAL_TOKENS[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _finish(tokenizer)


def _chars(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """One token a character (code point) seen in training, the most frequent first."""
    counts = np.zeros(0x110000, np.int64)
    for text in cut_pieces(_watched(texts, progress), None):
        codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
        found = np.bincount(codes)
        counts[: len(found)] += found
    counted = {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
    tokens = _most_frequent(counted, vocabulary_size, "chars")
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(tokens), merges=[], unk_token=SPECIAL_TOKENS[1]))
    tokenizer.decoder = decoders.Fuse()
    return _finish(tokenizer)


def _by_frequency(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda token: (-counts[token], token))


def _most_frequent(counts: Mapping[str, int], vocabulary_size: int | None, kind: str) -> list[str]:
    """Tokens by falling count, ties in the order of their code points, as many as fit beside the special tokens."""
    tokens = _by_frequency(counts)
    if vocabulary_size is None:
        return tokens
    _require(vocabulary_size, len(SPECIAL_TOKENS) + 1, kind)
    return tokens[: vocabulary_size - len(SPECIAL_TOKENS)]


def _require(vocabulary_size: int, least: int, kind: str) -> None:
    if vocabulary_size < least:
        raise UsageError(
            f"a vocabulary of {vocabulary_size} tokens is too small for the {kind} tokeniser; ask for {least} or more"
        )


# --- words ----------------------------------------------------------------------------------------------------------


def _words(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """One token a word between white space, and one for a newline."""
    pieces = _apart(texts, _BEFORE_SPACE, progress)
    return _word_level(_most_frequent(_count_words(pieces), vocabulary_size, "words"))


def _jieba(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """Words as jieba segments them; the file of the tokenizer expects them with one space between."""
    pieces = map(segment_words, _apart(texts, _AROUND_CLAUSE, progress))
    return _word_level(_most_frequent(_count_words(pieces), vocabulary_size, "jieba"), joined=True)


def _count_words(pieces: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    newlines = 0
    for piece in pieces:
        counts.update(piece.split())
        newlines += piece.count("\n")
    for word in [word for word in counts if len(word) > LONG_WORD]:
        del counts[word]
    if newlines:
        counts["\n"] = newlines
    return counts


def _word_level(words: list[str], joined: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(_numbered(words), unk_token=SPECIAL_TOKENS[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.Split(Regex(f"[{WHITE_SPACE}]+".replace("\n", "")), "removed"),
        ]
    )
    steps = [decoders.WordPiece(prefix=" ", cleanup=False), decoders.Fuse(), decoders.Replace(Regex(" ?\n ?"), "\n")]
    tokenizer.decoder = decoders.Sequence([*steps, _JOIN_CJK] if joined else steps)
    return _finish(tokenizer)


_JOIN_CJK = decoders.Replace(Regex(f"(?<=[{_CJK}]) | (?=[{_CJK}])"), "")


# --- subwords -------------------------------------------------------------------------------------------------------


def _sample(texts: Iterable[str], cut: re.Pattern[str], progress: Progress, kind: str) -> list[str]:
    """As much of the text as the kind trains on, in pieces without the long runs that trainers are slow on."""
    sample: list[str] = []
    room = TOKENISERS[kind].sample_bytes or 0
    for piece in _apart(texts, cut, progress):
        sample += [part for part in _LONG_RUN.split(piece) if part]
        room -= len(piece.encode())
        if room <= 0:
            break
    return sample


_LONG_RUN = re.compile(rf"(\S{{{LONG_WORD}}})")


def _bpe(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """Byte-level byte pair encoding as in GPT-2: exact on any text, nothing is unknown."""
    size = SUBWORD_VOCABULARY if vocabulary_size is None else vocabulary_size
    letters = byte_letters()
    _require(size, len(SPECIAL_TOKENS) + len(letters), "bpe")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(_sample(texts, _AFTER_WORD, progress, "bpe"), trainer)
    return _finish(tokenizer)


def _wordpiece(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """WordPiece as in BERT, cased, each Chinese character a word; rare characters are unknown."""
    size = SUBWORD_VOCABULARY if vocabulary_size is None else vocabulary_size
    _require(size, len(SPECIAL_TOKENS) + 32, "wordpiece")
    sample = _sample(texts, _BEFORE_SPACE, progress, "wordpiece")
    tokenizer = _wordpiece_around(models.WordPiece(unk_token=SPECIAL_TOKENS[1]))
    # Given as special tokens, the characters are numbered here and not by the trainer's hash table.
    letters = _wordpiece_letters(sample, tokenizer, size * 3 // 4)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIAL_TOKENS, *letters], limit_alphabet=0, show_progress=False
    )
    tokenizer.train_from_iterator(sample, trainer)
    trained = json.loads(tokenizer.to_str())["model"]["vocab"]
    return _finish(_wordpiece_around(models.WordPiece(trained, unk_token=SPECIAL_TOKENS[1])))


def _wordpiece_around(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(cleanup=True), decoders.Fuse(), _JOIN_CJK])
    return tokenizer


def _wordpiece_letters(sample: Iterable[str], tokenizer: Tokenizer, most: int) -> list[str]:
    """Every character of the sample, and "##" before those met inside a word: the most frequent, `most` entries."""
    chunks: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for piece in sample:
        counts.update(_HAN.findall(piece))
        chunks.update(_HAN.sub(" ", piece).split())
    inside: set[str] = set()
    for chunk, count in chunks.items():
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(chunk)):
            inside.update(word[1:])
            for letter in word:
                counts[letter] += count
    letters: list[str] = []
    for letter in _by_frequency(counts):
        letters += [letter, "##" + letter] if letter in inside else [letter]
        if len(letters) >= most:
            break
    return letters


_HAN = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f]"
)


def _unigram(texts: Iterable[str], vocabulary_size: int | None, progress: Progress) -> Tokenizer:
    """Unigram (Kudo 2018) over text whose spaces are part of the next piece; what has no piece is spelt in bytes."""
    size = SUBWORD_VOCABULARY if vocabulary_size is None else vocabulary_size
    spelt = [f"<0x{byte:02X}>" for byte in range(256)]
    fixed = len(SPECIAL_TOKENS) + len(spelt)
    _require(size, fixed + 16, "unigram")
    sample = _only_frequent(_sample(texts, _AROUND_CLAUSE, progress, "unigram"), (size - fixed) // 2)
    tokenizer = _unigram_around([], [])
    trainer = trainers.UnigramTrainer(
        vocab_size=size - len(spelt),
        special_tokens=list(SPECIAL_TOKENS),
        unk_token=SPECIAL_TOKENS[1],
        shrinking_factor=0.5,
        show_progress=False,
    )
    if sample:
        tokenizer.train_from_iterator(sample, trainer)
    pieces = sorted(set(tokenizer.get_vocab()) - set(SPECIAL_TOKENS) - set(spelt))
    scores = _piece_scores(pieces, sample)
    order = sorted(range(len(pieces)), key=lambda number: (-scores[number], pieces[number]))
    return _finish(
        _unigram_around([*spelt, *(pieces[n] for n in order)], [_BYTE_SCORE] * 256 + [scores[n] for n in order])
    )


_BYTE_SCORE = -20.0


def _unigram_around(pieces: Sequence[str], scores: Sequence[float]) -> Tokenizer:
    special = [(token, 0.0) for token in SPECIAL_TOKENS]
    tokenizer = Tokenizer(models.Unigram([*special, *zip(pieces, scores, strict=True)], unk_id=1, byte_fallback=True))
    # "<0x" is kept apart so that typed text cannot spell the token of a byte.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"[\n{_CLAUSE_MARKS}]|<(?=0x)"), "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"), decoders.Fuse()]
    )
    return tokenizer


def _only_frequent(sample: list[str], most: int) -> list[str]:
    """The sample with all but its `most` most frequent characters cut out: the trainer takes in every character."""
    counts: Counter[str] = Counter()
    for piece in sample:
        counts.update(piece)
    rare = _by_frequency(counts)[most:]
    if not rare:
        return sample
    blank = dict.fromkeys(map(ord, rare), "\n")
    return [piece.translate(blank) for piece in sample]


def _piece_scores(pieces: list[str], sample: list[str]) -> list[float]:
    """Log probability of each piece in nats: hard expectation maximisation from equal scores, integers all the way."""
    scores = [-1.0] * len(pieces)
    for _ in range(3):
        tokenizer = _unigram_around(pieces, scores)
        counts = np.full(len(SPECIAL_TOKENS) + len(pieces), 0.5)
        for first in range(0, len(sample), 64):
            for encoding in tokenizer.encode_batch_fast(sample[first : first + 64], add_special_tokens=False):
                counts += np.bincount(np.array(encoding.ids, np.int64), minlength=len(counts))
        counts = counts[len(SPECIAL_TOKENS) :]
        total = float(counts.sum())
        # In 1024ths of a nat: numbers that a JSON file gives back exactly.
        scores = [round(math.log(count / total) * 1024) / 1024 for count in counts.tolist()]
    return scores


TOKENISERS: dict[str, Kind] = {
    "bytes": Kind(_bytes, cut=None, lossless=True),
    "chars": Kind(_chars, cut=None, lossless=True),
    "words": Kind(_words, cut=_BEFORE_SPACE, spaced=True),
    "bpe": Kind(_bpe, cut=_AFTER_WORD, lossless=True, sample_bytes=6_000_000),
    "unigram": Kind(_unigram, cut=_AROUND_CLAUSE, sample_bytes=2_000_000),
    "wordpiece": Kind(_wordpiece, cut=_BEFORE_SPACE, spaced=True, sample_bytes=20_000_000),
    "jieba": Kind(_jieba, cut=_AROUND_CLAUSE, prepare=segment_words, spaced=True),
}
