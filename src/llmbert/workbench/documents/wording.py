"""What pages on documents say, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "anomalies": ("Odd documents, as {run} sees them", "{run} 眼中的异常文档"),
    "map": ("A map of texts, as {run} sees them", "{run} 眼中的文本分布图"),
    "given": ("documents", "文档"),
    "normal": ("documents that belong", "正常文档"),
    "odd": ("documents that do not", "异常文档"),
    "unit_exact": ("surprise, nats/token", "意外程度（纳特/词元）"),
    "unit_bound": ("bound on the surprise, nats/token", "意外程度的上界（纳特/词元）"),
    "unit_pseudo": ("pseudo-surprise, nats/token", "伪意外程度（纳特/词元）"),
    "unit_none": ("the discriminator's doubt, logits", "判别器的怀疑程度（logit）"),
    "told": (
        "An odd document scores above one that belongs in {auc:.1f} % of all pairs (AUC, 95 % interval {low:.1f} to "
        "{high:.1f}; guessing: 50). At 1 % false alarms {tpr:.1f} % of {odd:,} odd documents are found among "
        "{normal:,} others. Calling {rule} documents odd would give {length:.1f}.",
        "在所有文档对中，异常文档的得分高于正常文档的比例为 {auc:.1f} %（AUC，95 % 区间 {low:.1f} 至 {high:.1f}；"
        "随机猜测为 50）。误报率为 1 % 时，可在 {normal:,} 篇正常文档之外找出 {odd:,} 篇异常文档中的 {tpr:.1f} %。"
        "若只把{rule}的文档判为异常，AUC 为 {length:.1f}。",
    ),
    "shorter": ("shorter", "较短"),
    "longer": ("longer", "较长"),
    "scored": (
        "{documents:,} documents; {unit}: half of them lie between {q[0]} and {q[2]}, the median is {q[1]}."
        " Nothing here says where oddness begins: give documents known to be odd to learn that.",
        "共 {documents:,} 篇文档；{unit}：一半文档介于 {q[0]} 与 {q[2]} 之间，中位数为 {q[1]}。"
        "这些数字并不说明从何处起算异常；请提供已知的异常文档以得出界线。",
    ),
    "mapped": (
        "{texts:,} texts, {dimensions} dimensions made two: the axes hold {first:.0%} and {second:.0%} of variance.",
        "共 {texts:,} 个文本，由 {dimensions} 维降至两维：两轴分别占方差的 {first:.0%} 与 {second:.0%}。",
    ),
    "neighbours": (
        "Of a text's five nearest neighbours {whole:.0%} share its label in all dimensions, {flat:.0%} on the map; "
        "by chance it would be {chance:.0%}.",
        "每个文本的五个最近邻中，与其标签相同者在原空间占 {whole:.0%}，在图上占 {flat:.0%}；随机情形为 {chance:.0%}。",
    ),
    "sampled": (
        "{shown:,} of {texts:,} texts, evenly spread, are used.",
        "从 {texts:,} 个文本中均匀取用 {shown:,} 个。",
    ),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)
