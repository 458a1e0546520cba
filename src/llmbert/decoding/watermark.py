"""A watermark: tokens that a secret key calls green become a little likelier, and whoever has the key can count them.

Kirchenbauer et al. 2023, algorithm 2 (soft red list). Nothing is remembered between tokens: which are green follows
from the key and the last few tokens alone, so that a text may be rewound, change its batch or be guessed ahead.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmbert.decoding.processors import Context
from llmbert.protocols import UsageError

GAMMA, STRENGTH, WIDTH = 0.25, 2.0, 1
SHORTEST_KEY = 16  # bytes
MOST_WIDTH = 16
_REMEMBERED = 1 << 26  # bytes of green lists that a writer keeps
_PERSON = b"llmbert-green"  # a key that is used elsewhere too says nothing about that use


class GreenLists:
    """Which tokens are green behind which others, the same for who writes and who looks.

    The last `width` tokens go through BLAKE2b under the key (a pseudo-random function); its 64 bits and a token's id go
    through two rounds of MurmurHash3's finaliser, and the token is green where the outcome is below `gamma`. So each
    (context, token) is green with probability gamma and independent of every other, as an exact test wants it.

    Raises UsageError for a key below 16 bytes, gamma not inside (0, 1) or a width below 1.
    """

    def __init__(self, key: bytes, gamma: float = GAMMA, width: int = WIDTH) -> None:
        if len(key) < SHORTEST_KEY:
            raise UsageError(f"a watermark's key has at least {SHORTEST_KEY} bytes, not {len(key)}; make a longer one")
        if not isinstance(gamma, int | float) or not 0 < gamma < 1:
            raise UsageError(f"gamma, the share of green tokens, lies between 0 and 1, not at {gamma}")
        if not isinstance(width, int) or not 1 <= width <= MOST_WIDTH:
            raise UsageError(f"width counts tokens that a green list follows from, 1 to {MOST_WIDTH}, not {width}")
        self.gamma, self.width = float(gamma), width
        self._key = hashlib.blake2b(key, digest_size=32, person=_PERSON).digest()
        self._below = np.uint32(min(2**32 - 1, round(gamma * 2**32)))

    def rows(self, contexts: NDArray[np.int64], vocabulary: int) -> NDArray[np.bool_]:
        """Whether each token is green behind each context: contexts (N, width) → (N, vocabulary)."""
        return self._green(self._seeds(contexts), np.arange(vocabulary, dtype=np.uint32)[None])

    def greens(self, contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each token is green behind its own context: contexts (N, width), tokens (N,) → (N,)."""
        if not len(tokens):
            return np.zeros(0, dtype=bool)
        _, firsts, which = np.unique(number_rows(contexts), return_index=True, return_inverse=True)
        seeds = self._seeds(contexts[firsts])[which]
        return self._green(seeds, tokens.astype(np.uint32)[:, None])[:, 0]

    def _seeds(self, contexts: NDArray[np.int64]) -> NDArray[np.uint32]:
        """64 secret bits for each context, (N, 2)."""
        rows, key = np.ascontiguousarray(contexts, dtype="<u4"), self._key
        digests = (hashlib.blake2b(row.tobytes(), digest_size=8, key=key, person=_PERSON).digest() for row in rows)
        return np.frombuffer(b"".join(digests), dtype="<u4").astype(np.uint32).reshape(-1, 2)

    def _green(self, seeds: NDArray[np.uint32], tokens: NDArray[np.uint32]) -> NDArray[np.bool_]:
        found = tokens ^ seeds[:, :1]
        _mix(found)
        found ^= seeds[:, 1:]
        _mix(found)
        return found < self._below


def number_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each row of token ids (N, columns), equal where rows are: (N,)."""
    found = rows[:, 0]
    for column in range(1, rows.shape[1]):
        if column > 1:
            found = np.unique(found, return_inverse=True)[1]  # below N, so that the next column fits beside it
        found = (found << 32) | rows[:, column]
    return found


def _mix(values: NDArray[np.uint32]) -> None:
    """MurmurHash3's finaliser of 32 bits, in place: a bijection that spreads every bit over all."""
    shifted = np.empty_like(values)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, None)):
        values ^= np.right_shift(values, np.uint32(shift), out=shifted)
        if factor is not None:
            values *= np.uint32(factor)


class Watermark:
    """The processor that adds `strength` (delta, nats) to the logits of green tokens.

    special_ids: no text (end, padding, a mask): their probability stays what it was, so texts are no longer for it;
    the other tokens share theirs anew. The first `width` tokens of a text without a prompt have no context and stay as
    they are. Like the other processors it takes (B, V) logits and a `Context`, and a token that is ruled out stays so.

    Raises UsageError as `GreenLists` does, and for a strength that is not in (0, 100].
    """

    def __init__(self, lists: GreenLists, strength: float = STRENGTH, special_ids: Iterable[int] = ()) -> None:
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 100:
            raise UsageError(f"a watermark's strength is above 0 and at most 100, not {strength}")
        self.lists, self.strength = lists, float(strength)
        self._special = sorted({int(token) for token in special_ids if token >= 0})
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._places: tuple[object, Tensor] = (None, torch.empty(0))
        self._table: tuple[object, Tensor] = (None, torch.empty(0))
        self._rooms: dict[str, Tensor] = {}

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        green, special = self._rows(context.tokens, logits), self._special_of(logits)
        largest = logits.amax(-1, keepdim=True).clamp_min(torch.finfo(logits.dtype).min)
        weights = torch.sub(logits, largest, out=self._room("weights", logits)).exp_().index_fill_(-1, special, 0.0)
        text = weights.sum(-1, keepdim=True).clamp_min_(torch.finfo(logits.dtype).tiny)
        share = weights.mul_(green).sum(-1, keepdim=True).div_(text)
        # what the text tokens' mass grows by is taken off them again: log-probabilities stay such, as a beam needs them
        growth = share.mul_(math.expm1(self.strength)).log1p_()
        marked = torch.add(logits, green, alpha=self.strength).sub_(growth)
        return marked.index_copy_(-1, special, logits.index_select(-1, special))

    def _rows(self, texts: Sequence[Sequence[int]], like: Tensor) -> Tensor:
        """1 where a token is green and 0 elsewhere, (B, V), from what is remembered and what is not yet."""
        width, vocabulary = self.lists.width, like.shape[-1]
        if width == 1 and vocabulary**2 <= _REMEMBERED:
            last = [int(tokens[-1]) if len(tokens) else -1 for tokens in texts]
            if max(last) < vocabulary:
                places = [token % (vocabulary + 1) for token in last]  # -1, no context, is the last row
                chosen = self._whole(like).index_select(0, torch.tensor(places, device=like.device))
                return self._room("green", like).copy_(chosen)
        contexts = [tuple(map(int, tokens[-width:])) if len(tokens) >= width else () for tokens in texts]
        if any(context not in self._known for context in contexts):
            self._remember(contexts, like)
        return self._room("green", like).copy_(torch.stack([self._known[context] for context in contexts]))

    def _whole(self, like: Tensor) -> Tensor:
        """All lists of a small vocabulary, (V + 1, V): behind each token, and none behind nothing."""
        key = (like.shape[-1], like.device)
        if self._table[0] != key:
            vocabulary, blocks = like.shape[-1], range(0, like.shape[-1], 256)
            places = np.arange(vocabulary)[:, None]
            parts = [self.lists.rows(places[first : first + 256], vocabulary) for first in blocks]
            table = torch.from_numpy(np.concatenate((*parts, np.zeros((1, vocabulary), dtype=bool)))).to(like.device)
            self._table = (key, table.index_fill_(-1, self._special_of(like), False))
        return self._table[1]

    def _remember(self, contexts: Sequence[tuple[int, ...]], like: Tensor) -> None:
        vocabulary = like.shape[-1]
        if (len(self._known) + len(contexts)) * vocabulary > _REMEMBERED:
            self._known.clear()
        new = [context for context in dict.fromkeys(contexts) if context and context not in self._known]
        if new:
            rows = torch.from_numpy(self.lists.rows(np.array(new, dtype=np.int64), vocabulary)).to(like.device)
            rows.index_fill_(-1, self._special_of(like), False)
            self._known |= dict(zip(new, rows.unbind(0), strict=True))
        self._known[()] = torch.zeros(vocabulary, dtype=torch.bool, device=like.device)

    def _special_of(self, like: Tensor) -> Tensor:
        key = (like.shape[-1], like.device)
        if self._places[0] != key:
            inside = [token for token in self._special if token < like.shape[-1]]
            self._places = (key, torch.tensor(inside, dtype=torch.int64, device=like.device))
        return self._places[1]

    def _room(self, name: str, like: Tensor) -> Tensor:
        """Memory as large as `like` that is used again: to take some anew costs more than what is done in it."""
        found = self._rooms.get(name)
        if found is None or (found.shape, found.dtype, found.device) != (like.shape, like.dtype, like.device):
            found = self._rooms[name] = torch.empty_like(like)
        return found
