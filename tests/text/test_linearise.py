"""Records as text and back; names taken out of texts and put back."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import shared

from llmbert.protocols import UsageError
from llmbert.text.linearise import (
    delexicalise,
    delexicalise_slots,
    format_slots,
    format_triples,
    left_placeholders,
    linearise,
    parse_slots,
    parse_triples,
    placeholder_values,
    relexicalise,
    tidy_triple,
)

MARKED = st.text(alphabet=st.one_of(st.sampled_from('[]|&,\\n \n\r"'), st.characters(codec="utf-8")))
NAMES = st.text(alphabet="abé中 .-", min_size=1).filter(lambda name: name == name.strip() != "")


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"name": "Blue Spice", "eatType": "pub"}, "name[Blue Spice], eatType[pub]"),
        ({"a": {"b": 3, "c": None}, "d": ["x", True], "e": 2.5}, "a.b[3], d[x], d[yes], e[2.5]"),
        ([["Aarhus_Airport", "cityServed", '"Aarhus, Denmark"']], "Aarhus Airport | city served | Aarhus, Denmark"),
        (["a", "isPartOf", "b"], "a | is part of | b"),
        ({"triples": [["a", "b", "c"], ["d", "IATACode", 5]]}, "a | b | c && d | IATA code | 5"),
        ('{"name": "蓝香料"}', "name[蓝香料]"),
        ("name[Blue Spice],eatType[ pub ] ", "name[Blue Spice], eatType[ pub ]"),
        ("a | b|c\nd | e | f", "a | b | c && d | e | f"),
        ("Foo [band] | genre | rock", "Foo [band] | genre | rock"),
        ("Foo | genre | rock [a \\| b", "Foo | genre | rock [a \\| b"),
        ("name[x | y | z], near[a\\]b|c]", "name[x | y | z], near[a\\]b|c]"),
    ],
)
def test_a_record_of_any_form_becomes_one_line(record: Any, line: str) -> None:
    assert linearise(record) == line
    assert linearise(line) == line


@pytest.mark.parametrize(
    "record",
    [{}, {"a": None}, [], "", "just words", "name[x", "a | b", "{broken", 3, ["a", "b"], {"a,b": "c"}, "x] [y]"],
)
def test_what_is_no_record_is_refused_in_one_sentence(record: Any) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]{20,250}$"):
        linearise(record)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, MARKED), min_size=1))
def test_slots_of_any_values_come_back(slots: list[tuple[str, str]]) -> None:
    line = format_slots(slots)
    assert parse_slots(line) == slots
    assert "\n" not in line


@settings(deadline=None)
@given(st.lists(st.tuples(MARKED, MARKED, MARKED), min_size=1))
def test_triples_of_any_values_come_back(triples: list[tuple[str, str, str]]) -> None:
    stripped = [tuple(part.strip() for part in triple) for triple in triples]
    line = format_triples(stripped)  # type: ignore[arg-type]
    assert parse_triples(line) == stripped
    assert "\n" not in line


VALUES = st.dictionaries(st.sampled_from(["X-name", "X-near"]), st.sampled_from(["Blue Spice", "Spice", "蓝", "a.b"]))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Blue Spice", "Spice", "蓝", "a.b", " ", "-", "Spicy", "'s", "酒吧", "x"])), VALUES)
def test_names_put_back_give_the_text_they_were_taken_from(parts: list[str], values: dict[str, str]) -> None:
    text = "".join(parts)
    assert relexicalise(delexicalise(text, values), values) == text


def test_names_are_whole_words_the_longest_first_and_come_back_without_capitals() -> None:
    values = placeholder_values([("name", "Blue Spice"), ("near", "Spice"), ("food", "English"), ("name", "Other")])
    assert values == {"X-name": "Blue Spice", "X-near": "Spice"}
    text = "Blue Spice's food is Spicy; near Spice."
    bare = delexicalise(text, values)
    assert bare == "X-name's food is Spicy; near X-near."
    assert relexicalise(bare.lower(), values) == text.lower().replace("blue spice", "Blue Spice").replace(
        "near spice", "near Spice"
    )
    assert delexicalise("蓝香料是酒吧", {"X-name": "蓝香料"}) == "X-name是酒吧"
    assert left_placeholders(relexicalise("X-name by X-food", values)) == ["X-food"]


def test_slots_lose_their_names_as_texts_do() -> None:
    slots = [("name", "The Mill"), ("food", "French"), ("near", "Avalon")]
    assert format_slots(delexicalise_slots(slots)) == "name[X-name], food[French], near[X-near]"


def test_every_record_and_text_of_e2e_comes_back() -> None:
    with gzip.open(shared("e2e_nlg/dev.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    named = 0
    for row in rows:
        slots = parse_slots(row["mr"])
        assert format_slots(slots) == row["mr"] == linearise(row["mr"])
        values = placeholder_values(slots)
        bare = delexicalise(row["ref"], values)
        assert relexicalise(bare, values) == row["ref"]
        named += "X-name" in bare
    assert named > 0.99 * len(rows)


def test_every_record_of_webnlg_comes_back() -> None:
    with gzip.open(shared("webnlg2017/dev.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["triples"] for line in lines]
    for row in rows:
        tidy = [tidy_triple(*triple) for triple in row]
        assert parse_triples(linearise(row)) == tidy
