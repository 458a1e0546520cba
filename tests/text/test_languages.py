"""Codes of languages, and the two of pairs."""

from __future__ import annotations

import pytest

from llmbert.text.languages import base_code, language_pair, same_language


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("en-de", ("en", "de")),
        ("EN-DE", ("en", "de")),
        ("zh", ("zh", "zh")),
        ("zh-CN", ("zh-CN", "zh-CN")),
        ("zh-CN-en", ("zh-CN", "en")),
        ("en-zh-Hans-CN", ("en", "zh-Hans-CN")),
        ("en_GB-pt_BR", ("en_GB", "pt_BR")),
        ("pt-br", ("pt", "br")),
        ("yue-en", ("yue", "en")),
        ("es-419-en", ("es-419", "en")),
        ("", None),
        ("en-", None),
        ("en-de-fr", None),
        ("en-cn", None),
        ("jp", None),
        ("english-german", None),
        ("English to German:", None),
    ],
)
def test_two_languages_are_told_from_one_and_its_region(text: str, pair: tuple[str, str] | None) -> None:
    assert language_pair(text) == pair


def test_a_code_without_its_region() -> None:
    assert [base_code(code) for code in ("zh", "zh-CN", "zh_Hans_CN")] == ["zh"] * 3


def test_a_code_without_region_means_any_and_two_regions_are_two() -> None:
    assert same_language("zh", "zh-CN") and same_language("zh-CN", "zh") and same_language("de", "de")
    assert not same_language("zh-CN", "zh-TW") and not same_language("zh", "en")
