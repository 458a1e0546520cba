"""METEOR: words matched exactly, by stem and by synonym, in as few chunks as can be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from llmbert.metrics.generation.words import Synonyms, Texts, stemmer
from llmbert.metrics.segments import SegmentStatistics, ratio

ALPHA = 0.9  # weight of recall in the mean: 10PR / (R + 9P)
BETA = 3.0  # exponent of the fragmentation
GAMMA = 0.5  # the most that fragmentation takes away
BEAM = 64


def meteor(texts: Texts) -> SegmentStatistics:
    """METEOR (Banerjee and Lavie 2005), 0-100, with alpha 0.9, beta 3, gamma 0.5; case is ignored.

    Words are matched by the modules exact, stem (where the language has a stemmer) and synonym (where
    `Convention.synonyms` is given), each one only what those before it left over. Of several references the one with
    the best score counts. The corpus score is made of matches, chunks and lengths summed over segments, as in the
    paper; the part segment_mean is the mean of the segments' scores, which other programs report. More parts:
    precision, recall, penalty, matches, chunks.
    """
    convention = texts.convention
    stem = stemmer(convention.stemmer) if convention.stemmer else None
    matcher = Matcher(stem, convention.synonyms)
    rows = np.zeros((len(texts.hypotheses), 4))
    for i, (words, references) in enumerate(zip(texts.hypothesis_words, texts.reference_words, strict=True)):
        candidates = np.array([matcher.statistics(words, reference) for reference in references], dtype=np.float64)
        rows[i] = candidates[int(np.argmax(meteor_of_sums(candidates)))]
    mean = float(meteor_of_sums(rows).mean())
    signature = {
        "modules": matcher.modules,
        **({"stem": convention.stemmer} if convention.stemmer else {}),
        "alpha": ALPHA,
        "beta": BETA,
        "gamma": GAMMA,
        "alignment": f"fewest-chunks-beam{BEAM}",
        **convention.word_signature,
        "case": "lc",
    }
    return SegmentStatistics(rows, meteor_of_sums, signature, lambda sums: {**_parts(sums), "segment_mean": mean})


def meteor_of_sums(sums: np.ndarray) -> np.ndarray:
    """METEOR (r,) of summed matches, chunks, hypothesis words and reference words (r, 4)."""
    precision, recall, penalty = _factors(sums)
    return 100 * ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall) * (1 - penalty)


def _factors(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matches, chunks, words, wanted = sums.T
    return ratio(matches, words), ratio(matches, wanted), GAMMA * ratio(chunks, matches) ** BETA


def _parts(sums: np.ndarray) -> dict[str, Any]:
    precision, recall, penalty = (float(each[0]) for each in _factors(sums[None]))
    counted = {"matches": int(sums[0]), "chunks": int(sums[1])}
    return {"precision": 100 * precision, "recall": 100 * recall, "penalty": penalty, **counted}


@dataclass(frozen=True)
class Matcher:
    """Aligns two texts word by word with the modules it was given."""

    stem: Callable[[str], str] | None = None
    synonyms: Synonyms | None = None

    @property
    def modules(self) -> str:
        """ "exact+stem+synonym", as far as they run."""
        return "+".join(["exact", *["stem"] * (self.stem is not None), *["synonym"] * (self.synonyms is not None)])

    def statistics(self, hypothesis: list[str], reference: list[str]) -> tuple[int, int, int, int]:
        """Matches, chunks, words of the hypothesis and words of the reference."""
        matches, chunks = count_chunks(self.align(hypothesis, reference))
        return matches, chunks, len(hypothesis), len(reference)

    def align(self, hypothesis: list[str], reference: list[str]) -> list[int | None]:
        """For each word of the hypothesis the place of its match in the reference, or None.

        As many exact matches as can be, then of stems, then of synonyms; among such alignments one with the fewest
        chunks. Exact where at most BEAM partial alignments are open at a time, as in sentences that repeat few words;
        else a beam search, which never loses an exact match.
        """
        words, wanted = [[word.lower() for word in each] for each in (hypothesis, reference)]
        sentence = _Sentence(words, wanted, cache(self._softer(wanted)))
        beam = {(0, -2): _Path()}
        for i in range(len(words)):
            grown: dict[tuple[int, int], _Path] = {}
            for (used, last), path in beam.items():
                for j, level in sentence.options(i, used):
                    key = (used | 1 << j, j) if j >= 0 else (used, -2)
                    longer = path.extend(j, level, chunk=j >= 0 and j != last + 1)
                    if key not in grown or longer.rank < grown[key].rank:
                        grown[key] = longer
            if len(grown) > BEAM:
                grown = dict(sorted(grown.items(), key=lambda entry: entry[1].rank)[:BEAM])
            beam = grown
        return min(beam.values(), key=lambda path: path.rank).places()

    def _softer(self, wanted: list[str]) -> Callable[[str], dict[str, int]]:
        """From a word of the hypothesis to the other words of the reference it may match, each with its level."""
        by_stem: dict[str, set[str]] = defaultdict(set)
        if self.stem is not None:
            for word in set(wanted):
                by_stem[self.stem(word)].add(word)
        table: Synonyms = self.synonyms or {}

        def softer(word: str) -> dict[str, int]:
            found = {other: 2 for other in set(wanted) if other in table.get(word, ()) or word in table.get(other, ())}
            if self.stem is not None:
                found.update(dict.fromkeys(by_stem.get(self.stem(word), ()), 1))
            found.pop(word, None)
            return found

        return softer


class _Path(NamedTuple):
    """A partial alignment; the lower its rank the better."""

    rank: tuple[int, int, int] = (0, 0, 0)  # minus matches of stems, minus matches of synonyms, chunks
    place: int = -1
    before: _Path | None = None

    def extend(self, place: int, level: int, chunk: bool) -> _Path:
        stems, synonyms, chunks = self.rank
        return _Path((stems - (level == 1), synonyms - (level == 2), chunks + chunk), place, self)

    def places(self) -> list[int | None]:
        found: list[int | None] = []
        path = self
        while path.before is not None:
            found.append(path.place if path.place >= 0 else None)
            path = path.before
        return found[::-1]


@dataclass(frozen=True)
class _Sentence:
    """Which matches are open to each word of a hypothesis, so that no exact match is lost."""

    words: list[str]
    wanted: list[str]
    softer: Callable[[str], dict[str, int]]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for j, word in enumerate(self.wanted):
            found[word].append(j)
        return dict(found)

    @cached_property
    def masks(self) -> dict[str, int]:
        """Places of each word of the reference as a set of bits."""
        return {word: sum(1 << j for j in places) for word, places in self.places.items()}

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.words)

    @cached_property
    def earlier(self) -> list[Counter[str]]:
        """How often each word of the hypothesis occurs before place i, for every i."""
        found, seen = [], Counter[str]()
        for word in self.words:
            found.append(seen.copy())
            seen[word] += 1
        return found

    def options(self, i: int, used: int) -> list[tuple[int, int]]:
        """(place, level) of what word i may be matched with, given the places used; place -1, level 0: nothing.

        A word that the reference has at least as often as the hypothesis must match exactly. Where it is rarer there,
        its places are kept for exact matches, and enough words of the hypothesis must take them.
        """
        word = self.words[i]
        exact = [(j, 0) for j in self.places.get(word, ()) if not used >> j & 1]
        spare = self.counts[word] - len(self.places.get(word, ()))
        passed = self.earlier[i][word] - (used & self.masks.get(word, 0)).bit_count()
        if exact and passed >= spare:
            return exact
        soft = [
            (j, level)
            for other, level in self.softer(word).items()
            if self._left_over(other, i, used)
            for j in self.places[other]
            if not used >> j & 1
        ]
        return [*exact, *soft, (-1, 0)]

    def _left_over(self, other: str, i: int, used: int) -> bool:
        """Whether a place of `other` may go to another word: more are left than exact matches will need."""
        spare = len(self.places[other]) - self.counts[other]
        taken = (used & self.masks[other]).bit_count() - self.earlier[i][other]
        return taken < spare


def count_chunks(places: list[int | None]) -> tuple[int, int]:
    """Matches, and the runs they form: neighbours in the hypothesis that are neighbours, in order, in the reference."""
    matches = sum(place is not None for place in places)
    chunks = sum(
        place is not None and (i == 0 or places[i - 1] is None or place != places[i - 1] + 1)  # type: ignore[operator]
        for i, place in enumerate(places)
    )
    return matches, chunks
