"""What a family learns from: batches of a store, their loss, and how held-out text is measured on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import torch

from llmbert.data.batches import CarriedStreams, Pieces, Windows
from llmbert.data.corpus import Corpus, Shard
from llmbert.data.denoising import SENTINELS, Denoising, find_sentinels, span_noise
from llmbert.data.infilling import INFILLING_TOKENS, Infilling, find_infilling_ids
from llmbert.data.masking import MaskedWindows, Masking, SentencePairs, find_sentence_ends, find_words
from llmbert.data.pairs import PairBatches, PairCorpus
from llmbert.models import Family
from llmbert.models.scoring import cut_pieces, sliding_window_nats
from llmbert.objectives.adversarial import Alternating, adversarial
from llmbert.objectives.causal import causal
from llmbert.objectives.elbo import Annealed, evidence_lower_bound, kl_weight
from llmbert.objectives.masked import masked_language_model
from llmbert.objectives.seq2seq import sequence_to_sequence
from llmbert.protocols import UsageError
from llmbert.text.vocabulary import MASK_TOKEN
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.budget import Plan

VALID_SHARE = 0.15  # tokens measured on the way, as a share of those learned from in a twentieth of the training
LEAST_VALID = 4096  # tokens
OBSERVED = 64  # texts that a generator is watched by


@dataclass(frozen=True)
class Lesson:
    """One way to learn. objective: see `training.loop.Objective`; evaluate: nats/token on a sample of held-out text;
    observe: further figures of the model on its way, for the log."""

    batches: Any
    objective: Callable[..., Any]
    evaluate: Callable[[], float]
    observe: Callable[[], dict[str, float]] | None = None


Teach = Callable[[Any, Any, Plan, int], Lesson]
"""(model, store, plan, seed) → the lesson."""


@dataclass(frozen=True)
class Objective:
    """How a family may learn: from documents or pairs, and which special tokens its tokeniser needs."""

    teach: Teach
    reads: str
    special_tokens: tuple[str, ...] = ()


def find_objective(name: str | None, family: Family, has_pairs: bool) -> str:
    """The objective asked for, or the first usual one that fits the data. Raises UsageError where none does."""
    allowed = family.objectives
    if name is not None:
        if name not in (*allowed, *family.further):
            known = ", ".join((*allowed, *family.further))
            raise UsageError(f"this family does not learn by {name!r}; it learns by {known}")
        return name
    wanted = "pairs" if has_pairs else "documents"
    fitting = [each for each in allowed if OBJECTIVES[each].reads == wanted]
    if not fitting and has_pairs:
        raise UsageError(
            "this family learns from documents, not from pairs; take transformer or t5, or leave out source="
        )
    return (fitting or list(allowed))[0]


def document_objective(family: Family) -> str:
    """The first objective by which a family learns from documents. Raises UsageError where there is none."""
    fitting = [name for name in (*family.objectives, *family.further) if OBJECTIVES[name].reads == "documents"]
    if not fitting:
        raise UsageError("this family learns from pairs alone")
    return fitting[0]


# ---- documents -----------------------------------------------------------------------------------------------------


def teach_causal(model: Any, corpus: Corpus, plan: Plan, seed: int) -> Lesson:
    """The next token, in windows for attention and in carried streams for recurrence."""
    settings, shard, context = plan.training, corpus.train, plan.model.context
    batches = (
        CarriedStreams(shard.ids, shard.starts, context, settings.batch, seed)
        if model.recurrent
        else _windows(corpus, plan, seed)
    )
    sample = _valid_sample(corpus.valid, settings, settings.batch * context)
    return Lesson(batches, causal, partial(_mean_nats, model, sample, context))


def _windows(corpus: Corpus, plan: Plan, seed: int) -> Windows:
    settings, tokeniser = plan.training, corpus.tokeniser
    return Windows(
        corpus.train.ids,
        plan.model.context,
        settings.batch,
        seed,
        tokeniser.begin_id,
        settings.across_documents,
        begins_end=tokeniser.begin_id == tokeniser.end_id,
    )


def teach_infilling(model: Any, corpus: Corpus, plan: Plan, seed: int) -> Lesson:
    """The next token, where a share of the texts has its middle moved to its end, or blanks answered there."""
    settings, context = plan.training, plan.model.context
    windows = _windows(corpus, plan, seed)
    marks = find_infilling_ids(corpus.tokeniser.special_ids)
    end_id, rate = corpus.tokeniser.end_id, 0.5 if settings.infilling is None else settings.infilling
    batches = Infilling(
        windows, marks, end_id, rate=rate, blanks=settings.blanks, suffix_first=(1 - settings.blanks) / 2
    )
    sample = _valid_sample(corpus.valid, settings, settings.batch * context)
    return Lesson(batches, causal, partial(_mean_nats, model, sample, context))


def teach_masked(model: Any, corpus: Corpus, plan: Plan, seed: int) -> Lesson:
    """Tokens that were hidden, and whether one stretch of text follows another."""
    settings, tokeniser, context = plan.training, corpus.tokeniser, plan.model.context
    tokens = tokeniser.token_bytes() or tokeniser.token_texts()
    ends = find_sentence_ends(tokens)
    masking = Masking(
        tokeniser.special_ids[MASK_TOKEN],
        tokeniser.vocabulary_size,
        special_ids=tokeniser.reserved_ids,
        words=find_words(tokens) if settings.whole_words else None,
    )

    def batches(shard: Shard, seed: int) -> Any:
        if settings.next_sentence:
            return SentencePairs(shard.ids, shard.starts, masking, context, settings.batch, seed, ends)
        return MaskedWindows(shard.ids, shard.starts, masking, context, settings.batch, seed, settings.across_documents)

    held_out = _some_batches(batches(corpus.valid, 0), _valid_tokens(settings, settings.batch * context))
    evaluate = partial(mean_loss, model, masked_language_model, held_out, "mlm")
    return Lesson(batches(corpus.train, seed), masked_language_model, evaluate)


def teach_denoising(model: Any, corpus: Corpus, plan: Plan, seed: int) -> Lesson:
    """Spans that were taken out, each behind the sentinel that stands in its place."""
    settings, context = plan.training, plan.model.context
    noise = span_noise(find_sentinels(corpus.tokeniser.special_ids))

    def batches(shard: Shard, seed: int) -> Any:
        return Denoising(shard.ids, shard.starts, noise, context, settings.batch, seed)

    held_out = _some_batches(batches(corpus.valid, 0), _valid_tokens(settings, settings.batch * context))
    evaluate = partial(mean_loss, model, sequence_to_sequence, held_out, "nll")
    return Lesson(batches(corpus.train, seed), sequence_to_sequence, evaluate)


def teach_elbo(model: Any, corpus: Corpus, plan: Plan, seed: int) -> Lesson:
    """Whole texts, each through a latent variable; on the way the whole bound is measured, whatever the KL weighs."""
    settings, context = plan.training, plan.model.context
    if settings.word_dropout and corpus.tokeniser.unknown_id < 0:
        raise UsageError("word dropout writes the unknown token, which this tokeniser lacks; leave out word_dropout")

    def batches(shard: Shard, seed: int) -> Pieces:
        return Pieces(shard.ids, *cut_pieces(shard.starts, context), settings.batch, seed)

    warmup = settings.kl_steps or max(1, settings.steps // 2)
    weight = lambda step: kl_weight(settings.kl_schedule, step, warmup, settings.kl_cycles)  # noqa: E731
    learned = Annealed(batches(corpus.train, seed), weight, settings.aggressive)
    whole = Annealed(batches(corpus.valid, 0), lambda step: 1.0)
    held_out = _some_batches(whole, _valid_tokens(settings, settings.batch * context))
    objective = partial(
        evidence_lower_bound,
        free_bits=settings.free_bits,
        word_dropout=settings.word_dropout,
        unknown_id=max(0, corpus.tokeniser.unknown_id),
    )
    return Lesson(learned, objective, partial(_mean_bound, model, held_out))


def _mean_bound(model: Any, held_out: Sequence[Any]) -> float:
    """The bound in nats/token, with draws of z of its own."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        return mean_loss(model, evidence_lower_bound, held_out, "nll", "kl")


def teach_adversarial(model: Any, corpus: Corpus, plan: Plan, seed: int) -> Lesson:
    """Whole texts, first by maximum likelihood, then against a discriminator; on the way the generator's nats/token are
    measured, and how much its texts repeat themselves and each other."""
    settings, context = plan.training, plan.model.context
    texts = cut_pieces(corpus.train.starts, context)
    likelihood = settings.steps * 6 // 10 if settings.likelihood_steps is None else settings.likelihood_steps
    warm = settings.steps // 10 if settings.warm_steps is None else settings.warm_steps
    batches = Alternating(
        Pieces(corpus.train.ids, *texts, settings.batch, seed),
        settings.adversarial,
        settings.steps,
        likelihood,
        warm,
        discriminator=settings.discriminator_every,
        sharpness=settings.sharpness,
    )
    relaxed = settings.adversarial == "relaxed"
    objective = partial(adversarial, rollouts=settings.rollouts, relativistic=relaxed)
    sample = _valid_sample(corpus.valid, settings, settings.batch * context)
    generator = model.generator
    return Lesson(batches, objective, partial(_mean_nats, generator, sample, context), partial(_variety, model))


def _variety(model: Any) -> dict[str, float]:
    """How many of a generator's texts differ, and how many of their pairs of tokens: mode collapse shows here first."""
    texts = [tuple(text.tolist()) for text in model.sample(OBSERVED, None, seed=0)]
    pairs = [pair for text in texts for pair in pairwise(text)]
    return {"different_texts": len(set(texts)) / len(texts), "distinct_pairs": len(set(pairs)) / max(1, len(pairs))}


# ---- pairs ---------------------------------------------------------------------------------------------------------


def teach_pairs(model: Any, pairs: PairCorpus, plan: Plan, seed: int) -> Lesson:
    """The target, given the source."""
    settings, context = plan.training, plan.model.context

    def batches(part: Any, seed: int) -> PairBatches:
        return PairBatches(
            part,
            (context, context),
            seed,
            batch=settings.batch,
            tokens=settings.batch_tokens,
            temperature=settings.mixture_temperature,
            keep_end=settings.keep_end,
        )

    held_out = _some_batches(batches(pairs.valid, 0), _valid_tokens(settings, settings.batch_tokens or 1024))
    evaluate = partial(mean_loss, model, sequence_to_sequence, held_out, "nll")
    return Lesson(batches(pairs.train, seed), sequence_to_sequence, evaluate)


OBJECTIVES: dict[str, Objective] = {
    "causal": Objective(teach_causal, "documents"),
    "infilling": Objective(teach_infilling, "documents", INFILLING_TOKENS),
    "masked": Objective(teach_masked, "documents", (MASK_TOKEN,)),
    "elbo": Objective(teach_elbo, "documents"),
    "adversarial": Objective(teach_adversarial, "documents"),
    "denoising": Objective(teach_denoising, "documents", SENTINELS),
    "pairs": Objective(teach_pairs, "pairs"),
}


# ---- measuring on the way ------------------------------------------------------------------------------------------


def mean_loss(model: Any, objective: Callable[..., Any], batches: Sequence[Any], *terms: str) -> float:
    """The sum of terms of an objective, each per thing it counts (nats/token), over given batches, without dropout or
    smoothing."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    totals, counts = dict.fromkeys(terms, 0.0), dict.fromkeys(terms, 0)
    with torch.no_grad():
        for part in chain.from_iterable(batch.split(1) for batch in batches):
            found, _ = objective(model, part.to(device), None, 0.0)
            for term in terms:
                totals[term] += float(found[term][0])
                counts[term] += found[term][1]
    model.train(was_training)
    return sum(totals[term] / max(1, counts[term]) for term in terms)


def _valid_tokens(settings: TrainingSettings, tokens_a_step: int) -> int:
    """How many tokens are measured at a time: fewer where that is often, never more because it is seldom."""
    usual = max(1, settings.steps // 20)
    return max(LEAST_VALID, int(VALID_SHARE * tokens_a_step * min(settings.evaluate_every or usual, usual)))


def _some_batches(batches: Any, tokens: int) -> list[Any]:
    """The first batches of the first epoch, of about so many tokens, and no more than there are."""
    found, seen = [], 0
    for batch in islice(batches.iterate(), min(64, _an_epoch(batches))):
        found.append(batch)
        seen += batch.count
        if seen >= tokens:
            break
    return found


def _an_epoch(batches: Any) -> int:
    """How many batches hold each text once; of pairs that is planned anew for each epoch."""
    return len(batches.plan(0)) if hasattr(batches, "plan") else int(batches.batches_per_epoch)


def _valid_sample(shard: Shard, settings: TrainingSettings, tokens_a_step: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole documents of the held-out text, or the head of a long one, as many as are measured on the way."""
    tokens = _valid_tokens(settings, tokens_a_step)
    starts = np.asarray(shard.starts)
    last = int(np.searchsorted(starts, tokens, side="left"))
    last = min(max(1, last), len(starts) - 1)
    end = min(int(starts[last]), int(starts[last - 1]) + tokens)
    return np.asarray(shard.ids[:end]), np.append(starts[:last], end)


def _mean_nats(model: Any, sample: tuple[np.ndarray, np.ndarray], context: int) -> float:
    """Nats/token of a sample; attention sees blocks of its context: quicker, and a little worse, than sliding."""
    ids, starts = sample
    nats = (
        model.token_nats(ids, starts)
        if model.recurrent
        else sliding_window_nats(model, ids, starts, context, stride=context)
    )
    return float(nats.sum() / (len(ids) - len(starts) + 1))
