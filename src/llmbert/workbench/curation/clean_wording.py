"""What the page on cleaning says, in English and in Chinese."""

from __future__ import annotations

import re
from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Cleaned documents", "清洗文档"),
    "summary": (
        "{kept:,} of {documents:,} documents are kept ({share:.1%}).",
        "{documents:,} 篇文档中保留 {kept:,} 篇({share:.1%})。",
    ),
    "documents": ("documents read", "读入文档"),
    "kept": ("documents kept", "保留文档"),
    "left_out": ("left out: {reason}", "剔除：{reason}"),
    "changed": ("changed: {reason}", "改动：{reason}"),
    "bytes": ("bytes of text", "文本字节"),
    "method": (
        "Rules asked for: {rules}. A document is left out for the first limit that it does not keep; in Chinese a "
        "character counts as a word, and n-grams are three times as long.",
        "所用规则：{rules}。文档因首个未满足的界限而剔除；中文以一字为一词，n 元组长度为三倍。",
    ),
    "languages": (
        "Languages kept: {codes}; a text too short to tell stays.",
        "保留语言：{codes}；过短而无法判断者保留。",
    ),
    "limits": ("limits", "界限"),
    "repaired": ("repaired", "修复后"),
    "bound": (" (limit {limit:g})", "(界限 {limit:g})"),
}
REASONS: dict[str, tuple[str, str]] = {
    "encoding": ("decoded wrongly before", "此前解码有误"),
    "controls": ("control characters", "控制字符"),
    "boilerplate": ("lines that stand in many documents", "见于多篇文档的套话行"),
    "empty": ("nothing is left", "已无内容"),
    "language": ("another language", "其他语言"),
    "least_words": ("too few words", "词数过少"),
    "most_words": ("too many words", "词数过多"),
    "shortest_mean_word": ("words too short on average", "平均词长过短"),
    "longest_mean_word": ("words too long on average", "平均词长过长"),
    "least_letters": ("too few words with letters", "含字母的词过少"),
    "least_letters_zh": ("too few characters are letters", "文字所占比例过低"),
    "least_function_words": ("hardly a function word", "几乎没有虚词"),
    "most_symbols": ("too many # and …", "# 与 … 过多"),
    "most_bullets": ("mostly list items", "多为列表项"),
    "most_ellipses": ("many lines end in …", "多行以省略号结尾"),
    "duplicate_lines": ("lines repeat", "行重复"),
    "duplicate_line_characters": ("lines repeat, by characters", "行重复(按字符)"),
    "duplicate_paragraphs": ("paragraphs repeat", "段落重复"),
    "duplicate_paragraph_characters": ("paragraphs repeat, by characters", "段落重复(按字符)"),
}
_TOP = ("one {size}-gram makes up too much", "单个 {size} 元组占比过高")
_AGAIN = ("{size}-grams repeat", "{size} 元组重复")


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)


def say_reason(name: str, language: str) -> str:
    """Why a document was left out or changed, in words."""
    if name in REASONS:
        return REASONS[name][language == "zh"]
    size = re.sub(r"\D", "", name)
    return (_TOP if name.startswith("top") else _AGAIN)[language == "zh"].format(size=size)
