"""Two texts → how far apart their words and characters are, and which words make the difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.corpus.divergence import chance_bits, contributions, jensen_shannon_bits, kullback_leibler_bits
from llmbert.protocols import Progress, silent
from llmbert.workbench.curation.statistics.measure import SHOWN, Sampled

Numbers = NDArray[Any]
GROUPS = 2000  # most units that are dealt again; neighbouring documents are joined to so many
DEALS = 200


def compare(first: Sampled, second: Sampled, *, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """Divergences of words and of characters, in bits, and the words that add most to the former."""
    words = {word: i for i, word in enumerate(first.vocabulary)}
    numbers = np.array([words.setdefault(word, len(words)) for word in second.vocabulary], dtype=np.int64)
    codes = np.union1d(first.alphabet, second.alphabet)
    places = [np.searchsorted(codes, side.alphabet)[side.characters] for side in (first, second)]
    sides = {
        "words": ((first.words, first.word_units), (numbers[second.words], second.word_units), len(words)),
        "characters": (
            (places[0], first.character_units),
            (places[1], second.character_units),
            len(codes),
        ),
    }
    found: dict[str, Any] = {}
    for done, (name, (one, other, kinds)) in enumerate(sides.items()):
        units = [_units(*side, kinds) for side in (one, other)]
        found[name] = _divergences(units, seed)
        if name == "words":
            found["differing"] = _differing([_sum(unit) for unit in units], list(words))
        progress("comparing", done + 1, len(sides))
    return found


def _units(ids: Numbers, units: Numbers, kinds: int) -> Any:
    """Counts of each unit, at most GROUPS of them, as a sparse matrix (units, kinds)."""
    from scipy.sparse import csr_matrix

    numbers = np.unique(units, return_inverse=True)[1]
    count = int(numbers[-1]) + 1
    groups = min(count, GROUPS)
    keys, counts = np.unique((numbers * groups // count) * kinds + ids, return_counts=True)
    return csr_matrix((counts.astype(np.float64), (keys // kinds, keys % kinds)), shape=(groups, kinds))


def _divergences(units: list[Any], seed: int) -> dict[str, Any]:
    one, other = (_sum(unit) for unit in units)
    return {
        "js": jensen_shannon_bits(one, other),
        "chance": chance_bits(*units, deals=DEALS, seed=seed),
        "kl": [kullback_leibler_bits(one, other), kullback_leibler_bits(other, one)],
        "shared": [float(side[(one > 0) & (other > 0)].sum() / side.sum()) for side in (one, other)],
        "units": [unit.shape[0] for unit in units],
    }


def _sum(unit: Any) -> Numbers:
    return np.asarray(unit.sum(axis=0)).ravel()


def _differing(counts: list[Numbers], words: list[str]) -> list[dict[str, Any]]:
    """The words that add most to the divergence, with their uses in a million words on either side."""
    p, q = (side / side.sum() for side in counts)
    parts = contributions(p, q)
    order = np.lexsort((np.arange(len(parts)), -parts))[:SHOWN]
    return [
        {"word": words[i], "bits": float(parts[i]), "per_million": [float(1e6 * p[i]), float(1e6 * q[i])]}
        for i in order
    ]
