"""How much personal data is found, and how much else is taken for it; what real mail holds; how fast it is removed.

python benchmarks/personal_data.py [LINE ...] [--data FOLDER]

sentences: 2,000 made-up ones, half English, half Chinese, with the places known, and numbers, code and handles that
only look like personal data, of the templates that the finders were written with; then 2,000 of the same templates from
another seed; 1,000 of templates that were kept back until the finders stood, then used to mend them; 1,000 of templates
written last and used for nothing but these figures; and 1,000 of these with values in forms that are seldom written.
Exact: begin and end are right; overlap: some of it was found. mail: of
AESLC's train (mail of a company that was made public), counts alone. speed: 50 MB of that mail, of Chinese news, and of
the sentences.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import performance
from llmbert.data.personal.find import KINDS, find_personal
from llmbert.runs import machine
from personal_rare import RARE
from personal_sentences import HELD_OUT, TUNED, UNSEEN, VALUES, Sentence, sentences

MEGABYTES = 50
SETS = {
    "2,000 sentences": (2000, 1, TUNED, VALUES),
    "2,000 of another seed": (2000, 20_260, TUNED, VALUES),
    "1,000 of other templates": (1000, 7_117, HELD_OUT, VALUES),
    "1,000 of templates never seen": (1000, 90_210, UNSEEN, VALUES),
    "1,000 of these in rare forms": (1000, 31_415, UNSEEN, RARE),
}


def scores(some: Sequence[Sentence]) -> dict[str, dict[str, float]]:
    """By kind: how many there are and were found; precision and recall, exact and by overlap."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for each in some:
        found = find_personal(each.text)
        for kind, own in counts.items():
            known = [(s, e) for k, s, e in each.spans if k == kind]
            said = [(s, e) for k, s, e in found if k == kind]
            own["known"] += len(known)
            own["said"] += len(said)
            own["exact"] += len(set(known) & set(said))
            own["right"] += sum(any(s < b and a < e for a, b in known) for s, e in said)
            own["met"] += sum(any(s < b and a < e for a, b in said) for s, e in known)
    return {
        kind: {
            **{"known": own["known"], "said": own["said"]},
            **{"precision": own["exact"] / max(1, own["said"]), "recall": own["exact"] / max(1, own["known"])},
            **{"near precision": own["right"] / max(1, own["said"]), "near recall": own["met"] / max(1, own["known"])},
        }
        for kind, own in counts.items()
        if own["known"] or own["said"]
    }


def say_sentences(data: Path) -> None:
    for name, (count, seed, templates, values) in SETS.items():
        some = sentences(count, seed, templates, values)
        print(
            f"{name}: {sum(map(len, templates.values()))} templates, {sum(len(each.spans) for each in some):,} values"
        )
        for language in ("en", "zh"):
            for kind, of in scores([each for each in some if each.language == language]).items():
                print(
                    f"  {language} {kind:<7}{of['known']:>6,.0f} there{of['said']:>6,.0f} found   exact: precision "
                    f"{of['precision']:.3f} recall {of['recall']:.3f}   overlap: {of['near precision']:.3f} "
                    f"{of['near recall']:.3f}"
                )


def bodies(data: Path) -> Iterator[str]:
    with gzip.open(data / "aeslc/train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["body"]


def say_mail(data: Path) -> None:
    documents, holding, finds = 0, Counter[str](), Counter[str]()
    for body in bodies(data):
        kinds = Counter(find.kind for find in find_personal(body))
        documents += 1
        holding.update(kinds.keys())
        holding["any"] += bool(kinds)
        finds.update(kinds)
    print(f"AESLC train: {documents:,} mails, {holding['any'] / documents:.1%} with finds")
    for kind, count in holding.most_common():
        if kind != "any":
            print(f"  {kind:<7}{count:>6,} mails ({count / documents:.2%}), {finds[kind]:,} finds")


def write_repeated(texts: Iterator[str], path: Path) -> None:
    """Texts again and again until there are MEGABYTES of them, cut at a character."""
    block = ("\n".join(texts) + "\n").encode()
    whole = block * (MEGABYTES * 1_000_000 // len(block) + 1)
    path.write_bytes(whole[: MEGABYTES * 1_000_000].decode("utf-8", "ignore").encode())


def news(data: Path) -> Iterator[str]:
    for path in sorted((data / "thucnews10k").glob("dev*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (line.rstrip("\n") for line in lines)


def scrub_alone(source: str, out: str, lines: str) -> None:
    import llmbert

    llmbert.scrub(source, out, lines=lines == "lines")


def say_speed(data: Path) -> None:
    made = (each.text for each in sentences(4000, 3, TUNED))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, texts in {"mail": bodies(data), "news": news(data), "sentences": made}.items():
            source = folder / "source.txt"
            write_repeated(texts, source)
            for lines in ("whole", "lines"):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                took = performance.measured(__file__, str(source), str(folder / f"{title}-{lines}.txt"), lines)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(
                    f"{MEGABYTES} MB of {title}, {'each line a document' if lines == 'lines' else 'one document'}: "
                    f"{MEGABYTES / took['seconds']:.1f} MB/s, {MEGABYTES / cpu:.1f} MB per second of the processor's "
                    f"own (libraries loaded, too), {took['megabytes']:.0f} MB at most",
                    flush=True,
                )


LINES = {"sentences": say_sentences, "mail": say_mail, "speed": say_speed}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("lines", nargs="*", metavar="LINE", help=f"of {', '.join(LINES)}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    chosen = options.parse_args()
    if unknown := [name for name in chosen.lines if name not in LINES]:
        options.error(f"{unknown[0]!r} is none of {', '.join(LINES)}")
    print(machine())
    for name in chosen.lines or LINES:
        LINES[name](chosen.data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        performance.alone(scrub_alone, *sys.argv[2:])
    else:
        main()
