"""A run's measured figures → its model card: Markdown with front matter as Hugging Face reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbert.report.card_tasks import (
    LABELLING,
    METRIC_TYPES,
    Purpose,
    intended_use,
    limits,
    loading,
    purpose_of,
    purposes,
)
from llmbert.report.measures import REAL, metric_figures, metric_name
from llmbert.report.numbers import data_size, duration, number, quantity, significant
from llmbert.report.page import clean, write_text
from llmbert.report.sheet import Sheet
from llmbert.report.texts import BASELINES

NOT_MEASURED = "not measured"
_METRICS = (("bits_per_byte", "bits/byte"), ("nats_per_token", "nats/token"), ("perplexity", "perplexity"))
_LIKELIHOODS = {
    "exact": "Likelihood: exact. The figures are the model's own probability of the held-out text.",
    "conditional": "Likelihood: exact given a source; comparable only with models given the same source.",
    "bound": "Likelihood: a bound. The true figures are at most these.",
    "pseudo": "Likelihood: pseudo. Each token is predicted from both its sides, so these figures are no code length.",
    "none": "Likelihood: none. This model does not say how probable a given text is.",
}


def write_card(path: Path, content: dict[str, Any]) -> None:
    """Write the model card of a run from the content of its report (see `write_report`), in one move.

    Besides the report's keys, `languages` (["en", "zh"]) says what languages the text is in, and `task` what the run
    was trained to do ("translate", "summarise", "write", "chat", "classify", "multilabel", "regress", "tag", "embed";
    also "translate en-de"; None: what its metrics or its likelihood tell). What the content lacks is called "not
    measured"; nothing is filled in. Raises LLMBertError where it cannot write.
    """
    content = clean(content)
    content["metrics"] = [*(content.get("metrics") or []), *(content.get("evidence") or [])]
    rows = content.get("table") or []
    tasks = purposes(content, rows)
    families = ", ".join(dict.fromkeys(_escaped(row["family"]) for row in rows if row.get("family")))
    parts = [
        _front_matter(content, rows, tasks),
        f"# {_escaped(content.get('title') or 'A language generator')}",
        *(_escaped(content[key]) for key in ("subtitle", "summary") if content.get(key)),
        f"## Intended use\n\n{intended_use(tasks[0], families)}",
        _data(content),
        _figures(content, rows, tasks[0]),
        *_examples(content),
        _reproduction(content),
        loading(tasks),
        _limits(rows, tasks[0]),
    ]
    write_text(path, "\n\n".join(parts) + "\n")


def _front_matter(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], tasks: Sequence[Purpose]) -> str:
    """YAML whose every text is a JSON string, which YAML reads alike."""
    languages = content.get("languages") or []
    families = dict.fromkeys(str(row["family"]) for row in rows if row.get("family"))
    tags = ["llmbert", *dict.fromkeys(task.pipeline for task in tasks), *families]
    lines = ["---"]
    lines += ["language:", *(f"- {_quoted(language)}" for language in languages)] if languages else []
    lines += [] if languages else [f"# language: {NOT_MEASURED}"]
    lines += ["library_name: llmbert", "tags:", *(f"- {_quoted(tag)}" for tag in tags)]
    results = _model_index(content, rows, tasks)
    return "\n".join([*lines, *(["model-index:", *results] if results else []), "---"])


def _model_index(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], tasks: Sequence[Purpose]) -> list[str]:
    """An entry for each model that something was measured of, with a result for each of its tasks.

    Metrics of a name that no row has are those of a task of the first model.
    """
    names = [str(row.get("name") or "model") for row in rows]
    measured = content.get("metrics") or []
    if not names:
        names = list(dict.fromkeys(str(row.get("name") or "model") for row in measured))
    found = []
    for i, name in enumerate(names):
        results: dict[str, list[str]] = {}
        for row in measured:
            if row.get("name") == name or (i == 0 and row.get("name") not in names):
                own = row.get("task") or (row.get("name") if row.get("name") not in names else None)
                task = purpose_of(own) or tasks[0]
                results.setdefault(task.pipeline, []).extend(_metric_entry(row))
        if rows:
            results.setdefault(tasks[0].pipeline, []).extend(_likelihood_entries(rows[i]))
        lines = [line for task, metrics in results.items() if metrics for line in _result(task, metrics, content)]
        found += [f"- name: {_quoted(name)}", "  results:", *lines] if lines else []
    return found


def _result(task: str, metrics: Sequence[str], content: Mapping[str, Any]) -> list[str]:
    fingerprint = _find(content, "fingerprint", "指纹")
    dataset = f"held-out text, fingerprint {fingerprint}" if fingerprint else "held-out text"
    lines = ["task:", f"  type: {task}", "dataset:", f"  name: {_quoted(dataset)}", "  type: private", "metrics:"]
    return [f"  - {lines[0]}", *(f"    {line}" for line in [*lines[1:], *metrics])]


def _metric_entry(row: Mapping[str, Any]) -> list[str]:
    """A metric of the index; none where nothing was measured."""
    value, metric = number(row.get("value")), str(row.get("metric"))
    unit = f" ({row['unit']})" if row.get("unit") else ""
    return [] if value is None else _entry(METRIC_TYPES.get(metric, metric), _shown_name(metric) + unit, value)


def _likelihood_entries(row: Mapping[str, Any]) -> list[str]:
    kind = row.get("likelihood")
    label = f" ({kind} likelihood)" if kind else ""
    known = [(key, name, number(row.get(key))) for key, name in _METRICS if kind != "none"]
    return [line for key, name, value in known if value is not None for line in _entry(key, name + label, value)]


def _entry(kind: str, name: str, value: float) -> list[str]:
    return [f"- type: {_quoted(kind)}", f"  name: {_quoted(name)}", f"  value: {value!r}"]


def _shown_name(metric: str) -> str:
    return metric_name(metric, Sheet("en"))


def _data(content: Mapping[str, Any]) -> str:
    data = content.get("data") or {}
    rows = [(name, value) for name, value in data.get("rows") or []]
    if not _find(content, "fingerprint", "指纹"):
        rows.append(("fingerprint", NOT_MEASURED))
    overlap = _escaped(data.get("overlap") or NOT_MEASURED)
    return f"## Data\n\n{_table(('', ''), rows)}\n\nOverlap of held-out and training text: {overlap}"


def _metrics(content: Mapping[str, Any], several: bool) -> list[str]:
    """The table of the task's metrics and their signatures."""
    rows = [row for row in content.get("metrics") or [] if number(row.get("value")) is not None]
    if not rows:
        return []
    shown, signatures = [], []
    for row in rows:
        name = _shown_name(str(row.get("metric")))
        of = str(row.get("task") or "") if not several else " · ".join(filter(None, (row.get("task"), row.get("name"))))
        value, ends, baseline = metric_figures(row)
        trivial = str((row.get("baseline") or {}).get("name"))
        trivial = BASELINES[trivial][0].lower() if trivial in BASELINES else trivial
        said = [f"interval {' to '.join(ends)}" if ends else f"interval {NOT_MEASURED}"]
        known = (row.get("baseline") or {}).get("name")
        said += [f"{trivial if known in REAL else f'trivial baseline, {trivial}'}: {baseline}"] if baseline else []
        said += ["lower is better"] if row.get("higher_is_better") is False else []
        title = f"{name} · {of}" if of else name
        shown.append((title, f"{value} ({'; '.join(said)})"))
        signatures += [f"- {_escaped(title)}: {_code(str(row['signature']))}"] if row.get("signature") else []
    return [_table(("metric", "measured"), shown), *(["\n".join(signatures)] if signatures else [])]


def _examples(content: Mapping[str, Any], most: int = 3) -> list[str]:
    """The first examples as they stand on the page, long sources cut."""
    rows = list(content.get("examples") or [])[:most]
    if not rows:
        return []
    note = content.get("examples_note")
    said = "The first held-out ones; none was picked." if note is True else _escaped(note) if note else ""
    parts = ["## Examples", *([said] if said else [])]
    several = len({str(row.get("name")) for row in rows}) > 1
    for i, row in enumerate(rows):
        references = row.get("references") or []
        reference = references if isinstance(references, str) else next(iter(references), "")
        texts = [("Source", f"{row.get('prefix') or ''}{row.get('source') or ''}"), ("Output", row.get("text"))]
        texts += [("Reference", reference)] if reference else []
        parts.append(f"### Example {i + 1}" + (f": {_escaped(row['name'])}" if several else ""))
        parts += [f"{name}:\n\n{_fenced(_shortened(str(text or '')), 'text')}" for name, text in texts]
    return ["\n\n".join(parts)]


def _shortened(text: str, most: int = 1200) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} characters more)"


def _figures(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], task: Purpose) -> str:
    metrics = _metrics(content, len(rows) > 1)
    parts = ["## Figures", *metrics]
    for row in rows or ([] if metrics else [{}]):
        scores = [(name, _score(row, key)) for key, name in _METRICS]
        if row.get("likelihood") == "none" and metrics:
            scores = []
        costs = [
            ("parameters", _measured(row, "parameters", quantity)),
            ("size on disk", _measured(row, "bytes_on_disk", data_size)),
            ("training time", _measured(row, "train_seconds", duration)),
            ("training speed", _measured(row, "tokens_per_second", lambda value: f"{significant(value, 3)} tokens/s")),
        ]
        if task.kind not in LABELLING:
            speed = _measured(row, "generate_tokens_per_second", lambda value: f"{significant(value, 3)} tokens/s")
            costs.append(("writing speed", speed))
        signature = row.get("signature") or _find(content, "signature", "签名") or NOT_MEASURED
        parts += [f"### {_escaped(row['name'])}"] if len(rows) > 1 else []
        if scores:
            parts += [_LIKELIHOODS.get(str(row.get("likelihood")), "Likelihood: kind not stated.")]
        parts += [_table(("", "measured"), [*scores, *costs])]
        parts += [_escaped(row["note"])] if row.get("note") else []
        parts += [f"Signature: {_code(signature)}"] if scores else []
    baselines = [
        (row.get("name"), f"{value:.3f} bits/byte")
        for row in content.get("baselines") or []
        if (value := number(row.get("bits_per_byte"))) is not None
    ]
    return "\n\n".join([*parts, *([_table(("trivial baseline", "measured"), baselines)] if baselines else [])])


def _score(row: Mapping[str, Any], key: str) -> str:
    if row.get("likelihood") == "none":
        return "none: this family has no likelihood"
    value = number(row.get(key))
    if value is None:
        return NOT_MEASURED
    text = significant(value) if key == "perplexity" else f"{value:.3f}"
    if key != "bits_per_byte":
        return text
    ends = [number(end) for end in row.get("interval") or ()]
    known = len(ends) == 2 and None not in ends
    return f"{text} (interval {f'{ends[0]:.3f} to {ends[1]:.3f}' if known else NOT_MEASURED})"


def _measured(row: Mapping[str, Any], key: str, form: Any) -> str:
    value = number(row.get(key))
    return NOT_MEASURED if value is None else form(value)


def _reproduction(content: Mapping[str, Any]) -> str:
    command = _find(content, "command", "命令")
    facts = [(name, value) for name, value in content.get("facts") or [] if value != command]
    shown = _fenced(command, "sh") if command else f"Command: {NOT_MEASURED}"
    return "\n\n".join(["## How to reproduce", shown, *([_table(("", ""), facts)] if facts else [])])


def _limits(rows: Sequence[Mapping[str, Any]], task: Purpose) -> str:
    lines = [
        *limits(task),
        "The figures hold for text of the same kind as the held-out text, and for no other.",
        f"Harm, bias, and fitness for any particular task: {NOT_MEASURED} here.",
    ]
    if any(number(row.get("bits_per_byte")) is not None and not row.get("interval") for row in rows):
        lines.append("Where an interval was not measured, a small difference between two models may be chance.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _find(content: Mapping[str, Any], *words: str) -> str:
    """The value of the first fact or row of data whose name holds one of the words; "" where there is none."""
    pairs = [*(content.get("facts") or []), *((content.get("data") or {}).get("rows") or [])]
    found = (str(value) for name, value in pairs if any(word in str(name).casefold() for word in words))
    return next(found, "")


def _table(head: tuple[str, str], rows: Iterable[tuple[Any, Any]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {_escaped(name)} | {_escaped(value)} |" for name, value in rows)])


def _escaped(value: Any) -> str:
    """One line of Markdown that shows the value as it is: no markup, no HTML, no table cell comes of it."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    text = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^([#+-]|\d+(?=[.)]))", r"\\\1" if not text[:1].isdigit() else r"\1", text)


def _code(text: str) -> str:
    text = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _quoted(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)
