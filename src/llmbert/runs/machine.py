"""What a result depends on: this program, its libraries and the machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch


def version() -> str:
    try:
        return metadata.version("llmbert")
    except metadata.PackageNotFoundError:
        return "0"


def versions() -> dict[str, str]:
    """What a result depends on: of Python and the libraries."""
    found = {name: metadata.version(name) for name in ("torch", "numpy", "tokenizers", "safetensors")}
    return {"llmbert": version(), "python": platform.python_version()} | found


def machine() -> str:
    """The machine in a few words: processor, cores (those this process may use), memory, and its GPU."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    cores = str(os.cpu_count())
    if hasattr(os, "sched_getaffinity") and (usable := len(os.sched_getaffinity(0))) != os.cpu_count():
        cores = f"{usable} of {cores}"
    return f"{name}, {cores} cores, {memory:.0f} GiB, {platform.system()}{gpu}"


def device() -> torch.device:
    """Where models are trained: the GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def command_line(show: Callable[[str], str] = str) -> str:
    """How this program was called, for the record, as a shell reads it; show: what is said of each argument."""
    return shlex.join([Path(sys.argv[0]).name, *map(show, sys.argv[1:])])


def resume_command(folder: str | os.PathLike[str]) -> str:
    """What goes on with a stopped training, as a shell reads it."""
    return shlex.join(["llmbert", "train", "--resume", os.fspath(folder)])


def forget_peak_memory() -> None:
    """Begin anew with this process' peak memory, where the system lets one."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """The most bytes of memory this process held since `forget_peak_memory`; None where the system does not say."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return None
