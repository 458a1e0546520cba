"""What a curation found, counted as it goes, with a few examples of each reason."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 6  # of each reason that are shown
EXCERPT = 400  # characters of each


@dataclass
class Found:
    """What was found among documents: how many for each reason, sizes in bytes of UTF-8, and examples by reason."""

    documents: int = 0
    kept: int = 0
    bytes_read: int = 0
    bytes_kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    cut_bytes: int = 0
    similarities: Counter[int] = field(default_factory=Counter)  # near duplicates by Jaccard similarity in percent
    repeated: tuple[int, int] | None = None  # bytes that repeat earlier ones, of so many looked at, where none is cut
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)

    def show(self, reason: str, **example: Any) -> None:
        """Take in an example, or not: of all of a reason each is as likely to be shown (Vitter 1985)."""
        some, seen = self.examples.setdefault(reason, []), self._seen[reason]
        self._seen[reason] += 1
        at = seen if seen < EXAMPLES else random.Random(f"{reason} {seen}").randrange(seen + 1)
        if at < EXAMPLES:
            example = {k: v[:EXCERPT] if isinstance(v, str) else v for k, v in example.items()}
            some[at : at + 1] = [example]
