"""A text → its words: cut at white space, with marks standing alone, by character, or by a run's own tokeniser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from llmbert.protocols import UsageError
from llmbert.text.segment import segment_words

Cut = Callable[[str], list[str]]

WAYS = ("words", "space", "marks", "chars")
_WIDE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(r"<\w+>|\w+(?:[-'’.,·]\w+)*|\.{2,}|…+|-{2,}|[^\w\s]")
_HAS_WIDE = re.compile(rf"[{_WIDE}]")
_STRETCH = re.compile(rf"[{_WIDE}]+|[^{_WIDE}]+")
_APART = re.compile(r"(?:^|\s)(?:[.,]|'s|n't|<unk>)(?=\s|$)")  # as in the Penn Treebank, whose marks may be left out
_ATTACHED = re.compile(r"(?<=\S)[.,](?=\s|$)")


def open_cut(way: str, beginning: str) -> tuple[str, Cut]:
    """How a text is cut into words, by name, and the function that does it. `beginning`: enough of it to see that.

    "words" is "space" where full stops and commas already stand apart and no Chinese is met, else, and where there are
    no such marks, "marks": stretches of letters and digits, with marks as words of their own, Chinese cut by jieba. A
    folder's own tokeniser otherwise.
    Raises UsageError for another name, LLMBertError where jieba or the tokeniser is not there.
    """
    if way == "words":
        way = "space" if _is_cut(beginning) else "marks"
    if way in WAYS:
        cuts: dict[str, Cut] = {"space": str.split, "marks": cut_marks, "chars": _characters}
        return way, cuts[way]
    if not Path(way).is_dir():
        raise UsageError(f"--tokenizer is {', '.join(WAYS)} or the folder of a run, not {way!r}")
    return Path(way).name, _by_run(Path(way))


def cut_marks(text: str) -> list[str]:
    """Words and marks; Chinese by jieba's dictionary."""
    found = _WORD.findall(text)
    if not _HAS_WIDE.search(text):
        return found
    words: list[str] = []
    for each in found:
        words += _segmented(each) if _HAS_WIDE.search(each) else [each]
    return words


def _segmented(stretch: str) -> list[str]:
    words: list[str] = []
    for part in _STRETCH.findall(stretch):
        words += segment_words(part).split() if _HAS_WIDE.match(part) else [part]
    return words


def _characters(text: str) -> list[str]:
    return list("".join(text.split()))


def _is_cut(text: str) -> bool:
    """Whether most full stops and commas stand apart from words, as in a text that was cut into words before."""
    return not _HAS_WIDE.search(text) and len(_APART.findall(text)) > len(_ATTACHED.findall(text))


def _by_run(folder: Path) -> Cut:
    from llmbert.runs.loading import open_tokeniser

    tokeniser = open_tokeniser(folder)
    texts = tokeniser.token_texts()
    return lambda text: [texts[i] for i in tokeniser.encode(text).tolist()]
