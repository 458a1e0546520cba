"""Texts, labelled or not → more texts beside each, with the same labels and tags."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmbert.data.curation.noise import (
    NEED_SYNONYMS,
    WAYS,
    Strength,
    Synonyms,
    Unit,
    no_synonyms,
    read_lexicon,
    tags_of,
    text_of,
    units_of_tags,
    units_of_text,
)
from llmbert.data.read import read_documents
from llmbert.data.records import RECORDS, read_rows
from llmbert.data.sources import Meter, Source, find_sources
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import PARTIAL, Run, disk_error, load
from llmbert.tasks.translate import translate
from llmbert.text.segment import segment_words
from llmbert.text.sentences import is_wide
from llmbert.text.tags import find_scheme, mend_tags
from llmbert.workbench.settings import MOST_SEED, whole_number
from llmbert.workbench.sources import Paths, path_list

BACK = "back-translation"
LONGEST = 1 << 20  # characters of a text
TOGETHER = 64  # texts that are translated together
FIELDS = ("text", "label", "tokens", "tags")

Translate = Callable[[Sequence[str], int], Sequence[str]]
"""Texts and a seed → translations, one for each."""


@dataclass
class _Row:
    """A record to be changed: where it stands, all its fields, and its words."""

    id: str
    record: dict[str, Any]
    units: list[Unit]


@dataclass
class _Job:
    """What is to be done to every row; named: how the fields are called."""

    ways: tuple[str, ...]
    copies: int
    seed: int
    strength: Strength
    named: dict[str, str]
    forth: Translate | None
    back: Translate | None
    segment: Callable[[str], Sequence[str]]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def tagged(self) -> bool:
        return bool({"tokens", "tags"} & set(self.named))

    def called(self, role: str) -> str:
        return self.named.get(role, role)


def augment_data(
    data: Paths,
    out: str | os.PathLike[str],
    *,
    ways: Sequence[str] = ("eda",),
    copies: int = 1,
    strength: float = 0.1,
    fields: Mapping[str, str] | None = None,
    lines: bool = False,
    split_on: str | None = None,
    lexicon: str | os.PathLike[str] | None = None,
    neighbours: str | os.PathLike[str] | Run | None = None,
    forth: str | os.PathLike[str] | Run | None = None,
    back: str | os.PathLike[str] | Run | None = None,
    mask: str = "_",
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, int]:
    """Write changed copies of texts into a JSONL file; returns how many were read and written, and what fell out.

    ways: of `noise.WAYS`, or "back-translation" by the runs `forth` and `back` (Sennrich et al. 2016); each copy takes
    one of them in turn. strength: the share of words that are changed (alpha of Wei & Zou 2019). Records keep all their
    fields but the changed text (fields: text=, label=; of tagged words tokens=, tags=), and get `augmented_from`, the
    id of the text, and `augmented_way`, which those of a text that was augmented before give way to; text files are
    read as `read_documents` reads them. A word's synonyms are those of a `lexicon` (lines of WORD, tab,
    synonyms apart by tabs), else its nearest words in the embeddings of a run, `neighbours`. mask: what "mask" puts in
    the place of a word.

    Copies equal to their text ("same") or to another copy of it ("twice") are left out, and so are blank texts and such
    of more than a million characters ("blank", "long"). One text is held at a time; the same seed gives the same file.

    Raises UsageError for what is asked wrongly, LLMBertError for what cannot be read or written.
    """
    path = _checked_out(Path(out), overwrite)
    synonyms = _synonyms(ways, lexicon, neighbours)
    job = _Job(
        _checked_ways(ways, synonyms is not None, forth, back),
        copies,
        whole_number("seed", seed, 0, MOST_SEED),
        Strength(strength, synonyms or no_synonyms, mask),
        _checked_fields(fields),
        _sampling(forth) if forth is not None else None,
        _searching(back) if back is not None else None,
        _chinese_words(),
    )
    if copies < 1:
        raise UsageError(f"copies must be at least 1, not {copies}")
    if job.tagged and BACK in job.ways:
        raise UsageError("a translation has no tags; leave out back-translation, or augment text instead of tokens")
    rows = _rows(job, path_list(data), lines, split_on, progress)
    beside = path.with_name(path.name + PARTIAL)
    try:
        # Half a character goes out as its escape, which JSON reads back.
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for record in _augmented(job, rows):
                file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
        beside.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        beside.unlink(missing_ok=True)
    return {name: job.counts[name] for name in ("read", "written", "same", "twice", "blank", "long")}


# ---- what was asked ------------------------------------------------------------------------------------------------


def _checked_out(path: Path, overwrite: bool) -> Path:
    if path.exists() and not overwrite:
        raise LLMBertError(f"{path} is there already; choose another --out or say --overwrite")
    if path.is_dir() or not path.parent.is_dir():
        raise LLMBertError(f"{path} cannot be a file there; make its folder first, or choose another --out")
    return path


def _checked_ways(ways: Sequence[str], have_synonyms: bool, forth: Any, back: Any) -> tuple[str, ...]:
    known = [*WAYS, BACK]
    if unknown := [way for way in ways if way not in known]:
        raise UsageError(f"there is no way {unknown[0]!r} to augment text; there are {', '.join(known)}")
    if not ways:
        raise UsageError(f"no way to augment text was named; there are {', '.join(known)}")
    if not have_synonyms and (needing := [way for way in ways if way in NEED_SYNONYMS]):
        raise UsageError(f"{needing[0]} needs synonyms: give --lexicon FILE or --neighbours RUN")
    if (BACK in ways) != (forth is not None and back is not None) or (forth is None) != (back is None):
        raise UsageError("back-translation needs two runs that translate, --forth RUN and --back RUN; give all or none")
    return tuple(ways)


def _checked_fields(fields: Mapping[str, str] | None) -> dict[str, str]:
    named = dict(fields or {})
    if unknown := set(named) - set(FIELDS):
        raise UsageError(f"fields are {', '.join(FIELDS)}, not {sorted(unknown)[0]}=")
    if {"text", "label"} & set(named) and {"tokens", "tags"} & set(named):
        raise UsageError("a record is augmented as text= (with label=) or as tokens= and tags=; name one of the two")
    return named


def _synonyms(ways: Sequence[str], lexicon: Any, neighbours: Any) -> Synonyms | None:
    """What to replace words by: the lexicon's, and for words it has not the nearest ones."""
    known: dict[str, tuple[str, ...]] = {}
    if lexicon is not None:
        try:
            with Path(lexicon).open(encoding="utf-8") as file:
                known = read_lexicon(file, Path(lexicon).name)
        except (OSError, UnicodeDecodeError) as error:
            raise LLMBertError(f"the lexicon {lexicon} cannot be read ({error}); give a text file in UTF-8") from error
        if not known:
            raise LLMBertError(f"{lexicon} holds no word; write WORD, a tab, and synonyms apart by tabs")
    near = (
        None if neighbours is None else nearest_words(neighbours if isinstance(neighbours, Run) else load(neighbours))
    )
    if lexicon is None and near is None:
        return None
    return lambda word: known.get(word) or (near(word) if near is not None else ())


def nearest_words(run: Run, count: int = 5, least: float = 0.3) -> Synonyms:
    """A run's `count` words nearest a word in its token embeddings, of a cosine of `least` at least; words are tokens.

    Raises UsageError for a run without embeddings, or whose tokens are no words.
    """
    modules = run.model.modules() if hasattr(run.model, "modules") else ()
    size = run.tokeniser.vocabulary_size
    tables = [m.weight for m in modules if isinstance(m, torch.nn.Embedding) and m.num_embeddings >= size]
    if not tables:
        raise UsageError(f"{run.folder} is a {run.family} and has no embeddings of tokens; take a neural run")
    texts = run.tokeniser.token_texts()
    marked = sum(text[:1] in (" ", "▁") for text in texts) > len(texts) // 10  # words that begin with their space
    words: dict[str, int] = {}
    for number, text in enumerate(texts):
        bare = text.lstrip(" ▁")
        begins = not marked or text != bare or any(map(is_wide, bare))
        if begins and bare.isalpha() and bare == bare.lower() and (len(bare) > 1 or is_wide(bare)):
            words.setdefault(bare, number)
    if len(words) < 100:
        raise UsageError(f"the tokens of {run.folder} are no words; take a run with --tokenizer words or bpe")
    names = list(words)
    table = torch.nn.functional.normalize(tables[0].detach().float().cpu()[list(words.values())], dim=-1)
    places = {name: at for at, name in enumerate(names)}
    found: dict[str, tuple[str, ...]] = {}

    def near(word: str) -> Sequence[str]:
        if word in places and word not in found:
            best = (table @ table[places[word]]).topk(min(count + 1, len(names)))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            found[word] = tuple(names[at] for at, cosine in pairs if cosine >= least and names[at] != word)
        return found.get(word, ())

    return near


def _sampling(given: Any) -> Translate:
    """Draws translations, so that several copies differ (Edunov et al. 2018)."""
    run = given if isinstance(given, Run) else load(given)
    return lambda texts, seed: translate(run, list(texts), beams=1, temperature=0.8, top_p=0.95, seed=seed)


def _searching(given: Any) -> Translate:
    run = given if isinstance(given, Run) else load(given)
    return lambda texts, seed: translate(run, list(texts))


def _chinese_words() -> Callable[[str], Sequence[str]]:
    """jieba's words, or characters where it is not installed."""
    try:
        segment_words("")
    except LLMBertError:
        return list
    return lambda text: segment_words(text).split()


# ---- rows ----------------------------------------------------------------------------------------------------------


def _rows(job: _Job, paths: Sequence[str], lines: bool, split_on: str | None, progress: Progress) -> Iterator[_Row]:
    sources = find_sources(paths)
    sizes = [source.size for source in sources]
    meter = Meter(progress, sum(sizes) if all(sizes) else None)
    for source in sources:
        if source.ending in RECORDS:
            yield from _records(job, source, meter)
        elif set(job.named) - {"text"}:
            raise LLMBertError(f"{source.name} holds no fields; give a .jsonl, .json, .csv, .tsv or .parquet file")
        else:
            cut: dict[str, Any] = {"lines": lines, "split_on": split_on}
            for document in read_documents([source.path], **cut, progress=progress):
                parts, length = [], 0
                for piece in document.pieces:
                    length += len(piece)
                    if length > LONGEST:
                        break
                    parts.append(piece)
                text = "" if length > LONGEST else "".join(parts)
                yield from _row(job, document.id, {"text": text}, text, length > LONGEST)
    if not job.counts["read"]:
        raise LLMBertError(f"no text was found in {', '.join(map(str, paths))}; every line or record is blank")


def _records(job: _Job, source: Source, meter: Meter) -> Iterator[_Row]:
    for place, record in read_rows(source, meter):
        where, number = f"{source.name}, {place}", f"{source.name}:{place.split()[1]}"
        for role in job.named if not job.tagged else ("tokens", "tags"):
            if job.called(role) not in record:
                names = ", ".join(repr(name) for name in list(record)[:20])
                raise LLMBertError(
                    f"{where} has no field {job.called(role)!r} but {names}; name it with --fields {role}=NAME"
                )
        if job.tagged:
            tokens, tags = (_strings(record[job.called(role)], where) for role in ("tokens", "tags"))
            if len(tokens) != len(tags):
                raise LLMBertError(
                    f"{where} has {len(tokens)} tokens and {len(tags)} tags; give one tag for each token"
                )
            scheme = find_scheme(tags)
            job.counts["read" if tokens else "blank"] += 1
            if tokens:
                yield _Row(number, record, units_of_tags(tokens, mend_tags(tags, scheme) if scheme else tags))
            continue
        text = record.get(job.called("text"))
        if not isinstance(text, str):
            names = ", ".join(repr(name) for name in list(record)[:20])
            raise LLMBertError(
                f"{where} holds no text in field {job.called('text')!r} but has {names}; name the field "
                "of text (--fields text=NAME)"
            )
        yield from _row(job, number, record, text, len(text) > LONGEST)


def _row(job: _Job, number: str, record: dict[str, Any], text: str, long: bool) -> Iterator[_Row]:
    units = [] if long else units_of_text(text, job.segment)
    job.counts["long" if long else "read" if units else "blank"] += 1
    if units:
        yield _Row(number, record, units)


def _strings(value: Any, where: str) -> list[str]:
    if isinstance(value, str):  # of a table
        value = value.split()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LLMBertError(f"{where} holds no list of words in its tokens or tags; give lists of strings")
    return value


# ---- copies --------------------------------------------------------------------------------------------------------


def _augmented(job: _Job, rows: Iterator[_Row]) -> Iterator[dict[str, Any]]:
    """The records of all copies, in the order of the rows; those to be translated go together."""
    first = 0
    size = TOGETHER if BACK in job.ways else 1
    while some := list(islice(rows, size)):
        translated = iter(_translated(job, some, first))
        for at, row in enumerate(some, first):
            yield from _copies(job, row, at, translated)
        first += len(some)


def _way(job: _Job, at: int, copy: int) -> str:
    return job.ways[(at * job.copies + copy) % len(job.ways)]


def _translated(job: _Job, rows: Sequence[_Row], first: int) -> list[str]:
    """What comes back of the texts whose copies are translations, one for each such copy, in order."""
    asked = [
        text_of(row.units)
        for at, row in enumerate(rows, first)
        for copy in range(job.copies)
        if _way(job, at, copy) == BACK
    ]
    if not asked or job.forth is None or job.back is None:
        return []
    return list(job.back(job.forth(asked, (job.seed + first * job.copies) % 2**63), 0))


def _copies(job: _Job, row: _Row, at: int, translated: Iterator[str]) -> Iterator[dict[str, Any]]:
    own = [word.text for unit in row.units for word in unit]
    seen: set[tuple[str, ...]] = set()
    for copy in range(job.copies):
        way = _way(job, at, copy)
        if way == BACK:
            units = units_of_text(next(translated), job.segment)
        else:
            units = WAYS[way](list(row.units), np.random.default_rng((job.seed, at, copy)), job.strength)
        words = tuple(word.text for unit in units for word in unit)
        reason = "blank" if not words else "same" if list(words) == own else "twice" if words in seen else "written"
        job.counts[reason] += 1
        if reason != "written":
            continue
        seen.add(words)
        new = dict(row.record)
        if job.tagged:
            new[job.called("tokens")], new[job.called("tags")] = tags_of(units)
        else:
            new[job.called("text")] = text_of(units)
        # Names that no record has of its own, as mail has a "from".
        yield new | {"augmented_from": row.id, "augmented_way": way}
