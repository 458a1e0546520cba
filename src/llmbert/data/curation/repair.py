"""Text that was decoded wrongly on its way, and characters that no text needs → the text as it was meant."""

from __future__ import annotations

import re
from collections.abc import Callable

from llmbert.data.decode_bytes import is_chinese
from llmbert.protocols import LLMBertError

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours and cursor moves of a terminal
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufffe\uffff]")
_SEEMS_LATIN = re.compile(r"[\x80-\xff]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_FEWEST = 4  # characters beyond ASCII that tell that a line is Chinese, decoded wrongly


def repair_encoding(text: str) -> str:
    """The text with lines that were decoded by the wrong table put right; other lines as they are.

    UTF-8 read as Latin-1 or a Windows table (ftfy), UTF-8 read as GB18030, GB18030 read as Latin-1. A file's own
    encoding has been found before, when its bytes were read. Raises LLMBertError where ftfy is not installed.
    """
    if text.isascii():
        return text
    fix = _ftfy()
    return "\n".join(line if line.isascii() else _repaired(line, fix) for line in text.split("\n"))


def _repaired(line: str, fix: Callable[[str], str]) -> str:
    for known in (_gb_as_latin, _utf8_as_gb):
        if (found := known(line)) is not None:
            return found
    found = fix(line)
    return line if "\n" in found else found


def _gb_as_latin(line: str) -> str | None:
    """Chinese in GB18030 that was read as Latin-1, which makes most of the line accented letters."""
    seeming = len(_SEEMS_LATIN.findall(line))
    if seeming < 2 * _FEWEST or 2 * seeming < len(line):
        return None
    try:
        data = line.encode("latin-1")
        return data.decode("gb18030") if is_chinese(data) else None
    except UnicodeError:
        return None


def _utf8_as_gb(line: str) -> str | None:
    """UTF-8 that was read as GB18030: bytes of Chinese in GB18030 are hardly ever UTF-8 by chance."""
    if len(_HAN.findall(line)) < _FEWEST:
        return None
    try:
        found = line.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return None
    return found if 2 * len(_HAN.findall(found)) >= len(found) else None


def _ftfy() -> Callable[[str], str]:
    try:
        import ftfy
    except ImportError as error:
        raise LLMBertError(
            "repairing encodings needs the package ftfy, which is not installed; pip install 'llmbert[curate]', "
            "or name --rules without encoding"
        ) from error
    return ftfy.fix_encoding


def remove_controls(text: str) -> str:
    """The text with line ends of all kinds as \\n and without control characters, a terminal's escapes, marks without
    width (byte order, zero-width space) and what Unicode keeps for no character. Tabs stay."""
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", _ESCAPES.sub("", text)))
