"""Byte-level vocabularies write whole characters only."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.decoding import Context, Engine, GenerationSettings, Request, ValidUtf8
from llmbert.decoding.utf8 import ACCEPT, DEAD, transition_table

BYTES = [b""] * 4 + [bytes([byte]) for byte in range(256)]
MERGED = [*BYTES, b"\xe4\xb8", b"\xb8\xad", "中".encode(), "文 a".encode(), b" the", b"\x9f\x98\x80x", b"\x80\xf0\x9f"]


def decode(token_bytes):
    return lambda ids: b"".join(token_bytes[token] for token in ids).decode("utf-8", "replace")


def tokens_of(data: bytes) -> list[int]:
    return [4 + byte for byte in data]


def is_beginning_of_text(data: bytes) -> bool:
    """Whether some continuation makes these bytes valid, by trying Python's own decoder."""
    if b"\xef\xbf\xbd" in data:
        return False
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"


class TestTheAutomaton:
    def test_it_accepts_exactly_the_characters_of_unicode_but_one(self):
        table = transition_table()
        accepted = 0
        for point in range(0x110000):
            if 0xD800 <= point < 0xE000:
                continue
            state = ACCEPT
            for byte in chr(point).encode():
                state = table[state, byte]
            assert (state == ACCEPT) == (point != 0xFFFD), hex(point)
            accepted += state == ACCEPT
        assert accepted == 0x110000 - 0x800 - 1

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=6) | st.text(max_size=3).map(lambda text: text.encode()[:-1]))
    def test_it_dies_exactly_where_no_continuation_is_valid(self, data):
        table, state = transition_table(), ACCEPT
        for byte in data:
            state = table[state, byte]
        assert (state != DEAD) == is_beginning_of_text(data)


class TestMasks:
    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=4), st.integers(0, 3), st.integers(0, len(MERGED) - 1))
    def test_a_token_is_kept_exactly_where_the_text_can_stay_valid(self, text, cut, token):
        data = text.replace("\ufffd", "").encode()
        data = data[: max(0, len(data) - cut)]
        after = ValidUtf8(MERGED)(torch.zeros(1, len(MERGED)), Context([tokens_of(data)]))
        piece = MERGED[token]
        between = not data or is_whole(data)
        expected = is_beginning_of_text(data + piece) if piece else between
        assert bool(after[0, token] > -torch.inf) == expected

    def test_the_end_token_only_between_characters(self):
        rule = ValidUtf8(MERGED)
        for data, allowed in (
            (b"", True),
            (b"a", True),
            (b"\xe4", False),
            (b"\xe4\xb8", False),
            (b"\xe4\xb8\xad", True),
        ):
            assert bool(rule(torch.zeros(1, len(MERGED)), Context([tokens_of(data)]))[0, 3] == 0) == allowed

    def test_a_broken_past_is_left_behind(self):
        rule = ValidUtf8(MERGED)
        for data in (b"\x80", b"\xff", b"\xe4a", b"\xc0\x80", b"\xed\xa0", b"abc\xf4\x90"):
            assert rule.state(tokens_of(data)) == ACCEPT

    def test_a_token_of_no_bytes_ends_a_character_that_was_begun(self):
        rule = ValidUtf8(BYTES)
        assert rule.state([4 + 0xE4, 4 + 0xB8]) != ACCEPT
        assert rule.state([4 + 0xE4, 1, 4 + 0xB8]) == ACCEPT

    def test_a_character_is_begun_only_if_it_can_be_ended(self):
        rule = ValidUtf8(BYTES)
        for remaining, longest in ((1, 0x80), (2, 0xE0), (3, 0xF0), (4, 0xF5), (9, 0xF5)):
            after = rule(torch.zeros(1, len(BYTES)), Context([[]], [remaining]))[0, 4:]
            assert int(torch.nonzero(after == 0).max()) == longest - 1

    def test_a_prompt_that_ends_inside_a_character_may_leave_too_little_room(self):
        after = ValidUtf8(BYTES)(torch.zeros(1, len(BYTES)), Context([tokens_of(b"\xf0")], [1]))
        assert torch.nonzero(after[0, 4:] == 0)[:, 0].tolist() == list(range(0x90, 0xC0))

    def test_merged_tokens_shorten_the_way(self):
        token_bytes = [*BYTES, b"\x9f\x98\x80x"]
        after = ValidUtf8(token_bytes)(torch.zeros(1, 261), Context([tokens_of(b"\xf0")], [2]))
        # two tokens are left: one that ends the character at once will do, a single byte will not
        assert torch.nonzero(after[0] == 0)[:, 0].tolist() == [260]

    def test_ids_without_bytes_beyond_the_tokeniser(self):
        after = ValidUtf8(BYTES, 300)(torch.zeros(1, 300), Context([[]]))
        assert (after[0, 260:] == -torch.inf).all()


def is_whole(data: bytes) -> bool:
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("token_bytes", [BYTES, MERGED], ids=["bytes", "merged"])
@pytest.mark.parametrize("fields", [{}, {"temperature": 0.0}, {"top_k": 3}, {"no_repeat_ngram": 1}, {"top_p": 0.3}])
def test_a_model_that_writes_noise_still_writes_text(steppers, token_bytes, fields):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(token_bytes), generator=generator)
    noise[4 + 0x80 :] += 1.0
    noise[4 + 0xE6] += 6.0
    noise[3] -= 3.0
    engine = Engine(
        steppers.fixed(noise), 2, 3, decode(token_bytes), token_bytes, padding_id=0, unknown_id=1, max_batch=16
    )
    asked = [Request([], GenerationSettings(seed=n, max_tokens=1 + n % 23, **fields)) for n in range(60)]
    texts = [handle.text for handle in engine.run(asked)]
    assert not any("\ufffd" in text for text in texts)
    assert any(ord(max(text)) > 0x7F for text in texts if text)


def test_counts_without_a_way_out_do_not_break_a_character(steppers):
    """A model that gives every allowed token no probability still ends the character it began."""
    logits = torch.full((len(BYTES),), -torch.inf)
    logits[[4 + 0xE4, 4 + 0x41]] = 0.0
    engine = Engine(steppers.fixed(logits), 2, 3, decode(BYTES), BYTES, padding_id=0, unknown_id=1)
    texts = [
        handle.text for handle in engine.run(Request([], GenerationSettings(seed=n, max_tokens=9)) for n in range(9))
    ]
    assert not any("\ufffd" in text for text in texts) and any("\u4000" <= max(text) < "\u5000" for text in texts)
