"""A run with heads → its page and model card: scores with what costs nothing to beat, classes, mistakes, data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from llmbert.data.labelled import Examples
from llmbert.metrics.labels import spans_of
from llmbert.models.headed import HeadSettings
from llmbert.report import write_card
from llmbert.report.measures import metric_name
from llmbert.report.sheet import Sheet
from llmbert.runs import LOG, Run
from llmbert.text.tags import find_scheme, space_words
from llmbert.workbench.labelled.course import Course
from llmbert.workbench.labelled.scores import score_head
from llmbert.workbench.pages import fact_rows, write_page
from llmbert.workbench.wording import say

MOST_MISTAKES = 24  # shown for each head
ERRORS = ("mse",)  # scores that are better the lower they are

_WORDS: dict[str, tuple[str, str]] = {
    "subtitle": (
        "{parameters:,} parameters, {trained:,} of them trained",
        "{parameters:,} 个参数，其中 {trained:,} 个参与训练",
    ),
    "on_base": ("on {base}", "基于 {base}"),
    "from_scratch": ("from random weights", "从随机权重开始"),
    "summary": (
        "{task} on {valid:,} held-out examples: {metric} {score:.1f} %{interval}, learned from {train:,} examples "
        "{origin}.",
        "{task}：在 {valid:,} 个留出样例上 {metric} 为 {score:.1f}%{interval}；由 {train:,} 个样例学得，{origin}。",
    ),
    "interval": (" (95 % interval {0:.1f} to {1:.1f})", "（95% 区间 {0:.1f} 至 {1:.1f}）"),
    "frequent": ("the most frequent label", "最常见的标签"),
    "frequent_set": ("the most frequent set of labels", "最常见的标签组合"),
    "outside": ("every token outside", "全部标为 O"),
    "any": ("any of them", "任选其一"),
    "mean": ("the mean of the training examples", "训练样例的平均值"),
    "mistakes": (
        "The first held-out examples that it gets wrong; the reference is the label that was given.",
        "留出样例中最先出错的若干条；参考为原有标签。",
    ),
    "none": ("(none)", "（无）"),
    "examples": ("{0}: examples (training / held out)", "{0}：样例（训练 / 留出）"),
    "labels": ("{0}: labels", "{0}：标签数"),
    "long": ("{0}: too long, cut (training / held out)", "{0}：过长而截断（训练 / 留出）"),
    "passed": ("{0}: blank, passed over (training / held out)", "{0}：空白而略过（训练 / 留出）"),
    "passed_at_all": ("{0}: blank, passed over", "{0}：空白而略过"),
    "mended": ("{0}: sentences whose tags were mended (training / held out)", "{0}：修正了标注的句子（训练 / 留出）"),
    "mended_at_all": ("{0}: sentences whose tags were mended", "{0}：修正了标注的句子"),
    "overlap": (
        "{0}: {1:,} of {2:,} held-out texts stand among the training examples too.",
        "{0}：{2:,} 个留出文本中有 {1:,} 个也在训练样例之中。",
    ),
    "axis": ("100 - score, and loss", "100 - 得分，以及损失"),
    "tokens": ("tokens", "词元"),
}


def _say(key: str, language: str, *parts: Any, **named: Any) -> str:
    return _WORDS[key][language == "zh"].format(*parts, **named)


def write_labelled_page(run: Run, course: Course, predicted: Mapping[str, Any]) -> None:
    """`report.html`, `report.json` and the card `README.md`. predicted: what each head says of held-out examples."""
    language = run.facts.get("language", "en")
    content = page_content(run, course, predicted, language)
    write_page(run.folder, content, language)
    write_card(run.folder / "README.md", content)


def page_content(run: Run, course: Course, predicted: Mapping[str, Any], language: str = "en") -> dict[str, Any]:
    """What the page of a run with heads shows; see `write_report`."""
    facts, name = run.facts, run.folder.name
    alone = len(course.lessons) == 1
    tasks = [lesson.head.task for lesson in course.lessons.values()]
    metrics, classes, examples = [], [], []
    for head, lesson in course.lessons.items():
        scores = facts["heads"][head]["scores"]
        baselines = _baselines(lesson.head, lesson.train, lesson.valid, language)
        metrics += _metric_rows(name, None if alone else head, scores, baselines)
        if lesson.head.task == "classify":
            classes.append(_confusions(head, lesson.head, predicted[head], lesson.valid, scores))
        examples += _mistakes(name, head, lesson.head, predicted[head], lesson.valid, course.characters, language)
    settings = facts["settings"]
    return {
        "title": f"{facts['trunk']} + {', '.join(dict.fromkeys(tasks))} · {name}",
        "subtitle": _say("subtitle", language, parameters=facts["parameters"], trained=facts["trained_parameters"]),
        "summary": _summary(facts, course, language),
        "task": tasks[0] if alone else None,
        "table": [_row(name, facts, run)],
        "metrics": metrics,
        "classes": classes,
        "examples": examples,
        "examples_note": _say("mistakes", language),
        "curves": _curves(name, run, language),
        "settings": {name: {**settings["model"]["trunk_settings"], **settings["training"]}},
        "data": {"rows": _data_rows(facts, language), "overlap": _overlap(course, language)},
        "facts": fact_rows(facts, language),
    }


def _row(name: str, facts: Mapping[str, Any], run: Run) -> dict[str, Any]:
    kept = ("train_seconds", "tokens_per_second", "parameters")
    row = {
        "name": name,
        "family": facts["trunk"],
        "likelihood": facts["likelihood"],
        "bytes_on_disk": run.bytes_on_disk,
    }
    return row | {key: facts.get(key) for key in kept}


def _summary(facts: Mapping[str, Any], course: Course, language: str) -> str:
    origin = _say("on_base", language, base=facts["base"]) if facts["base"] else _say("from_scratch", language)
    found = []
    for head, lesson in course.lessons.items():
        metric, score = next(iter(facts["heads"][head]["scores"].items()))
        interval = _say("interval", language, *score["interval"]) if score["interval"] else ""
        values = {"train": len(lesson.train), "valid": len(lesson.valid), "score": score["score"]}
        shown = metric_name(metric, Sheet(language))
        found.append(_say("summary", language, task=head, metric=shown, interval=interval, origin=origin, **values))
    return _joined(found, language)


def _metric_rows(
    name: str, task: str | None, scores: Mapping[str, Any], baselines: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "task": task,
            "metric": metric,
            "value": score["score"],
            "interval": score["interval"],
            "unit": "" if metric in ERRORS else "%",
            "higher_is_better": metric not in ERRORS,
            "signature": score["signature"],
            "baseline": baselines.get(metric),
        }
        for metric, score in scores.items()
    ]


def _baselines(settings: HeadSettings, train: Examples, valid: Examples, language: str) -> dict[str, dict[str, Any]]:
    """What costs nothing, by metric: always the most frequent class, set of classes or tag of the training examples,
    always their mean number, any of the second texts."""
    if settings.task == "regress":
        numbers, mean = np.array(valid.labels), float(np.mean(train.labels or ()))
        return {"mse": {"name": _say("mean", language), "value": float(((numbers - mean) ** 2).mean())}}
    if settings.task == "embed":
        chance = {"name": _say("any", language), "value": 100 / max(1, len(valid))}
        return {} if valid.labels is not None else {"found": chance}
    labels, own = train.labels or [], valid.labels or []
    key, always = "frequent", next(iter(train.counts()), "")
    constant: list[Any] = [always] * len(own)
    if settings.task == "multilabel":
        key, several = "frequent_set", Counter(tuple(sorted(each)) for each in labels).most_common(1)[0][0]
        constant = [list(several)] * len(own)
    elif settings.task == "tag":
        key, always = ("outside", "O") if find_scheme(settings.labels) is not None else (key, always)
        constant = [[always] * len(words) for words in own]
    scores = score_head(settings, constant, valid, resamples=2)
    return {metric: {"name": _say(key, language), "value": score["score"]} for metric, score in scores.items()}


def _confusions(
    head: str, settings: HeadSettings, predicted: Sequence[str], valid: Examples, scores: Mapping[str, Any]
) -> dict[str, Any]:
    number = {label: i for i, label in enumerate(settings.labels)}
    counts = np.zeros((len(number), len(number)), dtype=int)
    for guess, true in zip(predicted, valid.labels or (), strict=True):
        counts[number[true], number[guess]] += 1
    by_class = scores["macro-f1"]["by_class"]
    return {"name": head, "labels": list(settings.labels), "counts": counts.tolist(), "by_class": by_class}


def _mistakes(
    name: str,
    head: str,
    settings: HeadSettings,
    predicted: Any,
    valid: Examples,
    characters: bool,
    language: str,
) -> list[dict[str, Any]]:
    """The first held-out examples that the head gets wrong."""
    if settings.task in ("regress", "embed"):
        return []
    spans = settings.task == "tag" and find_scheme(settings.labels) is not None
    found: list[dict[str, Any]] = []
    for i, (guess, true) in enumerate(zip(predicted, valid.labels or (), strict=True)):
        if guess != true and len(found) < MOST_MISTAKES:
            words = valid.texts[i]
            text = "".join(space_words(words, characters)) if settings.task == "tag" else words
            own, wanted = (_shown(answer, words, spans, characters, language) for answer in (guess, true))
            second = f"\n{valid.others[i]}" if valid.others else ""
            found.append({"name": name, "source": text + second, "text": own, "references": [wanted], "note": head})
    return found


def _shown(answer: Any, words: Any, spans: bool, characters: bool, language: str) -> str:
    if isinstance(answer, str):
        return answer
    if not spans:
        return ", ".join(answer) or _say("none", language)
    marked = [f"{s.kind} {''.join(space_words(words[s.start : s.end], characters))}" for s in spans_of(answer)]
    return "; ".join(marked) or _say("none", language)


def _curves(name: str, run: Run, language: str) -> list[dict[str, Any]]:
    """The loss over the tokens that were read, and 100 - score of the held-out examples after each epoch."""
    lines = [json.loads(line) for line in (run.folder / LOG).read_text("utf-8").splitlines()]
    stride = max(1, len(lines) // 600)
    points = [lines[i : i + stride] for i in range(0, len(lines), stride)]
    return [
        {
            "name": name,
            "x": [part[-1]["tokens"] for part in points],
            "train": [float(np.mean([line["loss"] for line in part])) for part in points],
            "valid": [[line["tokens"], line["valid"]] for line in lines if "valid" in line],
            "x_label": _say("tokens", language),
            "y_label": _say("axis", language),
        }
    ]


def _data_rows(facts: Mapping[str, Any], language: str) -> list[list[str]]:
    both = "{:,} / {:,}".format
    rows: list[list[str]] = []
    for head, data in facts["data"].items():
        rows.append([_say("examples", language, head), both(data["train"], data["valid"])])
        if data["labels"]:
            rows.append([_say("labels", language, head), f"{len(Counter(data['labels'])):,}"])
        long = [data["truncated"][side] + data["cut"][side] for side in ("train", "valid")]
        rows.append([_say("long", language, head), both(*long)])
        for key, note in (("passed", "blank"), ("mended", "mended")):
            counts = [data["notes"][side].get(note, 0) for side in ("train", "valid")]
            if any(counts):
                if facts["source"]["parts"][head]["valid"] is None:  # and which side it would have been on is unknown
                    rows.append([_say(f"{key}_at_all", language, head), f"{sum(counts):,}"])
                else:
                    rows.append([_say(key, language, head), both(*counts)])
    whole = sha256(" ".join(part for data in facts["data"].values() for part in data["fingerprints"]).encode())
    return [*rows, [say("fingerprint", language), whole.hexdigest()[:16]]]


def _overlap(course: Course, language: str) -> str:
    """How many held-out texts are word for word in the training examples."""
    found = []
    for head, lesson in course.lessons.items():
        known = {repr(text) for text in lesson.train.texts}
        shared = sum(repr(text) in known for text in lesson.valid.texts)
        found.append(_say("overlap", language, head, shared, len(lesson.valid)))
    return _joined(found, language)


def _joined(sentences: Sequence[str], language: str) -> str:
    return Sheet(language).joined(*sentences)
