"""The files of a run: written whole or not at all, read with a sentence for whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llmbert.protocols import LLMBertError
from llmbert.runs.machine import resume_command, version

FORMAT = 1
WEIGHTS, CONFIG, FACTS, CHECKPOINT, LOG = (
    "model.safetensors",
    "config.json",
    "run.json",
    "checkpoint.safetensors",
    "log.jsonl",
)
MEMBERS = "members"  # where the members of a mixture lie
KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Of tensors, as safetensors files name them."""
PARTIAL = ".partial"  # how a file's name ends while it is being written


# ---- writing -------------------------------------------------------------------------------------------------------


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all. Raises LLMBertError where the disk refuses."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all. Raises LLMBertError where the disk refuses."""
    beside = path.with_name(path.name + PARTIAL)
    try:
        # A file name that is no UTF-8 reaches Python as lone surrogates; they go out as their escapes.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def disk_error(path: Path, error: Exception) -> LLMBertError:
    return LLMBertError(f"could not write {path}: {error}; free some space there or choose another --out")


def check_out(folder: Path) -> None:
    """Refuse a folder that already holds something: nothing of the user's is ever overwritten."""
    if (folder / FACTS).exists():
        mend = "choose another --out" + (
            f", or go on with it: {resume_command(folder)}" if run_status(folder) == "training" else ""
        )
        raise LLMBertError(f"{folder} already holds a run; {mend}")
    if folder.exists() and (not folder.is_dir() or any(file.suffix != PARTIAL for file in folder.iterdir())):
        raise LLMBertError(f"{folder} already exists and is not an empty folder; choose another --out")


def sweep(folder: Path) -> None:
    """Remove what a killed process had half written (`.tmp…` is how safetensors begins a file)."""
    for pattern in (f"*{PARTIAL}", "*.part", ".tmp*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def run_status(folder: Path) -> str | None:
    """How far the run in a folder is: "training", "done", or None where there is none or it is damaged."""
    try:
        return read_json(folder / FACTS).get("status")
    except LLMBertError:
        return None


# ---- reading -------------------------------------------------------------------------------------------------------


def read_facts(folder: Path) -> dict[str, Any]:
    """`run.json` of a run. Raises LLMBertError where it is no run, damaged, or of a later format."""
    path = folder / FACTS
    if not folder.is_dir():
        raise LLMBertError(f"there is no run at {folder}; give the folder that llmbert train --out wrote")
    if not path.exists():
        raise LLMBertError(f"{folder} is not a run: it has no {FACTS}; give the folder that llmbert train --out wrote")
    facts = read_json(path)
    if facts.get("format") != FORMAT:
        raise LLMBertError(
            f"{folder} is a run of format {facts.get('format')!r}, of llmbert {facts.get('llmbert', 'unknown')}; "
            f"this llmbert {version()} reads format {FORMAT}; use that version or train again"
        )
    return facts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises LLMBertError where it is missing, cut short or damaged."""
    try:
        with safe_open(path, "pt"):  # which looks whether all that its head says of it is so
            return _read_tensors(path)
    except FileNotFoundError as error:
        raise LLMBertError(f"{path} is missing; the run is not complete: train again or copy it whole") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); copy it again or train again") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Into memory of their own: what the library gives is mapped, so that a copy of it takes twice the room, and a
    file that is written over would change a model in use."""
    found = {}
    with path.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.tell()
        for name, entry in head.items():
            if name != "__metadata__":
                if entry["dtype"] not in KINDS:
                    raise LLMBertError(f"{path} holds {name!r} of the kind {entry['dtype']}, which cannot be read here")
                tensor = torch.empty(entry["shape"], dtype=KINDS[entry["dtype"]])
                file.seek(data + entry["data_offsets"][0])
                room = tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")
                if room.nbytes and file.readinto(room) != room.nbytes:
                    raise ValueError("it was cut short while it was read")
                found[name] = tensor
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises LLMBertError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise LLMBertError(f"{path} is missing; the run is not complete: train again or copy it whole") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); copy it again or train again") from error
    if not isinstance(content, dict):
        raise LLMBertError(f"{path} is damaged (it holds no JSON object); copy it again or train again")
    return content
