"""Callables on logits: each takes (B, V) float32 logits and a `Context`, and returns new logits of the same shape.

A token is ruled out by a logit of minus infinity. Forbidden tokens and `ValidUtf8` hold whatever comes and may empty a
row; no other processor does: where it would leave nothing, that row passes unchanged. The input is never written to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmbert.decoding.settings import GenerationSettings


@dataclass(frozen=True)
class Context:
    """What processors may know of B rows besides their logits.

    tokens: for each row its prompt, then what was generated so far; the begin token is left out;
    remaining: how many tokens each row may still get, the one now chosen included; None: no limit known;
    begun: how many of each row's tokens are its prompt; None: none are.
    """

    tokens: Sequence[Sequence[int]]
    remaining: Sequence[int] | None = None
    begun: Sequence[int] | None = None

    def written(self, row: int) -> Sequence[int]:
        """The tokens of a row without its prompt."""
        return self.tokens[row][self.begun[row] :] if self.begun else self.tokens[row]


Processor = Callable[[Tensor, Context], Tensor]


def keep_only(logits: Tensor, keep: Tensor) -> Tensor:
    """Logits (B, V) with minus infinity where `keep` (B, V) is false; rows that would be emptied stay as they are."""
    ruled = logits.masked_fill(~keep, -torch.inf)
    alive = (ruled > -torch.inf).any(-1, keepdim=True)
    return torch.where(alive, ruled, logits)


def log_probabilities_of(logits: Tensor) -> Tensor:
    """log softmax of (B, V), nats.

    Elementwise, because torch's softmax wakes all threads even for a few rows: milliseconds on a busy machine.
    """
    shifted = logits - logits.amax(-1, keepdim=True)
    return shifted.sub_(shifted.exp().sum(-1, keepdim=True).log_())


@dataclass(frozen=True)
class ForbidTokens:
    """Rules out the given token ids everywhere: begin, padding and, unless asked for, unknown, which are never text."""

    ids: tuple[int, ...]

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        if not self.ids:
            return logits
        return logits.index_fill(-1, torch.tensor(self.ids, device=logits.device), -torch.inf)


@dataclass(frozen=True)
class RepetitionPenalty:
    """Divides positive logits of tokens already in prompt or text by `penalty`, and multiplies negative ones by it.

    Keskar et al. 2019 (CTRL), section 4.1, with the sign handled as in their code.
    """

    penalty: float

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        logits = logits.clone()
        for row, tokens in enumerate(context.tokens):
            if not tokens:
                continue
            seen = torch.tensor(sorted(set(tokens)), device=logits.device)
            values = logits[row, seen]
            logits[row, seen] = torch.where(values < 0, values * self.penalty, values / self.penalty)
        return logits


@dataclass(frozen=True)
class WrittenPenalty:
    """Takes off the logit of every token already written, the prompt left out, `frequency` times how often it was, and
    `presence` once, as OpenAI's interface defines its penalties."""

    frequency: float
    presence: float

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        logits = logits.clone()
        for row in range(len(context.tokens)):
            seen = Counter(context.written(row))
            if seen:
                ids = torch.tensor(list(seen), device=logits.device)
                counts = torch.tensor(list(seen.values()), dtype=logits.dtype, device=logits.device)
                logits[row, ids] -= self.frequency * counts + self.presence
        return logits


@dataclass(frozen=True)
class NoRepeatNgram:
    """Rules out tokens that would complete a sequence of `n` tokens already in prompt or text (Paulus et al. 2017)."""

    n: int

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        keep = torch.ones_like(logits, dtype=torch.bool)
        for row, tokens in enumerate(context.tokens):
            if len(tokens) >= self.n:
                keep[row, self._completions(tokens).to(logits.device)] = False
        return keep_only(logits, keep)

    def _completions(self, tokens: Sequence[int]) -> Tensor:
        """Every token that once followed the last n - 1 tokens."""
        text = torch.tensor(tokens)
        windows = text.unfold(0, self.n, 1)  # (len - n + 1, n)
        tail = text[len(text) - self.n + 1 :]
        return windows[(windows[:, :-1] == tail).all(-1), -1]


@dataclass(frozen=True)
class Temperature:
    """Divides logits by `temperature` > 0. The largest is shifted to 0 first, so that none overflows."""

    temperature: float

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        largest = logits.amax(-1, keepdim=True)
        largest = torch.where(largest.isfinite(), largest, torch.zeros_like(largest))
        return (logits - largest) / max(self.temperature, 1e-30)


@dataclass(frozen=True)
class TopK:
    """Keeps the `k` most probable tokens (Fan et al. 2018), and those exactly as probable as the k-th: equals are
    treated alike, which matters to models that count."""

    k: int

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        least = logits.topk(min(self.k, logits.shape[-1])).values[..., -1:]
        return keep_only(logits, logits >= least)


@dataclass(frozen=True)
class TopP:
    """Nucleus: keeps the smallest set of tokens whose mass reaches `p` (Holtzman et al. 2020, equation 2).

    Among equally probable tokens the lowest ids are taken first.
    """

    p: float
    shortlist: int = 256

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        probabilities = log_probabilities_of(logits).exp()
        ranked, mass = _enough(probabilities, probabilities, self.p, self.shortlist)
        count = ((mass < self.p).sum(-1, keepdim=True) + 1).clamp(max=ranked.shape[-1])
        least = ranked.gather(-1, count - 1)
        above, equal = probabilities > least, probabilities == least
        spare = count - above.sum(-1, keepdim=True)
        return keep_only(logits, above | (equal & (equal.cumsum(-1) <= spare)))


@dataclass(frozen=True)
class MinP:
    """Keeps tokens at least `p` times as probable as the most probable one (Nguyen et al. 2024)."""

    p: float

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        probabilities = log_probabilities_of(logits).exp()
        return keep_only(logits, probabilities >= self.p * probabilities.amax(-1, keepdim=True))


@dataclass(frozen=True)
class Typical:
    """Locally typical: keeps the tokens whose surprise is nearest the distribution's entropy, until their mass
    reaches `p` (Meister et al. 2022, equation 10). The most probable token may go."""

    p: float
    shortlist: int = 256

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        log_probabilities = log_probabilities_of(logits)
        probabilities = log_probabilities.exp()
        entropy = -(probabilities * log_probabilities).nan_to_num(nan=0.0).sum(-1, keepdim=True)
        distance = (-log_probabilities - entropy).abs()
        nearest, mass = _enough(-distance, probabilities, self.p, self.shortlist)
        last = (mass < self.p).sum(-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
        return keep_only(logits, distance <= -nearest.gather(-1, last))


def _enough(values: Tensor, probabilities: Tensor, p: float, shortlist: int) -> tuple[Tensor, Tensor]:
    """The highest `values` (B, V) of each row in falling order, and the mass up to each: two (B, K), where K is
    `shortlist` times a power of 16, so large that every row's mass reaches `p`, or V.

    Sorting a whole vocabulary costs more than a small model's step, and few tokens usually do.
    """
    while True:
        top = values.topk(min(shortlist, values.shape[-1]))
        mass = probabilities.gather(-1, top.indices).cumsum(-1, dtype=torch.float64)
        if shortlist >= values.shape[-1] or bool((mass[:, -1] >= p).all()):
            return top.values, mass
        shortlist *= 16


def build_processors(
    settings: GenerationSettings,
    *,
    forbidden_ids: Iterable[int] = (),
    valid_utf8: Processor | None = None,
    constraint: Processor | None = None,
    watermark: Processor | None = None,
) -> list[Processor]:
    """The processors that `settings` ask for, in a fixed order.

    1 forbidden tokens, 2 valid UTF-8, 3 a constraint of the text's own, 4 repetition penalty, 5 penalties of what was
    written, 6 no repeated n-gram, 7 temperature, 8 top-k, 9 top-p, 10 min-p, 11 locally typical: first what may not be
    written at all, then what is discouraged, then the shape of the distribution, and only then its truncations (7 to 11
    as Transformers orders them), 12 a watermark, which moves mass among what is left. Those at their neutral value are
    left out, and greedy decoding and beam search use 1 to 6 and 12 only.
    """
    last = [] if watermark is None else [watermark]
    rules: list[Processor] = [ForbidTokens(tuple(sorted(set(forbidden_ids))))]
    rules += [rule for rule in (valid_utf8, constraint) if rule is not None]
    if settings.repetition_penalty != 1:
        rules.append(RepetitionPenalty(settings.repetition_penalty))
    if settings.frequency_penalty or settings.presence_penalty:
        rules.append(WrittenPenalty(settings.frequency_penalty, settings.presence_penalty))
    if settings.no_repeat_ngram:
        rules.append(NoRepeatNgram(settings.no_repeat_ngram))
    if settings.greedy or settings.beams > 1:
        return rules + last
    if settings.temperature != 1:
        rules.append(Temperature(settings.temperature))
    if settings.top_k:
        rules.append(TopK(settings.top_k))
    if settings.top_p < 1:
        rules.append(TopP(settings.top_p))
    if settings.min_p > 0:
        rules.append(MinP(settings.min_p))
    if settings.typical_p < 1:
        rules.append(Typical(settings.typical_p))
    return rules + last
