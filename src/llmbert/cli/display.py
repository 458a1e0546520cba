"""What a person sees while work goes on: a bar with the time left, drawn on stderr, never on stdout."""

from __future__ import annotations

import sys
import time
from typing import Any


class Display:
    """A `Progress` drawn with rich on a terminal, and as a line now and then elsewhere.

    Use it as a context; stages that end within a moment leave no trace.
    """

    def __init__(self, every: float = 10.0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal
        self.every = every
        self.stage = ""
        self.began = self.said = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=self.console,
            transient=False,
        )
        self.task: Any = None

    def __enter__(self) -> Display:
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.bar.stop()

    def __call__(self, stage: str, done: float, total: float | None = None, **figures: float | str) -> None:
        now = time.monotonic()
        text = "  ".join(f"{name} {_shown(value)}" for name, value in figures.items())
        if self.live:
            self._draw(stage, done, total, text)
        elif now - self.said > self.every:
            share = f" {done / total:4.0%}" if total else f" {done:,.0f}"
            print(f"{stage}{share}  {text}".rstrip(), file=sys.stderr, flush=True)
            self.said = now
        self.stage = stage

    def _draw(self, stage: str, done: float, total: float | None, text: str) -> None:
        if stage != self.stage:
            if self.task is not None and not self._worth_keeping():
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(stage, total=total, figures=text)
            self.began = time.monotonic()
        self.bar.update(self.task, completed=done, total=total, figures=text)

    def _worth_keeping(self) -> bool:
        return time.monotonic() - self.began > 2

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, markup=False)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
