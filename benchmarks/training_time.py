"""How long until a model is as good: beside nanoGPT's recipe, beside torch's own LSTM loop, and beside what was asked.

python benchmarks/training_time.py [NAME ...] [--nanogpt CHECKOUT] [--rounds 5] [--data FOLDER]

time-to-loss: seconds until a GPT of at most nanoGPT's size is as good as nanoGPT after its 2,000 steps for a processor;
both are scored alike, by our sliding windows. curve: the loss of both, step by step, from the same weights. lstm:
training tokens/s. budget, budgets: the time a training took for the time it was given, of one family or another. grid:
what a budget chose, beside settings tried by hand. The figures go where those of performance.py go.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import llmbert
import performance
from llmbert.data.batches import CarriedStreams, Windows
from llmbert.data.corpus import Corpus, build_corpus
from llmbert.models import find_family
from llmbert.objectives.causal import causal
from llmbert.training.loop import Trainer
from llmbert.training.precision import resolve_precision
from llmbert.training.settings import TrainingSettings
from performance import Options, Result, in_turn, rate

SHAPE = {"layers": 4, "width": 128, "heads": 4, "context": 64}
NANOGPT_STEPS, ROWS = 2000, 12
OUR_STEPS = 300


def shakespeare(options: Options, folder: Path) -> Corpus:
    paths = [str(options.data / f"tinyshakespeare/{part}.txt.gz") for part in ("train", "valid")]
    return build_corpus(paths[:1], folder, kind="chars", valid_paths=paths[1:])


def time_to_loss(options: Options) -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = shakespeare(options, folder / "corpora")
        theirs, their_seconds = _nanogpt(options, corpus)
        ids, starts = np.asarray(corpus.valid.ids), np.asarray(corpus.valid.starts)
        their_nats = float(theirs.token_nats(ids, starts)[1:].mean())
        seconds = []
        for round_ in range(options.rounds):
            run = llmbert.train(
                "gpt",
                options.data / "tinyshakespeare/train.txt.gz",
                folder / str(round_),
                valid=options.data / "tinyshakespeare/valid.txt.gz",
                tokenizer="chars",
                settings={**SHAPE, "batch": ROWS, "steps": OUR_STEPS, "evaluate_every": OUR_STEPS, "seed": round_},
            )
            own = run.facts["scores"]["nats_per_token"]
            taken = run.facts["train_seconds"]
            print(f"  nanoGPT {their_nats:.4f} nats in {their_seconds:.0f} s; ours {own:.4f} in {taken:.0f} s")
            if own > their_nats:
                name = "time to nanoGPT's loss: not reached"
                return [Result(name, "times an hour", 0.0, (0, 0), "nanoGPT", 1.0, (1, 1), 5.0)]
            seconds.append(taken)
    speeds = sorted(3600 / each for each in seconds)
    spread = (speeds[0], speeds[-1])
    their_speed = 3600 / their_seconds
    return [
        Result(
            "time to nanoGPT's loss, 0.8M parameters",
            "times an hour",
            speeds[len(speeds) // 2],
            spread,
            f"nanoGPT, {NANOGPT_STEPS} steps",
            their_speed,
            (their_speed, their_speed),
            5.0,
        )
    ]


def _nanogpt(options: Options, corpus: Corpus) -> tuple[Any, float]:
    """nanoGPT trained by its recipe for a processor, as a GPT of ours, and the seconds its steps took."""
    torch.manual_seed(1337)
    vocabulary = corpus.tokeniser.vocabulary_size
    model = performance.nanogpt_model(options, SHAPE, vocabulary)
    optimiser = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    text, context = torch.from_numpy(np.asarray(corpus.train.ids).astype(np.int64)), SHAPE["context"]
    began = time.perf_counter()
    for step in range(NANOGPT_STEPS):
        warm, along = min(1.0, (step + 1) / 101), max(0.0, (step - 100) / (NANOGPT_STEPS - 100))
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * warm if step < 100 else 1e-4 + 0.5 * 9e-4 * (1 + np.cos(np.pi * along))
        firsts = torch.randint(len(text) - context, (ROWS,))
        rows = torch.stack([text[first : first + context + 1] for first in firsts])
        _, loss = model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - began
    return _as_ours(model, vocabulary), seconds


def _as_ours(model: Any, vocabulary: int) -> Any:
    family = find_family("gpt")
    plain = {"qkv_bias": False, "out_bias": False, "feedforward_bias": False, "activation": "gelu"}
    own = family.build(family.settings_class()(style="gpt2", **SHAPE, **plain), vocabulary)
    names = {
        "transformer.wte.": "embedding.",
        "transformer.wpe.": "position_embedding.",
        "transformer.ln_f.": "norm.",
        "transformer.h.": "blocks.",
        "ln_1.": "attention_norm.",
        "ln_2.": "feedforward_norm.",
        "attn.c_attn.": "attention.qkv.",
        "attn.c_proj.": "attention.out.",
        "mlp.c_fc.": "feedforward.up.",
        "mlp.c_proj.": "feedforward.down.",
        "lm_head.": "head.",
    }
    weights = {}
    for theirs, weight in model.state_dict().items():
        name = theirs
        for old, new in names.items():
            name = name.replace(old, new)
        weights[name] = weight
    lacking = own.load_state_dict(weights, strict=False)
    assert not lacking.unexpected_keys and all(key.endswith("norm.bias") for key in lacking.missing_keys), lacking
    return own.eval()


CURVE_STEPS, CURVE_LAST = 300, 50


def curve(options: Options) -> list[Result]:
    """The same weights, batches and AdamW in nanoGPT's loop and in ours: is the loss the same, step by step?"""
    with tempfile.TemporaryDirectory() as name:
        corpus = shakespeare(options, Path(name))
        torch.manual_seed(1337)
        vocabulary = corpus.tokeniser.vocabulary_size
        theirs = performance.nanogpt_model(options, SHAPE, vocabulary).train()
        own = _as_ours(theirs, vocabulary).train()
        for name, weight in own.named_parameters():
            weight.requires_grad_(not name.endswith("norm.bias"))  # nanoGPT's recipe has none
        batches = Windows(corpus.train.ids, SHAPE["context"], ROWS, 0, corpus.tokeniser.begin_id)
        learning = {"optimiser": "adamw", "learning_rate": 1e-3, "beta2": 0.99, "schedule": "constant"}
        trainer = Trainer(own, causal, batches, TrainingSettings(**learning, precision="float32", steps=CURVE_STEPS))
        optimiser = theirs.configure_optimizers(0.0, 1e-3, (0.9, 0.99), "cpu")
        losses = []
        for batch in islice(batches.iterate(), CURVE_STEPS):
            _, loss = theirs(batch.inputs, batch.targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            optimiser.step()
            losses.append((trainer.step(batch)["loss"], loss.item()))
    ours, peer = np.array(losses).T
    first, widest = abs(ours - peer)[:20].max(), abs(ours - peer).max()
    print(f"  widest gap of a step: {first:.1e} nats in the first 20, {widest:.1e} in all")
    means = [float(each[-CURVE_LAST:].mean()) for each in (ours, peer)]
    spread = [(float(each[-CURVE_LAST:].min()), float(each[-CURVE_LAST:].max())) for each in (ours, peer)]
    name = f"loss of steps {CURVE_STEPS - CURVE_LAST + 1} to {CURVE_STEPS}, same weights and batches"
    return [Result(name, "nats/token", means[0], spread[0], "nanoGPT", means[1], spread[1], 0.995, less=True)]


LSTM_WIDTH, LSTM_ROWS, LSTM_TIME, LSTM_STEPS = 200, 20, 20, 60


def lstm(options: Options) -> list[Result]:
    """An LSTM of 2 x 200 on PTB's words: our loop, in float32 and in what it takes by itself here, beside a plain one
    in float32 around nn.LSTM, with the same fused optimiser and clipping."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = build_corpus([str(options.data / "ptb/train.txt.gz")], Path(folder), kind="words")
        ids, starts = np.asarray(corpus.train.ids), np.asarray(corpus.train.starts)
        vocabulary = corpus.tokeniser.vocabulary_size
    streams = CarriedStreams(ids, starts, LSTM_TIME, LSTM_ROWS, 0).iterate()
    batches = [next(streams) for _ in range(LSTM_STEPS)]
    tokens = sum(batch.count for batch in batches)
    family = find_family("lstm")

    def ours(precision: str) -> Callable[[], int]:
        torch.manual_seed(0)
        own = family.build(family.settings_class()(layers=2, width=LSTM_WIDTH, tied=False), vocabulary).train()
        learning = TrainingSettings(optimiser="adamw", steps=10_000, learning_rate=1e-3, precision=precision)
        trainer = Trainer(own, causal, None, learning)  # type: ignore[arg-type]

        def work() -> int:
            for batch in batches:
                trainer.step(batch)
            return tokens

        return work

    table, inner = (
        torch.nn.Embedding(vocabulary, LSTM_WIDTH),
        torch.nn.LSTM(LSTM_WIDTH, LSTM_WIDTH, 2, batch_first=True),
    )
    head = torch.nn.Linear(LSTM_WIDTH, vocabulary)
    weights = [*table.parameters(), *inner.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, 1e-3, fused=True)

    def peer() -> int:
        memory = None
        for batch in batches:
            if batch.fresh or memory is None:
                rows = len(batch.inputs)
                memory = tuple(torch.zeros(2, rows, LSTM_WIDTH) for _ in range(2))
            states, memory = inner(table(batch.inputs), tuple(part.detach() for part in memory))
            loss = torch.nn.functional.cross_entropy(head(states).flatten(0, 1), batch.targets.flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
        return tokens

    peers = {"torch's nn.LSTM in a plain loop, float32": (rate(peer), 1.0)}
    found = []
    for kind in dict.fromkeys(("float32", resolve_precision("auto", "cpu"))):
        name = f"training, LSTM 2 x 200 on PTB, ours in {kind}"
        found += in_turn(name, "tokens/s", rate(ours(kind)), peers, options.rounds)
    return found


def budget(options: Options) -> list[Result]:
    """The whole time that trainings took, beside what they were given."""
    return [_kept(options, family, seconds) for family, seconds in (("gpt", 60), ("gpt", 180), ("lstm", 60))]


def budgets(options: Options) -> list[Result]:
    """The same of a minute for each other family that learns by steps, and for a mixture."""
    others = ("rnn", "gru", "transformer", "t5", "bert", "vae", "gan", "mixture")
    return [_kept(options, family, 60) for family in others]


def _kept(options: Options, family: str, seconds: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        text, began = options.data / "wikitext2/train.txt.gz", time.perf_counter()
        restores = "denoising" if family == "transformer" else None  # which learns from pairs unless told otherwise
        run = llmbert.train(family, text, Path(folder) / "run", tokenizer="bpe", objective=restores, budget=seconds)
        taken = time.perf_counter() - began
    nats = run.facts["scores"]["nats_per_token"]
    print(f"  {family}: {'no likelihood' if nats is None else f'{nats:.3f} nats/token'}", flush=True)
    name, near = f"budget of {seconds} s for a {family}, {taken:.0f} s taken", min(taken / seconds, seconds / taken)
    return Result(name, "taken of asked, or asked of taken", near, (near, near), "asked", 1.0, (1.0, 1.0), 0.9)


# What somebody might try by hand on two cores in a minute: layers, width, heads, context; Muon's rate; rows of a batch.
GRID_SHAPES = [(3, 96, 3, 64), (4, 128, 4, 64), (4, 192, 4, 128), (6, 256, 4, 128)]
GRID_OF_TRAINING = [(0.01, 16), (0.04, 16), (0.02, 32), (0.02, 8)]
GRID_SECONDS = 60


def grid(options: Options) -> list[Result]:
    """A minute by the budget alone, beside the best of a grid of shapes, then of rates and batches for that shape; all
    take a minute, steps fitted to it."""
    text, valid = (options.data / f"wikitext2/{part}.txt.gz" for part in ("train", "valid"))

    def bits(settings: dict[str, Any]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = llmbert.train(
                "gpt", text, Path(folder) / "run", valid=valid, tokenizer="bpe", budget=GRID_SECONDS, settings=settings
            )
        found = float(run.facts["scores"]["bits_per_byte"])
        print(f"  {settings or 'the budget alone'}: {found:.4f} bits/byte", flush=True)
        return found

    own, tried = bits({}), dict[float, dict[str, Any]]()
    for layers, width, heads, context in GRID_SHAPES:
        shape = {"layers": layers, "width": width, "heads": heads, "context": context}
        tried[bits(shape)] = shape
    shape = tried[min(tried)]
    for rate_, rows in GRID_OF_TRAINING:
        tokens = {"batch": max(1, rows * 64 // shape["context"])}
        tried[bits({**shape, "matrix_learning_rate": rate_, **tokens})] = shape
    best = min(tried)
    name = f"bits/byte of a budget of {GRID_SECONDS} s"
    peer = f"best of {len(tried)} tried by hand"
    return [Result(name, "bits/byte", own, (own, own), peer, best, (best, max(tried)), 1 / 1.02, less=True)]


LINES = {"time-to-loss": time_to_loss, "curve": curve, "lstm": lstm, "budget": budget, "budgets": budgets, "grid": grid}

if __name__ == "__main__":
    performance.main(LINES, __doc__ or "")
