"""Summarising long texts and writing out records, in batches and as streams."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from speaking import RuleRun, random_transformer
from tests.conftest import ENGLISH

from llmbert.protocols import UsageError
from llmbert.tasks.summarise import summarise, summarise_stream
from llmbert.tasks.write import write, write_stream

E2E = {"text": {"tokens": "words", "delexicalised": ["name", "near"]}}


def test_a_text_that_fits_is_read_whole_and_a_longer_one_is_cut_and_counted() -> None:
    run = RuleRun(lambda source: source, reach=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert summarise(run, ["A  short text.", " "]) == ["A  short text.", ""]
        spaced = RuleRun(lambda source: source, {"text": {"normalised": True}})
        assert summarise(spaced, ["A  “short”\u00a0text."]) == ['A "short" text.']
    with pytest.warns(UserWarning, match=r"1 of 2 texts .* 9 tokens .*kept: lead") as warned:
        long, short = summarise(run, [ENGLISH, "short"])
    assert len(warned) == 1
    assert long == ENGLISH[: ENGLISH.index(" Every")]
    assert short == "short"
    with pytest.warns(UserWarning, match="kept: tail"):
        assert summarise(run, [ENGLISH], truncation="tail", source_tokens=4) == ["swim in it."]
    with pytest.raises(UsageError, match="no way 'end' to cut"):
        summarise(run, [ENGLISH], truncation="end")


def test_the_prefix_counts_into_what_fits() -> None:
    run = RuleRun(lambda source: source, {"prefixes": {"summarise": "sum it up: "}}, reach=8)
    with pytest.warns(UserWarning, match="cut"):
        assert summarise(run, ["one two three four five six"], truncation="head") == ["sum it up: one two three four"]


def test_of_a_long_text_is_shown_the_part_that_was_learned_from() -> None:
    def shown(**training: bool) -> str:
        run = RuleRun(str, {"settings": {"training": training}}, reach=5)
        with pytest.warns(UserWarning, match="cut"):
            (summary,) = summarise(run, ["one two three four five six"])
            assert "".join(summarise_stream(run, "one two three four five six")) == summary
        return summary

    assert shown(keep_end=True) == "three four five six"
    assert shown(keep_end=False) == shown() == "one two three four"


def test_sentences_are_finished_where_asked_for_and_titles_are_left_alone() -> None:
    run = RuleRun(lambda source: "The river rises. It")
    assert summarise(run, ["x"]) == ["The river rises. It"]
    assert summarise(run, ["x"], whole_sentences=True) == ["The river rises."]
    assert run.settings["max_tokens"] == 128
    assert run.settings["beams"] == 4


def test_a_summary_streams_as_it_is_written() -> None:
    run = RuleRun(lambda source: f"{source} and on and on" + " and on" * 20)
    pieces = list(summarise_stream(run, "It goes on and on"))
    assert len(pieces) > 3
    assert "".join(pieces) == summarise(run, ["It goes on and on"], beams=1)[0]
    assert list(summarise_stream(run, "\n")) == []


def test_records_of_every_form_are_written_out() -> None:
    run = RuleRun(lambda source: f"<{source}>")
    records = [{"name": "Blue Spice"}, [["A_B", "isIn", "C"]], "x | y | z"]
    assert write(run, records) == ["<name[Blue Spice]>", "<A B | is in | C>", "<x | y | z>"]
    with pytest.raises(UsageError, match=r"^record 2: .*name\[value\]"):
        write(run, [{"a": "b"}, "name[x"])
    with pytest.raises(UsageError, match="list of records"):
        write(run, {"name": "x"})


def test_names_are_taken_out_before_and_put_back_after() -> None:
    answers = {
        "name[X-name], food[French], near[X-near]": "X-name serves French food , near X-near .",
        "name[X-name]": "X-name is near X-near .",
        "Blue Spice | is in | Rome": "Blue Spice is in Rome .",
    }
    run = RuleRun(answers.__getitem__, E2E)
    records = [{"name": "Café Rouge", "food": "French", "near": "The Mill"}, [["Blue Spice", "isIn", "Rome"]]]
    expected = ["Café Rouge serves French food, near The Mill.", "Blue Spice is in Rome."]
    assert write(run, records) == expected
    assert "".join(write_stream(run, records[0])) == expected[0]
    assert write(run, records, raw=True)[0] == "X-name serves French food , near X-near ."
    with pytest.warns(UserWarning, match="1 of 1 texts name a placeholder"):
        assert write(run, ["name[Bo]"]) == ["Bo is near X-near."]


def test_lower_cased_runs_get_their_names_back_too() -> None:
    facts = {"text": {"lowercase": True, "delexicalised": ["name"]}}
    run = RuleRun({"name[x-name]": "x-name is a pub."}.__getitem__, facts)
    assert write(run, ["name[The Mill]"]) == ["The Mill is a pub."]


def test_a_real_encoder_decoder_summarises_and_writes(tmp_path: Path) -> None:
    run = random_transformer(tmp_path, ENGLISH)
    with pytest.warns(UserWarning, match="2 of 3 texts"):
        texts = summarise(run, [ENGLISH, "", ENGLISH * 2], max_tokens=8, beams=2, raw=True)
    assert texts[1] == ""
    with pytest.warns(UserWarning, match="1 of 1"):
        streamed = list(summarise_stream(run, ENGLISH, max_tokens=8, beams=2, raw=True))
    assert "".join(streamed) == texts[0]
    record = {"name": "Blue Spice", "eatType": "pub"}
    assert (
        "".join(write_stream(run, record, max_tokens=8, raw=True))
        == write(run, [record], max_tokens=8, beams=1, raw=True)[0]
    )
