"""Whole characters only: a byte-level vocabulary kept to well-formed UTF-8 while it writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmbert.decoding.processors import Context

ACCEPT = 0  # between characters
DEAD = 10
_STATES = 11
_UNREACHABLE = 9  # more tokens than any character needs


def transition_table() -> np.ndarray:
    """The automaton of well-formed UTF-8 (Unicode 16, table 3-7) as uint8 (11 states, 256 bytes).

    States: 0 between characters; 1, 2 one or two continuation bytes to come; 3 after E0, 4 after ED, 5 after F0,
    6 after F1-F3, 7 after F4, 8 after EF, 9 after EF BF; 10 dead. The last two exist to leave out EF BF BD, the
    replacement character: a text that shows it looks broken although its bytes are not.
    """
    table = np.full((_STATES, 256), DEAD, dtype=np.uint8)
    table[0, 0x00:0x80] = ACCEPT
    table[0, 0xC2:0xE0] = 1
    table[0, 0xE1:0xF0] = 2
    table[0, [0xE0, 0xED, 0xEF, 0xF0, 0xF4]] = [3, 4, 8, 5, 7]
    table[0, 0xF1:0xF4] = 6
    table[1, 0x80:0xC0] = ACCEPT
    table[2, 0x80:0xC0] = 1
    table[3, 0xA0:0xC0] = 1
    table[4, 0x80:0xA0] = 1
    table[5, 0x90:0xC0] = 2
    table[6, 0x80:0xC0] = 2
    table[7, 0x80:0x90] = 2
    table[8, 0x80:0xBF] = 1
    table[8, 0xBF] = 9
    table[9, 0x80:0xC0] = ACCEPT
    table[9, 0xBD] = DEAD
    return table


_TABLE = transition_table()


class ValidUtf8:
    """Keeps only tokens after which the text is, or can still become, valid UTF-8 without a replacement character.

    token_bytes: by id, the bytes each token stands for; the end token and others of no bytes are allowed only between
    characters. Ids past the list, up to `vocabulary_size`, are never allowed. Where `Context.remaining` is known, a
    character is only begun when enough tokens remain to end it, so a text cut at its length ends whole as well.

    A model that gives none of these any probability gets an emptied row: broken text is never the way out.
    Memory: 4 masks x 11 states x V bytes.
    """

    def __init__(self, token_bytes: Sequence[bytes], vocabulary_size: int | None = None):
        size = vocabulary_size or len(token_bytes)
        self.token_bytes = list(token_bytes)
        after = np.full((_STATES, size), DEAD, dtype=np.uint8)
        after[:, : len(token_bytes)] = states_after(token_bytes)
        self.needed = _tokens_needed(after)  # (11,) tokens that end the character begun
        reach = self.needed[after]  # (11, V)
        # masks[c]: with c tokens left after this one; c = 3 also stands for more
        masks = np.stack([reach <= left for left in range(4)])
        self.masks = torch.from_numpy(masks)

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        if self.masks.device != logits.device:
            self.masks = self.masks.to(logits.device)
        states = [self.state(tokens) for tokens in context.tokens]
        left = [3] * len(states)
        if context.remaining is not None:
            # a prompt that ends inside a character may leave too little room: then finishing it is not asked for
            left = [
                min(remaining - 1, 3) if self.needed[state] <= remaining else 3
                for state, remaining in zip(states, context.remaining, strict=True)
            ]
        return logits.masked_fill(~self.masks[torch.tensor(left), torch.tensor(states)], -torch.inf)

    def state(self, tokens: Sequence[int]) -> int:
        """Where in a character a text of these tokens ends; between characters where its end is not valid UTF-8."""
        return state_of(tokens, self.token_bytes)


def state_of(tokens: Sequence[int], token_bytes: Sequence[bytes]) -> int:
    """`ValidUtf8.state`; token_bytes: by id."""
    tail = b""
    for token in reversed(tokens[-3:]):
        piece = token_bytes[token] if token < len(token_bytes) else b""
        if not piece:
            break
        tail = piece + tail
    tail = tail[-3:]
    for start in range(len(tail)):
        if tail[start] >= 0xC0:
            state = ACCEPT
            for byte in tail[start:]:
                state = int(_TABLE[state, byte])
            if state not in (ACCEPT, DEAD):
                return state
    return ACCEPT


def character_begun(tokens: Sequence[int], token_bytes: Sequence[bytes]) -> list[int]:
    """The last tokens of a text that ends inside a character, from the one that begins it on; [] of any other."""
    ends = [list(tokens[-count:]) for count in range(1, 4)]
    return next((end for end in ends if state_of(end, token_bytes) != ACCEPT), [])


def states_after(token_bytes: Sequence[bytes]) -> np.ndarray:
    """The state reached from each state by each token, uint8 (11, V); tokens of no bytes die inside a character."""
    lengths = np.array([len(piece) for piece in token_bytes], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    stream = np.frombuffer(b"".join(token_bytes), dtype=np.uint8)
    after = np.repeat(np.arange(_STATES, dtype=np.uint8)[:, None], len(lengths), axis=1)
    for position in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > position)
        after[:, longer] = _TABLE[after[:, longer], stream[offsets[longer] + position]]
    after[1:, lengths == 0] = DEAD
    return after


def _tokens_needed(after: np.ndarray) -> np.ndarray:
    """The fewest tokens that lead from each state to between characters, int64 (11,); 9 where none do."""
    needed = np.full(_STATES, _UNREACHABLE, dtype=np.int64)
    needed[ACCEPT] = 0
    for _ in range(3):  # a character has at most four bytes
        steps = needed[after].min(axis=1, initial=_UNREACHABLE) + 1
        needed = np.minimum(needed, np.minimum(steps, _UNREACHABLE))
    return needed
