"""One pass over documents → what is counted of all of them, and an even sample for what needs the text itself.

Memory is bounded whatever the length of the text: words have MOST_WORDS counters (the rarest are dropped where there
are more, with a bound on what a count then lacks), different words are counted by a sample of their hashes, and the
sample is SAMPLE_BLOCKS stretches at most, every so many-th of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.read import Document
from llmbert.protocols import Progress, silent
from llmbert.text.segment import cut_pieces
from llmbert.workbench.curation.statistics.cutting import open_cut

Numbers = NDArray[Any]

MOST_WORDS = 1_000_000  # counters of different words
MOST_HASHES = 1 << 17  # hashes of different words, of which a share is kept: the number is good to 1.2 / sqrt of it
BLOCK = 1 << 16  # characters of a stretch of the sample
SAMPLE_BLOCKS = 192  # most stretches of it: 12.6 million characters
BATCH = 1 << 20  # characters counted together
MARKS_PER_DECADE = 12  # places where the growth of the vocabulary is noted
_CUT = re.compile(r"(?<=\S)(?=\s)|(?<=[。！？，、；：])")

FACTS: dict[str, re.Pattern[str]] = {
    "digit": re.compile(r"\d"),
    "capital": re.compile(r"[A-ZÀ-ÖØ-Þ]"),
    "question": re.compile(r"[?？]"),
    "quotation": re.compile(r"[\"“”„«»「」『』]"),
    "address": re.compile(r"https?://|www\.|\w@\w+\.\w"),
    "chinese": re.compile(r"[\u4e00-\u9fff]"),
}
"""What a document has or has not."""


@dataclass(slots=True)
class Stretch:
    """A document, or a piece of one, in the sample: its text, its words as ids, and whether it begins and ends it."""

    text: str
    words: Numbers
    begins: bool
    ends: bool


@dataclass
class Words:
    """Counters of words in bounded room; `lacking`: the most that any count may lack."""

    most: int = MOST_WORDS
    counts: Counter[str] = field(default_factory=Counter)
    lacking: int = 0
    hashes: set[int] = field(default_factory=set)
    kept_bits: int = 0

    def add(self, words: list[str]) -> None:
        """Count them; where counters run out, the words met no more often than the least useful third go."""
        if not self.lacking:
            self.counts.update(words)
        else:
            some = Counter(words)
            for word in some.keys() - self.counts.keys():
                self._note(word)
            self.counts.update(some)
        if len(self.counts) > self.most:
            self._drop()

    def __len__(self) -> int:
        """How many different words were met: exact until words were dropped, then good to 1.2 / sqrt(MOST_HASHES)."""
        return len(self.hashes) << self.kept_bits if self.lacking else len(self.counts)

    def _drop(self) -> None:
        if not self.lacking:
            for word in self.counts:
                self._note(word)
        values = np.fromiter(self.counts.values(), dtype=np.int64, count=len(self.counts))
        bar = int(np.partition(values, len(values) // 3)[len(values) // 3])
        self.lacking += bar
        self.counts = Counter({word: count for word, count in self.counts.items() if count > bar})

    def _note(self, word: str) -> None:
        """Adaptive sampling (Flajolet 1990): hashes whose last bits are 0, one bit more whenever there are too many."""
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        if number & ((1 << self.kept_bits) - 1):
            return
        self.hashes.add(number)
        while len(self.hashes) > MOST_HASHES:
            self.kept_bits += 1
            self.hashes = {each for each in self.hashes if not each & ((1 << self.kept_bits) - 1)}


@dataclass
class Sample:
    """Stretches of about BLOCK characters, evenly over the text: every `stride`-th one."""

    most: int = SAMPLE_BLOCKS
    blocks: list[list[Stretch]] = field(default_factory=list)
    vocabulary: dict[str, int] = field(default_factory=dict)
    stride: int = 1
    number: int = 0
    room: int = BLOCK
    wanted: bool = True

    def add(self, text: str, words: list[str], begins: bool, ends: bool) -> None:
        if self.wanted:
            if self.room == BLOCK:
                self.blocks.append([])
            ids = np.fromiter(
                (self.vocabulary.setdefault(word, len(self.vocabulary)) for word in words), np.int32, len(words)
            )
            self.blocks[-1].append(Stretch(text, ids, begins, ends))
        self.room -= len(text)
        if self.room <= 0:
            self._turn()

    def _turn(self) -> None:
        """On to the next stretch of the text."""
        self.number, self.room = self.number + 1, BLOCK
        if len(self.blocks) > self.most:
            self.blocks, self.stride = self.blocks[::2], 2 * self.stride
        self.wanted = self.number % self.stride == 0

    def stretches(self) -> Iterator[Stretch]:
        for block in self.blocks:
            yield from block


@dataclass
class Tally:
    """What a pass counts: documents, characters by code point, words, lengths, the vocabulary's growth, facts."""

    way: str = ""
    documents: int = 0
    words: int = 0
    codes: Numbers = field(default_factory=lambda: np.zeros(0x110000, dtype=np.int64))
    vocabulary: Words = field(default_factory=Words)
    growth: list[tuple[int, int]] = field(default_factory=list)
    document_words: Counter[int] = field(default_factory=Counter)
    word_characters: Counter[int] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    sample: Sample = field(default_factory=Sample)

    @property
    def characters(self) -> int:
        return int(self.codes.sum())

    @property
    def bytes(self) -> int:
        """Of UTF-8."""
        edges = ((0, 0x80, 1), (0x80, 0x800, 2), (0x800, 0x10000, 3), (0x10000, 0x110000, 4))
        return sum(int(self.codes[low:high].sum()) * size for low, high, size in edges)

    def count_words(self, words: list[str]) -> None:
        """Count them, noting the vocabulary at marks evenly spread over the logarithm of the words so far."""
        self.word_characters.update(map(len, words))
        start = 0
        while start < len(words):
            mark = _next_mark(self.words)
            end = min(len(words), start + mark - self.words)
            self.vocabulary.add(words if end - start == len(words) else words[start:end])
            self.words += end - start
            start = end
            if self.words == mark:
                self.growth.append((self.words, len(self.vocabulary)))

    def count_text(self, texts: list[str]) -> None:
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
        found = np.bincount(codes)
        self.codes[: len(found)] += found


def _next_mark(words: int) -> int:
    """The first mark beyond so many words."""
    step = int(np.floor(MARKS_PER_DECADE * np.log10(words + 1)))
    while (mark := round(10 ** (step / MARKS_PER_DECADE))) <= words:
        step += 1
    return mark


def _beginning(documents: Iterable[Document]) -> tuple[str, Iterator[Document]]:
    """About BLOCK characters that the documents begin with, and all documents, those that were looked at included."""
    documents = iter(documents)
    held: list[Document] = []
    seen: list[str] = []
    room = BLOCK
    for document in documents:
        pieces, parts = iter(document.pieces), list[str]()
        while room > 0 and (piece := next(pieces, None)) is not None:
            parts.append(piece)
            room -= len(piece)
        held.append(replace(document, pieces=chain(parts, pieces)))
        seen.append("".join(parts))
        if room <= 0:
            break
    return "\n".join(seen)[:BLOCK], chain(held, documents)


def tally(documents: Iterable[Document], way: str, *, lowercase: bool = False, progress: Progress = silent) -> Tally:
    """Count documents, each cut into words the `way` that `open_cut` knows. Raises what reading and cutting raise."""
    beginning, documents = _beginning(documents)
    way, cut = open_cut(way, beginning)
    found = Tally(way)
    texts: list[str] = []
    words: list[str] = []
    room = BATCH
    for document in documents:
        begins, length, facts, held = True, 0, set[str](), None
        for piece in cut_pieces(document.pieces, _CUT):
            text = piece.lower() if lowercase else piece
            some = cut(text)
            length += len(some)
            facts.update(name for name, pattern in FACTS.items() if name not in facts and pattern.search(text))
            if held:
                found.sample.add(*held, False)
            held = (text, some, begins)
            begins = False
            texts.append(text)
            words += some
            room -= len(text)
            if room <= 0:
                found.count_text(texts)
                found.count_words(words)
                texts, words, room = [], [], BATCH
        if held:
            found.sample.add(*held, True)
        found.documents += 1
        found.document_words[length] += 1
        found.facts.update(facts)
    found.count_text(texts)
    found.count_words(words)
    if not found.growth or found.growth[-1][0] != found.words:
        found.growth.append((found.words, len(found.vocabulary)))
    return found
