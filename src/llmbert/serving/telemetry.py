"""What the server tells of itself: figures for Prometheus, and a log of JSON lines without anybody's text."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from llmbert.serving.scheduler import Scheduler, waiting_figures

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Figures:
    """Counts and times of this server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, what: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"llmbert_{name}", what, labels, buckets=buckets, registry=self.registry)

        self.requests = Counter("llmbert_requests", "Requests answered", ("route", "status"), registry=self.registry)
        self.seconds = histogram("request_seconds", "From a request to the end of its answer", ("route",), LONG)
        self.tokens = Counter("llmbert_tokens", "Tokens read and written", ("run", "kind"), registry=self.registry)
        self.open = Gauge("llmbert_requests_open", "Requests under way", registry=self.registry)
        self.thumbs = Counter("llmbert_thumbs", "Answers rated", ("run", "thumb"), registry=self.registry)
        self._times = {
            "first": histogram("first_token_seconds", "From a request to its first token", ("run",), LONG),
            "between": histogram("between_tokens_seconds", "From a token to the next", ("run",), SHORT),
            "queued": histogram("queued_seconds", "From a request to its beginning", ("run",), LONG),
        }

    def watch(self, run: str, what: str, seconds: float) -> None:
        """A time that the scheduler measured."""
        self._times[what].labels(run).observe(seconds)

    def attach(self, scheduler: Scheduler) -> None:
        """Show how much is waiting and being written, as it is when somebody asks."""
        self.registry.register(_Waiting(scheduler))

    def attach_feedback(self, feedback: Any) -> None:
        """Show how much of the feedback could not be written."""
        lost = Gauge("llmbert_feedback_lost", "Rows of feedback that could not be written", registry=self.registry)
        lost.set_function(lambda: feedback.failures)

    def text(self) -> bytes:
        """The figures in Prometheus's format."""
        return generate_latest(self.registry)


class _Waiting:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Any:
        active = GaugeMetricFamily("llmbert_texts_active", "Texts being written", labels=("run",))
        waiting = GaugeMetricFamily("llmbert_requests_waiting", "Requests in the queue", labels=("run",))
        for name, rows, queued in waiting_figures(self._scheduler):
            active.add_metric((name,), rows)
            waiting.add_metric((name,), queued)
        yield active
        yield waiting


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, message, and what it was given as `extra={"fields": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        told["message"] = record.getMessage()
        told |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            told["error"] = record.exc_info[0].__name__
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()


def log_as_json(stream: Any = None) -> logging.Logger:
    """Let this server and uvicorn write JSON lines to stderr, and return the server's log.

    uvicorn's own line for each request is left out: ours says more, and nobody's address.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("llmbert.serving", logging.INFO), ("uvicorn", logging.WARNING), ("uvicorn.access", 100)):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)
    for name in ("uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).handlers = []
    return logging.getLogger("llmbert.serving")
