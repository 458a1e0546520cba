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
    from llmbert.workbench.audit import audit, audit_run
    from llmbert.workbench.compare import compare
    from llmbert.workbench.curation.augmentation import augment_data
    from llmbert.workbench.curation.clean import clean
    from llmbert.workbench.curation.dedup import dedup
    from llmbert.workbench.curation.scrub import scrub
    from llmbert.workbench.curation.self_training import self_train
    from llmbert.workbench.curation.statistics import statistics
    from llmbert.workbench.curation.trace import trace
    from llmbert.workbench.documents import anomalies, augment, map_texts
    from llmbert.workbench.evaluate import evaluate
    from llmbert.workbench.fine_tune import fine_tune
    from llmbert.workbench.preflight.check import check
    from llmbert.workbench.privacy.forget import forget
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
    "audit",
    "audit_run",
    "augment",
    "augment_data",
    "check",
    "classify",
    "clean",
    "compare",
    "dedup",
    "detect_watermark",
    "evaluate",
    "fine_tune",
    "forget",
    "load",
    "map_texts",
    "resume",
    "scrub",
    "statistics",
    "self_train",
    "summarise",
    "tag",
    "trace",
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
    "audit": "llmbert.workbench.audit",
    "audit_run": "llmbert.workbench.audit",
    "augment": "llmbert.workbench.documents",
    "augment_data": "llmbert.workbench.curation.augmentation",
    "self_train": "llmbert.workbench.curation.self_training",
    "map_texts": "llmbert.workbench.documents",
    "trace": "llmbert.workbench.curation.trace",
    "scrub": "llmbert.workbench.curation.scrub",
    "statistics": "llmbert.workbench.curation.statistics",
    "check": "llmbert.workbench.preflight.check",
    "compare": "llmbert.workbench.compare",
    "clean": "llmbert.workbench.curation.clean",
    "dedup": "llmbert.workbench.curation.dedup",
    "detect_watermark": "llmbert.trust.watermark",
    "fine_tune": "llmbert.workbench.fine_tune",
    "forget": "llmbert.workbench.privacy.forget",
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
