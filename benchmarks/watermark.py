"""A watermark put into texts of 200 tokens: how many are found, after edits too, and what it costs.

python benchmarks/watermark.py [--data FOLDER] [--out FOLDER] [--family gpt] [--budget 4m] [--texts 300]

A family learns WikiText-2's train with 4,096 subwords and goes on from beginnings of valid's paragraphs at temperature
1, with the mark (gamma 0.25, delta 2) and without. Found is a text that the verdict of `detect_watermark` calls marked
(z of 4, and p as rare). Humans' texts are 10,000 pieces of 200 tokens of WikiText-2's train, judged under several keys,
since a key can be lucky. Edits are of words: replaced by words drawn as often as train has them, deleted, or cut off at
the end. Perplexity is the model's own and a 5-gram's of the same tokens, of what was written behind the beginning.
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import llmbert
from llmbert.cli.display import Display
from llmbert.decoding import GreenLists, Request
from llmbert.decoding.watermark import number_rows
from llmbert.metrics.bootstrap import percentile_interval
from llmbert.metrics.detection import detection_scores
from llmbert.runs import Run, machine, run_status
from llmbert.trust.watermark import green_marks, judge

LENGTH, PROMPT, HUMAN = 200, 32, 10_000  # tokens, tokens, pieces
GAMMA, DELTA = 0.25, 2.0
WIDTHS = {1: 10, 2: 3}  # and under how many keys humans' texts are judged
KEY = b"a benchmark's key, known to all who read it"

Edit = Callable[[list[str], np.random.Generator], list[str]]


def read(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read()


def trained(family: str, data: Path, out: Path, budget: str, progress: Any) -> tuple[Run, Run]:
    """The run that writes, and a 5-gram of its tokens that judges."""
    found = []
    for name, more in ((family, {"budget": budget}), ("ngram", {"tokenizer": str(out / family)})):
        folder = out / name
        if run_status(folder) != "done":
            settings = {"order": 5} if name == "ngram" else {}
            paths = [data / "wikitext2/train.txt.gz"], [data / "wikitext2/valid.txt.gz"]
            llmbert.train(name, paths[0], folder, valid=paths[1], settings=settings, progress=progress, **more)
        found.append(llmbert.load(folder))
    return found[0], found[1]


def prompts_of(run: Run, text: str, count: int) -> list[list[int]]:
    """The first tokens of paragraphs, `count` of them evenly spread."""
    paragraphs = [line for line in text.splitlines() if len(line) > 400]
    spread = np.linspace(0, len(paragraphs) - 1, count).round().astype(int)
    return [run.tokeniser.encode(paragraphs[at])[:PROMPT].tolist() for at in spread]


def write(run: Run, prompts: Sequence[list[int]], seed: int = 0) -> tuple[list[list[int]], float]:
    """The tokens written behind each prompt, and seconds of the processor for each token."""
    asked = [Request(p, run.request("", max_tokens=LENGTH, seed=seed + i).settings) for i, p in enumerate(prompts)]
    began = time.process_time()
    ids = [handle.ids for handle in run.engine(32).run(asked)]
    return ids, (time.process_time() - began) / sum(map(len, ids))


def scores(texts: Sequence[Any], lists: GreenLists, reserved: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
    """z and verdict of each text (ids)."""
    found = []
    for ids in texts:
        green, counted = green_marks(np.asarray(ids), lists, reserved)
        verdict = judge(int(green.sum()), int(counted.sum()), lists.gamma)
        found.append((verdict["z"], verdict["marked"]))
    z, marked = zip(*found, strict=True)
    return np.array(z), np.array(marked)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z = hits / count, 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def edits(train: str) -> dict[str, Edit]:
    counts = Counter(train.split())
    words = list(counts)
    shares = np.array(list(counts.values())) / counts.total()

    def replace(share: float) -> Edit:
        def edit(text: list[str], random: np.random.Generator) -> list[str]:
            at = random.random(len(text)) < share
            new = random.choice(len(words), size=len(text), p=shares)
            return [words[new[i]] if at[i] else word for i, word in enumerate(text)]

        return edit

    def delete(share: float) -> Edit:
        return lambda text, random: [word for word in text if random.random() >= share]

    made = {f"{share:.0%} of words replaced": replace(share) for share in (0.1, 0.2, 0.3)}
    return made | {f"{share:.0%} of words deleted": delete(share) for share in (0.1, 0.2, 0.3)}


def edited(run: Run, texts: Sequence[list[int]], edit: Edit) -> Iterator[np.ndarray]:
    """Texts after an edit of their words, tokenised anew; line ends go, as they would in a chat."""
    for number, ids in enumerate(texts):
        words = run.tokeniser.decode(ids).split()
        yield run.tokeniser.encode(" ".join(edit(words, np.random.default_rng((7, number)))))


def nats(run: Run, prompts: Sequence[list[int]], texts: Sequence[list[int]]) -> np.ndarray:
    """Nats a token of what was written behind each prompt, (texts,)."""
    t = run.tokeniser
    documents = [[t.begin_id, *prompt, *ids] for prompt, ids in zip(prompts, texts, strict=True)]
    starts = np.concatenate(([0], np.cumsum([len(each) for each in documents])))
    found = run.model.token_nats(np.concatenate(documents).astype(np.int64), starts)
    ends = zip(starts[1:].tolist(), texts, strict=True)
    return np.array([found[end - len(ids) : end].mean() for end, ids in ends])


def say_quality(judge_name: str, plain: np.ndarray, marked: np.ndarray) -> None:
    random = np.random.default_rng(0)
    drawn = random.integers(len(plain), size=(2000, len(plain)))
    low, high = np.exp(percentile_interval((marked - plain)[drawn].mean(1), 0.95))
    own, other = math.exp(plain.mean()), math.exp(marked.mean())
    print(
        f"  {judge_name:<12}perplexity without {own:7.1f}, with {other:7.1f}: "
        f"times {other / own:.3f} ({low:.3f} to {high:.3f})",
        flush=True,
    )


def say_found(name: str, marked: np.ndarray, human: np.ndarray, verdicts: np.ndarray) -> None:
    low, high = wilson(int(verdicts.sum()), len(verdicts))
    auc = detection_scores(human, marked, resamples=200)["auc"]["score"]
    print(
        f"  {name:<26}found {verdicts.mean():6.1%} ({low:.1%} to {high:.1%})   AUC {auc:5.1f}   median z "
        f"{np.median(marked):5.2f}",
        flush=True,
    )


def counts_of(texts: np.ndarray, lists: GreenLists) -> tuple[np.ndarray, np.ndarray]:
    """Green and counted tokens of many texts of one length (N, T), as `green_marks` counts them one by one."""
    windows = np.lib.stride_tricks.sliding_window_view(texts, lists.width + 1, axis=1)
    rows = windows.reshape(-1, lists.width + 1).astype(np.int64)
    number = np.repeat(np.arange(len(texts)), windows.shape[1])
    firsts = np.unique(number_rows(np.column_stack((number, rows))), return_index=True)[1]
    green = lists.greens(rows[firsts, :-1], rows[firsts, -1])
    return np.bincount(number[firsts], green, len(texts)).astype(int), np.bincount(number[firsts], None, len(texts))


def standard(texts: np.ndarray, lists: GreenLists) -> np.ndarray:
    """z of many texts of one length."""
    green, counted = counts_of(texts, lists)
    return (green - lists.gamma * counted) / np.sqrt(counted * lists.gamma * (1 - lists.gamma))


def say_false(human: np.ndarray, keys: int, width: int) -> None:
    """How many of humans' texts are called marked, under several keys; what an ideal coin would do beside."""
    found = []
    for number in range(keys):
        lists = GreenLists(KEY if number == 0 else KEY + bytes([number]), GAMMA, width)
        green, counted = counts_of(human, lists)
        for each in range(0, len(human), len(human) // 20):
            one = green_marks(human[each], lists)
            assert (int(one[0].sum()), int(one[1].sum())) == (green[each], counted[each])
        verdicts = [judge(g, c, GAMMA) for g, c in zip(green.tolist(), counted.tolist(), strict=True)]
        found.append((sum(each["marked"] for each in verdicts), sum(each["z"] >= 4 for each in verdicts)))
    pairs = round(float(counted.mean()))
    ideal = next(v["p"] for g in range(pairs) if (v := judge(g, pairs, GAMMA))["marked"]) * len(human)
    called, beyond = (list(each) for each in zip(*found, strict=True))
    print(
        f"  width {width}: of {len(human):,} humans' texts ({pairs} pairs each) called marked {called[0]}; under "
        f"{keys} keys {called}; z of 4 alone {beyond}; a fair coin {ideal:.2f}",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--out", type=Path, default=Path("benchmark-runs/watermark"), help="where the runs are kept")
    options.add_argument("--family", default="gpt", help="that writes")
    options.add_argument("--budget", default="4m", help="of its training")
    options.add_argument("--texts", type=int, default=300, help="written with the mark, and as many without")
    chosen = options.parse_args()
    train, valid = (read(chosen.data / f"wikitext2/{part}.txt.gz") for part in ("train", "valid"))
    with Display() as display:
        run, other = trained(chosen.family, chosen.data, chosen.out, chosen.budget, display)
    reserved = run.tokeniser.reserved_ids
    print(machine())
    prompts = prompts_of(run, valid, chosen.texts)
    stream = run.tokeniser.encode(train)
    human = stream[: HUMAN * LENGTH].reshape(-1, LENGTH)

    run.mark(None)
    plain, _ = write(run, prompts)
    for width in WIDTHS:
        lists = GreenLists(KEY, GAMMA, width)
        run.mark(KEY, DELTA, GAMMA, width)
        marked, _ = write(run, prompts)
        below = standard(human, lists)
        print(f"width {width}: {len(marked)} texts, {np.mean([len(ids) for ids in marked]):.0f} tokens on average")
        say_found("as written", *_pair(marked, below, lists, reserved))
        again = [run.tokeniser.encode(run.tokeniser.decode(ids)) for ids in marked]
        say_found("read back as text", *_pair(again, below, lists, reserved))
        say_found("without a mark", *_pair(plain, below, lists, reserved))
        for name, edit in edits(train).items():
            say_found(name, *_pair(list(edited(run, marked, edit)), below, lists, reserved))
        for length in (100, 50):
            shorter = standard(human[:, :length], lists)
            say_found(f"cut to {length} tokens", *_pair([ids[:length] for ids in again], shorter, lists, reserved))
        say_quality(run.family, nats(run, prompts, plain), nats(run, prompts, marked))
        say_quality("5-gram", nats(other, prompts, plain), nats(other, prompts, marked))
    say_speed(run, prompts)
    print(f"false alarms, texts of {LENGTH} tokens", flush=True)
    for width, keys in WIDTHS.items():
        say_false(human, keys, width)


def _pair(
    texts: Sequence[Any], human: np.ndarray, lists: GreenLists, reserved: frozenset[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, verdicts = scores(texts, lists, reserved)
    return z, human, verdicts


def say_speed(run: Run, prompts: Sequence[list[int]], rounds: int = 7) -> None:
    """Tokens a second of the processor with and without the mark, by turns; a first round of each is not counted."""
    marked = llmbert.load(run.folder)
    run.mark(None)
    for batch, some in ((32, prompts[:32]), (1, prompts[:1])):
        for width in WIDTHS:
            marked.mark(KEY, DELTA, GAMMA, width)
            began = time.process_time()
            write(marked, some)
            first = time.process_time() - began
            write(run, some)
            seconds: dict[bool, list[float]] = {False: [], True: []}
            for number in range(rounds):
                for mark in (number % 2 == 0, number % 2 == 1):
                    seconds[mark].append(write(marked if mark else run, some, seed=1 + number)[1])
            first -= np.median(seconds[True]) * batch * LENGTH
            fast, slow = np.median(seconds[False]), np.median(seconds[True])
            print(
                f"  {batch:>2} at a time, width {width}: {1 / fast:8,.0f} tokens/s without, {1 / slow:8,.0f} with: "
                f"{slow / fast - 1:+.1%} time a token; once {max(0.0, first):.2f} s more",
                flush=True,
            )


if __name__ == "__main__":
    main()
