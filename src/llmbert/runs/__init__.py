"""A trained thing on disk: save, load, describe, and use it."""

from llmbert.runs.files import (
    CHECKPOINT,
    CONFIG,
    FACTS,
    FORMAT,
    LOG,
    MEMBERS,
    PARTIAL,
    WEIGHTS,
    check_out,
    disk_error,
    read_facts,
    read_json,
    read_tensors,
    run_status,
    sweep,
    write_json,
    write_text,
)
from llmbert.runs.loading import load, save_model
from llmbert.runs.machine import command_line, device, machine, version, versions
from llmbert.runs.run import Run

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "FACTS",
    "FORMAT",
    "LOG",
    "MEMBERS",
    "PARTIAL",
    "Run",
    "WEIGHTS",
    "check_out",
    "command_line",
    "device",
    "disk_error",
    "load",
    "machine",
    "read_facts",
    "read_json",
    "read_tensors",
    "run_status",
    "save_model",
    "sweep",
    "version",
    "versions",
    "write_json",
    "write_text",
]
