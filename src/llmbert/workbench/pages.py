"""Runs → the content of a page: table, trivial baselines, curves, samples, data, settings."""

from __future__ import annotations

import json
import lzma
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.corpus import Corpus, Shard
from llmbert.data.pairs import PairCorpus
from llmbert.metrics import METRICS, TokenNats, likelihood_scores
from llmbert.models import FAMILIES
from llmbert.protocols import LLMBertError, Progress, silent
from llmbert.report import write_card, write_report
from llmbert.runs import LOG, Run, read_json, write_json
from llmbert.tasks.latent import interpolate, reconstruct
from llmbert.text.foreign import ForeignTokeniser
from llmbert.text.tokenisers import SPECIAL_TOKENS, Tokeniser
from llmbert.workbench.privacy.rows import kept_rows
from llmbert.workbench.wording import run_summary, say

SAMPLE_CHARACTERS = 280
SAMPLE_TEMPERATURE = 0.8
ADVERSARIAL = {"real", "drawn", "policy", "relaxed"}  # terms of a step whose loss is no cross-entropy
REBUILT = 6  # held-out texts shown with what is made of their latents
PRESET = 6  # of xz
SHOWN = 8 << 20  # bytes of training text, the last, that a compressor is shown: xz has forgotten those before
COMPRESSED_AT_MOST = 16 << 20  # bytes of all text: more takes memory as well as time
BASELINES = "baselines.json"  # beside the training text of a corpus
TRIED = 1 << 18  # tokens, on which it is tried how long that takes


def table_row(name: str, run: Run, language: str) -> dict[str, Any]:
    """A run's line in a table."""
    facts, scores = run.facts, run.facts["scores"]
    interval = scores["interval"] or {}
    collapsed = bool((facts.get("latent") or {}).get("collapsed"))
    notes = {"stopped_early": facts.get("stopped_early"), "collapsed": collapsed}
    return {
        "name": name,
        "family": facts["family"],
        "likelihood": scores["likelihood"],
        "bits_per_byte": scores["bits_per_byte"],
        "interval": interval.get("bits_per_byte"),
        "nats_per_token": scores["nats_per_token"],
        "perplexity": scores["perplexity"],
        "train_seconds": facts.get("train_seconds"),
        "tokens_per_second": facts.get("tokens_per_second"),
        "parameters": facts.get("parameters"),
        "bytes_on_disk": run.bytes_on_disk,
        "generate_tokens_per_second": facts.get("generate_tokens_per_second"),
        "collapsed": collapsed,
        "note": " · ".join(say(key, language) for key, true in notes.items() if true) or None,
    }


def baselines(corpus: Corpus, tokeniser: Any, language: str) -> list[dict[str, Any]]:
    """What costs nothing to beat: uniform bytes, token frequencies, and a compressor that was shown the training text.

    Each in bits/byte of the held-out text; what cannot be measured in it is left out.
    """
    known = _measured_baselines(corpus, tokeniser)
    values = {"uniform": 8.0, "frequencies": known["frequencies"], "compressor": known["compressor"]}
    return [{"name": say(name, language), "bits_per_byte": bits} for name, bits in values.items() if bits is not None]


def _measured_baselines(corpus: Corpus, tokeniser: Any) -> dict[str, Any]:
    """What the text and its tokeniser alone decide, measured once and kept beside the text: xz takes its time."""
    known = _kept_baselines(corpus)
    if known:
        return known
    unigram, shard = FAMILIES["ngram"], corpus.valid
    train_ids, valid_ids = (_counted_ids(part, tokeniser) for part in (corpus.train, shard))
    size = tokeniser.vocabulary_size + _shift(tokeniser)
    model = unigram.model_class().fit(train_ids, corpus.train.starts, size, unigram.settings_class()(order=1))
    nats = model.token_nats(valid_ids, shard.starts)
    text = TokenNats(nats, shard.starts, shard.document_bytes, shard.document_characters, shard.unknown)
    parts = {"likelihood": "exact", "tokeniser": tokeniser.kind, "context": "none"}
    bits = likelihood_scores(text, **parts, resamples=10)["bits_per_byte"]
    compressed = _compressed_bits(corpus, tokeniser) if bits is not None and tokeniser.lossless else None
    found = {"measured": _way_of_measuring(), "frequencies": bits, "compressor": compressed}
    with suppress(LLMBertError):  # where nothing can be kept, or another run keeps the same, it is measured again
        write_json(corpus.train.folder / BASELINES, found)
    return found


def _kept_baselines(corpus: Corpus) -> dict[str, Any] | None:
    path = corpus.train.folder / BASELINES
    known = read_json(path) if path.exists() else {}
    return known if known.get("measured") == _way_of_measuring() else None


def _way_of_measuring() -> list[int]:
    return [PRESET, SHOWN, COMPRESSED_AT_MOST]


def _counted_ids(shard: Shard, tokeniser: Any) -> np.ndarray:
    """Ids as n-grams are counted in them: documents begin and end with our ids, whatever a foreign tokeniser has."""
    if not _shift(tokeniser):
        return np.asarray(shard.ids)
    ids, starts = np.asarray(shard.ids).astype(np.int64) + _shift(tokeniser), np.asarray(shard.starts)
    ids[starts[:-1]], ids[starts[1:] - 1] = Tokeniser.begin_id, Tokeniser.end_id
    return ids


def _shift(tokeniser: Any) -> int:
    return len(SPECIAL_TOKENS) if isinstance(tokeniser, ForeignTokeniser) else 0


def _compressed_bits(corpus: Corpus, tokeniser: Any) -> float | None:
    """How much longer xz makes the training text when the held-out text follows it, in bits per byte of the latter."""
    before, size = _bytes_of(corpus)
    if not size or before + size > COMPRESSED_AT_MOST:
        return None
    train, valid = _last_text(corpus.train, tokeniser, SHOWN), _last_text(corpus.valid, tokeniser, 2 * size)
    with ThreadPoolExecutor(2) as threads:
        both, alone = threads.map(_compressed_bytes, (train + valid, train))
    return 8 * (both - alone) / size


def _bytes_of(corpus: Corpus) -> tuple[int, int]:
    """Of training and of held-out text."""
    return int(corpus.train.document_bytes.sum()), int(corpus.valid.document_bytes.sum())


def _compressed_bytes(text: bytes) -> int:
    return len(lzma.compress(text, preset=PRESET))


def seconds_of_baselines(corpus: Corpus) -> float:
    """About how long `baselines` will take: nearly all goes to the compressor, which is tried on a little text."""
    train, valid = _bytes_of(corpus)
    if not corpus.tokeniser.lossless or not valid or train + valid > COMPRESSED_AT_MOST or _kept_baselines(corpus):
        return 0.0
    sample = corpus.tokeniser.decode(corpus.train.ids[:TRIED]).encode()
    began = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:  # as they will share the processor's caches
        list(threads.map(_compressed_bytes, (sample, sample)))
    times = (min(train, SHOWN) + valid) / max(1, len(sample))
    slower = 1.7 if times > 2 else 1.0  # as the dictionary outgrows the processor's caches
    return slower * (time.perf_counter() - began) * times


def _last_text(shard: Shard, tokeniser: Any, size: int) -> bytes:
    """The last `size` bytes of a shard's text, or all that there are; the rest is not decoded where it is much."""
    ids, starts = np.asarray(shard.ids), np.asarray(shard.starts)
    whole = max(1, int(shard.document_bytes.sum()))
    first = max(0, len(ids) - int(len(ids) * 2 * size / whole))  # twice as many as on average, to be sure
    starts = np.concatenate(([first], starts[starts > first]))
    parts = (tokeniser.decode(ids[a:b]) for a, b in pairwise(starts))
    return "\n".join(parts).encode()[-size:]


def curve(name: str, run: Run, language: str) -> dict[str, Any] | None:
    """A run's loss over the tokens it read, from its log; None for families that count."""
    path = run.folder / LOG
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    stride = max(1, len(lines) // 600)
    # Single steps are noisy: each point is the mean of its stretch.
    own = [line for line in lines if not ADVERSARIAL & line.keys()]
    points = [own[i : i + stride] for i in range(0, len(own), stride)]
    return {
        "name": name,
        "x": [part[-1]["tokens"] for part in points],
        "train": [float(np.mean([line["loss"] for line in part])) for part in points],
        "valid": [[line["tokens"], line["valid"]] for line in lines if "valid" in line],
        "x_label": say("axis_tokens", language),
        "y_label": say("axis_nats", language),
        "note": say("likelihood_steps_only", language, name=name) if len(own) < len(lines) else None,
    }


def prompts(corpus: Corpus, tokeniser: Any, count: int = 2) -> list[str]:
    """The first words of some held-out documents, and the empty prompt."""
    shard = corpus.valid
    heads = []
    for index in np.linspace(0, len(shard.starts) - 2, count).astype(int).tolist():
        start, end = int(shard.starts[index]), int(shard.starts[index + 1])
        text = tokeniser.decode(shard.ids[start : min(end, start + 64)])
        line = text.strip().split("\n")[0]
        head = line[:12] if is_dense(text) else " ".join(line.split()[:5])[:60]
        if head and head not in heads:
            heads.append(head)
    return [*heads, ""]


def is_dense(text: str) -> bool:
    """Whether words are not set apart by spaces (Chinese, Japanese)."""
    return sum("\u3040" <= c <= "\u9fff" for c in text) > 0.3 * len(text)


def samples(
    name: str, run: Run, heads: Sequence[str], language: str, progress: Progress = silent
) -> tuple[list[dict[str, Any]], float]:
    """What a run writes after each prompt, each token with its probability; and tokens/s while it did."""
    tokeniser = run.tokeniser
    per_token = run.facts["scores"]["characters"] / max(1, run.facts["scores"]["tokens"])
    length = max(16, min(SAMPLE_CHARACTERS, math.ceil(SAMPLE_CHARACTERS / max(per_token, 0.25))))
    engine = run.engine(progress=progress)
    began = time.perf_counter()
    handles = [
        engine.add(run.request(head, max_tokens=length, temperature=SAMPLE_TEMPERATURE, seed=seed, logprobs=1))
        for seed, head in enumerate(heads)
    ]
    while engine.step():
        pass
    seconds = time.perf_counter() - began
    found = []
    for seed, (head, handle) in enumerate(zip(heads, handles, strict=True)):
        found.append(
            {
                "name": name,
                "prompt": head,
                "text": handle.text,
                "settings": say("sample_settings", language, temperature=SAMPLE_TEMPERATURE, seed=seed),
                "tokens": _token_spans(handle, tokeniser),
            }
        )
    return found, sum(len(handle.tokens) for handle in handles) / max(seconds, 1e-9)


def _token_spans(handle: Any, tokeniser: Any) -> list[dict[str, Any]]:
    """Stretches of the text with the probability the model gave them: a token, or as many as make whole characters."""
    decode = handle.request.decode or tokeniser.decode
    spans, ids, nats, shown = [], [], 0.0, ""
    for token in handle.tokens:
        ids.append(token.id)
        nats += token.log_probability or 0.0
        text = decode(ids)
        if text.endswith("\ufffd") or not text.startswith(shown):
            continue
        if text != shown:
            spans.append({"text": text[len(shown) :], "probability": math.exp(nats)})
            shown, nats = text, 0.0
    return spans


def data_rows(corpus: Corpus, language: str) -> dict[str, Any]:
    """The data's table and the sentence on its overlap."""
    train, valid = corpus.train, corpus.valid
    pair = "{:,} / {:,}".format
    tokens = [len(shard.ids) - len(shard.starts) + 1 for shard in (train, valid)]
    sizes = [int(shard.document_bytes.sum()) for shard in (train, valid)]
    return {
        "rows": [
            [say("documents", language), pair(len(train.starts) - 1, len(valid.starts) - 1)],
            [say("bytes", language), pair(*sizes)],
            [say("tokens", language), pair(*tokens)],
            [say("bytes_per_token", language), f"{sizes[0] / max(1, tokens[0]):.2f}"],
            [say("unknown", language), f"{valid.unknown:,}"],
            [say("fingerprint", language), corpus.fingerprint[:16]],
        ],
        "overlap": overlap_sentence(corpus, language),
    }


def overlap_sentence(corpus: Corpus, language: str) -> str:
    """How much of the held-out text stands in the training text too."""
    found = corpus.overlap
    return say(
        "overlap_sentence",
        language,
        shared=found["shared_tokens"],
        window=found["window"],
        duplicates=found["duplicate_documents"],
        documents=corpus.valid.documents,
    )


def run_content(name: str, run: Run, store: Corpus | PairCorpus, progress: Progress = silent) -> dict[str, Any]:
    """The page of a single run."""
    facts, scores = run.facts, run.facts["scores"]
    language = facts.get("language", "en")
    own = (
        _pair_content(name, run, store) if isinstance(store, PairCorpus) else _text_content(name, run, store, progress)
    )
    own["data"]["rows"] += kept_rows(facts, run.folder, language)
    line = curve(name, run, language)
    return {
        "title": f"{facts['family']} · {name}",
        "subtitle": say("run_subtitle", language, parameters=facts["parameters"]),
        "summary": run_summary(facts, scores, language),
        "task": facts.get("task"),
        "table": [table_row(name, run, language)],
        "curves": [line] if line else [],
        "mixtures": mixtures({name: run}, language),
        "settings": {name: flat_settings(facts)},
        "facts": [
            *mixture_rows(facts, language),
            *fact_rows(facts, language),
            [say("signature", language), scores["signature"]],
        ],
        **own,
    }


def _text_content(name: str, run: Run, corpus: Corpus, progress: Progress) -> dict[str, Any]:
    """What a page shows of a run that learned from documents."""
    language, private = run.facts.get("language", "en"), bool(run.facts.get("privacy"))
    shown: dict[str, Any] = {"data": data_rows(corpus, language), "baselines": [], "samples": []}
    if private:  # what noise hides, the page does not tell from the text itself
        shown["data"]["overlap"] = say("overlap_private", language)
    if run.model.likelihood == "bound":
        shown["latent"] = latent_content(run, corpus, language)
    if "draws" in run.facts:
        # Noise varies most: how varied texts should be is told by real ones, in either direction.
        drawn = metric_rows(name, run.facts["draws"], None, several=False)
        shown["evidence"] = [row | {"higher_is_better": None, "closest": True} for row in drawn]
    if run.model.likelihood in ("exact", "bound") and not private:
        shown["baselines"] = baselines(corpus, run.tokeniser, language)
    if hasattr(run.model, "step") and not run.reads_source:
        shown["samples"], speed = samples(
            name, run, [""] if private else prompts(corpus, run.tokeniser), language, progress
        )
        run.facts["generate_tokens_per_second"] = speed
    return shown


def latent_content(run: Run, corpus: Corpus, language: str) -> dict[str, Any]:
    """How a run uses its latent variable: figures, the verdict, texts rebuilt, and texts between two of them."""
    found = run.facts["latent"]
    weighted = found["importance"]
    figures = {
        "latent_bound": f"{found['bound']:.2f}",
        "latent_reconstruction": f"{found['reconstruction']:.2f}",
        "latent_kl": f"{found['kl']:.2f}",
        "latent_information": f"{found['mutual_information']:.2f} (≤ {math.log(found['texts']):.2f})",
        "latent_active": f"{found['active_units']} / {found['units']}",
    }
    rows = [[say(key, language), value] for key, value in figures.items()]
    rows.append(
        [
            say("latent_weighted", language, **weighted),
            f"{weighted['bound']:.2f} → {weighted['weighted']:.2f}",
        ]
    )
    texts = _short_texts(corpus.valid, run)
    longest = max((len(run.document_ids(text)) for text in texts), default=0)
    made = reconstruct(run, texts, max_tokens=longest + 8) if texts else []
    verdict = say("latent_collapsed" if found["collapsed"] else "latent_used", language, **found)
    return {
        "verdict": verdict + (say("latent_remedy", language) if found["collapsed"] else ""),
        "rows": rows,
        "rebuilt": [list(pair) for pair in zip(texts, made, strict=True)],
        "line": interpolate(run, texts[0], texts[1], max_tokens=longest + 8) if len(texts) > 1 else [],
    }


def _short_texts(shard: Shard, run: Run) -> list[str]:
    """The first few held-out documents that the model reads whole."""
    starts = np.asarray(shard.starts)
    sizes = np.diff(starts)
    whole = np.flatnonzero((sizes > 4) & (sizes - 1 <= run.model.settings.context))[:REBUILT]
    texts = (run.tokeniser.decode(np.asarray(shard.ids[int(starts[i]) : int(starts[i + 1])])) for i in whole)
    return [text for text in texts if text.strip() and len(run.document_ids(text)) - 1 <= run.model.settings.context]


def _pair_content(name: str, run: Run, pairs: PairCorpus) -> dict[str, Any]:
    """What a page shows of a run that learned from pairs: metrics with their baselines, and examples."""
    language, known = run.facts.get("language", "en"), run.facts["metrics"]
    return {
        "metrics": [row for task, scores in known.items() for row in metric_rows(name, scores, task, len(known) > 1)],
        "examples": [{"name": name, **example} for example in run.facts["examples"]],
        "examples_note": say("examples_note", language),
        "data": pair_rows(run, pairs, language),
        "baselines": [],
        "samples": [],
    }


def metric_rows(name: str, scores: Mapping[str, Any], task: str | None, several: bool) -> list[dict[str, Any]]:
    """The scores of a run as the page takes them; several: whether its task must be named."""
    return [
        {
            "name": name,
            "task": task if several else None,
            "metric": metric,
            "value": score["score"],
            "interval": score["interval"],
            "unit": "",
            "higher_is_better": not METRICS[metric].scale.endswith(("lower is better", "more diverse")),
            "signature": score["signature"],
            "baseline": score.get("baseline"),
        }
        for metric, score in scores.items()
    ]


def pair_rows(run: Run, pairs: PairCorpus, language: str) -> dict[str, Any]:
    """The table of the pairs, and the sentence on how many held-out ones stand in the training pairs too."""
    both = "{:,} / {:,}".format
    parts, overlap = (pairs.train, pairs.valid), pairs.describe()["overlap"]
    tokens = [[getattr(part, side).tokens for part in parts] for side in ("source", "target")]
    cut = [str(run.facts.get(key, 0)) for key in ("cut_sources", "cut_targets")]
    return {
        "rows": [
            [say("pairs", language), both(*(part.pairs for part in parts))],
            [say("source_tokens", language), both(*tokens[0])],
            [say("target_tokens", language), both(*tokens[1])],
            [say("cut_pairs", language), " / ".join(cut)],
            [say("fingerprint", language), pairs.fingerprint[:16]],
        ],
        "overlap": say("pairs_overlap", language, **{key: f"{value:,}" for key, value in overlap.items()}),
    }


def flat_settings(facts: dict[str, Any]) -> dict[str, Any]:
    """The settings of model and training side by side."""
    return {key: value for part in facts["settings"].values() for key, value in part.items()}


def mixtures(runs: Mapping[str, Run], language: str) -> list[dict[str, Any]]:
    """Of each mixture among the runs: how its members are combined, with what weights, how each did on kept text."""
    found = {name: run.facts["mixture"] for name, run in runs.items() if run.facts.get("mixture")}
    return [
        {
            "name": name,
            "told": say(f"mixed_{each['way']}", language, way=each["way"], tokens=each["kept_tokens"]),
            "members": [[member, share, each["nats_alone"][member]] for member, share in each["shares"].items()],
            "ways": sorted(each["nats_by_way"].items(), key=lambda way: way[1]),
        }
        for name, each in found.items()
    ]


def mixture_rows(facts: Mapping[str, Any], language: str) -> list[list[str]]:
    """Of a mixture: how its members are combined, with what weights, and how ways and members did on kept text."""
    found = facts.get("mixture")
    if not found:
        return []
    listed = lambda values: " · ".join(f"{name} {value:.3f}" for name, value in values.items())  # noqa: E731
    return [
        [say("mixture_way", language), found["way"]],
        [say("mixture_shares", language), listed(found["shares"])],
        [say("mixture_alone", language, tokens=found["kept_tokens"]), listed(found["nats_alone"])],
        [say("mixture_ways", language), listed(found["nats_by_way"])],
    ]


def fact_rows(facts: dict[str, Any], language: str) -> list[list[str]]:
    """How to repeat a run: command, seed, machine, versions."""
    return [
        [say("command", language), facts["command"]],
        [say("seed", language), str(facts["seed"])],
        [say("machine", language), facts["machine"]],
        [say("versions", language), ", ".join(f"{name} {number}" for name, number in facts["versions"].items())],
    ]


def write_run_page(run: Run, corpus: Corpus | PairCorpus, progress: Progress = silent) -> None:
    """`report.html`, `report.json` and the card `README.md` of a run."""
    content = run_content(run.folder.name, run, corpus, progress)
    write_page(run.folder, content, run.facts.get("language", "en"))
    write_card(run.folder / "README.md", content)


def write_page(folder: Path, content: dict[str, Any], language: str) -> None:
    """`report.html`, and what it is made of as `report.json`."""
    write_json(folder / "report.json", content)
    write_report(folder / "report.html", content, language)
