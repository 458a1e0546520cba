"""LLMBert grows language generators on your own text and your own machine.

    run = llmbert.train("gpt", "mytext.txt", "runs/gpt", budget="5m")
    print(run.generate("Once upon a time"))

Importing this loads nothing heavy; a verb loads what it needs when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmbert.protocols import LLMBertError, UsageError
    from llmbert.runs import Run, load
    from llmbert.tasks.chat import Conversation
    from llmbert.tasks.classify import classify
    from llmbert.tasks.summarise import summarise
    from llmbert.tasks.tag import tag
    from llmbert.tasks.translate import translate
    from llmbert.tasks.write import write
    from llmbert.trust.watermark import detect_watermark
    from llmbert.workbench.compare import compare
    from llmbert.workbench.curation.augmentation import augment_data
    from llmbert.workbench.curation.self_training import self_train
    from llmbert.workbench.documents import anomalies, augment, map_texts
    from llmbert.workbench.evaluate import evaluate
    from llmbert.workbench.fine_tune import fine_tune
    from llmbert.workbench.preflight.check import check
    from llmbert.workbench.train import resume, train

# Must be set before torch loads its OpenMP: threads that wait by spinning make training ten times slower as soon as
# another program wants a core, and gain next to nothing when none does. A value of the user's own stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = [
    "Conversation",
    "LLMBertError",
    "Run",
    "UsageError",
    "anomalies",
    "augment",
    "augment_data",
    "check",
    "classify",
    "compare",
    "detect_watermark",
    "evaluate",
    "fine_tune",
    "load",
    "map_texts",
    "resume",
    "self_train",
    "summarise",
    "tag",
    "train",
    "translate",
    "write",
]

_HOMES = {
    "LLMBertError": "llmbert.protocols",
    "UsageError": "llmbert.protocols",
    "Run": "llmbert.runs",
    "load": "llmbert.runs",
    "train": "llmbert.workbench.train",
    "resume": "llmbert.workbench.train",
    "evaluate": "llmbert.workbench.evaluate",
    "anomalies": "llmbert.workbench.documents",
    "augment": "llmbert.workbench.documents",
    "augment_data": "llmbert.workbench.curation.augmentation",
    "self_train": "llmbert.workbench.curation.self_training",
    "map_texts": "llmbert.workbench.documents",
    "check": "llmbert.workbench.preflight.check",
    "compare": "llmbert.workbench.compare",
    "detect_watermark": "llmbert.trust.watermark",
    "fine_tune": "llmbert.workbench.fine_tune",
    "Conversation": "llmbert.tasks.chat",
    "classify": "llmbert.tasks.classify",
    "summarise": "llmbert.tasks.summarise",
    "tag": "llmbert.tasks.tag",
    "translate": "llmbert.tasks.translate",
    "write": "llmbert.tasks.write",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("llmbert")
    if name not in _HOMES:
        raise AttributeError(f"module 'llmbert' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
