"""Token shards → batches for masked language modelling: rows of text, or pairs of segments, with tokens to guess."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llmbert.data.batches import IGNORED
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.vocabulary import byte_letters

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECTION_CONTEXTS = 8  # a text of one document is cut into sections of this many contexts
_ORDER, _MASK = range(2)  # what random numbers are for: an epoch's order, a batch's masks


@dataclass
class MaskedBatch:
    """One step's input. inputs: (B, T) int64, some tokens masked; targets: (B, T) the original where it is to be
    guessed, IGNORED elsewhere.

    mask: (B, T) true where there is a token, None everywhere; types: (B, T) 0 for the first segment, 1 for the second,
    None all 0; segments: (B, T) document numbers along each row (0 padding), None where a row holds one document;
    follows: (B,) 0 where the second segment follows the first, 1 where it is from elsewhere, None without pairs.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor | None = None
    types: Tensor | None = None
    segments: Tensor | None = None
    follows: Tensor | None = None
    fresh: bool = True

    @property
    def count(self) -> int:
        """Tokens that are read."""
        if self.mask is not None:
            return int(self.mask.sum())
        return self.inputs.numel() if self.segments is None else int((self.segments > 0).sum())

    @property
    def counts(self) -> dict[str, int]:
        """What each term of the loss is divided by: tokens to guess, and pairs."""
        mlm = {"mlm": int((self.targets != IGNORED).sum())}
        return mlm if self.follows is None else mlm | {"nsp": len(self.follows)}

    def split(self, parts: int) -> list[MaskedBatch]:
        """Micro-batches: the rows in at most `parts` nearly equal groups."""
        cuts = [slice(int(r[0]), int(r[-1]) + 1) for r in torch.arange(len(self.inputs)).tensor_split(parts) if len(r)]
        return [replace(self, **{name: value[cut] for name, value in self._tensors().items()}) for cut in cuts]

    def to(self, device: torch.device) -> MaskedBatch:
        return replace(self, **{name: value.to(device) for name, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Words:
    """Which tokens are parts of one word, for whole-word masking; two tables by token id, bool (V,).

    A token goes on with the word of the token before it where it `joins_left` and that one `joins_right`.
    """

    joins_left: NDArray[np.bool_]
    joins_right: NDArray[np.bool_]

    def continues(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where a token of ids (B, T) goes on with the word before it."""
        found = np.zeros(ids.shape, dtype=bool)
        found[:, 1:] = self.joins_left[ids[:, 1:]] & self.joins_right[ids[:, :-1]]
        return found


@dataclass(frozen=True)
class Masking:
    """Which tokens are hidden and how (Devlin et al. 2019, §3.1): drawn anew each time (Liu et al. 2019, §4.1).

    share: of the tokens that may be hidden; of those, `masked` become the mask token, `random` any token that is not
    special, and the rest stay as they are. special_ids: never hidden and never drawn, the mask token among them.
    words: hide whole words (each drawn with probability `share`) instead of single tokens.
    """

    mask_id: int
    vocabulary_size: int
    special_ids: Collection[int] = (0, 1, 2, 3)
    share: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    words: Words | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"the share of tokens to mask is {self.share}; give one above 0 and at most 1")
        if self.masked < 0 or self.random < 0 or self.masked + self.random > 1:
            raise UsageError(
                f"of the tokens to guess {self.masked:g} are masked and {self.random:g} replaced; give shares of a sum "
                "of at most 1"
            )
        if max(self.mask_id, *self.special_ids, 0) >= self.vocabulary_size:
            raise UsageError(f"a special token is outside a vocabulary of {self.vocabulary_size} tokens; check mask_id")
        if self.special.all():
            raise LLMBertError("the vocabulary holds special tokens only; train the tokeniser on more text")

    @cached_property
    def special(self) -> NDArray[np.bool_]:
        """(V,) true for tokens that are neither hidden nor drawn."""
        found = np.zeros(self.vocabulary_size, dtype=bool)
        found[[*self.special_ids, self.mask_id]] = True
        return found

    @cached_property
    def ordinary(self) -> NDArray[np.int64]:
        """The ids of all other tokens."""
        return np.flatnonzero(~self.special)

    def apply(self, ids: NDArray[np.int64], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """ids (B, T) → inputs with some of them hidden and targets, IGNORED elsewhere, each (B, T) int64.

        At least one token is hidden where any may be.
        """
        draws = random.random(ids.shape)
        if self.words is not None:
            place = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
            first = np.maximum.accumulate(np.where(self.words.continues(ids), 0, place), axis=1)
            draws = np.take_along_axis(draws, first, axis=1)
        draws[self.special[ids]] = 2.0
        least = float(draws.min())
        hidden = draws < self.share if least < self.share else (draws == least) & (least < 2.0)
        targets = np.where(hidden, ids, IGNORED)
        fate = random.random(ids.shape)
        inputs = np.where(hidden & (fate < self.masked), self.mask_id, ids)
        swapped = hidden & (fate >= self.masked) & (fate < self.masked + self.random)
        inputs[swapped] = random.choice(self.ordinary, int(swapped.sum()))
        return torch.from_numpy(inputs), torch.from_numpy(targets)


class MaskedWindows:
    """Rows of `context` tokens over all documents laid end to end, in a new order and phase each epoch.

    A row begins with the begin token and ends with the end token, in place of what stood there, so that a piece of a
    document looks like a whole one; where several documents meet in a row, `segments` keep them apart unless
    `across_documents` is asked for. Batch number n is a function of the seed and n alone.
    """

    def __init__(
        self,
        ids: NDArray[Any],
        starts: NDArray[np.int64],
        masking: Masking,
        context: int,
        batch: int,
        seed: int,
        across_documents: bool = False,
    ) -> None:
        self.ids, self.masking, self.context, self.batch, self.seed = ids, masking, context, batch, seed
        self.across_documents = across_documents
        self.begin_id, self.end_id = int(ids[0]), int(ids[int(starts[1]) - 1])
        # One window less than fit, so that every epoch can begin at another place.
        self.windows = max(1, len(ids) // context - 1)
        self.batches_per_epoch = -(-self.windows // batch)

    def iterate(self, position: int = 0) -> Iterator[MaskedBatch]:
        """Batches from number `position` on, without end."""
        epoch, index = divmod(position, self.batches_per_epoch)
        while True:
            random = np.random.default_rng((self.seed, _ORDER, epoch))
            slack = len(self.ids) - self.windows * self.context
            phase = int(random.integers(max(0, slack) + 1))  # up to where the last window ends the text
            # A short last batch would weigh its windows more: it is filled up from the epoch's first ones.
            order = np.resize(random.permutation(self.windows), self.batches_per_epoch * self.batch)
            for at in range(index, self.batches_per_epoch):
                number = epoch * self.batches_per_epoch + at
                yield self._gather(phase + self.context * order[at * self.batch : (at + 1) * self.batch], number)
            epoch, index = epoch + 1, 0

    def _gather(self, firsts: NDArray[np.int64], number: int) -> MaskedBatch:
        spans = firsts[:, None] + np.arange(min(self.context, len(self.ids)))
        rows = self.ids[spans].astype(np.int64)
        rows[:, 0] = self.begin_id
        # A document that begins with the row's last token is a row's end as well.
        rows[:, -1] = np.where(rows[:, -1] == self.begin_id, self.begin_id, self.end_id)
        begins = rows == self.begin_id
        inputs, targets = self.masking.apply(rows, np.random.default_rng((self.seed, _MASK, number)))
        many = not self.across_documents and bool(begins[:, 1:].any())
        return MaskedBatch(inputs, targets, segments=torch.from_numpy(begins.cumsum(1)) if many else None)


class SentencePairs:
    """Rows [begin] A [end] B [end]: B follows A in its document or, in half of them, is from another document.

    Each epoch cuts every document into pieces of `context` - 3 tokens with a new phase and A from B at a place within
    the piece that is drawn. sentence_ends: ids of tokens that end a sentence; pieces and segments then begin with a
    sentence where there is one. Without them, and where a document is a single sentence, segments are spans of random
    length. A B from elsewhere has the length of the one it replaces, so that lengths tell nothing. Text of one document
    is cut into sections of SECTION_CONTEXTS x context tokens (at least two) which stand for documents.

    Batch number n is a function of the seed and n alone. Raises LLMBertError for text too short for a pair.
    """

    def __init__(
        self,
        ids: NDArray[Any],
        starts: NDArray[np.int64],
        masking: Masking,
        context: int,
        batch: int,
        seed: int,
        sentence_ends: Collection[int] = (),
        padding_id: int = 0,
    ) -> None:
        self.ids, self.masking, self.batch, self.seed, self.padding_id = ids, masking, batch, seed, padding_id
        self.begin_id, self.end_id = int(ids[0]), int(ids[int(starts[1]) - 1])
        self.room = context - 3
        self.firsts, self.lasts = _sections(np.asarray(starts, dtype=np.int64), SECTION_CONTEXTS * context)
        sizes = self.lasts - self.firsts
        if self.room < 2 or len(sizes) < 2 or int(sizes.max()) < 2:
            raise LLMBertError(
                "the text is too short for pairs of segments, which need two documents or one of a few tokens; "
                "give more text, or train without next-sentence prediction"
            )
        self.order = np.argsort(-sizes, kind="stable")  # sections, the longest first
        self.sizes, self.ends = sizes[self.order], np.cumsum(sizes[self.order])
        self.ranks = np.argsort(self.order)
        self.sentences = _sentence_starts(ids, self.firsts, sentence_ends) if sentence_ends else None

    @property
    def batches_per_epoch(self) -> int:
        """Of the first epoch; later ones differ a little, since long documents are cut elsewhere."""
        return -(-len(self._pieces(0)) // self.batch)

    def iterate(self, position: int = 0) -> Iterator[MaskedBatch]:
        """Batches from number `position` on, without end."""
        epoch, before = 0, 0
        while True:
            pieces = self._pieces(epoch)
            count = -(-len(pieces) // self.batch)
            rows = np.resize(np.arange(len(pieces)), count * self.batch).reshape(count, self.batch)
            for at in range(max(0, position - before), count):
                yield self._gather(pieces[rows[at]], before + at)
            epoch, before = epoch + 1, before + count

    def _pieces(self, epoch: int) -> NDArray[np.int64]:
        """The epoch's pieces in their order, (pieces, 3): first token, the one behind the last, section."""
        random = np.random.default_rng((self.seed, _ORDER, epoch))
        room, sizes = self.room, self.lasts - self.firsts
        lead = np.where(sizes > room, random.integers(1, room + 1, len(sizes)), sizes)
        counts = 1 - (lead - sizes) // room
        section = np.repeat(np.arange(len(sizes)), counts)
        within = np.arange(len(section)) - np.repeat(np.cumsum(counts) - counts, counts)
        firsts = self.firsts[section] + np.where(within > 0, lead[section] + (within - 1) * room, 0)
        if self.sentences is not None:
            begun = self._sentence_of(firsts)
            firsts = np.where(firsts - begun < room // 2, begun, firsts)
        following = np.append(firsts[1:], 0)
        following[np.cumsum(counts) - 1] = self.lasts
        pieces = np.stack((firsts, np.minimum(following, firsts + room), section), axis=1)
        return random.permutation(pieces[pieces[:, 1] - pieces[:, 0] >= 2])

    def _sentence_of(self, places: Any) -> Any:
        """Where the sentence begins that holds each place."""
        assert self.sentences is not None
        return self.sentences[np.searchsorted(self.sentences, places, side="right") - 1]

    def _gather(self, pieces: NDArray[np.int64], number: int) -> MaskedBatch:
        random = np.random.default_rng((self.seed, _MASK, number))
        parted = [self._part(random, *piece) for piece in pieces.tolist()]
        begin, end = [self.begin_id], [self.end_id]
        sizes = np.array([(len(first) + 2, len(second) + 1) for first, second, _ in parted])
        place = np.arange(int(sizes.sum(1).max()))
        mask = place < sizes.sum(1)[:, None]
        rows = np.full(mask.shape, self.padding_id, dtype=np.int64)
        rows[mask] = np.concatenate([part for a, b, _ in parted for part in (begin, a, end, b, end)])
        inputs, targets = self.masking.apply(rows, random)
        return MaskedBatch(
            inputs,
            targets,
            mask=torch.from_numpy(mask),
            types=torch.from_numpy((mask & (place >= sizes[:, :1])).astype(np.int64)),
            follows=torch.tensor([label for *_, label in parted]),
        )

    def _part(
        self, random: np.random.Generator, first: int, last: int, section: int
    ) -> tuple[NDArray[Any], NDArray[Any], int]:
        """Two segments of a piece, and 0; or its first segment, one from another section, and 1."""
        cut = self._cut(random, first, last)
        if random.random() < 0.5:
            return self.ids[first:cut], self.ids[cut:last], 0
        # Of sections that hold as much as is replaced, if there are others: shorter ones were told by their length.
        own, rank = int(self.lasts[section] - self.firsts[section]), int(self.ranks[section])
        many = int(np.searchsorted(-self.sizes, cut - last, side="right"))
        room = int(self.ends[many - 1]) - own or int(self.ends[-1]) - own
        at = int(random.integers(room))
        at += own if at >= int(self.ends[rank]) - own else 0
        other = int(np.searchsorted(self.ends, at, side="right"))
        within, chosen = at - (int(self.ends[other]) - int(self.sizes[other])), int(self.order[other])
        begin, end = int(self.firsts[chosen]), int(self.lasts[chosen])
        place = max(begin, min(begin + within, end - (last - cut)))
        if self.sentences is not None:
            place = int(self._sentence_of(place))
        return self.ids[first:cut], self.ids[place : min(place + last - cut, end)], 1

    def _cut(self, random: np.random.Generator, first: int, last: int) -> int:
        """A place inside the piece where a sentence begins, or any where none does."""
        if self.sentences is not None:
            low, high = np.searchsorted(self.sentences, (first + 1, last))
            if high > low:
                return int(self.sentences[random.integers(low, high)])
        return int(random.integers(first + 1, last))


def _sections(starts: NDArray[np.int64], section: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the documents' own tokens begin and end, without those that have none; a single one in sections."""
    firsts, lasts = starts[:-1] + 1, starts[1:] - 1
    firsts, lasts = firsts[lasts > firsts], lasts[lasts > firsts]
    if len(firsts) != 1:
        return firsts, lasts
    tokens = int(lasts[0] - firsts[0])
    cuts = firsts[0] + tokens * np.arange(max(2, tokens // section) + 1) // max(2, tokens // section)
    return cuts[:-1][np.diff(cuts) > 0], cuts[1:][np.diff(cuts) > 0]


def _sentence_starts(ids: NDArray[Any], firsts: NDArray[np.int64], sentence_ends: Collection[int]) -> NDArray[np.int64]:
    """Every place where a section or a sentence begins, in order; ends that follow one another are one end."""
    ends = np.isin(ids, np.fromiter(sentence_ends, np.int64))
    return np.union1d(firsts, np.flatnonzero(ends[:-1] & ~ends[1:]) + 1)


# ---- words and sentences, from the tokens' texts -------------------------------------------------------------------


def find_words(tokens: Sequence[str] | Sequence[bytes]) -> Words:
    """Which tokens are parts of one word, from the text or the bytes of each token, by id.

    Understood are WordPiece ("##" goes on), byte-level BPE (as bytes, as text with leading spaces, or in its own
    letters with "Ġ"), Unigram ("▁" begins, "<0xE4>" is a byte), single characters, and whole words. Punctuation and
    each Chinese character are words of their own, save where a WordPiece says otherwise; a character that is spelt in
    several byte tokens stays whole.
    """
    spelt = _spelt(tokens)
    joins = _rule(spelt)
    left, right = np.array([joins(token) for token in spelt], dtype=bool).reshape(-1, 2).T
    return Words(left.copy(), right.copy())


def find_sentence_ends(tokens: Sequence[str] | Sequence[bytes]) -> frozenset[int]:
    """The ids of tokens that end a sentence, from their texts or bytes: they end in one of .!?。！？…"""
    marks = tuple(".!?。！？…")
    return frozenset(number for number, token in enumerate(_spelt(tokens)) if _shown(token).endswith(marks))


def _shown(token: str | bytes) -> str:
    """The text of a token, also where it is one byte's."""
    if isinstance(token, str) and (byte := _BYTE.fullmatch(token)):
        token = bytes.fromhex(byte[1])
    return token if isinstance(token, str) else token.decode("utf-8", "replace")


_SPECIAL = re.compile(r"<.+>|\[.+\]")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_Joins = Callable[[Any], tuple[bool, bool]]


def _spelt(tokens: Sequence[Any]) -> list[Any]:
    """The tokens as they are, or their bytes where they are in the letters of byte-level BPE."""
    if not tokens or not isinstance(tokens[0], str) or not _often(tokens, "Ġ"):
        return list(tokens)
    values = {letter: byte for byte, letter in enumerate(byte_letters())}
    return [bytes(values[c] for c in token) if values.keys() >= set(token) else b"" for token in tokens]


def _rule(tokens: list[Any]) -> _Joins:
    """How a token tells whether it goes on with the word before it, and whether a word goes on behind it."""
    if not tokens or isinstance(tokens[0], bytes):
        return _bytes_join
    ordinary = [token for token in tokens if not _SPECIAL.fullmatch(token)]
    if _often(ordinary, "##"):
        return lambda token: (token.startswith("##"), not _SPECIAL.fullmatch(token))
    if any(token.startswith("▁") for token in ordinary) or any(map(_BYTE.fullmatch, tokens)):
        return _pieces_join
    if any(len(token) > 1 and token.startswith(" ") for token in ordinary) or all(len(token) < 2 for token in ordinary):
        return _texts_join
    return lambda token: (False, False)


def _often(tokens: Sequence[Any], mark: str) -> bool:
    """Whether a hundredth of the tokens or more begin with a mark and hold more than it."""
    return 100 * sum(token.startswith(mark) and len(token) > len(mark) for token in tokens) >= len(tokens) > 0


def _texts_join(token: str) -> tuple[bool, bool]:
    if not token or _SPECIAL.fullmatch(token):
        return False, False
    return _in_word(token[0]), _in_word(token[-1])


def _pieces_join(token: str) -> tuple[bool, bool]:
    if byte := _BYTE.fullmatch(token):
        return _bytes_join(bytes.fromhex(byte[1]))
    left, right = _texts_join(token)
    return left, right or token == "▁"


def _bytes_join(token: bytes) -> tuple[bool, bool]:
    if not token:
        return False, False
    text = token.decode("utf-8", "replace")
    # A character's later bytes belong to its first; a first byte from 0xE3 on begins one of East Asia's or a symbol.
    left = 0x80 <= token[0] < 0xC0 or (token[0] < 0xE3 if text[0] == "\ufffd" else _in_word(text[0]))
    return left, text[-1] == "\ufffd" or _in_word(text[-1])


def _in_word(character: str) -> bool:
    """Whether it is a letter, mark or digit of a script that writes words of several."""
    own = "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"
    return not own and (character.isalnum() or unicodedata.category(character).startswith("M"))
