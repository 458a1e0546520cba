"""Text from a model that fills gaps: all of them at once and again, one after another, or the most certain first.

A gap is the model's mask token in `ids`; everything else stays as it is. A model here has `settings.mask_id`,
`encode(ids, mask, at=…)` for the states at some places, `finish` and a linear `head` behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from llmbert.decoding.processors import Context, Processor, build_processors, log_probabilities_of
from llmbert.decoding.sampling import greedy, sample
from llmbert.decoding.settings import GenerationSettings
from llmbert.protocols import LLMBertError, Progress, UsageError, silent

GREEDY = GenerationSettings(temperature=0.0)


def make_template(
    length: int, *, begin_id: int, end_id: int, mask_id: int, prompt: Sequence[int] = (), suffix: Sequence[int] = ()
) -> Tensor:
    """One row (1, T) int64: begin, prompt, `length` gaps, suffix, end."""
    return torch.tensor([[begin_id, *prompt, *[mask_id] * length, *suffix, end_id]])


@torch.inference_mode()
def mask_predict(
    model: Any,
    ids: Tensor,
    iterations: int = 10,
    settings: GenerationSettings = GREEDY,
    *,
    mask: Tensor | None = None,
    forbidden_ids: Iterable[int] = (),
) -> Tensor:
    """ids (B, T) with every gap filled, in at most `iterations` readings (Ghazvininejad et al. 2019, §3).

    The first reading fills all of a row's n gaps at once; reading t + 1 of i masks the n·(i - t)/i tokens that were
    least certain when they were chosen (linear decay) and predicts them anew. mask: (B, T) true where there is a token;
    forbidden_ids: never written, nor is the mask token. Row b draws from a random stream of its own, (seed, b).
    """
    choose = _Chooser(model, settings, forbidden_ids, ids)
    ids, gaps = ids.clone(), ids == choose.mask_id
    certainty = torch.full(ids.shape, torch.inf, device=ids.device)
    hidden, count = gaps, gaps.sum(1)
    for reading in range(iterations):
        if reading:
            worst = count * (iterations - reading) // iterations
            rank = torch.where(gaps, certainty, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
            hidden = gaps & (rank < worst[:, None])
        if not bool(hidden.any()):
            break
        ids[hidden] = choose.mask_id
        ids[hidden], certainty[hidden] = choose(ids, mask, hidden)
    return ids


@torch.inference_mode()
def gibbs(
    model: Any,
    ids: Tensor,
    sweeps: int = 1,
    settings: GenerationSettings | None = None,
    *,
    order: Literal["left", "random"] = "left",
    mask: Tensor | None = None,
    forbidden_ids: Iterable[int] = (),
    progress: Progress = silent,
) -> Tensor:
    """ids (B, T) with every gap drawn from the model given all else, `sweeps` times over (Wang & Cho 2019, §3).

    In the first sweep the gaps still to come are masked: with order "left" that is writing from left to right. Later
    sweeps mask one token of a row at a time and draw it again, in that order or in a new random one each sweep.
    Arguments as in `mask_predict`; settings None draws from the whole distribution; progress: told of every reading.
    """
    choose = _Chooser(model, settings or GenerationSettings(), forbidden_ids, ids)
    ids, gaps = ids.clone(), (ids == choose.mask_id).cpu().numpy()
    for _ in range(sweeps):
        places = [np.flatnonzero(row) for row in gaps]
        if order == "random":
            places = [random.permutation(row) for random, row in zip(choose.random, places, strict=True)]
        turns = max(map(len, places), default=0)
        for turn in range(turns):
            progress("filling", turn, turns)
            now = torch.zeros_like(ids, dtype=torch.bool)
            for row, own in enumerate(places):
                if turn < len(own):
                    now[row, int(own[turn])] = True
            ids[now] = choose.mask_id
            ids[now], _ = choose(ids, mask, now)
    return ids


@torch.inference_mode()
def fill(
    model: Any,
    ids: Tensor,
    *,
    mask: Tensor | None = None,
    forbidden_ids: Iterable[int] = (),
    progress: Progress = silent,
) -> Tensor:
    """ids (B, T) with every gap filled by its most probable token, the most certain gap of each row first.

    As many readings as the row with most gaps has: each sees what was filled before. Arguments as in `gibbs`.
    """
    choose = _Chooser(model, GREEDY, forbidden_ids, ids)
    ids, total = ids.clone(), int((ids == choose.mask_id).sum())
    while left := int((gaps := ids == choose.mask_id).sum()):
        progress("filling", total - left, total)
        certainty = torch.full(ids.shape, -torch.inf, device=ids.device)
        tokens, certainty[gaps] = choose(ids, mask, gaps)
        best = certainty.argmax(1, keepdim=True)
        now = gaps & (torch.arange(ids.shape[1], device=ids.device) == best)
        filled = ids.masked_scatter(gaps, tokens)
        ids = torch.where(now, filled, ids)
    return ids


@torch.inference_mode()
def candidates(
    model: Any, ids: Tensor, count: int = 5, *, mask: Tensor | None = None, forbidden_ids: Iterable[int] = ()
) -> list[list[list[tuple[int, float]]]]:
    """For each row, for each of its gaps from left to right: the `count` most probable tokens and their probabilities.

    All gaps are empty while each is judged; probabilities are of the whole vocabulary but the forbidden ids.
    """
    choose = _Chooser(model, GREEDY, forbidden_ids, ids)
    gaps = ids == choose.mask_id
    found: list[list[list[tuple[int, float]]]] = [[] for _ in range(len(ids))]
    if bool(gaps.any()):
        best = log_probabilities_of(choose.logits(ids, mask, gaps)).topk(min(count, model.vocabulary_size))
        rows = gaps.nonzero()[:, 0].tolist()
        for row, tokens, scores in zip(rows, best.indices.tolist(), best.values.exp().tolist(), strict=True):
            found[row].append([(t, p) for t, p in zip(tokens, scores, strict=True) if p > 0])
    return found


class _Chooser:
    """Chooses tokens at gaps from a model's logits there, as settings ask for; random: a stream for each row."""

    def __init__(self, model: Any, settings: GenerationSettings, forbidden_ids: Iterable[int], ids: Tensor) -> None:
        if model.settings.mask_id is None:
            raise LLMBertError("this model knows no mask token, so it fills no gap; set mask_id to its tokeniser's")
        if settings.beams > 1:
            raise UsageError("a model that fills gaps has no beam search; leave out beams")
        self.model, self.settings, self.mask_id = model, settings, int(model.settings.mask_id)
        forbidden = {*forbidden_ids, self.mask_id}
        self.never: Processor = build_processors(GREEDY, forbidden_ids=forbidden)[0]
        self.rules = build_processors(settings, forbidden_ids=forbidden)
        self.random = [np.random.default_rng((settings.seed, row)) for row in range(len(ids))]
        gaps = ids == self.mask_id
        self.begun = torch.where(gaps.any(1), gaps.int().argmax(1), ids.shape[1]).tolist()  # where the first gap is

    def logits(self, ids: Tensor, mask: Tensor | None, where: Tensor) -> Tensor:
        """(N, V) float32 at the N true places of `where` (B, T), row by row; forbidden tokens ruled out."""
        rows = where.any(1)  # the others have nothing to fill
        mask = None if mask is None else mask[rows]
        states = self.model.encode(ids[rows], mask, at=where[rows].flatten().nonzero()[:, 0])
        return self.never(self.model.head(self.model.finish(states)).float(), Context([]))

    def __call__(self, ids: Tensor, mask: Tensor | None, where: Tensor) -> tuple[Tensor, Tensor]:
        """A token and its log-probability (before temperature and truncation) for each true place of `where`."""
        logits = self.logits(ids, mask, where)
        certainty = log_probabilities_of(logits)
        places = where.nonzero().tolist()
        texts = ids.tolist()
        # What stands before a gap is what a rule against repetition may look at; up to the first one it is the prompt.
        context = Context(
            [[token for token in texts[row][:at] if token != self.mask_id] for row, at in places],
            begun=[self.begun[row] for row, _ in places],
        )
        for rule in self.rules:
            logits = rule(logits, context)
        if self.settings.greedy:
            tokens = greedy(logits)
        else:
            uniforms = [self.random[row].random() for row, _ in places]
            tokens = sample(logits, torch.tensor(uniforms, dtype=torch.float64))
        return tokens, certainty.gather(1, tokens[:, None])[:, 0]
