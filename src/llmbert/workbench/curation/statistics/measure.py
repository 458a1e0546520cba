"""What a pass counted → every figure of the text: laws, lengths, entropy, dependence, collocations."""

from __future__ import annotations

import lzma
import zlib
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.corpus import entropy
from llmbert.metrics.corpus.collocations import pair_counts, score_pairs
from llmbert.metrics.corpus.families import Histogram, fit_bernoulli
from llmbert.metrics.corpus.frequencies import fit_power_law, fit_zipf
from llmbert.metrics.corpus.growth import fit_heaps
from llmbert.metrics.corpus.lengths import fit_lengths
from llmbert.protocols import Progress, silent
from llmbert.text.sentences import guess_language, split_sentences
from llmbert.workbench.curation.statistics.tally import FACTS, Tally

Numbers = NDArray[Any]
DISTANCES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 71, 84, 100)
LEAST_PAIRS = 5  # times that two words must have been neighbours to be called a collocation
SHOWN = 20  # pairs and words of a table
CAPITALS = 0.01  # of the letters: below, a text has lost its capitals
POINTS = 200  # ranks of words that are kept for a chart
PACKED = 1 << 22  # characters that are compressed
FEW = 20  # documents: below, stretches of them are resampled in their place
LENGTHS = ("document_words", "sentence_words", "word_characters")


class Sampled:
    """The sample as arrays: words and characters as ids (N,), and the document of each, equal ones side by side.

    units: what is resampled, the documents or, where these are few, their stretches.
    """

    def __init__(self, tally: Tally) -> None:
        self.stretches = list(tally.sample.stretches())
        self.vocabulary = list(tally.sample.vocabulary)
        begins = np.cumsum([stretch.begins for stretch in self.stretches], dtype=np.int32)
        few = begins[-1] < FEW
        units = np.arange(len(begins), dtype=np.int32) if few else begins
        self.words = np.concatenate([stretch.words for stretch in self.stretches])
        lengths = [len(stretch.words) for stretch in self.stretches]
        self.word_documents = np.repeat(begins, lengths)
        self.word_units = np.repeat(units, lengths) if few else self.word_documents
        text = "".join(stretch.text for stretch in self.stretches)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        known = np.flatnonzero(np.bincount(codes))
        numbers = np.zeros(0x110000, dtype=np.int32)
        numbers[known] = np.arange(len(known), dtype=np.int32)
        self.characters, self.alphabet = numbers[codes], known
        sizes = [len(stretch.text) for stretch in self.stretches]
        self.character_documents = np.repeat(begins, sizes)
        self.character_units = np.repeat(units, sizes) if few else self.character_documents

    def packed(self) -> dict[str, Any]:
        """How many bits a compressor takes for a character and for a byte: no code does better than the entropy."""
        text = "\n".join(stretch.text for stretch in self.stretches)[:PACKED]
        raw = text.encode("utf-8", "surrogatepass")
        sizes = {"zlib -9": len(zlib.compress(raw, 9)), "xz -6": len(lzma.compress(raw, preset=6))}
        return {
            name: {"bits_per_character": 8 * size / len(text), "bits_per_byte": 8 * size / len(raw)}
            for name, size in sizes.items()
        } | {"characters": len(text)}


def measure(tally: Tally, sampled: Sampled, *, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """Every figure of one text, as JSON can hold it."""
    counts = np.fromiter(tally.vocabulary.counts.values(), np.int64, len(tally.vocabulary.counts))
    if tally.vocabulary.lacking:
        counts = counts[counts > tally.vocabulary.lacking]  # rarer words were dropped, or lack too much
    return {
        **{"tokenizer": tally.way, "documents": tally.documents, "characters": tally.characters, "bytes": tally.bytes},
        **{"words": tally.words, "vocabulary": len(tally.vocabulary), "lacking": tally.vocabulary.lacking},
        "sample": {
            **{"characters": len(sampled.characters), "words": len(sampled.words)},
            "share": len(sampled.characters) / max(1, tally.characters),
        },
        "lengths": _lengths(tally, sampled, seed, progress),
        "facts": {name: fit_bernoulli(tally.facts[name], tally.documents) for name in FACTS},
        "growth": {"heaps": fit_heaps(tally.growth), "points": [list(point) for point in tally.growth]},
        "frequencies": _frequencies(tally, counts, progress),
        "entropy": _entropy(tally, counts, sampled, progress),
        "information": {
            "characters": entropy.information_at_distances(
                sampled.characters, sampled.character_documents, DISTANCES, seed=seed, progress=progress
            ),
            "words": entropy.information_at_distances(
                sampled.words, sampled.word_documents, DISTANCES, seed=seed, progress=progress
            ),
        },
        "collocations": collocations(sampled),
    }


def _frequencies(tally: Tally, counts: Numbers, progress: Progress) -> dict[str, Any]:
    ordered = np.sort(counts)[::-1]
    ranks = np.unique(np.geomspace(1, max(1, len(ordered)), POINTS).astype(np.int64))[: len(ordered)]
    most = sorted(tally.vocabulary.counts.items(), key=lambda each: (-each[1], each[0]))[:SHOWN]
    found = {
        "ranks": [[int(rank), int(ordered[rank - 1])] for rank in ranks],
        "most": [[word, count] for word, count in most],
        "once": int((counts == 1).sum()) if not tally.vocabulary.lacking else None,
    }
    for done, (name, fit) in enumerate(
        {
            "zipf": lambda: fit_zipf(counts),
            "mandelbrot": lambda: fit_zipf(counts, mandelbrot=True),
            "power_law": lambda: fit_power_law(counts),
        }.items()
    ):
        found[name] = fit()
        progress("fitting frequencies", done + 1, 3)
    return found


def _lengths(tally: Tally, sampled: Sampled, seed: int, progress: Progress) -> dict[str, Any]:
    """Of documents, sentences and words: quartiles, a histogram and the families that fit."""
    uncased = _is_uncased(tally)
    counted = {
        "document_words": tally.document_words,
        "sentence_words": sentence_lengths(sampled, uncased, progress),
        "word_characters": tally.word_characters,
    }
    found: dict[str, Any] = {}
    for name in LENGTHS:
        data = Histogram.of(counted[name])
        if not len(data.values):
            continue
        at = np.searchsorted(data.cumulative(), [0.25, 0.5, 0.75], side="left")
        found[name] = {
            **{"count": int(data.total), "mean": data.mean, "deviation": float(np.sqrt(data.variance))},
            "quartiles": [int(data.values[min(i, len(data.values) - 1)]) for i in at],
            **{"least": int(data.values[0]), "most": int(data.values[-1])},
            "histogram": [list(map(int, pair)) for pair in zip(data.values, data.counts, strict=True)],
            "families": fit_lengths(data, seed=seed, progress=progress),
        }
    return found


def _is_uncased(tally: Tally) -> bool:
    present = np.flatnonzero(tally.codes)
    upper, lower = (
        sum(int(tally.codes[code]) for code in present if getattr(chr(code), test)()) for test in ("isupper", "islower")
    )
    return upper < CAPITALS * (upper + lower)


def sentence_lengths(sampled: Sampled, uncased: bool, progress: Progress = silent) -> Counter[int]:
    """Words of each whole sentence of the sample. A sentence that a stretch's edge cuts is left out.

    Words are found in the sentence by counting characters other than white space, which both hold alike; stretches
    whose words do not (tokens of bytes) are passed over.
    """
    sizes = np.array([len("".join(word.split())) for word in sampled.vocabulary], dtype=np.int64)
    found: Counter[int] = Counter()
    language = guess_language("\n".join(stretch.text[:10_000] for stretch in sampled.stretches[:100]))
    for done, stretch in enumerate(sampled.stretches):
        reached = np.cumsum(sizes[stretch.words])
        sentences = split_sentences(stretch.text, language, uncased)
        ends = np.cumsum([len("".join(sentence.split())) for sentence in sentences])
        if not len(reached) or reached[-1] != ends[-1]:
            continue
        lengths = np.diff(np.searchsorted(reached, ends, side="right"), prepend=0)
        whole = lengths[0 if stretch.begins else 1 : len(lengths) if stretch.ends else -1]
        found.update(whole[whole > 0].tolist())
        if done % 1024 == 0:
            progress("finding sentences", done, len(sampled.stretches))
    return found


def _entropy(tally: Tally, counts: Numbers, sampled: Sampled, progress: Progress) -> dict[str, Any]:
    blocks = {
        "characters": entropy.block_entropies(sampled.characters, sampled.character_documents, progress=progress),
        "words": entropy.block_entropies(sampled.words, sampled.word_documents, progress=progress),
    }
    whole = {"characters": tally.codes, "words": counts}
    found: dict[str, Any] = {
        name: {
            "plug_in": entropy.entropy_bits(each),
            "corrected": entropy.miller_madow_bits(each),
            "kinds": int((each > 0).sum()),
            "blocks": blocks[name],
        }
        for name, each in whole.items()
    }
    progress("packing", 0, 1)
    found["packed"] = sampled.packed()
    return found


def collocations(sampled: Sampled, least: int = LEAST_PAIRS) -> dict[str, Any]:
    """The neighbours that stand highest by each score, of those met `least` times or more that both hold a letter."""
    first, second, counts = pair_counts(sampled.words, sampled.word_documents)
    lettered = np.array([any(map(str.isalnum, word)) for word in sampled.vocabulary], dtype=bool)
    kept = np.flatnonzero((counts >= least) & lettered[first] & lettered[second])
    scores = score_pairs(first, second, counts)
    found: dict[str, Any] = {"least": least, "pairs": len(counts), "kept": len(kept)}
    for name, values in scores.items():
        order = kept[np.lexsort((kept, -counts[kept], -values[kept]))][:SHOWN]
        found[name] = [
            {
                "pair": [sampled.vocabulary[first[i]], sampled.vocabulary[second[i]]],
                "count": int(counts[i]),
                **{each: float(scores[each][i]) for each in scores},
            }
            for i in order
        ]
    return found
