"""Beam search over any stepper, many prompts at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from llmbert.decoding.processors import Context, ForbidTokens, Processor, build_processors, log_probabilities_of
from llmbert.decoding.settings import Request, check_prompt, end_ids_of, never_written
from llmbert.decoding.stepping import Row, RunningBatch, evaluating
from llmbert.decoding.streaming import Decode, cut_at_stop, first_stop
from llmbert.decoding.utf8 import ValidUtf8
from llmbert.nn.native import likeliest
from llmbert.protocols import Progress, Stepper, UsageError, silent

MANY = 1 << 20  # log-probabilities of a step
BLOCK = 64  # of them


@dataclass(frozen=True)
class Hypothesis:
    """A text beam search came up with.

    tokens: without the end token; text: cut before a stop string; log_probability: nats, the end token's included, of
    scores that penalties for what was written have changed where there are some (see `beam_search`);
    score: log_probability / length ** length_penalty, what hypotheses are ranked by.
    """

    tokens: tuple[int, ...]
    text: str
    log_probability: float
    score: float
    finish: Literal["end", "length", "stop"]


@dataclass
class _Beam(Row):
    """A hypothesis that goes on; `generated` of its tokens are new."""

    generated: int = 0
    log_probability: float = 0.0


@dataclass
class _Search:
    """The hypotheses of one request: those that go on and those that are done, together at most `beams`."""

    request: Request
    processors: list[Processor]
    live: list[_Beam]
    done: list[Hypothesis] = field(default_factory=list)

    @property
    def settings_key(self) -> tuple[Any, ...]:
        """What searches must have in common to go through their rules together."""
        return (tuple(self.processors), self.request.settings.beams)


def beam_search(
    model: Stepper,
    requests: Iterable[Request],
    begin_id: int | None,
    end_id: int | Sequence[int],
    decode: Decode,
    token_bytes: Sequence[bytes] | None = None,
    *,
    padding_id: int | None = None,
    unknown_id: int | None = None,
    never_ids: Sequence[int] = (),
    n_best: int = 1,
    device: torch.device | str | None = None,
    progress: Progress = silent,
    watermark: Processor | None = None,
) -> list[list[Hypothesis]]:
    """The best hypotheses of each request, best first: at most `n_best`, which may not exceed its `beams`.

    A hypothesis y scores log p(y | prompt) / |y| ** alpha, alpha = `length_penalty` and |y| the number of generated
    tokens, the end token included (the length normalisation of Wu et al. 2016, equation 14, in its plain form). A
    higher alpha favours longer texts; 0 compares bare probabilities. At every step the `beams` best by score are kept
    of all one-token continuations and of the hypotheses already ended, so one beam is greedy decoding and enough
    beams are exhaustive search. Processors (forbidden tokens, valid UTF-8, repetition) act on log-probabilities,
    which are not normalised again: where they only forbid, p stays the model's own; under a `watermark` it is the
    marked model's. Repetition, frequency and presence penalties change them, and the changed ones are added up: what
    they give is a score to rank by and no probability.

    A request is done when no hypothesis goes on, or as soon as its `n_best` ended ones score at least what any other
    could still reach (not looked at where a penalty is below 0, so that a score may rise): the result is the same as
    without this early finish.

    begin_id None: prompts stand alone; end_id: one end token or several.
    Raises UsageError where a request cannot be met. Memory: the model's state for the sum of all beams.
    """
    valid_utf8 = ValidUtf8(token_bytes, model.vocabulary_size) if token_bytes is not None else None
    end_ids = end_ids_of(end_id)
    never = never_written(begin_id, padding_id, never_ids, end_ids)
    searches = []
    for request in requests:
        if not 1 <= n_best <= request.settings.beams:
            raise UsageError(f"n_best must be between 1 and beams ({request.settings.beams}), not {n_best}.")
        if request.constraint is not None:
            raise UsageError("A constraint follows one text token by token; leave out beams.")
        unknown = () if unknown_id is None or request.settings.allow_unknown else (unknown_id,)
        rules = build_processors(
            request.settings, forbidden_ids=never + unknown, valid_utf8=valid_utf8, watermark=watermark
        )
        prompt = check_prompt(request.prompt, model.vocabulary_size)
        root = _Beam(prompt, request.condition, room=request.settings.max_tokens)
        searches.append(_Search(request, rules, [root]))
    batch: RunningBatch[_Beam] = RunningBatch(model, begin_id, device)
    with evaluating(model):
        _search(batch, searches, end_ids, decode, n_best, progress)
    return [sorted(each.done, key=lambda hypothesis: -hypothesis.score)[:n_best] for each in searches]


def _search(
    batch: RunningBatch[_Beam],
    searches: list[_Search],
    end_ids: tuple[int, ...],
    decode: Decode,
    n_best: int,
    progress: Progress,
) -> None:
    joining: list[_Beam] = [beam for search in searches for beam in search.live]
    steps, native = 0, getattr(batch.model, "native", None) is not None
    while joining or batch.rows:
        logits = batch.advance(joining)
        joining = []
        place = {id(row): index for index, row in enumerate(batch.rows)}
        indices: list[int] = []
        rows: list[_Beam] = []
        for search, parents, candidates in _continuations(searches, place, logits, native):
            chosen = _extend(search, candidates, logits.shape[-1], end_ids, decode)
            if _settled(search, n_best):
                search.live = []
                continue
            indices += [parents[parent] for parent in chosen]
            rows += search.live
        batch.keep(indices, rows)
        steps += 1
        progress("beam search", steps, None, rows=len(rows))


_Candidates = list[tuple[float, int]]
"""(total log-probability, parent · V + token), best first."""


def _continuations(
    searches: Sequence[_Search], place: Mapping[int, int], logits: Tensor, native: bool
) -> Iterator[tuple[_Search, list[int], _Candidates]]:
    """Each search that goes on, the rows of its hypotheses, and its best one-token continuations.

    Searches of the same rules go through them together. native: what is compiled is there, and looks through many.
    """
    groups: dict[tuple[Any, ...], list[_Search]] = {}
    for search in searches:
        if search.live:
            groups.setdefault((search.settings_key, len(search.live)), []).append(search)
    found: dict[int, tuple[list[int], _Candidates]] = {}
    for group in groups.values():
        parents = [[place[id(beam)] for beam in search.live] for search in group]
        whole = [row for some in parents for row in some]
        block = logits if whole == list(range(len(logits))) else logits[torch.tensor(whole, device=logits.device)]
        live = [beam for search in group for beam in search.live]
        remaining = [search.request.settings.max_tokens - beam.generated for search in group for beam in search.live]
        size, beams = len(group[0].live), group[0].request.settings.beams
        so_far = torch.tensor([beam.log_probability for beam in live], dtype=torch.float64, device=block.device)
        so_far = so_far.view(len(group), size)
        forbidden = _forbidden_alone(group[0].processors)
        if forbidden is not None and native and block.numel() >= MANY and block.device.type == "cpu":
            values, ids = (each.view(len(group), size, -1) for each in likeliest(block, beams, forbidden))
            best = _in_order(so_far, values, ids, block.shape[1], beams)
        else:
            # Of many rows torch's own is quicker than to wake no thread.
            scores = block.log_softmax(-1) if block.numel() >= MANY else log_probabilities_of(block)
            begun = [len(search.request.prompt) for search in group for _ in search.live]
            context = Context([beam.tokens for beam in live], remaining, begun)
            for processor in group[0].processors:
                scores = processor(scores, context)
            best = _best(scores.view(len(group), size, -1), so_far, beams)
        for search, rows, candidates in zip(group, parents, best, strict=True):
            found[id(search)] = (rows, candidates)
    for search in searches:
        if id(search) in found:
            yield (search, *found[id(search)])


def _extend(
    search: _Search, candidates: _Candidates, vocabulary: int, end_ids: tuple[int, ...], decode: Decode
) -> list[int]:
    """Continue the live hypotheses by their candidates, keep the best; return each new live one's parent."""
    settings, live = search.request.settings, search.live
    length = live[0].generated + 1
    if not candidates and not search.done:
        # the model allows nothing that the rules allow: the texts end where they are
        search.done = [_ended(search, beam, beam.tokens, beam.log_probability, "end", decode) for beam in live]
    ranked: list[tuple[float, Hypothesis | None, tuple[float, int]]] = [
        (candidate[0] / length**settings.length_penalty, None, candidate) for candidate in candidates
    ]
    if search.done:
        ranked = [(each.score, each, (0.0, 0)) for each in search.done] + ranked
        ranked.sort(key=lambda each: -each[0])  # stable: of equals the earlier one
    search.done, search.live, parents = [], [], []
    for _, hypothesis, (total, place) in ranked[: settings.beams]:
        if hypothesis is not None:
            search.done.append(hypothesis)
            continue
        parent, token = divmod(place, vocabulary)
        beam = _continue(search, live[parent], token, total, end_ids, decode)
        if beam is not None:
            search.live.append(beam)
            parents.append(parent)
    return parents


def _continue(
    search: _Search, parent: _Beam, token: int, total: float, end_ids: tuple[int, ...], decode: Decode
) -> _Beam | None:
    """The parent with one more token; None where that ends it, and then it is among the done."""
    settings, generated = search.request.settings, parent.generated + 1
    if token in end_ids:
        search.done.append(_ended(search, parent, parent.tokens, total, "end", decode, generated))
        return None
    tokens = [*parent.tokens, token]
    if settings.stop:
        text = (search.request.decode or decode)(tokens[len(tokens) - generated :])
        if first_stop(text, settings.stop):
            search.done.append(_ended(search, parent, tokens, total, "stop", decode, generated))
            return None
    if generated >= settings.max_tokens:
        search.done.append(_ended(search, parent, tokens, total, "length", decode, generated))
        return None
    return _Beam(tokens, parent.condition, parent.taken, generated=generated, log_probability=total)


def _ended(
    search: _Search,
    parent: _Beam,
    tokens: list[int],
    total: float,
    finish: Literal["end", "length", "stop"],
    decode: Decode,
    length: int | None = None,
) -> Hypothesis:
    settings = search.request.settings
    length = max(1, parent.generated) if length is None else length
    generated = tuple(tokens[len(search.request.prompt) :])
    text = cut_at_stop((search.request.decode or decode)(generated), settings.stop)
    return Hypothesis(generated, text, total, total / length**settings.length_penalty, finish)


def _forbidden_alone(processors: Sequence[Processor]) -> tuple[int, ...] | None:
    """The ids that the rules rule out, where they do nothing else."""
    if not all(isinstance(processor, ForbidTokens) for processor in processors):
        return None
    return tuple(token for processor in processors if isinstance(processor, ForbidTokens) for token in processor.ids)


def _in_order(so_far: Tensor, values: Tensor, ids: Tensor, vocabulary: int, count: int) -> list[_Candidates]:
    """The `count` best finite continuations of each search, of each hypothesis's own: values, ids (N, live, some)."""
    totals = (so_far[..., None] + values.double()).flatten(1)
    places = (ids + vocabulary * torch.arange(ids.shape[1], device=ids.device)[:, None]).flatten(1)
    by_place = places.argsort(dim=1)
    totals, places = totals.gather(1, by_place), places.gather(1, by_place)
    best = totals.argsort(dim=1, descending=True, stable=True)[:, :count]  # of equals the lowest place
    reached, where = totals.gather(1, best).tolist(), places.gather(1, best).tolist()
    pairs = (zip(some, at, strict=True) for some, at in zip(reached, where, strict=True))
    return [[(total, place) for total, place in each if total > -math.inf] for each in pairs]


def _best(scores: Tensor, so_far: Tensor, count: int) -> list[_Candidates]:
    """The `count` best finite continuations of each search: scores (N, live, V) of tokens, so_far (N, live).

    Of equals the lowest index. A search's best are among each hypothesis's best; only where the last of these has
    equals left out are all of a search's looked at.
    """
    vocabulary = scores.shape[-1]
    values, indices = _top(scores, min(count + 1, vocabulary))
    cut = values[..., :count]
    unsure = (
        (values[..., count] == cut[..., -1]) & (cut[..., -1] > -torch.inf)
        if vocabulary > count
        else torch.zeros_like(so_far, dtype=torch.bool)
    )
    best = _in_order(so_far, cut, indices[..., :count], vocabulary, count)
    return [
        _best_of_all((so_far[number, :, None] + scores[number].double()).flatten(), count)
        if is_unsure
        else best[number]
        for number, is_unsure in enumerate(unsure.any(-1).tolist())
    ]


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest of the last dimension and their places, best first; of equals any.

    They are in the `count` blocks with the highest maxima: those are found in one pass over all, the rest in little.
    """
    blocks = scores.shape[-1] // BLOCK
    if blocks <= 2 * count:
        top = scores.topk(count)
        return top.values, top.indices
    inside = scores[..., : blocks * BLOCK].unflatten(-1, (blocks, BLOCK))
    chosen = inside.amax(-1).topk(count).indices[..., None]
    found = inside.gather(-2, chosen.expand(*chosen.shape[:-1], BLOCK)).flatten(-2)
    places = (chosen * BLOCK + torch.arange(BLOCK, device=scores.device)).flatten(-2)
    behind = scores[..., blocks * BLOCK :]
    last = torch.arange(blocks * BLOCK, scores.shape[-1], device=scores.device).expand(behind.shape)
    top = torch.cat((found, behind), dim=-1).topk(count)
    return top.values, torch.cat((places, last), dim=-1).gather(-1, top.indices)


def _best_of_all(totals: Tensor, count: int) -> _Candidates:
    """The `count` highest finite (value, index) of a flat tensor, best first; of equals the lowest index."""
    least = totals.topk(min(count, len(totals))).values[-1]
    indices = torch.nonzero((totals >= least) & (totals > -torch.inf))[:, 0]
    order = totals[indices].sort(descending=True, stable=True).indices[:count]
    chosen = indices[order]
    return list(zip(totals[chosen].tolist(), chosen.tolist(), strict=True))


def _settled(search: _Search, n_best: int) -> bool:
    """Whether nothing that goes on can still come before the `n_best` ended ones."""
    if not search.live:
        return True
    settings = search.request.settings
    if len(search.done) < n_best or min(settings.frequency_penalty, settings.presence_penalty) < 0:
        return False  # a penalty below 0 is a gift: what goes on may rise without end
    bar = sorted((each.score for each in search.done), reverse=True)[n_best - 1]
    # log-probabilities only fall, so a live one does best if all further tokens are certain, at the length that helps
    shortest, longest = search.live[0].generated + 1, settings.max_tokens
    best = max(beam.log_probability for beam in search.live)
    reach = max(best / shortest**settings.length_penalty, best / longest**settings.length_penalty)
    return bar >= reach
