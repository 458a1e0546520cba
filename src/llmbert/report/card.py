"""A run's measured figures → its model card: Markdown with front matter as Hugging Face reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbert.report.numbers import data_size, duration, number, quantity, significant
from llmbert.report.page import clean, write_text

NOT_MEASURED = "not measured"
_METRICS = (("bits_per_byte", "bits/byte"), ("nats_per_token", "nats/token"), ("perplexity", "perplexity"))
_LIKELIHOODS = {
    "exact": "Likelihood: exact. The figures are the model's own probability of the held-out text.",
    "conditional": "Likelihood: exact given a source; comparable only with models given the same source.",
    "bound": "Likelihood: a bound. The true figures are at most these.",
    "pseudo": "Likelihood: pseudo. Each token is predicted from both its sides, so these figures are no code length.",
    "none": "Likelihood: none. This model writes text but cannot say how probable a given text is.",
}


def write_card(path: Path, content: dict[str, Any]) -> None:
    """Write the model card of a run from the content of its report (see `write_report`), in one move.

    Besides the report's keys, `languages` (["en", "zh"]) says what languages the text is in. What the content lacks
    is called "not measured"; nothing is filled in. Raises LLMBertError where it cannot write.
    """
    content = clean(content)
    rows = content.get("table") or []
    parts = [
        _front_matter(content, rows),
        f"# {_escaped(content.get('title') or 'A language generator')}",
        *(_escaped(content[key]) for key in ("subtitle", "summary") if content.get(key)),
        _use(rows),
        _data(content),
        _figures(content, rows),
        _reproduction(content),
        _loading(),
        _limits(rows),
    ]
    write_text(path, "\n\n".join(parts) + "\n")


def _front_matter(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """YAML whose every text is a JSON string, which YAML reads alike."""
    languages = content.get("languages") or []
    tags = ["llmbert", "text-generation", *dict.fromkeys(str(row["family"]) for row in rows if row.get("family"))]
    lines = ["---"]
    lines += ["language:", *(f"- {_quoted(language)}" for language in languages)] if languages else []
    lines += [] if languages else [f"# language: {NOT_MEASURED}"]
    lines += ["library_name: llmbert", "tags:", *(f"- {_quoted(tag)}" for tag in tags)]
    results = [line for row in rows for line in _result(row, content)]
    return "\n".join([*lines, *(["model-index:", *results] if results else []), "---"])


def _result(row: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    """A row's entry of the model index; none where nothing was measured."""
    kind = row.get("likelihood")
    label = f" ({kind} likelihood)" if kind else ""
    fingerprint = _find(content, "fingerprint", "指纹")
    metrics = []
    for key, name in _METRICS:
        value = number(row.get(key))
        if value is not None and kind != "none":
            metrics += [f"    - type: {key}", f"      name: {_quoted(name + label)}", f"      value: {value!r}"]
    if not metrics:
        return []
    dataset = f"held-out text, fingerprint {fingerprint}" if fingerprint else "held-out text"
    return [
        f"- name: {_quoted(row.get('name') or 'model')}",
        "  results:",
        "  - task:",
        "      type: text-generation",
        "    dataset:",
        f"      name: {_quoted(dataset)}",
        "      type: private",
        "    metrics:",
        *metrics,
    ]


def _use(rows: Sequence[Mapping[str, Any]]) -> str:
    families = ", ".join(dict.fromkeys(_escaped(row["family"]) for row in rows if row.get("family")))
    return (
        "## Intended use\n\n"
        f"A generator of text{f' (family: {families})' if families else ''}, trained on its owner's own text: for "
        "drafts, completions, experiments and teaching where a person reads what it writes. Not for facts, advice or "
        "decisions about people."
    )


def _data(content: Mapping[str, Any]) -> str:
    data = content.get("data") or {}
    rows = [(name, value) for name, value in data.get("rows") or []]
    if not _find(content, "fingerprint", "指纹"):
        rows.append(("fingerprint", NOT_MEASURED))
    overlap = _escaped(data.get("overlap") or NOT_MEASURED)
    return f"## Data\n\n{_table(('', ''), rows)}\n\nOverlap of held-out and training text: {overlap}"


def _figures(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    parts = ["## Figures"]
    for row in rows or [{}]:
        scores = [(name, _score(row, key)) for key, name in _METRICS]
        costs = [
            ("parameters", _measured(row, "parameters", quantity)),
            ("size on disk", _measured(row, "bytes_on_disk", data_size)),
            ("training time", _measured(row, "train_seconds", duration)),
            ("training speed", _measured(row, "tokens_per_second", lambda value: f"{significant(value, 3)} tokens/s")),
            (
                "writing speed",
                _measured(row, "generate_tokens_per_second", lambda value: f"{significant(value, 3)} tokens/s"),
            ),
        ]
        signature = row.get("signature") or _find(content, "signature", "签名") or NOT_MEASURED
        parts += [f"### {_escaped(row['name'])}"] if len(rows) > 1 else []
        parts += [_LIKELIHOODS.get(str(row.get("likelihood")), "Likelihood: kind not stated.")]
        parts += [_table(("", "measured"), [*scores, *costs])]
        parts += [_escaped(row["note"])] if row.get("note") else []
        parts += [f"Signature: {_code(signature)}"]
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


def _loading() -> str:
    return (
        "## How to load\n\n"
        "Where `FOLDER` is the folder this file lies in:\n\n"
        "```python\nimport llmbert\n\n"
        'run = llmbert.load("FOLDER")\nprint(run.generate("..."))\n```\n\n'
        '```sh\nllmbert generate FOLDER --prompt "..."\n```'
    )


def _limits(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "It knows only the text it was trained on, and writes what is likely there, true or not.",
        "It may repeat passages of that text word for word, private ones included: share it as you would share "
        "the text.",
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
