"""The application on a socket: started, drained and stopped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmbert.protocols import LLMBertError, UsageError
from llmbert.serving.app import build_app
from llmbert.serving.catalogue import Served
from llmbert.serving.settings import LOOPBACK, ServeSettings
from llmbert.serving.telemetry import log_as_json


class PatientOnlySoLong(H11Protocol):
    """uvicorn's protocol, which would wait for ever for the end of a request's head: a client that sends it drop by
    drop is let go after `header_seconds`."""

    header_seconds = 10.0
    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait()
        elif self.conn.their_state is not h11.IDLE:
            self._waited()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waited()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._waited()  # from here on uvicorn's own timer waits for the next request

    def _wait(self) -> None:
        if self._impatience is None:
            self._impatience = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _waited(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None


def check_address(host: str, settings: ServeSettings) -> None:
    """Refuse to be reached from elsewhere without keys."""
    if host not in LOOPBACK and not settings.keys:
        raise UsageError(
            f"{host} is reached from other machines, and anybody could ask; give keys (--keys FILE, or "
            "LLMBERT_API_KEYS), or bind 127.0.0.1"
        )


def open_socket(host: str, port: int) -> socket.socket:
    """The socket to listen on. Raises LLMBertError where the port is taken or the host is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise LLMBertError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); give another --port or --host"
        ) from error
    return listening


def uvicorn_config(app: Any, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn is to run the application: no header that tells what it is, no trust in anybody's X-Forwarded-For."""
    protocol = type("Protocol", (PatientOnlySoLong,), {"header_seconds": settings.header_seconds})
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        h11_max_incomplete_event_size=32 << 10,
    )


def serve(runs: Mapping[str, Served], settings: ServeSettings, listening: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C; then requests under way are finished, for `drain_seconds` at most."""
    log = log_as_json()
    server = uvicorn.Server(uvicorn_config(build_app(runs, settings), settings))
    host, port = listening.getsockname()[:2]
    log.info("listening", extra={"fields": {"host": host, "port": port, "runs": list(runs)}})
    server.run(sockets=[listening])
