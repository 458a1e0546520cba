"""The sections of a page on documents: how odd they are, where they lie, where they come from, which went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from llmbert.report import clouds
from llmbert.report.numbers import number
from llmbert.report.sheet import Sheet, script

Both = Callable[[Callable[[bool], str]], tuple[Any, Any]]
"""Draws a chart's wide and narrow form."""

POINTS = 1200  # of a map that are drawn
LABELS = 8  # with a colour of their own; more points of more colours cannot be told apart
MOST_TEXTS, MOST_SPANS = 40, 60
ROOM = 300_000  # bytes of the page that traced texts may take together


def detection_section(given: Any, sheet: Sheet, both: Both) -> dict[str, Any] | None:
    """Histograms of the scores, the ROC curve, and the oddest documents; None where nothing is given.

    given: {unit, groups: [{name, values}], roc: [[x, y], ...], oddest: [[id, score, text, known to be odd], ...]}.
    """
    if not given:
        return None
    samples = [
        clouds.Sample(str(group.get("name")), values, i)
        for i, group in enumerate(given.get("groups") or [])
        if (values := [value for each in group.get("values") or [] if (value := number(each)) is not None])
    ]
    shown, left_out = sheet.some(list(given.get("oddest") or []), 20)
    found: dict[str, Any] = {
        "legend": [(sample.series, sample.name) for sample in samples] if len(samples) > 1 else [],
        "oddest": [
            {
                "id": sheet.value(identity),
                "score": "∞" if score is None else f"{score:.3f}",
                **dict(zip(("text", "left_out"), sheet.cut(str(text), 600), strict=True)),
                "lang": script(str(text)),
                "odd": odd,
            }
            for identity, score, text, odd in shown
        ],
        **{"known": len(samples) > 1, "unit": str(given.get("unit") or ""), "left_out": left_out},
        **{"wide": None, "narrow": None, "roc": None},
    }
    if samples:
        said = "; ".join(f"{sample.name} {len(sample.values):,}" for sample in samples)
        label = sheet.t["scores_histogram"].format(said)
        axes = found["unit"], sheet.t["share_of_documents"]
        found["wide"], found["narrow"] = both(
            lambda narrow: clouds.histogram_chart(samples, *axes, label, f"odd-{narrow:d}", narrow)
        )
    points = [
        (x, y) for a, b in given.get("roc") or [] if (x := number(a)) is not None and (y := number(b)) is not None
    ]
    if points:
        curve = [(100 * x, 100 * y) for x, y in points]
        shares = sheet.t["false_alarms"], sheet.t["odd_found"]
        wide, narrow = both(lambda narrow: clouds.roc_chart(curve, *shares, sheet.t["roc"], f"roc-{narrow:d}", narrow))
        found["roc"] = {"wide": wide, "narrow": narrow}
    return found


def map_section(given: Any, sheet: Sheet, both: Both) -> dict[str, Any] | None:
    """Texts as points, each label in its colour, the rarer ones together; None where nothing is given.

    given: {points: [[x, y, label, text], ...]}; the label may be "".
    """
    points = [
        (x, y, str(label), str(text))
        for a, b, label, text in (given or {}).get("points") or []
        if (x := number(a)) is not None and (y := number(b)) is not None
    ]
    if not points:
        return None
    most = max(50, int(POINTS * sheet.share))
    drawn = [points[i * len(points) // most] for i in range(most)] if len(points) > most else points
    counts = Counter(label for *_, label, _ in points)
    ranked = [label for label, _ in counts.most_common()]
    own = ranked if len(ranked) <= LABELS else ranked[: LABELS - 1]
    named = [
        clouds.Cloud(label, [(x, y) for x, y, mine, _ in drawn if mine == label], i) for i, label in enumerate(own)
    ]
    others = [(x, y) for x, y, label, _ in drawn if label not in own]
    if others:
        named.append(clouds.Cloud(sheet.t["other_labels"].format(len(ranked) - len(own)), others, None))
    label = sheet.t["map_label"].format(f"{len(points):,}")
    axes = sheet.t["first_axis"], sheet.t["second_axis"]
    wide, narrow = both(lambda narrow: clouds.scatter_chart(named, *axes, label, f"map-{narrow:d}", narrow))
    rest = len(points) - sum(counts[name] for name in own)
    legend = [(each.series, each.name, rest if each.series is None else counts[each.name]) for each in named]
    thinned = sheet.t["points_drawn"].format(f"{len(drawn):,}", f"{len(points):,}")
    return {
        **{"wide": wide, "narrow": narrow},
        "legend": [(series, name, f"{count:,}") for series, name, count in legend] if ranked != [""] else [],
        "drawn": thinned if len(drawn) < len(points) else "",
    }


def trace_section(given: Sequence[Mapping[str, Any]] | None, sheet: Sheet) -> dict[str, Any] | None:
    """Texts in parts, spans numbered in the order of the list below; None where nothing is given.

    given: rows of id, parts [[text, the number of the span that begins it, from 1, or None], ...], verbatim (a share),
    spans [{length, text, count, documents [{id, character}]}], neighbours [{id, character, text, score}].
    """
    if not given:
        return None
    shown, left_out = sheet.some(list(given), MOST_TEXTS)
    room = int(ROOM * sheet.share / max(1, len(shown)))
    return {"texts": [_traced(row, room, sheet) for row in shown], "left_out": left_out, "many": len(given) > 1}


def _traced(row: Mapping[str, Any], room: int, sheet: Sheet) -> dict[str, Any]:
    parts, left_out = _kept(row.get("parts") or [], room, sheet)
    spans, more = sheet.some(list(row.get("spans") or []), MOST_SPANS)
    return {
        "id": sheet.value(row.get("id")),
        "share": sheet.percent(float(row.get("verbatim") or 0.0), 1),
        "parts": parts,
        "lang": script("".join(part["text"] for part in parts)),
        "left_out": left_out,
        "spans": [_span(number, span, sheet) for number, span in enumerate(spans, 1)],
        "spans_left_out": more,
        "neighbours": [_neighbour(near, sheet) for near in row.get("neighbours") or []],
    }


def _kept(parts: Sequence[Sequence[Any]], room: int, sheet: Sheet) -> tuple[list[dict[str, Any]], str]:
    """The first parts that take `room` bytes of the page, and a sentence on the rest."""
    kept: list[dict[str, Any]] = []
    cut = 0
    for text, span in parts:
        shown = "" if cut else sheet.cut(str(text), max(0, room))[0]
        room -= len(escape(shown).encode()) + 60  # with its mark
        cut += len(str(text)) - len(shown)
        if shown:
            kept.append({"text": shown, "number": span})
    return kept, sheet.cut_note(cut)


def _span(number: int, span: Mapping[str, Any], sheet: Sheet) -> dict[str, Any]:
    documents = list(span.get("documents") or [])
    unlisted = int(span["count"]) - len(documents)
    return {
        "number": number,
        "length": sheet.t["characters"].format(f"{int(span['length']):,}"),
        "text": sheet.cut(str(span["text"]), 240)[0],
        "lang": script(str(span["text"])),
        "places": [
            {"id": sheet.value(each["id"]), "at": sheet.t["at_character"].format(f"{int(each['character']):,}")}
            for each in documents
        ],
        "more": sheet.t["places_more"].format(f"{unlisted:,}") if unlisted > 0 else "",
    }


def _neighbour(near: Mapping[str, Any], sheet: Sheet) -> dict[str, Any]:
    text, left_out = sheet.cut(str(near["text"]), 800)
    return {
        "id": sheet.value(near["id"]),
        "at": sheet.t["at_character"].format(f"{int(near['character']):,}"),
        "score": f"{float(near['score']):.3f}",
        "text": text,
        "left_out": left_out,
        "lang": script(text),
    }


def removal_section(given: Any, sheet: Sheet) -> dict[str, Any] | None:
    """Which documents were left out or changed: how that was told, how many, and examples; None where nothing is given.

    given: {method: [sentence, ...], rows: [[name, value], ...], examples: [{reason, texts: [[heading, text], ...]}]}.
    """
    if not given:
        return None
    shown, left_out = sheet.some(list(given.get("examples") or []), 60)
    room = int(400_000 * sheet.share / max(1, len(shown)))
    examples = [
        {
            "reason": sheet.value(example.get("reason")),
            "texts": [
                {"heading": sheet.value(heading), "lang": script(str(text))}
                | dict(zip(("text", "left_out"), sheet.cut(str(text), room), strict=True))
                for heading, text in example.get("texts") or []
            ],
        }
        for example in shown
    ]
    method = [sheet.value(sentence) for sentence in given.get("method") or []]
    return {"method": method, "rows": sheet.pairs(given.get("rows")), "examples": examples, "left_out": left_out}
