"""The application: endpoints, page and refusals, behind the guard."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import version
from llmbert.serving.catalogue import Served
from llmbert.serving.feedback import Feedback
from llmbert.serving.guard import UNFORESEEN, Guard, error_body
from llmbert.serving.routes import Server, router
from llmbert.serving.scheduler import Busy, Scheduler, Stopping
from llmbert.serving.settings import ServeSettings
from llmbert.serving.telemetry import Figures

PLAYGROUND = Path(__file__).parent / "playground"
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "server_error"}


def build_app(runs: Mapping[str, Served], settings: ServeSettings | None = None) -> Any:
    """The ASGI application that serves runs; its computing thread begins and ends with its lifespan."""
    settings = settings or ServeSettings()
    figures = Figures()
    scheduler = Scheduler(
        {name: served.run for name, served in runs.items()},
        batch=settings.batch,
        queue=settings.queue,
        seconds=settings.seconds,
        watch=figures.watch,
    )
    figures.attach(scheduler)
    feedback = Feedback(settings.feedback) if settings.feedback is not None else None
    if feedback is not None:
        figures.attach_feedback(feedback)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        scheduler.start()
        yield
        # the server has waited for all that was under way: what is still asked for has nobody left to read it
        if feedback is not None:
            feedback.close()
        scheduler.close(0)
        logging.getLogger("llmbert.serving").info("stopped")

    # no pages of documentation: they load scripts from elsewhere
    app = FastAPI(title="LLMBert", version=version(), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = Server(dict(runs), scheduler, settings, figures, feedback)
    app.include_router(router)
    _add_page(app)
    _add_refusals(app)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    guard = Guard(app, settings, figures)
    if not settings.origins:
        return guard
    # outermost, so that a page that may ask can read a refusal too
    return CORSMiddleware(
        guard,  # type: ignore[arg-type]
        allow_origins=list(settings.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["retry-after", "x-request-id"],
    )


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PLAYGROUND / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(PLAYGROUND / "icon.svg", media_type="image/svg+xml")

    app.mount("/playground", StaticFiles(directory=PLAYGROUND), name="playground")


def _add_refusals(app: FastAPI) -> None:
    """Every error as OpenAI's clients read it, in one sentence and without a trace."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        kind = getattr(error, "kind", KINDS.get(error.status_code, "invalid_request_error"))
        code = "model_not_found" if error.status_code == 404 and "run" in str(error.detail) else None
        return JSONResponse(error_body(str(error.detail), kind, code), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        said = f"{place}: {first['msg']}" if place else str(first["msg"])
        status = 400 if first["type"] == "json_invalid" else 422
        return JSONResponse(error_body(said, "invalid_request_error", param=place or None), status)

    @app.exception_handler(LLMBertError)
    async def failed(_: Request, error: LLMBertError) -> Response:
        if isinstance(error, Busy):
            status = 503 if isinstance(error, Stopping) else 429
            retry = {"retry-after": str(max(1, round(error.seconds)))}
            return JSONResponse(error_body(str(error), "rate_limit_error", "busy"), status, retry)
        if isinstance(error, UsageError):
            return JSONResponse(error_body(str(error), "invalid_request_error"), 422)
        return JSONResponse(error_body(str(error), "server_error"), 500)  # the run's fault, and not the client's

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return JSONResponse(error_body(UNFORESEEN, "server_error"), 500)


def _description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the form of errors and of keys."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        text = {"type": ["string", "null"]}
        error = {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["message", "type"],
                    "properties": {
                        "message": {"type": "string"},
                        "type": {"type": "string"},
                        "param": text,
                        "code": text,
                    },
                }
            },
        }
        parts = found.setdefault("components", {})
        parts.setdefault("schemas", {})["Error"] = error
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{}, {"key": []}]
        app.openapi_schema = found
    return app.openapi_schema
