"""What a dossier says, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("What models keep of {data}", "模型记住了 {data} 的什么"),
    "subtitle": (
        "{documents:,} documents, {planted:,} planted copies of {secrets} secrets",
        "{documents:,} 篇文档，埋入 {secrets} 个秘密的 {planted:,} 份副本",
    ),
    "least": (
        "Without any measure {least} leaks least: over all numbers of repeats its secrets have a mean exposure of "
        "{low:.1f} bits (of {most:.1f} that the sample can show; one never seen has 1.44), "
        "those of {worst} {high:.1f}.",
        "不采取任何措施时，{least} 泄漏最少：在各种重复次数上，其秘密的平均暴露度为 {low:.1f} 比特"
        "（抽样可显示的上限为 {most:.1f}；从未见过的秘密为 1.44），而 {worst} 为 {high:.1f}。",
    ),
    "least_chance": (
        "Without any measure no model is shown to leak least: over all numbers of repeats the secrets of {least} have "
        "a mean exposure of {low:.1f} bits and those of {second} {next:.1f}, a difference that may be chance (of "
        "{most:.1f} that the sample can show; one never seen has 1.44); those of {worst} have {high:.1f}.",
        "不采取任何措施时，无法断定哪个模型泄漏最少：在各种重复次数上，{least} 的秘密的平均暴露度为 {low:.1f} 比特，"
        "{second} 为 {next:.1f}，差异可能出于偶然（抽样可显示的上限为 {most:.1f}；从未见过的秘密为 1.44）；"
        "{worst} 为 {high:.1f}。",
    ),
    "best": (
        "The best model of the text is {best} ({quality:.3f} {unit}); {repeats} repeats expose a secret in it by "
        "{bits:.1f} bits, and it says {share:.0%} of them word for word when asked.",
        "对该文本建模最好的是 {best}（{quality:.3f} {unit}）；重复 {repeats} 次的秘密在其中的暴露度为 {bits:.1f} 比特，"
        "提问时它能逐字说出其中的 {share:.0%}。",
    ),
    "helps": ("What helps, and what it costs", "措施的效果与代价"),
    "cost": ("{unit} more", "增加的 {unit}"),
    "control": (
        "Secrets never planted have a mean exposure of {mean:.2f} bits ({low:.2f} to {high:.2f}) over all runs; "
        "1.44 is what chance gives.",
        "从未埋入的秘密在所有模型中的平均暴露度为 {mean:.2f} 比特（{low:.2f} 至 {high:.2f}）；随机水平为 1.44。",
    ),
    "exposure": ("Exposure of planted secrets", "所埋秘密的暴露度"),
    "repeats": ("how often a secret stands in the text", "秘密在文本中出现的次数"),
    "bits": ("exposure, bits", "暴露度（比特）"),
    "chance": ("chance", "随机水平"),
    "exposure_note": (
        "By rank among {candidates:,} secrets of the same form; with the middle 95 % of a bootstrap over secrets. The "
        "sample can show no more than {most:.1f} bits; the form has {space:.1f}.",
        "按在 {candidates:,} 个同形式秘密中的名次计算；阴影为对秘密自助抽样的中间 95 %。"
        "抽样最多能显示 {most:.1f} 比特；该形式共有 {space:.1f} 比特。",
    ),
    "trade": ("Leak and quality", "泄漏与质量"),
    "quality_label": ("{unit} on held-out text", "留出文本上的 {unit}"),
    "roc": ("Membership inference: {attack}", "成员推断：{attack}"),
    "false": ("others taken for members", "误判为成员的比例"),
    "true": ("members found", "找出的成员比例"),
    "roc_note": (
        "{texts:,} texts that were trained on and as many that were not. The diagonal is guessing.",
        "训练过与未训练过的文本各 {texts:,} 条。对角线为随机猜测。",
    ),
    "attack_loss": ("loss", "损失"),
    "attack_compression": ("loss by compressed length", "损失与压缩长度之比"),
    "attack_reference": ("against a reference n-gram", "与参照 n-gram 之差"),
    "attack_neighbourhood": ("against neighbours", "与邻近文本之差"),
    "attack_blind": ("no model at all", "不用模型"),
    "run": ("run", "模型"),
    "auc": ("Area under the curve, %", "曲线下面积（%）"),
    "auc_note": (
        " With the middle 95 % of a bootstrap over texts; the last column is of the run's best attack.",
        "括号内为对文本自助抽样的中间 95 %；末列为各模型最佳攻击的结果。",
    ),
    "tpr": ("found at 1 % false alarms, %", "误报 1 % 时找出（%）"),
    "figures": ("Figures", "数值"),
    "said": ("says it when asked", "提问时逐字说出"),
    "copied": ("copied", "照抄"),
    "copied_note": (
        "Copied: the share of {samples:,} texts drawn from each model that stands in the training text word for word, "
        "in stretches of {span} letters or more (a Chinese character counts for {ideograph}); of held-out text it is "
        "{people:.1%}.",
        "照抄：每个模型抽取 {samples:,} 个文本，其中以 {span} 个字母以上的片段（每个汉字计 {ideograph} 个）"
        "逐字出现在训练文本中的比例；留出文本的这一比例为 {people:.1%}。",
    ),
    "control_column": ("never planted", "从未埋入"),
    "times": ("{n} ×", "{n} 次"),
    "membership": ("Membership inference", "成员推断"),
    # Behind a family's name: what its score is, for a bound or a pseudo-likelihood stands beside no exact one.
    "likelihood_exact": ("", ""),
    "likelihood_bound": (" (a bound)", "（似然的界）"),
    "likelihood_pseudo": (" (pseudo-likelihood)", "（伪似然）"),
    "likelihood_none": (" (no likelihood)", "（无似然）"),
    "none": ("as it is", "原样"),
    "dedup": ("without repeats", "去重"),
    "scrub": ("scrubbed", "清除个人信息"),
    "early-stop": ("stopped early", "提前停止"),
    "private": ("private", "差分隐私"),
    "private-once": ("private, without repeats", "去重后差分隐私"),
    "privacy": ("privacy", "隐私"),
    "not_private": (
        "ε is for one document, however often others repeat what it says; in brackets by the tighter conversion. The "
        "tokeniser and the number of documents are not covered by it.",
        "ε 针对单篇文档，不论其他文档重复其内容多少次；括号内为更紧的换算。分词器与文档数量不在其保护之内。",
    ),
}


def say(key: str, language: str, **values: Any) -> str:
    return WORDS[key][language == "zh"].format(**values)
