"""Near duplicates planted at known distances: which of them are found, what else is, how fast, in how much memory.

python benchmarks/near_duplicates.py [NAME ...] [--threshold 0.8] [--planted 300] [--megabytes 100] [--data FOLDER]

english: paragraphs of WikiText-2's train, of which some stand there again with 1 to 40 % of their words replaced, left
out or put in; abstracts and headlines: the same with characters of CSL and THUCNews, in Chinese. Of each distance: the
mean true Jaccard similarity of the pairs, the share of pairs that reach the threshold (what a comparison of all pairs
would find), and the share found. Whatever else is left out counts as false unless its true similarity to the twin that
is named, computed from plain sets, reaches the threshold: the text has near duplicates of its own.
present: how much of AESLC's and SST-2's train is there already. speed: megabytes a second and the most memory, on
WikiText-2's lines over and over with the number of the turn in each (all near duplicates of the first turn's), and with
their words in another order at each turn (hardly any); each in a process of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import llmbert
from llmbert.data.curation.shingles import SHINGLE, normalise
from llmbert.runs import machine

DISTANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


def read(path: Path, name: str = "") -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)[name] if name else line.strip()
            if text:
                yield text


def english(data: Path) -> tuple[list[str], str]:
    lines = read(data / "wikitext2/train.txt.gz")
    return [line for line in lines if not line.startswith("=") and len(line.split()) >= 20], " "


def abstracts(data: Path) -> tuple[list[str], str]:
    return list(read(data / "csl_title/dev.jsonl.gz", "abstract")), ""


def headlines(data: Path) -> tuple[list[str], str]:
    return [line.split("\t")[1] for line in list(read(data / "thucnews10k/dev.tsv.gz"))[1:]], ""


def edited(text: str, gap: str, share: float, vocabulary: list[str], draw: random.Random) -> str:
    """The text with so large a share of its words replaced, left out or followed by a new one, in equal parts."""
    words = text.split() if gap else list(text)
    places = draw.sample(range(len(words)), max(1, round(share * len(words))))
    for place in places:
        way, new = draw.randrange(3), draw.choice(vocabulary)
        words[place] = (new, "", f"{words[place]}{gap}{new}")[way]
    return gap.join(word for word in words if word)


def shingles(text: str) -> set[tuple[str, ...]]:
    """A text's shingles as plain tuples; marks of accents are no words here, which these texts do not need."""
    words = WORD.findall(normalise(text))
    return {tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))} if words else set()


def jaccard(one: str, other: str) -> float:
    first, second = shingles(one), shingles(other)
    return len(first & second) / max(1, len(first | second))


def planted(texts: Callable[[Path], tuple[list[str], str]], options: argparse.Namespace) -> None:
    """Plant, look for it, and print a line for each distance."""
    originals, gap = texts(options.data)
    draw = random.Random(1)
    vocabulary = sorted({word for text in originals for word in (text.split() if gap else text)})
    rows = {f"o{number}": text for number, text in enumerate(originals)}
    for share in DISTANCES:
        for number in draw.sample(range(len(originals)), options.planted):
            rows[f"{share}:o{number}"] = edited(originals[number], gap, share, vocabulary, draw)
    with tempfile.TemporaryDirectory() as name:
        path, out = Path(name) / "planted.jsonl", Path(name) / "out"
        lines = (json.dumps({"id": key, "text": text}, ensure_ascii=False) for key, text in rows.items())
        path.write_text("\n".join(lines), "utf-8")
        llmbert.dedup(path, out, threshold=options.threshold, spans=0)
        notes = {note["id"]: note for note in map(json.loads, (out / "removed.jsonl").read_text("utf-8").splitlines())}
    print(f"{texts.__name__}: {len(originals):,} texts, {options.planted} planted at each distance, "
          f"threshold {options.threshold}")  # fmt: skip
    print("  edited   mean Jaccard   pairs that reach it   found   found of those that reach it")
    for share in DISTANCES:
        pairs = {
            key: jaccard(text, rows[key.split(":")[1]]) for key, text in rows.items() if key.startswith(f"{share}:")
        }
        alike = [key for key, similar in pairs.items() if similar >= options.threshold or key in exact(notes)]
        hits = f"{sum(key in notes for key in alike) / len(alike):.1%}" if alike else "–"
        print(f"  {share:6.0%} {mean(pairs.values()):14.3f} {len(alike) / len(pairs):20.1%}"
              f" {sum(key in notes for key in pairs) / len(pairs):8.1%} {hits:>10}")  # fmt: skip
    kinds = Counter(judged(key, note, rows, options.threshold) for key, note in notes.items())
    right = len(notes) - kinds["false"]
    print(f"  precision {right / max(1, len(notes)):.2%} of {len(notes):,} left out: {dict(kinds)}")


def exact(notes: dict[str, Any]) -> set[str]:
    return {key for key, note in notes.items() if note["reason"] == "exact"}


def judged(key: str, note: dict[str, Any], rows: dict[str, str], threshold: float) -> str:
    """What a removal is: of a planted copy for its source, of another pair that is as similar, or false."""
    if ":" in key and key.split(":")[1] == note["twin"]:
        return "planted"
    same = normalise(rows[key]) == normalise(rows[note["twin"]])
    return "natural" if same or jaccard(rows[key], rows[note["twin"]]) >= threshold else "false"


def present(options: argparse.Namespace) -> None:
    for path, fields in (("aeslc/train.jsonl.gz", {"text": "body"}), ("sst2/train.tsv.gz", {"text": "text"})):
        with tempfile.TemporaryDirectory() as out:
            found = llmbert.dedup(options.data / path, Path(out) / "out", threshold=options.threshold, fields=fields)
        shares = ", ".join(f"{found['removed'][key] / found['documents']:.2%} {key}" for key in ("exact", "near"))
        spans = found["repeated_span_share"]
        print(f"{path}: {found['documents']:,} texts: {shares}; {spans:.2%} of what is left in repeats of 100 bytes")


# ---- speed ---------------------------------------------------------------------------------------------------------


def work(text: str, folder: str, *options: str) -> None:
    llmbert.dedup(text, Path(folder) / "out", lines=True, spans=int(options[0]), overwrite=True)


def speed(options: argparse.Namespace) -> None:
    from data_path import write_text
    from performance import measured

    with tempfile.TemporaryDirectory() as name:
        turns, mixed = Path(name) / "turns.txt", Path(name) / "mixed.txt"
        write_text(options, options.megabytes, turns)
        draw = random.Random(1)
        with turns.open(encoding="utf-8") as lines, mixed.open("w", encoding="utf-8") as out:
            for line in lines:
                words = line.split()
                draw.shuffle(words)
                out.write(" ".join(words) + "\n")
        for path, spans in ((turns, "0"), (mixed, "0"), (turns, "100")):
            found = measured(__file__, str(path), name, spans)
            size = path.stat().st_size / 1e6
            with path.open(encoding="utf-8") as file:
                documents = sum(1 for _ in file)
            pace = f"{size / found['seconds']:.2f} MB/s, {found['megabytes']:,.0f} MB of memory at most"
            print(f"{path.stem}, spans {spans}: {size:,.0f} MB, {documents:,} documents: {pace}")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "english": lambda options: planted(english, options),
    "abstracts": lambda options: planted(abstracts, options),
    "headlines": lambda options: planted(headlines, options),
    "present": present,
    "speed": speed,
}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--threshold", type=float, default=0.8)
    options.add_argument("--planted", type=int, default=300, help="copies at each distance")
    options.add_argument("--megabytes", type=int, default=100, help="of text, for the speed")
    chosen = options.parse_args()
    if unknown := [name for name in chosen.parts if name not in PARTS]:
        options.error(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    print(machine())
    for name in chosen.parts or PARTS:
        PARTS[name](chosen)


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        import performance

        performance.alone(work, *sys.argv[2:])
    else:
        main()
