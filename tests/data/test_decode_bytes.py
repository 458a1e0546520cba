"""Bytes to text: the same whatever the blocks, Chinese in GB18030 known for what it is, other encodings refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.data.decode_bytes import SAMPLE_BYTES, TextStream
from llmbert.protocols import LLMBertError

CHINESE = "今天天气很好，我们去公园散步，然后回家吃饭。"
CLASSICAL = "秦川雄帝宅，函谷壯皇居。\n綺殿千尋起，離宮百雉餘。\n"


def decoded(data: bytes, block: int = 1 << 20) -> str:
    return "".join(TextStream("a.txt", [data[at : at + block] for at in range(0, len(data), block)]))


@given(
    text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=80),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    block=st.integers(1, 9),
)
def test_unicode_comes_through_whatever_the_blocks(text: str, encoding: str, block: int) -> None:
    data = text.encode(encoding)
    marked = data[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff") or data[:2] == b"\xff\xfe" or data[:3] == b"\xef\xbb\xbf"
    if marked or encoding == "utf-8":
        assert decoded(data, block) == text.removeprefix("\ufeff" if encoding == "utf-8" else "")


@pytest.mark.parametrize(
    "text", [CHINESE, CLASSICAL, "你好", "GPT is 很好 indeed.\n", "ascii " * 99 + CHINESE, CHINESE * 9000]
)
@pytest.mark.parametrize("block", [3, 1000, 1 << 20])
def test_chinese_in_gb18030_is_found(text: str, block: int) -> None:
    assert decoded(text.encode("gb18030"), block) == text


def test_rare_characters_and_emoji_in_gb18030_come_through() -> None:
    assert decoded((CHINESE * 3 + "🎉𠀀龘").encode("gb18030")) == CHINESE * 3 + "🎉𠀀龘"


def test_ascii_before_the_first_chinese_decides_nothing() -> None:
    text = "x" * (3 * SAMPLE_BYTES) + "\n" + CHINESE
    stream = TextStream("a.txt", [text.encode("gb18030")[at : at + 999] for at in range(0, 4 * SAMPLE_BYTES, 999)])
    assert "".join(stream) == text
    assert stream.encoding == "gb18030"


FOREIGN = [
    ("latin-1", "Été à la plage, où l'élève naïf a mangé une crêpe."),
    ("latin-1", "résumé"),
    ("latin-1", "Mädchen"),
    ("latin-1", "über"),
    ("cp1252", "“Smart quotes” – and a dash"),
    ("cp1251", "Привет, как дела? Сегодня хорошая погода, и мы пойдём гулять в парк."),
    ("koi8-r", "Привет, как дела? Сегодня хорошая погода, и мы пойдём гулять в парк."),
    ("euc-kr", "안녕하세요 저는 학생입니다 오늘 날씨가 좋습니다 우리는 내일 학교에 갑니다"),
    ("euc-jp", "これは日本語の文章です。東京は日本の首都であり、世界最大の都市の一つである。"),
    ("shift_jis", "これは日本語の文章です。東京は日本の首都であり、世界最大の都市の一つである。"),
    ("big5", "今天天氣很好，我們去公園散步，然後回家吃飯。"),
    ("iso-8859-7", "Καλημέρα κόσμε, τι κάνεις σήμερα;"),
]


@pytest.mark.parametrize(("encoding", "text"), FOREIGN)
def test_other_encodings_are_refused_and_never_turned_into_chinese(encoding: str, text: str) -> None:
    with pytest.raises(LLMBertError, match="is not UTF-8; save the file as UTF-8"):
        decoded(text.encode(encoding) * 3)


@pytest.mark.parametrize("repeats", [1, 500])
def test_torn_utf8_chinese_is_refused_with_its_place(repeats: int) -> None:
    good = (CHINESE + "\n").encode() * repeats
    with pytest.raises(LLMBertError, match=rf"line {repeats + 1}: byte {len(good)} is not UTF-8"):
        decoded(good + b"\x80" + good)


def test_a_bad_byte_far_into_the_file_is_named() -> None:
    data = "é\n".encode() * 200_000 + b"\xff"
    with pytest.raises(LLMBertError, match="line 200001: byte 600000 is not UTF-8"):
        decoded(data, 1 << 16)


def test_a_text_that_ends_inside_a_character_is_refused() -> None:
    for data, name in ((CHINESE.encode()[:-1], "UTF-8"), (CHINESE.encode("gb18030")[:-1], "GB18030")):
        with pytest.raises(LLMBertError, match=f"is not {name}"):
            decoded(data)
    with pytest.raises(LLMBertError, match="is not UTF-16-LE"):
        decoded(CHINESE.encode("utf-16")[:-1])


def test_terminal_colours_and_form_feeds_are_text() -> None:
    text = "page\x0c\x1b[1mbold\x1b[0m\x1a\n" * 50
    assert decoded(text.encode()) == text
