"""Checks of what goes to the disk: a stopped training goes on exactly, and a saved model is loaded as it was."""

from __future__ import annotations

import copy
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from llmbert.runs import CHECKPOINT, FACTS, FORMAT, load, save_model, write_json
from llmbert.text.foreign import ForeignTokeniser
from llmbert.training.loop import Interrupted
from llmbert.workbench.preflight.case import SMALL, Case, Few, Outcome, differ, failed, passed, predict, shaken, skipped

STEPS, STOP = 6, 3


def check_resuming(case: Case) -> Outcome:
    """Stopped in the middle and gone on with equals never stopped, bit for bit."""
    with tempfile.TemporaryDirectory(prefix="llmbert-") as folder:
        whole = _trained(case, Path(folder) / "whole", None)
        path = Path(folder) / CHECKPOINT
        part = _trained(case, path, STOP)
        resumed = _trained(case, path, None, resume=True)
    if part.at.step != STOP:
        return failed(f"a training told to stop after {STOP} steps took {part.at.step}; ask stop() after each step")
    exact = whole.device.type == "cpu"
    for name, weight in whole.model.named_parameters():
        other = resumed.model.get_parameter(name)
        if not (torch.equal(weight, other) if exact else not differ(weight, other, SMALL)):
            return failed(
                f"a training that is stopped and gone on with has another {name} than one that never stops; what moves "
                "(weights, optimisers, averages, memory, the random state, the batch's number) belongs into the "
                "checkpoint and back (training/loop.py)"
            )
    if vars(whole.at) | {"seconds": 0} != vars(resumed.at) | {"seconds": 0}:
        return failed("a training that is gone on with counts its steps or tokens otherwise; save them with the rest")
    return passed(f"{STEPS} steps, stopped after {STOP}: the same weights")


def _trained(case: Case, checkpoint: Path, stop: int | None, resume: bool = False) -> Any:
    """A trainer after a few steps; stop: after which it is stopped; resume: in what stands for a new process."""
    model = copy.deepcopy(case.fresh)
    if resume:
        model = shaken(model)
        torch.manual_seed(case.seed + 1)
    else:
        torch.manual_seed(case.seed)
    settings: dict[str, Any] = {"steps": STEPS, "patience": None, "checkpoint_seconds": 1e9}
    trainer = case.trainer(model, Few(case.lesson.batches), case.lesson, **settings)
    trainer.checkpoint = checkpoint
    trainer.stop = lambda: trainer.at.step == stop
    if resume:
        trainer.resume()
    with suppress(Interrupted):
        trainer.run()
    return trainer


def check_saving(case: Case) -> Outcome:
    """A model that was saved and loaded again predicts what it predicted."""
    if case.trained is None and isinstance(case.tokeniser, ForeignTokeniser):
        return skipped("its tokeniser is from elsewhere")
    with tempfile.TemporaryDirectory(prefix="llmbert-") as name:
        folder = Path(name)
        case.tokeniser.save(folder)
        kind = {"kind": case.tokeniser.kind}
        write_json(folder / FACTS, {"format": FORMAT, "status": "done", "family": case.family, "tokeniser": kind})
        save_model(folder, case.probe, _special_ids(case))
        loaded = load(folder).model
        size = sum(file.stat().st_size for file in folder.iterdir())
    if differ(predict(case.probe, case.batch), predict(loaded, case.batch)):
        return failed(
            f"a {case.family} that was saved and loaded predicts otherwise than before; mend how its weights and "
            "settings are written and read (models/huggingface/)"
        )
    return passed(f"{size:,} bytes, the same logits")


def _special_ids(case: Case) -> dict[str, Any] | None:
    return case.tokeniser.config_ids() if isinstance(case.tokeniser, ForeignTokeniser) else None
