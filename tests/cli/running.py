"""Running the real command line: in this process, or in one of its own where the process is what is tested."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbert import cli

TINY = [f"--set={pair}" for pair in ("steps=20", "layers=1", "width=16", "context=16", "batch=4")]

LAZY = ["torch._dynamo", "jinja2", "matplotlib.pyplot"]  # what a training loads when it first needs it


def tiny(family: str) -> list[str]:
    """The options that keep a training of a family under a second."""
    if family == "ngram":
        return ["--family", "ngram", "--set=order=3"]
    if family == "mixture":
        members = "ngram order=3, gpt layers=1 width=16 heads=2 context=16"
        return ["--family", "mixture", f"--set=members={members}", "--set=steps=20", "--set=batch=4"]
    return ["--family", family, *TINY, *(["--set=heads=2"] if family == "gpt" else [])]


@dataclass
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)


def llmbert(*arguments: str | Path, stdin: bytes = b"") -> Result:
    """`llmbert ARGUMENTS < stdin`, in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["llmbert", *map(str, arguments)], io.TextIOWrapper(io.BytesIO(stdin))
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv, sys.stdin = before
    return Result(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]


def start(arguments: Sequence[str | Path], err: Path, threads: int = 2) -> Any:
    """`llmbert ARGUMENTS 2> err` in a process of its own, forked from one that has loaded all libraries and no more."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["llmbert.workbench.compare", "llmbert.cli.display", *LAZY])
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when the first process is started, and the same for all
    try:
        process = context.Process(target=_main, args=([str(a) for a in arguments], str(err)))
        process.start()
    finally:
        os.environ["OMP_NUM_THREADS"] = before or "1"
    return process


def _main(arguments: list[str], err: str) -> None:
    sys.argv = ["llmbert", *arguments]
    with Path(err).open("w") as stderr, Path(os.devnull).open("w") as stdout:
        os.dup2(stderr.fileno(), 2)
        os.dup2(stdout.fileno(), 1)
        sys.stderr, sys.stdout = stderr, stdout
        cli.main()


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones too, with what the files hold."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
