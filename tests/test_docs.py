"""What the documents promise exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_names_every_family_and_tokeniser(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for name in [*FAMILIES, *TOKENISERS]:
        assert f"`{name}`" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    assert not re.search(r"@[A-Z0-9]+@|TODO|FIXME", page.read_text("utf-8"))
