"""Tokenisers: what goes in comes out, nothing typed becomes a special token, the same text gives the same file."""

import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmbert.protocols import LLMBertError, UsageError
from llmbert.text import byte_level, segment
from llmbert.text.segment import cut_pieces
from llmbert.text.tokenisers import SPECIAL_TOKENS, TOKENISERS, Tokeniser, train_tokeniser
from llmbert.text.vocabulary import byte_letters

ENGLISH = (
    "The river runs past the old mill, and the miller's daughter counts the sacks.\r\n"
    "She'd counted 1,024 of them by noon!  Nobody believed her; the miller did.\n\n"
    "\tThe <unk> words of a treebank, N of them, are ordinary words.\n"
)
CHINESE = "秦川雄帝宅，函谷壯皇居。\n我们在北京大学读书，今天天气很好！你好，世界：这是一个测试；明月几时有？\n"
TEXTS = [ENGLISH, CHINESE, ENGLISH * 3 + CHINESE]
KINDS = list(TOKENISERS)
DATA = Path(__file__).parents[3] / "shared" / "data"
every_kind = pytest.mark.parametrize("kind", KINDS)
any_text = st.text(max_size=200)
typed_text = st.text(alphabet=st.sampled_from("ab AB'st.,<>|0x4_\n\r\t 1中国，。\u3000é🎉▁#"), max_size=300)


@cache
def trained(kind: str) -> Tokeniser:
    return train_tokeniser(kind, TEXTS, None if kind in ("bytes", "chars", "words", "jieba") else 600)


def through_the_library(tokeniser: Tokeniser, text: str) -> list[int]:
    prepared = segment.segment_words(text) if tokeniser.kind == "jieba" else text
    return tokeniser._tokenizer.encode(prepared, add_special_tokens=False).ids


@every_kind
def test_special_tokens_have_ids_0_to_3(kind: str) -> None:
    tokeniser = trained(kind)
    assert tokeniser.token_texts()[:4] == list(SPECIAL_TOKENS)
    assert (tokeniser.padding_id, tokeniser.unknown_id, tokeniser.begin_id, tokeniser.end_id) == (0, 1, 2, 3)
    assert len(tokeniser.token_texts()) == tokeniser.vocabulary_size


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(text=any_text)
def test_bytes_and_bpe_give_any_text_back(kind: str, text: str) -> None:
    tokeniser = trained(kind)
    ids = tokeniser.encode(text)
    assert tokeniser.decode(ids) == text
    assert ids.dtype == np.int32 and (ids >= 4).all()
    of_tokens = tokeniser.token_bytes()
    assert of_tokens is not None and b"".join(of_tokens[number] for number in ids) == text.encode()


@given(text=st.text(alphabet=sorted(set("".join(TEXTS))), max_size=200))
def test_chars_give_back_text_of_known_characters(text: str) -> None:
    tokeniser = trained("chars")
    assert tokeniser.decode(tokeniser.encode(text)) == text
    assert len(tokeniser.encode(text)) == len(text)


def test_unseen_characters_are_unknown_one_by_one() -> None:
    assert trained("chars").encode("aé🎉a").tolist()[1:3] == [1, 1]
    assert trained("words").encode("the zebra the")[1] == 1


def test_unigram_spells_what_it_never_saw() -> None:
    tokeniser = trained("unigram")
    assert tokeniser.decode(tokeniser.encode("zebra é 🎉 龘")) == "zebra é 🎉 龘"
    assert 1 not in tokeniser.encode("zebra é 🎉 龘")


@given(text=typed_text)
def test_unigram_says_the_bytes_of_its_tokens(text: str) -> None:
    tokeniser = trained("unigram")
    ids = tokeniser.encode(text.replace("▁", " ") + "龘")
    of_tokens = tokeniser.token_bytes()
    assert of_tokens is not None and len(of_tokens) == tokeniser.vocabulary_size
    assert b"".join(of_tokens[number] for number in ids).decode() == tokeniser.decode(ids)
    assert tokeniser.decode(ids) == tokeniser._tokenizer.decode(ids.tolist())


def test_a_stray_byte_leaves_the_characters_beside_it() -> None:
    tokeniser = trained("unigram")
    stray = tokeniser.token_texts().index("<0xE4>")
    assert tokeniser.decode([*tokeniser.encode("龘"), stray, *tokeniser.encode("龘 the")]) == "龘\ufffd龘 the"


def test_unigram_does_not_take_typed_letters_for_a_byte() -> None:
    tokeniser = trained("unigram")
    assert tokeniser.decode(tokeniser.encode("<0x41> and <0xE4>")) == "<0x41> and <0xE4>"


@every_kind
@given(text=typed_text)
@settings(max_examples=60)
def test_the_fast_path_gives_the_library_s_ids(kind: str, text: str) -> None:
    assert trained(kind).encode(text).tolist() == through_the_library(trained(kind), text)


def test_byte_level_words_are_the_library_s_for_every_character() -> None:
    # A letter, a number, a mark and white space split each of these another way.
    characters = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    tokeniser = trained("bpe")
    text = "".join(f"a{character}1{character}?{character} {character}{character}b" for character in characters)
    split, strange = byte_level._patterns()
    letters = byte_letters()
    theirs = [word for word, _ in tokeniser._tokenizer.pre_tokenizer.pre_tokenize_str(strange.sub("a", text))]
    ours = ["".join(letters[byte] for byte in word.encode()) for word in split.findall(strange.sub("a", text))]
    assert ours == theirs
    assert not strange.search(ENGLISH + CHINESE + "naïve “quotes” — Привет こんにちは 한국어")
    assert strange.search("🎉") and strange.search("\u20bf")


@given(
    text=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab 1'sé中，\n\r\t 🎉\x85\xa0\x1c")))
)
@settings(max_examples=300)
def test_byte_level_ids_are_the_library_s(text: str) -> None:
    texts = [text, ENGLISH, text + "x" * 100, text * 2]
    rows = trained("bpe").encode_batch(texts)
    assert [row.tolist() for row in rows] == [through_the_library(trained("bpe"), each) for each in texts]


def test_white_space_between_words_is_python_s() -> None:
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace() and chr(code) != "\n"]
    text = "the".join(spaces)
    tokeniser = trained("words")
    assert tokeniser.encode(text).tolist() == through_the_library(tokeniser, text)
    assert 1 not in tokeniser.encode(text)


@every_kind
def test_typed_special_tokens_are_text(kind: str) -> None:
    tokeniser = train_tokeniser(kind, [*TEXTS, *SPECIAL_TOKENS], 700 if kind == "wordpiece" else None)
    for token in SPECIAL_TOKENS:
        for text in (token, f"the {token} river", token * 2):
            ids = tokeniser.encode(text)
            assert not set(ids.tolist()) & {0, 2, 3}, (kind, text)
            if tokeniser.lossless:
                assert tokeniser.decode(ids) == text


MORE = ("<|mask token|>", "<|sentinel 0|>")


@every_kind
def test_more_special_tokens_stand_behind_all_others_and_change_no_text(kind: str, tmp_path: Path) -> None:
    # What was learnt may hold the very letters of the names.
    plain = train_tokeniser(kind, [*TEXTS, *MORE], 700 if kind == "wordpiece" else None)
    more = plain.with_special_tokens(MORE)
    size = plain.vocabulary_size
    assert plain.special_ids == {}
    assert more.special_ids == {MORE[0]: size, MORE[1]: size + 1}
    assert more.vocabulary_size == len(more.token_texts()) == size + 2
    assert more.token_texts()[size:] == list(MORE)
    more.save(tmp_path)
    for tokeniser in (more, Tokeniser.load(tmp_path)):
        assert tokeniser.fingerprint == more.fingerprint != plain.fingerprint
        for text in (*TEXTS, f"the {MORE[0]} river", MORE[1] * 2, "🎉 " + MORE[0]):
            assert tokeniser.encode(text).tolist() == plain.encode(text).tolist()
        ids = plain.encode("the river")
        assert tokeniser.decode([*ids, size, size + 1]) == plain.decode(ids)
    if plain.token_bytes() is not None:
        assert more.token_bytes() == [*plain.token_bytes(), b"", b""]


def test_special_tokens_are_added_once_and_never_by_a_name_that_can_be_typed() -> None:
    more = trained("bpe").with_special_tokens(MORE)
    again = more.with_special_tokens([MORE[1], "<|sentinel 1|>", SPECIAL_TOKENS[2]])
    assert again.special_ids == {**more.special_ids, "<|sentinel 1|>": more.vocabulary_size}
    for name in ("[MASK]", " <mask> ", ""):
        with pytest.raises(UsageError, match="space inside"):
            more.with_special_tokens([name])


@every_kind
@pytest.mark.parametrize(
    "text", ["The river runs past, she'd counted.\n\nWe 读书 in 北京大学，今天 天气很好！The mill", "读书 the millers"]
)
def test_text_behind_other_text_is_decoded_as_with_it(kind: str, text: str) -> None:
    tokeniser = trained(kind)
    ids = [number for number in tokeniser.encode(text).tolist() if number != tokeniser.unknown_id]
    whole, tokens = tokeniser.decode(ids), tokeniser.token_texts()
    if kind == "wordpiece":
        assert any(tokens[number].startswith("##") for number in ids)
    for cut in range(1, len(ids)):
        if tokeniser.token_bytes() is None or "\ufffd" not in tokeniser.decode(ids[:cut]):
            before, behind = ids[:cut], ids[cut:]
            assert tokeniser.decode(before) + tokeniser.decode_after(behind, before) == whole
            assert tokeniser.decode_after(behind, [*before, 1, 3]) == tokeniser.decode_after(behind, before)


@pytest.mark.parametrize("kind", ["words", "wordpiece", "jieba"])
def test_text_behind_what_is_unknown_stands_apart_from_it(kind: str) -> None:
    tokeniser = trained(kind)
    assert tokeniser.decode_after(tokeniser.encode("the river"), [1]) == " the river"
    if kind != "words":
        assert tokeniser.decode_after(tokeniser.encode("北京大学"), [1]) == "北京大学"


@every_kind
def test_decoding_drops_special_tokens(kind: str) -> None:
    tokeniser = trained(kind)
    ids = tokeniser.encode("the river")
    assert tokeniser.decode(np.concatenate([[2], ids, [3, 0, 0]])) == tokeniser.decode(ids) == "the river"


def test_words_split_on_white_space_and_keep_line_ends() -> None:
    tokeniser = train_tokeniser("words", ["no , it was n't <unk>\n\n N years\r\n"])
    assert sorted(tokeniser.token_texts()[4:]) == sorted(["no", ",", "it", "was", "n't", "<unk>", "\n", "N", "years"])
    ids = tokeniser.encode("it  was\t<unk> \r\n\n N \n")
    assert tokeniser.decode(ids) == "it was <unk>\n\nN\n"
    assert 1 not in ids


def test_words_are_numbered_by_frequency_then_letters_within_the_size() -> None:
    tokeniser = train_tokeniser("words", ["b a c b d d b"], 4 + 3)
    assert tokeniser.token_texts()[4:] == ["b", "d", "a"]
    assert tokeniser.encode("c d").tolist() == [1, 5]


def test_texts_are_never_joined() -> None:
    tokeniser = train_tokeniser("words", ["one line", "next line"])
    assert sorted(tokeniser.token_texts()[4:]) == ["line", "next", "one"]


def test_jieba_finds_chinese_words_and_joins_them_without_spaces() -> None:
    pytest.importorskip("jieba")
    tokeniser = train_tokeniser("jieba", ["我们在北京大学读书。\nGPT 4 在北京"])
    assert {"我们", "北京大学", "读书", "。"} <= set(tokeniser.token_texts())
    assert tokeniser.decode(tokeniser.encode("我们在北京大学读书。\nGPT 4")) == "我们在北京大学读书。\nGPT 4"


def test_chinese_subwords_need_no_spaces() -> None:
    for kind in ("unigram", "wordpiece", "bpe"):
        tokeniser = trained(kind)
        assert (
            tokeniser.decode(tokeniser.encode("今天天气很好！你好，世界")).replace(" ", "")
            == "今天天气很好！你好，世界"
        )


@every_kind
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_pieces_give_the_ids_of_the_whole(kind: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.text(alphabet="ab' \n\r\t中国，。.1<", max_size=40), max_size=30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "PIECE_CHARACTERS", data.draw(st.integers(1, 30)))
        found = list(trained(kind).encode_pieces(pieces))
    whole = through_the_library(trained(kind), "".join(pieces))
    assert np.concatenate(found).tolist() == whole


@every_kind
def test_long_pieces_give_the_ids_of_the_whole(kind: str) -> None:
    text = (ENGLISH + CHINESE) * 1200
    places = sorted(random.Random(1).sample(range(len(text)), 7))
    pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    assert np.concatenate(list(trained(kind).encode_pieces(pieces))).tolist() == trained(kind).encode(text).tolist()
    assert len(trained(kind).encode(text)) == len(np.concatenate(trained(kind).encode_batch([text])))


def test_a_run_without_white_space_is_cut_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "PIECE_CHARACTERS", 10)
    monkeypatch.setattr(segment, "RUN_CHARACTERS", 50)
    pieces = list(cut_pieces(iter(["x" * 7] * 30), TOKENISERS["bpe"].cut))
    assert "".join(pieces) == "x" * 210
    assert max(map(len, pieces)) == 50
    assert max(map(len, cut_pieces(["y" * 1000], None))) == 10


@every_kind
def test_a_batch_is_each_text_by_itself(kind: str) -> None:
    texts = ["", "the river", CHINESE, "\n", ENGLISH, ""]
    rows = trained(kind).encode_batch(texts)
    assert [row.tolist() for row in rows] == [trained(kind).encode(text).tolist() for text in texts]
    assert trained(kind).encode_batch([]) == []


@every_kind
def test_what_is_saved_is_what_is_loaded(kind: str, tmp_path: Path) -> None:
    trained(kind).save(tmp_path)
    loaded = Tokeniser.load(tmp_path)
    assert (loaded.kind, loaded.fingerprint) == (kind, trained(kind).fingerprint)
    text = ENGLISH + CHINESE + "".join(SPECIAL_TOKENS)
    assert loaded.encode(text).tolist() == trained(kind).encode(text).tolist()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


@every_kind
@pytest.mark.parametrize("config", [None, {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}])
def test_transformers_reads_the_folder(kind: str, config: dict | None, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained(kind).save(tmp_path)
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = ENGLISH + CHINESE + " <|end of text|> ,x."
    prepared = segment.segment_words(text) if kind == "jieba" else text
    ids = trained(kind).encode(text).tolist()
    assert theirs(prepared)["input_ids"] == ids
    assert theirs.decode([2, *ids, 3], skip_special_tokens=True) == trained(kind).decode(ids)
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2, 3)
    assert len(theirs) == trained(kind).vocabulary_size


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from tests_text import TEXTS
from llmbert.text.tokenisers import TOKENISERS, train_tokeniser
for kind in TOKENISERS:
    size = None if kind in ("bytes", "chars", "words", "jieba") else 420
    print(kind, train_tokeniser(kind, TEXTS, size).fingerprint)
"""


def test_the_same_text_gives_the_same_tokeniser_in_every_process(tmp_path: Path) -> None:
    # Hash tables are seeded anew in each process, so one process cannot show it.
    words = ["".join(random.Random(n).choices("abcdefgh", k=3 + n % 7)) for n in range(3000)]
    (tmp_path / "tests_text.py").write_text(f"TEXTS = {[' '.join(words), *TEXTS]!r}", encoding="utf-8")
    script = SCRIPT.format(path=[str(tmp_path), *sys.path])
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": threads},
        ).stdout
        for seed, threads in (("1", "true"), ("2", "true"), ("3", "false"))
    }
    assert len(found) == 1
    assert len(found.pop().splitlines()) == len(KINDS)


def test_sizes_are_kept() -> None:
    assert train_tokeniser("bytes", []).vocabulary_size == 260
    assert train_tokeniser("bpe", TEXTS, 300).vocabulary_size == 300
    assert train_tokeniser("unigram", TEXTS, 320).vocabulary_size <= 320
    assert train_tokeniser("wordpiece", TEXTS, 120).vocabulary_size <= 124
    assert train_tokeniser("chars", TEXTS, 20).vocabulary_size == 20


@every_kind
def test_tiny_texts_train(kind: str) -> None:
    for texts in ([], ["a"], ["\n"], ["中"]):
        tokeniser = train_tokeniser(kind, texts)
        assert tokeniser.encode("a").dtype == np.int32


@pytest.mark.parametrize(("kind", "size"), [("bytes", 300), ("bpe", 200), ("unigram", 100), ("chars", 4)])
def test_sizes_that_cannot_be_are_refused(kind: str, size: int) -> None:
    with pytest.raises(UsageError, match="tokeniser"):
        train_tokeniser(kind, TEXTS, size)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="bytes, chars, words"):
        train_tokeniser("letters", TEXTS)


@every_kind
def test_lone_surrogates_are_refused(kind: str) -> None:
    for encode in (trained(kind).encode, lambda text: list(trained(kind).encode_pieces([text]))):
        with pytest.raises(LLMBertError, match=r"U\+D83D"):
            encode("half \ud83d of it")


def test_token_texts_show_bytes_as_text() -> None:
    texts = trained("bpe").token_texts()
    assert " the" in texts and "�" in texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", None),
        ("tokenizer_config.json", None),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "[1]"),
        ("tokenizer_config.json", '{"llmbert_kind": "letters"}'),
        ("tokenizer_config.json", '{"llmbert_kind": ["letters"]}'),
        ("tokenizer_config.json", "{}"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(name: str, content: str | None, tmp_path: Path) -> None:
    trained("bpe").save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(LLMBertError, match=name):
        Tokeniser.load(tmp_path)


def test_a_tokenizer_of_another_making_is_refused(tmp_path: Path) -> None:
    from tokenizers import models

    trained("bpe").save(tmp_path)
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(LLMBertError, match="special tokens"):
        Tokeniser.load(tmp_path)


def test_words_and_characters_are_counted_over_long_text() -> None:
    long = " ".join(f"word{number}" for number in range(40_000))
    tokeniser = train_tokeniser("words", [long])
    assert tokeniser.vocabulary_size == 40_004
    assert train_tokeniser("chars", [long]).vocabulary_size == 4 + len(set(long))


def test_training_survives_long_runs_without_white_space() -> None:
    run = "".join(random.Random(0).choices("ACGT", k=300_000))
    tokeniser = train_tokeniser("bpe", [run], 300)
    assert tokeniser.decode(tokeniser.encode(run)) == run
    assert train_tokeniser("words", [run]).vocabulary_size == 4
