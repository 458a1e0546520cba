"""Sources, what runs made of them, and references → side by side, equal words marked."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.report.matching import Stretch, closest, match_texts
from llmbert.report.sheet import Sheet, script
from llmbert.report.texts import TASKS

MOST_EXAMPLES = 60
MOST_REFERENCES = 6
COMPARED = 50  # references, for the one nearest to an output
ROOM = 450_000  # bytes of the page that all texts of the examples may take together
LINES, LINE_WIDTH = 13, 38  # a text that takes more lines than this in its column is folded; Latin letters in a line


def example_section(
    rows: Sequence[Mapping[str, Any]], sheet: Sheet, note: Any = None, one_run: bool = False
) -> dict[str, Any]:
    """What the template shows of `examples` (see `write_report`): examples of one source together, in their order.

    note: a sentence on how they were chosen; True for the one that says they are the first held-out ones.
    """
    shown, left_out = sheet.some(rows, MOST_EXAMPLES)
    room = int(ROOM * sheet.share / max(1, len(shown)))
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in shown:
        key = (str(row.get("prefix") or ""), str(row.get("source") or ""), tuple(_references(row)))
        groups.setdefault(key, []).append(row)
    notes = {str(row.get("note") or "") for row in rows}
    common = notes.pop() if len(notes) == 1 and len(rows) > 1 else None
    made = [_group(group, room, sheet, common) for group in groups.values()]
    compared = any(len(group) > 1 for group in groups.values())
    marked = any(output["shared"] for group in made for output in group["outputs"])
    given = note if isinstance(note, str) else ""
    shared = "" if not common or common in TASKS else f"{_note(common, sheet)}{sheet.t['end']}"
    said = sheet.t["examples_first"].format(len(groups)) if note is True and not left_out else ""
    return {
        "groups": made,
        "note": sheet.joined(shared, said or given),
        "legend": sheet.t["examples_legend_compared" if compared else "examples_legend"] if marked else "",
        "left_out": left_out,
        "named": not one_run,
    }


def _group(rows: Sequence[Mapping[str, Any]], room: int, sheet: Sheet, common: str | None) -> dict[str, Any]:
    """One source with what each run made of it, and its references, the one nearest to the (only) output first."""
    first = rows[0]
    references = _references(first)
    outputs = []
    nearest: list[Stretch] = []
    for row in rows:
        text, left_out = sheet.cut(str(row.get("text") or ""), _part(room, 0.35))
        best = closest(text, [reference[: len(text) + 1000] for reference in references[:COMPARED]])
        parts = [Stretch(text, False)] if text else []
        if best >= 0:
            parts, marked = match_texts(text, sheet.cut(references[best], _part(room, 0.35))[0])
            nearest = marked if len(rows) == 1 else []
            references = [references[best], *references[:best], *references[best + 1 :]] if nearest else references
        note = str(row.get("note") or "")
        outputs.append(
            _side(parts, left_out)
            | {"name": str(row.get("name")), "series": sheet.series_of(row), "shared": any(p.shared for p in parts)}
            | {"note": "" if note == common else _note(note, sheet)}
        )
    source, left_out = sheet.cut(str(first.get("source") or ""), _part(room, 0.3))
    prefix, _ = sheet.cut(str(first.get("prefix") or ""), 400)
    shown, more = references[:MOST_REFERENCES], len(references) - MOST_REFERENCES
    sides = [_reference(text, _part(room, 0.35) if not i else 600, sheet) for i, text in enumerate(shown)]
    if nearest:
        sides[0] |= {"parts": nearest}
    return {
        "source": _side([Stretch(source, False)] if source else [], left_out) | {"prefix": prefix},
        "outputs": outputs,
        "references": sides,
        "more": sheet.t["references_more"].format(len(shown) - 1 + max(0, more)) if len(shown) > 1 else "",
        "unshown": sheet.t["left_out"].format(f"{more:,}") if more > 0 else "",
    }


def _reference(text: str, room: int, sheet: Sheet) -> dict[str, Any]:
    kept, left_out = sheet.cut(text, room)
    return _side([Stretch(kept, False)] if kept else [], left_out)


def _side(parts: Sequence[Stretch], left_out: str) -> dict[str, Any]:
    """One column's text."""
    text = "".join(part.text for part in parts)
    return {"prefix": "", "parts": parts, "lang": script(text), "left_out": left_out, "long": _lines(text) > LINES}


def _lines(text: str) -> int:
    """About how many lines a text takes in a column."""
    widths = (sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) for line in text.split("\n"))
    return sum(1 + width // LINE_WIDTH for width in widths)


def _part(room: int, share: float) -> int:
    # Marks and the HTML around a text take as much again as short words do.
    return max(120, int(room * share / 2.5))


def _references(row: Mapping[str, Any]) -> list[str]:
    given = row.get("references") or []
    return [str(text) for text in ([given] if isinstance(given, str) else given) if str(text).strip()]


def _note(note: str | None, sheet: Sheet) -> str:
    """A note as it was given, the names of tasks and metrics as readers know them."""
    kind, _, rest = (note or "").partition(" ")
    return f"{sheet.name(TASKS, kind)} {rest}".strip()
