"""What a run's page and card say of what it keeps of its text: noise, audits, what was forgotten, the licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CERTIFICATE = "forgotten.json"

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "licence": ("licence of the text", "文本许可"),
    "not_stated": ("not stated; say --licence when training", "未说明；训练时用 --licence 说明"),
    "privacy": ("differential privacy", "差分隐私"),
    "epsilon": (
        "ε = {epsilon:.2f} (tighter: {epsilon_tight:.2f}) at δ = {delta:.1e} for each {unit}; not covered: "
        "{not_private}",
        "每篇文档 ε = {epsilon:.2f}(更紧的估计：{epsilon_tight:.2f}),δ = {delta:.1e};以下不在其内：分词器、文档数量、"
        "留出文本，以及 run.json 与页面所述的文本规模与指纹{base}",
    ),
    "base_too": ("", "，还有基础模型读过的一切"),
    "no_noise": ("none: it learned without noise", "无：训练时未加噪声"),
    "membership": (
        "who was in the training text, by the best attack (AUC)",
        "判断文本是否在训练文本中，最佳攻击 (AUC)",
    ),
    "auc": (
        "{score:.1f} % ({low:.1f} to {high:.1f}) by {attack}; 50 is guessing, without any model {blind:.1f} %",
        "{score:.1f} %({low:.1f} 至 {high:.1f}),方法：{attack};50 为随机猜测，不用模型为 {blind:.1f} %",
    ),
    "copied": ("copied from the training text", "照抄训练文本"),
    "share": (
        "{share:.2%} of {texts:,} texts it drew, in stretches of {span} letters or more (a Chinese character counts "
        "for {ideograph}; longest {longest} characters); of held-out text {people:.2%}",
        "抽取的 {texts:,} 个文本中有 {share:.2%}(以 {span} 个字母以上的片段计，"
        "每个汉字计 {ideograph} 个；最长 {longest} 个字符);留出文本为 {people:.2%}",
    ),
    "audited_not": ("not measured; llmbert audit RUN does", "未测量；可用 llmbert audit RUN 测量"),
    "audit": ("what it keeps of its text", "对训练文本的记忆"),
    "forgotten": ("forgotten", "已遗忘"),
    "certificates": (
        "{documents} documents, the last {time}; see {file}",
        "{documents} 篇文档，最近一次 {time}；见 {file}",
    ),
}


def kept_rows(facts: Mapping[str, Any], folder: Path, language: str) -> list[list[str]]:
    """Rows [name, value] for the data of a run's page and card; what was not measured is said to be so."""

    def say(key: str, **values: Any) -> str:
        return WORDS[key][language == "zh"].format(**values)

    rows = [[say("licence"), str(facts.get("licence") or say("not_stated"))]]
    privacy, audit = facts.get("privacy"), facts.get("audit")
    base = say("base_too") if facts.get("base") else ""
    rows.append([say("privacy"), say("epsilon", **privacy, base=base) if privacy else say("no_noise")])
    if audit:
        best = audit["membership"][audit["best"]]["auc"]
        low, high = best["interval"]
        blind = audit["membership"]["blind"]["auc"]["score"]
        told = {"score": best["score"], "low": low, "high": high, "attack": audit["best"], "blind": blind}
        rows.append([say("membership"), say("auc", **told)])
        if audit["copied"]:
            people = audit["copied_by_people"]["share"]
            told = {**audit["copied"], "span": audit["span"], "ideograph": audit.get("ideograph", 1), "people": people}
            rows.append([say("copied"), say("share", **told)])
    else:
        rows.append([say("audit"), say("audited_not")])
    if certificates := certificates_of(folder):
        count = sum(len(each["documents"]) for each in certificates)
        told = {"documents": count, "time": certificates[-1]["time"], "file": CERTIFICATE}
        rows.append([say("forgotten"), say("certificates", **told)])
    return rows


def certificates_of(folder: Path) -> list[Any]:
    """What was certified of a run, the oldest first."""
    try:
        return list(json.loads((folder / CERTIFICATE).read_text("utf-8")))
    except (OSError, ValueError):
        return []
