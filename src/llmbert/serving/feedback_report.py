"""A database of feedback → satisfaction, response times, the worst answers, and pairs that a training reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmbert.protocols import LLMBertError
from llmbert.report import write_report
from llmbert.runs import write_text
from llmbert.serving.feedback import read_thumbs, read_times
from llmbert.tasks.chat_report import wilson_interval

SHARES = {"median": 0.5, "p50": 0.5, "p95": 0.95, "p99": 0.99}

# (English, Chinese)
_WORDS = {
    "title": ("What people thought of the answers", "用户对回答的评价"),
    "subtitle": ("answers: {answers:,}, rated: {rated:,}", "回答：{answers:,}，获评：{rated:,}"),
    "liked": (
        "{share:.0%} of {rated:,} rated answers were liked (95 % interval {low:.0%} to {high:.0%}).",
        "{rated:,} 条获评回答中 {share:.0%} 得到好评（95% 区间 {low:.0%} 至 {high:.0%}）。",
    ),
    "unrated": ("No answer was rated.", "没有回答得到评价。"),
    "run": ("{name}: answers, liked, p50 / p95 / p99 in seconds", "{name}：回答数、好评率、p50 / p95 / p99（秒）"),
    "database": ("database", "数据库"),
    "user": ("asked", "提问"),
    "own": ("answer", "回答"),
}


def feedback_report(path: Path, worst: int = 10) -> dict[str, Any]:
    """The figures of a database, as JSON can hold them.

    answers, thumbs {"up", "down", "none", "share_up", "interval"} (Wilson's, 95 %), seconds and first_seconds
    {"median", "p50", "p95", "p99", "longest"} or None, of all and under "runs" of each; worst: rated down, the slowest
    first, as {"run", "kind", "prompt", "answer", "note", "better", "seconds"}.

    Raises LLMBertError for a file that is no such database or holds no answer.
    """
    times, thumbs = read_times(path), list(read_thumbs(path))
    if not times and not thumbs:
        raise LLMBertError(f"{path} holds no answer yet; ask the server something first")
    names = sorted({row["run"] for row in times} | {row["run"] for row in thumbs})
    down = sorted((row for row in thumbs if not row["good"]), key=lambda row: -row["seconds"])
    kept = ("run", "kind", "prompt", "answer", "note", "better", "seconds")
    return _figures(times, thumbs) | {
        "runs": {
            name: _figures([row for row in times if row["run"] == name], [row for row in thumbs if row["run"] == name])
            for name in names
        },
        "worst": [{key: row[key] for key in kept} for row in down[:worst]],
    }


def _figures(times: Sequence[dict[str, Any]], thumbs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    up, rated = sum(row["good"] for row in thumbs), len(thumbs)
    answers = max(len(times), rated)
    return {
        "answers": answers,
        "thumbs": {
            "up": up,
            "down": rated - up,
            "none": answers - rated,
            "share_up": up / rated if rated else None,
            "interval": list(wilson_interval(up, rated)) if rated else None,
        },
        "seconds": _spread([row["seconds"] for row in times]),
        "first_seconds": _spread([row["first_seconds"] for row in times if row["first_seconds"] is not None]),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    at = np.quantile(seconds, list(SHARES.values())).tolist()
    return dict(zip(SHARES, at, strict=True)) | {"longest": float(max(seconds))}


def write_pairs(path: Path, out: Path) -> int:
    """Prompts with the answers people liked, or said would have been better, as JSON lines of source and target.

    `llmbert train --data FILE --fields source=source,target=target` (or `text=text`) learns from them; an answer that
    was only disliked is left out. Returns how many there are; raises LLMBertError where there are none.
    """
    pairs = [
        {"source": row["prompt"], "target": target, "text": row["prompt"] + target, "run": row["run"]}
        for row in read_thumbs(path)
        if (target := row["better"] or (row["answer"] if row["good"] else None))
    ]
    if not pairs:
        raise LLMBertError(f"{path} holds no answer that was liked or corrected; there is nothing to learn from yet")
    write_text(out, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))
    return len(pairs)


def write_feedback_page(path: Path, found: dict[str, Any], out: Path, language: str = "en") -> None:
    """The page of a report. Errors as from `write_report`."""
    say = {key: pair[language == "zh"] for key, pair in _WORDS.items()}
    thumbs = found["thumbs"]
    rated = thumbs["up"] + thumbs["down"]
    interval = thumbs["interval"]
    liked = (
        say["liked"].format(share=thumbs["share_up"], rated=rated, low=interval[0], high=interval[1])
        if interval
        else say["unrated"]
    )
    talks = [
        {
            "run": row["run"],
            "turns": [
                {"speaker": say["user"], "text": row["prompt"], "own": False},
                {
                    **{"speaker": say["own"], "text": row["answer"], "own": True, "seconds": row["seconds"]},
                    **{"thumb": "up" if row["good"] else "down", "note": row["note"] or row["better"] or ""},
                },
            ],
        }
        for row in sorted(read_thumbs(path), key=lambda row: (row["good"], -row["seconds"]))
    ]
    content = {
        "title": say["title"],
        "subtitle": say["subtitle"].format(answers=found["answers"], rated=rated),
        "summary": liked,
        "usage": {
            "replies": found["answers"],
            **{key: found[key] for key in ("seconds", "first_seconds", "thumbs")},
            **{"times": [row["seconds"] for row in read_times(path)], "talks": talks},
        },
        "data": {"rows": [_row(name, run, say) for name, run in found["runs"].items()]},
        "facts": [[say["database"], path.name]],
    }
    write_report(out, content, language)


def _row(name: str, run: dict[str, Any], say: dict[str, str]) -> list[str]:
    share, seconds = run["thumbs"]["share_up"], run["seconds"]
    times = " / ".join(f"{seconds[key]:.2f}" for key in ("p50", "p95", "p99")) if seconds else "–"
    return [say["run"].format(name=name), f"{run['answers']:,}, {'–' if share is None else f'{share:.0%}'}, {times}"]
