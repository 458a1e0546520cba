"""What the page on removed personal data says, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Personal data removed", "个人信息清除报告"),
    "summary": (
        "{finds:,} finds in {found_in:,} of {documents:,} documents. ",
        "在 {documents:,} 篇文档中，有 {found_in:,} 篇含个人信息，共 {finds:,} 处。",
    ),
    "mask": ("Each was replaced by the name of its kind.", "每处均以其类别名称代替。"),
    "hash": (
        "Each was replaced by a keyed hash: whoever has the key can tell whose it was, so keep it apart or destroy it.",
        "每处均以带密钥的散列值代替：持有密钥者可据此核对原值，请单独保管或销毁密钥。",
    ),
    "pseudonym": (
        "Each was replaced by a made-up value of its shape: whoever has the key can tell whose it was, so keep it "
        "apart or destroy it.",
        "每处均以同样形式的虚构值代替：持有密钥者可据此核对原值，请单独保管或销毁密钥。",
    ),
    "documents": ("documents", "文档数"),
    "found_in": ("documents with finds", "含个人信息的文档数"),
    "mail": ("mail addresses", "电子邮箱"),
    "phone": ("phone numbers", "电话号码"),
    "card": ("payment cards", "银行卡号"),
    "iban": ("IBANs", "国际银行账号 (IBAN)"),
    "id": ("resident IDs (18 characters)", "居民身份证号（18 位）"),
    "old_id": ("resident IDs (15 digits)", "居民身份证号（15 位）"),
    "ip": ("IP addresses", "IP 地址"),
    "name": ("names of persons", "人名"),
    "rests_checksum": ("{count:,}, each with its checksum", "{count:,}，校验码均正确"),
    "rests_form": ("{count:,}, by their form", "{count:,}，依书写形式判断"),
    "rests_numbering plan": ("{count:,}, by the numbering plans", "{count:,}，依号码编制规则判断"),
    "rests_model": ("{count:,}, by a model, which misses some", "{count:,}，由模型判断，会有遗漏"),
    "limits": (
        "What is not of these kinds stays: street addresses, birthdays, patient numbers, numbers with a typing error. "
        "Read a sample of the result before it leaves the house.",
        "其他类别的信息不会清除：住址、出生日期、病历号、输错的号码等。结果对外提供之前，请抽样核对。",
    ),
    "no_names": (
        "Names of persons were not looked for: that takes a run that tags them (--names RUN).",
        "未查找人名：查找人名需要能标注人名的模型（--names RUN）。",
    ),
    "left": (
        "These fields of the records were written as they were: {names}. --fields text=* scrubs all of them.",
        "记录中的以下字段原样写出：{names}。用 --fields text=* 可清除全部字段。",
    ),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)
