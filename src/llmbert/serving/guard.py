"""Before any answer: who asks, how often, how much and for how long; and one line in the log of each request."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from llmbert.serving.settings import Key, ServeSettings, find_key
from llmbert.serving.telemetry import Figures

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]

log = logging.getLogger("llmbert.serving")

OPEN = ("/", "/healthz", "/readyz", "/favicon.ico")
"""Paths that need no key, beside those of the page's own files, which hold nothing of anybody's."""

PAGE = "/playground/"
UNFORESEEN = "something unforeseen failed here; the log says what"
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


# styles within: a report that is shown in a frame brings its own, and can bring nothing else
PAGE_RULES = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def error_body(sentence: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    clean = sentence.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": clean, "type": kind, "param": param, "code": code}}


class Rate:
    """So many requests a minute for each who asks: a bucket that fills as time goes on (burst: a sixth of a minute's).

    Those who have not asked for longest are forgotten first, so that addresses cannot fill the memory.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 10_000) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._clock, self._most = clock, most

    def wait(self, who: str, a_minute: float) -> float:
        """Take one; seconds to wait where there is none left, 0 where there was."""
        now, burst = self._clock(), max(1.0, a_minute / 6)
        left, last = self._buckets.pop(who, (burst, now))
        left = min(burst, left + (now - last) * a_minute / 60)
        allowed = left >= 1
        self._buckets[who] = (left - 1 if allowed else left, now)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / a_minute


class Refused(HTTPException):
    """A request that goes no further. kind: what OpenAI's clients take it for."""

    def __init__(self, status: int, sentence: str, kind: str, headers: Mapping[str, str] | None = None) -> None:
        # the connection goes too: what was not read of the request would be taken for the next one
        super().__init__(status, sentence, {**(headers or {}), "connection": "close"})
        self.kind = kind


class Guard:
    """The outermost layer of the server (ASGI), but for the headers that pages of other origins need.

    It refuses with 401, 408, 413, 415, 421 or 429 what is not to reach the application, and answers 500 without a trace
    for whatever fails there. The endpoints leave what the log is to say in `scope["llmbert"]`.
    """

    def __init__(self, app: Any, settings: ServeSettings, figures: Figures) -> None:
        self.app, self.settings, self.figures = app, settings, figures
        self._rate = Rate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        notes: dict[str, Any] = {"request": secrets.token_hex(8)}
        scope["llmbert"] = notes
        status = 0

        async def told(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), *SAFE_HEADERS]
                if scope["path"] == "/" or scope["path"].startswith(PAGE):
                    headers.append((b"content-security-policy", PAGE_RULES.encode()))
                message = {**message, "headers": [*headers, (b"x-request-id", notes["request"].encode())]}
            await send(message)

        self.figures.open.inc()
        try:
            body = _Body(receive, self.settings)
            try:
                self._check(scope, notes, body)
                await self.app(scope, body.receive, told)
            except Refused as refused:
                await self._refuse(refused, told)
            except Exception as error:
                log.error("a request failed", exc_info=error, extra={"fields": {"request": notes["request"]}})
                if not status:
                    await _send_json(told, 500, error_body(UNFORESEEN, "server_error"))
        finally:
            self.figures.open.dec()
            self._log(scope, notes, status, time.perf_counter() - began)

    def _check(self, scope: Scope, notes: dict[str, Any], body: _Body) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_host(headers)
        path = scope["path"]
        public = path in OPEN or path.startswith(PAGE)
        key = self._who(headers) if self.settings.keys and not public else None
        if key is not None:
            notes["key"] = key.name
        if not public:
            self._check_rate(scope, key)
        if scope["method"] == "POST":
            self._check_kind(headers)
        body.expect(headers.get("content-length"))

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """A page elsewhere can make its own name point here: only names that this server goes by are answered."""
        name = headers.get("host", "").strip().lower()
        name = name[: name.rindex("]") + 1] if name.startswith("[") and "]" in name else name.split(":")[0]
        if self.settings.hosts and name.strip("[]") not in self.settings.hosts:
            raise Refused(421, "this server does not go by that name; see --allow-host", "invalid_request_error")

    def _check_kind(self, headers: Mapping[str, str]) -> None:
        """A page elsewhere can send anything but JSON here without the browser asking first."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Refused(415, "send JSON, and say so: Content-Type: application/json", "invalid_request_error")

    def _who(self, headers: Mapping[str, str]) -> Key:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = find_key(self.settings.keys, given.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            sentence = "give one of this server's keys: Authorization: Bearer KEY"
            raise Refused(401, sentence, "authentication_error", {"www-authenticate": "Bearer"})
        return key

    def _check_rate(self, scope: Scope, key: Key | None) -> None:
        a_minute = self.settings.rate if key is None or key.rate is None else key.rate
        if not a_minute:
            return
        who = f"key {key.name}" if key is not None else f"address {(scope.get('client') or ('?',))[0]}"
        wait = self._rate.wait(who, a_minute)
        if wait:
            seconds = str(max(1, int(wait + 0.999)))
            raise Refused(
                429,
                f"more than {a_minute:g} requests a minute; ask again in {seconds} s",
                "rate_limit_error",
                {"retry-after": seconds},
            )

    async def _refuse(self, refused: Refused, send: Send) -> None:
        await _send_json(send, refused.status_code, error_body(refused.detail, refused.kind), refused.headers)

    def _log(self, scope: Scope, notes: dict[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or ("page" if scope["path"].startswith(PAGE) else "other")
        self.figures.requests.labels(route, str(status or 499)).inc()
        self.figures.seconds.labels(route).observe(seconds)
        fields = {"method": scope["method"], "route": route, "status": status or 499, "seconds": round(seconds, 4)}
        level = logging.DEBUG if route in ("/healthz", "/readyz", "/metrics", "page") else logging.INFO
        log.log(level, "request", extra={"fields": fields | notes})


class _Body:
    """A request's body as it is read: no longer than allowed, and in no more time than allowed."""

    def __init__(self, receive: Receive, settings: ServeSettings) -> None:
        self._receive, self._settings = receive, settings
        self._read, self._until = 0, time.monotonic() + settings.header_seconds
        self._whole = False

    def expect(self, length: str | None) -> None:
        """Refuse at once what says it is too long."""
        if length is not None and length.isdigit() and int(length) > self._settings.body_bytes:
            raise self._too_long()

    def _too_long(self) -> Refused:
        most = self._settings.body_bytes
        return Refused(413, f"the request has more than {most:,} bytes, the most here", "invalid_request_error")

    async def receive(self) -> dict[str, Any]:
        if self._whole:
            return dict(await self._receive())  # whether the client is still there
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "the request came too slowly", "invalid_request_error") from None
        self._read += len(message.get("body", b""))
        if self._read > self._settings.body_bytes:
            raise self._too_long()
        self._whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return dict(message)


async def _send_json(send: Send, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    given = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": data})
