"""A linear-chain conditional random field over the labels of a sequence. L: labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

FORBIDDEN = -1e4  # in nats: e to it is 0 in float32, and unlike -inf it leaves no NaN in a gradient


class CRF(nn.Module):
    """p(y | x) ∝ exp(start[y₁] + Σ_t emission[t, y_t] + Σ_t transition[y_t, y_{t+1}] + end[y_T]).

    Lafferty et al. 2001, eq. 1 for a chain; the sum over all y and its slope are taken by the forward-backward
    algorithm, the best y is found by Viterbi's. allowed: (L + 1, L + 1) bool, which label (row) may be followed by
    which (column), the last row being the start and the last column the end; None: everything may.

    Emissions are (B, T, L); masks (B, T) are true at each row's first word and on to its last one, then false.
    """

    def __init__(self, labels: int, allowed: Tensor | None = None) -> None:
        super().__init__()
        self.labels = labels
        self.transitions = nn.Parameter(torch.zeros(labels + 1, labels + 1))
        barred = torch.zeros(labels + 1, labels + 1) if allowed is None else ~allowed * FORBIDDEN
        self.register_buffer("barred", barred, persistent=False)
        self.barred: Tensor

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of transitions (L, L), of the first label (L,) and of the last one (L,)."""
        scores = self.transitions + self.barred
        return scores[:-1, :-1], scores[-1, :-1], scores[:-1, -1]

    def forward(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """-log p(labels | emissions) in nats, (B,). labels (B, T): what stands where the mask is false is not read."""
        return self.log_partition(emissions, mask) - self.path_scores(emissions, labels, mask)

    def path_scores(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """The logarithm of what eq. 1 says is in proportion to p(labels | emissions), (B,)."""
        between, start, end = self._scores()
        labels = labels.where(mask, 0)
        emitted = emissions.gather(2, labels[..., None]).squeeze(2) * mask
        passed = between[labels[:, :-1], labels[:, 1:]] * mask[:, 1:]
        last = labels.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        return start[labels[:, 0]] + emitted.sum(1) + passed.sum(1) + end[last]

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """log Σ_y exp(score of y), (B,)."""
        return _LogPartition.apply(emissions, *self._scores(), mask)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """p(y_t | emissions), (B, T, L), zeros where the mask is false."""
        chain = _Chain(emissions, *self._scores(), mask)
        return chain.marginals(chain.forward()[0]).to(emissions.dtype)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The most probable labels (B, T) int64, 0 where the mask is false (Viterbi 1967)."""
        between, start, end = self._scores()
        best = start + emissions[:, 0]
        came_from = []
        stay = torch.arange(self.labels, device=emissions.device)
        for t in range(1, emissions.shape[1]):
            value, origin = (best[:, :, None] + between).max(dim=1)
            best = torch.where(mask[:, t, None], value + emissions[:, t], best)
            came_from.append(torch.where(mask[:, t, None], origin, stay))
        path = [(best + end).argmax(dim=1)]
        for origin in reversed(came_from):
            path.append(origin.gather(1, path[-1][:, None]).squeeze(1))
        return torch.stack(path[::-1], dim=1) * mask


class _Chain:
    """The forward-backward algorithm (Rabiner 1989, §III) over one batch, in float64 and scaled at every step.

    Paths that lie e⁻⁷⁰⁰ below the best are lost, which no sum notices.
    """

    def __init__(self, emissions: Tensor, between: Tensor, start: Tensor, end: Tensor, mask: Tensor) -> None:
        emissions = emissions.double()
        self.tops = emissions.amax(2)
        self.emitted = (emissions - self.tops[..., None]).exp()
        self.between, self.start, self.end = (scores.double().exp() for scores in (between, start, end))
        self.mask = mask

    def forward(self) -> tuple[Tensor, Tensor]:
        """What leads to each label, (B, T, L), each step's sum being 1; and the log partition (B,)."""
        ahead, scale = _to_one(self.start * self.emitted[:, 0])
        found, total = [ahead], scale.log() + self.tops[:, 0]
        for t in range(1, self.emitted.shape[1]):
            reached, scale = _to_one((ahead @ self.between) * self.emitted[:, t])
            ahead = torch.where(self.mask[:, t, None], reached, ahead)
            total = total + torch.where(self.mask[:, t], scale.log() + self.tops[:, t], 0.0)
            found.append(ahead)
        return torch.stack(found, 1), total + _to_one(ahead * self.end)[1].log()

    def backward(self) -> Tensor:
        """What follows each label, (B, T, L), each step scaled as it may be."""
        behind = self.end.expand(len(self.mask), -1)
        found = [behind]
        for t in range(self.emitted.shape[1] - 1, 0, -1):
            reached = _to_one((self.emitted[:, t] * behind) @ self.between.T)[0]
            behind = torch.where(self.mask[:, t, None], reached, behind)
            found.append(behind)
        return torch.stack(found[::-1], 1)

    def marginals(self, ahead: Tensor) -> Tensor:
        return _to_one(ahead * self.backward())[0] * self.mask[..., None]


def _to_one(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (…, L) made to sum to 1, and what they summed to (…)."""
    scale = values.sum(-1).clamp_min(1e-300)
    return values / scale[..., None], scale


class _LogPartition(torch.autograd.Function):
    """The log partition; its slope at a score is how often the score is expected to be passed."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, between: Tensor, start: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        chain = _Chain(emissions, between, start, end, mask)
        ahead, total = chain.forward()
        ctx.chain, ctx.ahead, ctx.kind = chain, ahead, emissions.dtype
        return total.to(emissions.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        chain, ahead, gradient = ctx.chain, ctx.ahead, gradient.double()
        behind = chain.backward()
        alone = _to_one(ahead * behind)[0]
        # (before, after) at each step, of which the sum over both is 1.
        before, after = ahead[:, :-1], chain.emitted[:, 1:] * behind[:, 1:]
        both = ((before @ chain.between) * after).sum(-1).clamp_min(1e-300)
        weight = gradient[:, None] * chain.mask[:, 1:] / both
        between = chain.between * torch.einsum("bti,btj->ij", before * weight[..., None], after)
        return (
            (alone * (gradient[:, None] * chain.mask)[..., None]).to(ctx.kind),
            between.to(ctx.kind),
            (alone[:, 0] * gradient[:, None]).sum(0).to(ctx.kind),
            (alone[:, -1] * gradient[:, None]).sum(0).to(ctx.kind),
            None,
        )


def allowed_transitions(labels: Sequence[str]) -> Tensor | None:
    """Which tag may follow which, (L + 1, L + 1) bool as `CRF` takes it, or None where the labels are no span tags.

    Tags are "O" and a letter, a hyphen and a type, in the schemes BIO, BIOES, BMES and BILOU: a span is begun by B or
    is S (U, W) alone; I (M) and E (L) go on with a span of their type; where the scheme ends its spans (E, L), an
    unfinished one is followed by nothing else.
    """
    parts = [label.partition("-") for label in labels]
    if not all(
        label == "O" or (part[0] in "BIMELSUW" and len(part[0]) == 1 and part[2])
        for label, part in zip(labels, parts, strict=True)
    ):
        return None
    letters = [part[0] for part in parts] + ["O"]
    types = [part[2] for part in parts] + [""]
    closes = bool({"E", "L", "S", "U", "W"} & set(letters))
    places = range(len(letters))

    def may_follow(before: int, after: int) -> bool:
        is_open = letters[before] in ("B", "I", "M")
        if letters[after] in ("I", "M", "E", "L"):
            return is_open and types[before] == types[after]
        return not (is_open and closes)

    table = [[may_follow(before, after) for after in places] for before in places]
    return torch.tensor(table, device="cpu")  # also where a model is only outlined, on the device "meta"
