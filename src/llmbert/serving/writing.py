"""Requests for text → what the engine is asked, and what comes of it → OpenAI's answers, whole or piece by piece."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from llmbert.decoding import Delta, Engine, Request, TextStream, Token
from llmbert.decoding.processors import log_probabilities_of
from llmbert.decoding.streaming import Decode
from llmbert.protocols import Progress, UsageError
from llmbert.runs import Run
from llmbert.serving.catalogue import Served
from llmbert.serving.scheduler import Do, Scheduler, Ticket
from llmbert.serving.schemas import Chat, Completion, Generation, ResponseFormat, Sampling
from llmbert.serving.settings import ServeSettings
from llmbert.tasks.chat import Conversation
from llmbert.text.dialogue import ReplyReader

FINISH = {"end": "stop", "stop": "stop", "length": "length", "cancelled": "length"}
"""Why a text ended, in OpenAI's words."""

MOST_TOLD = 200_000  # log-probabilities of one answer
LEAST_P = 1e-9  # what OpenAI's top_p 0 means: the most probable token alone

SAMPLED = (
    *("top_p", "frequency_penalty", "presence_penalty", "top_k", "min_p", "typical_p"),
    *("repetition_penalty", "no_repeat_ngram", "temperature"),
)


@dataclass
class Given:
    """What texts are written from, known once they have begun. text: the prompt or the source, as the model was given
    it; begin: what a target was to begin with; echo: the prompt, which is the source where no other is given; inside:
    the last tokens of a prompt that ends inside a character; decode: ids to the text behind it; tokens: that were
    read."""

    text: str = ""
    begin: str = ""
    echo: str = ""
    inside: Sequence[int] = ()
    decode: Decode | None = None
    tokens: int = 0


@dataclass
class Choice:
    """One text that is asked for. given: shared by those of one prompt; told: whether somebody wants to see its tokens;
    reader: of a dialogue, finds the end of a turn; pieces: turns tokens into text one by one, once there are some;
    offset: where in the answer the next token's text begins."""

    index: int
    given: Given
    seed: int
    ticket: Ticket
    told: bool = False
    reader: ReplyReader | None = None
    pieces: TextStream | None = None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str | None = None
    offset: int = 0

    def take(self, delta: Delta) -> tuple[str, list[tuple[Token, str]]]:
        """What is new to the reader: text, and tokens with the text of each."""
        text = delta.text
        if self.told and delta.tokens and self.given.decode is not None and self.pieces is None:
            self.pieces = TextStream(self.given.decode)
            self.pieces.push(self.given.inside)
        tokens = [] if self.pieces is None else [(token, self.pieces.push([token.id])) for token in delta.tokens]
        if self.reader is not None:
            text = self.reader.push(text)
            if self.reader.ended:
                self.finish = "stop"
                tokens = tokens if text else []  # what showed the end is of the next turn
        self.ids += [token.id for token in delta.tokens]
        self.text += text
        if delta.finish is not None and self.finish is None:
            self.finish = FINISH[delta.finish]
        return text, tokens

    async def deltas(self) -> AsyncGenerator[Delta]:
        """What comes of it, up to the end of its turn."""
        async with aclosing(self.ticket.deltas()) as deltas:
            async for delta in deltas:
                yield delta
                if self.finish is not None:
                    return


@dataclass
class Asked:
    """All texts of one request, and how they are to be told."""

    served: Served
    kind: str  # "completion" or "chat"
    choices: list[Choice]
    logprobs: int | None  # alternatives at each token; None: no log-probabilities
    usage_at_end: bool = False
    echo: bool = False
    id: str = ""
    created: int = 0

    def __post_init__(self) -> None:
        self.id = ("cmpl-" if self.kind == "completion" else "chatcmpl-") + secrets.token_hex(12)
        self.created = int(time.time())

    def withdraw(self) -> None:
        for choice in self.choices:
            choice.ticket.withdraw()


# ---- in ------------------------------------------------------------------------------------------------------------


def sampling(asked: Sampling) -> dict[str, Any]:
    """The request's numbers as `GenerationSettings` names them; those that were not given are left out."""
    given = asked.model_dump(include=set(SAMPLED), exclude_unset=True)
    if given.get("top_p") == 0:
        given["top_p"] = LEAST_P
    return {name: value for name, value in given.items() if value is not None}


def _generation(asked: Generation, limits: ServeSettings, max_tokens: int, logprobs: int | None) -> dict[str, Any]:
    """`sampling`, and how the text ends."""
    if max_tokens > limits.max_tokens:
        raise UsageError(f"max_tokens is {max_tokens}, and this server writes at most {limits.max_tokens} at a time")
    stops = [asked.stop] if isinstance(asked.stop, str) else list(asked.stop or ())
    if len(stops) > 16 or any(not 0 < len(stop) <= 256 for stop in stops):
        raise UsageError("stop takes at most 16 texts of 1 to 256 characters")
    settings = sampling(asked) | {"max_tokens": max_tokens, "stop": tuple(stops)}
    return settings if logprobs is None else settings | {"logprobs": max(1, logprobs)}


def _seed(asked: Generation) -> int:
    return secrets.randbelow(2**31) if asked.seed is None else asked.seed % 2**63


def schema_of(asked: ResponseFormat | None) -> dict[str, Any] | None:
    """The JSON Schema that an answer is to follow; None for any text."""
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return {"type": "object"}
    if asked.json_schema is None:
        raise UsageError("response_format of type json_schema needs json_schema: {name, schema}")
    return asked.json_schema.schema_


def ask_completion(asked: Completion, served: Served, scheduler: Scheduler, limits: ServeSettings) -> Asked:
    """Let the texts of a completion join the queue. Raises UsageError for what cannot be, Busy for a full queue."""
    served.need("completions")
    prompts = _prompts(asked.prompt, limits)
    settings = _generation(asked, limits, asked.max_tokens, asked.logprobs)
    if asked.suffix and (len(prompts) > 1 or not isinstance(prompts[0], str)):
        raise UsageError("suffix goes with one prompt, and that a text")
    if asked.echo and asked.logprobs is not None:
        raise UsageError(
            "echo shows the prompt without log-probabilities; ask /v1/score for them, or leave out logprobs"
        )
    if asked.source is not None and not served.run.reads_source:
        raise UsageError(f"{served.name} writes on from a prompt and reads no source; give it as the prompt")
    seed, schema = _seed(asked), schema_of(asked.response_format)
    count = len(prompts) * asked.n
    if count > limits.texts:
        raise UsageError(f"this asks for {count} texts, and a request may ask for {limits.texts}")
    _check_told(count * asked.max_tokens, asked.logprobs)
    givens = [Given() for _ in prompts]
    each = [(at, (seed + at * asked.n + i) % 2**63) for at in range(len(prompts)) for i in range(asked.n)]
    prepares = [
        _preparing(served, prompts[at], settings | {"seed": own}, schema, limits, givens[at], asked.source)
        for at, own in each
    ]
    asking = [(prompts[at], own, givens[at]) for at, own in each]
    tickets = _tickets(asked, served, scheduler, asking, settings, prepares)
    choices = [
        Choice(index, givens[at], own, ticket, asked.logprobs is not None)
        for index, ((at, own), ticket) in enumerate(zip(each, tickets, strict=True))
    ]
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    return Asked(served, "completion", choices, asked.logprobs, usage, asked.echo)


def _check_told(tokens: int, logprobs: int | None) -> None:
    """Alternatives cost more to tell than tokens to write; all other requests wait while they are told."""
    if logprobs is not None and tokens * (logprobs + 1) > MOST_TOLD:
        raise UsageError(
            f"this asks for up to {tokens * (logprobs + 1):,} log-probabilities; ask for {MOST_TOLD:,} at most"
        )


def _prompts(given: Any, limits: ServeSettings) -> list[Any]:
    """Texts, or lists of ids, whichever way they were given."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise UsageError("prompt is an empty list; give a text")
    if isinstance(given[0], int):
        return [given]
    if len(given) > limits.texts:
        raise UsageError(f"there are {len(given)} prompts, and a request may have {limits.texts}")
    return list(given)


def _preparing(
    served: Served,
    prompt: Any,
    settings: dict[str, Any],
    schema: dict[str, Any] | None,
    limits: ServeSettings,
    given: Given,
    source: str | None = None,
) -> Callable[[], Request]:
    """What makes the engine's request; it runs on the thread that computes."""
    run = served.run

    def prepare() -> Request:
        if run.reads_source and source is None and not isinstance(prompt, str):
            raise UsageError(f"{served.name} writes from a source; give the prompt as text, or source beside it")
        for text in (prompt, source):
            if isinstance(text, str):
                _check_characters(text, limits)
        start, read = ("", prompt) if run.reads_source and source is None else (prompt, source)
        request = run.request(start, read, **settings)
        _check_tokens(len(request.prompt), limits)
        begun = start if isinstance(start, str) else run.tokeniser.decode(start)
        given.text, given.begin = (begun, "") if read is None else (read, begun)
        given.echo = given.text if source is None else begun
        given.decode = request.decode or run.tokeniser.decode
        given.inside, given.tokens = served.character_begun(request.prompt), _tokens_read(request)
        if schema is None:
            return request
        return replace(request, constraint=served.guide.json(schema))

    return prepare


def _tokens_read(request: Request) -> int:
    """The tokens of a prompt and of a source."""
    mask = request.condition.source_mask if request.condition is not None else None
    return len(request.prompt) + (int(mask.sum()) if mask is not None else 0)


def _check_characters(text: str, limits: ServeSettings) -> None:
    """No token holds more than some dozens of characters: what is far too long is refused before it is read."""
    if len(text) > 64 * limits.prompt_tokens:
        raise UsageError(f"the prompt has {len(text)} characters, more than this server reads; shorten it")


def _check_tokens(count: int, limits: ServeSettings) -> None:
    if count > limits.prompt_tokens:
        raise UsageError(f"the prompt has {count} tokens, and this server reads {limits.prompt_tokens}; shorten it")


def _tickets(
    asked: Completion,
    served: Served,
    scheduler: Scheduler,
    each: Sequence[tuple[Any, int, Given]],
    settings: dict[str, Any],
    prepares: Sequence[Callable[[], Request]],
) -> list[Ticket]:
    run = served.run
    if not run.fills_gaps and not asked.suffix:
        return scheduler.write(served.name, prepares, not asked.stream)
    if asked.response_format is not None and asked.response_format.type != "text":
        raise UsageError(f"{served.name} fills gaps all at once and cannot follow a schema")
    if any(not isinstance(prompt, str) for prompt, *_ in each):
        raise UsageError(f"{served.name} reads both ways; give the prompt as text")
    if asked.logprobs is not None:
        raise UsageError(f"{served.name} tells no log-probabilities of what it fills in; leave out logprobs")

    def filling(prompt: str, own: int, given: Given) -> Do:
        def fill(_: list[Any], progress: Progress) -> list[Any]:
            given.text = given.echo = prompt
            given.tokens = len(run.tokeniser.encode(prompt + (asked.suffix or "")))
            return [run.write_between(prompt, asked.suffix or "", progress, **settings | {"seed": own})]

        return fill

    return [scheduler.work(served.name, object(), [None], filling(*one)) for one in each]


def ask_chat(asked: Chat, served: Served, scheduler: Scheduler, limits: ServeSettings) -> Asked:
    """Let the reply to a conversation join the queue; errors as from `ask_completion`."""
    served.need("chat")
    max_tokens = asked.max_completion_tokens or asked.max_tokens or min(128, limits.max_tokens)
    logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    if asked.top_logprobs is not None and not asked.logprobs:
        raise UsageError("top_logprobs needs logprobs: true")
    settings = _generation(asked, limits, max_tokens, logprobs)
    seed, schema = _seed(asked), schema_of(asked.response_format)
    if sum(len(message.text) for message in asked.messages) > 64 * limits.prompt_tokens:
        raise UsageError("the messages have more characters together than this server reads; leave out old ones")
    _check_told(asked.n * max_tokens, logprobs)
    given = Given()
    made: list[tuple[str, dict[str, Any]]] = []

    def preparing(own: int) -> Callable[[], Request]:
        def prepare() -> Request:
            if not made:  # the conversation is the same for all
                made.append(_conversation(asked, served.run, settings).asked())
            prompt, chosen = made[0]
            return _preparing(served, prompt, chosen | {"seed": own}, schema, limits, given)()

        return prepare

    seeds = [(seed + i) % 2**63 for i in range(asked.n)]
    # a turn may end before the engine knows: what is written is looked at as it comes
    tickets = scheduler.write(served.name, [preparing(own) for own in seeds])
    choices = [
        Choice(index, given, own, ticket, bool(asked.logprobs), _reader(schema, served.run))
        for index, (own, ticket) in enumerate(zip(seeds, tickets, strict=True))
    ]
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    return Asked(served, "chat", choices, logprobs, usage)


def _reader(schema: dict[str, Any] | None, run: Run) -> ReplyReader | None:
    return ReplyReader(bare=run.reads_source) if schema is None else None


def _conversation(asked: Chat, run: Run, settings: dict[str, Any]) -> Conversation:
    """The conversation so far, as the run knows conversations."""
    system = "\n".join(message.text for message in asked.messages if message.role in ("system", "developer"))
    talk = Conversation(run, system=system, **settings)
    turns = [message for message in asked.messages if message.role in ("user", "assistant")]
    if not turns:
        raise UsageError("nobody has said anything yet; give a message of role user")
    for message in turns[:-1]:
        talk.heard(message.text, talk.speakers[0] if message.role == "user" else None)
    if turns[-1].role == "user":
        talk.say(turns[-1].text)
    else:
        talk.heard(turns[-1].text)
    return talk


# ---- out -----------------------------------------------------------------------------------------------------------


async def merged(choices: Sequence[Choice]) -> AsyncGenerator[tuple[Choice, str, list[tuple[Token, str]]]]:
    """What is new of several texts, as it comes: text, and tokens with the text of each. A text that has ended gives up
    its place, and what was written behind its end by then is left out."""
    if len(choices) == 1:
        async with aclosing(choices[0].deltas()) as deltas:
            async for delta in deltas:
                yield choices[0], *choices[0].take(delta)
        return
    news: asyncio.Queue[tuple[Choice, Delta | Exception]] = asyncio.Queue()

    async def read(choice: Choice) -> None:
        try:
            async with aclosing(choice.deltas()) as deltas:
                async for delta in deltas:
                    news.put_nowait((choice, delta))
        except Exception as error:
            news.put_nowait((choice, error))

    readers = {choice.index: asyncio.ensure_future(read(choice)) for choice in choices}
    try:
        while readers:
            choice, item = await news.get()
            if choice.index not in readers:
                continue
            if isinstance(item, Exception):
                raise item
            told = choice.take(item)
            if choice.finish is not None:
                choice.ticket.withdraw()
                readers.pop(choice.index).cancel()
            yield choice, *told
    finally:
        for reader in readers.values():
            reader.cancel()


async def whole_answer(asked: Asked) -> dict[str, Any]:
    """OpenAI's answer to a request, when all of it is there."""
    told: dict[int, list[tuple[Token, str]]] = {choice.index: [] for choice in asked.choices}
    async for choice, _, tokens in merged(asked.choices):
        told[choice.index] += tokens
    chosen = [_choice(asked, choice, choice.text, told[choice.index], last=True) for choice in asked.choices]
    return _frame(asked, chosen) | {"usage": usage_of(asked)}


async def chunks(asked: Asked) -> AsyncGenerator[dict[str, Any]]:
    """OpenAI's answer piece by piece, the usage at the end where it is asked for."""
    begun: set[int] = set()
    async for choice, text, tokens in merged(asked.choices):
        first = choice.index not in begun
        begun.add(choice.index)
        if asked.echo and first:
            text = choice.given.echo + text
        if text or tokens or first or choice.finish is not None:
            frame = _frame(asked, [_choice(asked, choice, text, tokens, last=choice.finish is not None, first=first)])
            yield frame | ({"usage": None} if asked.usage_at_end else {})
    if asked.usage_at_end:
        yield _frame(asked, []) | {"usage": usage_of(asked)}


def usage_of(asked: Asked) -> dict[str, int]:
    """Tokens read and written; a prompt that several texts go on from counts once."""
    givens = {id(choice.given): choice.given for choice in asked.choices}
    read, written = sum(given.tokens for given in givens.values()), sum(len(choice.ids) for choice in asked.choices)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _frame(asked: Asked, choices: list[dict[str, Any]]) -> dict[str, Any]:
    whole = bool(choices) and "message" in choices[0]
    name = {"completion": "text_completion", "chat": "chat.completion" if whole else "chat.completion.chunk"}
    return {
        "id": asked.id,
        "object": name[asked.kind],
        "created": asked.created,
        "model": asked.served.name,
        "system_fingerprint": f"llmbert-{asked.served.made}",
        "choices": choices,
    }


def _choice(
    asked: Asked, choice: Choice, text: str, tokens: list[tuple[Token, str]], *, last: bool, first: bool | None = None
) -> dict[str, Any]:
    """One choice of an answer, or, where `first` says whether it is its first, of a chunk."""
    told: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish if last else None}
    if asked.kind == "completion":
        shown = choice.given.echo + text if asked.echo and first is None else text
        told |= {"text": shown, "logprobs": None}
        if asked.logprobs is not None:
            told["logprobs"] = _logprobs(asked, choice, tokens)
    else:
        role = {"role": "assistant"} if first is not False else {}
        told |= {"message" if first is None else "delta": role | {"content": text}, "logprobs": None}
        if first is None:
            told["message"]["refusal"] = None
        if asked.logprobs is not None:
            told["logprobs"] = {"content": _content(asked, tokens), "refusal": None}
    return told | {"seed": choice.seed}


def _logprobs(asked: Asked, choice: Choice, tokens: list[tuple[Token, str]]) -> dict[str, Any]:
    """The log-probabilities of a completion's tokens. Beyond OpenAI's fields the ids, of which a text can be gone on
    from: two tokens may look alike."""
    offsets = []
    for _, piece in tokens:
        offsets.append(len(choice.given.echo) * asked.echo + choice.offset)
        choice.offset += len(piece)
    alternatives = [_alternatives(asked.served, token, asked.logprobs or 0) for token, _ in tokens]
    return {
        "tokens": [piece for _, piece in tokens],
        "token_logprobs": [token.log_probability for token, _ in tokens],
        "top_logprobs": [{asked.served.token_name(i): value for _, i, value in each} for each in alternatives],
        "text_offset": offsets,
        "token_ids": [token.id for token, _ in tokens],
        "top_ids": [[list(one) for one in each] for each in alternatives],
    }


def _alternatives(served: Served, token: Token, count: int) -> list[tuple[str, int, float]]:
    """(text, id, log-probability) of the likeliest tokens at a place."""
    return [(served.token_text(each), each, value) for each, value in token.alternatives[:count]]


def _content(asked: Asked, tokens: list[tuple[Token, str]]) -> list[dict[str, Any]]:
    def told(text: str, value: float | None, number: int) -> dict[str, Any]:
        own = list(asked.served.token_bytes(number, text)) or None  # of what stands for no text, such as the end
        return {"token": text, "logprob": -9999.0 if value is None else value, "bytes": own, "token_id": number}

    some = asked.logprobs or 0
    return [
        told(piece, token.log_probability, token.id)
        | {"top_logprobs": [told(text, v, i) for text, i, v in _alternatives(asked.served, token, some)]}
        for token, piece in tokens
    ]


# ---- the next token ------------------------------------------------------------------------------------------------


def next_tokens(served: Served, engine: Engine, request: Request, count: int) -> dict[str, Any]:
    """The likeliest next tokens of a text: p of the model, and p once the settings are done with it.

    {"tokens": [{"id", "text", "p", "sampled"}], "entropy": bits, "kept": tokens that may be drawn at all}.
    """
    logits, processed = engine.peek(request)
    p = log_probabilities_of(logits).exp()[0].double()
    if request.settings.greedy:
        sampled = torch.zeros_like(p)
        sampled[processed[0].argmax()] = 1
    else:
        sampled = log_probabilities_of(processed).exp()[0].double()
    ranked = (p + sampled).topk(min(count, len(p))).indices.tolist()
    ranked.sort(key=lambda token: -float(p[token]))
    entropy = -(p * p.clamp_min(1e-300).log2()).sum()
    return {
        "tokens": [
            {"id": i, "text": served.token_text(i), "p": float(p[i]), "sampled": float(sampled[i])} for i in ranked
        ],
        "entropy": float(entropy),
        "kept": int((sampled > 0).sum()),
    }
