"""Training with noise: what a run learns so, and the ε that its folder states."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmbert.data.corpus import Corpus
from llmbert.models import FAMILIES
from llmbert.protocols import UsageError
from llmbert.runs import FACTS, read_facts
from llmbert.training.loop import Interrupted
from llmbert.training.private import learn_privately, private_optimiser
from llmbert.trust.accounting import spent

if TYPE_CHECKING:
    from llmbert.workbench.train import Training

DELTA = 1e-5  # at most, and at most a tenth of a document's share
NOT_PRIVATE = (
    "the tokeniser, the number of documents, whatever was held out, and what run.json and the page tell of the text: "
    "its sizes and fingerprints"
)
BATCH = 64  # documents in a step where none is set: the noise of a step is the same for many as for few


def _refuse_known_base(training: Training) -> None:
    """A base that read the same text, or whose own base did, knows it without any noise."""
    own, base = {entry["sha256"] for entry in training.store.describe().get("files", [])}, training.base
    seen: set[str] = set()
    while base is not None and base not in seen and (Path(base) / FACTS).exists():
        seen.add(base)
        facts = read_facts(Path(base))
        if own & {entry["sha256"] for entry in facts.get("data", {}).get("files", [])}:
            raise UsageError(f"{base} has read this text without noise; begin with a base that has not")
        base = facts.get("base")


def delta_for(documents: int) -> float:
    return min(DELTA, 1 / (10 * max(1, documents)))


def privacy_facts(noise: float, rate: float, steps: int, documents: int, beside: float = 0.0) -> dict[str, Any]:
    """What a run says of its privacy: ε by both conversions at a δ, and what it rests on.

    beside: a share of δ that thresholds take.
    """
    delta = delta_for(documents)
    classic, tight = spent(noise, rate, max(1, steps), delta)
    return {
        "unit": "document",
        "epsilon": classic,
        "epsilon_tight": tight,
        "delta": delta + beside,
        "noise": noise,
        "rate": rate,
        "steps": steps,
        "documents": documents,
        "not_private": NOT_PRIVATE,
    }


def count_privacy(training: Training) -> dict[str, Any]:
    """`privacy_facts` of an n-gram model of noisy counts; {} of any other."""
    model = training.plan.model
    if not getattr(model, "noise", 0.0):
        return {}
    assert isinstance(training.store, Corpus)
    documents = training.store.train.documents
    return {"privacy": privacy_facts(model.noise, 1.0, model.order, documents, model.delta)}


def learn_with_noise(training: Training, model: Any) -> dict[str, Any]:
    """DP-SGD of a model on a training's documents, for its steps or as long as its budget lasts; what was learned.

    Raises UsageError for a family or an objective that it does not suit, Interrupted when stopped.
    """
    store, settings = training.store, training.plan.training
    if (
        not isinstance(store, Corpus)
        or training.objective != "causal"
        or FAMILIES[training.family].likelihood != "exact"
    ):
        raise UsageError(
            f"private training is of families that predict the next token of documents, not of a {training.family} by "
            f"{training.objective}; leave out --set noise"
        )
    _refuse_known_base(training)
    asked, seconds = training.facts["asked"]["training"], training.facts["asked"]["seconds"]
    changed: dict[str, Any] = {} if "batch" in asked else {"batch": min(BATCH, store.train.documents)}
    if seconds is not None and "steps" not in asked:
        # Nobody knows beforehand how many steps fit, so the rate cannot fall towards the last of them.
        changed |= {"steps": 1_000_000, "schedule": "constant", "warmup": 0}
        end = training.began + 0.9 * seconds
    else:
        end = float("inf")
    settings = settings.model_copy(update=changed)
    shard = store.train
    found = learn_privately(
        model,
        shard.ids,
        shard.starts,
        training.plan.model.context,
        settings,
        progress=training.progress,
        stop=lambda: training.stop() or time.monotonic() > end,
    )
    if found["steps"] < settings.steps and training.stop():
        planned = "" if end < float("inf") else f" of {settings.steps}"
        raise Interrupted(
            f"stopped at step {int(found['steps'])}{planned}; a training with noise cannot be gone on with and nothing "
            "of it is kept: the same command begins anew"
        )
    done = settings.model_copy(update={"steps": int(found["steps"]), "optimiser": private_optimiser(settings)})
    training.facts["settings"]["training"] = done.model_dump()  # not what was planned for a training without noise
    return {
        "train_seconds": found["seconds"],
        "train_tokens": found["tokens"],
        "tokens_per_second": found["tokens"] / max(found["seconds"], 1e-9),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": found["steps"],
        "stopped_early": False,
        "precision": "float32",
        "privacy": _of_base(
            training, privacy_facts(found["noise"], found["rate"], int(found["steps"]), int(found["documents"]))
        ),
    }


def _of_base(training: Training, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, with the base among what they do not cover."""
    return facts if training.base is None else facts | {"not_private": f"{NOT_PRIVATE}, and all that the base has read"}
