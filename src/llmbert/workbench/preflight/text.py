"""Checks of the text: the tokeniser, the labels, and what training and held-out text share."""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np

from llmbert.data.batches import IGNORED
from llmbert.data.pairs import PairCorpus
from llmbert.text.vocabulary import MASK_TOKEN
from llmbert.workbench.preflight.case import Case, Outcome, failed, passed, tensors_of

SAMPLE_DOCUMENTS, SAMPLE_TOKENS = 24, 10_000
MOST_LOST = 0.1  # of the texts, by a tokeniser that does not promise to keep everything
MOST_UNKNOWN = 0.3  # of the tokens
MOST_OPEN = 0.5  # of the tokens to guess; a tenth is meant
MOST_SHARED_DOCUMENTS, MOST_SHARED_TOKENS, MOST_REPEATED = 0.1, 0.5, 0.5
SHOWN_ROWS, SHOWN_TOKENS = 3, 24


def shards_of(case: Case) -> list[Any]:
    """The shards of the training text: one, or of pairs the sources and the targets."""
    store = case.store
    return [store.train.source, store.train.target] if isinstance(store, PairCorpus) else [store.train]


# ---- the tokeniser -------------------------------------------------------------------------------------------------


def check_tokeniser(case: Case) -> Outcome:
    """Ids become the text they were made of, and the ids again; little of it is unknown."""
    t, tried, lost = case.tokeniser, 0, list[str]()
    for shard in shards_of(case):
        tokens = max(1, shard.tokens)
        if shard.unknown > MOST_UNKNOWN * tokens:
            return failed(
                f"{shard.unknown / tokens:.0%} of the training tokens are unknown to the tokeniser, which a model "
                "learns to write; give a larger --set vocabulary_size, or take --tokenizer bpe, which knows every text"
            )
        for index in np.unique(np.linspace(0, shard.documents - 1, SAMPLE_DOCUMENTS).astype(int)).tolist():
            whole = np.asarray(shard.document(index))
            ids = whole[:SAMPLE_TOKENS]
            wrong = _not_given_back(t, ids, int(shard.digests[index]) if len(ids) == len(whole) else None)
            tried, lost = tried + 1, lost + ([wrong] if wrong else [])
    if lost and (t.lossless or len(lost) > MOST_LOST * tried):
        return failed(lost[0])
    share = sum(shard.unknown for shard in shards_of(case)) / max(1, sum(shard.tokens for shard in shards_of(case)))
    return passed(f"{tried - len(lost)} of {tried} texts given back, {share:.1%} unknown")


def _not_given_back(tokeniser: Any, ids: np.ndarray, digest: int | None) -> str | None:
    """What is wrong where a document's ids are not its text; digest: of that text, None: of a part of a document."""
    if bool((ids == tokeniser.unknown_id).any()):
        return None
    text = tokeniser.decode(ids)
    if tokeniser.lossless and digest is not None:
        found = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
        if found != digest:
            return (
                f"the {tokeniser.kind} tokeniser says that it loses nothing, but gives another text back than it was "
                f"given, such as {text[:40]!r}: letters, case or spaces are lost; mend its encoding or decoding"
            )
    again = tokeniser.decode(tokeniser.encode(text))
    if again != text:
        return (
            f"the {tokeniser.kind} tokeniser reads {text[:40]!r} and gives {again[:40]!r} back; mend its encoding, or "
            "build the corpus with the tokeniser that it is used with"
        )
    return None


# ---- the labels ----------------------------------------------------------------------------------------------------


def check_labels(case: Case) -> Outcome:
    """Targets are what they should be: the inputs one step on, or the hidden tokens; scored, and no padding."""
    batches = list(islice(case.batches.iterate(), 3))
    for number, batch in enumerate(batches):
        wrong = _wrong_targets(case, batch)
        if wrong is None:
            wrong = _unasked_masks(case, batch) if case.objective == "masked" else _not_shifted(batch)
        if wrong is None and isinstance(case.store, PairCorpus):
            wrong = _wrong_sides(case, batch)
        if wrong is not None:
            return failed(f"batch {number}: {wrong}")
    if case.objective == "masked" and (open_ := _open_share(list(islice(case.batches.iterate(), 16)))) > MOST_OPEN:
        return failed(f"{open_:.0%} of the tokens to guess stand there to be copied; hide them (data/masking.py)")
    scored = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
    places = sum(batch.targets.numel() for batch in batches)
    return Outcome("ok", f"{scored / places:.0%} of {places:,} places are scored", show_rows(case, batches[0]))


def _wrong_targets(case: Case, batch: Any) -> str | None:
    targets, t = batch.targets, case.tokeniser
    scored = targets[targets != IGNORED]
    if not len(scored):
        return "no target is scored, so nothing is learned; look at where targets are ignored"
    if int(scored.min()) < 0 or int(scored.max()) >= case.vocabulary_size:
        return f"a target lies outside the vocabulary of {case.vocabulary_size}; build the corpus with this tokeniser"
    never = {t.padding_id: "padding", t.begin_id: "the begin token"}
    for number in {*t.target_frame[0][1:], t.end_id, t.unknown_id, -1}:
        never.pop(number, None)
    for number, name in never.items():
        if bool((scored == number).any()):
            return f"{name} is scored as if it were text; make such targets {IGNORED} (data/)"
    return None


def _not_shifted(batch: Any) -> str | None:
    """What is wrong where targets are not the inputs one step later."""
    aims, following = batch.targets[:, :-1], batch.inputs[:, 1:]
    there = (aims != IGNORED) & (batch.targets[:, 1:] != IGNORED)
    if bool(((aims != following) & there).any()):
        how = (
            "the inputs themselves" if bool((batch.targets == batch.inputs)[:, :-1][there].all()) else "something else"
        )
        return f"targets are not the inputs one step later but {how}; give the model token t and ask for t + 1 (data/)"
    return None


def _unasked_masks(case: Case, batch: Any) -> str | None:
    """What is wrong where a hidden token is not asked for."""
    mask = case.tokeniser.special_ids.get(MASK_TOKEN, case.plan.model.mask_id)
    if bool(((batch.inputs == mask) & (batch.targets == IGNORED)).any()):
        return "a token is hidden, but not asked for; make it a target (data/masking.py)"
    return None


def _open_share(batches: list[Any]) -> float:
    """The share of the tokens to guess that are not hidden; 0 where there are too few to tell."""
    seen = [(batch.inputs == batch.targets)[batch.targets != IGNORED] for batch in batches]
    tokens = sum(map(len, seen))
    return sum(int(each.sum()) for each in seen) / tokens if tokens >= 20 else 0.0


def _wrong_sides(case: Case, batch: Any) -> str | None:
    """What is wrong where a row's source and target are not those of one pair of the store."""
    assert isinstance(case.store, PairCorpus)
    source, target, end = case.store.train.source, case.store.train.target, case.tokeniser.end_id
    if not bool(((batch.targets == end).any(1)).any()) and batch.targets.shape[1] < case.context:
        return "no target ends with the end token, so a text would never end; score it (data/pairs/)"
    for row in range(min(2, len(batch.inputs))):
        asked = batch.source[row][batch.source_mask[row]].numpy()
        wanted = batch.targets[row][batch.targets[row] != IGNORED].numpy()
        if not _stand_together(source, target, asked, wanted, case.context):
            swapped = _stand_together(target, source, asked, wanted, case.context)
            why = "source and target have changed places" if swapped else "they are not of one pair of the store"
            return f"row {row} asks for a target that does not belong to its source: {why}; mend data/pairs/batches.py"
    return None


def _stand_together(source: Any, target: Any, asked: np.ndarray, wanted: np.ndarray, longest: int) -> bool:
    """Whether some pair has this source and this target, but for what was cut off beyond `longest` tokens."""
    lengths = [np.minimum(np.diff(np.asarray(side.starts)) - 1, longest) for side in (source, target)]
    for index in np.flatnonzero((lengths[0] == len(asked)) & (lengths[1] == len(wanted))).tolist():
        given, aim = np.asarray(source.document(index))[1:], np.asarray(target.document(index))[1:]
        # Of a source that was cut, either end is kept, and its last token is the end token.
        begins, ends = given[: len(asked)][:-1], given[-len(asked) :][:-1]
        same = np.array_equal(begins, asked[:-1]) or np.array_equal(ends, asked[:-1])
        if same and np.array_equal(aim[: len(wanted)], wanted):
            return True
    return False


def show_rows(case: Case, batch: Any) -> tuple[tuple[tuple[str, str, bool], ...], ...]:
    """A few rows as (input, target, scored) in letters; of pairs the source first, which is not scored."""
    texts = case.tokeniser.token_texts()
    rows = []
    for row in range(min(SHOWN_ROWS, len(batch.inputs))):
        shown = []
        if "source" in tensors_of(batch):
            shown = [(texts[i], "", False) for i in batch.source[row][batch.source_mask[row]].tolist()[:SHOWN_TOKENS]]
        pairs = zip(batch.inputs[row].tolist(), batch.targets[row].tolist(), strict=True)
        shown += [
            (texts[given], texts[aim] if aim != IGNORED else "", aim != IGNORED)
            for given, aim in islice(pairs, SHOWN_TOKENS)
        ]
        rows.append(tuple(shown))
    return tuple(rows)


# ---- what both splits share ----------------------------------------------------------------------------------------


def check_overlap(case: Case) -> Outcome:
    """Held-out text does not stand in the training text, which does not repeat itself."""
    found = case.store.describe()["overlap"]
    if isinstance(case.store, PairCorpus):
        documents, tokens = found["sources"] / max(1, found["pairs"]), 0.0
    else:
        documents, tokens = found["duplicate_document_share"], found["shared_tokens"]
    digests = np.asarray(shards_of(case)[0].digests)
    repeated = 1 - len(np.unique(digests)) / max(1, len(digests))
    said = f"{documents:.1%} of held-out documents and {tokens:.1%} of their tokens also in the training text"
    if documents > MOST_SHARED_DOCUMENTS or tokens > MOST_SHARED_TOKENS:
        return failed(f"{said}: what is measured there is memory; give other text with --valid")
    if repeated > MOST_REPEATED:
        return failed(
            f"{repeated:.0%} of the training documents are repetitions, which the model learns by heart; leave all but "
            "one of each out"
        )
    return passed(f"{said}, {repeated:.1%} repeated in training")
