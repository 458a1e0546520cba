"""Scores, curves and samples → one page a browser opens offline, and a run's figures → its model card."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError, UsageError
from llmbert.report import charts
from llmbert.report.classes import class_sections
from llmbert.report.conversations import usage_section
from llmbert.report.documents import detection_section, map_section, removal_section, trace_section
from llmbert.report.examples import example_section
from llmbert.report.figures import figure_names, figure_sections
from llmbert.report.measures import evidence_section, metric_section
from llmbert.report.numbers import data_size, duration, number, quantity, significant
from llmbert.report.sheet import Sheet, fitting, interval_of, script

KINDS = ("exact", "conditional", "bound", "pseudo", "none", "unstated")
PAGE_BYTES = 1_000_000  # a page stays below this: the longest texts are cut, and the page says so
SURPRISE_BITS = (1, 3, 6, 10)  # where a token's shade deepens
SECTIONS = (
    *("removals", "metrics", "usage", "classes", "examples", "trace", "map", "detection", "figures", "scores", "table"),
    "evidence",
    *("mixtures", "latent", "curves", "samples", "data", "advice", "settings", "facts"),
)
_OWN_SCALE = ("conditional", "pseudo")  # kinds whose bars stand to a scale of their own, for they measure another thing
_SPARE = (*_OWN_SCALE, "none")  # kinds whose tables have no column without a figure

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

    Keys: title, subtitle, summary: str; task: what a card is told, see `write_card`;
    metrics: rows of name (a run), metric ("bleu", or any name), value, interval [low, high] or None, unit ("" or "%"),
    higher_is_better, signature, baseline {name, value} or None, and where runs have several tasks their task;
    evidence: rows like those of metrics, on what runs write and what they take, shown behind the table; closest: the
    value nearest to the baseline's (which then is real text) is the best one;
    examples: rows of name (a run), source, text (what it wrote), references [str, ...], prefix (of the source), note;
    examples_note: a sentence on how they were chosen, or True: they are the first held-out ones;
    classes: {name, labels, counts [[texts of true label i taken for label j]], by_class {label: {precision, recall,
    f1 (%), true, predicted}}} or a list of these, by_class from the counts where it is missing;
    usage: what `tasks.chat_report.chat_report` returns, and times: [seconds of a reply, ...], talks: [{run, turns:
    [{speaker, text, own (whether the run wrote it), seconds, thumb ("up", "down", None), note}]}];
    table: rows of name, family, likelihood (a `Likelihood`), bits_per_byte, interval [low, high] or None,
    nats_per_token, perplexity, train_seconds, tokens_per_second (training), generate_tokens_per_second, parameters,
    bytes_on_disk, note; baselines: rows of name, bits_per_byte;
    curves: name, x and train (equally long), valid [[x, y], ...], x_label, y_label, note (a sentence below them);
    mixtures: of each mixture name, told (a sentence on how it mixes), members [[name, weight, nats/token alone], ...],
    ways [[way, nats/token], ...];
    latent: how a latent variable is used: verdict, rows [[name, value], ...], rebuilt [[text, what was made of it],
    ...], line [text, ...] (between two texts);
    removals: what became of documents, see `documents.removal_section`;
    trace: texts with where they stand in training text, see `documents.trace_section`;
    map: points [[x, y, label, text], ...]; detection: scores of documents, see `documents.detection_section`;
    figures: whatever else is drawn, each {title, group (a heading of the page), kind ("lines", "points", "steps" or
    "bars"), x_label, y_label, x_log, y_log, note (a sentence), series: [{name, points [[x, y], ...], band [[x, low,
    high], ...], style ("line", "dashed", "points" or "steps", else as the kind says), of (the name of the series whose
    colour it shares), muted}], bars: [{name, value, interval, muted}], table (rows, the first of them the headings;
    else some points of each series)}; a step reaches from its x to the next one's; with a table alone that is shown;
    samples: name, prompt, text (what followed the prompt, without it), settings, tokens: [{text, probability}];
    data: rows [[name, value], ...], overlap; advice: sentences, the first of which says what to ship;
    settings: {run: {key: value}}; facts: [[name, value], ...].

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


@cache
def _template() -> Any:
    """The page's template, compiled; those it includes lie beside it."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str:
        return (files("llmbert") / name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(source)
    )
    return environment.get_template("report.html.jinja")


class _Page:
    """One rendering of a content; `share` (0-1] of the room that long texts and many rows may take."""

    def __init__(self, content: Mapping[str, Any], language: str, share: float) -> None:
        self.content, self.language = content, language
        self.sheet = Sheet(language, share, _series_of(content))
        self.t, self.series = self.sheet.t, self.sheet.series
        self.rows = sorted(content.get("table") or [], key=lambda row: _rank(row.get("bits_per_byte")))
        self.kinds = {str(row.get("name")): _kind(row) for row in self.rows}
        self.one = len(self.rows) == 1 or (not self.rows and len(_names(content, "metrics", "examples")) == 1)
        if len(self.rows) == 1:
            self.t |= {key: self.t[f"{key}_one"] for key in ("scores", "curves", "samples")}
        if len(content.get("mixtures") or []) == 1:
            self.t["mixtures"] = self.t["mixtures_one"]
        if self.one:
            self.t |= {key: self.t[f"{key}_one"] for key in ("metrics", "examples", "classes")}
        self.charted = True

    def render(self) -> str:
        """The page's HTML."""
        context = self._context()
        shown = {
            **context,
            "metrics": context["metrics"]["figures"],
            "examples": context["examples"]["groups"],
            "scores": context["bars"] or self._has_bars(),
            "table": context["tables"],
            "data": any(context["data"].values()),
            "latent": any(context["latent"].values()),
        }
        names = {name: [(name, self.t[f"nav_{name}"])] for name in SECTIONS if shown[name]}
        names |= {"figures": figure_names(context["figures"])} if context["figures"] else {}
        context["sections"] = [entry for entries in names.values() for entry in entries]
        context["shown"] = set(names)
        return _template().render(context)

    def _context(self) -> dict[str, Any]:
        content, sheet = self.content, self.sheet
        data = content.get("data") or {}
        samples, samples_left_out = self._samples()
        settings, settings_left_out = sheet.some(list((content.get("settings") or {}).items()), 60)
        return {
            "subtitle": content.get("subtitle") or "",
            "summary": _unbroken(str(content.get("summary") or "")),
            **{"lang": "zh-Hans" if self.language == "zh" else "en", "t": self.t, "glyphs": charts.GLYPHS},
            "title": content.get("title") or self.t["report"],
            "metrics": metric_section(content.get("metrics") or [], sheet, list(self.kinds)),
            "examples": example_section(
                content.get("examples") or [], sheet, content.get("examples_note"), one_run=self.one
            ),
            "classes": class_sections(content.get("classes"), sheet),
            "usage": usage_section(content.get("usage"), sheet),
            "removals": removal_section(content.get("removals"), sheet),
            "trace": trace_section(content.get("trace"), sheet),
            "map": map_section(content.get("map"), sheet, self._both),
            "detection": detection_section(content.get("detection"), sheet, self._both),
            "figures": figure_sections(content.get("figures"), sheet, self._both),
            **{"bars": self._bars(), "tables": self._tables(), "curves": self._curves()},
            "table_note": self._table_note(),
            **{"samples": samples, "samples_left_out": samples_left_out, "surprise_levels": _levels()},
            "tokens_shown": any(sample["tokens"] for group in samples for sample in group["samples"]),
            "evidence": evidence_section(content.get("evidence") or [], sheet, list(self.kinds)),
            "mixtures": [self._mixture(mixture) for mixture in content.get("mixtures") or []],
            "latent": self._latent(content.get("latent") or {}),
            "advice": [_with_flags(_unbroken(sheet.value(sentence))) for sentence in content.get("advice") or []],
            "data": {"rows": sheet.pairs(data.get("rows")), "overlap": sheet.value(data.get("overlap"))},
            "settings": [(name, sheet.pairs(values.items())) for name, values in settings],
            "settings_left_out": settings_left_out,
            "facts": sheet.pairs(content.get("facts")),
            "nats": _COLUMNS[1][1][self.language == "zh"],
            "without_charts": not self.charted,
        }

    def _latent(self, latent: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "verdict": _with_flags(self.sheet.value(latent.get("verdict"))),
            "rows": self.sheet.pairs(latent.get("rows")),
            "rebuilt": self.sheet.pairs(latent.get("rebuilt")),
            "line": [self.sheet.value(text) for text in latent.get("line") or []],
        }

    def _mixture(self, mixture: Mapping[str, Any]) -> dict[str, Any]:
        """A mixture's members and ways of mixing, figures as text."""
        return {
            "name": str(mixture.get("name")),
            "series": self.sheet.series_of(mixture),
            "told": self.sheet.value(mixture.get("told")),
            "members": [(str(name), *map(_three_digits, values)) for name, *values in mixture.get("members") or []],
            "ways": [(str(name), _three_digits(value)) for name, value in mixture.get("ways") or []],
        }

    def _has_bars(self) -> bool:
        return any(number(row.get("bits_per_byte")) is not None and _kind(row) != "none" for row in self.rows)

    def _bars(self) -> list[dict[str, Any]]:
        """A chart of bits/byte for each kind that has any; those that measure the same thing stand to one scale."""
        rows = [row for row in self.rows if number(row.get("bits_per_byte")) is not None and _kind(row) != "none"]
        if not rows:
            return []
        shown_rows, left_out = self.sheet.some(rows, 60)
        groups = {kind: [self._bar(row) for row in shown_rows if _kind(row) == kind] for kind in KINDS}
        scales: dict[str, list[charts.Bar]] = {}
        for kind, bars in groups.items():
            scales.setdefault(kind if kind in _OWN_SCALE else "", []).extend(bars)
        axes = {
            scale: charts.BarAxis.over(self.t["axis_pseudo" if scale == "pseudo" else "axis"], bars, self._lines(scale))
            for scale, bars in scales.items()
            if bars
        }
        kinds = [kind for kind in KINDS if groups[kind]]
        figures = [self._bar_figure(kind, groups[kind], axes[kind if kind in _OWN_SCALE else ""]) for kind in kinds]
        shown = [
            (self.t["bars_intervals"], any(axis.intervals for axis in axes.values())),
            (self.t["bars_baselines"], any(self._lines(kind) for kind in kinds)),
        ]
        figures[0]["caption"] = self.sheet.joined(
            figures[0]["caption"], *(text for text, needed in shown if needed), left_out
        )
        return [figure for figure in figures if figure["wide"]]

    def _lines(self, kind: str) -> list[tuple[str, float]]:
        """The baselines, for a kind that is a code length."""
        return [] if kind == "pseudo" else self._baselines()

    def _bar(self, row: Mapping[str, Any]) -> charts.Bar:
        return charts.Bar(
            str(row.get("name")), float(row["bits_per_byte"]), interval_of(row), self.sheet.series_of(row)
        )

    def _bar_figure(self, kind: str, bars: Sequence[charts.Bar], axis: charts.BarAxis) -> dict[str, Any]:
        t, lines = self.t, self._lines(kind)
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
        return self.sheet.joined(*notes, self.sheet.some(self.rows, 200)[1])

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
        shown, _ = self.sheet.some(self.rows, 200)
        for kind in KINDS:
            rows = [row for row in shown if _kind(row) == kind]
            measured = rows if kind in _SPARE else shown
            keys = [key for key, _, _ in _COLUMNS if any(number(row.get(key)) is not None for row in measured)]
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
            key, value, interval = column["key"], number(row.get(column["key"])), interval_of(row)
            first = key == "bits_per_byte"
            cells.append(
                {
                    **{"label": self.sheet.joined(column["label"], column["unit"]), "key": first},
                    "text": "–" if value is None else _FORMATS[key](value, self.language),
                    "best": first and value is not None and value == best,
                    "interval": f"{interval[0]:.3f}–{interval[1]:.3f}" if first and interval else "",
                }
            )
        name, family = str(row.get("name")), str(row.get("family") or "")
        family = "" if family.casefold() in name.casefold() else family
        note = self.sheet.value(row.get("note"))
        return {"name": name, "family": family, "note": note, "series": self.sheet.series_of(row), "cells": cells}

    def _curves(self) -> list[dict[str, Any]]:
        """A chart for each pair of axes and kind of likelihood."""
        groups: dict[tuple[str, str, str], list[charts.Curve]] = {}
        notes: dict[tuple[str, str, str], list[str]] = {}
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
                notes.setdefault(axes, []).append(self.sheet.value(curve.get("note")))
        return [
            self._curve_figure(i, axes, curves, dict.fromkeys(notes[axes]))
            for i, (axes, curves) in enumerate(groups.items())
        ]

    def _curve_figure(
        self, i: int, axes: tuple[str, str, str], curves: Sequence[charts.Curve], notes: Iterable[str]
    ) -> dict[str, Any]:
        t, (x, y, kind) = self.t, axes
        x, y = (_LABELS.get(label, label) if self.language == "zh" else label for label in (x, y))
        curves, left_out = self.sheet.some(curves, 40)
        logarithmic = charts.is_logarithmic(curves)
        caption = self.sheet.joined(t["curves_caption"], t["logarithmic"] if logarithmic else "", *notes, left_out)
        label = t["curves_label"].format(y, x, "; ".join(f"{curve.name} {curve.end():.3f}" for curve in curves))
        thin = [curve.thinned(charts.POINTS, logarithmic) for curve in curves]
        wide, narrow = self._both(lambda narrow: charts.line_chart(thin, x, y, label, f"curves-{i}-{narrow:d}", narrow))
        return {
            # What a family without a likelihood is taught by is none either, so its curve goes by its name.
            "title": ", ".join(c.name for c in curves) if kind == "none" else y if kind == "unstated" else t[kind],
            **{"wide": wide, "narrow": narrow},
            "caption": caption,
            "units": t["curve_units"].format(y, x),
            "rows": [_ends(curve) for curve in curves],
        }

    def _samples(self) -> tuple[list[dict[str, Any]], str]:
        """The samples by prompt, and a sentence on those left out."""
        samples, left_out = self.sheet.some(self.content.get("samples") or [], 60)
        room = int(400_000 * self.sheet.share / max(1, len(samples)))
        groups: dict[str, dict[str, Any]] = {}
        for sample in samples:
            prompt, name = str(sample.get("prompt") or "")[: max(200, room)], str(sample.get("name"))
            group = groups.setdefault(prompt, {"prompt": prompt, "lang": script(prompt), "samples": []})
            shown = {
                "name": name,
                "series": self.series.get(name, 0),
                "settings": self.sheet.value(sample.get("settings")),
            }
            group["samples"].append(shown | self._written(sample, room))
        return list(groups.values()), left_out

    def _written(self, sample: Mapping[str, Any], room: int) -> dict[str, Any]:
        """A sample's text or tokens, cut to `room` bytes of the page."""
        text, tokens = str(sample.get("text") or ""), sample.get("tokens") or []
        lengths = [120 + len(escape(str(token.get("text"))).encode()) for token in tokens[: room // 120 + 1]]
        kept = fitting(lengths, room)
        shown, left_out = self.sheet.cut(text, room)
        if tokens:
            left_out = self.sheet.cut_note(sum(len(str(token.get("text"))) for token in tokens[kept:]))
        return {
            **{"text": shown, "tokens": [self._token(token) for token in tokens[:kept]], "left_out": left_out},
            "lang": script(text or "".join(str(token.get("text")) for token in tokens)),
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


def _three_digits(value: Any) -> str:
    known = number(value)
    return "–" if known is None else f"{known:.3f}"


def _unbroken(text: str) -> str:
    """The text, in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|(?:s|min|h|ms|kB|MB|GB)\b)", "\u00a0", text)


def _with_flags(text: str) -> Any:
    """HTML of a text in which no line ends within a flag of the command line."""
    from markupsafe import Markup

    return Markup(
        re.sub(
            r"--[a-z][a-z-]*(?: [a-z_]+=(?:…|[\w]+(?:\.\d+)?)| \d+)?", r'<span class="flag">\g<0></span>', escape(text)
        )
    )


def _rank(value: Any) -> float:
    known = number(value)
    return math.inf if known is None else known


def _kind(row: Mapping[str, Any]) -> str:
    kind = row.get("likelihood")
    return kind if kind in KINDS else "unstated"


def _series_of(content: Mapping[str, Any]) -> dict[str, int]:
    """A series (colour and marker) for each name; shared by a family's runs where there are more names than series."""
    names = _names(content, "table", "curves", "samples", "metrics", "evidence", "examples")
    names += [name for name in _talkers(content) if name not in names]
    families = {str(row.get("name")): str(row.get("family")) for row in content.get("table") or [] if row.get("family")}
    if len(names) > charts.SERIES:
        shared = list(dict.fromkeys(families.get(name, name) for name in names))
        return {name: shared.index(families.get(name, name)) % charts.SERIES for name in names}
    return {name: i for i, name in enumerate(names)}


def _names(content: Mapping[str, Any], *keys: str) -> list[str]:
    """The names in the rows of these keys, each once."""
    return list(dict.fromkeys(str(row.get("name")) for key in keys for row in content.get(key) or []))


def _talkers(content: Mapping[str, Any]) -> list[str]:
    """The runs in the logged conversations."""
    talks = (content.get("usage") or {}).get("talks") or []
    return list(dict.fromkeys(str(talk.get("run")) for talk in talks))


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
