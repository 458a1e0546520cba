"""Texts → spans with their places: words and characters, long texts whole, parts of speech."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.protocols import UsageError
from llmbert.runs import Run, load
from llmbert.tasks.tag import tag
from llmbert.text.tags import SCHEMES, all_tags, are_characters, find_scheme, find_words, mend_tags, space_words
from llmbert.workbench.fine_tune import fine_tune

TINY = {"layers": 1, "width": 16, "heads": 2, "batch": 8, "learning_rate": 0.02, "dropout": 0.0, "evaluate_every": 50}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def places(count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    found = []
    for _ in range(count):
        name = draw.choice(["Berlin", "New York", "Rome"]).split()
        other = draw.choice([["we", "left"], ["they", "saw"], ["nobody", "knows"]])
        tags = ["O"] * 2 + ["B-LOC"] + ["I-LOC"] * (len(name) - 1) + ["O"]
        found.append({"tokens": [*other, *name, "."], "tags": tags})
    return found


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("english")
    data = write(folder / "a.jsonl", places(60))
    return fine_tune("tag", data, folder / "run", valid=data, tokenizer="words", settings=TINY | {"steps": 100})


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, draw = tmp_path_factory.mktemp("chinese"), random.Random(0)
    records = []
    for _ in range(60):
        place, year = draw.choice(["北京", "上海"]), draw.choice("1234")
        records.append({"tokens": list(f"他在{place}{year}年"), "tags": ["O", "O", "B-LOC", "E-LOC", "O", "O"]})
    data = write(folder / "a.jsonl", records)
    return fine_tune("tag", data, folder / "run", valid=data, settings=TINY | {"steps": 100})


@pytest.mark.parametrize("family", ["bert", "gpt", "lstm"])
def test_a_word_is_told_by_what_stands_behind_its_first_token(family: str, tmp_path: Path) -> None:
    """Whoever sees one side only reads it at its last token; a run made before that, where it was taught to."""
    rows = [{"tokens": [word, "walk"], "tags": [tag, "VB"]} for word, tag in (("pets", "NNS"), ("papa", "NN"))]
    data = write(tmp_path / "a.jsonl", rows * 4)
    shape = {key: value for key, value in TINY.items() if family != "lstm" or key != "heads"} | {"steps": 60}
    run = fine_tune(
        "tag", data, tmp_path / "run", valid=data, tokenizer="chars", family=family, settings=shape | {"crf": False}
    )
    texts = ["pets walk", "papa walk"]
    assert [spans[0]["kind"] for spans in tag(run, texts)] == ["NNS", "NN"]
    config = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    if family == "bert":
        return  # sees both sides, so it reads a word at its first token as ever
    assert config["settings"]["heads"]["tag"].pop("word_at") == "last"
    (run.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    first, second = (spans[0] for spans in tag(load(run.folder), texts))
    assert first["kind"] == second["kind"] and first["confidence"] == second["confidence"]


def told(spans: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(span["kind"], span["start"], span["end"], span["text"]) for span in spans]


def test_spans_have_the_places_of_their_characters(english: Run) -> None:
    text = "  we   left New  York."
    (found,) = tag(english, [text])
    assert told(found) == [("LOC", 12, 21, "New  York")]
    assert text[12:21] == "New  York"
    assert 0.5 < found[0]["confidence"] <= 1.0


def test_texts_that_are_words_already_have_the_places_of_their_words(english: Run) -> None:
    found = tag(english, [["we", "left", "New", "York", "."], "they saw Rome ."])
    assert [told(spans) for spans in found] == [[("LOC", 2, 4, "New York")], [("LOC", 9, 13, "Rome")]]


def test_chinese_is_tagged_character_by_character(chinese: Run) -> None:
    found = tag(chinese, ["他在北京1年", "他 在 上海 4 年", ""])
    assert [told(spans) for spans in found] == [[("LOC", 2, 4, "北京")], [("LOC", 4, 6, "上海")], []]


def test_a_text_of_any_length_is_read_whole(english: Run) -> None:
    sentence = "we left Berlin . "
    assert english.model.max_length < 20
    (found,) = tag(english, [sentence * 40], batch=8)
    assert told(found) == [("LOC", 17 * i + 8, 17 * i + 14, "Berlin") for i in range(40)]


def test_blank_texts_have_no_spans_and_order_is_kept(english: Run) -> None:
    texts = ["", "we left Rome .", " \n ", "nobody knows Berlin .", "they saw New York ."]
    alone = [tag(english, [text])[0] for text in texts]
    together = tag(english, texts, batch=2)
    assert [told(spans) for spans in together] == [told(spans) for spans in alone]
    assert [len(spans) for spans in together] == [0, 1, 0, 1, 1]
    assert tag(english, []) == []
    with pytest.raises(UsageError, match="list of words"):
        tag(english, [["a", 3]])  # type: ignore[list-item]


def test_parts_of_speech_are_told_word_by_word(tmp_path: Path) -> None:
    records = [{"tokens": ["a", noun], "tags": ["DT", "NN"]} for noun in ("hill", "mill", "sea", "town")] * 10
    data = write(tmp_path / "a.jsonl", records)
    run = fine_tune("tag", data, tmp_path / "run", valid=data, settings=TINY | {"steps": 60, "crf": False})
    assert told(tag(run, ["a town"])[0]) == [("DT", 0, 1, "a"), ("NN", 2, 6, "town")]


# ---- schemes and words ---------------------------------------------------------------------------------------------


@given(
    scheme=st.sampled_from(list(SCHEMES)),
    spans=st.lists(st.tuples(st.sampled_from("XYO"), st.integers(1, 4)), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_tags_that_keep_to_their_scheme_stay_and_others_keep_their_spans(
    scheme: str, spans: list[tuple[str, int]]
) -> None:
    first, inside, last, alone = SCHEMES[scheme]
    tags, loose = [], []
    for kind, size in spans:
        if kind == "O":
            tags += ["O"] * size
            loose += ["O"] * size
        else:
            body = [f"{first}-{kind}", *[f"{inside}-{kind}"] * (size - 2), f"{last}-{kind}"]
            tags += [f"{alone}-{kind}"] if size == 1 else body
            loose += [f"{first}-{kind}", *[f"{inside}-{kind}"] * (size - 1)]  # never ended
    assert mend_tags(tags, scheme) == tags
    assert mend_tags(loose, scheme) == tags
    if any(kind != "O" for kind, _ in spans):
        found = find_scheme(tags)
        assert found is not None and set(tags) <= set(all_tags(tags, found))


def test_schemes_are_known_by_their_letters() -> None:
    assert find_scheme(["O", "B-X", "I-X"]) == "BIO"
    assert find_scheme(["O", "S-X", "B-X", "E-X"]) == "BIOES"
    assert find_scheme(["O", "M-X", "B-X"]) == "BMES"
    assert find_scheme(["O", "U-X", "L-X"]) == "BILOU"
    assert find_scheme(["NN", "VB"]) is None and find_scheme(["O"]) is None and find_scheme(["B-X", "X-Y"]) is None
    assert mend_tags(["I-X", "I-X", "O", "I-Y"], "BIO") == ["B-X", "I-X", "O", "B-Y"]  # IOB1


@given(text=st.text(alphabet="ab1 .'@-\n中文,。😀", max_size=30), characters=st.booleans())
@settings(max_examples=300, deadline=None)
def test_words_cover_all_but_white_space(text: str, characters: bool) -> None:
    found = find_words(text, characters)
    assert "".join(text[start:end] for start, end in found) == "".join(text.split())
    assert all(a_end <= b_start for (_, a_end), (b_start, _) in pairwise(found))


def test_words() -> None:
    def cut(text: str, characters: bool = False) -> list[str]:
        return [text[start:end] for start, end in find_words(text, characters)]

    assert cut("It's @paul's 3.5% (state-of-the-art), U.S.") == [
        *("It", "'s", "@paul", "'s", "3.5", "%", "(", "state-of-the-art", ")", ",", "U", ".", "S", "."),
    ]
    assert cut("在GitHub上,2024年。") == ["在", "GitHub", "上", ",", "2024", "年", "。"]
    assert cut("在 Git 1", characters=True) == ["在", "G", "i", "t", "1"]
    assert "".join(space_words(["It", "'s", "北", "京", "now"])) == "It 's 北京 now"
    assert are_characters([list("北京"), list("1年")]) and not are_characters([["a", "mill"]])
