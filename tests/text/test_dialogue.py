"""The format of dialogues: what is written can be read again, and no text can pass for another turn."""

from __future__ import annotations

import contextlib
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import shared

from llmbert.protocols import UsageError
from llmbert.text.dialogue import (
    ReplyReader,
    Turn,
    alternate,
    format_dialogue,
    format_prompt,
    parse_dialogue,
    reply_pairs,
    stop_marks,
)

TALK = [Turn("Guest", "A table for two,\nplease."), Turn("Waiter", "Of course."), Turn("Guest", "")]


def test_english_and_chinese_each_have_their_marks() -> None:
    assert format_dialogue(TALK, "Be polite.") == (
        "System: Be polite.\nGuest: A table for two,\n  please.\nWaiter: Of course.\nGuest:\n"
    )
    assert format_dialogue(alternate(["你好。", "您好！"], language="zh"), "有礼貌。", "zh") == (
        "系统：有礼貌。\n甲：你好。\n乙：您好！\n"
    )
    assert format_prompt(TALK[:1], "Waiter").endswith("please.\nWaiter:")
    assert format_prompt([], "乙", language="zh") == "乙："
    assert stop_marks(["A", "B"]) == ("\nA:", "\nB:")


NAMES = st.text(min_size=1, max_size=40).filter(
    lambda name: name == name.strip() and not set(name) & set(":：\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
SAID = st.text(
    alphabet=st.one_of(st.sampled_from("AB: ：\n 系统Sytem"), st.characters(codec="utf-8", exclude_characters="\r"))
)
TURNS = st.lists(st.builds(Turn, NAMES.filter(lambda name: name not in ("System", "系统")), SAID), min_size=1)


@settings(deadline=None)
@given(TURNS, SAID, st.sampled_from(["en", "zh"]))
def test_what_is_written_can_be_read_again(turns: list[Turn], system: str, language: str) -> None:
    stripped = [Turn(turn.speaker, turn.text.strip()) for turn in turns]
    assert parse_dialogue(format_dialogue(turns, system, language)) == (system.strip(), stripped)


@settings(deadline=None)
@given(SAID, st.sampled_from(["en", "zh"]), st.integers(1, 7))
def test_a_reply_ends_with_its_turn_however_it_is_cut(text: str, language: str, size: int) -> None:
    written = format_dialogue([Turn("B", text), Turn("A", "more")], language=language).split(
        ":" if language == "en" else "：", 1
    )[1]
    reader = ReplyReader()
    given_text = "".join(reader.push(written[at : at + size]) for at in range(0, len(written), size))
    assert given_text == text.strip()
    assert reader.ended


def test_a_reply_that_goes_on_is_not_ended() -> None:
    reader = ReplyReader()
    assert [reader.push(piece) for piece in (" We", "ll,\n", "  yes", " ")] == ["We", "ll,", "\nyes", ""]
    assert not reader.ended
    assert reader.push("\nNote: x") == ""
    assert reader.ended
    assert reader.push("more") == ""


@pytest.mark.parametrize("name", ["", " A", "a:b", "甲：", "a\nb", "x" * 41])
def test_a_name_that_cannot_be_a_mark_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        Turn(name, "hello")


def test_what_is_no_dialogue_is_refused() -> None:
    with pytest.raises(UsageError, match="line 1"):
        parse_dialogue("once upon a time\nA: hi")
    with pytest.raises(UsageError, match="en or zh"):
        format_dialogue(TALK, language="fr")
    assert parse_dialogue("A: see http://x.y:80\nand more\nB: yes")[1] == [
        Turn("A", "see http://x.y:80\nand more"),
        Turn("B", "yes"),
    ]


def test_pairs_of_a_dialogue_end_their_source_where_the_target_begins() -> None:
    pairs = list(reply_pairs(TALK, "Be polite."))
    assert len(pairs) == 2
    assert pairs[0] == ("System: Be polite.\nGuest: A table for two,\n  please.\nWaiter:", "Of course.")
    assert all(source + " " + target in format_dialogue(TALK, "Be polite.") for source, target in pairs[:1])


@settings(deadline=None)
@given(SAID, st.sampled_from(["en", "zh"]), st.booleans())
def test_what_an_encoder_decoder_learns_to_say_is_read_whole(text: str, language: str, bare: bool) -> None:
    ((_, target),) = reply_pairs([Turn("A", "Well?"), Turn("B", text)], language=language)
    reader = ReplyReader(bare)
    assert reader.push(target) == text.strip()
    assert not reader.ended


def test_whoever_says_nothing_but_the_reply_need_not_indent_it() -> None:
    reader = ReplyReader(bare=True)
    assert [reader.push(piece) for piece in ("Well,\n", "yes.\n", "  No.", "\n")] == ["Well,", "\nyes.", "\nNo.", ""]
    assert not reader.ended


def test_dialogues_of_people_are_read_with_their_names() -> None:
    with gzip.open(shared("samsum/val.jsonl.gz"), "rt", encoding="utf-8") as lines:
        dialogues = [json.loads(line)["dialogue"] for line in lines]
    read = []
    for dialogue in dialogues:
        with contextlib.suppress(UsageError):  # "Simon:8 sharp": a slip of the hand
            read.append(parse_dialogue(dialogue)[1])
    assert sum(len({turn.speaker for turn in turns}) >= 2 for turns in read) > 0.98 * len(dialogues)
    assert all(parse_dialogue(format_dialogue(turns))[1] == turns for turns in read)
