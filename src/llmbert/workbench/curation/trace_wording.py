"""What pages on a run's text say, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "trace": ("Where it comes from: {run}", "文本来源：{run}"),
    "traced": (
        "{share:.1f} % of the characters stand word for word in the {documents:,} training documents "
        "(texts traced: {texts:,}).",
        "{share:.1f} % 的字符逐字出现在 {documents:,} 篇训练文档中（追溯文本 {texts:,} 个）。",
    ),
    "inexact": (
        "Training text and traced text are compared as the run's tokeniser sees them, for it does not keep all of "
        "a text.",
        "该模型的分词不保留全部原文，因此训练文本与被追溯文本均按分词所见进行比较。",
    ),
    "cosine": (
        "Neighbours are the 200 passages with the most telling words in common (BM25), by the cosine of the run's "
        "vectors.",
        "近邻段落先按 BM25 取前 200 段，再按模型向量的余弦排序。",
    ),
    "bm25": ("Neighbours are ranked by the words they share (BM25).", "近邻段落按共有词语(BM25)排序。"),
    "index": ("index", "索引"),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)
