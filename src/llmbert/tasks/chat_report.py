"""What a log of conversations tells: how fast the replies came, how they were liked, how varied and long they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.metrics import score_texts
from llmbert.metrics.generation.words import unspaced_words
from llmbert.protocols import LLMBertError
from llmbert.report import write_report
from llmbert.report.numbers import duration
from llmbert.tasks.chat_log import read_log
from llmbert.text.sentences import guess_language

LEVEL = 0.95
Z = 1.959963984540054  # of a standard normal, two-sided 95 %


@dataclass
class _Chats:
    """What a log holds, sorted out; a reply is known by its conversation and number."""

    turns: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    replies: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    thumbs: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    begins: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: int = 0


def chat_report(path: str | Path) -> dict[str, Any]:
    """The figures of a log, as JSON can hold them.

    conversations, replies, empty (replies without text), damaged (lines that cannot be read), runs: {name: replies};
    seconds and first_seconds: {"median", "p95", "longest"} or None; thumbs: {"up", "down", "none", "share_up",
    "interval"}, the share of up among the rated with Wilson's interval (Wilson 1927), None where nobody rated; the
    last thumb of a reply counts; distinct: {"1", "2", "3"} as `score_texts` gives them; words and characters per
    reply: {"mean", "median", "longest"}; dropped: replies whose history was cut; notes: [[thumb, note, reply]].

    Raises LLMBertError where the file cannot be read or holds no reply.
    """
    chats = _read(path)
    replies = list(chats.replies.values())
    texts = [reply["text"] for reply in replies if reply["text"].strip()]
    language = guess_language(" ".join(texts)) if texts else "en"
    return {
        "conversations": len({chat for chat, _ in chats.replies}),
        "replies": len(replies),
        "empty": len(replies) - len(texts),
        "damaged": chats.damaged,
        "runs": _runs(chats),
        "seconds": _spread([reply["seconds"] for reply in replies]),
        "first_seconds": _spread([r["first_seconds"] for r in replies if isinstance(r.get("first_seconds"), float)]),
        "thumbs": _thumbs(chats),
        "distinct": _distinct(texts, language),
        "words": _lengths([len(unspaced_words(text) if language == "zh" else text.split()) for text in texts]),
        "characters": _lengths([len(text) for text in texts]),
        "dropped": sum(bool(reply.get("dropped")) for reply in replies),
        "notes": [
            ["up" if thumb["good"] else "down", str(thumb["note"]), chats.replies[key]["text"]]
            for key, thumb in chats.thumbs.items()
            if thumb.get("note") and key in chats.replies
        ],
    }


def wilson_interval(successes: int, trials: int, z: float = Z) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927): where the true share may lie, also near 0 and 1 and of few trials.

    Raises LLMBertError without a trial.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise LLMBertError(f"{successes} of {trials} is no share; give at least one trial")
    share, square = successes / trials, z * z / trials
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    # At the ends the formula gives them exactly, but for rounding.
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == trials else centre + half)


def _read(path: str | Path) -> _Chats:
    chats = _Chats()
    tables = {"turn": chats.turns, "reply": chats.replies, "thumb": chats.thumbs}
    for record in read_log(path):
        if record["kind"] == "damaged":
            chats.damaged += 1
        elif record["kind"] == "begin":
            chats.begins[str(record["chat"])] = record
        else:
            tables[record["kind"]][str(record["chat"]), record["number"]] = record
    if not chats.replies:
        raise LLMBertError(f"{path} holds no reply; talk to a run first: llmbert chat RUN --log {path}")
    return chats


def _runs(chats: _Chats) -> dict[str, int]:
    found: dict[str, int] = {}
    for chat, _ in chats.replies:
        name = str(chats.begins.get(chat, {}).get("run", "?"))
        found[name] = found.get(name, 0) + 1
    return found


def _spread(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    median, p95 = np.quantile(seconds, [0.5, 0.95])
    return {"median": float(median), "p95": float(p95), "longest": float(max(seconds))}


def _lengths(lengths: Sequence[int]) -> dict[str, float] | None:
    if not lengths:
        return None
    return {"mean": float(np.mean(lengths)), "median": float(np.median(lengths)), "longest": max(lengths)}


def _thumbs(chats: _Chats) -> dict[str, Any]:
    rated = [thumb["good"] for key, thumb in chats.thumbs.items() if key in chats.replies]
    up = sum(rated)
    return {
        "up": up,
        "down": len(rated) - up,
        "none": len(chats.replies) - len(rated),
        "share_up": up / len(rated) if rated else None,
        "interval": list(wilson_interval(up, len(rated))) if rated else None,
    }


def _distinct(texts: Sequence[str], language: str) -> dict[str, dict[str, Any]] | None:
    if not texts:
        return None
    scores = score_texts(texts, None, ("distinct1", "distinct2", "distinct3"), language=language)
    return {name.removeprefix("distinct"): score for name, score in scores.items()}


# ---- the page ------------------------------------------------------------------------------------------------------

# (English, Chinese)
_WORDS = {
    "title": ("Conversations", "对话"),
    "subtitle": (
        "replies: {replies:,}, conversations: {conversations:,}",
        "{conversations:,} 次对话中的 {replies:,} 条回复",
    ),
    "speed": (
        "Half of the replies came within {median}, 95 % within {p95}.",
        "半数回复在 {median} 内完成，95% 在 {p95} 内完成。",
    ),
    "liked": (
        "{share:.0%} of {rated:,} rated replies were liked (95 % interval {low:.0%} to {high:.0%}).",
        "{rated:,} 条获评回复中 {share:.0%} 得到好评（95% 区间 {low:.0%} 至 {high:.0%}）。",
    ),
    "unrated": ("No reply was rated.", "没有回复得到评价。"),
    "empty": ("replies without text", "空回复"),
    "distinct": ("distinct-1 / -2 / -3", "distinct-1 / -2 / -3"),
    "words": ("words per reply: mean, median, longest", "每条回复词数：平均、中位数、最长"),
    "characters": ("characters per reply: mean, median, longest", "每条回复字符数：平均、中位数、最长"),
    "dropped": ("replies that were shown a cut history", "历史被截断的回复"),
    "damaged": ("lines of the log that cannot be read", "日志中无法读取的行"),
    "log": ("log", "日志"),
    "signature": ("signature", "签名"),
}


def write_chat_report(log: str | Path, page: str | Path, language: str = "en") -> dict[str, Any]:
    """Write the page of a log and return its figures. Errors as from `chat_report` and `write_report`."""
    report = chat_report(log)
    write_report(Path(page), _content(report, _read(log), Path(log).name, language), language)
    return report


def _content(report: dict[str, Any], chats: _Chats, log: str, language: str) -> dict[str, Any]:
    """The content of the page for `report.write_report`."""
    say = {key: pair[language == "zh"] for key, pair in _WORDS.items()}
    signatures = [
        [f"{say['signature']} distinct-{name}", score["signature"]]
        for name, score in (report["distinct"] or {}).items()
    ]
    times = [reply["seconds"] for reply in chats.replies.values()]
    return {
        "title": f"{say['title']}: {', '.join(report['runs'])}",
        "subtitle": say["subtitle"].format(**report),
        "summary": _summary(report, say, language),
        "usage": {**report, "times": times, "talks": _talks(chats)},
        "data": {"rows": _rows(report, say)},
        "facts": [[say["log"], log], *signatures],
    }


def _summary(report: dict[str, Any], say: dict[str, str], language: str) -> str:
    times = {name: duration(seconds, language) for name, seconds in report["seconds"].items()}
    thumbs = report["thumbs"]
    if thumbs["interval"] is None:
        liked = say["unrated"]
    else:
        low, high = thumbs["interval"]
        rated = thumbs["up"] + thumbs["down"]
        liked = say["liked"].format(share=thumbs["share_up"], rated=rated, low=low, high=high)
    return ("" if language == "zh" else " ").join((say["speed"].format(**times), liked))


def _rows(report: dict[str, Any], say: dict[str, str]) -> list[list[str]]:
    def lengths(spread: dict[str, float] | None) -> str:
        return f"{spread['mean']:.1f} / {spread['median']:.1f} / {spread['longest']:,}" if spread else "–"

    distinct = report["distinct"] or {}
    return [
        [say["distinct"], " / ".join(f"{score['score']:.3f}" for score in distinct.values()) or "–"],
        *([say[name], lengths(report[name])] for name in ("words", "characters")),
        *([say[name], f"{report[name]:,}"] for name in ("empty", "dropped", "damaged")),
    ]


def _talks(chats: _Chats) -> list[dict[str, Any]]:
    """Each conversation with its turns in order, and what was thought of the run's."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for (chat, number), turn in chats.turns.items():
        found.setdefault(chat, {})[number] = {"speaker": turn["speaker"], "text": turn["text"], "own": False}
    for (chat, number), reply in chats.replies.items():
        thumb = chats.thumbs.get((chat, number))
        found.setdefault(chat, {})[number] = {
            **{"speaker": reply["speaker"], "text": reply["text"], "own": True, "seconds": reply["seconds"]},
            "thumb": None if thumb is None else "up" if thumb["good"] else "down",
            "note": str((thumb or {}).get("note") or ""),
        }
    return [
        {"run": str(chats.begins.get(chat, {}).get("run", "?")), "turns": [turns[at] for at in sorted(turns)]}
        for chat, turns in found.items()
    ]
