"""One text → another that says about the same: words replaced, put in, moved or dropped, typing errors, crops.

Each way is a function of a text's units and a random generator. A unit is a word, or a tagged span of words: it moves,
is kept or goes as one, so that every word that stays keeps its tag and spans stay whole. Nothing is read or remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.sentences import is_wide, split_sentences

Random = np.random.Generator
Synonyms = Callable[[str], Sequence[str]]
"""A word in lower case → words that may stand for it; () where none is known."""


class Word(NamedTuple):
    """A word and its tag, where it has one."""

    text: str
    tag: str | None = None


Unit = tuple[Word, ...]
Way = Callable[[list[Unit], Random, "Strength"], list[Unit]]

OUTSIDE = "O"
MASK = "_"
REACH = 3  # places that a word may move in a new order (Lample et al. 2018, section 4.1)


def no_synonyms(word: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Strength:
    """How much is changed: `share` of the words (alpha of Wei & Zou 2019), and what words may be replaced by."""

    share: float = 0.1
    synonyms: Synonyms = field(default=no_synonyms)
    mask: str = MASK

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(
                f"strength is the share of words that are changed, above 0 and at most 1, not {self.share}"
            )

    def count(self, units: Sequence[Unit]) -> int:
        """How many of the units are changed: the share of them, one at least."""
        return max(1, round(self.share * len(units)))


# ---- text ↔ units --------------------------------------------------------------------------------------------------


def units_of_text(text: str, segment: Callable[[str], Sequence[str]] = list) -> list[Unit]:
    """A text's words between white space, and of Chinese those that `segment` finds (characters unless told)."""
    return [(Word(word),) for chunk in text.split() for word in _cut(chunk, segment)]


def _cut(chunk: str, segment: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """A chunk without white space cut where Chinese begins and ends, and Chinese into words; marks stay at a word."""
    if not any(map(is_wide, chunk)):
        yield chunk
        return
    for run in re.findall(r"[㐀-鿿぀-ヿ豈-﫿]+|[^㐀-鿿぀-ヿ豈-﫿]+", chunk):
        yield from (word for word in segment(run) if word.strip()) if is_wide(run[0]) else (run,)


def text_of(units: Sequence[Unit]) -> str:
    """The words with one space between two, none where Chinese touches Chinese or a mark."""
    return "".join(_spaced([word.text for unit in units for word in unit]))


def _spaced(words: Sequence[str]) -> list[str]:
    """The words, each with the space in front of it."""
    return [word if at == 0 or _touch(words[at - 1][-1], word[0]) else " " + word for at, word in enumerate(words)]


def _touch(before: str, behind: str) -> bool:
    wide = [is_wide(each) or each in _WIDE_MARKS for each in (before, behind)]
    return all(wide) or (any(wide) and not (before if wide[1] else behind).isalnum())


def units_of_tags(tokens: Sequence[str], tags: Sequence[str]) -> list[Unit]:
    """Tagged words as units: a span (B-PER I-PER, or as another scheme writes it) is one, any other word is one."""
    units: list[list[Word]] = []
    for token, tag in zip(tokens, tags, strict=True):
        letter, _, kind = tag.partition("-")
        goes_on = letter in ("I", "M", "E", "L") and kind and units and _open(units[-1][-1].tag or OUTSIDE, kind)
        if goes_on:
            units[-1].append(Word(token, tag))
        else:
            units.append([Word(token, tag)])
    return [tuple(unit) for unit in units]


def _open(before: str, kind: str) -> bool:
    """Whether a span of this kind may go on behind the tag."""
    letter, _, its_kind = before.partition("-")
    return its_kind == kind and letter in ("B", "I", "M")


def tags_of(units: Sequence[Unit]) -> tuple[list[str], list[str]]:
    """Units as tokens and tags."""
    words = [word for unit in units for word in unit]
    return [word.text for word in words], [word.tag or OUTSIDE for word in words]


# ---- ways ----------------------------------------------------------------------------------------------------------


def replace_synonyms(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """Some words by a synonym each (Wei & Zou 2019, SR): words outside spans that have one, stop words too."""
    able = [at for at, unit in enumerate(units) if _free(unit) and _synonyms(unit[0].text, strength.synonyms)]
    changed = list(units)
    for at in random.permutation(able)[: strength.count(units)].tolist():
        word = units[at][0]
        changed[at] = (word._replace(text=_drawn(word.text, random, strength.synonyms)),)
    return changed


def insert_synonyms(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """A synonym of some word at any place between two units, several times (RI)."""
    able = [unit[0] for unit in units if _free(unit) and _synonyms(unit[0].text, strength.synonyms)]
    changed = list(units)
    for _ in range(strength.count(units) if able else 0):
        word = able[int(random.integers(len(able)))]
        new = _drawn(_core(word.text)[1].lower(), random, strength.synonyms)
        changed.insert(int(random.integers(len(changed) + 1)), (Word(new, word.tag and OUTSIDE),))
    return changed


def swap_words(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """Two units change places, several times (RS)."""
    changed = list(units)
    for _ in range(strength.count(units) if len(units) > 1 else 0):
        one, other = random.choice(len(changed), 2, replace=False).tolist()
        changed[one], changed[other] = changed[other], changed[one]
    return changed


def drop_words(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """Each unit goes with probability `share` (RD); one stays at least."""
    kept = [unit for unit, draw in zip(units, random.random(len(units)), strict=True) if draw >= strength.share]
    return kept or [units[int(random.integers(len(units)))]]


def easy(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """One of the four operations of EDA (Wei & Zou 2019), drawn evenly."""
    ways = (replace_synonyms, insert_synonyms, swap_words, drop_words)
    return ways[int(random.integers(len(ways)))](units, random, strength)


def mask_words(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """Each word outside spans becomes the mask with probability `share` (blank noising, Xie et al. 2017)."""
    draws = random.random(len(units))
    return [
        (unit[0]._replace(text=strength.mask),) if draw < strength.share and _free(unit) else unit
        for unit, draw in zip(units, draws, strict=True)
    ]


def crop(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """A stretch of the text: up to three times `share` of it is cut off, anywhere at its ends."""
    most = min(len(units) - 1, round(3 * strength.share * len(units)))
    gone = int(random.integers(1, most + 1)) if most > 0 else 0
    begin = int(random.integers(gone + 1))
    return units[begin : len(units) - gone + begin]


def reorder(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """A new order in which no unit moves more than REACH places (Lample et al. 2018, section 4.1)."""
    places = np.arange(len(units)) + random.uniform(0, REACH + 1, len(units))
    return [units[at] for at in np.argsort(places, kind="stable")]


def noise(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """Typing errors in some words: a neighbouring key, two letters changed about, one too many or too few.

    A word of Chinese gets a character of the same text in the place of one of its own, two change places, one comes
    twice or goes; which characters sound alike is not looked at.
    """
    places = [(at, inside) for at, unit in enumerate(units) for inside, word in enumerate(unit) if len(word.text) > 1]
    wide = [character for unit in units for word in unit for character in word.text if is_wide(character)]
    changed = [list(unit) for unit in units]
    for pick in random.permutation(len(places))[: strength.count(units)].tolist():
        at, inside = places[pick]
        word = changed[at][inside]
        changed[at][inside] = word._replace(text=_mistyped(word.text, random, wide))
    return [tuple(unit) for unit in changed]


def drop_sentence(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """The text without one of its sentences, if it has several."""
    sentences = list(_sentences(units))
    if len(sentences) < 2:
        return list(units)
    gone = int(random.integers(len(sentences)))
    return [unit for at, sentence in enumerate(sentences) if at != gone for unit in sentence]


def shuffle_sentences(units: list[Unit], random: Random, strength: Strength) -> list[Unit]:
    """The text's sentences in another order."""
    sentences = list(_sentences(units))
    return [unit for at in random.permutation(len(sentences)).tolist() for unit in sentences[at]]


WAYS: dict[str, Way] = {
    "eda": easy,
    "synonym": replace_synonyms,
    "insert": insert_synonyms,
    "swap": swap_words,
    "delete": drop_words,
    "mask": mask_words,
    "crop": crop,
    "order": reorder,
    "noise": noise,
    "drop-sentence": drop_sentence,
    "shuffle-sentences": shuffle_sentences,
}
NEED_SYNONYMS = ("eda", "synonym", "insert")


# ---- parts of ways -------------------------------------------------------------------------------------------------

_WIDE_MARKS = "，。！？；：、（）《》〈〉“”‘’…—「」『』【】"
_EDGES = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _free(unit: Unit) -> bool:
    """Whether it is a word outside spans (or with a tag that marks none), that may be replaced."""
    return len(unit) == 1 and (unit[0].tag is None or unit[0].tag == OUTSIDE)


def _core(word: str) -> tuple[str, str, str]:
    """Punctuation before, the word, punctuation behind."""
    found = _EDGES.match(word)
    assert found is not None  # everything matches
    return found[1], found[2], found[3]


def _synonyms(word: str, known: Synonyms) -> list[str]:
    core = _core(word)[1].lower()
    return [each for each in known(core) if each and each != core] if core else []


def _drawn(word: str, random: Random, known: Synonyms) -> str:
    """A synonym in the word's place: its punctuation stays, and so do its capitals."""
    before, core, behind = _core(word)
    found = _synonyms(word, known)
    new = found[int(random.integers(len(found)))]
    if core.isupper() and len(core) > 1:
        new = new.upper()
    elif core[:1].isupper():
        new = new[:1].upper() + new[1:]
    return before + new + behind


def _mistyped(word: str, random: Random, wide: Sequence[str]) -> str:
    at = int(random.integers(len(word)))
    letter, kind = word[at], int(random.integers(4))
    if kind == 0:
        new = random.choice(wide) if is_wide(letter) else _beside(letter, random)
        return word[:at] + str(new) + word[at + 1 :]
    if kind == 1:
        at = min(at, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + (letter * 2 if kind == 2 else "") + word[at + 1 :]


def _beside(letter: str, random: Random) -> str:
    """A letter whose key lies beside this one's on a QWERTY keyboard, in the same case; what is on none stays."""
    keys = _KEYS.get(letter.lower())
    if keys is None:
        return letter
    new = keys[int(random.integers(len(keys)))]
    return new.upper() if letter.isupper() else new


def _neighbouring() -> Iterator[tuple[str, str]]:
    """Each key with those left and right of it, above and below; rows are set off by half a key."""
    for number, row in enumerate(_ROWS):
        for at, key in enumerate(row):
            near = [row[i] for i in (at - 1, at + 1) if 0 <= i < len(row)]
            for other, shifts in ((number - 1, (0, 1)), (number + 1, (-1, 0))):
                if 0 <= other < len(_ROWS):
                    near += [_ROWS[other][at + i] for i in shifts if 0 <= at + i < len(_ROWS[other])]
            yield key, "".join(near)


_KEYS = dict(_neighbouring())


def _sentences(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Units sentence by sentence; a span that reaches over a sentence's end holds it together."""
    words = [[word.text for word in unit] for unit in units]
    spaced = _spaced([word for unit in words for word in unit])
    ends, length = set(), 0
    for sentence in split_sentences("".join(spaced)):
        length += len(sentence)
        ends.add(length)
    part: list[Unit] = []
    position, index = 0, 0
    for unit in units:
        part.append(unit)
        position += sum(len(text) for text in spaced[index : index + len(unit)])
        index += len(unit)
        # the white space behind a sentence is in front of the next one's first word here
        if position in ends or (index < len(spaced) and spaced[index].startswith(" ") and position + 1 in ends):
            yield part
            part = []
    if part:
        yield part


def read_lexicon(lines: Iterable[str], name: str) -> dict[str, tuple[str, ...]]:
    """Lines "word TAB synonym TAB synonym …" → synonyms by word in lower case; # begins a remark.

    Raises LLMBertError for a line without a synonym, naming it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, *synonyms = (part.strip() for part in line.rstrip("\r\n").split("\t"))
        known = [each for each in synonyms if each]
        if not word or not known:
            raise LLMBertError(f"{name}, line {number} names no synonym; write WORD, a tab, and synonyms apart by tabs")
        found[word.lower()] = tuple(dict.fromkeys((*found.get(word.lower(), ()), *known)))
    return found
