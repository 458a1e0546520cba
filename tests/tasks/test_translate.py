"""Translating: sentence by sentence, put together as the text was; as the run's facts want it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speaking import RuleRun, counted, random_transformer

from llmbert.protocols import LLMBertError, UsageError
from llmbert.tasks.requests import prefixes_of
from llmbert.tasks.translate import translate, translate_stream


def test_lines_stay_lines_and_sentences_go_one_by_one() -> None:
    run = RuleRun(str.upper)
    text = "Dr. No came. He saw it!\n\n  - and left\n\nfin\n"
    assert translate(run, [text, "", "  \n", "one."]) == [text.upper(), "", "  \n", "ONE."]
    assert run.asked == ["Dr. No came.", "He saw it!", "- and left", "fin", "one."]
    assert run.settings["beams"] == 5
    assert run.settings["temperature"] == 0
    assert run.settings["max_tokens"] == 2 * 2 + 20  # of the last sentence, a word and its end
    translate(run, [text], whole=True, beams=1, max_tokens=7, temperature=0.5)
    assert run.asked[5:] == ["Dr. No came. He saw it!", "- and left", "fin"]
    assert (run.settings["max_tokens"], run.settings["temperature"]) == (7, 0.5)


def test_a_translation_does_not_depend_on_what_else_is_translated(tmp_path: Path) -> None:
    """Neither does its length, where nobody said how long it may be."""
    long = "sehr lang, " * 8
    run = random_transformer(tmp_path, long)
    for beams in (1, 3):
        alone = [translate(run, [text], beams=beams, raw=True)[0] for text in ("Ja.", long)]
        assert translate(run, ["Ja.", long], beams=beams, raw=True) == alone
        assert [*translate_stream(run, "Ja.", beams=beams, raw=True)] and len(alone[0]) < len(alone[1])


def test_chinese_stands_without_spaces() -> None:
    run = RuleRun({"Yes.": "是。", "No!": "“不！”", "他来了。": "He came.", "好。": "Good."}.__getitem__)
    assert translate(run, ["Yes. No! Yes.", "他来了。好。"]) == ["是。“不！”是。", "He came. Good."]


WORD = st.sampled_from(["Ja. ", "Mr. X ", "go on, ", "is it? ", "\n", "\n\n ", "“so!” ", "好。", " "])


@settings(deadline=None)
@given(st.lists(WORD, max_size=12).map("".join), st.integers(1, 9), st.booleans(), st.booleans())
def test_a_stream_is_the_batch(text: str, size: int, whole: bool, raw: bool) -> None:
    # "na" begins none of the words: a loop that ends within another is the one thing that a stream can't take back.
    run = RuleRun(lambda source: source.swapcase() + " na" * 9, size=size)
    pieces = list(translate_stream(run, text, whole=whole, raw=raw))
    assert "".join(pieces) == translate(run, [text], whole=whole, raw=raw)[0]


def test_a_loop_that_ends_within_another_stays_where_it_was_shown() -> None:
    run = RuleRun(lambda source: source.swapcase() + " ja" * 9, size=1)
    assert translate(run, ["Ja. Ja. Ja. "], whole=True) == ["jA. "]
    assert "".join(translate_stream(run, "Ja. Ja. Ja. ", whole=True)).startswith("jA. jA. jA. ja")


def test_a_sentence_longer_than_the_model_reads_is_cut_at_its_clauses() -> None:
    run = RuleRun(str.upper, reach=6)
    text = "one two three, four five six, seven eight nine ten eleven."
    assert translate(run, [text]) == [text.upper()]
    assert all(len(run.encode_source(source)) <= 6 for source in run.asked)
    assert run.asked[0] == "one two three,"
    assert run.settings["max_tokens"] == 5


def test_the_form_of_training_text_is_given_and_taken_back() -> None:
    facts = {"text": {"lowercase": True, "tokens": "words"}, "languages": {"source": "de", "target": "en"}}
    run = RuleRun({"er wohnt in berlin.": "he lives in berlin , he does n't know why ."}.__getitem__, facts)
    assert translate(run, ["Er wohnt in Berlin."]) == ["He lives in Berlin, he doesn't know why."]
    assert translate(run, ["Er wohnt in Berlin."], raw=True) == ["he lives in berlin , he does n't know why ."]
    assert "".join(translate_stream(run, "Er wohnt in Berlin.")) == "He lives in Berlin, he doesn't know why."


def test_a_loop_is_taken_out_unless_the_bare_text_is_asked_for() -> None:
    run = RuleRun(lambda source: "so it goes" + ", again and again" * 9)
    assert translate(run, ["x"]) == ["so it goes, again and again"]
    assert translate(run, ["x"], raw=True) == ["so it goes" + ", again and again" * 9]


PREFIXES = {"translate en-de": "to German: ", "translate en-fr": "to French: ", "summarise": "sum: "}


def test_a_mixture_is_asked_by_its_prefix() -> None:
    run = RuleRun(str.upper, {"prefixes": PREFIXES})
    assert translate(run, ["Hi. Yo."], target_language="de") == ["TO GERMAN: HI. TO GERMAN: YO."]
    for languages in ({}, {"target_language": "es"}, {"source_language": "en"}):
        with pytest.raises(UsageError, match="translate en-de, translate en-fr"):
            translate(run, ["Hi."], **languages)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no single task 'translate .*summarise"):
        translate(RuleRun(str.upper, {"prefixes": {"summarise": "sum: "}}), ["Hi."])


def test_the_prefixes_of_a_foreign_t5_are_known(tmp_path: Path) -> None:
    parameters = {
        "summarization": {"prefix": "summarize: ", "max_length": 200},
        "translation_en_to_de": {"prefix": "translate English to German: "},
        "odd": 3,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "task_specific_params": parameters}))
    run = RuleRun(str.upper, folder=tmp_path)
    run.facts = {}
    expected = {"summarise": "summarize: ", "translate en-de": "translate English to German: "}
    assert prefixes_of(run) == expected
    assert translate(run, ["Hi."])[0].startswith("TRANSLATE ENGLISH TO GERMAN: HI")


def test_what_a_run_does_not_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not trained to translate but to summarise"):
        translate(RuleRun(str.upper, {"tasks": ["summarise"]}), ["Hi."])
    with pytest.raises(UsageError, match="translates en to de"):
        translate(RuleRun(str.upper, {"languages": {"source": "en", "target": "de"}}), ["Hi."], target_language="fr")
    with pytest.raises(UsageError, match="list"):
        translate(RuleRun(str.upper), "Hi.")
    with pytest.raises(LLMBertError, match="reads no source"):
        translate(counted(tmp_path, ["A: hi\n"], 2), ["Hi."])


def test_a_real_encoder_decoder_translates_batches_as_one_by_one(tmp_path: Path) -> None:
    text = "Es war einmal. Und dann?\n\nEnde, " + "sehr lang, " * 20
    run = random_transformer(tmp_path, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = translate(run, [text, "Kurz."], max_tokens=12, beams=3)
    assert [translate(run, [each], max_tokens=12, beams=3)[0] for each in (text, "Kurz.")] == whole
    assert "".join(translate_stream(run, text, max_tokens=12, beams=3)) == whole[0]
    assert whole[0].count("\n\n") >= 1
    greedy = translate(run, [text], beams=1, max_tokens=12, raw=True)
    assert "".join(translate_stream(run, text, beams=1, max_tokens=12, raw=True)) == greedy[0]
