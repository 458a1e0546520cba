"""What all sections of one rendering share: the fixed texts, the language, each run's colour, and the room left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from llmbert.report.numbers import number
from llmbert.report.texts import TEXTS


class Sheet:
    """A page in the making.

    `share` (0-1] of the room that long texts and many rows may take; `series`: a colour for each name.
    """

    def __init__(self, language: str, share: float = 1.0, series: Mapping[str, int] | None = None) -> None:
        self.language, self.share = language, share
        self.series = dict(series or {})
        self.t = {key: pair[language == "zh"] for key, pair in TEXTS.items()}

    def name(self, known: Mapping[str, tuple[str, str]], name: str) -> str:
        """A name as readers know it, where `known` has it, else as it is."""
        return known[name][self.language == "zh"] if name in known else name

    def series_of(self, row: Mapping[str, Any]) -> int:
        """The colour of the row's name."""
        return self.series.get(str(row.get("name")), 0)

    def some(self, rows: Sequence[Any], most: int) -> tuple[Sequence[Any], str]:
        """The first `most` rows (fewer on a page cut short), and a sentence on the others."""
        most = max(3, int(most * self.share))
        return rows[:most], self.t["left_out"].format(f"{len(rows) - most:,}") if len(rows) > most else ""

    def joined(self, *texts: str) -> str:
        """Sentences one after another, without the empty ones."""
        return ("" if self.language == "zh" else " ").join(text for text in texts if text)

    def percent(self, share: float, digits: int = 0) -> str:
        """A share (0-1) as 12 %."""
        return f"{100 * share:.{digits}f}{'' if self.language == 'zh' else ' '}%"

    def cut(self, text: str, room: int) -> tuple[str, str]:
        """The text's first characters that take `room` bytes of the page, and a sentence on the rest."""
        kept = fitting((len(escape(character).encode()) for character in text[:room]), room)
        return text[:kept], self.cut_note(len(text) - kept)

    def cut_note(self, characters: int) -> str:
        """The sentence on so many characters that were cut; "" for none."""
        return self.t["left_out_characters"].format(f"{characters:,}") if characters else ""

    def pairs(self, pairs: Iterable[Sequence[Any]] | None) -> list[tuple[str, str]]:
        """Names and values as text."""
        shown, _ = self.some([(self.value(name), self.value(value) or "–") for name, value in pairs or []], 200)
        return list(shown)

    def value(self, value: Any) -> str:
        """A setting or a fact as text."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return self.t["yes"] if value else self.t["no"]
        if isinstance(value, int):
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        most = max(100, int(4000 * self.share))
        return text if len(text) <= most else f"{text[:most]} … {self.cut_note(len(text) - most)}"


def interval_of(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """The row's interval where both of its ends are numbers."""
    low, high = (number(end) for end in (row.get("interval") or (None, None)))
    return None if low is None or high is None else (min(low, high), max(low, high))


def fitting(lengths: Iterable[int], room: int) -> int:
    """How many of the lengths fit into `room`, from the first."""
    count = 0
    for length in lengths:
        room -= length
        if room < 0:
            break
        count += 1
    return count


def script(text: str) -> str:
    """The HTML language of a text as far as its script tells, so that the right glyphs are chosen: "" for unknown."""
    if re.search(r"[\u3040-\u30ff]", text):
        return "ja"
    if re.search(r"[\uac00-\ud7af]", text):
        return "ko"
    return "zh-Hans" if re.search(r"[\u3400-\u9fff]", text) else ""
