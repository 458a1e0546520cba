"""One token a row from processed logits."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy(logits: Tensor) -> Tensor:
    """The most probable token of each row, (B,) int64 from (B, V); of equals the lowest id."""
    return logits.argmax(-1)


def sample(logits: Tensor, uniforms: Tensor) -> Tensor:
    """A draw from softmax(logits) (B, V) for each row, (B,) int64, by inversion of its distribution function.

    uniforms: (B,) float64 in [0, 1), one for each row. One number a token, not V, makes a row's draws cheap and
    independent of the rows beside it.
    """
    # unnormalised and elementwise: torch's softmax wakes all threads even for a few rows, which costs milliseconds
    # on a busy machine
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    targets = uniforms.to(logits.device)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, targets, right=True).clamp(max=logits.shape[-1] - 1)
    # a parallel sum need not be monotone to the last bit: never let that pick what was ruled out
    possible = weights.gather(-1, drawn) > 0
    return torch.where(possible, drawn, weights.argmax(-1, keepdim=True))[:, 0]


def accept_or_draw(logits: Tensor, guess: int | None, guessed_from: Tensor | None, generator: torch.Generator) -> int:
    """A draw from softmax(logits) (V,) that is `guess` as often as it can be (Leviathan et al. 2023, algorithm 1).

    guessed_from: the probabilities (V,) that the guess was drawn from, None: it was a sure one; guess None: a plain
    draw. With probability min(1, p/q) the guess stands, else the draw is from max(0, p - q), which makes it p.
    """
    if guess is not None:
        p = logits.double().softmax(-1)
        q = 1.0 if guessed_from is None else float(guessed_from[guess])
        if float(torch.rand((), dtype=torch.float64, generator=generator)) * q < float(p[guess]):
            return guess
        rest = p.clone()
        if guessed_from is None:
            rest[guess] = 0.0
        else:
            rest = (p - guessed_from.to(p.device)).clamp_min(0)
        logits = rest.log() if float(rest.sum()) > 0 else logits
    return int(sample(logits[None], torch.rand(1, dtype=torch.float64, generator=generator)))
