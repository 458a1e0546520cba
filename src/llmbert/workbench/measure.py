"""A run and held-out text → its scores, the metrics of what it writes, and examples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from llmbert.data.batches import IGNORED
from llmbert.data.corpus import Corpus, Shard
from llmbert.data.denoising import SENTINELS, Denoising, find_sentinels, span_noise
from llmbert.data.pairs import PairCorpus, PairShard, Reference
from llmbert.data.shards import head_of
from llmbert.decoding.stepping import device_of, evaluating
from llmbert.metrics import (
    METRICS,
    TokenNats,
    build_signature,
    latent_statistics,
    likelihood_scores,
    score_texts,
)
from llmbert.models.scoring import cut_pieces
from llmbert.protocols import Progress, silent
from llmbert.runs import Run
from llmbert.runs.pair_scoring import pair_nats
from llmbert.tasks.baselines import copy_source, is_dialogue, lead_sentences, longest_utterances, most_frequent
from llmbert.tasks.requests import ask, fit_sources, searching, text_form, truncation_of
from llmbert.text.languages import language_pair

MOST_ANSWERS = 300  # held-out sources that are answered after a training
MOST_PSEUDO = 2048  # held-out tokens whose pseudo-likelihood is taken, each a pass of its own
BEYOND_LEARNED = 10  # tokens that an answer may be longer than any the run learned, not to be cut in the last word
EXAMPLES = 8
RESTORED, MOST_RESTORED = 32, 20_000  # damaged pieces at once, and restored tokens that are scored
READ_FOR_A_RESTORED = 5  # tokens of the text are read for each of them, its marks and ends counted
DRAWN = 200  # texts from nothing whose variety is measured
BOUNDED, IMPORTANCE_DRAWS = 100, 50  # held-out texts whose bound is tightened, and by how many draws


@dataclass(frozen=True)
class Task:
    """What pairs are for. metrics: of METRICS; truncation: which part of a long source counts; baseline: what costs
    nothing to beat, by its name; verbatim: targets are labels, which are right as they stand or not at all."""

    metrics: tuple[str, ...]
    truncation: str = "head"
    baseline: str | None = None
    verbatim: bool = False


TASKS: dict[str, Task] = {
    "translate": Task(("bleu", "chrf"), baseline="copy"),
    "summarise": Task(("rouge1", "rouge2", "rougeL"), baseline="lead-2"),
    "write": Task(("bleu", "chrf", "rougeL"), baseline="copy"),
    "chat": Task(("distinct1", "distinct2", "bleu"), truncation="tail"),
    # the class written out, as T5 does
    "classify": Task(("exact-match",), baseline="majority", verbatim=True),
}


def usual_task(store: Any, fields: Mapping[str, str] | None = None) -> str | None:
    """What pairs are for where nobody said: turns are a chat, sources three times as long as targets are summarised."""
    if not isinstance(store, PairCorpus):
        return None
    if "turns" in (fields or {}):
        return "chat"
    train = store.train
    return "summarise" if train.source.tokens > 3 * train.target.tokens else "translate"


def measure_run(run: Run, store: Corpus | PairCorpus, progress: Progress = silent) -> dict[str, Any]:
    """The facts that held-out text gives of a run: "scores", and of pairs "metrics" and "examples"."""
    if isinstance(store, Corpus):
        if run.model.likelihood == "bound":
            text = shard_nats(run, store.valid, progress)
            scores = likelihood_scores(text, **run.signature())
            return {"scores": scores, "latent": describe_latent(run, store.valid, text.nats, progress)}
        drawn = {"draws": describe_draws(run, store.valid)} if run.model.likelihood == "none" else {}
        return {"scores": score_shard(run, store.valid, progress)} | drawn
    answers = answer_references(run, spread_over(store.references(), MOST_ANSWERS), progress)
    return {"scores": score_pairs(run, store.valid, progress)} | answers


# ---- likelihood ----------------------------------------------------------------------------------------------------


def score_shard(run: Run, shard: Shard, progress: Progress = silent) -> dict[str, Any]:
    """The scores of a run on a shard of documents.

    A pseudo-likelihood is taken of the first documents only; a family that reads pairs has none of documents.
    """
    if run.model.likelihood == "conditional" and set(SENTINELS) <= set(run.tokeniser.special_ids):
        return score_restoration(run, shard, progress)
    if run.model.likelihood in ("conditional", "none"):
        return unscored(run)
    unit = "token" if run.model.likelihood == "pseudo" else "token+end"
    return likelihood_scores(shard_nats(run, shard, progress), unit=unit, **run.signature())


def describe_latent(run: Run, shard: Shard, nats: np.ndarray, progress: Progress = silent) -> dict[str, Any]:
    """How a run with a latent variable uses it: `latent_statistics` of the held-out texts; in nats a text the bound and
    its reconstruction; and of the first BOUNDED texts the bound beside the one by importance weights. A text is a
    document, or a part of one that is longer than the context. nats: of each token of the shard, as its `token_nats`
    gives them."""
    ids, starts = np.asarray(shard.ids), np.asarray(shard.starts)
    means, log_variances = run.model.posteriors(ids, starts)
    found = latent_statistics(means, log_variances)
    bound = float(nats.sum()) / len(means)
    firsts, sizes = cut_pieces(starts, run.model.settings.context)
    texts = min(BOUNDED, len(means))
    last = (firsts + sizes)[sizes > 0][texts - 1]
    return found | {
        "all_texts": len(means),
        "bound": bound,
        "reconstruction": bound - found["kl"],
        "importance": {
            "texts": texts,
            "draws": IMPORTANCE_DRAWS,
            "bound": float(nats[: last + 1].sum()) / texts,
            "weighted": run.model.importance_nats(ids, starts, IMPORTANCE_DRAWS, progress, texts) / texts,
        },
    }


def describe_draws(run: Run, shard: Shard) -> dict[str, Any]:
    """How varied the texts are that a run draws from nothing, with as many held-out ones as the baseline.

    Where fewer than DRAWN are held out, as many are drawn: more texts are less varied.
    """
    firsts, sizes = cut_pieces(np.asarray(shard.starts), run.model.settings.context)
    ids, count = np.asarray(shard.ids), min(DRAWN, len(firsts))
    texts = [run.tokeniser.decode(ids) for ids in run.model.sample(count, None, seed=0)]
    some = np.arange(count) * len(firsts) // count
    real = [run.tokeniser.decode(ids[firsts[i] : firsts[i] + sizes[i] + 1]) for i in some]
    language = seen_language("".join(real[:50]))
    metrics = ("distinct1", "distinct2", "distinct3", "self-bleu2", "self-bleu3", "self-bleu4")
    scores, ceiling = (score_texts(each, None, metrics, language=language) for each in (texts, real))
    for name, score in scores.items():
        score["baseline"] = {"name": "held-out", "value": ceiling[name]["score"]}
    return scores


def restored_nats(
    model: Any, tokeniser: Any, ids: np.ndarray, starts: np.ndarray, progress: Progress = silent
) -> list[np.ndarray]:
    """The nats of each token of the spans that T5's noise takes out of documents, MOST_RESTORED or so, a row a piece;
    the first number of a row is its begin token's, 0."""
    noise = span_noise(find_sentinels(tokeniser.special_ids))
    damaged = partial(Denoising, ids, starts, noise, model.settings.context, seed=0)
    batches = damaged(batch=min(RESTORED, int(damaged(batch=1).pieces.sum())))
    fresh = batches.fresh_rows(0)
    rows: list[np.ndarray] = []
    with evaluating(model):
        for number, (batch, new) in enumerate(zip(batches.iterate(), fresh, strict=False), 1):
            batch = batch.to(device_of(model))
            condition = model.encode(batch.source, batch.source_mask)
            logarithms = model.predict(model.hidden(batch.inputs, condition), condition).log_softmax(-1)
            nats = -logarithms.gather(2, batch.targets.clamp_min(0)[..., None])[..., 0].cpu().numpy()
            kept = (batch.targets != IGNORED).cpu().numpy()
            rows += [np.append(np.float32(0), nats[i][kept[i]]) for i in np.flatnonzero(new)]
            progress("restoring", number, batches.batches_per_epoch)
            if sum(map(len, rows)) > MOST_RESTORED:
                break
    return rows


def score_restoration(run: Run, shard: Shard, progress: Progress = silent) -> dict[str, Any]:
    """How probable a run finds what was taken out of held-out text, given the rest: nats/token of the spans that T5's
    noise takes out, sentinels and ends among them; a likelihood of other text than a document's, so never in bits/byte.
    """
    rows = restored_nats(run.model, run.tokeniser, np.asarray(shard.ids), np.asarray(shard.starts), progress)
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    none = np.zeros(len(rows), np.int64)
    parts = run.signature() | {"context": "the text around", "unit": "restored"}
    return likelihood_scores(TokenNats(np.concatenate(rows), starts, none, none), **parts)


def shard_nats(run: Run, shard: Shard, progress: Progress = silent, most: int | None = None) -> TokenNats:
    """The nats of every token of a shard under a run, with the sizes of its documents; a pseudo-likelihood's, whose
    every token is a pass of its own, of the first `most` (None: MOST_PSEUDO)."""
    if run.model.likelihood != "pseudo":
        nats = run.model.token_nats(shard.ids, np.asarray(shard.starts), progress)
        return TokenNats(nats, shard.starts, shard.document_bytes, shard.document_characters, shard.unknown)
    ids, starts = head_of(shard.ids, shard.starts, MOST_PSEUDO if most is None else most, least=3)
    documents = len(starts) - 1
    sizes = np.array(shard.document_bytes[:documents]), np.array(shard.document_characters[:documents])
    cut = int(starts[-1]) < int(shard.starts[documents])
    if cut:  # the head of a document, with the end behind it
        ids[-1] = shard.ids[int(shard.starts[documents]) - 1]
        text = run.tokeniser.decode(ids[int(starts[-2]) :])
        sizes[0][-1], sizes[1][-1] = len(text.encode()), len(text)
    unknown = int((ids == run.tokeniser.unknown_id).sum())
    nats = TokenNats(run.model.token_nats(ids, starts, progress), starts, *sizes, unknown).without_ends()
    return replace(nats, part=part_of(documents, shard.documents, cut))


def part_of(documents: int, of: int, cut: bool) -> str:
    """The first documents of some in words, "" for all of them. cut: only the beginning of the last was read."""
    if documents == of and not cut:
        return ""
    return f"the first {documents:,} of {of:,} documents" + (", of the last its beginning" if cut else "")


def pseudo_bytes(shard: Shard) -> int:
    """How many bytes of a shard's text, in UTF-8, its first MOST_PSEUDO tokens stand for; of a document that is cut in
    proportion."""
    _, starts = head_of(shard.ids, shard.starts, MOST_PSEUDO)
    last = len(starts) - 2
    share = float(np.diff(starts)[last] / np.diff(shard.starts[last : last + 2])[0])
    return int(shard.document_bytes[:last].sum() + share * shard.document_bytes[last])


def score_pairs(run: Run, pairs: PairShard, progress: Progress = silent) -> dict[str, Any]:
    """The scores of a run's targets given their sources; what is longer than the model reads is cut as in training."""
    reach = run.model.max_length or 1 << 30
    keep_end = truncation_of(run, "head") == "tail"
    sources = [_cut(row[1:], reach, keep_end) for row in _rows(pairs.source)]
    sizes = pairs.target.document_bytes, pairs.target.document_characters
    return _score_rows(run, sources, _rows(pairs.target), sizes, progress)


def score_targets(
    run: Run, sources: Sequence[str], targets: Sequence[str], progress: Progress = silent
) -> dict[str, Any]:
    """`score_pairs` of texts: targets given sources that the model reads whole (`fit_sources`)."""
    sizes = (np.array([len(text.encode()) for text in targets]), np.array([len(text) for text in targets]))
    own = [np.asarray(run.encode_source(source)) for source in sources]
    return _score_rows(run, own, [run.document_ids(text) for text in targets], sizes, progress)


def _score_rows(
    run: Run,
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    sizes: tuple[np.ndarray, np.ndarray],
    progress: Progress,
) -> dict[str, Any]:
    """The scores of targets given sources, both as ids; sizes: the targets' bytes and characters.

    Where a target is cut, nothing is said by byte or character: a short context would look better by what it drops.
    """
    reach = run.model.max_length or 1 << 30
    kept = [row[: reach + 1] for row in targets]
    cut = sum(len(row) > reach + 1 for row in targets)
    nats = pair_nats(run.model, sources, kept, progress)
    starts = np.concatenate(([0], np.cumsum([len(row) for row in kept])))
    unknown = sum(int((row == run.tokeniser.unknown_id).sum()) for row in kept)
    return likelihood_scores(TokenNats(np.concatenate(nats), starts, *sizes, unknown, cut), **run.signature())


def _rows(shard: Shard) -> list[np.ndarray]:
    ids = np.asarray(shard.ids)
    return [ids[first:last].astype(np.int64) for first, last in pairwise(np.asarray(shard.starts).tolist())]


def _cut(ids: np.ndarray, reach: int, keep_end: bool) -> np.ndarray:
    if len(ids) <= reach:
        return ids
    return ids[-reach:] if keep_end else np.append(ids[: reach - 1], ids[-1])


def unscored(run: Run) -> dict[str, Any]:
    """The scores of a run on text it has no probability for: none, and it says so."""
    figures = dict.fromkeys(("nats_per_token", "perplexity", "bits_per_character", "bits_per_byte", "interval"))
    sizes = {"tokens": 0, "documents": 0, "bytes": 0, "characters": 0, "unknown": 0, "cut": 0, "infinite_tokens": 0}
    parts = {**run.signature(), "likelihood": "none"}
    return {**figures, **sizes, "likelihood": "none", "signature": build_signature("nll", **parts)}


# ---- what it writes ------------------------------------------------------------------------------------------------


def spread_over(references: Sequence[Reference], most: int) -> list[Reference]:
    """At most `most` of them, evenly spread."""
    if len(references) <= most:
        return list(references)
    return [references[int(i)] for i in np.linspace(0, len(references) - 1, most)]


def answer_references(run: Run, references: Sequence[Reference], progress: Progress = silent) -> dict[str, Any]:
    """What a run writes for held-out sources: "metrics" by task, "examples"."""
    found: dict[str, Any] = {"metrics": {}, "examples": []}
    names = {prefix: name for name, prefix in (run.facts.get("prefixes") or {}).items()}
    for prefix in dict.fromkeys(reference.prefix for reference in references):
        part = [reference for reference in references if reference.prefix == prefix]
        name = names.get(prefix) or usual_name(run)
        answers = write_answers(run, part, task_of(name), progress)
        found["metrics"][name] = score_answers(run, part, answers, name)
        found["examples"] += _examples(part, answers, name)
    return found


def usual_name(run: Run) -> str:
    """What a run of one task is for."""
    return str(run.facts.get("task") or "translate")


def task_of(name: str) -> Task:
    """The task of a name such as "translate en-de"; a name of the user's own is measured as a translation."""
    return TASKS.get(name.split()[0], TASKS["translate"])


def score_answers(
    run: Run,
    references: Sequence[Reference],
    answers: Sequence[str],
    name: str,
    metrics: Sequence[str] | None = None,
    beams: int = 1,
) -> dict[str, Any]:
    """Scores of what a run wrote for sources, with the trivial baseline's beside them.

    Texts are compared as the run was trained on them: lower-cased where it was. The signature says how they were
    written, and how long they could be (`write_answers`).
    """
    task = task_of(name)
    chosen = tuple(metrics or task.metrics)
    targets, language = [reference.targets for reference in references], target_language(run, name, references)
    given: dict[str, Any] = {"language": language, "verbatim": task.verbatim}
    scores = score_texts(answers, targets, chosen, **given)
    if task.baseline:
        baseline, copied = trivial_answers(task.baseline, references)
        trivial = score_texts(copied, targets, chosen, **given)
        for key in chosen:
            if METRICS[key].references:
                scores[key]["baseline"] = {"name": baseline, "value": trivial[key]["score"]}
    for score in scores.values():
        score["signature"] += f"|decoding:{f'beam{beams}' if beams > 1 else 'greedy'}|{_limit_named(run)}"
    return scores


def trivial_answers(baseline: str, references: Sequence[Reference]) -> tuple[str, list[str]]:
    """What costs nothing to answer, and its name: of dialogues that are summarised the three longest turns instead of
    the first sentences; of labels the most frequent of these very references, so that no single label does better."""
    sources = [reference.source for reference in references]
    if baseline == "majority":
        return baseline, [most_frequent([reference.targets[0] for reference in references])] * len(references)
    if baseline == "lead-2" and 2 * sum(map(is_dialogue, sources)) > len(sources):
        return "longest-3", [longest_utterances(source, 3) for source in sources]
    return baseline, [lead_sentences(each, 2) if baseline == "lead-2" else copy_source(each) for each in sources]


def write_answers(
    run: Run,
    references: Sequence[Reference],
    task: Task,
    progress: Progress = silent,
    *,
    beams: int = 1,
    batch: int = 32,
    length_penalty: float = 1.0,
    **settings: Any,
) -> list[str]:
    """What a run writes for each source, as it stands, without anything done to it afterwards.

    settings: of `GenerationSettings`; where no temperature is among them the answer is searched for, not drawn. Where
    no max_tokens is, the references have no say in how long it may be: as long as whoever asks the run gets it
    (`longest_answer`), and at most BEYOND_LEARNED tokens longer than any target of the training.
    """
    prefix = references[0].prefix
    form = text_form(run)
    texts = [form.before(reference.source) for reference in references]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is cut was counted in training
        fitted = fit_sources(run, texts, truncation_of(run, task.truncation), prefix)
    learned = run.facts.get("longest_target")
    most = None if learned is None else learned + BEYOND_LEARNED
    chosen = searching(beams, length_penalty, settings)
    return ask(run, [prefix + text for text in fitted], batch, progress, chosen, most)


def _limit_named(run: Run) -> str:
    """How long the answers of `write_answers` could be, for a signature; in words, to be the same for runs that count
    in other tokens."""
    learned = "" if run.facts.get("longest_target") is None else f",learned+{BEYOND_LEARNED}"
    return f"max-tokens:2*source+20{learned}"


def target_language(run: Run, name: str, references: Sequence[Reference]) -> str:
    """The language of a task's targets: stated by its code in the task's name or by the run, or seen in the text
    (Chinese or not), as where a task is named by a prefix, "translate English to German:"."""
    for stated in (name.partition(" ")[2], (run.facts.get("languages") or {}).get("target")):
        pair = language_pair(str(stated or ""))
        if pair:
            return pair[1]
    return seen_language("".join(reference.targets[0] for reference in references[:50]))


def seen_language(text: str) -> str:
    """ "zh" where a fifth of a text is Chinese characters, else "en": how it is cut into words to be measured."""
    return "zh" if sum("\u4e00" <= letter <= "\u9fff" for letter in text) > 0.2 * len(text) else "en"


def _examples(references: Sequence[Reference], answers: Sequence[str], name: str) -> list[dict[str, Any]]:
    rows = list(zip(references, answers, strict=True))[:EXAMPLES]
    return [
        {"source": each.source, "text": answer, "references": each.targets, "prefix": each.prefix, "note": name}
        for each, answer in rows
    ]
