"""A log of conversations in figures → how fast replies came, how they were liked, and the talks that went wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.report.numbers import duration, number, significant
from llmbert.report.sheet import Sheet, interval_of, script

MOST_BINS = 24
MOST_TALKS, MOST_TURNS = 20, 40
ROOM = 250_000  # bytes of the page that all talks may take together
OPENING = 64  # characters of its first turn that a folded talk is known by
OPENED = 3  # talks with a thumb down that are shown unfolded


def usage_section(usage: Mapping[str, Any] | None, sheet: Sheet) -> dict[str, Any] | None:
    """What the template shows of `usage` (see `write_report`); None where it holds nothing to show."""
    usage = usage or {}
    talks, left_out = _talks(usage.get("talks") or [], sheet)
    section = {
        "tiles": _tiles(usage, sheet),
        "thumbs": _thumbs(usage.get("thumbs") or {}, sheet),
        "histogram": _histogram(usage, sheet),
        "talks": talks,
        "several": len({talk["name"] for talk in talks}) > 1,
        "left_out": left_out,
        "notes": [] if talks else _notes(usage.get("notes") or [], sheet),
    }
    return section if any(section.values()) else None


def bins(values: Sequence[float], most: int = MOST_BINS) -> list[tuple[float, float, int]]:
    """Counts of values >= 0 in at most `most` equal bins (from, to, count) of a round width, the last one open.

    The bins before the last hold 99 % of the values; it goes on to infinity, and is left out where nothing lies there.
    """
    kept = sorted(value for value in values if math.isfinite(value) and value >= 0)
    if not kept:
        return []
    high = kept[math.ceil(0.99 * len(kept)) - 1]
    width = _round_width(max(high, 1e-6) / (most - 2))
    counts, beyond = [0] * (int(high / width) + 1), 0
    for value in kept:
        place = value / width  # infinite where the widest column is beyond all bounds
        if place < len(counts):
            counts[int(place)] += 1
        else:
            beyond += 1
    found = [(i * width, (i + 1) * width, count) for i, count in enumerate(counts)]
    return [*found, (len(counts) * width, math.inf, beyond)] if beyond else found


def _round_width(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _histogram(usage: Mapping[str, Any], sheet: Sheet) -> dict[str, Any] | None:
    """The response times as columns, the median and the 95 % point as marks above them."""
    times = [time for value in usage.get("times") or [] if (time := number(value)) is not None]
    found = bins(times)
    if not found:
        return None
    most, end = max(count for _, _, count in found), len(found) * (found[0][1] - found[0][0])
    columns = [
        {
            "height": f"{100 * count / most:.1f}",
            "open": high == math.inf,
            "title": sheet.t["bin"].format(_between(low, high, sheet), f"{count:,}"),
        }
        for low, high, count in found
    ]
    spread = usage.get("seconds") or {}
    marks = [
        {"left": f"{100 * value / end:.2f}", "name": sheet.t[key], "text": duration(value, sheet.language)}
        for key in ("median", "p95")
        if (value := number(spread.get(key))) is not None and value <= end
    ]
    every = 2 if len(found) <= 10 else 4 if f"{found[0][1]:e}"[0] == "5" else 5  # so that ticks are round too
    ticks = [
        {"left": f"{100 * i / len(found):.2f}", "text": _seconds(low)}
        for i, (low, _, _) in enumerate(found)
        if i % every == 0
    ]
    said = "; ".join(str(column["title"]) for column, (_, _, count) in zip(columns, found, strict=True) if count)
    return {
        **{"columns": columns, "marks": marks, "ticks": ticks, "count": len(times)},
        "label": sheet.t["histogram_label"].format(said),
        "open": found[-1][1] == math.inf,
    }


def _seconds(value: float) -> str:
    return significant(value, 3).rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"


def _between(low: float, high: float, sheet: Sheet) -> str:
    if high == math.inf:
        return f"≥ {_seconds(low)} s" if sheet.language == "en" else f"≥ {_seconds(low)} 秒"
    return f"{_seconds(low)}–{_seconds(high)} {'s' if sheet.language == 'en' else '秒'}"


def _tiles(usage: Mapping[str, Any], sheet: Sheet) -> list[dict[str, str]]:
    """The figures that come first, each with its name and what it rests on."""
    t, language = sheet.t, sheet.language
    talks, replies = number(usage.get("conversations")), number(usage.get("replies"))
    tiles = []
    if replies is not None:
        within = t["in_conversations"].format(f"{talks:,.0f}") if talks is not None else ""
        tiles.append({"name": t["replies"], "text": f"{replies:,.0f}", "more": within})
    if replies is not None and talks:
        tiles.append({"name": t["per_conversation"], "text": f"{replies / talks:.1f}", "more": ""})
    for key, name in (("seconds", "whole_reply"), ("first_seconds", "first_piece")):
        spread = {part: number(value) for part, value in (usage.get(key) or {}).items()}
        if (median := spread.get("median")) is not None:
            rest = [
                t[part].format(duration(value, language))
                for part in ("within", "longest")
                if (value := spread.get("p95" if part == "within" else part)) is not None
            ]
            tiles.append({"name": t[name], "text": duration(median, language), "more": " · ".join(rest)})
    return tiles


def _thumbs(thumbs: Mapping[str, Any], sheet: Sheet) -> dict[str, Any] | None:
    """Ups and downs as one bar, their share with its interval as a sentence; None where nothing is known."""
    up, down, none = (int(number(thumbs.get(key)) or 0) for key in ("up", "down", "none"))
    rated = up + down
    if not rated + none:
        return None
    interval = interval_of(thumbs)
    said = sheet.t["unrated"]
    if rated:
        ends = sheet.t["interval_95"].format(*(sheet.percent(end) for end in interval)) if interval else ""
        liked = sheet.t["liked"].format(share=sheet.percent(up / rated), rated=f"{rated:,}")
        said = f"{liked}{ends}{sheet.t['end']}"
    return {
        "parts": [
            {"key": key, "name": sheet.t[f"thumbs_{key}"], "count": f"{count:,}"}
            | {"width": f"{100 * count / (rated + none):.2f}"}
            for key, count in (("up", up), ("down", down), ("none", none))
        ],
        "said": said,
    }


def _talks(talks: Sequence[Mapping[str, Any]], sheet: Sheet) -> tuple[list[dict[str, Any]], str]:
    """The conversations, those with a thumb down first, then those with a thumb up."""
    shown, left_out = sheet.some(sorted(talks, key=_order), MOST_TALKS)
    room = int(ROOM * sheet.share / max(1, len(shown)))
    made = [_talk(talk, room, sheet) for talk in shown]
    for talk in made[:OPENED]:
        talk["open"] = talk["downs"] > 0
    return made, left_out


def _order(talk: Mapping[str, Any]) -> int:
    thumbs = {turn.get("thumb") for turn in talk.get("turns") or []}
    return 0 if "down" in thumbs else 1 if "up" in thumbs else 2


def _talk(talk: Mapping[str, Any], room: int, sheet: Sheet) -> dict[str, Any]:
    """One conversation; of a long one the turns up to a little after its first thumb down, else its first turns."""
    turns = talk.get("turns") or []
    downs = [i for i, turn in enumerate(turns) if turn.get("thumb") == "down"]
    most = max(4, int(MOST_TURNS * sheet.share))
    end = min(len(turns), max(most, downs[0] + 3 if downs else most))
    shown = turns[max(0, end - most) : end]
    ups = sum(turn.get("thumb") == "up" for turn in turns)
    known = ((len(downs), "downs"), (ups, "ups"))
    marks = [sheet.t[key].format(count) for count, key in known if count]
    left_out = len(turns) - len(shown)
    opening = " ".join(str(turns[0].get("text") or "").split()) if turns else ""
    return {
        "opening": f"{opening[:OPENING]}…" if len(opening) > OPENING else opening,
        **{"name": str(talk.get("run") or ""), "series": sheet.series.get(str(talk.get("run")), 0), "open": False},
        "summary": " · ".join([*marks, sheet.t["turns"].format(len(turns))]),
        "turns": [_turn(turn, max(100, room // max(1, len(shown)) - 150), sheet) for turn in shown],
        "left_out": sheet.t["turns_left_out"].format(left_out) if left_out else "",
        "downs": len(downs),
    }


def _turn(turn: Mapping[str, Any], room: int, sheet: Sheet) -> dict[str, Any]:
    text, left_out = sheet.cut(str(turn.get("text") or ""), room)
    seconds, thumb = number(turn.get("seconds")), turn.get("thumb")
    remarks = [duration(seconds, sheet.language)] if seconds is not None else []
    remarks += [sheet.t[f"thumbs_{thumb}"]] if thumb in ("up", "down") else []
    note, note_left_out = sheet.cut(str(turn.get("note") or ""), room)
    return {
        **{"speaker": str(turn.get("speaker") or ""), "own": bool(turn.get("own")), "text": text},
        **{"lang": script(text), "left_out": left_out or note_left_out, "remarks": " · ".join(remarks)},
        **{"note": sheet.t["remark"].format(note) if note else "", "thumb": thumb if thumb in ("up", "down") else ""},
    }


def _notes(notes: Sequence[Sequence[Any]], sheet: Sheet) -> list[dict[str, Any]]:
    """What people wrote beside their thumbs, downs first: (thumb, note, reply)."""
    kept = [tuple(map(str, note)) for note in notes if isinstance(note, list | tuple) and len(note) == 3]
    shown, _ = sheet.some(sorted(kept, key=lambda note: note[0] != "down"), 40)
    room = int(ROOM * sheet.share / max(1, 2 * len(shown)))
    return [
        {"thumb": thumb if thumb in ("up", "down") else "", "name": sheet.t.get(f"thumbs_{thumb}", thumb)}
        | {"note": sheet.cut(note, room)[0], "reply": sheet.cut(reply, room)[0], "lang": script(reply)}
        for thumb, note, reply in shown
    ]
