"""Characters of several tokens over HTTP: whole ones in texts, their parts told by their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from live import Live, live

from llmbert.models import FAMILIES
from llmbert.runs import Run
from llmbert.serving.catalogue import Served
from llmbert.serving.settings import ServeSettings
from llmbert.text.tokenisers import train_tokeniser

TEXT = "河水从山上流下来，经过磨坊，流到海里。"


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of an n-gram of bytes that goes on with TEXT wherever it is."""
    family, tokeniser = FAMILIES["ngram"], train_tokeniser("bytes", [TEXT])
    ids = np.array([tokeniser.begin_id, *tokeniser.encode(TEXT), tokeniser.end_id], dtype=np.int32)
    settings = family.settings_class()(order=9)
    model = family.model_class().fit(ids, np.array([0, len(ids)]), tokeniser.vocabulary_size, settings)
    run = Run(tmp_path_factory.mktemp("chinese"), model, tokeniser, {"family": "ngram"})
    with live({"zh": Served("zh", run)}, ServeSettings()) as running:
        yield running


@pytest.fixture(scope="module")
def client(chinese: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{chinese.url}/v1", api_key="none", max_retries=0, timeout=60)


ASKED: dict[str, Any] = {"model": "zh", "prompt": TEXT[:3], "max_tokens": 30, "temperature": 0}


def test_a_stream_holds_whole_characters_and_is_the_answer(client: openai.OpenAI) -> None:
    whole = client.completions.create(**ASKED).choices[0].text
    pieces = [piece.choices[0].text for piece in client.completions.create(**ASKED, stream=True)]
    assert "".join(pieces) == whole == TEXT[3:13] and max(map(len, pieces)) == 1


def test_parts_of_characters_are_told_by_their_bytes(client: openai.OpenAI) -> None:
    told: Any = client.completions.create(**ASKED, logprobs=20).choices[0].logprobs
    assert "".join(told.tokens) == TEXT[3:13]
    first = "山".encode()[:1]
    assert told.top_logprobs[0][f"bytes:\\x{first[0]:02x}"] == told.token_logprobs[0]
    assert [len(each) for each in told.top_logprobs] == [len(each) for each in told.top_ids] == [20] * 30
    turns: Any = [{"role": "user", "content": TEXT}]
    choice: Any = client.chat.completions.create(
        model="zh", messages=turns, max_tokens=12, logprobs=True, top_logprobs=5, seed=1, temperature=0.2
    ).choices[0]
    content = choice.logprobs.content
    assert choice.message.content in b"".join(bytes(each.bytes) for each in content).decode()
    assert all(len(each.bytes) == 1 for each in content)
    parts = [part for each in content for part in each.top_logprobs]
    assert all(part.bytes is None or len(part.bytes) == 1 for part in parts)


def test_the_next_token_may_begin_a_character(chinese: Live) -> None:
    with chinese.client() as client:
        found = client.post("/v1/distribution", json={"model": "zh", "prompt": TEXT[:3], "top_p": 0.5}).json()
    best = found["tokens"][0]
    assert best["p"] > 0.5 and best["sampled"] == pytest.approx(1)


def test_a_prompt_that_ends_inside_a_character_is_gone_on_from(chinese: Live) -> None:
    """As the page does, where another token is taken in the place of one."""
    t = chinese.inside.runs["zh"].run.tokeniser
    for inside in (1, 2):
        ids = t.encode(TEXT[:4]).tolist()[: -3 + inside]
        with chinese.client() as client:
            asked = {**ASKED, "prompt": ids, "max_tokens": 9 - inside, "logprobs": 1}
            choice = client.post("/v1/completions", json=asked).json()["choices"][0]
        assert choice["text"] == "".join(choice["logprobs"]["tokens"]) == TEXT[3:6]


def test_a_conversation_and_a_schema(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["河水", "磨坊"]}}}
    turns: Any = [{"role": "user", "content": "去哪里？"}]
    answer = client.chat.completions.create(model="zh", messages=turns, response_format=form, max_tokens=20, seed=1)
    assert answer.choices[0].message.content in ('"河水"', '"磨坊"')


def test_every_text_is_scored_for_itself(chinese: Live) -> None:
    run = chinese.inside.runs["zh"].run
    texts = [TEXT, "海", ""]
    with chinese.client() as client:
        found = client.post("/v1/score", json={"model": "zh", "input": texts}).json()["data"]
    for text, each in zip(texts, found, strict=True):
        alone = run.score(text)
        assert each["nats"] == pytest.approx(alone["nats"][0])
        assert each["bits_per_byte"] == pytest.approx(alone["bits_per_byte"])
        assert each["likelihood"] == "exact" and "bootstrap" not in each["signature"]
    assert len({each["signature"] for each in found}) == 1
