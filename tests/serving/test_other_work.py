"""Translations, summaries and scores of several requests go together, and none is the worse for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from live import Live, live
from test_scheduler import Slow, until

from llmbert.protocols import Progress
from llmbert.serving import scheduler as module
from llmbert.serving.catalogue import Served
from llmbert.serving.scheduler import Busy, Scheduler
from llmbert.serving.settings import ServeSettings


@pytest.mark.parametrize(("path", "name"), [("translate", "ende"), ("summarise", "t5")])
def test_what_a_text_gets_does_not_depend_on_who_else_asks(server: Live, path: str, name: str) -> None:
    texts = ["x.", "the river runs to the sea. a mill stands where it bends, " * 2, "in spring.", "a town grows."]
    with server.client() as client:

        def ask(text: str) -> str:
            asked = {"model": name, "input": text, "beams": 2} | ({"max_tokens": 9} if path == "summarise" else {})
            (found,) = client.post(f"/v1/{path}", json=asked).json()["data"]
            return str(found["text"])

        alone = [ask(text) for text in texts]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, texts)) == alone
        asked = {"model": name, "input": texts, "beams": 2} | ({"max_tokens": 9} if path == "summarise" else {})
        together = client.post(f"/v1/{path}", json=asked).json()["data"]
    assert [each["text"] for each in together] == alone


def test_a_text_with_unknown_tokens_has_no_bits_a_byte(server: Live) -> None:
    run = server.inside.runs["chars"].run
    with server.client() as client:
        asked = {"model": "chars", "input": ["the river", "the €", "a mill"]}
        known, unknown, other = client.post("/v1/score", json=asked).json()["data"]
    assert known["bits_per_byte"] == pytest.approx(run.score("the river")["bits_per_byte"])
    assert other["bits_per_byte"] == pytest.approx(run.score("a mill")["bits_per_byte"])
    assert unknown["bits_per_byte"] is None and unknown["nats"] == pytest.approx(run.score("the €")["nats"][0])


def test_a_target_is_scored_given_its_own_source(server: Live) -> None:
    run = server.inside.runs["ende"].run
    with server.client() as client:
        asked = {"model": "ende", "input": ["der Fluss", "ja"], "source": ["the river", "a longer source"]}
        found = client.post("/v1/score", json=asked).json()["data"]
    alone = [run.score(text, source)["nats"][0] for text, source in zip(asked["input"], asked["source"], strict=True)]
    assert [each["nats"] for each in found] == pytest.approx(alone, rel=1e-5)
    assert {each["likelihood"] for each in found} == {"conditional"}


@pytest.fixture
def slow(runs: dict[str, Served]) -> Iterator[Any]:
    """Serve the translator with slow steps, which go on to the greatest length."""
    run = runs["ende"].run
    model = run.model

    def served(**settings: Any) -> Any:
        run.model = Slow(model, 0.03)
        return live({"ende": runs["ende"]}, ServeSettings(**settings))

    yield served
    run.model = model


@pytest.mark.parametrize("beams", [1, 3])
def test_work_whose_client_has_left_is_given_up(slow: Any, beams: int) -> None:
    with slow() as server, server.client() as client:
        lane = server.inside.scheduler.lanes["ende"]
        asked = {"model": "ende", "input": ["the river.", "a mill."], "max_tokens": 2000, "beams": beams}
        with pytest.raises(Exception, match="timed out"):
            client.post("/v1/translate", json=asked, timeout=0.5)
        until(lambda: lane.idle, 1.5)
        assert client.post("/v1/completions", json={"model": "ende", "prompt": "x", "max_tokens": 2}).status_code == 200


def test_work_that_takes_too_long_is_given_up(slow: Any) -> None:
    with slow(seconds=1) as server, server.client() as client:
        began = time.monotonic()
        answer = client.post("/v1/translate", json={"model": "ende", "input": "the river.", "max_tokens": 2000})
        assert answer.status_code == 429 and "took longer" in answer.json()["error"]["message"]
        assert time.monotonic() - began < 2.5
        until(lambda: server.inside.scheduler.lanes["ende"].idle, 0.5)


def test_a_server_that_stops_gives_up_what_nobody_waits_for(slow: Any) -> None:
    with slow(drain_seconds=1) as server, server.client() as client:
        with pytest.raises(Exception, match="timed out"):
            asked = {"model": "ende", "input": ["the river."] * 8, "max_tokens": 2000}
            client.post("/v1/translate", json=asked, timeout=0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 3


def test_a_piece_of_work_holds_no_more_than_it_may_write(
    runs: dict[str, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITTEN", 100)
    sizes: list[int] = []

    def do(some: list[int], progress: Progress) -> list[int]:
        sizes.append(len(some))
        return some

    async def ask() -> list[list[int]]:
        made = Scheduler({"ngram": runs["ngram"].run}, batch=2, queue=9, seconds=20, watch=lambda *told: None)
        tickets = [made.work("ngram", "same", items, do, lambda item: item) for items in ([40] * 5, [300, 1], [20])]
        made.start()
        found = [await ticket.result() for ticket in tickets]
        await asyncio.to_thread(made.close, 5.0)
        return found

    assert asyncio.run(ask()) == [[40] * 5, [300, 1], [20]]
    assert max(sizes) <= 3 and sum(sizes) == 8


def test_nobody_else_suffers_where_one_has_left(runs: dict[str, Served]) -> None:
    """What was begun for two is finished for the one that waits."""

    def do(some: list[int], progress: Progress) -> list[int]:
        for step in range(20):
            time.sleep(0.01)
            progress("counting", step)
        return some

    async def ask() -> list[Any]:
        made = Scheduler({"ngram": runs["ngram"].run}, batch=2, queue=9, seconds=20, watch=lambda *told: None)
        first, second, third = (made.work("ngram", key, [1], do) for key in ("same", "same", "other"))
        made.start()
        await asyncio.sleep(0.05)
        first.withdraw()
        found = [await second.result()]
        await asyncio.sleep(0.05)
        third.withdraw()
        with pytest.raises(Busy):
            await third.result()
        await asyncio.to_thread(made.close, 5.0)
        return found

    assert asyncio.run(ask()) == [[1]]
