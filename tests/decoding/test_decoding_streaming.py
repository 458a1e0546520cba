"""Text as it comes: whole characters, all of the text, and no piece of a stop string."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llmbert.decoding import StopFinder, TextStream, cut_at_stop
from llmbert.decoding.streaming import first_stop
from llmbert.text.tokenisers import train_tokeniser


def as_bytes(ids):
    return bytes(ids).decode("utf-8", "replace")


WORDS = ["new", "York", "中", "文", ",", ".", "##ing", "", "�", "▁the", "ab c", "\n"]


def as_words(ids):
    """A space between two words of Latin letters, none before punctuation or after Chinese, leading space dropped."""
    text = ""
    for token in ids:
        word = WORDS[token]
        if word.startswith("##"):
            text += word[2:]
        elif word.startswith("▁"):
            text += " " + word[1:]
        elif text and text[-1].isascii() and text[-1].isalnum() and word[:1].isascii() and word[:1].isalnum():
            text += " " + word
        else:
            text += word
    return text.removeprefix(" ")


CHARACTERS = "a é中文😀\u0301\ufffd\n" + "👩‍👩‍👧"
byte_ids = st.lists(st.sampled_from(CHARACTERS)).map(lambda text: list("".join(text).encode()))
any_bytes = st.lists(st.integers(0, 255), max_size=40)


def streamed(decode, ids, cuts, window=128):
    """All deltas of the ids, pushed in pieces of the lengths `cuts`, over and over."""
    stream, deltas, place, turn = TextStream(decode, window), [], 0, 0
    while place < len(ids):
        size = cuts[turn % len(cuts)]
        deltas.append(stream.push(ids[place : place + size]))
        place, turn = place + size, turn + 1
    return [*deltas, stream.finish()]


class TestTextStream:
    @settings(max_examples=200, deadline=None)
    @example(list("\ufffd\ufffd\ufffdé".encode()), [1], 4)
    @example(list(("\ufffd" * 9 + "é中").encode()), [2], 4)
    @given(byte_ids | any_bytes, st.lists(st.integers(1, 7), min_size=1, max_size=3), st.sampled_from([4, 16, 128]))
    def test_the_deltas_are_the_text_of_bytes(self, ids, cuts, window):
        assert "".join(streamed(as_bytes, ids, cuts, window)) == as_bytes(ids)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.integers(0, len(WORDS) - 1), max_size=60),
        st.lists(st.integers(1, 7), min_size=1, max_size=3),
        st.sampled_from([16, 128]),
    )
    def test_the_deltas_are_the_text_of_words(self, ids, cuts, window):
        assert "".join(streamed(as_words, ids, cuts, window)) == as_words(ids)

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet=CHARACTERS.replace("\ufffd", ""), max_size=30))
    def test_no_delta_shows_half_a_character(self, text):
        deltas = streamed(as_bytes, list(text.encode()), [1])
        assert not any("\ufffd" in delta for delta in deltas)
        assert deltas[-1] == ""

    def test_a_text_of_many_tokens_costs_the_same_a_token(self):
        sizes = []

        def decode(ids):
            sizes.append(len(ids))
            return as_bytes(ids)

        text = "中文 and English 😀 " * 300
        assert "".join(streamed(decode, list(text.encode()), [1])) == text
        assert max(sizes) <= 128 + 4

    def test_a_whole_text_at_once(self):
        text = "中文 and English 😀 " * 300
        assert TextStream(as_bytes).push(text.encode()) == text

    def test_what_never_becomes_a_character_is_shown_at_last(self):
        assert streamed(as_bytes, list("a中".encode())[:-1], [1]) == ["a", "", "", "\ufffd"]

    def test_replacement_characters_of_the_text_itself_do_not_hold_it_up_for_long(self):
        deltas = streamed(as_bytes, [0xFF] * 50, [1])
        assert "".join(deltas[:-1]) == "\ufffd" * 47

    def test_a_text_whose_end_is_taken_back_waits(self):
        def decode(ids):  # "do" + "not" become "don't"
            return "".join("ax"[token] for token in ids).replace("ax", "A")

        stream = TextStream(decode)
        assert stream.push([0]) == "a"
        assert stream.push([1]) == ""
        assert stream.push([0, 0]) == "aa"

    def test_a_text_whose_beginning_changes_goes_on(self):
        def decode(ids):  # one stray byte makes the whole run of them unreadable, as in SentencePiece's decoders
            runs = bytes(ids).split(b" ")
            return " ".join(run.decode() if is_text(run) else "\ufffd" * len(run) for run in runs)

        def is_text(run):
            return "\ufffd" not in run.decode("utf-8", "replace")

        deltas = streamed(decode, [*"龘".encode(), 0xE4, *b" and on it goes" * 20], [1], 16)
        assert deltas[2] == "龘" and "".join(deltas).endswith(" and on it goes" * 20)


def real_tokenizer(kind):
    """A small tokenizer of the `tokenizers` library, with the decoder that goes with its kind."""
    texts = ["Hello world, don't stop. I do not know 中文 😀 naïve café\n\nNew line  two spaces"] * 5
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=letters, show_progress=False)
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=100, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_the_deltas_are_the_text_of_real_decoders(kind):
    tokenizer = real_tokenizer(kind)
    choose = random.Random(0)
    for _ in range(60):
        ids = [choose.randrange(tokenizer.get_vocab_size()) for _ in range(choose.randrange(1, 300))]
        assert "".join(streamed(tokenizer.decode, ids, [1, 2])) == tokenizer.decode(ids)


UNIGRAM = train_tokeniser("unigram", ["The river runs past the old mill. 今天天气很好，我们走吧！"] * 5, 320)
STRAY = UNIGRAM.token_texts().index("<0xE4>")


@settings(max_examples=200, deadline=None)
@example([*UNIGRAM.encode("今天龘").tolist(), STRAY, *UNIGRAM.encode("天气很好").tolist()], [1], 128)
@given(
    st.lists(st.integers(0, UNIGRAM.vocabulary_size - 1), max_size=40)
    | st.text("今天龘 é🎉the", max_size=20).map(UNIGRAM.encode).map(list),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.sampled_from([16, 128]),
)
def test_the_deltas_are_the_text_of_pieces_that_fall_back_to_bytes(ids, cuts, window):
    assert "".join(streamed(UNIGRAM.decode, ids, cuts, window)) == UNIGRAM.decode(ids)


def reference(text, stop):
    """The text before the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        starts = [end - len(each) for each in stop if text[:end].endswith(each)]
        if starts:
            return text[: min(starts)], True
    return text, False


small_text = st.text(alphabet="ab中", max_size=20)
stops = st.lists(st.text(alphabet="ab中", min_size=1, max_size=4), max_size=3)


class TestStopStrings:
    @settings(max_examples=400, deadline=None)
    @given(small_text, stops, st.lists(st.integers(1, 5), min_size=1, max_size=3))
    @example("aab", ["ab"], [1])
    @example("abab中", ["ab中"], [1, 2])
    def test_the_text_ends_before_the_first_complete_one_however_it_is_cut(self, text, stop, cuts):
        finder, shown, place, turn = StopFinder(stop), "", 0, 0
        while place < len(text):
            size = cuts[turn % len(cuts)]
            shown += finder.push(text[place : place + size])
            expected, _ = reference(text, stop)
            assert expected.startswith(shown), "shown too early"
            place, turn = place + size, turn + 1
        shown += finder.finish()
        expected, found = reference(text, stop)
        assert shown == expected and (finder.found is not None) == found
        assert cut_at_stop(text, stop) == expected
        assert not any(each in shown for each in stop)

    def test_nothing_comes_after_a_stop_string(self):
        finder = StopFinder(["x"])
        assert finder.push("axb") == "a" and finder.push("c") == "" and finder.finish() == ""

    def test_text_that_only_may_be_one_is_held_back_and_then_shown(self):
        finder = StopFinder(["\n\nUser:"])
        assert [finder.push(each) for each in ("Hi", "\n", "\n", "Us", "A")] == ["Hi", "", "", "", "\n\nUsA"]

    def test_of_two_complete_at_the_same_place_the_longer(self):
        assert first_stop("xabc", ["bc", "abc", "c"]) == (1, "abc")

    def test_no_stop_strings(self):
        assert StopFinder(()).push("abc") == "abc" and cut_at_stop("abc", ()) == "abc"


@pytest.mark.parametrize("stop", ["中文", "文😀", "d中", "😀"])
def test_stop_strings_across_tokens_and_characters(stop):
    text = "abcd中文😀efg"
    stream, finder = TextStream(as_bytes), StopFinder([stop])
    shown = "".join(finder.push(stream.push([byte])) for byte in text.encode())
    assert shown == text[: text.index(stop)]
