"""How much personal data is found, and how much else is taken for it; what real mail holds; how fast it is removed.

python benchmarks/personal_data.py [LINE ...] [--data FOLDER]

sentences: 2,000 made-up ones, half English, half Chinese, with the places known, and numbers, code and handles that
only look like personal data, of the templates that the finders were written with; then 2,000 of the same templates from
another seed, and 1,000 of templates kept back. Exact: begin and end are right; overlap: some of it was found. mail: of
AESLC's train (mail of a company that was made public), counts alone. speed: 50 MB of that mail, of Chinese news, and of
the sentences.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import performance
from llmbert.data.curation.personal import KINDS, find_personal
from llmbert.runs import machine
from personal_sentences import HELD_OUT, TUNED, Sentence, sentences

MEGABYTES = 50
SETS = {
    "2,000 sentences": (2000, 1, TUNED),
    "2,000 of another seed": (2000, 20_260, TUNED),
    "1,000 of other templates": (1000, 7_117, HELD_OUT),
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
    for name, (count, seed, templates) in SETS.items():
        some = sentences(count, seed, templates)
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
    """Texts again and again until there are MEGABYTES of them."""
    block = "\n".join(texts) + "\n"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(MEGABYTES * 1_000_000 // len(block.encode()) + 1):
            file.write(block)
    with path.open("r+b") as binary:
        binary.truncate(MEGABYTES * 1_000_000)
        tail = (binary.seek(-4, 2), binary.read())[1]
        binary.truncate(MEGABYTES * 1_000_000 - 4 + len(tail.decode("utf-8", "ignore").encode()))


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
        for title, texts in {"mail": bodies(data), "Chinese news": news(data), "sentences": made}.items():
            source = folder / "source.txt"
            write_repeated(texts, source)
            for lines in ("whole", "lines"):
                took = performance.measured(__file__, str(source), str(folder / f"{title}-{lines}"), lines)
                print(
                    f"{MEGABYTES} MB of {title}, {'each line a document' if lines == 'lines' else 'one document'}: "
                    f"{MEGABYTES / took['seconds']:.1f} MB/s, {took['megabytes']:.0f} MB at most"
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
