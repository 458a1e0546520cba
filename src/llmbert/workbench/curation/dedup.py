"""Documents → a file without duplicates, what was left out and why, and a page on both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llmbert.data.curation.deduplicate import EXACT, NEAR, SPANS, Found, deduplicate
from llmbert.data.curation.near import choose_bands
from llmbert.data.curation.output import Outputs
from llmbert.data.curation.records import are_lines, read_records
from llmbert.data.curation.shingles import SHINGLE
from llmbert.data.curation.spans import BLOCK, LEAST, check_least
from llmbert.protocols import Progress, UsageError, silent
from llmbert.report import write_report
from llmbert.runs import command_line, machine
from llmbert.workbench.curation.dedup_wording import say
from llmbert.workbench.documents.reading import names_of
from llmbert.workbench.sources import Paths, path_list
from llmbert.workbench.wording import say as fact


def dedup(
    data: Paths,
    out: str | os.PathLike[str],
    *,
    threshold: float = 0.8,
    near: bool = True,
    shingle: int = SHINGLE,
    spans: int | None = None,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    language: str = "en",
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Leave out documents that stand there already: exact copies, and near ones of a Jaccard similarity of `threshold`
    or more of their shingles (`shingle` words of English, characters of Chinese); cut stretches of `spans` bytes or
    more that stand there already (None: only measure them in the first block; 0: leave it).

    out: a folder, or a .jsonl or .txt file; beside what is kept stands, for each document that was left out or changed,
    its id, the reason and the id of the kept twin (removed.jsonl), and a page (report.html).
    Returns documents, kept, removed and changed (by reason), bytes_read, bytes_kept, cut_bytes, repeated_span_share
    (None where it was not measured), kept_file, removed_file, page.

    Raises UsageError for what is asked wrongly, LLMBertError for what cannot be read or written.
    """
    paths = path_list(data)
    bands, rows = choose_bands(threshold)
    if shingle < 1:
        raise UsageError(f"a shingle has at least 1 word, not {shingle}")
    if spans:
        check_least(spans)
    with Outputs(out, lines=are_lines(paths, lines), overwrite=overwrite) as outputs:
        records = read_records(paths, lines=lines, split_on=split_on, fields=fields, progress=progress)
        found = deduplicate(
            records, outputs, threshold=threshold, near=near, shingle=shingle, spans=spans, progress=progress
        )
        settings: dict[str, Any] = {"threshold": threshold, "shingle": shingle, "bands": bands, "rows": rows}
        content = _content(found, settings if near else {}, spans, paths, language)
        write_report(outputs.page, content, language)
    return {
        "documents": found.documents,
        "kept": found.kept,
        "removed": {reason: found.removed[reason] for reason in (EXACT, NEAR, SPANS)},
        "changed": {SPANS: found.changed[SPANS]},
        "bytes_read": found.bytes_read,
        "bytes_kept": found.bytes_kept,
        "cut_bytes": found.cut_bytes,
        "repeated_span_share": found.repeated[0] / found.repeated[1] if found.repeated else None,
        "kept_file": str(outputs.kept),
        "removed_file": str(outputs.removed),
        "page": str(outputs.page),
    }


def _content(
    found: Found, settings: Mapping[str, Any], spans: int | None, paths: list[str], language: str
) -> dict[str, Any]:
    """What the page shows."""
    share = "{:,} ({:.2%})".format
    documents = max(1, found.documents)
    rows = [[say("documents", language), f"{found.documents:,}"], [say("kept", language), f"{found.kept:,}"]]
    rows += [
        [say(f"removed_{reason}", language), share(found.removed[reason], found.removed[reason] / documents)]
        for reason in (EXACT, NEAR, SPANS)
        if (settings or reason != NEAR) and (spans or reason != SPANS)
    ]
    if spans:
        rows.append(
            [say("changed", language, least=spans), share(found.changed[SPANS], found.changed[SPANS] / documents)]
        )
        rows.append([say("cut", language), share(found.cut_bytes, found.cut_bytes / max(1, found.bytes_read))])
    elif found.repeated:
        part, whole = found.repeated
        rows.append([say("repeated", language, least=LEAST, looked=whole), share(part, part / max(1, whole))])
    rows.append([say("bytes", language), f"{found.bytes_read:,} → {found.bytes_kept:,}"])
    rows += [
        [say("similar", language, low=low / 100, high=min(100, low + 5) / 100), f"{count:,}"]
        for low in range(0, 101, 5)
        if (count := sum(found.similarities[each] for each in range(low, low + 5)))
    ]
    method = [say("normalised", language)]
    if settings:
        method.append(say("near", language, **settings))
    if spans:
        method.append(say("cutting", language, least=spans, block=BLOCK))
    return {
        "title": say("title", language),
        "subtitle": ", ".join(names_of(paths)),
        "summary": say("summary", language, documents=found.documents, kept=found.kept, share=found.kept / documents),
        "removals": {"method": method, "rows": rows, "examples": _examples(found, language)},
        "facts": [[fact("command", language), command_line()], [fact("machine", language), machine()]],
    }


def _examples(found: Found, language: str) -> list[dict[str, Any]]:
    """Examples as the page has them: heading, and the texts with their headings."""
    shown = []
    for reason in (NEAR, EXACT, SPANS):
        for each in found.examples.get(reason, []):
            texts = [[f"{each['id']}", each["text"]]]
            if "twin_text" in each:
                texts.append([say("twin", language, id=each["twin"]), each["twin_text"]])
            shown.append({"reason": say(f"example_{reason}", language, **each), "texts": texts})
    return shown
