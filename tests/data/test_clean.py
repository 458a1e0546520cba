"""Cleaning: repairs bring back what was there, boilerplate by an exact count, quality rules by their definitions."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.data.curation import boilerplate, quality
from llmbert.data.curation.boilerplate import LineCounts, lines_of, without_lines
from llmbert.data.curation.clean import LIMITS, RULES, clean_documents
from llmbert.data.curation.languages import language_of
from llmbert.data.curation.quality import first_fault
from llmbert.data.curation.records import Record
from llmbert.data.curation.repair import remove_controls, repair_encoding

ENGLISH = (
    "The river rises in the hills and runs to the sea. Where it bends, people built a mill; where it is wide, a town. "
    "In spring the water is high and brown, in autumn it is low and clear. Every year the children learn to swim in it."
)
CHINESE = "春江潮水连海平,海上明月共潮生。滟滟随波千万里,何处春江无月明。江流宛转绕芳甸,月照花林皆似霰。"
MODERN = "我们在这个城市里住了很多年，每天都能看到河边的人们来来往往，他们说着自己的事情。"


def found(texts: list[str], **options: Any) -> Any:
    records = [Record(f"d{number}", text, {}, f"d{number}") for number, text in enumerate(texts)]
    return clean_documents(records, None, **options)


# ---- repair --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["schöne Brücken über dem Fluß", "il a été décidé à l’avance", MODERN, f"one\n{MODERN}\ntwo"]
)
def test_utf8_read_as_latin_is_repaired(text: str) -> None:
    assert repair_encoding(text.encode().decode("latin-1")) == text


def test_chinese_read_by_the_wrong_table_is_repaired() -> None:
    assert repair_encoding(MODERN.encode("gb18030").decode("latin-1")) == MODERN
    # Most texts lose bytes when they are read so; what lost none is brought back.
    assert repair_encoding("浣犲ソ涓栫晫") == "你好世界"
    assert "你好世界".encode().decode("gb18030") == "浣犲ソ涓栫晫"


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        CHINESE,
        MODERN,
        "naïve café, señor Ångström",
        "日本語のテキスト",
        "Ça, c'est à la fête d'été",
        "한국어 문장",
    ],
)
def test_right_text_is_left_as_it_is(text: str) -> None:
    assert repair_encoding(text) == text
    assert remove_controls(text) == text


def test_controls_go_and_line_ends_become_one() -> None:
    assert remove_controls("\ufeffa\x00b\x1b[31mc\x1b[0m\r\nd\te\x0cf\u200bg\x85h") == "abc\nd\te\nfg\nh"


# ---- boilerplate ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.sampled_from([f"line number {n} of some" for n in range(9)]), max_size=6), max_size=12),
    st.integers(1, 4),
)
@settings(max_examples=80)
def test_counts_are_never_too_few_and_removal_is_by_the_exact_ones(documents: list[list[str]], least: int) -> None:
    texts = ["\n".join(["own", *lines]) for lines in documents]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boilerplate, "_BITS", 3)  # so that lines share counters
        counts = LineCounts()
        for text in texts:
            counts.add(lines_of(text, 16))
        exact = Counter(line for lines in documents for line in set(lines))
        frequent = set(counts.frequent(sorted(exact), least))
    assert frequent >= {line for line, count in exact.items() if count >= least}
    for text, lines in zip(texts, documents, strict=True):
        left, gone = without_lines(text, exact, least)
        assert gone == [line for line in lines if exact[line] >= least]
        assert left.split("\n") == ["own", *(line for line in lines if exact[line] < least)]


def test_a_footer_goes_and_a_text_of_one_line_stays() -> None:
    footer, ending = "This mail is confidential and meant for you alone.", "此邮件仅供收件人阅读。"
    mails = [f"Text of mail {n} for a reader.\n{footer if n % 2 else ending}" for n in range(24)]
    figures = found([*mails, *[footer] * 12], rules=["boilerplate"])
    assert figures.changed["boilerplate"] == 24
    assert figures.kept == 36
    assert (
        found(mails, rules=["boilerplate"], limits=LIMITS | {"boilerplate_documents": 13}).changed["boilerplate"] == 0
    )


def test_a_document_that_stands_there_many_times_is_no_boilerplate() -> None:
    mail = "Dear all, we meet on Monday.\nPlease bring your figures with you."
    copies = [mail, mail.upper(), f"{mail}\n "] * 10
    footed = [f"Text of mail {n} for a reader.\nThis mail is confidential and meant for you." for n in range(12)]
    figures = found([*copies, *footed], rules=["boilerplate"])
    assert (figures.kept, figures.changed["boilerplate"]) == (42, 12)


# ---- quality -------------------------------------------------------------------------------------------------------


def prose(words: int) -> str:
    """English without repetition, and with function words."""
    draw = random.Random(words)
    return " ".join(
        "the" if n % 9 == 0 else "of" if n % 7 == 0 else f"w{draw.choice('aeiou')}rd{chr(97 + n % 26)}{n}"
        for n in range(words)
    )


FAULTS: dict[str, tuple[str, str]] = {
    "least_words": ("too short", "太短"),
    "shortest_mean_word": ("a b c d " * 20, ""),
    "longest_mean_word": (" ".join(f"unbelievably{n}long" for n in range(60)), ""),
    "least_letters": (prose(60) + " 12 345 6.78 | = 1987" * 9, ""),
    "least_letters_zh": ("", "".join(chr(0x4E00 + n) + "%、" for n in range(200))),
    "least_function_words": (
        " ".join(f"{chr(97 + n % 26)}bcdef{n}" for n in range(60)),
        "".join(chr(0x5000 + n) for n in range(200)),
    ),
    "most_symbols": (prose(200) + " #" * 25, ""),
    "most_bullets": ("\n".join(f"- {prose(60 + n)}" for n in range(4)), ""),
    "most_ellipses": ("\n".join(f"{prose(60 + n)}..." for n in range(4)), ""),
    "duplicate_lines": (f"{prose(60)}\n" + "a line\n" * 9, ""),
    "top_2_gram": (prose(60) + " very goodness" * 20, ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_limit_is_noticed(name: str) -> None:
    for text in filter(None, FAULTS[name]):
        fault = first_fault(text, dict.fromkeys(RULES), LIMITS)
        assert fault is not None and fault.name == name, fault
        loose = {"least": 0.0, "shortest": 0.0}
        free = LIMITS | {name: loose.get(name.split("_")[0], 1e9)}
        other = first_fault(text, dict.fromkeys(RULES), free)
        assert other is None or other.name != name


def test_good_text_of_both_languages_is_kept() -> None:
    for text in (ENGLISH, prose(400), MODERN, CHINESE):
        assert first_fault(text, dict.fromkeys(RULES), LIMITS) is None


ITALIAN = (
    "Il fiume nasce sulle colline e scende fino al mare. Dove piega, gli abitanti costruirono un mulino; dove si "
    "allarga, sorse una piccola cittadina. In primavera, quando la neve si scioglie, le acque diventano alte e scure; "
    "in autunno invece tornano basse, limpide e tranquille. Ogni estate i bambini imparano a nuotare vicino al ponte."
)
INDONESIAN = (
    "Sungai itu berasal dari perbukitan dan mengalir sampai ke laut. Di tempat sungai berbelok, penduduk membangun "
    "sebuah kincir; di tempat yang lebar, berdiri kota kecil. Pada musim hujan airnya tinggi dan keruh, sedangkan pada "
    "musim kemarau menjadi rendah serta jernih. Setiap tahun anak-anak belajar berenang di sana bersama orang tua."
)


@pytest.mark.parametrize(("text", "codes"), [(ITALIAN, ["it"]), (INDONESIAN, ["id", "ms"])])
def test_other_languages_of_plain_letters_need_no_english_words(text: str, codes: list[str]) -> None:
    assert first_fault(text, dict.fromkeys(RULES), LIMITS) is None
    assert found([text], languages=codes).kept == 1


def test_a_list_of_names_is_no_other_language() -> None:
    names = (
        "John Smith, Mary Johnson, Robert Williams, Patricia Brown, Michael Jones, Jennifer Garcia, William Miller, "
        "Linda Davis, David Rodriguez, Elizabeth Martinez, Richard Hernandez, Barbara Lopez, Joseph Gonzalez"
    )
    assert language_of(names) not in (None, "en")
    fault = first_fault(names, {"words": True}, LIMITS | {"judged_words": 20})
    assert fault is not None and fault.name == "least_function_words"


def test_where_english_is_not_kept_its_words_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmbert.data.curation.clean.language_of", lambda text: None)
    monkeypatch.setattr("llmbert.data.curation.quality.language_of", lambda text: None)
    assert found([ITALIAN], languages=["it"]).kept == 1
    assert found([ITALIAN], languages=["it", "en"]).removed == {"least_function_words": 1}


def plain_shares(words: list[str], size: int) -> tuple[float, float]:
    """Share of characters of the most frequent n-gram, and share in n-grams that occur more than once."""
    grams = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    counts = Counter(grams)
    whole = sum(map(len, words))
    most = max(counts.values())
    top = max(sum(map(len, gram)) * most for gram, count in counts.items() if count == most)
    inside = {place for at, gram in enumerate(grams) if counts[gram] > 1 for place in range(at, at + size)}
    return top / whole, sum(len(words[place]) for place in inside) / whole


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dd"]), min_size=12, max_size=60))
@settings(max_examples=150)
def test_shares_of_n_grams_are_those_of_a_plain_count(words: list[str]) -> None:
    never = dict.fromkeys(LIMITS, -1.0)  # so that every share is told
    told = {fault.name: fault.value for fault in quality._repetition(quality._Text(" ".join(words)), never)}
    for size in range(2, 11):
        top, again = plain_shares(words, size)
        name = f"top_{size}_gram" if size < 5 else f"duplicate_{size}_grams"
        if again:
            assert told[name] == pytest.approx(top if size < 5 else again)
        else:
            assert name not in told


def test_repeated_lines_are_counted_as_defined() -> None:
    text = "one line\nanother line here\none line\n\none line\nlast"
    never = dict.fromkeys(LIMITS, -1.0)
    told = {fault.name: fault.value for fault in quality._repetition(quality._Text(text), never)}
    assert told["duplicate_lines"] == pytest.approx(2 / 5)
    lines = [line for line in text.split("\n") if line]
    assert told["duplicate_line_characters"] == pytest.approx(16 / sum(map(len, lines)))
    assert told["duplicate_paragraphs"] == 0


# ---- language ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ENGLISH, "en"),
        (MODERN, "zh"),
        ("我们用 PyTorch 训练 Transformer 模型，再用 BLEU 评测。", "zh"),
        ("Der Fluss entspringt in den Bergen und fließt ins Meer, wo die Menschen eine Mühle gebaut haben.", "de"),
        ("La rivière prend sa source dans les collines et coule vers la mer, où les gens ont bâti un moulin.", "fr"),
        ("日本語の文章はひらがなと漢字でできている。", "ja"),
        ("12345 67890", None),
        ("Anna", None),
    ],
)
def test_languages_are_told(text: str, code: str | None) -> None:
    assert language_of(text) == code


def test_other_languages_go_and_what_cannot_be_told_stays() -> None:
    german = "Der Fluss entspringt in den Bergen und fließt ins Meer, wo die Menschen eine Mühle gebaut haben."
    figures = found([ENGLISH, MODERN, german, "12345 67890"], rules=[], languages=["en", "zh"])
    assert (figures.kept, figures.removed) == (3, {"language": 1})


def test_what_was_cleaned_is_clean() -> None:
    texts = [ENGLISH, MODERN, *(text for pair in FAULTS.values() for text in pair if text)]
    kept = [text for text in texts if found([text]).kept]
    assert found(kept).kept == len(kept) >= 2
    assert all(re.fullmatch(r"[a-z_0-9]+", name) for name in LIMITS)
