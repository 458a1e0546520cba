"""Whether a text was among those a model learned from: four attacks that ask it nothing but how odd it finds texts."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.metrics.detection import detection_scores

Oddness = Callable[[Sequence[str]], NDArray[np.float64]]
Reference = Callable[[Sequence[str], NDArray[np.float64]], NDArray[np.float64]]
"""(texts, how odd the model finds them) → by how much another model finds them odder, in one unit for both."""
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]

NEIGHBOURS = 4  # of each text
REPLACED = 0.15  # of a neighbour's words
_UNIT = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")


def membership_scores(
    oddness: Oddness, members: Sequence[str], others: Sequence[str], reference: Reference | None = None, seed: int = 0
) -> dict[str, Scores]:
    """By attack the scores of texts a model learned from and of others; the higher, the surer that it did.

    loss: how little odd the model finds the text (Yeom et al. 2018); compression: the same against its compressed
    length by zlib; reference: against what another model of such text finds (both Carlini et al. 2021, §5.1), as much
    of each as the other has to say of it in the same unit;
    neighbourhood: against texts in which some words are others (Mattern et al. 2023). blind: the compressed length
    alone, no attack at all: what it tells apart are two kinds of text (Das et al. 2024).
    """
    texts = [*members, *others]
    odd = oddness(texts)
    bits = np.array([8 * len(zlib.compress(text.encode(), 9)) / max(1, len(text.encode())) for text in texts])
    found = {"loss": -odd, "compression": -odd / bits}
    if reference is not None:
        found["reference"] = reference(texts, odd)
    found["neighbourhood"] = _neighbours_oddness(oddness, texts, seed) - odd
    found["blind"] = -bits
    return {name: (scores[: len(members)], scores[len(members) :]) for name, scores in found.items()}


def membership_figures(scores: dict[str, Scores], false_positives: float = 0.01) -> dict[str, dict[str, Any]]:
    """By attack auc and tpr as `metrics.detection.detection_scores` gives them: 50 and 1 % are guessing."""
    return {
        name: detection_scores(others, members, false_positives=false_positives)
        for name, (members, others) in scores.items()
    }


def neighbours(texts: Sequence[str], seed: int, count: int = NEIGHBOURS, share: float = REPLACED) -> list[list[str]]:
    """For each text `count` like it, in which `share` of the words (of Chinese, characters) stand for others drawn from
    all the texts by how often they occur; at least one of each text."""
    random = np.random.default_rng(seed)
    words = [match.group() for text in texts for match in _UNIT.finditer(text)]
    return [[_with_others(text, words, share, random) for _ in range(count)] for text in texts]


def _with_others(text: str, words: Sequence[str], share: float, random: np.random.Generator) -> str:
    places = [match.span() for match in _UNIT.finditer(text)]
    if not places:
        return text
    chosen = random.choice(len(places), max(1, round(share * len(places))), replace=False)
    parts, end = [], 0
    for begin, stop in sorted(places[i] for i in chosen):
        parts += [text[end:begin], words[int(random.integers(len(words)))]]
        end = stop
    return "".join([*parts, text[end:]])


def _neighbours_oddness(oddness: Oddness, texts: Sequence[str], seed: int) -> NDArray[np.float64]:
    """The mean oddness of each text's neighbours (N,)."""
    near = neighbours(texts, seed)
    return oddness([each for some in near for each in some]).reshape(len(texts), -1).mean(1)
