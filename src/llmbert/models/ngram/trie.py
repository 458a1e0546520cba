"""The trie of an estimated n-gram model, level by level, and the walks over it that every question needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

# Below this many look-ups, sorting them first costs more than it saves.
_WORTH_SORTING = 4096


@dataclass
class Level:
    """The n-grams of one length in an estimated model, ordered by context and then by last word.

    log_probability: float32 (M,), nats are its negative; words: int32 (M,), the last word of each;
    children: int32 (M,), how many longer n-grams each is the context of; backoff: float32 (M,), natural log.
    The highest level has neither children nor backoff; in level 1, M is V and words are 0 … V-1.
    """

    log_probability: np.ndarray
    words: np.ndarray
    children: np.ndarray | None = None
    backoff: np.ndarray | None = None
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (M + 1,): the children of node i are nodes offsets[i] … offsets[i + 1] - 1 of the next level."""
        assert self.children is not None
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.children, out=offsets[1:])
        return offsets


def link(levels: list[Level], vocabulary_size: int) -> None:
    """Give every level above the first its sorted keys, context node times V plus word."""
    for lower, level in pairwise(levels):
        assert lower.children is not None
        parents = np.repeat(np.arange(len(lower), dtype=np.int64), lower.children)
        parents *= vocabulary_size
        parents += level.words
        level.keys = parents


def pick(values: np.ndarray, nodes: np.ndarray, otherwise: float | np.ndarray) -> np.ndarray:
    """The `values` (M,) float32 of `nodes`, any shape; `otherwise`, a number or that shape, where a node is -1."""
    picked = np.empty(nodes.shape, np.float32)
    picked[...] = otherwise
    known = nodes >= 0
    picked[known] = values[nodes[known]]
    return picked


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of `wanted` stands in the sorted `keys`; -1 where it is absent. int64, shape of `wanted`."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    if len(wanted) < _WORTH_SORTING:
        at = np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        return np.where(keys[at] == wanted, at, -1)
    by_key = np.argsort(wanted)
    ordered = wanted[by_key]
    at = np.searchsorted(keys, ordered)
    at[at == len(keys)] = 0
    at[keys[at] != ordered] = -1
    found = np.empty_like(at)
    found[by_key] = at
    return found


def context_lengths(rows: np.ndarray, begin_id: int, padding_id: int) -> np.ndarray:
    """How many tokens a context that ends at each place can have: (R, W), back to begin, padding or the row's start.

    The begin token belongs to the context that it opens; padding belongs to none.
    """
    places = np.arange(rows.shape[1])
    opened = np.where(rows == begin_id, places, 0)
    opened[rows == padding_id] = 0
    opened += (rows == padding_id) * (places + 1)
    np.maximum.accumulate(opened, axis=1, out=opened)
    return places - opened + 1


def walk(levels: list[Level], rows: np.ndarray, lengths: np.ndarray, highest: int) -> list[np.ndarray]:
    """The node of the n-gram that ends at each place, for n = 1 … `highest`; -1 where the model has none.

    rows: (R, W) token ids; lengths: (R, W), the longest n-gram that may end at each place.
    """
    vocabulary_size = len(levels[0])
    nodes = [np.where(lengths >= 1, rows, -1)]
    for n in range(2, highest + 1):
        above = np.full(rows.shape, -1, np.int64)
        before = nodes[-1][:, :-1]
        possible = (before >= 0) & (lengths[:, 1:] >= n)
        above[:, 1:][possible] = find(levels[n - 1].keys, before[possible] * vocabulary_size + rows[:, 1:][possible])
        nodes.append(above)
    return nodes


def score_backoff(levels: list[Level], rows: np.ndarray, nodes: list[np.ndarray]) -> np.ndarray:
    """Log probability (R, W - 1) of every token but the first of each row, in a model that backs off.

    The longest known n-gram gives it, after the backoff weights of all contexts longer than that one's (Katz 1987).
    nodes: what `walk` gave for `rows` up to the model's order.
    """
    score = levels[0].log_probability[rows[:, 1:]]
    for n in range(2, len(levels) + 1):
        context, node = nodes[n - 2][:, :-1], nodes[n - 1][:, 1:]
        weight = levels[n - 2].backoff
        assert weight is not None
        score += pick(weight, context, 0)
        score = pick(levels[n - 1].log_probability, node, score)
    return score


def score_flat(
    levels: list[Level], rows: np.ndarray, lengths: np.ndarray, nodes: list[np.ndarray], uniform: float
) -> np.ndarray:
    """Log probability (R, W - 1) of every token but the first of each row, in a model that never shortens a context.

    lengths: (R, W) of the contexts; uniform: the log probability of any word after a context never seen.
    """
    score = levels[0].log_probability[rows[:, 1:]]
    possible = score > -np.inf
    longest = np.minimum(lengths[:, :-1], len(levels) - 1)
    for n in range(2, len(levels) + 1):
        here = possible & (longest == n - 1)
        context, node = nodes[n - 2][:, :-1][here], nodes[n - 1][:, 1:][here]
        unseen = levels[n - 2].backoff
        assert unseen is not None
        score[here] = pick(levels[n - 1].log_probability, node, pick(unseen, context, uniform))
    return score


def fill_children(
    logits: np.ndarray, lower: Level, level: Level, context: np.ndarray, added: np.ndarray | None = None
) -> None:
    """Write the log probabilities of all words seen after each row's context over those in `logits` (R, V).

    context: (R,) nodes of `lower`, -1 where there is none; added: (R,), added to what is written.
    """
    rows = np.flatnonzero(context >= 0)
    first = lower.offsets[context[rows]]
    sizes = lower.offsets[context[rows] + 1] - first
    ends = np.cumsum(sizes)
    if not len(ends) or not ends[-1]:
        return
    at = np.arange(ends[-1]) + np.repeat(first - (ends - sizes), sizes)
    row = np.repeat(rows, sizes)
    values = level.log_probability[at]
    if added is not None:
        values = values + added[row]
    logits[row, level.words[at]] = values
