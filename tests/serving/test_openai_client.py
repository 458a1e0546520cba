"""OpenAI's own client, unchanged, against every family."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from live import Live

WRITERS = ["gpt", "ngram", "chars", "lstm", "vae", "gan", "bert", "mixture", "ende", "t5"]
STREAMERS = [name for name in WRITERS if name != "bert"]


@pytest.fixture(scope="module")
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


def test_lists_and_describes_every_run(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert names >= {*WRITERS, "kinds"}
    one = client.models.retrieve("ende")
    assert one.object == "model" and one.owned_by == "llmbert"
    assert one.model_dump()["llmbert"]["verbs"] == ["completions", "translate", "embeddings", "score", "attention"]


@pytest.mark.parametrize("name", WRITERS)
def test_completes(client: openai.OpenAI, name: str) -> None:
    answer = client.completions.create(model=name, prompt="the river", max_tokens=6, temperature=0, seed=1)
    assert answer.object == "text_completion" and answer.model == name
    (choice,) = answer.choices
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None and answer.usage.completion_tokens <= 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("name", STREAMERS)
def test_streams_what_it_would_answer_whole(client: openai.OpenAI, name: str) -> None:
    asked = {"model": name, "prompt": "the river", "max_tokens": 12, "temperature": 0.9, "seed": 5}
    whole = client.completions.create(**asked)
    pieces = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == whole.choices[0].text
    assert pieces[-1].usage == whole.usage
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({piece.id for piece in pieces}) == 1


@pytest.mark.parametrize("name", ["gpt", "ngram", "lstm", "mixture"])
def test_chats(client: openai.OpenAI, name: str) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "the river"},
        {"role": "assistant", "content": "runs to the sea"},
        {"role": "user", "content": [{"type": "text", "text": "and the mill?"}]},
    ]
    asked = {"model": name, "messages": turns, "max_tokens": 10, "seed": 3}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.role == "assistant"
    pieces = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_several_prompts_and_choices_each_with_a_seed_of_its_own(client: openai.OpenAI) -> None:
    asked = {"model": "gpt", "max_tokens": 8, "temperature": 1.0}
    many = client.completions.create(**asked, prompt=["the river", "a mill"], n=2, seed=10)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    alone = client.completions.create(**asked, prompt="a mill", seed=13)
    assert many.choices[3].text == alone.choices[0].text
    streamed = dict.fromkeys(range(4), "")
    for piece in client.completions.create(**asked, prompt=["the river", "a mill"], n=2, seed=10, stream=True):
        streamed[piece.choices[0].index] += piece.choices[0].text
    assert streamed == {choice.index: choice.text for choice in many.choices}


def test_log_probabilities_are_the_models(client: openai.OpenAI, server: Live) -> None:
    answer = client.completions.create(model="gpt", prompt="the r", max_tokens=5, temperature=0, logprobs=3, echo=False)
    told = answer.choices[0].logprobs
    assert told is not None and told.token_logprobs is not None and told.top_logprobs is not None
    run = server.inside.runs["gpt"].run
    ids = [run.tokeniser.begin_id, *run.tokeniser.encode("the r").tolist(), *told.token_ids]  # type: ignore[attr-defined]
    rows = run.logits([ids])[0].log_softmax(-1)
    for at, (token, value) in enumerate(zip(told.token_ids, told.token_logprobs, strict=True)):  # type: ignore[attr-defined]
        assert value == pytest.approx(float(rows[len(ids) - len(told.token_logprobs) - 1 + at, token]), abs=1e-4)
    assert all(len(each) == 3 for each in told.top_ids)  # type: ignore[attr-defined]
    chat = client.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": "hm"}], max_tokens=4, logprobs=True, top_logprobs=2, seed=1
    )
    content = chat.choices[0].logprobs
    assert content is not None and content.content is not None
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in content.content)


@pytest.mark.parametrize("name", ["gpt", "lstm", "vae", "gan", "bert", "ende", "t5", "kinds"])
def test_embeds(client: openai.OpenAI, server: Live, name: str) -> None:
    from llmbert.runs import represent_texts

    texts = ["the river runs", "a town"]
    found = client.embeddings.create(model=name, input=texts)
    plain = client.embeddings.create(model=name, input=texts, encoding_format="float")
    ours = represent_texts(server.inside.runs[name].run, texts)
    for given, listed, own in zip(found.data, plain.data, ours, strict=True):
        assert given.embedding == pytest.approx(own.tolist(), abs=1e-5)
        assert listed.embedding == pytest.approx(own.tolist(), abs=1e-5)


def test_stops_and_tells_the_prompt(client: openai.OpenAI) -> None:
    asked = {"model": "ngram", "prompt": "the river ", "max_tokens": 30, "temperature": 0}
    free = client.completions.create(**asked).choices[0]
    stop = free.text[4:6]
    cut = client.completions.create(**asked, stop=[stop], echo=True).choices[0]
    assert cut.text == "the river " + free.text[: free.text.index(stop)] and cut.finish_reason == "stop"


@pytest.mark.parametrize("name", ["gpt", "ngram", "lstm"])
def test_follows_a_schema(client: openai.OpenAI, name: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "place": {"type": "string", "maxLength": 6},
            "size": {"type": "integer", "maximum": 99, "minimum": 0},
        },
        "required": ["place", "size"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    for seed in range(3):
        answer = client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "where?"}],
            max_tokens=120,
            seed=seed,
            response_format=form,
        )
        assert answer.choices[0].finish_reason == "stop"
        found = json.loads(answer.choices[0].message.content or "")
        assert set(found) == {"place", "size"} and 0 <= found["size"] <= 99 and len(found["place"]) <= 6


def test_an_answer_can_be_given_back_and_nulls_are_nothing(client: openai.OpenAI) -> None:
    turns: list = [{"role": "user", "content": "the river"}]
    for _ in range(2):
        answer = client.chat.completions.create(
            model="ngram",
            messages=turns,
            max_tokens=8,
            n=None,
            stream=None,
            frequency_penalty=None,
            logprobs=None,
            logit_bias=None,
            stop=None,
        )
        turns += [answer.choices[0].message, {"role": "user", "content": "and then?"}]
    client.completions.create(model="ngram", prompt="x", max_tokens=None, echo=None, n=None, logit_bias={})


def test_usage_counts_each_prompt_once(client: openai.OpenAI) -> None:
    def read(prompt: object, **more: object) -> int:
        usage = client.completions.create(model="gpt", prompt=prompt, max_tokens=2, **more).usage  # type: ignore[call-overload]
        return int(usage.prompt_tokens)

    assert read([[10, 11, 12], [10, 11, 12, 13, 14]]) == 8
    assert read(["ab", "ab"]) == 4
    assert read("abc", n=3) == 3
    assert client.completions.create(model="bert", prompt="abc", max_tokens=2).usage.prompt_tokens == 3  # type: ignore[union-attr]
    echoed = client.completions.create(model="gpt", prompt=[4 + 97, 4 + 98], max_tokens=1, echo=True).choices[0].text
    assert echoed.startswith("ab")


def test_offsets_run_along_the_text(client: openai.OpenAI) -> None:
    asked = {"model": "ngram", "prompt": "the river ", "max_tokens": 30, "temperature": 0, "logprobs": 1}
    free = client.completions.create(**asked).choices[0]
    assert free.logprobs.text_offset == list(range(len(free.text)))
    cut = client.completions.create(**asked, stop=[free.text[8:11]]).choices[0]
    assert cut.logprobs.text_offset[:8] == list(range(8))
    pieces = list(client.completions.create(**asked, stream=True))
    told = [offset for piece in pieces for offset in piece.choices[0].logprobs.text_offset]
    assert told == free.logprobs.text_offset


def test_a_schema_that_leaves_nothing_ends_its_own_text_alone(client: openai.OpenAI) -> None:
    """Two tokens are too few for a character that the schema asks for: nothing may be written, and others go on."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["中文", "汉字汉字"]}}}
    asked = {"model": "gpt", "prompt": "the", "max_tokens": 200, "temperature": 0}
    alone = client.completions.create(**asked).choices[0].text
    with ThreadPoolExecutor(4) as pool:
        beside = pool.submit(lambda: client.completions.create(**asked, n=2))
        cut = [
            pool.submit(
                lambda: client.completions.create(
                    model="gpt", prompt="the", max_tokens=3, temperature=0, extra_body={"response_format": form}
                )
            )
            for _ in range(6)
        ]
        assert {each.result().choices[0].finish_reason for each in cut} == {"length"}
        assert [choice.text for choice in beside.result().choices] == [alone, alone]
    with pytest.raises(openai.UnprocessableEntityError, match="no tokens that could write it"):
        client.completions.create(
            model="chars", prompt="x", extra_body={"response_format": {"type": "json_object"}}, max_tokens=5
        )


class TestErrors:
    def test_an_unknown_run(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match=r"there is no run 'gtp'.*gpt"):
            client.completions.create(model="gtp", prompt="x")

    def test_what_a_run_cannot_do(self, client: openai.OpenAI) -> None:
        with pytest.raises(
            openai.UnprocessableEntityError, match="ngram is a ngram and cannot be asked for embeddings"
        ):
            client.embeddings.create(model="ngram", input="x")
        with pytest.raises(openai.UnprocessableEntityError, match="cannot be asked for chat"):
            client.chat.completions.create(model="ende", messages=[{"role": "user", "content": "x"}])

    def test_an_unknown_field_is_refused_rather_than_ignored(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.UnprocessableEntityError, match="logit_bias"):
            client.completions.create(model="gpt", prompt="x", logit_bias={"5": 1})
        with pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length"):
            client.embeddings.create(model="gpt", input=[[5, 6, 7]])
        with pytest.raises(openai.UnprocessableEntityError, match="tools"):
            tool = {"type": "function", "function": {"name": "f"}}
            client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "x"}], tools=[tool])

    def test_numbers_out_of_range(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.UnprocessableEntityError, match="max_tokens is 5000"):
            client.completions.create(model="gpt", prompt="x", max_tokens=5000)
        with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
            client.completions.create(model="gpt", prompt="x", temperature=-1)

    def test_a_schema_that_is_none(self, client: openai.OpenAI) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
        with pytest.raises(openai.UnprocessableEntityError, match="schema cannot be followed"):
            client.completions.create(model="gpt", prompt="x", extra_body={"response_format": form})
