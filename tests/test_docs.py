"""What the documents promise exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from llmbert import cli
from llmbert.models import FAMILIES
from llmbert.text.tokenisers import TOKENISERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_module_and_test_named_in_the_coverage_exists() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text("utf-8")
    for name in re.findall(r"`((?:tests/)?[a-z_]+/[a-z_/]*(?:\.py)?)`", text):
        assert (ROOT / name).exists() or (ROOT / "src" / "llmbert" / name).exists(), f"coverage.md names {name}"


def test_every_row_of_the_mission_is_in_the_coverage() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text("utf-8")
    covered = set(re.findall(r"^\| ([A-L]\d+)", text, re.MULTILINE))
    for letter, first, last in re.findall(r"^\| ([A-L])(\d+)-[A-L](\d+)", text, re.MULTILINE):
        covered |= {f"{letter}{number}" for number in range(int(first), int(last) + 1)}
    rows = {"A": 10, "B": 6, "C": 3, "D": 3, "E": 4, "F": 4, "G": 4, "H": 2, "I": 2, "J": 3, "K": 4, "L": 4}
    assert {f"{letter}{number}" for letter, count in rows.items() for number in range(1, count + 1)} <= covered


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """The commands that a page shows, ("data stats", its options) each, remarks left out."""
    found = []
    for at, part in enumerate(page.read_text("utf-8").split("```")):
        pieces = part.splitlines() if at % 2 else re.findall(r"`([^`]+)`", part)
        for piece in pieces:
            for words, rest in re.findall(r"llmbert ([a-z-]+(?: [a-z-]+)?)(.*)", piece.partition("#")[0], re.DOTALL):
                found.append((words, re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)))
    return found


SHOWN = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted(ROOT.glob("docs/*.md"))]


def test_every_verb_and_option_that_is_shown_exists() -> None:
    shown = [(page.name, words, options) for page in SHOWN for words, options in commands_of(page)]
    assert len(shown) > 80
    whole: Any = typer.main.get_command(cli.app)
    for page, words, options in shown:
        verb, *more = words.split()
        assert verb in whole.commands, f"{page} shows llmbert {verb}"
        command = whole.commands[verb]
        if hasattr(command, "commands") and more:
            assert more[0] in command.commands, f"{page} shows llmbert {words}"
            command = command.commands[more[0]]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert set(options) <= known, f"{page} shows llmbert {words} {sorted(set(options) - known)}"


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_names_every_family_and_tokeniser(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for name in [*FAMILIES, *TOKENISERS]:
        assert f"`{name}`" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    assert not re.search(r"@[A-Z0-9]+@|TODO|FIXME", page.read_text("utf-8"))
