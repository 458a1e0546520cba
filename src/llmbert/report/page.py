"""Scores, curves and samples → one page a browser opens offline, and a run's figures → its model card."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError, UsageError
from llmbert.report import charts
from llmbert.report.numbers import data_size, duration, number, quantity, significant
from llmbert.report.texts import TEXTS

KINDS = ("exact", "conditional", "bound", "pseudo", "none", "unstated")
PAGE_BYTES = 1_000_000  # a page stays below this: the longest texts are cut, and the page says so
SURPRISE_BITS = (1, 3, 6, 10)  # where a token's shade deepens

# Column: key, heading, unit.
_COLUMNS = (
    ("bits_per_byte", ("bits/byte", "比特/字节"), ("", "")),
    ("nats_per_token", ("nats/token", "纳特/词元"), ("", "")),
    ("perplexity", ("perplexity", "困惑度"), ("", "")),
    ("train_seconds", ("training", "训练"), ("time", "时间")),
    ("tokens_per_second", ("training", "训练"), ("tokens/s", "词元/秒")),
    ("generate_tokens_per_second", ("writing", "生成"), ("tokens/s", "词元/秒")),
    ("parameters", ("parameters", "参数量"), ("", "")),
    ("bytes_on_disk", ("on disk", "磁盘占用"), ("", "")),
)
_SCORES = ("bits_per_byte", "nats_per_token", "perplexity")
_PREFIX = {"bound": ("≤ ", "≤ "), "pseudo": ("pseudo-", "伪")}
_LABELS = {"tokens": "词元数", "seconds": "秒", "steps": "步数", "nats/token": "纳特/词元", "bits/byte": "比特/字节"}


def write_report(path: Path, content: dict[str, Any], language: str = "en") -> None:
    """Write `content` (JSON-able; any key may be missing) as one HTML page below 1 MB, in one move.

    Keys: title, subtitle, summary: str;
    table: rows of name, family, likelihood (a `Likelihood`), bits_per_byte, interval [low, high] or None,
    nats_per_token, perplexity, train_seconds, tokens_per_second (training), generate_tokens_per_second, parameters,
    bytes_on_disk, note; baselines: rows of name, bits_per_byte;
    curves: name, x and train (equally long), valid [[x, y], ...], x_label, y_label;
    samples: name, prompt, text (what followed the prompt, without it), settings, tokens: [{text, probability}];
    data: rows [[name, value], ...], overlap; settings: {run: {key: value}}; facts: [[name, value], ...].

    `language` ("en" or "zh") picks the fixed texts; content is shown as given, escaped. Without matplotlib the page
    has tables only and says so. Raises UsageError for another language, LLMBertError where it cannot write.
    """
    if language not in ("en", "zh"):
        raise UsageError(f'Reports are written in "en" or "zh", not in {language!r}: choose one of the two.')
    cleaned = clean(content)
    for share in (1.0, 0.5, 0.25, 0.1, 0.03, 0.01):
        page = _Page(cleaned, language, share).render()
        if len(page.encode()) < PAGE_BYTES:
            break
    write_text(path, page)


class _Page:
    """One rendering of a content; `share` (0-1] of the room that long texts and many rows may take."""

    def __init__(self, content: Mapping[str, Any], language: str, share: float) -> None:
        self.content, self.language, self.share = content, language, share
        self.t = {key: pair[language == "zh"] for key, pair in TEXTS.items()}
        self.rows = sorted(content.get("table") or [], key=lambda row: _rank(row.get("bits_per_byte")))
        self.kinds = {str(row.get("name")): _kind(row) for row in self.rows}
        self.series = _series_of(content)
        if len(self.rows) == 1:
            self.t |= {key: self.t[f"{key}_one"] for key in ("scores", "curves", "samples")}
        self.charted = True

    def render(self) -> str:
        """The page's HTML."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        source = (files("llmbert") / "report.html.jinja").read_text(encoding="utf-8")
        context = self._context()
        shown = {
            **context,
            "scores": context["tables"],
            "table": context["tables"],
            "data": any(context["data"].values()),
        }
        names = ("scores", "table", "curves", "samples", "data", "settings", "facts")
        context["sections"] = [(name, self.t[f"nav_{name}"]) for name in names if shown[name]]
        return environment.from_string(source).render(context)

    def _context(self) -> dict[str, Any]:
        content = self.content
        data = content.get("data") or {}
        samples, samples_left_out = self._samples()
        settings, settings_left_out = self._some(list((content.get("settings") or {}).items()), 60)
        return {
            **{key: content.get(key) or "" for key in ("subtitle", "summary")},
            **{"lang": "zh-Hans" if self.language == "zh" else "en", "t": self.t, "glyphs": charts.GLYPHS},
            "title": content.get("title") or self.t["report"],
            **{"bars": self._bars(), "tables": self._tables(), "curves": self._curves()},
            "table_note": self._table_note(),
            **{"samples": samples, "samples_left_out": samples_left_out, "surprise_levels": _levels()},
            "tokens_shown": any(sample["tokens"] for group in samples for sample in group["samples"]),
            "data": {"rows": self._pairs(data.get("rows")), "overlap": self._value(data.get("overlap"))},
            "settings": [(name, self._pairs(values.items())) for name, values in settings],
            "settings_left_out": settings_left_out,
            "facts": self._pairs(content.get("facts")),
            "without_charts": not self.charted,
        }

    def _bars(self) -> list[dict[str, Any]]:
        """A chart of bits/byte for each kind that has any, all to one scale."""
        rows = [row for row in self.rows if number(row.get("bits_per_byte")) is not None and _kind(row) != "none"]
        if not rows:
            return []
        shown_rows, left_out = self._some(rows, 60)
        groups = {kind: [self._bar(row) for row in shown_rows if _kind(row) == kind] for kind in KINDS}
        bars = [bar for group in groups.values() for bar in group]
        axis = charts.BarAxis.over(self.t["axis"], bars, self._baselines())
        figures = [self._bar_figure(kind, groups[kind], axis) for kind in KINDS if groups[kind]]
        shown = [(self.t["bars_intervals"], axis.intervals), (self.t["bars_baselines"], bool(self._baselines()))]
        figures[0]["caption"] = self._joined(
            figures[0]["caption"], *(text for text, needed in shown if needed), left_out
        )
        return [figure for figure in figures if figure["wide"]]

    def _bar(self, row: Mapping[str, Any]) -> charts.Bar:
        return charts.Bar(str(row.get("name")), float(row["bits_per_byte"]), _interval(row), self._series(row))

    def _bar_figure(self, kind: str, bars: Sequence[charts.Bar], axis: charts.BarAxis) -> dict[str, Any]:
        t, lines = self.t, [] if kind == "pseudo" else self._baselines()
        label = t["bars_label"].format("; ".join([_said(bar, t["interval"]) for bar in bars] + _said_lines(lines)))
        wide, narrow = self._both(
            lambda narrow: charts.bar_chart(bars, lines, axis, label, f"bars-{kind}-{narrow:d}", narrow)
        )
        caption = t["bars_caption"] if kind == "exact" else t[f"{kind}_note"]
        return {"kind": kind, "title": t[kind], "wide": wide, "narrow": narrow, "caption": caption}

    def _table_note(self) -> str:
        kinds = [_kind(row) for row in self.rows]
        compared = any(kinds.count(kind) > 1 for kind in kinds)
        notes = [self.t["best_note"] if compared else "", self.t["kinds_note"] if len(set(kinds)) > 1 else ""]
        return self._joined(*notes, self._some(self.rows, 200)[1])

    def _joined(self, *texts: str) -> str:
        return ("" if self.language == "zh" else " ").join(text for text in texts if text)

    def _both(self, draw: Callable[[bool], str]) -> tuple[Any, Any]:
        """The wide and the narrow form of a chart; nothing where matplotlib is missing."""
        from markupsafe import Markup

        try:
            return Markup(draw(False)), Markup(draw(True))
        except charts.ChartsMissing:
            self.charted = False
            return None, None

    def _tables(self) -> list[dict[str, Any]]:
        """A table for each kind of likelihood; the baselines stand in the first that is a code length."""
        baselines = [{"name": name, "text": f"{value:.3f}"} for name, value in self._baselines()]
        tables = []
        shown, _ = self._some(self.rows, 200)
        for kind in KINDS:
            rows = [row for row in shown if _kind(row) == kind]
            keys = [key for key, _, _ in _COLUMNS if any(number(row.get(key)) is not None for row in shown)]
            keys = [key for key in keys if kind != "none" or key not in _SCORES]
            if rows:
                here = baselines if kind != "pseudo" and keys[:1] == ["bits_per_byte"] else []
                baselines = [] if here else baselines
                tables.append(self._table(kind, rows, keys, here))
        return tables if not baselines else [*tables, self._table("exact", [], ["bits_per_byte"], baselines)]

    def _table(
        self, kind: str, rows: Sequence[Mapping[str, Any]], keys: Sequence[str], baselines: Sequence[Mapping[str, str]]
    ) -> dict[str, Any]:
        chinese = self.language == "zh"
        columns = []
        for key, label, unit in _COLUMNS:
            before = _PREFIX.get(kind, ("", ""))[chinese] if key in _SCORES else ""
            if key in keys:
                columns.append({"key": key, "label": before + label[chinese], "unit": unit[chinese]})
        values = [number(row.get("bits_per_byte")) for row in rows]
        best = min((value for value in values if value is not None), default=None) if len(rows) > 1 else None
        return {
            **{"title": self.t[kind], "note": self.t[f"{kind}_note"], "columns": columns, "baselines": baselines},
            "rows": [self._row(row, columns, best) for row in rows],
        }

    def _row(self, row: Mapping[str, Any], columns: Iterable[Mapping[str, str]], best: float | None) -> dict[str, Any]:
        cells = []
        for column in columns:
            key, value, interval = column["key"], number(row.get(column["key"])), _interval(row)
            first = key == "bits_per_byte"
            cells.append(
                {
                    **{"label": self._joined(column["label"], column["unit"]), "key": first},
                    "text": "–" if value is None else _FORMATS[key](value, self.language),
                    "best": first and value is not None and value == best,
                    "interval": f"{interval[0]:.3f}–{interval[1]:.3f}" if first and interval else "",
                }
            )
        name, family = str(row.get("name")), str(row.get("family") or "")
        family = "" if family.casefold() in name.casefold() else family
        note = self._value(row.get("note"))
        return {"name": name, "family": family, "note": note, "series": self._series(row), "cells": cells}

    def _curves(self) -> list[dict[str, Any]]:
        """A chart for each pair of axes and kind of likelihood."""
        groups: dict[tuple[str, str, str], list[charts.Curve]] = {}
        for curve in self.content.get("curves") or []:
            name = str(curve.get("name"))
            train, valid = (
                _points(zip(curve.get("x") or [], curve.get("train") or [], strict=False)),
                curve.get("valid"),
            )
            drawn = charts.Curve(name, train, _points(valid or []), self.series.get(name, 0))
            axes = (str(curve.get("x_label") or ""), str(curve.get("y_label") or ""), self.kinds.get(name, "unstated"))
            if drawn.train or drawn.valid:
                groups.setdefault(axes, []).append(drawn)
        return [self._curve_figure(i, *axes, curves) for i, (axes, curves) in enumerate(groups.items())]

    def _curve_figure(self, i: int, x: str, y: str, kind: str, curves: Sequence[charts.Curve]) -> dict[str, Any]:
        t = self.t
        x, y = (_LABELS.get(label, label) if self.language == "zh" else label for label in (x, y))
        curves, left_out = self._some(curves, 40)
        logarithmic = charts.is_logarithmic(curves)
        caption = self._joined(t["curves_caption"], t["logarithmic"] if logarithmic else "", left_out)
        label = t["curves_label"].format(y, x, "; ".join(f"{curve.name} {curve.end():.3f}" for curve in curves))
        thin = [curve.thinned(charts.POINTS, logarithmic) for curve in curves]
        wide, narrow = self._both(lambda narrow: charts.line_chart(thin, x, y, label, f"curves-{i}-{narrow:d}", narrow))
        return {
            **{"title": f"{t[kind]}" if kind != "unstated" else f"{y}", "wide": wide, "narrow": narrow},
            "caption": caption,
            "units": t["curve_units"].format(y, x),
            "rows": [_ends(curve) for curve in curves],
        }

    def _samples(self) -> tuple[list[dict[str, Any]], str]:
        """The samples by prompt, and a sentence on those left out."""
        samples, left_out = self._some(self.content.get("samples") or [], 60)
        room = int(400_000 * self.share / max(1, len(samples)))
        groups: dict[str, dict[str, Any]] = {}
        for sample in samples:
            prompt, name = str(sample.get("prompt") or "")[: max(200, room)], str(sample.get("name"))
            group = groups.setdefault(prompt, {"prompt": prompt, "lang": _script(prompt), "samples": []})
            shown = {"name": name, "series": self.series.get(name, 0), "settings": self._value(sample.get("settings"))}
            group["samples"].append(shown | self._written(sample, room))
        return list(groups.values()), left_out

    def _written(self, sample: Mapping[str, Any], room: int) -> dict[str, Any]:
        """A sample's text or tokens, cut to `room` bytes of the page."""
        text, tokens = str(sample.get("text") or ""), sample.get("tokens") or []
        lengths = [120 + len(escape(str(token.get("text"))).encode()) for token in tokens[: room // 120 + 1]]
        characters = [len(escape(character).encode()) for character in text[:room]]
        kept, kept_characters = _fitting(lengths, room), _fitting(characters, room)
        cut = sum(len(str(token.get("text"))) for token in tokens[kept:]) if tokens else len(text) - kept_characters
        return {
            **{"text": text[:kept_characters], "tokens": [self._token(token) for token in tokens[:kept]]},
            "lang": _script(text or "".join(str(token.get("text")) for token in tokens)),
            "left_out": self.t["left_out_characters"].format(f"{cut:,}") if cut else "",
        }

    def _token(self, token: Mapping[str, Any]) -> dict[str, Any]:
        probability = number(token.get("probability"))
        if probability is None or not 0 < probability <= 1:
            return {"text": str(token.get("text")), "level": 0, "title": ""}
        bits = -math.log2(probability) + 0.0
        title = self.t["probability"].format(significant(probability, 2), f"{bits:.1f}")
        return {"text": str(token.get("text")), "level": sum(bits >= edge for edge in SURPRISE_BITS), "title": title}

    def _baselines(self) -> list[tuple[str, float]]:
        rows = [(str(row.get("name")), number(row.get("bits_per_byte"))) for row in self.content.get("baselines") or []]
        return sorted(((name, value) for name, value in rows if value is not None), key=lambda row: row[1])[:20]

    def _series(self, row: Mapping[str, Any]) -> int:
        return self.series.get(str(row.get("name")), 0)

    def _some(self, rows: Sequence[Any], most: int) -> tuple[Sequence[Any], str]:
        """The first `most` rows (fewer on a page cut short), and a sentence on the others."""
        most = max(3, int(most * self.share))
        return rows[:most], self.t["left_out"].format(f"{len(rows) - most:,}") if len(rows) > most else ""

    def _pairs(self, pairs: Iterable[Sequence[Any]] | None) -> list[tuple[str, str]]:
        shown, _ = self._some([(self._value(name), self._value(value) or "–") for name, value in pairs or []], 200)
        return list(shown)

    def _value(self, value: Any) -> str:
        """A setting or a fact as text."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return self.t["yes"] if value else self.t["no"]
        if isinstance(value, int):
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        most = max(100, int(4000 * self.share))
        return (
            text
            if len(text) <= most
            else f"{text[:most]} … {self.t['left_out_characters'].format(f'{len(text) - most:,}')}"
        )


_FORMATS: dict[str, Callable[[float, str], str]] = {
    "bits_per_byte": lambda value, _: f"{value:.3f}",
    "nats_per_token": lambda value, _: f"{value:.3f}",
    "perplexity": lambda value, _: significant(value),
    "train_seconds": duration,
    "tokens_per_second": lambda value, _: significant(value, 3),
    "generate_tokens_per_second": lambda value, _: significant(value, 3),
    "parameters": lambda value, _: quantity(value),
    "bytes_on_disk": lambda value, _: data_size(value),
}


def _rank(value: Any) -> float:
    known = number(value)
    return math.inf if known is None else known


def _kind(row: Mapping[str, Any]) -> str:
    kind = row.get("likelihood")
    return kind if kind in KINDS else "unstated"


def _interval(row: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = (number(end) for end in (row.get("interval") or (None, None)))
    return None if low is None or high is None else (min(low, high), max(low, high))


def _series_of(content: Mapping[str, Any]) -> dict[str, int]:
    """A series (colour and marker) for each name; shared by a family's runs where there are more names than series."""
    rows = [row for key in ("table", "curves", "samples") for row in content.get(key) or []]
    names = list(dict.fromkeys(str(row.get("name")) for row in rows))
    families = {str(row.get("name")): str(row.get("family")) for row in content.get("table") or [] if row.get("family")}
    if len(names) > charts.SERIES:
        shared = list(dict.fromkeys(families.get(name, name) for name in names))
        return {name: shared.index(families.get(name, name)) % charts.SERIES for name in names}
    return {name: i for i, name in enumerate(names)}


def _points(pairs: Iterable[Sequence[Any]]) -> list[tuple[float, float]]:
    numbers = [(number(x), number(y)) for x, y in pairs]
    return [(x, y) for x, y in numbers if x is not None and y is not None]


def _ends(curve: charts.Curve) -> dict[str, Any]:
    """A curve's row in the table that stands for the chart."""
    best = min(curve.valid, key=lambda point: point[1], default=None)
    return {
        **{"name": curve.name, "series": curve.series},
        "train_end": f"{curve.train[-1][1]:.3f}" if curve.train else "–",
        "valid_best": f"{best[1]:.3f}" if best else "–",
        "valid_at": significant(best[0]) if best else "–",
        "valid_end": f"{curve.valid[-1][1]:.3f}" if curve.valid else "–",
    }


def _said(bar: charts.Bar, interval: str) -> str:
    ends = f" ({interval.format(f'{bar.interval[0]:.3f}', f'{bar.interval[1]:.3f}')})" if bar.interval else ""
    return f"{bar.name} {bar.value:.3f}{ends}"


def _said_lines(lines: Iterable[tuple[str, float]]) -> list[str]:
    return [f"{name} {value:.2f}" for name, value in lines]


def _levels() -> list[str]:
    edges = (0, *SURPRISE_BITS)
    return [f"{low}–{high}" for low, high in pairwise(edges)] + [f"≥ {edges[-1]}"]


def _fitting(lengths: Iterable[int], room: int) -> int:
    """How many of the lengths fit into `room`, from the first."""
    count = 0
    for length in lengths:
        room -= length
        if room < 0:
            break
        count += 1
    return count


def _script(text: str) -> str:
    """The HTML language of a text as far as its script tells, so that the right glyphs are chosen: "" for unknown."""
    if re.search(r"[\u3040-\u30ff]", text):
        return "ja"
    if re.search(r"[\uac00-\ud7af]", text):
        return "ko"
    return "zh-Hans" if re.search(r"[\u3400-\u9fff]", text) else ""


def clean(value: Any) -> Any:
    """The content with line ends as \\n, and with pictures in place of characters no page may hold."""
    if isinstance(value, str):
        text = re.sub(r"\r\n?", "\n", value)
        text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: chr(0x2400 + ord(match[0])), text)
        return re.sub(r"[\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list | tuple) else value


def write_text(path: Path, text: str) -> None:
    """Write beside, then move: a reader sees the old file or the new one, whole."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise LLMBertError(f"{path} could not be written ({reason}): choose a folder you may write to.") from error
    finally:
        beside.unlink(missing_ok=True)
