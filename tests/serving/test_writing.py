"""What the engine wrote → what is told of it: up to the end of each text, and no further."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from live import Live, live
from random_runs import random_run

from llmbert.decoding import Delta, Token
from llmbert.models import FAMILIES
from llmbert.protocols import UsageError
from llmbert.runs import Run
from llmbert.serving.catalogue import Served
from llmbert.serving.scheduler import Ticket
from llmbert.serving.settings import ServeSettings
from llmbert.serving.writing import Asked, Choice, Given, chunks, next_tokens, usage_of, whole_answer
from llmbert.text.dialogue import ReplyReader
from llmbert.text.tokenisers import train_tokeniser

WRITTEN = ["h", "i", "\n", "B", ":", " ", "m"]


@pytest.fixture(scope="module")
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


def handed_over(served: Served, n: int, logprobs: int | None) -> Asked:
    """A chat whose engine had written beyond the end of each turn before anybody looked."""
    t = served.run.tokeniser
    choices = []
    for index in range(n):
        ticket = Ticket("gpt", 5, False)
        ticket.queued = 0.0
        for letter in WRITTEN:
            ticket.give(Delta((Token(int(t.encode(letter)[0]), -1.0),), letter))
        choices.append(Choice(index, Given(decode=t.decode), index, ticket, logprobs is not None, ReplyReader()))
    return Asked(served, "chat", choices, logprobs)


@pytest.mark.parametrize("n", [1, 3])
def test_a_turn_ends_once_however_much_was_written_by_then(runs: dict[str, Served], n: int) -> None:
    async def told() -> tuple[Asked, list[dict[str, Any]]]:
        asked = handed_over(runs["gpt"], n, None)
        return asked, [each async for each in chunks(asked)]

    asked, pieces = asyncio.run(told())
    for index in range(n):
        own = [piece["choices"][0] for piece in pieces if piece["choices"][0]["index"] == index]
        assert [each["finish_reason"] for each in own if each["finish_reason"]] == ["stop"]
        assert own[-1]["finish_reason"] == "stop"
        assert "".join(each["delta"]["content"] for each in own) == "hi"
    assert usage_of(asked)["completion_tokens"] == 4 * n
    assert all(choice.ticket.withdrawn for choice in asked.choices)


@pytest.mark.parametrize("n", [1, 2])
def test_log_probabilities_end_where_the_turn_does(runs: dict[str, Served], n: int) -> None:
    async def told() -> dict[str, Any]:
        return await whole_answer(handed_over(runs["gpt"], n, 0))

    for choice in asyncio.run(told())["choices"]:
        assert [each["token"] for each in choice["logprobs"]["content"]] == ["h", "i", "\n"]


def test_only_the_last_chunk_holds_the_usage_and_the_others_say_so(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "gpt", "prompt": "the", "max_tokens": 3, "stream": True}
    pieces = list(client.completions.create(**asked, stream_options={"include_usage": True}))
    told = [piece.model_dump(exclude_unset=True) for piece in pieces]
    assert all("usage" in piece and piece["usage"] is None for piece in told[:-1])
    assert told[-1]["usage"]["completion_tokens"] <= 3
    assert all("usage" not in piece.model_dump(exclude_unset=True) for piece in client.completions.create(**asked))


def test_top_p_of_nothing_is_the_most_probable_token(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "gpt", "prompt": "the", "max_tokens": 9}
    greedy = client.completions.create(**asked, temperature=0).choices[0].text
    assert client.completions.create(**asked, temperature=1, top_p=0, seed=3).choices[0].text == greedy


def test_echo_shows_the_prompt_and_not_the_source(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "ende", "max_tokens": 3, "temperature": 0, "echo": True}
    for stream in (False, True):

        def text(**more: Any) -> str:
            answer = client.completions.create(**asked, **more, stream=stream)  # noqa: B023
            return "".join(piece.choices[0].text for piece in ([answer] if not stream else answer))  # noqa: B023

        begun = text(prompt="der Fluss", extra_body={"source": "the river"})
        assert begun.startswith("der Fluss") and "the river" not in begun
        assert text(prompt="the river").startswith("the river")


def test_what_fails_in_the_middle_of_a_stream_is_told(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmbert.serving import writing

    real, seen = writing._choice, []

    def fails(*given: Any, **options: Any) -> Any:
        seen.append(given)
        if len(seen) > 2:
            raise RuntimeError("secret")
        return real(*given, **options)

    monkeypatch.setattr(writing, "_choice", fails)
    with server.client() as client:
        asked = {"model": "ngram", "prompt": "the river", "max_tokens": 9, "temperature": 0, "stream": True}
        lines = [line for line in client.post("/v1/completions", json=asked).text.split("\n\n") if line]
    assert '"server_error"' in lines[-1] and "something unforeseen failed" in lines[-1] and "secret" not in lines[-1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_the_model_allows_nothing_the_end_is_the_next_token(temperature: float, tmp_path: Path) -> None:
    """All that ever came after "cat sat on" was the unknown token, which is not to be written."""
    tokeniser = train_tokeniser("words", ["cat sat on", "cat sat"])
    document = [tokeniser.begin_id, *tokeniser.encode("cat sat on xylophones").tolist(), tokeniser.end_id]
    assert tokeniser.unknown_id in document
    ids, starts = np.array(document * 2, np.int32), np.array([0, len(document), 2 * len(document)])
    kind = FAMILIES["ngram"]
    model = kind.model_class().fit(ids, starts, tokeniser.vocabulary_size, kind.settings_class()(smoothing="ml"))
    run = Run(tmp_path, model, tokeniser, {"family": "ngram"})
    asked = run.request("cat sat on", temperature=temperature)
    told = next_tokens(Served("counts", run), run.engine(), asked, 5)
    json.dumps(told, allow_nan=False)
    assert {each["id"]: each["sampled"] for each in told["tokens"] if each["sampled"]} == {tokeniser.end_id: 1.0}
    assert told["kept"] == 1
    assert run.generate("cat sat on", temperature=temperature) == ""


class TestFillingIn:
    @pytest.fixture(scope="class")
    @classmethod
    def between(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """A server of a GPT with the marks of filling in."""
        run = random_run("between", tmp_path_factory.mktemp("between"), "x")
        with live({"gpt": Served("gpt", run)}, ServeSettings()) as running:
            yield running

    def test_what_stands_between_ends_at_its_length(self, between: Live) -> None:
        run = between.inside.runs["gpt"].run
        asked = {"model": "gpt", "prompt": "ab", "suffix": "cd", "temperature": 0, "max_tokens": 5}
        with between.client() as client:
            answer = client.post("/v1/completions", json=asked).json()
            delta = run.write_between("ab", "cd", temperature=0.0, max_tokens=5)
            assert answer["choices"][0]["text"] == delta.text == run.infill("ab", "cd", temperature=0, max_tokens=5)
            assert answer["choices"][0]["finish_reason"] == {"length": "length", "end": "stop"}[str(delta.finish)]
            assert answer["usage"] == {
                "prompt_tokens": 4,
                "completion_tokens": len(delta.tokens),
                "total_tokens": 4 + len(delta.tokens),
            }
            cut = client.post("/v1/completions", json={**asked, "stop": [delta.text[0]]}).json()["choices"][0]
            assert (cut["text"], cut["finish_reason"]) == ("", "stop")

    def test_log_probabilities_of_it_are_refused(self, between: Live, client: openai.OpenAI) -> None:
        asked = {"model": "gpt", "prompt": "ab", "suffix": "cd", "logprobs": 1}
        assert httpx2.post(between.url + "/v1/completions", json=asked).status_code == 422
        with pytest.raises(openai.UnprocessableEntityError, match="leave out logprobs"):
            client.completions.create(model="bert", prompt="ab", logprobs=1)

    def test_penalties_are_obeyed(self, runs: dict[str, Served]) -> None:
        def ids(**settings: Any) -> list[int]:
            (delta,) = runs["bert"].run.write("the", max_tokens=12, temperature=0.0, **settings)
            return [token.id for token in delta.tokens]

        assert len(set(ids())) < 12
        for apart in (ids(no_repeat_ngram=1), ids(presence_penalty=100.0), ids(frequency_penalty=100.0)):
            assert len(set(apart)) == 12


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("chat/completions", {"model": "gpt", "messages": [{"role": "user", "content": "x" * 60}]}),
        ("attention", {"model": "gpt", "input": "x" * 60}),
        ("score", {"model": "ende", "input": "x" * 120, "source": "y"}),
        ("score", {"model": "kinds", "input": "x"}),
        ("completions", {"model": "kinds", "prompt": "x"}),
        ("chat/completions", {"model": "kinds", "messages": [{"role": "user", "content": "x"}]}),
        ("completions", {"model": "gpt", "prompt": "x", "suffix": "y"}),
        ("translate", {"model": "ende", "input": "half \ud800", "max_tokens": 3}),
        ("summarise", {"model": "t5", "input": ["x", "half \ud800"]}),
        ("completions", {"model": "gpt", "prompt": "half \ud800"}),
        ("completions", {"model": "gpt", "prompt": ["x", "half \ud800"]}),
        ("chat/completions", {"model": "gpt", "messages": [{"role": "user", "content": "half \ud800"}]}),
    ],
    ids=range(12),
)
def test_what_the_client_can_mend_is_the_clients(server: Live, path: str, asked: dict[str, Any]) -> None:
    with server.client() as client:
        headers = {"content-type": "application/json"}
        answer = client.post(f"/v1/{path}", content=json.dumps(asked), headers=headers)
    assert answer.status_code == 422 and answer.json()["error"]["type"] == "invalid_request_error", answer.text


def test_what_the_run_is_to_blame_for_is_the_servers(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmbert.protocols import LLMBertError
    from llmbert.runs import Run

    def diverged(*given: Any, **options: Any) -> Any:
        raise LLMBertError("the model's predictions are not numbers; its training diverged: train it again")

    monkeypatch.setattr(Run, "request", diverged)
    with server.client() as client:
        answer = client.post("/v1/completions", json={"model": "gpt", "prompt": "x"})
    assert answer.status_code == 500 and "train it again" in answer.json()["error"]["message"]


def test_a_server_that_never_stops_is_refused() -> None:
    with pytest.raises(UsageError, match="--drain 30"):
        ServeSettings(drain_seconds=float("inf"))
