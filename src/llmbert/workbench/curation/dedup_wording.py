"""What the page on duplicates says, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Duplicates", "重复文档"),
    "summary": (
        "{kept:,} of {documents:,} documents are kept ({share:.1%}).",
        "{documents:,} 篇文档中保留 {kept:,} 篇({share:.1%})。",
    ),
    "documents": ("documents read", "读入文档"),
    "kept": ("documents kept", "保留文档"),
    "removed_exact": ("left out: the same as an earlier one", "剔除：与前文完全重复"),
    "removed_near": ("left out: nearly the same as an earlier one", "剔除：与前文近似重复"),
    "removed_spans": ("left out: nothing but repeated stretches", "剔除：全为重复片段"),
    "changed": ("shortened by repeated stretches of {least} bytes or more", "删去 {least} 字节以上重复片段的文档"),
    "cut": ("bytes cut", "删去字节"),
    "repeated": (
        "bytes in stretches of {least} or more that repeat earlier ones, of the first {looked:,} bytes kept",
        "所保留的前 {looked:,} 字节中，属于 {least} 字节以上重复片段的字节",
    ),
    "bytes": ("bytes of text", "文本字节"),
    "similar": (
        "near duplicates of a similarity from {low:.2f} to {high:.2f}",
        "相似度 {low:.2f} 至 {high:.2f} 的近似重复",
    ),
    "normalised": (
        "Two documents are the same where they agree after NFKC, without case, marks without width and differences of "
        "white space. The first of them is kept.",
        "两篇文档经 NFKC 归一、忽略大小写、零宽字符与空白差异后若一致，即为重复。保留最先出现的一篇。",
    ),
    "near": (
        "Nearly the same: {threshold:g} or more of their shingles are shared (Jaccard similarity of the sets of runs "
        "of {shingle} words, or characters of Chinese). Candidates come from 128 MinHashes in {bands} bands of {rows}; "
        "each is verified by its true similarity. A document is left out only for the sake of one that is kept.",
        "近似重复：两篇文档的片段集合(连续 {shingle} 个词，中文为字)的 Jaccard 相似度不低于 {threshold:g}。候选由 "
        "128 个 MinHash 分 {bands} 段、每段 {rows} 个得出，并逐一以真实相似度核验。只有与某篇保留文档近似者才被剔除。",
    ),
    "cutting": (
        "Of stretches of {least} bytes or more that stand more than once, the later ones are cut, between characters; "
        "text is looked at in blocks of {block:,} bytes, and what two blocks have once each is not seen.",
        "{least} 字节以上多次出现的片段，仅保留首次出现，其余在字符边界处删去；文本按 {block:,} 字节分块查找，"
        "分处两块、各出现一次者不在其列。",
    ),
    "twin": ("kept: {id}", "保留：{id}"),
    "example_exact": ("the same", "完全重复"),
    "example_near": (
        "similarity {jaccard:.2f}, {containment:.0%} of it stands in the kept one",
        "相似度 {jaccard:.2f}，其 {containment:.0%} 见于保留的文档",
    ),
    "example_spans": ("one of {spans} stretches cut, as {twin} has it", "所删 {spans} 段之一，见于 {twin}"),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)
