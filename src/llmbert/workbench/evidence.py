"""What a run writes from nothing → figures of it that any family has, beside those of real text."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.corpus import Corpus, Shard
from llmbert.data.overlap import measure_overlap
from llmbert.data.read import Document
from llmbert.data.shards import write_shard
from llmbert.decoding import Request
from llmbert.decoding.settings import GenerationSettings
from llmbert.metrics import score_texts
from llmbert.models import FAMILIES
from llmbert.protocols import Progress, silent
from llmbert.runs import Run
from llmbert.text.tokenisers import Tokeniser
from llmbert.workbench.measure import seen_language

TEXTS = 100  # drawn from a run
FEWER = 20  # where each token costs a pass over the whole text
LENGTH = 64  # tokens a text has at most
ORDER = 5  # of the n-grams that judge
TIMED = 100  # tokens
VARIETY = ("distinct2", "self-bleu4")

Ids = list[NDArray[np.int64]]


def draw_texts(run: Run, count: int, length: int, progress: Progress = silent) -> Ids:
    """Texts from nothing as ids without begin and end token, at temperature 1, number i from seed i."""
    if hasattr(run.model, "step"):
        engine = run.engine(progress=progress)
        settings = [GenerationSettings(max_tokens=length, temperature=1.0, seed=seed) for seed in range(count)]
        requests = (Request([], each, run.drawn(each.seed)) for each in settings)
        return [np.array(handle.ids, np.int64) for handle in engine.run(requests)]
    texts = run.generate_many([""] * count, max_tokens=length, temperature=1.0, progress=progress)
    return [run.tokeniser.encode(text).astype(np.int64) for text in texts]


def real_texts(shard: Shard, count: int, length: int) -> Ids:
    """At most `count` stretches of real text, evenly spread, each within one document and none twice.

    A document gives as many stretches of `length` tokens as it holds, a shorter one itself; fewer than `count` are all
    that there are, for text that is repeated would look less varied than it is.
    """
    starts = np.asarray(shard.starts, dtype=np.int64)
    firsts, ends = starts[:-1] + 1, starts[1:] - 1
    pieces = np.where(ends > firsts, np.maximum(1, (ends - firsts) // length), 0)
    place = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begins = np.repeat(firsts, pieces) + length * place
    lasts = np.minimum(begins + length, np.repeat(ends, pieces))
    some = min(count, len(begins))
    chosen = np.arange(some) * len(begins) // max(1, some)
    return [np.asarray(shard.ids[begins[i] : lasts[i]]).astype(np.int64) for i in chosen]


class Yardstick:
    """What the texts of all runs on a corpus are held to: a 5-gram of its training text, and figures of real text.

    Each is measured when it is first asked for, and once. length: tokens that each text has at most, for every run
    alike, since the variety of longer texts is another.
    """

    def __init__(self, corpus: Corpus, length: int = LENGTH) -> None:
        self.corpus, self.length = corpus, length
        self._real: dict[tuple[int, int], dict[str, float]] = {}

    @cached_property
    def judge(self) -> Any:
        return _ngram(self.corpus.train.ids, self.corpus.train.starts, self.corpus)

    @cached_property
    def language(self) -> str:
        """How the held-out text is cut into words."""
        texts = real_texts(self.corpus.valid, TEXTS, self.length)
        return seen_language("".join(self.corpus.tokeniser.decode(ids) for ids in texts))

    def as_many(self, count: int, length: int) -> int:
        """How many texts are compared where `count` are wanted: no more than there are stretches of real text."""
        corpus = self.corpus
        return min(len(real_texts(shard, count, length)) for shard in (corpus.valid, corpus.train))

    def real(self, count: int, length: int) -> dict[str, float]:
        """`figures` of as many stretches of held-out text; the reverse one of stretches of training text."""
        if (count, length) not in self._real:
            found = self.figures(real_texts(self.corpus.valid, count, length))
            # A 5-gram of held-out text would know the very text that it predicts.
            own = _ngram(*_documents(real_texts(self.corpus.train, count, length)), self.corpus)
            found["reverse"] = _nats(own, self.corpus.valid.ids, self.corpus.valid.starts)
            self._real[count, length] = found
        return self._real[count, length]

    def figures(self, texts: Ids) -> dict[str, float]:
        """Texts, by name; see `evidence`."""
        corpus, spelt = self.corpus, [self.corpus.tokeniser.decode(ids) for ids in texts]
        own = _ngram(*_documents(texts), corpus)
        varied = score_texts(spelt, None, VARIETY, resamples=10, language=self.language)
        return {
            "forward": _nats(self.judge, *_documents(texts)),
            "reverse": _nats(own, corpus.valid.ids, corpus.valid.starts),
            "verbatim": _verbatim(spelt, corpus),
            **{name: score["score"] for name, score in varied.items()},
        }


def evidence(run: Run, yardstick: Yardstick, progress: Progress = silent) -> dict[str, dict[str, Any]]:
    """Figures of what a run writes, by name, each {"value", "real" (the same of held-out text), "signature"}.

    forward: nats/token of its texts under a 5-gram of the training text: how well it stays in the language; reverse:
    nats/token of held-out text under a 5-gram of its texts: how much of it it covers (Zhao et al. 2018, §4.1);
    distinct-2, self-BLEU-4; verbatim: share of its tokens in stretches that stand in the training text; milliseconds
    for 100 tokens. Empty for a family that writes from a source only. Of a run as many texts are measured as of real
    text, whose number the signature states.
    """
    if run.reads_source:
        return {}
    steps = hasattr(run.model, "step")
    length = min(yardstick.length, run.model.max_length or LENGTH)
    count = yardstick.as_many(TEXTS if steps else FEWER, length)
    real = yardstick.real(count, length)
    signature = f"{count} texts of {length} tokens|temperature:1|v2"
    found: dict[str, dict[str, Any]] = {
        name: {"value": value, "real": real[name], "signature": signature}
        for name, value in yardstick.figures(draw_texts(run, count, length, progress)).items()
    }
    if steps:
        found["milliseconds"] = {"value": time_tokens(run), "real": None, "signature": f"{TIMED} tokens, one stream"}
    return found


def time_tokens(run: Run) -> float:
    """Milliseconds that a run takes for 100 tokens, one text at a time, the median of three measurements."""
    taken, seed = [], 0
    for _ in range(3):
        tokens, began = 0, time.perf_counter()
        while tokens < TIMED:
            settings = GenerationSettings(max_tokens=TIMED, temperature=1.0, seed=seed)
            deltas = run.engine().stream(Request([], settings, run.drawn(seed)))
            tokens += 1 + sum(len(delta.tokens) for delta in deltas)  # an end token takes as long as any other
            seed += 1
        taken.append(100_000 * (time.perf_counter() - began) / tokens)
    return sorted(taken)[1]


def _documents(texts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Texts as documents one after another: ids with begin and end tokens, and where each begins."""
    begin, end = [Tokeniser.begin_id], [Tokeniser.end_id]
    rows = [np.concatenate((begin, text, end)) for text in texts]
    return np.concatenate(rows), np.concatenate(([0], np.cumsum([len(row) for row in rows])))


def _ngram(ids: Any, starts: Any, corpus: Corpus) -> Any:
    family = FAMILIES["ngram"]
    settings = family.settings_class()(order=ORDER)
    return family.model_class().fit(ids, starts, corpus.tokeniser.vocabulary_size, settings)


def _nats(model: Any, ids: Any, starts: Any) -> float:
    nats = model.token_nats(ids, starts)
    return float(nats.sum() / (len(ids) - len(starts) + 1))


def _verbatim(texts: Sequence[str], corpus: Corpus) -> float:
    with tempfile.TemporaryDirectory(prefix="llmbert-") as folder:
        documents = [Document(str(number), iter([text]), "") for number, text in enumerate(texts) if text]
        if not documents:
            return 0.0
        shard = write_shard(documents, corpus.tokeniser, Path(folder), "drawn")
        return float(measure_overlap(corpus.train, shard)["shared_tokens"])
