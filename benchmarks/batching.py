"""Requests that come and go beside one after the other, and what fewer bytes a weight cost in quality.

python benchmarks/batching.py [NAME ...] [--rounds 5] [--data FOLDER]

requests: sixteen of mixed length, whose rows join and leave the running batch between steps, beside the same one after
the other; each answer must be the one that it gets alone, but where two logits were nearly equal, which is counted.
quality: perplexity on held-out text with weights of two bytes and one, beside four.
"""

from __future__ import annotations

import copy
import gzip
import math
import tempfile
from pathlib import Path
from typing import Any

import torch

import llmbert
import performance
from llmbert.decoding import Engine, GenerationSettings, Request
from llmbert.models.compact import CompactGPT
from llmbert.runs import Run
from performance import END, GPT2_VOCABULARY, Options, Result, gpt2_model, in_turn, rate

REQUESTS = 16
NEARLY_EQUAL = 1e-4  # logits


def mixed_requests() -> list[Request]:
    """Prompts of 4 to 64 tokens, answers of 16 to 96."""
    draw = torch.Generator().manual_seed(1)

    def between(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (1,), generator=draw))

    found = []
    for _ in range(REQUESTS):
        prompt = torch.randint(4, GPT2_VOCABULARY, (between(4, 64),), generator=draw).tolist()
        found.append(Request(prompt, GenerationSettings(max_tokens=between(16, 96), temperature=0.0)))
    return found


def answers(model: Any, requests: list[Request], together: int) -> list[list[int]]:
    engine = Engine(model, None, END, str, max_batch=together)
    return [handle.ids for handle in engine.run(requests)]


def requests(options: Options) -> list[Result]:
    model, asked, found = gpt2_model(), mixed_requests(), list[Result]()
    for kind in ("float32", "int8"):
        compact = CompactGPT(copy.deepcopy(model), kind)  # type: ignore[arg-type]
        alone, together = (answers(compact, asked, rows) for rows in (1, REQUESTS))
        differ = [at for at, (a, b) in enumerate(zip(alone, together, strict=True)) if a != b]
        ties = sum(is_tie(compact, asked[at], alone[at], together[at]) for at in differ)
        print(f"  {kind}: {len(differ)} of {REQUESTS} answers differ, {ties} of them at a near-tie")
        if ties < len(differ):
            raise AssertionError("an answer depends on what it was written beside")

        def work(rows: int, compact: Any = compact) -> int:
            return sum(map(len, answers(compact, asked, rows)))

        name = f"{REQUESTS} requests of mixed length, {kind}"
        peers = {"one after the other": (rate(lambda work=work: work(1)), 4.0)}
        found += in_turn(name, "tokens/s", rate(lambda work=work: work(REQUESTS)), peers, options.rounds)
    return found


def is_tie(model: Any, request: Request, alone: list[int], together: list[int]) -> bool:
    """Whether the two answers part where the model all but likes both tokens the same, be it the end."""
    alone, together = [*alone, END], [*together, END]
    at = next(i for i, (a, b) in enumerate(zip(alone, together, strict=False)) if a != b)
    ids = torch.tensor([[*request.prompt, *alone[:at]]])
    with torch.inference_mode():
        logits = model.logits(ids)[0, -1]
    return abs(float(logits[alone[at]] - logits[together[at]])) < NEARLY_EQUAL


def quality(options: Options) -> list[Result]:
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"layers": 4, "width": 256, "heads": 4, "context": 128, "steps": 600, "batch": 16}
        text = {part: options.data / f"wikitext2/{part}.txt.gz" for part in ("train", "valid")}
        llmbert.train(
            "gpt", text["train"], folder / "run", valid=text["valid"], lines=True, tokenizer="bpe", settings=settings
        )
        with gzip.open(text["valid"], "rt", encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()][:600]
        plain = perplexity(llmbert.load(folder / "run"), lines)
        for kind in ("bfloat16", "int8"):
            packed = perplexity(llmbert.load(folder / "run", weights=kind), lines)
            name, least = f"perplexity on WikiText-2, weights in {kind}", 0.99
            found.append(Result(name, "a token", packed, (packed,) * 2, "float32", plain, (plain,) * 2, least, True))
    return found


def perplexity(run: Run, lines: list[str]) -> float:
    return math.exp(run.score(lines)["nats_per_token"])


LINES = {"requests": requests, "quality": quality}

if __name__ == "__main__":
    performance.main(LINES, __doc__ or "")
