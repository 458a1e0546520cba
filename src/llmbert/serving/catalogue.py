"""The runs that are served: their names, and what each of them can do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmbert.decoding import Guide
from llmbert.decoding.utf8 import character_begun
from llmbert.models.headed import Headed
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import Run, load
from llmbert.runs.guiding import guide_of
from llmbert.tasks.requests import prefixes_of

if TYPE_CHECKING:
    from llmbert.workbench.curation.trace import Tracer

NAME = re.compile(r"[\w][\w.:+@ -]{0,127}", re.UNICODE)


class Served:
    """A run under a name, and the verbs that are true of it."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.run = name, run
        run.tokeniser  # noqa: B018  a run without one says so now, not with the first request
        _check_facts(run)
        self._texts: dict[int, str] = {}
        self.writes_onward = hasattr(run.model, "step") and not run.fills_gaps and not isinstance(run.model, Headed)
        self.writes = self.writes_onward or run.fills_gaps
        self.verbs = tuple(verb for verb, able in self._able().items() if able)

    def _able(self) -> dict[str, bool]:
        model, tasks = self.run.model, self._tasks
        kinds = {head.task for head in model.settings.heads.values()} if isinstance(model, Headed) else set()
        asked = self.run.reads_source and not kinds
        return {
            "completions": self.writes,
            "chat": self.writes_onward and (not asked or tasks is None or "chat" in tasks),
            "translate": asked and (tasks is None or "translate" in tasks),
            "summarise": asked and (tasks is None or "summarise" in tasks),
            "classify": bool(kinds & {"classify", "multilabel"}) or (asked and "classify" in (tasks or ())),
            "embeddings": any(hasattr(model, name) for name in ("posteriors", "discriminator", "encode", "hidden")),
            "score": getattr(model, "likelihood", "none") != "none",
            "trace": self._is_traced(),
            "attention": any(hasattr(module, "weights_of") for module in getattr(model, "modules", list)()),
        }

    def _is_traced(self) -> bool:
        """Whether whoever serves it has made the index of its training text (`llmbert trace RUN --index-only`).

        A server makes none by itself: to say where a text stands is to say what the training text holds.
        """
        from llmbert.workbench.curation.trace import is_indexed

        return is_indexed(self.run)

    @cached_property
    def tracer(self) -> Tracer:
        """What says where a text stands in the training text."""
        from llmbert.workbench.curation.trace import run_tracer

        return run_tracer(self.run)

    @cached_property
    def _tasks(self) -> set[str] | None:
        """What it was taught, as its prefixes or its facts tell; None where nothing does."""
        known = [name.partition(" ")[0] for name in prefixes_of(self.run)] or self.run.facts.get("tasks")
        return set(known) if known else None

    def need(self, verb: str) -> None:
        """Refuse what this run cannot do."""
        if verb not in self.verbs:
            raise UsageError(
                f"{self.name} is a {self.run.family} and cannot be asked for {verb}; it can: {', '.join(self.verbs)}"
            )

    def token_text(self, token: int) -> str:
        """A token as text, for a person to read."""
        found = self._texts.get(token)
        if found is None:
            t = self.run.tokeniser
            ends = token in getattr(t, "end_ids", (t.end_id,))
            found = self._texts[token] = "<end>" if ends else t.decode([token]) or f"<{token}>"
        return found

    @cached_property
    def _bytes(self) -> list[bytes] | None:
        return self.run.tokeniser.token_bytes()

    def token_bytes(self, token: int, text: str) -> bytes:
        """The bytes of a token that shows as `text`: its own, or none, where tokens are bytes."""
        if self._bytes is None:
            return text.encode("utf-8", "replace")
        return self._bytes[token] if token < len(self._bytes) else b""

    def character_begun(self, ids: Sequence[int]) -> list[int]:
        """The last of some tokens that begin a character and do not end it."""
        return [] if self._bytes is None else character_begun(ids, self._bytes)

    def token_name(self, token: int) -> str:
        """A token as text that no other goes by: part of a character by its bytes, as OpenAI has it."""
        own = self._bytes[token] if self._bytes is not None and token < len(self._bytes) else b""
        try:
            own.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)
        return self.token_text(token)

    @cached_property
    def guide(self) -> Guide:
        """What keeps this run's texts to a schema."""
        return guide_of(self.run)

    @cached_property
    def made(self) -> int:
        """When its folder was written, seconds since 1970."""
        return int(self.run.folder.stat().st_mtime) if self.run.folder.exists() else 0

    def describe(self) -> dict[str, Any]:
        """The run as `/v1/models` lists it: OpenAI's fields, and below "llmbert" what a page wants to know."""
        run, model = self.run, self.run.model
        weights = model.parameters() if hasattr(model, "parameters") else ()
        return {
            "id": self.name,
            "object": "model",
            "created": self.made,
            "owned_by": "llmbert",
            "llmbert": {
                "family": run.family,
                "verbs": list(self.verbs),
                "tasks": sorted(self._tasks or ()),
                "languages": run.facts.get("languages"),
                "likelihood": getattr(model, "likelihood", "none"),
                "reads_source": run.reads_source,
                "fills_gaps": run.fills_gaps,
                "watermarked": run.marked,
                "context": getattr(model, "max_length", None),
                "parameters": sum(weight.numel() for weight in weights) or None,
                "vocabulary": model.vocabulary_size,
                "tokeniser": run.tokeniser.kind,
                "report": (run.folder / "report.html").is_file(),
            },
        }


def _check_facts(run: Run) -> None:
    """Refuse a `run.json` whose facts are of other kinds than a training writes: every request looks at them."""
    kinds: dict[str, type] = {"languages": dict, "text": dict, "dialogue": dict, "prefixes": dict, "tasks": list}
    for name, kind in kinds.items():
        found = run.facts.get(name)
        words = [*found, *found.values()] if isinstance(found, dict) else found if isinstance(found, list) else []
        texts = [word for word in words if isinstance(word, str)]
        if (found is not None and not isinstance(found, kind)) or any(not _writable(text) for text in texts):
            raise LLMBertError(
                f"{run.folder}/run.json is damaged: its {name} cannot be {found!a:.80}; copy the run again"
            )


def _writable(text: str) -> bool:
    """Whether a text can be sent: a lone half of a character cannot."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode("utf-8", "replace")


def load_runs(given: Sequence[str], weights: str | None = None, progress: Progress = silent) -> dict[str, Served]:
    """Runs by name, each given as FOLDER (its own name) or NAME=FOLDER.

    Raises UsageError for two of one name or a name that is none, and what `load` raises for a run that cannot be read.
    """
    found: dict[str, Served] = {}
    for number, each in enumerate(given):
        name, folder = _named(each)
        if name in found:
            raise UsageError(f"two runs are called {name}; give one another name: OTHER={folder}")
        run = load(folder, weights)
        model = run.model
        if hasattr(model, "eval"):
            model.eval()
        found[name] = Served(name, run)
        progress("loading", number + 1, len(given))
    return found


def _named(given: str) -> tuple[str, str]:
    name, equals, folder = given.partition("=")
    if not equals or Path(given).exists():
        name, folder = Path(given).resolve().name, given
    if not NAME.fullmatch(name.strip()):
        raise UsageError(f"{name!r} cannot be the name of a run; give one of letters and digits: NAME={folder}")
    return name.strip(), folder
