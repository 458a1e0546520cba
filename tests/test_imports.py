"""The import law: data flows from left to right, and no room knows one above or beside it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "llmbert"
LEVELS = {
    "text": 0,
    "metrics": 0,
    "nn": 0,
    "data": 1,
    "models": 1,
    "modalities": 1,
    "objectives": 2,
    "training": 2,
    "decoding": 2,
    "runs": 3,
    "report": 3,
    "knowledge": 4,
    "causal": 4,
    "trust": 4,
    "tasks": 5,
    "workbench": 6,
    "domains": 6,
    "serving": 7,
    "cli": 8,
    "recipes": 8,
}
OPEN = {"protocols"}
LOWER_ONLY = {"data": {"text"}, "models": {"nn"}, "modalities": {"nn"}}


def imports_of(source: str) -> list[tuple[int, str]]:
    """Every import of this package in a file, lazy ones and type checking ones too, as (line, room)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide where they lead"
            names = [
                f"{node.module}.{alias.name}" if node.module == "llmbert" else str(node.module) for alias in node.names
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("llmbert."):
            names = [node.value]  # a module named in a string is imported later by that name
        for name in names:
            parts = name.split(".")
            if parts[0] == "llmbert" and len(parts) > 1 and parts[1].isidentifier():
                found.append((node.lineno, parts[1]))
    return found


def faults(room: str, source: str) -> list[str]:
    """What a file of `room` imports against the law."""
    found = []
    for line, other in imports_of(source):
        if other == room or other in OPEN:
            continue
        if other not in LEVELS:
            found.append(f"line {line}: {other} is no room")
        elif LEVELS[other] >= LEVELS[room]:
            found.append(f"line {line}: {room} (level {LEVELS[room]}) imports {other} (level {LEVELS[other]})")
        elif room in LOWER_ONLY and other not in LOWER_ONLY[room]:
            found.append(f"line {line}: {room} may import only {', '.join(LOWER_ONLY[room])}, not {other}")
    return found


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if room_of(path) not in ("__init__", "__main__")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_import_goes_down(path: Path) -> None:
    room = room_of(path)
    if room in OPEN:
        assert not imports_of(path.read_text("utf-8"))
    else:
        assert room in LEVELS, f"{room} has no level: give it one here and in docs/architecture.md"
        assert not faults(room, path.read_text("utf-8"))


def test_models_never_import_decoding_or_training() -> None:
    for path in (SOURCE / "models").rglob("*.py"):
        assert not {room for _, room in imports_of(path.read_text("utf-8"))} & {"decoding", "training", "objectives"}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("text", "import llmbert.data"),
        ("models", "from llmbert.decoding import Engine"),
        ("decoding", "def f():\n    from llmbert.models.gpt import GPT\n    from llmbert.training import loop"),
        ("data", "from llmbert import nn"),
        ("metrics", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from llmbert.text import tokenisers"),
        ("report", "home = 'llmbert.workbench.train'"),
        ("training", "from llmbert.cellar import x"),
    ],
)
def test_a_forbidden_import_is_found(room: str, source: str) -> None:
    assert faults(room, source)


def test_files_and_functions_stay_small() -> None:
    for path in FILES:
        text = path.read_text("utf-8")
        assert text.count("\n") <= 600, f"{path} is longer than 600 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 80, f"{path}:{node.lineno} {node.name} has {length} lines"
    for folder in {path.parent for path in FILES}:
        assert len(list(folder.glob("*.py"))) <= 15, f"{folder} has more than 15 files"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["compare", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom llmbert.cli import main\nsys.argv = ['llmbert', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as leaving:\n    assert not leaving.code\n"
        "heavy = {'torch', 'numpy', 'tokenizers', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        # typer itself takes pydantic, where it is installed, to read the values of a verb's options
        "assert sys.argv[1:] != ['--help'] or 'pydantic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_import_llmbert_loads_nothing_heavy() -> None:
    code = "import sys, llmbert; dir(llmbert); assert not {'torch', 'numpy', 'pydantic', 'typer'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
