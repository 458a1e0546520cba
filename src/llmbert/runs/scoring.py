"""How probable a run finds each of some texts, for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llmbert.metrics import build_signature
from llmbert.protocols import Progress, silent
from llmbert.runs.run import Run


def score_each(
    run: Run, texts: Sequence[str], sources: Sequence[str] | None = None, progress: Progress = silent
) -> list[dict[str, Any]]:
    """nats, bits_per_byte, likelihood and signature of each text, whatever others are scored with it; no interval.

    bits_per_byte is None for a text that is empty or holds an unknown token, both are where the model gives a text no
    probability at all. Raises UsageError as `Run.score` does.
    """
    read, unknown = run.token_nats(texts, sources, progress)
    told = {
        "likelihood": run.model.likelihood,
        "signature": build_signature("nll", unit=run.scored_unit, **run.signature()),
    }
    found = []
    for (nats, _, size, _), unread in zip(read.per_document().tolist(), unknown, strict=True):
        known = math.isfinite(nats)
        bits = nats / math.log(2) / size if known and size and not unread else None
        found.append({"nats": nats if known else None, "bits_per_byte": bits, **told})
    return found
