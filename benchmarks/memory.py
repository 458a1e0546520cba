"""The most memory that training and writing take, and a cold start, each in a process of its own beside a peer's.

python benchmarks/memory.py [NAME ...] [--nanogpt CHECKOUT]

train: steps of a GPT of 10.7M parameters, 32 x 256 tokens, with its layers' inner values kept, or computed again on the
way back (recompute=true); write: one stream of GPT-2's shape from a folder of ours, or of Transformers'. All of a
process counts, torch and Python too; in each, weights that are read are counted once they are in use. cold: seconds
from the start of a process until it has written one token and ended, the files being in the system's cache.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import llmbert
import performance
from bare_peers import PROMPT
from llmbert.data.batches import Batch
from llmbert.decoding import Engine, GenerationSettings, Request
from llmbert.models import find_family
from llmbert.objectives.causal import causal
from llmbert.training.compilation import recomputed_layers
from llmbert.training.loop import Trainer
from llmbert.training.precision import resolve_precision
from llmbert.training.settings import TrainingSettings
from performance import END, GPU_SHAPE, Missing, Options, Result, bare, in_turn, measured

ROWS, STEPS, NEW = 32, 2, 64


# ---- in a process of its own ---------------------------------------------------------------------------------------


def training_ids() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(4, 65, (STEPS, ROWS, GPU_SHAPE["context"] + 1))


def train_ours(recompute: bool) -> None:
    family = find_family("gpt")
    model = family.build(family.settings_class()(style="gpt2", **GPU_SHAPE), 65).train()
    learning = TrainingSettings(optimiser="adamw", steps=1000)
    trainer = Trainer(model, causal, None, learning)  # type: ignore[arg-type]
    with recomputed_layers(model, recompute):
        for rows in training_ids():
            trainer.step(Batch(rows[:, :-1], rows[:, 1:].clone()))


def train_peer(checkout: str) -> None:
    ids = training_ids()
    if checkout:
        options = Options(Path(), Path(checkout), 1)
        performance._nanogpt(options, GPU_SHAPE, 65, ids, False)()
    else:
        performance._hugging_face(GPU_SHAPE, 65, ids)()


def write_ours(folder: str, weights: str, new: int = NEW) -> None:
    run = llmbert.load(folder, weights=weights)
    engine = Engine(run.model, None, END, str)
    list(engine.run([Request(list(range(4, 4 + PROMPT)), GenerationSettings(max_tokens=new, temperature=0.0))]))


WAYS: dict[str, Callable[..., None]] = {
    "train": lambda: train_ours(False),
    "recompute": lambda: train_ours(True),
    "train-peer": train_peer,
    "write": write_ours,
    "first": lambda folder, weights: write_ours(folder, weights, 1),
}


# ---- lines ---------------------------------------------------------------------------------------------------------


def beside(name: str, ours: dict[str, float], peer: str, theirs: dict[str, float], aim: float = 0.0) -> Result:
    mine, other = ours["megabytes"], theirs["megabytes"]
    return Result(name, "MB", mine, (mine, mine), peer, other, (other, other), aim, less=True)


def train(options: Options) -> list[Result]:
    plain, again = measured(__file__, "train"), measured(__file__, "recompute")
    print(f"  kept {plain['seconds']:.1f} s, computed again {again['seconds']:.1f} s")
    peers = {"Transformers, float32": measured(__file__, "train-peer", "")}
    with suppress(Missing):
        if options.nanogpt is not None:
            peers["nanoGPT, float32"] = measured(__file__, "train-peer", str(options.nanogpt.resolve()))
    kind = resolve_precision("auto", "cpu")  # which is what it takes by itself here
    name = f"memory of training, 10.7M parameters, {ROWS} x {GPU_SHAPE['context']}, ours in {kind}"
    found = [beside(name, plain, peer, theirs) for peer, theirs in peers.items()]
    return [*found, beside(f"{name}, recomputed", again, "kept", plain, 1.0)]


def write(options: Options) -> list[Result]:
    model = performance.gpt2_model()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        performance.write_named_export(model, folder)
        theirs = bare("write", str(folder), str(NEW))
        for kind in ("float32", "bfloat16", "int8"):
            ours = measured(__file__, "write", str(folder), kind)
            found.append(beside(f"memory of writing, 124M parameters, {kind}", ours, "Transformers, float32", theirs))
    return found


def cold(options: Options) -> list[Result]:
    model = performance.gpt2_model()
    found = []
    with tempfile.TemporaryDirectory() as name:
        performance.write_named_export(model, Path(name))

        def started(work: Callable[..., Any], *way: str) -> Callable[[], float]:
            def once() -> float:
                began = time.perf_counter()
                work(*way)
                return 60 / (time.perf_counter() - began)

            return once

        for kind in ("float32", "bfloat16", "int8"):
            peers = {"Transformers, float32": (started(bare, "write", name, "1"), 1.0)}
            what = f"a cold start until one token, 124M parameters, {kind}"
            ours = started(measured, __file__, "first", name, kind)
            found += in_turn(what, "starts a minute", ours, peers, options.rounds)
    return found


LINES = {"train": train, "write": write, "cold": cold}

if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        performance.alone(WAYS[sys.argv[2]], *sys.argv[3:])
    else:
        performance.main(LINES, __doc__ or "")
