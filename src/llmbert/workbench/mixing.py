"""Models of one tokeniser → their mixture, weighed on text that none of them learned from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from llmbert.data.corpus import Corpus, Shard
from llmbert.data.shards import head_of
from llmbert.models import FAMILIES, find_family
from llmbert.models.mixture import Mixture, MixtureSettings, Way, features, log_linear, mixture_shares, read_together
from llmbert.models.scoring import sliding_windows
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.budget import PAGE_SECONDS
from llmbert.workbench.settings import check_precision, check_shape, check_used, checked, sort_settings

MOST_TOKENS = 100_000  # of the kept text
MOST_DISTRIBUTIONS = 1 << 25  # probabilities that log-linear weights are learned from
GATE_PENALTY = 1e-3  # on the squared weights of a gate, per member
STRETCH = 16  # tokens that go to one half together
TRIED_AT_FIRST, TRIED_SECONDS = 256, 0.3  # kept tokens, by which it is tried how long members take
FITTING = 5.0  # seconds that the weights of all ways take


@dataclass(frozen=True)
class Kept:
    """What the members say of kept text. targets: (N, M) log-probability of each token; seen: (N, 2M) what a gate sees;
    whole: (M, n, V) all log-probabilities of some of the tokens, aims (n,) which these are, and places (n,) where they
    stand among all."""

    targets: Tensor
    seen: Tensor
    whole: Tensor
    aims: Tensor
    places: Tensor

    def half(self, which: int) -> Kept:
        """Every other stretch of sixteen of the tokens that all is known of, with those between them."""
        among = torch.searchsorted(self.places, torch.arange(len(self.targets)), right=True) - 1
        rows = (among // STRETCH) % 2 == which
        some = rows[self.places]
        places = (rows.cumsum(0) - 1)[self.places[some]]
        return Kept(self.targets[rows], self.seen[rows], self.whole[:, some], self.aims[some], places)

    def wholly_known(self) -> Kept:
        """The tokens that all is known of, and no others."""
        here = torch.arange(len(self.aims))
        return Kept(self.targets[self.places], self.seen[self.places], self.whole, self.aims, here)


def parse_members(text: str, shards: int = 1) -> list[tuple[str, dict[str, str]]]:
    """ "ngram order=7, gpt" → [("ngram", {"order": "7"}), ("gpt", {})]. Raises UsageError for another form, and for a
    single member where each is there but once."""
    found = []
    for part in text.split(","):
        name, *pairs = part.split() or [""]
        if any("=" not in pair for pair in pairs):
            raise UsageError(f"members are families with settings, 'ngram order=7, gpt', not {text!r}")
        _check_member(name)
        given = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
        if given.get("smoothing") == "ml":
            raise UsageError("smoothing=ml gives some tokens no probability, which cannot be weighed; take kneser-ney")
        found.append((name, given))
    if len(found) * shards < 2:
        raise UsageError(f"a mixture has two members or more, or shards, not {text!r}")
    return found


def _check_member(name: str) -> None:
    family = find_family(name)
    if family.likelihood != "exact" or family.mixes:
        exact = [each for each, known in FAMILIES.items() if known.likelihood == "exact" and not known.mixes]
        raise UsageError(f"a mixture needs exact probabilities, which a {name} does not give; mix {', '.join(exact)}")


def check_members(settings: MixtureSettings, training_values: Mapping[str, Any], store: Any) -> None:
    """Refuse members whose settings are wrong, and kept text too short to weigh them on, before any is trained.

    training_values: those of the mixture, which its members have too.
    """
    for name, values in parse_members(settings.members, settings.shards):
        family = FAMILIES[name]
        of_model, of_training, of_corpus = sort_settings(family, values)
        if of_corpus:
            raise UsageError(
                f"members share one tokeniser; set {next(iter(of_corpus))} of the mixture, not of its {name}"
            )
        check_shape(name, of_model, of_model)
        if not family.counts:
            check_precision(checked(TrainingSettings, {**training_values, **of_training}).precision)
            check_used(of_training, "causal", name)
    kept = 0 if store.kept is None else len(store.kept.ids) - store.kept.documents
    if kept <= STRETCH:
        raise LLMBertError(
            f"{kept} tokens are kept for the weights of a mixture, and it takes {STRETCH + 1} or more; give more text"
        )


def fit_mixture(
    members: Mapping[str, Any], settings: MixtureSettings, kept: Shard, progress: Progress = silent
) -> tuple[Mixture, dict[str, Any]]:
    """The mixture of models, and how its weights were found.

    Where no way is asked for, each is learned on one half of the kept text and the one that predicts the other half
    best is learned anew on all of it.
    """
    models = list(members.values())
    text = gather_kept(models, settings, kept, progress)
    tried: dict[str, float] = {}
    ways: Sequence[Way] = (settings.way,) if settings.way else get_args(Way)
    learned, judged = text.half(0), text.half(1).wholly_known()  # of some tokens the log-linear way knows nothing
    for way in ways:
        tried[way] = WAYS[way].loss(judged, *WAYS[way].fit(learned))
    chosen: Any = min(tried, key=lambda way: tried[way])
    mixture = Mixture(settings.model_copy(update={"way": chosen}), models)
    found = WAYS[chosen].fit(text)
    with torch.no_grad():
        for weight, value in zip([mixture.weights, mixture.gate], found, strict=False):
            if weight is not None:
                weight.copy_(value)
    return mixture.eval(), {
        "way": chosen,
        "shares": dict(zip(members, WAYS[chosen].shares(text, *found), strict=True)),
        "kept_tokens": len(text.targets),
        "nats_by_way": tried,
        "nats_alone": dict(zip(members, (-text.targets.mean(0)).tolist(), strict=True)),
    }


@torch.no_grad()
def gather_kept(
    models: Sequence[Any], settings: MixtureSettings, kept: Shard, progress: Progress = silent, most: int = MOST_TOKENS
) -> Kept:
    """What each model says of the first `most` tokens of a shard, in windows as the mixture scores."""
    probe = Mixture(settings.model_copy(update={"way": settings.way or "linear"}), models).eval()
    ids, starts = head_of(kept.ids, kept.starts, most)
    vocabulary, targets, seen, whole, aims, places, before = probe.vocabulary_size, [], [], [], [], [], 0
    room = max(4 * STRETCH, MOST_DISTRIBUTIONS // (vocabulary * len(models)))
    every = max(1, -(-len(ids) // room))
    for _, block, wanted in sliding_windows(ids, starts, probe.window, read_together(vocabulary), progress):
        chosen, device = torch.from_numpy(wanted), probe.weights.device
        parts = probe.parts_at(block[:, :-1].to(device), chosen.to(device))
        target = block[:, 1:][chosen]
        targets.append(torch.stack([part.cpu().gather(1, target[:, None])[:, 0] for part in parts], dim=1))
        seen.append(features(parts).cpu())
        whole.append(torch.stack([part[::every].cpu() for part in parts]))
        aims.append(target[::every])
        places.append(torch.arange(before, before + len(target), every))
        before += len(target)
    return Kept(torch.cat(targets), torch.cat(seen), torch.cat(whole, dim=1), torch.cat(aims), torch.cat(places))


def read_again(store: Corpus) -> int:
    """How many tokens each member reads for the mixture, when it is done with what it is measured on by itself."""
    return len(store.valid.ids) + (0 if store.kept is None else min(len(store.kept.ids), MOST_TOKENS))


def seconds_of_mixing(counted: Sequence[Any], settings: MixtureSettings, store: Corpus, budget: float) -> float:
    """About how long weighing the members and measuring their mixture will take the members that are counted, and the
    weights; the others' own budgets leave the time for what they read. Tried on a little kept text."""
    fitting = min(FITTING, 0.05 * budget)
    if not counted or store.kept is None:
        return fitting
    tokens = TRIED_AT_FIRST
    gather_kept(counted, settings, store.kept, most=tokens)  # the first is slow
    while True:
        began = time.perf_counter()
        found = gather_kept(counted, settings, store.kept, most=tokens)
        taken = time.perf_counter() - began
        if taken > TRIED_SECONDS or tokens >= len(store.kept.ids):
            return fitting + taken * read_again(store) / len(found.targets)
        tokens *= 4


def member_seconds(
    budget: float, began: float, slow: int, counted: Sequence[Any], settings: MixtureSettings, store: Corpus
) -> float:
    """What each of so many members that are not counted gets of a mixture's budget, a second at least. began: when the
    budget did, by time.monotonic; counted: the models of the others, on whose account some of it is put off."""
    later = seconds_of_mixing(counted, settings, store, budget) + PAGE_SECONDS
    left = budget - (time.monotonic() - began) - later
    return round(max(1.0, max(left, 0.3 * budget) / slow), 1)


# ---- the ways ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HowToMix:
    """fit: kept text → the weights; loss: their nats/token on other text; shares: what falls to each member."""

    fit: Callable[[Kept], tuple[Tensor, ...]]
    loss: Callable[..., float]
    shares: Callable[..., list[float]]


def _linear_nats(text: Kept, weights: Tensor, gate: Tensor | None = None) -> Tensor:
    shares = mixture_shares(weights, gate, None if gate is None else text.seen.to(weights.dtype))
    return -(text.targets.to(weights.dtype).clamp_min(-1e4) + shares).logsumexp(-1).mean()


def _log_linear_nats(text: Kept, weights: Tensor) -> Tensor:
    mixed = log_linear(weights, text.whole.to(weights.dtype))
    return -mixed.gather(1, text.aims[:, None]).mean()


def _fit_linear(text: Kept) -> tuple[Tensor, ...]:
    return _minimised(lambda weights: _linear_nats(text, weights), torch.zeros(text.targets.shape[1]))


def _fit_gate(text: Kept) -> tuple[Tensor, ...]:
    count = text.targets.shape[1]

    def loss(weights: Tensor, gate: Tensor) -> Tensor:
        return _linear_nats(text, weights, gate) + GATE_PENALTY * (gate**2).sum() / count

    return _minimised(loss, *_fit_linear(text), torch.zeros(count, 2 * count))


def _fit_log_linear(text: Kept) -> tuple[Tensor, ...]:
    count = text.targets.shape[1]
    return _minimised(lambda weights: _log_linear_nats(text, weights), torch.full((count,), 1 / count))


def _minimised(loss: Callable[..., Tensor], *begin: Tensor) -> tuple[Tensor, ...]:
    """The values at which a smooth loss is least, by L-BFGS from where they begin, in float64."""
    values = [value.double().clone().requires_grad_() for value in begin]
    optimiser = torch.optim.LBFGS(values, max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = loss(*values)
        total.backward()
        return total

    optimiser.step(closure)
    return tuple(value.detach().float() for value in values)


def _linear_shares(text: Kept, weights: Tensor, gate: Tensor | None = None) -> list[float]:
    shares = mixture_shares(weights, gate, None if gate is None else text.seen).exp()
    return list(shares.reshape(-1, shares.shape[-1]).mean(0).tolist())


WAYS: dict[str, HowToMix] = {
    "linear": HowToMix(_fit_linear, lambda text, *w: float(_linear_nats(text, *w)), _linear_shares),
    "log-linear": HowToMix(
        _fit_log_linear, lambda text, *w: float(_log_linear_nats(text, *w)), lambda text, weights: weights.tolist()
    ),
    "gate": HowToMix(_fit_gate, lambda text, *w: float(_linear_nats(text, *w)), _linear_shares),
}
