"""A server under load, from a second process, and under nonsense: proofs that take minutes.

python benchmarks/serving.py load --run FOLDER [--minutes 10] [--clients 64] [--weights int8]
python benchmarks/serving.py fuzz --run FOLDER [--run FOLDER …] [--requests 20000]

load: clients of mixed lengths, streaming and not, 5 % of which leave midway; prints errors, slots that leaked, memory
at the beginning and the end, p50 and p99 to the first token and between tokens, tokens/s beside one client alone, and
how many greedy answers differ from the answer alone (with how near the tie was). fuzz: Schemathesis (pip install
schemathesis) against the server's own OpenAPI description; prints how many requests were made and any 5xx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from llmbert.runs import machine

TEXT = "the river runs to the sea where it bends and people built a mill in spring the water is high and brown"
WORDS = TEXT.split()


@contextmanager
def served(runs: Sequence[Path], *options: str) -> Iterator[tuple[str, int]]:
    """`llmbert serve` in a process of its own: its address and its process id."""
    command = [sys.executable, "-m", "llmbert", "serve", *map(str, runs), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            if line.startswith("http://"):
                url = line.split()[0].rstrip("/")
            if '"listening"' in line:
                break
        reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)  # so that it never blocks
        try:
            while httpx2.get(url + "/readyz").status_code != 200:
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            reader.wait(10)


def resident(pid: int) -> float:
    """Memory of a process now, MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]


# ---- load ----------------------------------------------------------------------------------------------------------


def asked(draw: random.Random, model: str, greedy: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A request of some length; every third is one of `greedy`, whose answers are known."""
    if draw.random() < 0.33:
        return dict(draw.choice(greedy))
    prompt = " ".join(draw.choices(WORDS, k=draw.randint(1, 40)))
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": draw.choice([8, 16, 32, 64, 128]),
        "temperature": draw.choice([0.0, 0.7, 1.0]),
        "seed": draw.randrange(1 << 30),
    }


class Tally:
    """What all clients saw. first, between: seconds; tokens; differing: greedy answers that are not those alone."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.between: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.tokens = self.left = self.greedy = 0
        self.differing: list[tuple[str, str, str]] = []
        self.errors: list[str] = []


async def client(url: str, model: str, number: int, until: float, greedy: Any, known: Any, tally: Tally) -> None:
    draw = random.Random(number)
    async with httpx2.AsyncClient(base_url=url, timeout=120) as asking:
        while time.monotonic() < until:
            try:
                await one(asking, draw, model, greedy, known, tally)
            except httpx2.HTTPError as error:
                tally.errors.append(repr(error))
            await asyncio.sleep(draw.random() * 0.2)


async def one(asking: Any, draw: random.Random, model: str, greedy: Any, known: Any, tally: Tally) -> None:
    request, leaves = asked(draw, model, greedy), draw.random() < 0.05
    key = json.dumps(request, sort_keys=True)
    began = last = time.perf_counter()
    first, text, count = None, "", 0
    if not leaves and draw.random() < 0.3:
        answer = await asking.post("/v1/completions", json=request)
        tally.statuses[answer.status_code] += 1
        if answer.status_code != 200:
            return
        text, count = answer.json()["choices"][0]["text"], answer.json()["usage"]["completion_tokens"]
    else:
        async with asking.stream("POST", "/v1/completions", json={**request, "stream": True}) as answer:
            tally.statuses[answer.status_code] += 1
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                if first is None:
                    first = now - began
                    tally.first.append(first)
                else:
                    tally.between.append(now - last)
                last = now
                text += json.loads(line[6:])["choices"][0]["text"]
                count += 1
                if leaves and count > 3:
                    tally.left += 1
                    return
    tally.tokens += count
    if key in known:
        tally.greedy += 1
        if text != known[key]:
            tally.differing.append((request["prompt"], known[key], text))


async def alone(url: str, model: str, seconds: float, greedy: Any) -> float:
    """Tokens/s of one client that asks again and again for what many ask for together, without a rest."""
    draw, tally, until = random.Random(0), Tally(), time.monotonic() + seconds
    began = time.perf_counter()
    async with httpx2.AsyncClient(base_url=url, timeout=120) as asking:
        while time.monotonic() < until:
            await one(asking, draw, model, greedy, {}, tally)
    return tally.tokens / (time.perf_counter() - began)


async def answers_alone(url: str, model: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    draw = random.Random(7)
    greedy = [
        {"model": model, "prompt": " ".join(draw.choices(WORDS, k=4 + at)), "max_tokens": 48, "temperature": 0}
        for at in range(24)
    ]
    async with httpx2.AsyncClient(base_url=url, timeout=120) as asking:
        known = {}
        for request in greedy:
            answer = await asking.post("/v1/completions", json=request)
            known[json.dumps(request, sort_keys=True)] = answer.json()["choices"][0]["text"]
    return greedy, known


async def load(url: str, pid: int, model: str, clients: int, minutes: float) -> dict[str, Any]:
    greedy, known = await answers_alone(url, model)
    single = await alone(url, model, 20, greedy)
    tally, before = Tally(), resident(pid)
    began = time.perf_counter()
    until = time.monotonic() + 60 * minutes
    clients_ = [client(url, model, number, until, greedy, known, tally) for number in range(clients)]
    watch = asyncio.create_task(memory_of(pid, until))
    await asyncio.gather(*clients_)
    seconds = time.perf_counter() - began
    await asyncio.sleep(1)
    async with httpx2.AsyncClient(base_url=url) as asking:
        text = (await asking.get("/metrics")).text
    slots = {
        name: float(value)
        for name, value in re.findall(r"llmbert_(texts_active|requests_waiting)\{[^}]*\} ([\d.]+)", text)
    }
    many = tally.tokens / seconds
    return {
        "clients": clients,
        "minutes": minutes,
        "answers": dict(tally.statuses),
        "left midway": tally.left,
        "errors": len(tally.errors),
        "slots afterwards": slots,
        "memory MB": {"before": before, "each minute": await watch, "after": resident(pid)},
        "first token ms": spread(tally.first),
        "between tokens ms": spread(tally.between),
        "tokens/s": many,
        "one client, tokens/s": single,
        "ratio": many / single,
        "greedy answers": tally.greedy,
        "differing": len(tally.differing),
        "first of them": tally.differing[:3] or tally.errors[:3],
    }


async def memory_of(pid: int, until: float) -> list[int]:
    found = []
    while time.monotonic() < until:
        found.append(round(resident(pid)))
        await asyncio.sleep(60)
    return found


def spread(seconds: Sequence[float]) -> dict[str, float]:
    return {name: round(1000 * float(np.quantile(seconds, share)), 1) for name, share in (("p50", 0.5), ("p99", 0.99))}


# ---- fuzz ----------------------------------------------------------------------------------------------------------


ROUNDS = 10  # in which all endpoints take turns


def fuzz(url: str, requests: int) -> dict[str, Any]:
    """Requests made from the server's own description, right and wrong ones; what was answered, by status.

    Four of five name a run that is there: a made-up name would be all that the server looks at.
    """
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.generation import GenerationMode

    names = [each["id"] for each in httpx2.get(url + "/v1/models").json()["data"]]
    schema = schemathesis.openapi.from_url(url + "/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    broken: list[str] = []
    each = requests // len(operations) // ROUNDS + 1
    kinds = [(operation, mode) for operation in operations for mode in GenerationMode]
    number = 0
    while sum(statuses.values()) < requests:  # what can be wrong in few ways only runs out, and others take its share
        number += 1
        for operation, mode in kinds:

            @settings(
                max_examples=each // 2 + 1,
                database=None,
                deadline=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                name_a_run(case, names, sum(statuses.values()))
                answer = case.call(timeout=60)
                statuses[answer.status_code] += 1
                if answer.status_code >= 500:
                    broken.append(f"{answer.status_code} {case.method} {case.formatted_path} {case.body!r}"[:600])

            try:
                ask()
            except Unsatisfiable:  # nothing about this operation can be wrong
                continue
        print(f"round {number}: {dict(statuses)}", file=sys.stderr)
    return {"requests": sum(statuses.values()), "answers": dict(sorted(statuses.items())), "5xx": broken[:5]}


def name_a_run(case: Any, names: Sequence[str], number: int) -> None:
    """Let a request ask for a run that there is, and for few tokens: it is not the model that is tried here."""
    if number % 5 == 0:
        return
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = names[number % len(names)]
    if isinstance(case.body, dict):
        if "model" in case.body:
            case.body["model"] = names[number % len(names)]
        for limit in ("max_tokens", "max_completion_tokens"):
            if isinstance(case.body.get(limit), int) and case.body[limit] > 0 and number % 3:
                case.body[limit] = 1 + case.body[limit] % 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["load", "fuzz"])
    options.add_argument("--run", type=Path, action="append", required=True, help="served")
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--weights", help="as llmbert serve takes them")
    chosen = options.parse_args()
    print(machine())
    more = ["--weights", chosen.weights] if chosen.weights else []
    database = Path(tempfile.mkdtemp()) / "feedback.sqlite"
    with served(chosen.run, *more, "--batch", "64", "--feedback", str(database)) as (url, pid):
        if chosen.what == "load":
            found = asyncio.run(load(url, pid, chosen.run[0].name, chosen.clients, chosen.minutes))
        else:
            found = fuzz(url, chosen.requests)
    print(json.dumps(found, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
