"""The figures of a comparison → what to ship, and everything measured that speaks against it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.models import FAMILIES
from llmbert.report.numbers import data_size, duration
from llmbert.workbench.advice.wording import say

FALLING = 0.005  # of the held-out loss, gained in the last quarter of a training
WORSE = 0.01  # of the held-out loss, lost since its best
NEAR = 0.05  # of the best bits/byte
SHARED = 0.1  # of the held-out tokens
ALIKE = 0.02  # of a reverse score: the luck of one draw of texts

Row = Mapping[str, Any]


def compare_advice(
    table: Sequence[Row],
    baselines: Sequence[Row],
    evidence: Sequence[Row],
    curves: Sequence[Row],
    lead: Row | None,
    overlap: Row,
    language: str,
    trials: Sequence[Sequence[Row]] = (),
) -> list[str]:
    """What to ship, then everything measured that speaks against it or would change it.

    table: best first, as `pages.table_row` has it; evidence: as `compare.evidence_rows`; lead: the `paired_difference`
    of the first two with an exact likelihood; overlap: of a corpus; trials: where families were trained with several
    seeds, the rows of each family's runs.
    """
    exact = [row for row in table if row["bits_per_byte"] is not None and row["likelihood"] == "exact"]
    measured = {(str(row["name"]), str(row["metric"])): row for row in evidence}
    drawn = {str(curve["name"]): [y for _, y in curve["valid"]] for curve in curves}
    seeds = _luck(exact, trials, language) if trials else [say("seeds", language)]
    if not exact:
        return [say("no_exact", language), *_others(table, None, measured, language), *seeds]
    best = exact[0]
    return [
        _ship(best, measured, language),
        *_close(exact, lead, measured, language),
        *_counting(exact, baselines, drawn, language),
        *_course(best, drawn, language),
        *_behind(exact, baselines, language),
        *_others(table, best, measured, language),
        *_cheaper(exact, baselines, measured, language),
        *_copies(best, measured, language),
        *([say("overlap", language, shared=overlap["shared_tokens"])] * (overlap["shared_tokens"] > SHARED)),
        *seeds,
    ]


def _luck(exact: Sequence[Row], trials: Sequence[Sequence[Row]], language: str) -> list[str]:
    """Whether the best two stand in the same order whichever of their seeds, each a draw of its own, are taken."""
    if len(exact) < 2:
        return []
    first, second = (next(rows for rows in trials if rows[0]["family"] == row["family"]) for row in exact[:2])
    ahead = sum(a["bits_per_byte"] < b["bits_per_byte"] for a in first for b in second)
    told = {"first": exact[0]["name"], "second": exact[1]["name"], "seeds": len(first)}
    told |= {"ahead": ahead, "pairs": len(first) * len(second)}
    return [say("seeds_same" if ahead == told["pairs"] else "seeds_differ", language, **told)]


def _ship(best: Row, measured: Mapping[tuple[str, str], Row], language: str) -> str:
    told = {"name": best["name"], "bits": best["bits_per_byte"], "disk": data_size(best["bytes_on_disk"])}
    told["time"] = duration(best["train_seconds"], language)
    writes = _value(best, "milliseconds", measured)
    pace = "" if writes is None else say("pace", language, time=duration(writes / 1000, language))
    return say("ship", language, pace=pace, **told)


def _close(exact: Sequence[Row], lead: Row | None, measured: Mapping[tuple[str, str], Row], language: str) -> list[str]:
    """Which of two that the held-out text does not tell apart costs less to use."""
    if lead is None or lead["better"] == "a":
        return []
    first, second = exact[:2]
    paces = [pace for row in (first, second) if (pace := _value(row, "milliseconds", measured)) is not None]
    if len(paces) < 2:
        return [say("tie", language, name=first["name"], second=second["name"])]
    fast, slow = (first, second) if paces[0] <= paces[1] else (second, first)
    times = {"fast": duration(min(paces) / 1000, language), "slow": duration(max(paces) / 1000, language)}
    return [say("tie_paced", language, name=fast["name"], second=slow["name"], **times)]


def _counting(
    exact: Sequence[Row], baselines: Sequence[Row], drawn: Mapping[str, Sequence[float]], language: str
) -> list[str]:
    """How what is counted stands to what is learned by gradients, and to the best."""
    best = exact[0]
    counted = next((row for row in exact if FAMILIES[row["family"]].counts), None)
    learned = next(
        (row for row in exact if not (FAMILIES[row["family"]].counts or FAMILIES[row["family"]].mixes)), None
    )
    if counted is None or learned is None:
        return []
    gap = learned["bits_per_byte"] - counted["bits_per_byte"]
    if gap > 0:
        told = {"name": learned["name"], "gap": gap, "time": duration(learned["train_seconds"], language)}
        told |= {"counted": counted["name"], "quick": duration(counted["train_seconds"], language)}
        trend = _trend(drawn.get(str(learned["name"]), ()))
        return [say("counting", language, **told) + (say(f"counting_{trend}", language) if trend else "")]
    behind = counted["bits_per_byte"] - best["bits_per_byte"]
    if behind < NEAR * best["bits_per_byte"] and _beats(counted, baselines):
        told = {"name": counted["name"], "gap": behind, "second": best["name"]}
        return [say("near", language, quick=duration(counted["train_seconds"], language), **told)]
    return []


def _course(best: Row, drawn: Mapping[str, Sequence[float]], language: str) -> list[str]:
    """Whether the best one's training ended too early or too late."""
    trend = _trend(drawn.get(str(best["name"]), ()))
    return [say(trend, language, name=best["name"])] if trend in ("falling", "rising") else []


def _trend(course: Sequence[float]) -> str | None:
    """Whether held-out losses were "falling", "rising" or "flat" by the end; None where too few were measured to say.

    rising: above the best by WORSE at the end, which two measurements can show; the other two need four.
    """
    enough = len(course) >= 4
    if enough and course[-1] < (1 - FALLING) * course[-1 - max(1, len(course) // 4)]:
        return "falling"
    if course and course[-1] > (1 + WORSE) * min(course):
        return "rising"
    return "flat" if enough else None


def _beats(row: Row, baselines: Sequence[Row]) -> bool:
    """Whether it does better than all that needs no training."""
    return all(row["bits_per_byte"] < each["bits_per_byte"] for each in baselines)


def _behind(exact: Sequence[Row], baselines: Sequence[Row], language: str) -> list[str]:
    """Who does no better than what needs no training, each beside the best such thing that it loses to."""
    losers: dict[str, list[str]] = {}
    values = {str(row["name"]): float(row["bits_per_byte"]) for row in baselines}
    for row in exact:
        ahead = [name for name, value in values.items() if value <= row["bits_per_byte"]]
        if ahead:
            losers.setdefault(min(ahead, key=lambda name: values[name]), []).append(str(row["name"]))
    joined = "、" if language == "zh" else ", "
    return [
        say("behind", language, names=joined.join(names), baseline=name, bits=values[name])
        for name, names in losers.items()
    ]


def _others(
    table: Sequence[Row], best: Row | None, measured: Mapping[tuple[str, str], Row], language: str
) -> list[str]:
    """What can be said of those whose figures are of another kind."""
    said = []
    for row in table:
        bits, kind, told = row["bits_per_byte"], row["likelihood"], {"name": row["name"]}
        if best is not None and kind == "bound" and bits is not None:
            key = "bound_ahead" if bits < best["bits_per_byte"] else "bound"
            said.append(say(key, language, bits=bits, best=best["name"], **told))
        elif kind == "conditional" and row["nats_per_token"] is not None:
            said.append(say("conditional", language, nats=row["nats_per_token"], **told))
        elif kind in ("none", "pseudo"):
            said.append(say(kind, language, **told) + _by_its_texts(row, best, measured, language))
        if row.get("collapsed"):
            said.append(say("collapsed", language, **told))
    return said


def _by_its_texts(row: Row, best: Row | None, measured: Mapping[tuple[str, str], Row], language: str) -> str:
    """The reverse score beside the best one's, since it sees what is left out as well as what is wrong.

    Each beside as much real text, for fewer texts cover less. One covers more than the other where their intervals over
    seeds lie apart, or, of one seed, where more than ALIKE lies between them.
    """
    scores = [measured.get((str(each["name"]), "reverse")) for each in (row, best) if each is not None]
    known = [found for found in scores if found and found["baseline"]]
    if best is None or len(known) < 2:
        return say("end", language)
    values, reals = [found["value"] for found in known], [found["baseline"]["value"] for found in known]
    told = dict(zip(("own", "other", "real", "other_real"), (*values, *reals), strict=True)) | {"best": best["name"]}
    own, other = values[0] - reals[0], values[1] - reals[1]
    if any(found.get("interval") for found in known):
        ends = [found.get("interval") or [found["value"]] * 2 for found in known]
        (low, high), (other_low, other_high) = ([end - real for end in e] for e, real in zip(ends, reals, strict=True))
        alike, verdict = low <= other_high and other_low <= high, "texts_chance"
    else:
        alike, verdict = abs(own - other) <= ALIKE * max(reals), "texts_alike"
    verdict = verdict if alike else "texts_behind" if own > other else "texts_ahead"
    return say("texts", language, **told) + say(verdict, language, margin=ALIKE)


def _cheaper(
    exact: Sequence[Row], baselines: Sequence[Row], measured: Mapping[tuple[str, str], Row], language: str
) -> list[str]:
    """Who of those that could stand in for the best writes faster and who is smaller, by a fifth at least, and what it
    costs in bits/byte; none that loses to what needs no training."""
    best, said = exact[0], []
    able = [best, *(row for row in exact[1:] if _beats(row, baselines))]
    names = {str(row["name"]): row["bits_per_byte"] - best["bits_per_byte"] for row in able}
    shown = {"milliseconds": lambda v: duration(v / 1000, language), "bytes_on_disk": lambda v: data_size(v * 1e6)}
    for metric, text in shown.items():
        values = {name: row["value"] for (name, key), row in measured.items() if key == metric and name in names}
        own = values.get(str(best["name"]))
        least = min(values, key=lambda name: values[name], default=None)
        if own is not None and least is not None and values[least] < 0.8 * own:
            told = {
                "name": least,
                "least": text(values[least]),
                "best": best["name"],
                "own": text(own),
                "gap": names[least],
            }
            said.append(say(metric, language, **told))
    return said


def _copies(best: Row, measured: Mapping[tuple[str, str], Row], language: str) -> list[str]:
    row = measured.get((str(best["name"]), "verbatim"))
    real = ((row or {}).get("baseline") or {}).get("value")
    if row is None or real is None or row["value"] <= real + 1:
        return []
    return [say("copies", language, name=best["name"], own=row["value"], real=real)]


def _value(row: Row, metric: str, measured: Mapping[tuple[str, str], Row]) -> float | None:
    found = measured.get((str(row["name"]), metric))
    return None if found is None else float(found["value"])
