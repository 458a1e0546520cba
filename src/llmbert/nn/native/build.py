"""C++ → a library in the user's cache, once for each source, compiler and processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

SOURCES = [
    Path(__file__).with_name(name) for name in ("attention.cpp", "decoder_step.cpp", "elementwise.cpp", "softmax.cpp")
]
HEADER = Path(__file__).with_name("vectors.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-Wno-psabi")
OFF = "LLMBERT_NATIVE"  # set to 0, nothing is compiled and all runs in torch


@cache
def native_library() -> ctypes.CDLL | None:
    """The compiled library, or None where it cannot be had; `why_not_native` says why. The first call takes seconds."""
    return _found()[0]


def why_not_native() -> str | None:
    """Why there is no library, in a few words, or None where there is one."""
    return _found()[1]


def trains_native(x: Tensor) -> bool:
    """Whether what is done with x on a way to a gradient can be a native pass, there and back."""
    wanted = x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled()
    # A compiler would break off at them, and vmap cannot go through.
    followed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    known = x.dtype in (torch.float32, torch.bfloat16) and not followed
    return wanted and known and native_library() is not None


@cache
def _found() -> tuple[ctypes.CDLL | None, str | None]:
    if os.environ.get(OFF) == "0":
        return None, f"{OFF} is 0"
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None, "there is no C++ compiler"
    passing: list[Path] = []
    try:
        return ctypes.CDLL(str(_compiled(compiler, passing))), None
    except subprocess.CalledProcessError as error:
        return None, f"{compiler} does not compile it: {error.stderr.decode(errors='replace').strip()[:200]}"
    except OSError as error:
        return None, f"it cannot be kept or loaded: {error}"
    finally:
        for folder in passing:  # what is loaded stays loaded
            shutil.rmtree(folder, ignore_errors=True)


def _compiled(compiler: str, passing: list[Path]) -> Path:
    """The library's file, made where it is not there yet. What another user could have put there is never loaded.

    passing: is told of a folder that was made for this process alone.
    """
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    texts = (path.read_bytes() for path in (*SOURCES, HEADER))
    parts = (*texts, " ".join(FLAGS).encode(), version, _processor().encode())
    name = f"native-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:24]}.so"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmbert"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = folder.stat()
        if known.st_uid != os.getuid() or known.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError("others may write to it")
        return folder / name if (folder / name).is_file() else _compile(compiler, folder, name)
    except (OSError, RuntimeError):  # no cache, no home
        passing.append(Path(tempfile.mkdtemp(prefix="llmbert-")))
        return _compile(compiler, passing[-1], name)


def _compile(compiler: str, folder: Path, name: str) -> Path:
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as passing:
        made = Path(passing) / name
        subprocess.run([compiler, *FLAGS, "-o", str(made), *map(str, SOURCES)], capture_output=True, check=True)
        made.replace(folder / name)
    return folder / name


def _processor() -> str:
    """What `-march=native` looks at: a cache may lie on a disk that several machines share."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
