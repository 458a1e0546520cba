"""Requests join and leave; what each gets is what it would have got alone; a full queue says so."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from live import Live, live

from llmbert.decoding import GenerationSettings, Request
from llmbert.protocols import LLMBertError, Progress
from llmbert.serving.catalogue import Served
from llmbert.serving.scheduler import TOGETHER, Scheduler
from llmbert.serving.settings import ServeSettings
from llmbert.text.tokenisers import Tokeniser


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


class Slow:
    """A run's model whose steps take a while, so that requests meet, and whose texts end at their length alone."""

    def __init__(self, model: Any, seconds: float) -> None:
        self._model, self.seconds, self.steps = model, seconds, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, ids: torch.Tensor, state: Any) -> Any:
        self.steps += 1
        time.sleep(self.seconds)
        logits, state = self._model.step(ids, state)
        logits[..., Tokeniser.end_id] = -torch.inf
        return logits, state


@pytest.fixture
def slow(runs: dict[str, Served]) -> Iterator[Callable[..., Any]]:
    """Serve the n-gram with slow steps: slow(seconds of a step, **settings) as a context."""
    run = runs["ngram"].run
    model = run.model

    def served(step: float = 0.02, **settings: Any) -> Any:
        run.model = Slow(model, step)
        return live({"ngram": runs["ngram"]}, ServeSettings(**settings))

    yield served
    run.model = model


ASK = {"model": "ngram", "prompt": "the river", "temperature": 0}


@pytest.mark.parametrize("name", ["gpt", "ngram", "lstm", "mixture", "ende", "t5"])
def test_every_greedy_answer_under_load_is_the_answer_alone(server: Live, name: str) -> None:
    prompts = [f"{text} {at}" for at in range(6) for text in ("the river", "a mill", "in spring", "x")]
    with server.client() as client:

        def ask(at: int) -> str:
            asked = {"model": name, "prompt": prompts[at], "temperature": 0, "max_tokens": 5 + at % 9}
            answer = client.post("/v1/completions", json=asked)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["text"])

        alone = [ask(at) for at in range(len(prompts))]
        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(ask, range(len(prompts)))) == alone


def test_a_client_that_leaves_frees_its_place_within_a_step(slow: Any) -> None:
    with slow(0.05, batch=1) as server:
        lane = server.inside.scheduler.lanes["ngram"]
        for stream in (True, False):
            with server.client() as client:
                asked = {**ASK, "max_tokens": 2000, "stream": stream}
                if stream:
                    with client.stream("POST", "/v1/completions", json=asked) as response:
                        lines = response.iter_lines()  # kept: a generator that is thrown away closes its answer
                        next(lines)
                        assert len(lane.rows) == 1
                else:
                    with pytest.raises(Exception, match="timed out"):
                        client.post("/v1/completions", json=asked, timeout=0.4)
            until(lambda: lane.idle, 1.0)
            steps = lane.run.model.steps
            time.sleep(0.2)
            assert lane.run.model.steps - steps <= 1
            assert not (lane.newest and lane.newest.active)


def test_one_that_waits_and_leaves_never_begins(slow: Any) -> None:
    with slow(0.02, batch=1) as server, server.client() as client:
        lane = server.inside.scheduler.lanes["ngram"]
        with client.stream("POST", "/v1/completions", json={**ASK, "max_tokens": 100, "stream": True}) as first:
            lines = first.iter_lines()
            next(lines)
            with pytest.raises(Exception, match="timed out"):
                client.post("/v1/completions", json={**ASK, "max_tokens": 5}, timeout=0.2)
            until(lambda: lane.waiting == 0, 1.0)
            assert len(lane.rows) == 1


def test_a_full_queue_says_so_and_when_to_come_again(slow: Any) -> None:
    with slow(0.02, batch=2, queue=3) as server, server.client() as client, ThreadPoolExecutor(16) as pool:
        asked = {**ASK, "max_tokens": 20}
        answers = list(pool.map(lambda _: client.post("/v1/completions", json=asked), range(16)))
        codes = sorted({answer.status_code for answer in answers})
        assert codes == [200, 429]
        busy = next(answer for answer in answers if answer.status_code == 429)
        assert "are waiting for ngram" in busy.json()["error"]["message"] and int(busy.headers["retry-after"]) >= 1
        assert sum(answer.status_code == 200 for answer in answers) >= 5
        assert client.post("/v1/completions", json=asked).status_code == 200


def test_a_text_that_takes_too_long_is_cut(slow: Any) -> None:
    with slow(0.05, seconds=1, batch=1) as server, server.client() as client:
        pieces = []
        with client.stream("POST", "/v1/completions", json={**ASK, "max_tokens": 1000, "stream": True}) as response:
            waiting = threading.Thread(target=lambda: late.append(client.post("/v1/completions", json=ASK)))
            late: list[Any] = []
            waiting.start()
            pieces = [line for line in response.iter_lines() if line.startswith("data: {")]
        assert json.loads(pieces[-1].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert 5 < len(pieces) < 40
        waiting.join(5)
        assert late[0].status_code in (200, 429)
        until(lambda: server.inside.scheduler.lanes["ngram"].idle)


def test_a_whole_answer_that_takes_too_long_is_what_there_is_of_it(slow: Any) -> None:
    with slow(0.05, seconds=1) as server, server.client() as client:
        answer = client.post("/v1/completions", json={**ASK, "max_tokens": 1000}).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert 5 < answer["usage"]["completion_tokens"] < 40 and len(answer["choices"][0]["text"]) > 5


def test_what_an_idle_server_can_do_it_does(slow: Any) -> None:
    with slow(0.0, batch=2, queue=4) as server, server.client() as client:
        answer = client.post("/v1/completions", json={**ASK, "n": 16, "max_tokens": 3})
        assert answer.status_code == 200 and len(answer.json()["choices"]) == 16


def test_a_long_history_does_not_hold_up_others(server: Live) -> None:
    turns = [{"role": "user" if at % 2 == 0 else "assistant", "content": "the river runs"} for at in range(1023)]
    began = time.monotonic()
    with server.client() as client:
        asked = {"model": "gpt", "messages": turns, "n": 16, "max_tokens": 1}
        assert client.post("/v1/chat/completions", json=asked).status_code == 200
    assert time.monotonic() - began < 5


def test_a_long_list_of_nonsense_is_refused_at_once(server: Live) -> None:
    began = time.monotonic()
    with server.client() as client:
        for field, path in (("prompt", "completions"), ("input", "embeddings")):
            for nonsense in ([[]] * 50_000, [{}] * 50_000, [1.5] * 50_000, ["x", 1] * 50_000):
                answer = client.post(f"/v1/{path}", json={"model": "gpt", field: nonsense})
                assert answer.status_code == 422
    assert time.monotonic() - began < 5


def test_an_engine_that_fails_fails_its_texts_alone(slow: Any) -> None:
    with slow(0.0) as server, server.client() as client:
        model = server.inside.scheduler.lanes["ngram"].run.model
        model.seconds = "no number"  # time.sleep raises
        answer = client.post("/v1/completions", json=ASK)
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "something unforeseen failed here; the log says what"
        model.seconds = 0.0
        assert client.post("/v1/completions", json=ASK).status_code == 200
        assert client.get("/readyz").status_code == 200


def test_when_it_is_to_stop_what_is_under_way_is_finished(slow: Any) -> None:
    got: list[Any] = []
    with slow(0.02, drain_seconds=20) as server:
        client = server.client()
        asked = {**ASK, "max_tokens": 60}
        asking = threading.Thread(target=lambda: got.append(client.post("/v1/completions", json=asked)))
        asking.start()
        until(lambda: bool(server.inside.scheduler.lanes["ngram"].rows))
    asking.join(20)
    assert got[0].status_code == 200 and got[0].json()["usage"]["completion_tokens"] == 60


def test_like_work_of_several_requests_goes_together(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmbert.tasks import classify as module

    sizes: list[int] = []
    original = module.classify

    def watched(run: Any, texts: Any, **options: Any) -> Any:
        sizes.append(len(texts))
        time.sleep(0.1)
        return original(run, texts, **options)

    monkeypatch.setattr(module, "classify", watched)
    with server.client() as client, ThreadPoolExecutor(8) as pool:
        asked = [{"model": "kinds", "input": [f"the river {at}", "a town"]} for at in range(8)]
        answers = list(pool.map(lambda one: client.post("/v1/classify", json=one), asked))
        assert all(len(answer.json()["data"]) == 2 for answer in answers)
        assert sum(sizes) == 16 and max(sizes) >= 4
        alone = client.post("/v1/classify", json=asked[3]).json()["data"]
        got = answers[3].json()["data"]
        assert [each["label"] for each in got] == [each["label"] for each in alone]
        for ours, theirs in zip(got, alone, strict=True):
            assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


def test_much_work_of_one_request_is_cut_so_that_others_come_between(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmbert.serving import scheduler

    texts = [f"{'the river' if at % 3 else 'a town'} {at}" for at in range(50)]
    with server.client() as client:
        whole = client.post("/v1/classify", json={"model": "kinds", "input": texts}).json()["data"]
        monkeypatch.setattr(scheduler, "TOGETHER", 8)
        with ThreadPoolExecutor(2) as pool:
            asked = [{"model": "kinds", "input": texts}, {"model": "kinds", "input": texts[:3]}]
            many, few = pool.map(lambda one: client.post("/v1/classify", json=one).json()["data"], asked)
    assert [each["index"] for each in many] == list(range(50))
    for ours, theirs in zip([*many, *few], [*whole, *whole[:3]], strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


def test_one_bad_text_does_not_spoil_the_others(server: Live) -> None:
    with server.client() as client, ThreadPoolExecutor(6) as pool:
        asked = [{"model": "gpt", "input": "a town"} for _ in range(5)]
        bad = {"model": "ende", "input": "x", "source": "river " * 60}
        answers = pool.map(lambda one: client.post("/v1/score", json=one), [*asked, bad])
        assert [answer.status_code for answer in answers] == [200] * 5 + [422]


def test_figures_for_prometheus(server: Live) -> None:
    with server.client() as client:
        client.post("/v1/completions", json={"model": "lstm", "prompt": "x", "max_tokens": 5, "temperature": 0})
        text = client.get("/metrics").text
    for name in (
        'llmbert_requests_total{route="/v1/completions",status="200"}',
        'llmbert_tokens_total{kind="written",run="lstm"}',
        'llmbert_first_token_seconds_count{run="lstm"}',
        'llmbert_between_tokens_seconds_bucket{le="0.005",run="lstm"}',
        'llmbert_texts_active{run="lstm"} 0.0',
        'llmbert_requests_waiting{run="lstm"} 0.0',
    ):
        assert name in text


def test_the_next_token_before_and_after_the_settings(server: Live) -> None:
    with server.client() as client:
        asked = {"model": "gpt", "prompt": "the river", "count": 30, "temperature": 0.5, "top_k": 3}
        found = client.post("/v1/distribution", json=asked).json()
    run = server.inside.runs["gpt"].run
    ids = [run.tokeniser.begin_id, *run.tokeniser.encode("the river").tolist()]
    p = run.logits([ids])[0, -1].softmax(-1)
    assert found["kept"] == 3 and found["prompt_ids"] == ids[1:]
    for token in found["tokens"]:
        assert token["p"] == pytest.approx(float(p[token["id"]]), abs=1e-5)
    assert sum(token["sampled"] for token in found["tokens"]) == pytest.approx(1, abs=1e-6)


def test_attention_rows_are_distributions_that_look_back(server: Live) -> None:
    with server.client() as client:
        (part,) = client.post("/v1/attention", json={"model": "gpt", "input": "a mill"}).json()["parts"]
        weights = torch.tensor(part["layers"][0]["weights"])
        assert weights.shape == (2, 7, 7) and part["queries"][1:] == list("a mill")
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7), rtol=0, atol=1e-3)
        assert not weights.triu(1).any()
        for name in ("ende", "t5"):
            parts = client.post("/v1/attention", json={"model": name, "input": "a mill", "target": "d"}).json()["parts"]
            assert [part["kind"] for part in parts] == ["encoder", "decoder", "cross"]
            cross = torch.tensor(parts[2]["layers"][0]["weights"])
            assert cross.shape == (2, 2, 7)
            torch.testing.assert_close(cross.sum(-1), torch.ones(2, 2), rtol=0, atol=1e-3)
        assert client.post("/v1/attention", json={"model": "gpt", "input": "x" * 500}).status_code == 422


def test_a_run_without_a_tokeniser_is_refused_before_anybody_asks(runs: dict[str, Served]) -> None:
    from llmbert.runs import Run

    with pytest.raises(LLMBertError, match="no tokeniser"):
        Served("bare", Run(runs["gpt"].run.folder, runs["gpt"].run.model, None, {"family": "gpt"}))


def test_closing_waits_for_work_that_was_taken_out_of_the_queue(runs: dict[str, Served]) -> None:
    begun, items = threading.Event(), list(range(2 * TOGETHER))

    def do(some: list[int], progress: Progress) -> list[int]:
        begun.set()
        time.sleep(0.2)
        return [2 * each for each in some]

    async def ask() -> list[int]:
        made = Scheduler({"ngram": runs["ngram"].run}, batch=2, queue=9, seconds=20, watch=lambda *told: None)
        made.start()
        ticket = made.work("ngram", "double", items, do)
        await asyncio.to_thread(begun.wait, 5)
        await asyncio.to_thread(made.close, 5.0)
        return await ticket.result()

    assert asyncio.run(ask()) == [2 * each for each in items]


def test_what_fails_unforeseen_ends_its_own_texts_and_not_the_computing(
    runs: dict[str, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here nobody can be told how long a text waited for its first token."""
    told = []

    def watch(name: str, what: str, seconds: float) -> None:
        told.append(what)
        if what == "first" and told.count("first") == 1:
            raise RuntimeError("no such figure")

    async def ask() -> list[Any]:
        run = runs["ngram"].run
        made = Scheduler({"ngram": run}, batch=2, queue=9, seconds=20, watch=watch)
        made.start()
        request = Request([run.tokeniser.encode("the river")[0]], GenerationSettings(max_tokens=3, temperature=0.0))
        answers: list[Any] = []
        for _ in range(2):
            (ticket,) = made.write("ngram", [lambda: request])
            try:
                answers.append("".join([delta.text async for delta in ticket.deltas()]))
            except RuntimeError as error:
                answers.append(error)
        await asyncio.to_thread(made.close, 5.0)
        return answers

    failed, written = asyncio.run(ask())
    assert isinstance(failed, RuntimeError) and isinstance(written, str)
