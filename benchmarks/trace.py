"""Copies planted in other text, each to be found with its document and place; and what an index of 100 MB costs.

python benchmarks/trace.py [planted] [invented] [speed] [--data FOLDER] [--planted 10000] [--megabytes 100]

planted: stretches of 20 to 400 bytes of the training text of WikiText-2 (a line a document) and of Tang poems (a poem a
document) stand between stretches of held-out text or of random characters. invented: on small parts of both, every span
and every place is held against a search with bytes.find through all documents. speed: real text, a line a document,
is indexed in a process of its own; then texts of 1,000 characters are traced, beside grep and bytes.find on the same.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmbert.trust.provenance import Given, build_index, open_index, trace_text

LEAST = 20
AROUND = 150  # characters before and behind what is planted
ALL = 1_000_000
ASKED = 60  # texts whose tracing is timed
WINDOWS = 20  # of a text that bytes.find looks for; its time goes with their number


def corpora(data: Path) -> dict[str, tuple[dict[str, str], str]]:
    """By name: documents by id, and held-out text."""

    def lines(name: str) -> list[str]:
        with gzip.open(data / name, "rt", encoding="utf-8") as file:
            return file.read().split("\n")

    def poems(name: str) -> list[str]:
        return [json.loads(line)["text"] for line in lines(name) if line]

    def named(texts: list[str], name: str) -> dict[str, str]:
        return {f"{name}:{number}": text for number, text in enumerate(texts, 1) if text.strip()}

    english, chinese = "wikitext2/{}.txt.gz", "chinese_poetry/tang.{}.jsonl.gz"
    return {
        "WikiText-2": (named(lines(english.format("train")), "wikitext2"), "\n".join(lines(english.format("valid")))),
        "Tang poems": (named(poems(chinese.format("train")), "tang"), "\n".join(poems(chinese.format("valid")))),
    }


def given(documents: dict[str, str]) -> Iterator[Given]:
    return (Given(name, (text.encode(),)) for name, text in documents.items())


def stretch(text: str, size: int, draw: random.Random) -> tuple[int, str]:
    """A random stretch of about `size` bytes, and the character it begins at."""
    width = max(1, round(size * len(text) / len(text.encode())))
    start = draw.randrange(max(1, len(text) - width + 1))
    return start, text[start : start + width]


def around(held_out: str, alphabet: str, draw: random.Random) -> str:
    if draw.random() < 0.5:
        return "".join(draw.choices(alphabet, k=AROUND))
    start = draw.randrange(len(held_out) - AROUND)
    return held_out[start : start + AROUND]


def planted(name: str, documents: dict[str, str], held_out: str, count: int, folder: Path) -> None:
    """Plant, trace, and count what is found with its document and place."""
    draw = random.Random(0)
    began = time.perf_counter()
    index = build_index(given(documents), folder / name.split()[0])
    built = time.perf_counter() - began
    names = [each for each, text in documents.items() if len(text.encode()) >= LEAST]
    alphabet = "".join(sorted(set(held_out)))
    found = grown = wrong = places = 0
    began = time.perf_counter()
    for _ in range(count):
        chosen = draw.choice(names)
        start, copy = stretch(documents[chosen], draw.randint(LEAST, 400), draw)
        before = around(held_out, alphabet, draw)
        text = before + copy + around(held_out, alphabet, draw)
        spans = trace_text(index, text, least=min(LEAST, len(copy)), most=ALL)["spans"]
        for span in spans:
            places += len(span["documents"])
            wrong += sum(
                not documents[each["id"]].startswith(span["text"], each["character"]) for each in span["documents"]
            )
        end = len(before) + len(copy)
        holding = [s for s in spans if s["start"] <= len(before) and s["start"] + s["length"] >= end]
        here = [
            True
            for span in holding
            for each in span["documents"]
            if (each["id"], each["character"]) == (chosen, start - (len(before) - span["start"]))
        ]
        if not here and holding:  # what stands around it goes on as it does elsewhere: the copy alone has its place
            alone = trace_text(index, copy, least=len(copy), most=ALL)["spans"][0]["documents"]
            here = [True for each in alone if (each["id"], each["character"]) == (chosen, start)]
            grown += bool(here)
        found += bool(here)
    seconds = time.perf_counter() - began
    print(
        f"{name}: {index.documents:,} documents, {index.facts['bytes'] / 1e6:.1f} MB, indexed in {built:.1f} s; "
        f"{found:,} of {count:,} planted stretches found with document and place ({grown:,} of them inside a span that "
        f"goes on elsewhere as the text around does); {places:,} places named, {wrong:,} wrong; {seconds:.0f} s"
    )


def invented(name: str, documents: dict[str, str], held_out: str, folder: Path) -> None:
    """All spans and places of 300 texts in 500 documents, against bytes.find."""
    draw = random.Random(1)
    some = dict(draw.sample(sorted(documents.items()), 500))
    index = build_index(given(some), folder / f"small-{name.split()[0]}", block_bytes=1 << 14)
    encoded = {each: text.encode() for each, text in some.items()}
    joined = b"\xff".join(encoded.values())
    same = spans = 0
    for number in range(300):
        chosen = some[draw.choice(list(some))]
        text = around(held_out, held_out[:500], draw)[:60] + stretch(chosen, 120, draw)[1] + chosen[:30]
        least = 3 + number % 8
        truth = [
            (start, end, sorted(places_of(text[start:end].encode(), encoded)))
            for start, end in maximal(text, joined, least)
        ]
        ours = [
            (s["start"], s["start"] + s["length"], sorted((d["id"], d["character"]) for d in s["documents"]))
            for s in trace_text(index, text, least=least, most=ALL)["spans"]
        ]
        same += ours == truth
        spans += len(truth)
    print(f"{name}: {same} of 300 texts have just the spans and places that bytes.find finds ({spans:,} spans)")


def maximal(text: str, joined: bytes, least: int) -> Iterator[tuple[int, int]]:
    farthest = 0
    for start in range(len(text)):
        end = max(start, farthest)
        while end < len(text) and joined.find(text[start : end + 1].encode()) >= 0:
            end += 1
        if end > farthest and end - start >= least and joined.find(text[start:end].encode()) >= 0:
            yield start, end
        farthest = max(farthest, end)


def places_of(wanted: bytes, documents: dict[str, bytes]) -> Iterator[tuple[str, int]]:
    for name, text in documents.items():
        place = text.find(wanted)
        while place >= 0:
            yield name, len(text[:place].decode())
            place = text.find(wanted, place + 1)


def real_lines(data: Path, most: int) -> Iterator[Given]:
    """Lines of the training files, a document each, until there are `most` bytes."""
    left = most
    for path in sorted(path for ending in ("txt", "jsonl", "tsv") for path in data.rglob(f"*train*.{ending}.gz")):
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip(b"\r\n")
                left -= len(text)
                if left < 0:
                    return
                yield Given(f"{path.parent.name}/{path.name}:{number}", (text,))


def _build(data: Path, most: int, folder: Path, told: Any) -> None:
    """Build in a process of its own; tell its seconds, those of its processor, and its memory before and at most."""
    before = peak_kilobytes()
    began, busy = time.perf_counter(), time.process_time()
    build_index(real_lines(data, most), folder)
    told.send((time.perf_counter() - began, time.process_time() - busy, before, peak_kilobytes()))


def peak_kilobytes() -> int:
    """The most memory this program has held; what `getrusage` says is that of its parent, where that had more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def speed(data: Path, megabytes: int, held_out: dict[str, str], folder: Path) -> None:
    """What building, opening and tracing cost."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_build, args=(data, megabytes * 10**6, folder / "big", send)
    )
    process.start()
    seconds, busy, before, peak = receive.recv()
    process.join()
    began = time.perf_counter()
    index = open_index(folder / "big")
    opened = time.perf_counter() - began
    size = index.facts["bytes"] / 1e6
    on_disk = sum(file.stat().st_size for file in index.folder.iterdir()) / 1e6
    print(
        f"{size:.1f} MB, {index.documents:,} documents, {len(index.blocks)} blocks: indexed in {seconds:.1f} s "
        f"({size / seconds:.1f} MB/s; processor {busy:.1f} s, {size / busy:.1f} MB/s), "
        f"peak {peak / 1e3:.0f} MB ({before / 1e3:.0f} MB before it began), "
        f"{on_disk:.0f} MB on disk; opened and verified in {opened:.2f} s"
    )
    draw = random.Random(2)
    joined = b"\n".join(block.text[:] for block in index.blocks)
    (folder / "joined.txt").write_bytes(joined.replace(b"\xff", b"\n"))
    inside = joined.replace(b"\xff", b"\n")[: 20 << 20].decode("utf-8", "replace")
    kinds = {f"held-out {name}": text for name, text in held_out.items()} | {"copied whole": inside}
    for kind, text in kinds.items():
        times, busy_times, found = [], [], 0.0
        for _ in range(ASKED):
            start = draw.randrange(len(text) - 1000)
            asked = text[start : start + 1000]
            began, busy = time.perf_counter(), time.process_time()
            found += trace_text(index, asked)["verbatim"] / ASKED
            times.append(time.perf_counter() - began)
            busy_times.append(time.process_time() - busy)
        print(
            f"  1,000 characters, {kind}: median {1e3 * statistics.median(times):.1f} ms, slowest "
            f"{1e3 * max(times):.1f} ms (processor: median {1e3 * statistics.median(busy_times):.1f} ms); "
            f"{found:.1%} word for word"
        )
        _baselines(asked, 8 if "Tang" in kind else LEAST, joined, folder)


def _baselines(text: str, width: int, joined: bytes, folder: Path) -> None:
    """All windows of a text that are as short as a span may be, looked for without an index."""
    windows = [text[start : start + width] for start in range(len(text) - width + 1)]
    windows = [window for window in windows if "\n" not in window]
    began = time.perf_counter()
    for window in windows[:: max(1, len(windows) // WINDOWS)][:WINDOWS]:
        joined.find(window.encode())
    whole = (time.perf_counter() - began) * len(windows) / WINDOWS
    (folder / "windows.txt").write_text("\n".join(windows) + "\n", "utf-8")
    began = time.perf_counter()
    subprocess.run(
        ["grep", "-c", "-F", "-f", folder / "windows.txt", folder / "joined.txt"],
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,  # where nobody would read, it stops at the first match
        check=False,
    )
    print(
        f"    its {len(windows)} windows of {width}: grep -F {time.perf_counter() - began:.2f} s, bytes.find "
        f"{whole:.1f} s (of {WINDOWS} windows, scaled); neither says how far a match goes on"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("parts", nargs="*", metavar="PART", help="of planted, invented, speed; unsaid: all")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--planted", type=int, default=10_000, help="stretches in each of the two texts")
    options.add_argument("--megabytes", type=int, default=100)
    chosen = options.parse_args()
    parts = chosen.parts or ["planted", "invented", "speed"]
    texts = corpora(chosen.data)
    from llmbert.runs import machine  # which brings torch, and that into each process, if it stands above

    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for name, (documents, held_out) in texts.items():
            if "planted" in parts:
                planted(name, documents, held_out, chosen.planted, Path(folder))
            if "invented" in parts:
                invented(name, documents, held_out, Path(folder))
        if "speed" in parts:
            speed(chosen.data, chosen.megabytes, {name: text for name, (_, text) in texts.items()}, Path(folder))


if __name__ == "__main__":
    main()
