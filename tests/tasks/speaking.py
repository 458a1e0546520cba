"""Runs for the tests of tasks: one that answers by a rule and notes what it was asked, and real tiny ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from llmbert.decoding import cut_at_stop
from llmbert.models import FAMILIES
from llmbert.protocols import silent
from llmbert.runs import Run
from llmbert.text.tokenisers import train_tokeniser


class RuleRun:
    """Answers what `rule` makes of a source (or prompt), a token a word; `asked`: all sources, `settings`: the last."""

    def __init__(
        self,
        rule: Callable[[str], str],
        facts: dict[str, Any] | None = None,
        *,
        reads_source: bool = True,
        reach: int | None = None,
        folder: Path = Path("runs/rule"),
        size: int = 3,
    ) -> None:
        self.rule, self.facts, self.reads_source, self.folder = rule, facts or {"family": "rule"}, reads_source, folder
        self.family = "rule"
        self.model = SimpleNamespace(max_length=reach, likelihood="conditional" if reads_source else "exact")
        self.tokeniser = SimpleNamespace(encode=lambda text: text.split())
        self.size = size
        self.asked: list[str] = []
        self.settings: dict[str, Any] = {}

    def encode_source(self, text: str) -> list[str]:
        return [*text.split(), "</s>"]

    def generate(self, prompt: str = "", source: str | None = None, **settings: Any) -> str:
        return "".join(self.stream(prompt, source, **settings))

    def stream(self, prompt: str = "", source: str | None = None, **settings: Any) -> Iterator[str]:
        assert (source is not None) == self.reads_source
        asked = prompt if source is None else source
        assert self.model.max_length is None or len(asked.split()) < self.model.max_length
        self.asked.append(asked)
        self.settings = settings
        text = cut_at_stop(self.rule(asked), settings.get("stop", ()))
        for at in range(0, len(text), self.size):
            yield text[at : at + self.size]

    def generate_many(
        self,
        prompts: Any = None,
        sources: Sequence[str] = (),
        *,
        batch: int,
        limits: Sequence[int] | None = None,
        progress: Any = silent,
        **settings: Any,
    ) -> list[str]:
        assert prompts is None
        assert batch >= 1
        each: list[dict[str, Any]] = [{} if limits is None else {"max_tokens": limit} for limit in limits or sources]
        return [self.generate(source=source, **own, **settings) for source, own in zip(sources, each, strict=True)]


def random_transformer(folder: Path, text: str, **facts: Any) -> Run:
    """A real encoder-decoder with random weights over the bytes of texts."""
    torch.manual_seed(0)
    family = FAMILIES["transformer"]
    tokeniser = train_tokeniser("bytes", [text])
    settings = family.settings_class()(layers=1, width=16, heads=2, inner=32, context=96, dropout=0.0)
    model = family.build(settings, tokeniser.vocabulary_size).eval()
    return Run(folder, model, tokeniser, {"family": "transformer", **facts})


def counted(folder: Path, dialogues: Sequence[str], order: int = 12) -> Run:
    """A real n-gram model over the bytes of dialogues, which says what comes next in them."""
    family = FAMILIES["ngram"]
    tokeniser = train_tokeniser("bytes", dialogues)
    documents = [[tokeniser.begin_id, *tokeniser.encode(text).tolist(), tokeniser.end_id] for text in dialogues]
    ids = np.concatenate([np.array(document, dtype=np.int32) for document in documents])
    starts = np.concatenate(([0], np.cumsum([len(document) for document in documents])))
    settings = family.settings_class()(order=order)
    model = family.model_class().fit(ids, starts, tokeniser.vocabulary_size, settings)
    return Run(folder, model, tokeniser, {"family": "ngram"})
