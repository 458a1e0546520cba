"""Conversations: what the model is shown, where a reply ends, what fits, what is written down and what it tells."""

from __future__ import annotations

import json
import math
import stat
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speaking import RuleRun, counted, random_transformer
from tests.conftest import shared

from llmbert.decoding import LookupDraft
from llmbert.models import find_family
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import Run
from llmbert.tasks.chat import Conversation, chat
from llmbert.tasks.chat_log import ChatLog, default_log, read_log
from llmbert.tasks.chat_report import chat_report, wilson_interval, write_chat_report
from llmbert.text.dialogue import Turn, format_dialogue
from llmbert.workbench.train import train


def speaker(text: str, **options: object) -> RuleRun:
    return RuleRun(lambda prompt: text, reads_source=False, **options)  # type: ignore[arg-type]


# ---- turns -----------------------------------------------------------------------------------------------------------


def test_a_decoder_writes_on_after_its_own_mark_and_stops_at_the_next() -> None:
    run = speaker(" Fine,\n  thanks.\nA: And you?\nB: Well.")
    talk = chat(run, system="Be kind.")
    talk.say("  How are you? ")
    assert "".join(talk.stream()) == "Fine,\nthanks."
    assert run.asked == ["System: Be kind.\nA: How are you?\nB:"]
    assert run.settings["stop"] == ("\nA:", "\nB:", "\nSystem:")
    talk.say("Bye.")
    assert talk.reply().text == "Fine,\nthanks."
    assert run.asked[1] == "System: Be kind.\nA: How are you?\nB: Fine,\n  thanks.\nA: Bye.\nB:"
    assert talk.text() == run.asked[1] + " Fine,\n  thanks.\n"


def test_a_stranger_ends_a_reply_too() -> None:
    talk = chat(speaker(" Hello.\nC: I am C.\nB: Hm."))
    talk.say("Hi.")
    assert talk.reply().text == "Hello."


def test_an_encoder_decoder_reads_the_history_and_chinese_has_its_own_format() -> None:
    run = RuleRun(lambda source: "您好！", {"prefixes": {"chat": "dialog: "}})
    talk = chat(run, system="有礼貌。", speakers=["客人", "服务员"])
    talk.say("你好。")
    assert talk.reply().text == "您好！"
    assert run.asked == ["dialog: 系统：有礼貌。\n客人：你好。\n服务员："]
    for facts in ({"dialogue": {"language": "zh"}}, {"languages": {"source": "zh", "target": "zh"}}):
        assert chat(RuleRun(str, facts)).speakers == ("甲", "乙")


@pytest.mark.parametrize("written", ["Fine,\n  thanks.", "Fine,\nthanks."])
def test_an_encoder_decoder_shows_every_line_it_says(written: str) -> None:
    talk = chat(RuleRun(lambda source: written))
    talk.say("How are you?")
    assert talk.reply().text == "Fine,\nthanks."


def test_a_run_of_lower_case_is_shown_lower_case() -> None:
    run = speaker(" fine\nb: no", facts={"text": {"lowercase": True}})
    talk = chat(run)
    talk.say("How are YOU?")
    assert talk.reply().text == "fine"
    assert run.asked == ["a: how are you?\nb:"]
    assert "\nb:" in run.settings["stop"]


def test_several_people_take_part() -> None:
    run = speaker(" Yes.")
    talk = chat(run, speakers=["Ann", "Ben", "Bot"])
    talk.say("Hi Bot.")
    talk.say("Hi too.", "Ben")
    assert run.asked == []
    talk.reply()
    assert run.asked == ["Ann: Hi Bot.\nBen: Hi too.\nBot:"]
    with pytest.raises(UsageError, match="'Eve' takes no part"):
        talk.say("Me too.", "Eve")


def test_what_cannot_be_is_refused() -> None:
    run = speaker("x")
    for names in (["A"], ["A", "A"], ["System", "B"], ["A", "B:"]):
        with pytest.raises(UsageError, match="name"):
            chat(run, speakers=names)
    with pytest.raises(UsageError, match="said anything"):
        chat(run).stream()
    with pytest.raises(UsageError, match="nothing to say"):
        chat(run).say(" \n")
    with pytest.raises(UsageError, match="no reply to rate"):
        chat(run).rate(True)
    with pytest.raises(UsageError, match="en or zh"):
        chat(run, language="de")
    with pytest.raises(UsageError, match="not trained to chat"):
        chat(speaker("x", facts={"tasks": ["translate"]}))


@pytest.mark.parametrize("wrong", [{"temperture": 1}, {"beams": 4, "top_p": 0.9}, {"top_p": 2}, {"stop": ("",)}])
def test_settings_that_cannot_be_are_refused_before_anything_is_written_down(
    wrong: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"temperture|top_p|stop"):
        chat(speaker("x"), log=ChatLog(tmp_path / "log.jsonl"), **wrong)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_stop_is_a_text_or_several_or_none() -> None:
    run = speaker(" Not yet, END of it.")
    for stop, said in (("END", "Not yet,"), (("yet", "END"), "Not"), (None, "Not yet, END of it.")):
        talk = chat(run, stop=stop)
        talk.say("Go on.")
        assert talk.reply().text == said
    talk = chat(run, stop="END")
    talk.say("Go on.")
    talk.reply()
    assert run.settings["stop"][0] == "END"


def test_each_reply_draws_its_own_numbers_and_a_search_draws_none() -> None:
    run = speaker("x")
    talk = chat(run, seed=5, max_tokens=9, stop=("!",))
    talk.say("a")
    talk.reply()
    assert (run.settings["seed"], run.settings["max_tokens"], run.settings["temperature"]) == (6, 9, 0.8)
    assert run.settings["stop"][0] == "!"
    talk.say("b")
    talk.reply()
    assert run.settings["seed"] == 8
    beams = chat(run, beams=3)
    beams.say("a")
    beams.reply()
    assert (run.settings["temperature"], run.settings["top_p"]) == (0.0, 1.0)


def test_a_reply_that_is_broken_off_counts_as_far_as_it_came(tmp_path: Path) -> None:
    talk = chat(speaker(" one two three four five six"), log=ChatLog(tmp_path / "log.jsonl"))
    talk.say("Count.")
    stream = talk.stream()
    first = next(stream) + next(stream)
    stream.close()
    assert talk.turns[-1] == Turn("B", first)
    assert list(read_log(tmp_path / "log.jsonl"))[-1]["text"] == first


# ---- what fits -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(24, 60), st.booleans(), st.integers(0, 3))
def test_the_oldest_turns_go_first_and_the_system_text_stays(
    lengths: list[int], reach: int, reads_source: bool, system: int
) -> None:
    run = RuleRun(lambda prompt: " ok then", reads_source=reads_source, reach=reach)
    talk = Conversation(run, system="be good now"[: 4 * system], max_tokens=8)
    room = reach - 1 if reads_source else reach - 8 - 1
    for length in lengths:
        talk.say("w " * length)
        reply = talk.reply()
        prompt = run.asked[-1]
        shown = talk.turns[reply.dropped : -1]
        assert prompt == format_dialogue(shown, talk.system) + "B:"
        assert len(prompt.split()) <= room
        if reply.dropped:
            longer = format_dialogue(talk.turns[reply.dropped - 1 : -1], talk.system) + "B:"
            assert len(longer.split()) > room


def test_a_turn_that_leaves_no_room_is_refused_and_the_conversation_goes_on(tmp_path: Path) -> None:
    talk = chat(speaker(" ok", reach=20), max_tokens=8, log=ChatLog(tmp_path / "log.jsonl"))
    with pytest.raises(LLMBertError, match=r"31 tokens .* model.s 20"):
        talk.say("w " * 30)
    assert talk.turns == []
    talk.say("w " * 5)
    assert talk.reply().text == "ok"


# ---- real runs -------------------------------------------------------------------------------------------------------


def test_counts_of_a_dialogue_say_its_turns(tmp_path: Path) -> None:
    turns = [Turn("A", "Where is the mill?"), Turn("B", "At the bend."), Turn("A", "是吗？"), Turn("B", "是的。\nYes.")]
    run = counted(tmp_path, [format_dialogue(turns)] * 4)
    talk = chat(run, temperature=0.0)
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        talk.say(question.text)
        pieces = list(talk.stream())
        assert "".join(pieces) == answer.text
        assert all("\ufffd" not in piece for piece in pieces)


def test_a_real_encoder_decoder_replies(tmp_path: Path) -> None:
    run = random_transformer(tmp_path, "A: hello there\n")
    talk = chat(run, max_tokens=12, seed=3)
    for _ in range(6):
        talk.say("hello there, you")
        talk.reply()
    again = chat(run, max_tokens=12, seed=3)
    again.say("hello there, you")
    assert again.reply().text == talk.replies[0].text
    assert talk.replies[-1].dropped > 0
    with pytest.raises(LLMBertError, match="fewer words"):
        talk.say("hello " * 40)


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_everything_said_is_written_down_and_nothing_else(tmp_path: Path) -> None:
    log = ChatLog(tmp_path / "new" / "chats.jsonl")
    talk = chat(speaker(" ok", folder=Path("/home/anna/runs/bot")), log=log, system="Be kind.")
    talk.say("Hi “你”.\nYou")
    talk.reply()
    talk.rate(False, " too short ")
    lines = [json.loads(line) for line in log.path.read_text("utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["begin", "turn", "reply", "thumb"]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600 or sys.platform == "win32"
    assert len({line["chat"] for line in lines}) == 1
    assert lines[0]["run"] == "bot"
    assert lines[1] == {"chat": log.chat, "kind": "turn", "number": 0, "speaker": "A", "text": "Hi “你”.\nYou"}
    assert lines[2].keys() == {"chat", "kind", "speaker", "text", "seconds", "first_seconds", "dropped", "number"}
    assert lines[3] == {"chat": log.chat, "kind": "thumb", "number": 1, "good": False, "note": "too short"}
    assert "anna" not in log.path.read_text("utf-8")
    (tmp_path / "runs" / "bot").mkdir(parents=True)
    assert default_log(tmp_path / "runs" / "bot") == tmp_path / "runs" / "chats.jsonl"
    assert default_log("org/model") == Path("chats.jsonl")


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text('{"chat": "x", "kind": "turn", "numb')  # cut off by a crash
    text = "长" * 5000

    def write() -> None:
        log = ChatLog(path)
        for number in range(20):
            log.turn(number=number, speaker="A", text=text)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = list(read_log(path))
    assert records[0] == {"kind": "damaged"}
    assert len(records) == 81
    assert all(record["text"] == text for record in records[1:])


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LLMBertError, match=r"file.*--log"):
        chat(speaker("x"), log=ChatLog(tmp_path / "file" / "log.jsonl"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with pytest.raises(LLMBertError, match="could not be written"):
        ChatLog(tmp_path / "full.jsonl").begin(run="x")


# ---- the report ------------------------------------------------------------------------------------------------------


def write_log(path: Path, replies: list[tuple[str, float, bool | None, str]]) -> None:
    log = ChatLog(path)
    log.begin(run="bot", speakers=["A", "B"], system="", language="en", settings={})
    for at, (text, seconds, good, note) in enumerate(replies):
        log.turn(number=2 * at, speaker="A", text=f"question {at}")
        log.reply(
            speaker="B", text=text, seconds=seconds, first_seconds=seconds / 2, dropped=at // 2, number=2 * at + 1
        )
        if good is not None:
            log.thumb(number=2 * at + 1, good=not good, note="")  # changed their mind
            log.thumb(number=2 * at + 1, good=good, note=note)


REPLIES = [
    ("a b c", 1.0, True, ""),
    ("a b d e", 2.0, False, "rude"),
    ("", 3.0, None, ""),
    ("<b>x</b>", 10.0, True, "nice"),
]


def test_a_report_counts_times_thumbs_and_words(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    write_log(path, REPLIES)
    with path.open("a") as file:
        file.write('{"chat": "y", "kind": "reply"}\nnonsense\n')
    report = chat_report(path)
    assert {key: report[key] for key in ("conversations", "replies", "empty", "damaged", "runs", "dropped")} == {
        **{"conversations": 1, "replies": 4, "empty": 1, "damaged": 2},
        **{"runs": {"bot": 4}, "dropped": 2},
    }
    assert report["seconds"] == {"median": 2.5, "p95": pytest.approx(8.95), "longest": 10.0}
    assert report["first_seconds"]["median"] == 1.25
    assert report["thumbs"] == {
        "up": 2,
        "down": 1,
        "none": 1,
        "share_up": 2 / 3,
        "interval": list(wilson_interval(2, 3)),
    }
    assert report["words"] == {"mean": pytest.approx(8 / 3), "median": 3.0, "longest": 4}
    assert report["distinct"]["1"]["score"] > 0
    assert "signature" in report["distinct"]["2"]
    assert report["notes"] == [["down", "rude", "a b d e"], ["up", "nice", "<b>x</b>"]]
    json.dumps(report, allow_nan=False)


def test_words_of_a_reply_without_spaces_are_its_characters(tmp_path: Path) -> None:
    write_log(tmp_path / "chats.jsonl", [("我想去 GPT 大学。", 1.0, None, ""), ("好的", 1.0, None, "")])
    assert chat_report(tmp_path / "chats.jsonl")["words"] == {"mean": 4.0, "median": 4.0, "longest": 6}


def test_a_page_shows_figures_and_conversations_in_both_languages(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    write_log(tmp_path / "chats.jsonl", REPLIES)
    for language, words in (("en", ("within 2.50 s", "67% of 3", "rude")), ("zh", ("好评", "2.50 秒", "rude"))):
        report = write_chat_report(tmp_path / "chats.jsonl", tmp_path / "page.html", language)
        page = (tmp_path / "page.html").read_text("utf-8").replace("\u00a0", " ")  # a unit stays with its number
        assert all(word in page for word in words)
        assert "&lt;b&gt;x&lt;/b&gt;" in page
        assert "<b>x</b>" not in page
        assert page.index("question 0") < page.index("a b c") < page.index("question 1") < page.index("a b d e")
        assert report == chat_report(tmp_path / "chats.jsonl")


def test_a_log_without_replies_is_refused(tmp_path: Path) -> None:
    ChatLog(tmp_path / "chats.jsonl").begin(run="bot")
    with pytest.raises(LLMBertError, match="holds no reply"):
        chat_report(tmp_path / "chats.jsonl")
    with pytest.raises(LLMBertError, match="cannot be read"):
        chat_report(tmp_path / "none.jsonl")


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 1))
def test_wilsons_interval_solves_its_equation(trials: int, share: float) -> None:
    """Its ends are the shares p from which the observed one is 1.96 standard errors of p away."""
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            distance = abs(successes / trials - end) / math.sqrt(end * (1 - end) / trials)
            assert distance == pytest.approx(1.959963984540054, rel=1e-6)


def test_dialogues_of_dailydialog_fill_a_history(tmp_path: Path) -> None:
    import gzip

    with gzip.open(shared("dailydialog/validation.jsonl.gz"), "rt", encoding="utf-8") as lines:
        utterances = [json.loads(next(lines))["utterances"] for _ in range(20)]
    run = speaker(" Good .", reach=120)
    for texts in utterances:
        talk = chat(run, max_tokens=20)
        for text in texts:
            talk.say(text)
            talk.reply()
    assert max(len(prompt.split()) for prompt in run.asked) > 90


def test_a_turn_takes_in_what_is_new_alone(tmp_path: Path) -> None:
    """A decoder's state of the history is kept from turn to turn; what it says is what it would have said anew."""
    torch.manual_seed(0)
    run = counted(tmp_path / "run", ["A: how are you?\nB: fine, thanks.\n"] * 3)
    family = find_family("gpt")
    shape = family.settings_class()(layers=1, width=16, heads=2, context=256)
    model = family.build(shape, run.tokeniser.vocabulary_size).eval()
    talker = Run(run.folder, model, run.tokeniser, {})
    talk = Conversation(talker, max_tokens=12, temperature=0.0)
    prompts = []
    for said in ("how are you?", "and your mother?", "fine."):
        talk.say(said)
        prompts.append(talk._prompt(talk.turns))
        anew = Conversation(talker, max_tokens=12, temperature=0.0)
        anew.turns = list(talk.turns)
        assert talk.reply().text == anew.reply().text
    assert talk._engine is not None
    whole = sum(len(talker.tokeniser.encode(prompt)) + 1 for prompt in prompts)
    assert talk._engine.saved_tokens > whole / 3


def test_a_draft_guesses_ahead_of_what_is_said(tmp_path: Path) -> None:
    run = counted(tmp_path, ["A: and a one and a two?\nB: and a one and a two and a one and a two.\n"] * 3)
    said = []
    for draft in (None, "lookup", run):
        talk = chat(run, draft=draft, temperature=0.0)
        talk.say("and a one and a two?")
        said.append(talk.reply().text)
        assert talk._engine is not None
        assert (talk._engine.proposed > 0) == (draft is not None)
        if draft == "lookup":
            assert isinstance(talk._engine.draft, LookupDraft)
    assert said == said[:1] * 3
    reader = random_transformer(tmp_path, "A: hello there\n")
    replies = []
    for draft in (None, "lookup"):
        talk = chat(reader, draft=draft, temperature=0.0, max_tokens=20)
        talk.say("hello there")
        replies.append(talk.reply().text)
    assert replies[0] == replies[1]


def test_a_draft_that_cannot_guess_is_refused_before_anything_is_written_down(tmp_path: Path) -> None:
    run = counted(tmp_path / "run", ["A: hi\nB: hello\n"] * 3)
    for wrong in ({"draft": str(tmp_path / "nonsense")}, {"draft": "lookup", "beams": 2}):
        with pytest.raises(LLMBertError, match=r"nonsense|leave it out"):
            chat(run, log=ChatLog(tmp_path / "log.jsonl"), **wrong)
    assert not (tmp_path / "log.jsonl").exists()
    with pytest.raises(UsageError, match="draft of its own"):
        run.write("A: hi", draft="lookup", engine=run.engine())


def test_a_watermark_that_is_set_or_taken_off_between_turns_holds_from_then_on(prose: Path, tmp_path: Path) -> None:
    run = train("ngram", prose, tmp_path / "run", tokenizer="chars", settings={"order": 3})
    talk = chat(run, max_tokens=20)
    for key in (None, b"a key of its own", None):
        run.mark(key)
        talk.say("The river?")
        talk.reply()
        assert talk._engine is not None and run.wrote_with(talk._engine)
        assert (talk._engine.watermark is not None) == run.marked == (key is not None)
