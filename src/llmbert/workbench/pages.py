"""Runs → the content of a page: table, trivial baselines, curves, samples, data, settings."""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.data.corpus import Corpus, Shard
from llmbert.decoding import Request
from llmbert.decoding.settings import GenerationSettings
from llmbert.metrics import TokenNats, likelihood_scores
from llmbert.models import FAMILIES
from llmbert.protocols import Progress, silent
from llmbert.report import write_card, write_report
from llmbert.runs import Run, write_json
from llmbert.text.tokenisers import Tokeniser

SAMPLE_CHARACTERS = 280
SAMPLE_TEMPERATURE = 0.8
COMPRESSED_AT_MOST = 16 << 20  # bytes of training text that a compressor is shown


def table_row(name: str, run: Run) -> dict[str, Any]:
    """A run's line in a table."""
    facts, scores = run.facts, run.facts["scores"]
    interval = scores["interval"] or {}
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
        "note": "stopped early" if facts.get("stopped_early") else None,
    }


def baselines(corpus: Corpus, tokeniser: Tokeniser) -> list[dict[str, Any]]:
    """What costs nothing to beat: uniform bytes, token frequencies, and a compressor that was shown the training text.

    Each in bits/byte of the held-out text; what cannot be measured in it is left out.
    """
    found: list[dict[str, Any]] = [{"name": "uniform over bytes", "bits_per_byte": 8.0}]
    unigram = FAMILIES["ngram"]
    model = unigram.model_class().fit(
        corpus.train.ids, corpus.train.starts, tokeniser.vocabulary_size, unigram.settings_class()(order=1)
    )
    shard = corpus.valid
    nats = model.token_nats(shard.ids, shard.starts)
    text = TokenNats(nats, shard.starts, shard.document_bytes, shard.document_characters, shard.unknown)
    parts = {"likelihood": "exact", "tokeniser": tokeniser.kind, "context": "none"}
    bits = likelihood_scores(text, **parts, resamples=10)["bits_per_byte"]  # type: ignore[arg-type]
    if bits is not None:
        found.append({"name": "token frequencies", "bits_per_byte": bits})
    compressed = _compressed_bits(corpus, tokeniser) if bits is not None and tokeniser.lossless else None
    if compressed is not None:
        found.append({"name": "xz, shown the training text", "bits_per_byte": compressed})
    return found


def _compressed_bits(corpus: Corpus, tokeniser: Tokeniser) -> float | None:
    """How much longer xz makes the training text when the held-out text follows it, in bits per byte of the latter."""
    size = int(corpus.valid.document_bytes.sum())
    if size + int(corpus.train.document_bytes.sum()) > COMPRESSED_AT_MOST or not size:
        return None
    train, valid = (_text(shard, tokeniser) for shard in (corpus.train, corpus.valid))
    both, alone = (len(lzma.compress(text.encode(), preset=6)) for text in (train + valid, train))
    return 8 * (both - alone) / size


def _text(shard: Shard, tokeniser: Tokeniser) -> str:
    return "\n".join(tokeniser.decode(shard.ids[a:b]) for a, b in zip(shard.starts[:-1], shard.starts[1:], strict=True))


def curve(name: str, run: Run) -> dict[str, Any] | None:
    """A run's loss over the tokens it read, from its log; None for families that count."""
    import json

    path = run.folder / "log.jsonl"
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    stride = max(1, len(lines) // 600)
    # Single steps are noisy: each point is the mean of its stretch.
    points = [lines[i : i + stride] for i in range(0, len(lines), stride)]
    return {
        "name": name,
        "x": [part[-1]["tokens"] for part in points],
        "train": [float(np.mean([line["loss"] for line in part])) for part in points],
        "valid": [[line["tokens"], line["valid"]] for line in lines if "valid" in line],
        "x_label": "tokens",
        "y_label": "nats/token",
    }


def prompts(corpus: Corpus, tokeniser: Tokeniser, count: int = 2) -> list[str]:
    """The first words of held-out documents, and the empty prompt."""
    shard = corpus.valid
    heads = []
    for index in np.linspace(0, len(shard.starts) - 2, count).astype(int).tolist():
        start, end = int(shard.starts[index]), int(shard.starts[index + 1])
        text = tokeniser.decode(shard.ids[start : min(end, start + 64)])
        head = text.strip().split("\n")[0][:24] if _is_dense(text) else " ".join(text.split()[:5])[:60]
        if head and head not in heads:
            heads.append(head)
    return [*heads, ""]


def _is_dense(text: str) -> bool:
    """Whether words are not set apart by spaces (Chinese, Japanese)."""
    return sum("\u3040" <= c <= "\u9fff" for c in text) > 0.3 * len(text)


def samples(
    name: str, run: Run, heads: Sequence[str], progress: Progress = silent
) -> tuple[list[dict[str, Any]], float]:
    """What a run writes after each prompt, each token with its probability; and tokens/s while it did."""
    import time

    tokeniser = run.tokeniser
    per_token = run.facts["scores"]["characters"] / max(1, run.facts["scores"]["tokens"])
    length = max(16, min(SAMPLE_CHARACTERS, math.ceil(SAMPLE_CHARACTERS / max(per_token, 0.25))))
    engine = run.engine(progress=progress)
    began = time.perf_counter()
    handles = [
        engine.add(
            Request(
                tokeniser.encode(head).tolist(),
                GenerationSettings(max_tokens=length, temperature=SAMPLE_TEMPERATURE, seed=seed, logprobs=1),
            )
        )
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
                "settings": f"temperature {SAMPLE_TEMPERATURE} · seed {seed}",
                "tokens": _token_spans(handle, tokeniser),
            }
        )
    return found, sum(len(handle.tokens) for handle in handles) / max(seconds, 1e-9)


def _token_spans(handle: Any, tokeniser: Tokeniser) -> list[dict[str, Any]]:
    """Stretches of the text with the probability the model gave them: a token, or as many as make whole characters."""
    spans, ids, nats, shown = [], [], 0.0, ""
    for token in handle.tokens:
        ids.append(token.id)
        nats += token.log_probability or 0.0
        text = tokeniser.decode(ids)
        if text.endswith("\ufffd") or not text.startswith(shown):
            continue
        if text != shown:
            spans.append({"text": text[len(shown) :], "probability": math.exp(nats)})
            shown, nats = text, 0.0
    return spans


def data_rows(corpus: Corpus) -> dict[str, Any]:
    """The data's table and the sentence on its overlap."""
    train, valid = corpus.train, corpus.valid
    pair = "{:,} / {:,}".format
    tokens = [len(shard.ids) - len(shard.starts) + 1 for shard in (train, valid)]
    sizes = [int(shard.document_bytes.sum()) for shard in (train, valid)]
    return {
        "rows": [
            ["documents (train / valid)", pair(len(train.starts) - 1, len(valid.starts) - 1)],
            ["bytes", pair(*sizes)],
            ["tokens", pair(*tokens)],
            ["bytes per token", f"{sizes[0] / max(1, tokens[0]):.2f}"],
            ["unknown tokens in valid", f"{valid.unknown:,}"],
            ["fingerprint", corpus.fingerprint[:16]],
        ],
        "overlap": overlap_sentence(corpus),
    }


def overlap_sentence(corpus: Corpus) -> str:
    """How much of the held-out text stands in the training text too."""
    found, documents = corpus.overlap, corpus.valid.documents
    return (
        f"{found['shared_tokens']:.1%} of the held-out tokens lie in a stretch of {found['window']} tokens "
        f"(about 50 bytes) that stands in the training text too; {found['duplicate_documents']:,} of {documents:,} held-out documents "
        f"stand there whole."
    )


def run_content(name: str, run: Run, corpus: Corpus, progress: Progress = silent) -> dict[str, Any]:
    """The page of a single run."""
    facts, scores = run.facts, run.facts["scores"]
    drawn, speed = samples(name, run, prompts(corpus, run.tokeniser), progress)
    facts["generate_tokens_per_second"] = speed
    line = curve(name, run)
    return {
        "title": f"{facts['family']} · {name}",
        "subtitle": f"{facts['parameters']:,} parameters, trained on this machine",
        "summary": _run_summary(facts, scores),
        "table": [table_row(name, run)],
        "baselines": baselines(corpus, run.tokeniser),
        "curves": [line] if line else [],
        "samples": drawn,
        "data": data_rows(corpus),
        "settings": {name: {k: v for part in facts["settings"].values() for k, v in part.items()}},
        "facts": fact_rows(facts, scores),
    }


def fact_rows(facts: dict[str, Any], scores: dict[str, Any]) -> list[list[str]]:
    return [
        ["command", facts["command"]],
        ["seed", str(facts["seed"])],
        ["machine", facts["machine"]],
        ["versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())],
        ["signature", scores["signature"]],
    ]


def _run_summary(facts: dict[str, Any], scores: dict[str, Any]) -> str:
    if scores["bits_per_byte"] is not None:
        low, high = scores["interval"]["bits_per_byte"]
        figure = f"{scores['bits_per_byte']:.3f} bits/byte on held-out text (95 % interval {low:.3f} to {high:.3f})"
    elif scores["perplexity"] is not None:
        figure = f"a perplexity of {scores['perplexity']:.1f} a token on held-out text"
    else:
        figure = "an infinite perplexity: it gave some held-out tokens no probability"
    return f"This {facts['family']} reaches {figure}, after {facts['train_seconds']:.0f} s of training."


def write_run_page(run: Run, corpus: Corpus, progress: Progress = silent) -> None:
    """`report.html`, `report.json` and the card `README.md` of a run."""
    content = run_content(run.folder.name, run, corpus, progress)
    write_json(run.folder / "report.json", content)
    write_report(run.folder / "report.html", content, run.facts.get("language", "en"))
    write_card(run.folder / "README.md", content)


def write_compare_page(folder: Path, content: dict[str, Any], language: str) -> None:
    write_json(folder / "report.json", content)
    write_report(folder / "report.html", content, language)
