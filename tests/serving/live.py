"""A real server on a real socket, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn

from llmbert.serving.app import build_app
from llmbert.serving.catalogue import Served
from llmbert.serving.routes import Server
from llmbert.serving.server import open_socket, uvicorn_config
from llmbert.serving.settings import ServeSettings


@dataclass
class Live:
    """A running server: its address, and what its endpoints share."""

    url: str
    port: int
    inside: Server

    def client(self, key: str | None = None, **options: Any) -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, **options)


@contextmanager
def live(runs: Mapping[str, Served], settings: ServeSettings) -> Iterator[Live]:
    """Serve runs until the block ends."""
    listening = open_socket("127.0.0.1", 0)
    app = build_app(runs, settings)
    server = uvicorn.Server(uvicorn_config(app, settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = listening.getsockname()[1]
    try:
        while not hasattr(app, "state"):  # through the layers around it
            app = app.app
        yield Live(f"http://127.0.0.1:{port}", port, app.state.server)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
