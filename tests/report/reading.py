"""A page taken apart, for the tests of its sections."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from llmbert.report import write_report

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}$x^2$\x00\x1b\ud800]]>--><svg/onload=x>"


class Page(HTMLParser):
    """A page taken apart: its elements (name, attributes) and its text; wrong nesting is an error."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"left open: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder: Path, given: dict[str, Any], language: str = "en") -> tuple[str, Page]:
    path = folder / "report.html"
    write_report(path, given, language)
    source = path.read_text(encoding="utf-8")
    return source, Page(source)
