"""What the page of a report promises: complete, self-contained, escaped, readable by everyone, never half-written."""

from __future__ import annotations

import json
import math
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from reading import HOSTILE, Page, written

from llmbert.protocols import LLMBertError, UsageError
from llmbert.report import write_report
from llmbert.report.charts import SERIES


def row(name: str, likelihood: str = "exact", **values: Any) -> dict[str, Any]:
    return {
        **{"name": name, "family": name, "likelihood": likelihood, "bits_per_byte": 2.1, "interval": [2.0, 2.2]},
        **{"nats_per_token": 4.9, "perplexity": 134.3, "train_seconds": 185.2, "tokens_per_second": 25123.4},
        **{"parameters": 3912345, "bytes_on_disk": 15651234, "generate_tokens_per_second": 932.1, "note": None},
        **values,
    }


def content() -> dict[str, Any]:
    return {
        "title": "Which generator?",
        "subtitle": "four families",
        "summary": "Ship gpt: it is 0.2 bits/byte better than lstm.",
        "table": [
            row("lstm", bits_per_byte=2.3),
            row("gpt"),
            row("bert", "pseudo"),
            row("vae", "bound"),
            row("gan", "none"),
        ],
        "baselines": [{"name": "uniform over bytes", "bits_per_byte": 8.0}, {"name": "xz -9", "bits_per_byte": 2.5}],
        "curves": [
            {
                **{
                    "name": name,
                    "x": [1000 * (i + 1) for i in range(2000)],
                    "x_label": "tokens",
                    "y_label": "nats/token",
                },
                "train": [9 / (1 + i / 100) + 2 for i in range(2000)],
                "valid": [[1000, 9.0], [500_000, 3.1], [2_000_000, 3.0]],
            }
            for name in ("gpt", "bert")
        ],
        "samples": [
            {"name": "gpt", "prompt": "The bank", "text": " rose.\nThen fell.", "settings": "temperature 0.8 · seed 1"},
            {
                **{"name": "gpt", "prompt": "", "text": "春江潮水", "settings": "seed 1"},
                "tokens": [{"text": "春江", "probability": 0.5}, {"text": "潮水", "probability": 0.0001}],
            },
        ],
        "data": {"rows": [["documents (train / valid)", "123 / 7"]], "overlap": "None of the 7 shares 50 characters."},
        "settings": {"gpt": {"width": 256, "tied": True, "learning_rate": 0.0006, "resume": None}},
        "facts": [["command", "llmbert compare --data x.txt"], ["seed", "0"], ["signature", "bits/byte|v:1"]],
    }


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return written(tmp_path_factory.mktemp("page"), content())


def test_everything_given_is_on_the_page(english: tuple[str, Page]) -> None:
    text = english[1].text
    for expected in (
        *("Which generator?", "four families", "Ship gpt: it is 0.2 bits/byte better than lstm.", "lstm", "gan"),
        *("2.100", "2.000–2.200", "134.3", "3 min 05 s", "25,100", "3.9 M", "15.7 MB", "932", "xz -9", "2.500"),
        *("The bank", "rose. Then fell.", "春江", "documents (train / valid)", "123 / 7", "None of the 7 shares"),
        *("learning_rate", "0.0006", "llmbert compare --data x.txt", "bits/byte|v:1", "temperature 0.8 · seed 1"),
    ):
        assert expected in text


def test_nothing_is_loaded_and_nothing_runs(english: tuple[str, Page]) -> None:
    source, page = english
    assert not page.all("script") and not page.all("iframe") and not page.all("img")
    assert not re.search(r"https?:|@import|url\((?!#)|//[a-z]", source)
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_ids_are_unique_and_every_reference_leads_to_one(tmp_path: Path, language: str) -> None:
    source, page = written(tmp_path, content(), language)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    wanted = {
        str(attributes["href"])[1:] for _, attributes in page.elements if str(attributes.get("href")).startswith("#")
    }
    wanted |= set(re.findall(r"url\(#([^)]+)\)", source))
    wanted |= {str(attributes["aria-labelledby"]) for attributes in page.all("section")}
    assert wanted and wanted <= set(ids)


def test_tables_charts_and_headings_can_be_read_aloud(english: tuple[str, Page]) -> None:
    _, page = english
    assert page.all("th") and all(cell.get("scope") for cell in page.all("th"))
    assert len(page.all("caption")) >= 4 and len(page.all("h1")) == 1
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h\d", name)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    charts = page.all("svg")
    assert charts and all(chart["role"] == "img" for chart in charts)
    labels = " ".join(str(chart["aria-label"]) for chart in charts)
    assert "gpt 2.100 (2.000 to 2.200); lstm 2.300" in labels and "xz -9 2.50" in labels
    assert "nats/token over tokens; at the end: gpt 3.000" in labels
    assert len(page.all("figcaption")) == len(page.all("figure")) == 5


def test_kinds_of_likelihood_never_share_a_table(english: tuple[str, Page]) -> None:
    tables = re.findall(r'<table role="table">.*?</table>', english[0], flags=re.DOTALL)
    names = [re.findall(r"<bdi>(.*?)</bdi>", table) for table in tables]
    assert names == [["gpt", "lstm", "xz -9", "uniform over bytes"], ["vae"], ["bert"], ["gan"]]
    assert "≤ bits/byte" in tables[1] and "pseudo-bits/byte" in tables[2]
    assert "bits/byte" not in tables[3] and "2.100" not in tables[3]
    assert tables[0].count("(lowest measured)") == 1


@pytest.mark.parametrize("kind", ["conditional", "pseudo", "none"])
def test_a_kind_that_lacks_a_figure_has_no_column_for_it(tmp_path: Path, kind: str) -> None:
    bare = row("t5", kind, bits_per_byte=None, interval=None, generate_tokens_per_second=None)
    source, page = written(tmp_path, {"table": [row("gpt"), bare]})
    tables = re.findall(r'<table role="table">.*?</table>', source, flags=re.DOTALL)
    assert "writing" in tables[0] and "writing" not in tables[1] and "bits/byte" not in tables[1]
    assert "–</span>" not in tables[1] and "3.9 M" in tables[1]
    alone, page = written(tmp_path, {"table": [bare]})
    assert '<section id="scores"' not in alone and not page.all("svg") and "2.100" not in page.text


def test_bars_of_what_is_not_comparable_share_no_scale(tmp_path: Path) -> None:
    given = {
        "table": [row("gpt", bits_per_byte=2.0), row("t5", "conditional", bits_per_byte=0.5, interval=None)],
        "baselines": [{"name": "xz -9", "bits_per_byte": 2.5}],
    }
    source, _ = written(tmp_path, given)
    wide = [figure for figure in re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL) if 'viewBox="0 0 1000' in figure]
    boxes = [re.findall(r'd="M ([\d.]+) [\d.]+ L ([\d.]+) [^"]*"[^>]*style="fill: var\(--series', one) for one in wide]
    lengths = [max(float(right) - float(left) for left, right in found) for found in boxes]
    assert len(lengths) == 2
    assert lengths[1] > 0.9 * lengths[0]  # 0.5 fills its own axis, which ends at 0.5


def test_the_chart_of_scores_comes_first(english: tuple[str, Page]) -> None:
    source = english[0]
    assert source.index("bits per byte of held-out text") < source.index("<table")
    order = [
        source.index(f'<section id="{name}"')
        for name in ("scores", "table", "curves", "samples", "data", "settings", "facts")
    ]
    assert order == sorted(order)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, str):
            return value if value in ("exact", "pseudo", "bound", "none") else value + HOSTILE
        if isinstance(value, dict):
            return {key: poisoned(item) for key, item in value.items()}
        return [poisoned(item) for item in value] if isinstance(value, list) else value

    given = poisoned(content())
    given["settings"] = {f"gpt{HOSTILE}": {f"width{HOSTILE}": HOSTILE}}
    harmless = {key: {name for name, _ in written(tmp_path, content(), key)[1].elements} for key in ("en", "zh")}
    for language in ("en", "zh"):
        source, page = written(tmp_path, given, language)
        assert not page.all("script") and "<svg/onload" not in source
        assert not [attributes for _, attributes in page.elements if "onload" in attributes]
        assert {name for name, _ in page.elements} <= harmless[language]
        assert "<script>alert(1)</script>" in page.text and "{{7*7}}" in page.text and "$x^2$" in page.text
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", source)


@pytest.mark.parametrize("missing", [*content(), None])
def test_any_key_may_be_missing(tmp_path: Path, missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing not in ("table", "baselines", "curves"):
        monkeypatch.setitem(sys.modules, "matplotlib", None)  # the charts don't depend on the others
    given = {} if missing is None else {key: value for key, value in content().items() if key != missing}
    source, page = written(tmp_path, given)
    names = {"table": "curves-heading", "curves": "table-heading"}
    assert len(page.all("h1")) == 1
    assert (
        missing is None or names.get(missing, "samples-heading" if missing != "samples" else "data-heading") in source
    )
    assert (f'<section id="{missing}"' in source) == (missing == "table")  # the baselines still have theirs


def test_every_value_of_a_row_may_be_missing_or_not_a_number(tmp_path: Path) -> None:
    given = content()
    given["table"] = [
        {"name": "bare"},
        row("odd", bits_per_byte=math.nan, interval=None, perplexity=math.inf, train_seconds=None, note="diverged"),
        row("good", interval=[2.0, None]),
    ]
    given["curves"] = [{"name": "odd", "x": [1, 2, 3], "train": [5.0, None, math.nan], "valid": []}, {"name": "none"}]
    _, page = written(tmp_path, given)
    assert "bare" in page.text and "diverged" in page.text and "2.100" in page.text
    assert "nan" not in page.text.lower() and not re.search(r"\binf\b", page.text)
    assert sum(attributes.get("aria-label") == "not measured" for attributes in page.all("span")) >= 5


def test_a_chinese_page_says_so_and_speaks_chinese(tmp_path: Path) -> None:
    _, page = written(tmp_path, content(), "zh")
    assert page.all("html") == [{"lang": "zh-Hans"}]
    for expected in ("比特/字节", "困惑度", "精确似然", "伪似然", "3 分 05 秒", "简单基线", "词元数", "生成样例"):
        assert expected in page.text
    for english_only in ("perplexity", "Trivial baselines", "How they learned", "tokens/s"):
        assert english_only not in page.text


def test_samples_carry_the_language_of_their_script(english: tuple[str, Page]) -> None:
    texts = [attributes for attributes in english[1].all("p") if attributes.get("class") == "text"]
    assert [attributes["lang"] for attributes in texts] == ["", "zh-Hans"]


def test_surprising_tokens_are_shaded_deeper(english: tuple[str, Page]) -> None:
    shades = re.findall(r'<span class="t(\d)" title="([^"]*)">(春江|潮水)</span>', english[0])
    assert shades == [("1", "probability 0.50, 1.0 bits", "春江"), ("4", "probability 0.00010, 13.3 bits", "潮水")]


def test_without_matplotlib_the_page_has_tables_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, page = written(tmp_path, content())
    assert not page.all("svg") and "pip install 'llmbert[plot]'" in page.text
    assert "2.000–2.200" in page.text  # the scores
    assert "Held-out, best" in page.text and "3.000" in page.text  # the curves, as a table


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, english: tuple[str, Page]) -> None:
    assert written(tmp_path, content())[0] == english[0]
    assert written(tmp_path, json.loads(json.dumps(content())))[0] == english[0]


def test_however_much_is_given_the_page_stays_below_a_megabyte_and_says_what_it_cut(tmp_path: Path) -> None:
    given = content()
    given["samples"] = [
        {"name": "gpt", "prompt": f"第{i}首", "text": "春江<潮水&" * 9000, "settings": "s"} for i in range(90)
    ]
    given["settings"] = {f"run {i}": {f"key {j}": "值<" * 3000 for j in range(40)} for i in range(90)}
    given["table"] = [row(f"gpt seed {i}", family="gpt") for i in range(300)]
    source, page = written(tmp_path, given)
    assert len(source.encode()) < 1_000_000
    assert "characters more in report.json" in page.text and "more in report.json" in page.text


def test_an_unknown_language_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'fr'"):
        write_report(tmp_path / "report.html", content(), "fr")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_page_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def full(self: Path, *_: Any, **__: Any) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(LLMBertError, match="No space left on device"):
        write_report(path, content())
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == "old"


def luminance(colour: tuple[float, ...]) -> float:
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_text_colour_meets_the_contrast_of_wcag_aa(english: tuple[str, Page], scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", english[0], flags=re.DOTALL)
    block = [part for part in block if "--series-7" in part][scheme]
    colours = {
        name: tuple(int(value[i : i + 2], 16) for i in (0, 2, 4))
        for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
    }
    for name in ("ink", "muted", "accent", *(f"series-{i}" for i in range(SERIES))):
        for ground in ("paper", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    surprise = tuple(int(part) for part in re.search(r"--surprise: (\d+) (\d+) (\d+)", block).groups())  # type: ignore[union-attr]
    deepest = tuple(0.45 * s + 0.55 * c for s, c in zip(surprise, colours["card"], strict=True))
    assert contrast(colours["ink"], deepest) >= 4.5
