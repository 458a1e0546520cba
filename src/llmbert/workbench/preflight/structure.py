"""Checks that need no training step: masks, padding, cache, conditions, dropout, ties and the loss itself."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmbert.data.batches import IGNORED
from llmbert.decoding.conditions import stack_conditions
from llmbert.protocols import Condition
from llmbert.workbench.preflight.case import (
    PADDING,
    SMALL,
    Case,
    Outcome,
    differ,
    failed,
    in_double,
    main_term,
    other_ids,
    passed,
    predict,
    skipped,
    some_ids,
    still,
    tensors_of,
)

STEPS = 16  # tokens that cached stepping is tried on


def check_future(case: Case) -> Outcome:
    """Changing later inputs changes no earlier prediction."""
    batch = _one_document(case.batch)
    time = batch.inputs.shape[1]
    if time < 2:
        return skipped("a batch has rows of a single token")
    before = predict(case.exact, batch)
    for cut in sorted({1, time // 2, time - 1}):
        inputs = batch.inputs.clone()
        inputs[:, cut:] = other_ids(inputs[:, cut:], case.vocabulary_size)
        after = predict(case.exact, replace(batch, inputs=inputs))
        leaking = [t for t in range(cut) if differ(before[:, t], after[:, t])]
        if leaking:
            return failed(
                f"the prediction behind token {leaking[-1]} changes with tokens from {cut} on, so the model sees what "
                f"it is to predict; mend the causal mask of {case.family} (nn/attention.py, nn/positions.py)"
            )
    return passed(f"{time} tokens, no prediction knows a later one")


def check_documents(case: Case) -> Outcome:
    """Documents that share a window do not see each other, and the batches say where each begins."""
    if case.plan.training.across_documents:
        return skipped("across_documents asks for attention through the ends of documents")
    unmarked = _unmarked(case)
    if unmarked:
        return failed(unmarked)
    size = min(STEPS, case.context // 2)
    if size < 2:
        return skipped("two documents do not fit a window")
    first, second = some_ids(case, 2, size), some_ids(case, 2, size, seed=1)
    both = torch.cat((first, second), dim=1)
    segments = torch.arange(2, device=both.device).repeat_interleave(size).expand_as(both) + 1
    together = _packed(case.exact, both, segments)
    for name, ids, part in (("first", first, together[:, :size]), ("second", second, together[:, size:])):
        with torch.no_grad():
            if differ(case.exact.logits(ids), part):
                return failed(
                    f"the {name} of two documents in a window is predicted otherwise than alone: attention or positions"
                    " run on through the end of a document; mend document_mask or document_positions in nn/, or ask "
                    "for it with --set across_documents=true"
                )
    return passed("two documents in a window are predicted as if each stood alone")


@torch.no_grad()
def _packed(model: Any, ids: Tensor, segments: Tensor) -> Tensor:
    """Logits of rows that hold several documents."""
    if model.likelihood == "pseudo":
        return model.head(model.finish(model.encode(ids, segments=segments))).float()
    return model.head(model.hidden(ids, segments)[0]).float()


def _unmarked(case: Case) -> str | None:
    """What is wrong where documents meet in a row and `segments` do not say so."""
    for number, batch in enumerate(islice(case.batches.iterate(), 8)):
        begins = batch.inputs[:, 1:] == case.tokeniser.begin_id
        segments = batch.segments
        wrong = begins if segments is None else begins ^ (segments[:, 1:] != segments[:, :-1])
        if bool(wrong.any()):
            row, column = (int(place) for place in wrong.nonzero()[0])
            return (
                f"batch {number} does not say that a document begins in row {row} at token {column + 1}, so attention "
                "runs on from the one before; mend the batches' segments (data/batches.py, data/masking.py)"
            )
    return None


def check_padding(case: Case) -> Outcome:
    """More padding, filled with anything, changes neither the loss nor the predictions of real tokens."""
    batch, model = _with_mask(_one_document(case.batch)), in_double(still(case.probe).eval())
    by = min(PADDING, case.context - batch.inputs.shape[1])
    if by < 1:
        return skipped("a batch already fills the context")
    longer = _padded(batch, by, case.vocabulary_size)
    time, real = batch.inputs.shape[1], _real(batch)
    before, after = predict(model, batch), predict(model, longer)[:, :time]
    if differ(before[real], after[real]):
        return failed(
            f"{by} more places of padding change what is predicted at real tokens; mend the masks of {case.family}: "
            "nothing may look at padding (source_mask, mask, positions)"
        )
    with torch.no_grad():
        one, _ = case.plain.objective(model, batch, None, 0.0)
        other, _ = case.plain.objective(model, longer, None, 0.0)
    for name, (total, count) in one.items():
        if other[name][1] != count or differ(total, other[name][0]):
            return failed(
                f"the loss {name} changes with {by} more places of padding, so padding is learned from; leave out "
                f"targets of {IGNORED} in the objective {case.objective}"
            )
    return passed(f"{by} more places of padding change nothing")


def _with_mask(batch: Any) -> Any:
    """A masked batch that says where it holds tokens, which all of it does where it did not say."""
    if hasattr(batch, "mask") and batch.mask is None:
        return replace(batch, mask=torch.ones_like(batch.inputs, dtype=torch.bool))
    return batch


def _real(batch: Any) -> Tensor:
    """(B, T) true where a row holds a token."""
    if getattr(batch, "mask", None) is not None:
        return batch.mask
    last = (batch.targets != IGNORED).flip(1).cumsum(1).flip(1)
    return last > 0


def _padded(batch: Any, by: int, vocabulary_size: int) -> Any:
    """A batch with `by` more columns of padding: random tokens that are neither there nor scored."""
    longer = {}
    for number, (name, value) in enumerate(tensors_of(batch).items()):
        if value.dim() < 2:
            continue
        more = torch.zeros_like(value[:, :1]).expand(-1, by)
        if name in ("source", "inputs"):
            more = other_ids(more, vocabulary_size, seed=number)
        longer[name] = torch.cat((value, torch.full_like(more, IGNORED) if name == "targets" else more), dim=1)
    return replace(batch, **longer)


def _one_document(batch: Any) -> Any:
    """A batch without marks between documents: each row is read as one."""
    return replace(batch, segments=None) if getattr(batch, "segments", None) is not None else batch


# ---- stepping ------------------------------------------------------------------------------------------------------


def check_cache(case: Case) -> Outcome:
    """Stepping with a state predicts what reading all at once predicts, also where rows join, leave and go back."""
    model = case.exact
    reach = getattr(model, "max_length", None)
    time = min(STEPS, case.context if reach is None else reach)
    if time < 8:
        return skipped(f"a context of {time} tokens is too short to step through")
    ids = some_ids(case, 4, time)
    conditions = _conditions(case)
    with torch.inference_mode():
        whole = torch.cat([model.logits(ids[i : i + 1], conditions[i]) for i in range(4)])
        for sizes in ([1] * time, [3, 1, 2, time - 6], [time]):
            got = _stepped(model, ids, sizes, stack_conditions(conditions))
            if differ(whole, got):
                return failed(
                    f"taken in steps of {', '.join(map(str, sizes[:4]))} tokens a text is predicted otherwise than at "
                    f"once; mend step() and the state of {case.family}: its positions, its mask, what it stores"
                )
        return _rows_come_and_go(model, ids, conditions, whole) or _goes_back(model, ids, conditions, whole)


def _conditions(case: Case) -> list[Condition | None]:
    """Four rows' conditions, each alone, without padding and of sources of unlike lengths."""
    model, batch = case.exact, case.batch
    if model.likelihood == "bound":
        return [model.prior(1, seed) for seed in range(4)]
    if model.likelihood != "conditional":
        return [None] * 4
    rows = [batch.source[i % len(batch.source)][batch.source_mask[i % len(batch.source)]] for i in range(4)]
    with torch.inference_mode():
        return [model.encode(row[None, : max(1, len(row) - i)]) for i, row in enumerate(rows)]


def _stepped(model: Any, ids: Tensor, sizes: list[int], condition: Condition | None) -> Tensor:
    state, parts, at = model.start(len(ids), condition), [], 0
    for size in sizes:
        logits, state = model.step(ids[:, at : at + size], state)
        parts.append(logits)
        at += size
    return torch.cat(parts, dim=1)


def _rows_come_and_go(model: Any, ids: Tensor, conditions: list[Condition | None], whole: Tensor) -> Outcome | None:
    lengths, order = [4, 2, 5, 3], [2, 0, 3, 1, 2]
    states = []
    for row, length in enumerate(lengths):
        _, state = model.step(ids[row : row + 1, :length], model.start(1, conditions[row]))
        states.append(state)
    state = states[0].extend(states[1]).extend(states[2].extend(states[3]))
    rows = torch.tensor(order, device=ids.device)
    state, places = state.select(rows), torch.tensor(lengths, device=ids.device)[rows]
    for _ in range(3):
        logits, state = model.step(ids[rows, places][:, None], state)
        if differ(whole[rows, places], logits[:, 0]):
            return failed(
                "rows of unlike lengths that join, change places or are doubled are predicted otherwise than alone; "
                "mend extend() and select() of the state: every part of it moves with its row"
            )
        places = places + 1
    return None


def _goes_back(model: Any, ids: Tensor, conditions: list[Condition | None], whole: Tensor) -> Outcome:
    state = model.start(1, conditions[0])
    for t in range(7):
        _, state = model.step(ids[:1, t : t + 1], state)
    logits, _ = model.step(ids[:1, 4:7], state.rewind(3))
    if differ(whole[:1, 4:7], logits):
        return failed("a state that was rewound predicts otherwise than before; mend rewind() of the state")
    return passed(f"{ids.shape[1]} tokens in steps of 1, 2, 3 and at once, rows joined, chosen and rewound")


# ---- what the output depends on ------------------------------------------------------------------------------------


def check_condition(case: Case) -> Outcome:
    """The output depends on what it is written from: the source, the latent variable, or the tokens before."""
    model, ids = case.probe, some_ids(case, 1, min(6, case.context))
    with torch.no_grad():
        if model.likelihood == "conditional":
            what, (one, other) = "the source", _by_source(case, ids)
        elif model.likelihood == "bound":
            what = "the latent variable z"
            one, other = (model.logits(ids, model.prior(1, seed)) for seed in (0, 1))
        elif case.family == "ngram":
            if model.order < 2:
                return skipped("an n-gram of order 1 looks at nothing")
            # It tells apart only what it has met: the places of a text that it was counted from.
            what, logits = "the tokens before", model.logits(case.batch.inputs[:1])
            one, other = logits[:, :-1], logits[:, 1:]
        else:
            what, changed = "the tokens before", other_ids(ids, case.vocabulary_size, seed=2)
            changed[:, -1] = ids[:, -1]
            one, other = (model.logits(each)[:, -1] for each in (ids, changed))
    apart = torch.where(one == other, torch.zeros_like(one), one.log_softmax(-1) - other.log_softmax(-1)).abs().max()
    if not float(apart) > 1e-3:
        return failed(
            f"what is predicted does not depend on {what} (at most {float(apart):.1g} nats apart), so it is learned by "
            f"heart and ignored; look where {case.family} loses it, or train longer"
        )
    return passed(f"{what}, when changed, moves what is predicted by up to {float(apart):.2g} nats")


def _by_source(case: Case, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions under a source, and under another of the same length."""
    model, batch = case.probe, case.batch
    source = batch.source[:1][:, batch.source_mask[0]]
    other = other_ids(source, case.vocabulary_size, seed=3)
    return model.logits(ids, model.encode(source)), model.logits(ids, model.encode(other))


def check_evaluation(case: Case) -> Outcome:
    """In evaluation mode nothing is random: two passes are equal."""
    model, batch = copy.deepcopy(case.probe), case.batch
    model.eval()
    if not torch.equal(predict(model, batch), predict(model, batch)):
        return failed(
            "two passes in evaluation mode differ, so dropout (or another draw) stays on when a model is measured and "
            f"used; let {case.family} ask self.training"
        )
    return passed(f"two passes are equal (dropout {getattr(case.plan.model, 'dropout', 0.0):g} is off)")


def check_loss(case: Case) -> Outcome:
    """The loss that is trained, the nats that are measured and the logits that write say the same."""
    model = still(case.probe).eval() if case.family != "ngram" else case.probe
    batch = _one_document(case.batch)
    if case.family != "ngram":
        with torch.no_grad():
            terms, _ = case.plain.objective(model, batch, None, 0.0)
        total, count = terms[main_term(terms)]
        kept = batch.targets != IGNORED
        logits = predict(model, batch)[kept]
        expected = torch.nn.functional.cross_entropy(logits, batch.targets[kept], reduction="sum")
        if count != int(kept.sum()):
            return failed(
                f"the loss counts {count} targets where {int(kept.sum())} are to be scored; mend the objective "
                f"{case.objective}: targets of {IGNORED} are none"
            )
        if differ(total, expected, 10 * SMALL):
            return failed(
                f"the loss of a batch is {float(total):.3f} nats, and its logits say {float(expected):.3f}: what is "
                f"trained is not what writes; compare the objective {case.objective} with {case.family}'s logits"
            )
    return _measured_alike(case, model) or passed("loss, logits and what is measured agree")


def _measured_alike(case: Case, model: Any) -> Outcome | None:
    """Whether `token_nats`, which every score is made of, follows the logits; None where it does."""
    if model.likelihood != "exact":
        return None
    ids = some_ids(case, 1, min(8, case.context))
    with torch.no_grad():
        expected = -model.logits(ids).log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    row = ids[0].cpu().numpy().astype(np.int64)
    got = torch.from_numpy(model.token_nats(row, np.array([0, len(row)]))[1:]).to(expected)
    if differ(expected, got, 10 * SMALL):
        return failed("what is measured (token_nats) is not what the logits say; mend the scoring in models/scoring.py")
    return None


def check_ties(case: Case) -> Outcome:
    """The head is the embedding where the settings say so, and is not where they do not."""
    tied = getattr(case.plan.model, "tied", None)
    model = case.trained if case.trained is not None else case.fresh
    if tied is None or getattr(model, "head", None) is None:
        return skipped("there is nothing to tie")
    inner = getattr(model, "inner", model)
    embedding = inner.decoder.embedding if hasattr(getattr(inner, "decoder", None), "embedding") else model.embedding
    together = model.head.weight is embedding.weight
    wanted = tied not in (False, "none")
    if together != wanted or (tied == "all" and embedding.weight is not model.embedding.weight):
        return failed(
            f"the settings say tied={tied}, but head and embedding are {'one' if together else 'two'} "
            f"matri{'x' if together else 'ces'}; let {case.family} tie them when it is built and loaded"
        )
    return passed(f"tied={tied}, and so it is")
