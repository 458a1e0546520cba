"""The endpoints: OpenAI's, and ours for what its protocol has no word for."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import represent_texts
from llmbert.runs.attention import attention_of
from llmbert.runs.scoring import score_each
from llmbert.serving import schemas
from llmbert.serving.catalogue import Served
from llmbert.serving.feedback import Answer, Feedback
from llmbert.serving.guard import UNFORESEEN, error_body
from llmbert.serving.scheduler import Do, Scheduler, Ticket
from llmbert.serving.settings import ServeSettings
from llmbert.serving.telemetry import Figures
from llmbert.serving.writing import (
    Asked,
    ask_chat,
    ask_completion,
    chunks,
    next_tokens,
    sampling,
    usage_of,
    whole_answer,
)

T = TypeVar("T")
PSEUDO_CHARACTERS = 2048
log = logging.getLogger("llmbert.serving")
LEFT = 499  # a client that went before its answer came

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": what, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for code, what in {
        400: "not understood",
        401: "no key of this server's",
        404: "no such run or answer",
        408: "the request came too slowly",
        413: "the request is too long",
        415: "the request is no JSON",
        421: "the server does not go by that name",
        422: "the request cannot be met; the message says why",
        429: "too many requests; Retry-After says when to come again",
        503: "the server is about to stop",
    }.items()
}
router = APIRouter(responses=ERRORS)


@dataclass
class Server:
    """All that the endpoints share (`request.app.state.server`)."""

    runs: dict[str, Served]
    scheduler: Scheduler
    settings: ServeSettings
    figures: Figures
    feedback: Feedback | None

    def find(self, name: str) -> Served:
        served = self.runs.get(name)
        if served is None:
            there = ", ".join(self.runs)
            raise HTTPException(404, f"there is no run {name[:80]!r} here; there is {there}")
        return served


def server_of(request: Request) -> Server:
    found: Server = request.app.state.server
    return found


def _note(request: Request, **values: Any) -> None:
    """What the log is to say of a request."""
    request.scope.get("llmbert", {}).update(values)


async def _unless_gone(request: Request, answer: Awaitable[T]) -> T | None:
    """The answer; None, and the answer is given up, where the client leaves before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        return None
    finally:
        for each in (work, leaving):
            each.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)


# ---- what there is -------------------------------------------------------------------------------------------------


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The runs that are served."""
    server = server_of(request)
    data = [served.describe() for served in server.runs.values()]
    return {"object": "list", "data": data, "llmbert": {"feedback": server.feedback is not None}}


@router.get("/v1/models/{model:path}/report", response_class=Response)
async def report(model: str, request: Request) -> Response:
    """The page that a run's training wrote; it may run no scripts and load nothing."""
    served = server_of(request).find(model)
    path = served.run.folder / "report.html"
    if path.is_symlink() or not path.is_file():
        raise HTTPException(404, f"{model} has no report")
    rules = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return Response(path.read_bytes(), media_type="text/html", headers={"content-security-policy": rules})


@router.get("/v1/models/{model:path}/curve")
async def curve(model: str, request: Request) -> dict[str, Any]:
    """How a run learned: the lines of its log that hold a loss."""
    path = server_of(request).find(model).run.folder / "log.jsonl"
    lines: list[dict[str, Any]] = []
    if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24:
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                lines.append({name: record[name] for name in ("step", "loss", "valid") if _number(record.get(name))})
    return {"object": "list", "data": lines}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e300


@router.get("/v1/models/{model:path}")
async def retrieve_model(model: str, request: Request) -> dict[str, Any]:
    """One run."""
    return server_of(request).find(model).describe()


# ---- texts ---------------------------------------------------------------------------------------------------------


@router.post("/v1/completions", response_model=None)
async def completions(body: schemas.Completion, request: Request) -> Response:
    """Text that goes on from a prompt, or of an encoder-decoder what it writes from a source."""
    server = server_of(request)
    served = server.find(body.model)
    return await _tell(request, body, ask_completion(body, served, server.scheduler, server.settings))


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(body: schemas.Chat, request: Request) -> Response:
    """The reply to a conversation."""
    server = server_of(request)
    served = server.find(body.model)
    return await _tell(request, body, ask_chat(body, served, server.scheduler, server.settings))


async def _tell(request: Request, body: schemas.Generation, asked: Asked) -> Response:
    _note(request, model=asked.served.name, id=asked.id)
    if body.stream:
        return await _stream(request, body, asked)
    try:
        answer = await _unless_gone(request, whole_answer(asked))
        if answer is None:
            return Response(status_code=LEFT)
        _ended(request, body, asked)
        return JSONResponse(answer)
    finally:
        asked.withdraw()


async def _stream(request: Request, body: schemas.Generation, asked: Asked) -> Response:
    """Events as they come; what goes wrong before the first is answered as an error."""
    events = chunks(asked)
    try:
        first = await _unless_gone(request, anext(events))
    except BaseException:
        asked.withdraw()
        raise
    if first is None:
        asked.withdraw()
        return Response(status_code=LEFT)

    async def told() -> AsyncIterator[bytes]:
        async with aclosing(events):
            yield _event(first)
            try:
                async for each in events:
                    yield _event(each)
            except Exception as error:  # the answer has begun: there is no other way to say so
                known = isinstance(error, LLMBertError)
                if not known:
                    log.error("a request failed", exc_info=error)
                yield _event(error_body(str(error) if known else UNFORESEEN, "server_error"))
                return
            _ended(request, body, asked)
            yield b"data: [DONE]\n\n"

    return _EventStream(told(), asked.withdraw)


class _EventStream(StreamingResponse):
    """Server-sent events; `ended` is called when all were sent, and when the client has left."""

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._ended = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _event(told: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(told, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


def _ended(request: Request, body: schemas.Generation, asked: Asked) -> None:
    """Count an answer, and take it down for whoever wants to rate it."""
    server, now = server_of(request), time.time()
    usage = usage_of(asked)
    read, written = usage["prompt_tokens"], usage["completion_tokens"]
    server.figures.tokens.labels(asked.served.name, "read").inc(read)
    server.figures.tokens.labels(asked.served.name, "written").inc(written)
    _note(request, prompt_tokens=read, completion_tokens=written, finish=asked.choices[0].finish)
    if server.settings.keep_text:
        _note(request, texts=[{"prompt": choice.given.text, "answer": choice.text} for choice in asked.choices])
    settings = body.model_dump(
        exclude_unset=True, exclude={"model", "prompt", "source", "messages", "user", "metadata", "suffix"}
    )
    for choice in asked.choices:
        own = asked.id if choice.index == 0 else f"{asked.id}-{choice.index}"
        times = (choice.ticket.whole or time.perf_counter() - choice.ticket.asked, choice.ticket.first)
        answer = choice.given.begin + choice.text
        _keep(server, own, now, asked, choice.given.text, answer, settings, times, len(choice.ids))


def _keep(
    server: Server,
    own: str,
    now: float,
    asked: Asked,
    prompt: str,
    text: str,
    settings: dict[str, Any],
    times: tuple[float, float | None],
    tokens: int,
) -> None:
    if server.feedback is not None:
        name = asked.served.name
        server.feedback.answered(Answer(own, now, name, asked.kind, prompt, text, settings, *times, tokens))


@router.post("/v1/distribution")
async def distribution(body: schemas.Distribution, request: Request) -> Any:
    """The likeliest next tokens of a text, before and after the sampling settings have their say."""
    server = server_of(request)
    served = server.find(body.model)
    served.need("completions")
    if not hasattr(served.run.model, "step"):
        raise UsageError(f"{served.name} reads both ways and has no next token")
    # room for a whole character: of one that could not be ended no token would be allowed
    settings = sampling(body) | {"max_tokens": 8}
    source = body.source if served.run.reads_source else None
    prompt = "" if served.run.reads_source and body.source is None else body.prompt
    if served.run.reads_source and source is None:
        source = body.prompt if isinstance(body.prompt, str) else ""

    def look(_: list[Any], progress: Progress) -> list[Any]:
        asked = served.run.request(prompt, source, **settings)
        if len(asked.prompt) > server.settings.prompt_tokens:
            raise UsageError(
                f"the prompt has {len(asked.prompt)} tokens, and this server reads {server.settings.prompt_tokens}"
            )
        engine = server.scheduler.lanes[served.name].engine()
        return [next_tokens(served, engine, asked, body.count) | {"prompt_ids": list(asked.prompt)}]

    found = await _done(request, server.scheduler.work(served.name, object(), [None], look))
    return found if isinstance(found, Response) else JSONResponse(found[0])


# ---- other work ----------------------------------------------------------------------------------------------------


async def _done(request: Request, ticket: Ticket) -> list[Any] | Response:
    _note(request, model=ticket.name)
    try:
        found = await _unless_gone(request, ticket.result())
        return Response(status_code=LEFT) if found is None else found
    finally:
        ticket.withdraw()


def _texts(body: schemas.Texts | schemas.Embedding, server: Server) -> list[str]:
    texts = [body.input] if isinstance(body.input, str) else list(body.input)
    if not texts:
        raise UsageError("input is an empty list; give a text")
    if len(texts) > server.settings.texts:
        raise UsageError(f"there are {len(texts)} texts, and a request may have {server.settings.texts}")
    # one text is done in one go, and all others wait for it
    longest, most = max(map(len, texts)), server.settings.prompt_tokens // 2
    if longest > most:
        raise UsageError(f"a text has {longest} characters, and this server takes {most} in one; cut it")
    if sum(map(len, texts)) > 16 * most:
        raise UsageError(f"the texts have more than {16 * most} characters together; ask for them one after another")
    return texts


def _quietly(do: Callable[..., list[Any]], **options: Any) -> Do:
    """A task as the scheduler calls it; remarks for the terminal (a text was cut) are not for it."""

    def done(items: list[Any], progress: Progress) -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return do(items, progress=progress, **options)

    return done


async def _task(
    request: Request, body: schemas.Texts, verb: str, do: Callable[..., list[Any]], options: dict[str, Any]
) -> Any:
    """Ask a run for something of each text, and answer {"data": [{"index", …}]}."""
    server = server_of(request)
    served = server.find(body.model)
    served.need(verb)
    most = options.get("max_tokens")
    if most is not None and most > server.settings.max_tokens:
        raise UsageError(f"max_tokens is {most}, and this server writes at most {server.settings.max_tokens} at a time")
    texts = _texts(body, server)
    key = (verb, json.dumps(options, sort_keys=True))
    began = time.perf_counter()
    work = _quietly(lambda items, **given: do(served.run, items, **given), **options)
    beams = options.get("beams", 0)  # 0: nothing is written

    def writes(text: str) -> int:
        return int(beams * (most or 2 * len(text) + 20))

    found = await _done(request, server.scheduler.work(served.name, key, texts, work, writes))
    if isinstance(found, Response):
        return found
    own, now, seconds = f"{verb}-{secrets.token_hex(12)}", time.time(), time.perf_counter() - began
    for index, (text, answer) in enumerate(zip(texts, found, strict=True)):
        if server.feedback is not None and isinstance(answer, str):
            name = own if index == 0 else f"{own}-{index}"
            server.feedback.answered(Answer(name, now, served.name, verb, text, answer, options, seconds, None, 0))
    data = [{"index": at, **(each if isinstance(each, dict) else {"text": each})} for at, each in enumerate(found)]
    return JSONResponse({"id": own, "object": "list", "model": served.name, "data": data})


@router.post("/v1/translate")
async def translate(body: schemas.Translation, request: Request) -> Any:
    """The translation of each text."""
    from llmbert.tasks.translate import translate as task

    options = body.model_dump(exclude={"model", "input"}, exclude_none=True)
    return await _task(request, body, "translate", task, options)


@router.post("/v1/summarise")
async def summarise(body: schemas.Summary, request: Request) -> Any:
    """The summary of each text."""
    from llmbert.tasks.summarise import summarise as task

    return await _task(request, body, "summarise", task, body.model_dump(exclude={"model", "input"}))


@router.post("/v1/classify")
async def classify(body: schemas.Classification, request: Request) -> Any:
    """The class of each text."""
    from llmbert.tasks.classify import classify as task

    return await _task(request, body, "classify", task, body.model_dump(exclude={"model", "input"}, exclude_none=True))


@router.post("/v1/trace")
async def trace(body: schemas.Tracing, request: Request) -> Any:
    """Where each text stands word for word in the training text, of runs whose index was made beforehand."""
    served = server_of(request).find(body.model)

    def task(_: Any, texts: list[str], least: int | None = None, progress: Progress = silent) -> list[dict[str, Any]]:
        return [served.tracer.look("text", text, least) for text in texts]

    return await _task(request, body, "trace", task, body.model_dump(exclude={"model", "input"}, exclude_none=True))


@router.post("/v1/embeddings")
async def embeddings(body: schemas.Embedding, request: Request) -> Any:
    """A vector for each text: of a run that was taught to embed its own, of any other the mean of its hidden states."""
    server = server_of(request)
    served = server.find(body.model)
    served.need("embeddings")
    texts = _texts(body, server)
    work = _quietly(lambda items, progress: list(represent_texts(served.run, items, progress=progress)))
    found = await _done(request, server.scheduler.work(served.name, "embeddings", texts, work))
    if isinstance(found, Response):
        return found
    width = len(found[0])
    if body.dimensions is not None and body.dimensions != width:
        raise UsageError(f"{served.name} has vectors of {width} numbers; leave out dimensions")
    encode = _base64 if body.encoding_format == "base64" else _listed
    read = await _count_tokens(server, served, texts)
    return JSONResponse(
        {
            "object": "list",
            "model": served.name,
            "data": [{"object": "embedding", "index": i, "embedding": encode(each)} for i, each in enumerate(found)],
            "usage": {"prompt_tokens": read, "total_tokens": read},
        }
    )


def _listed(vector: np.ndarray) -> list[float]:
    return [float(value) for value in vector]


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


async def _count_tokens(server: Server, served: Served, texts: Sequence[str]) -> int:
    encode = served.run.tokeniser.encode_batch
    return await asyncio.to_thread(lambda: sum(map(len, encode(list(texts)))))


@router.post("/v1/score")
async def score(body: schemas.Scoring, request: Request) -> Any:
    """How probable each text is: nats, bits a byte, and which kind of likelihood that is."""
    server = server_of(request)
    served = server.find(body.model)
    served.need("score")
    texts = _texts(body, server)
    sources = [body.source] if isinstance(body.source, str) else body.source
    if served.run.reads_source != (sources is not None):
        need = "give source as well" if served.run.reads_source else "leave out source"
        raise UsageError(f"{served.name} is a {served.run.family}; {need}")
    if sources is not None and len(sources) != len(texts):
        raise UsageError(f"there are {len(sources)} sources and {len(texts)} texts; give as many of each")
    if served.run.model.likelihood == "pseudo" and max(map(len, texts)) > PSEUDO_CHARACTERS:
        raise UsageError(
            f"{served.name} reads a text once for each of its tokens; give at most {PSEUDO_CHARACTERS} characters"
        )
    pairs = list(zip(texts, sources or [""] * len(texts), strict=True))

    def look(items: list[Any], progress: Progress) -> list[Any]:
        read = [own for _, own in items] if sources else None
        return score_each(served.run, [text for text, _ in items], read, progress)

    key = ("score", sources is not None)
    found = await _done(request, server.scheduler.work(served.name, key, pairs, _quietly(look)))
    if isinstance(found, Response):
        return found
    data = [{"index": at, **each} for at, each in enumerate(found)]
    return JSONResponse({"object": "list", "model": served.name, "data": data})


@router.post("/v1/attention")
async def attention(body: schemas.Attention, request: Request) -> Any:
    """Where each head of a Transformer looks while it reads a text (128 tokens at most)."""
    server = server_of(request)
    served = server.find(body.model)
    served.need("attention")
    _texts(body, server)

    def look(_: list[Any], progress: Progress) -> list[Any]:
        return [attention_of(served.run, body.input, body.target)]

    found = await _done(request, server.scheduler.work(served.name, object(), [None], look))
    return found if isinstance(found, Response) else JSONResponse(found[0])


# ---- what people think, and how it goes ----------------------------------------------------------------------------


@router.post("/v1/feedback")
async def feedback(body: schemas.Thumb, request: Request) -> dict[str, Any]:
    """A thumb for an answer, with a note and what would have been better."""
    server = server_of(request)
    if server.feedback is None:
        raise HTTPException(404, "this server keeps no feedback; start it with --feedback FILE")
    rated = server.feedback.rate(body.id, body.good, body.note, body.better, time.time())
    if rated is None:
        raise HTTPException(404, f"there is no answer {body.id!r} that could be rated, or it was too long ago")
    server.figures.thumbs.labels(rated.run, "up" if body.good else "down").inc()
    return {"object": "feedback", "id": body.id, "good": body.good}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """That the program runs."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(request: Request) -> Response:
    """That it takes requests."""
    ready = server_of(request).scheduler.alive
    return JSONResponse({"status": "ready" if ready else "stopping"}, 200 if ready else 503)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(server_of(request).figures.text(), media_type="text/plain; version=0.0.4")
