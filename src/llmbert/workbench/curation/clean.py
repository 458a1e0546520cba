"""Documents → a file of those worth learning from, what was changed or left out and why, and a page on both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from llmbert.data.curation.clean import LIMITS, RULES, clean_documents
from llmbert.data.curation.found import Found
from llmbert.data.curation.languages import check_languages
from llmbert.data.curation.output import Outputs
from llmbert.data.curation.records import are_lines, read_records
from llmbert.models import nearest
from llmbert.protocols import Progress, UsageError, silent
from llmbert.report import write_report
from llmbert.runs import command_line, machine
from llmbert.workbench.curation.clean_wording import say, say_reason
from llmbert.workbench.documents.reading import names_of
from llmbert.workbench.sources import Paths, path_list
from llmbert.workbench.wording import say as fact

SHOWN = 60  # examples on the page


def clean(
    data: Paths,
    out: str | os.PathLike[str] | None = None,
    *,
    rules: Sequence[str] | None = None,
    limits: Mapping[str, Any] | None = None,
    keep_language: Sequence[str] | None = None,
    dry_run: bool = False,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    language: str = "en",
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Repair what was decoded wrongly, take out control characters and lines that stand in many documents, and leave
    out documents in other languages than `keep_language` and such as are no text (Gopher's rules, Rae et al. 2021).

    rules: which of `data.curation.clean.RULES`, all by default; limits: other values for some of its LIMITS. out: a
    folder, or a .jsonl or .txt file; beside what is kept stands, for each document that was left out or changed, its id
    and the reason (removed.jsonl), and a page (report.html). dry_run: count, and write nothing.
    Returns documents, kept, removed and changed (by reason), bytes_read, bytes_kept, and where anything is written
    kept_file, removed_file, page.

    Raises UsageError for what is asked wrongly, LLMBertError for what cannot be read or written.
    """
    paths = path_list(data)
    chosen = _rules(rules)
    bounds = LIMITS | _limits(limits or {})
    languages = check_languages(list(keep_language)) if keep_language else frozenset[str]()
    if out is None and not dry_run:
        raise UsageError("clean needs --out, a folder or file for what is kept, or --dry-run")
    planned = None if dry_run or out is None else Outputs(out, lines=are_lines(paths, lines), overwrite=overwrite)
    with planned or nullcontext() as outputs:
        records = read_records(paths, lines=lines, split_on=split_on, fields=fields, progress=progress)
        found = clean_documents(records, outputs, rules=chosen, limits=bounds, languages=languages, progress=progress)
        if outputs:
            write_report(outputs.page, _content(found, chosen, bounds, sorted(languages), paths, language), language)
    figures: dict[str, Any] = {
        "documents": found.documents,
        "kept": found.kept,
        "removed": dict(found.removed.most_common()),
        "changed": dict(found.changed.most_common()),
        "bytes_read": found.bytes_read,
        "bytes_kept": found.bytes_kept,
    }
    if outputs:
        figures |= {
            name: str(path)
            for name, path in (
                ("kept_file", outputs.kept),
                ("removed_file", outputs.removed),
                ("page", outputs.page),
            )
        }
    return figures


def _rules(rules: Sequence[str] | None) -> list[str]:
    if rules is None:
        return list(RULES)
    if unknown := [rule for rule in rules if rule not in RULES]:
        raise UsageError(f"there is no rule {unknown[0]!r}{nearest(unknown[0], RULES)}; there are {', '.join(RULES)}")
    return list(rules)


def _limits(limits: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in limits.items():
        if name not in LIMITS:
            raise UsageError(f"there is no limit {name!r}{nearest(name, LIMITS)}; there are {', '.join(LIMITS)}")
        try:
            found[name] = float(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the limit {name} is a number, not {value!r}") from error
        if not 0 <= found[name] < float("inf"):
            raise UsageError(f"the limit {name} is a number from 0 on, not {value}")
    return found


def _content(
    found: Found,
    rules: Sequence[str],
    limits: Mapping[str, float],
    languages: Sequence[str],
    paths: Sequence[str],
    language: str,
) -> dict[str, Any]:
    """What the page shows."""
    documents = max(1, found.documents)
    share = "{:,} ({:.2%})".format
    rows = [[say("documents", language), f"{found.documents:,}"], [say("kept", language), f"{found.kept:,}"]]
    for head, counts in (("left_out", found.removed), ("changed", found.changed)):
        rows += [
            [say(head, language, reason=say_reason(name, language)), share(count, count / documents)]
            for name, count in counts.most_common()
        ]
    rows.append([say("bytes", language), f"{found.bytes_read:,} → {found.bytes_kept:,}"])
    method = [say("method", language, rules=", ".join(rules))]
    if languages:
        method.append(say("languages", language, codes=", ".join(languages)))
    return {
        "title": say("title", language),
        "subtitle": ", ".join(names_of(list(paths))),
        "summary": say("summary", language, documents=found.documents, kept=found.kept, share=found.kept / documents),
        "removals": {"method": method, "rows": rows, "examples": _examples(found, language)},
        "settings": {say("limits", language): dict(limits)},
        "facts": [[fact("command", language), command_line()], [fact("machine", language), machine()]],
    }


def _examples(found: Found, language: str) -> list[dict[str, Any]]:
    shown = []
    each_reason = max(2, SHOWN // max(1, len(found.examples)))
    for name, some in found.examples.items():
        for each in some[:each_reason]:
            texts = [[f"{each['id']}", each["text"]]]
            if "twin_text" in each:
                texts.append([say("repaired", language), each["twin_text"]])
            reason = say_reason(name, language)
            if "value" in each:
                value = each["value"]
                reason += f": {value:g}" if isinstance(value, int | float) else f": {value}"
            if "limit" in each:
                reason += say("bound", language, limit=each["limit"])
            shown.append({"reason": reason, "texts": texts})
    return shown
