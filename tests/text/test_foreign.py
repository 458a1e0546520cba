"""Tokenisers from elsewhere: Transformers gives the same ids, and nothing typed becomes a special token."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.foreign import FOREIGN, ForeignTokeniser, load_tokeniser
from llmbert.text.tokenisers import Tokeniser, train_tokeniser
from llmbert.text.vocabulary import byte_letters

TEXTS = [
    "The river rises in the hills, and it's 1,024 miles to the sea!\r\n\n  Where it bends — a mill; naïve Ärger.\n",
    "春江潮水连海平，海上明月共潮生。滟滟随波千万里，何处春江无月明！Über 300 Häuser.\n",
] * 4
LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "[MASK]", "<|end|>"]
PIECES = ["a", "the", " ", "river", "\n", "中", "月", "é", "e\u0301", "🎉", "1", ",", "▁", "\r\n", "<", *SPECIAL]
typed = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)
plain = st.text(st.sampled_from("ab theriver\n中月明，é🎉1,.'s"), max_size=60)


def _added(tokenizer: Tokenizer, names: list[str]) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def _trained(tokenizer: Tokenizer, size: int = 420, **options: Any) -> dict[str, Any]:
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_letters(), show_progress=False, **options)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def gpt2_model() -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _trained(tokenizer)


def byte_level(split: str | None, normaliser: Any = None, ignore_merges: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    before = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    steps = [pre_tokenizers.Split(Regex(split), "isolated"), before] if split else [before]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    model = _trained(tokenizer)
    # The special tokens' names are pieces of the vocabulary too, as in some files.
    vocabulary = model["vocab"] | {name: len(model["vocab"]) + i for i, name in enumerate(SPECIAL)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer.model = models.BPE(vocabulary, merges, ignore_merges=ignore_merges)
    if normaliser:
        tokenizer.normalizer = normaliser
    tokenizer.decoder = decoders.ByteLevel()
    return _added(tokenizer, SPECIAL)


def llama_2() -> Tokenizer:
    """SentencePiece's BPE as `tokenizer.json`: one word for all text, spaces as ▁, bytes for what has no piece."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False)
    tokenizer.train_from_iterator(TEXTS[0].split(" "), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    tokenizer.model = models.BPE(
        {piece: number for number, piece in enumerate(dict.fromkeys(pieces))},
        [tuple(merge) for merge in model["merges"]],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True,
    )  # fmt: skip
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    return _added(tokenizer, ["<unk>", "<s>", "</s>"])


def t5() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return _added(tokenizer, ["<pad>", "</s>", "<unk>", "<extra_id_0>"])


def words() -> Tokenizer:
    vocabulary = ["<pad>", "<unk>", "</s>", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _added(tokenizer, ["<pad>", "<unk>", "</s>", "[MASK]"])


JSON: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (lambda: byte_level(None), {"eos_token": "<|end|>", "bos_token": "<|end|>"}),
    "llama 3": (lambda: byte_level(LLAMA_3_SPLIT, ignore_merges=True), {"bos_token": "<s>", "eos_token": "</s>"}),
    "qwen": (lambda: byte_level(LLAMA_3_SPLIT, normalizers.NFC()), {"eos_token": {"content": "</s>"}}),
    "llama 2": (llama_2, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "t5": (t5, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
    "words": (words, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
}


def bert_files(folder: Path) -> dict[str, Any]:
    letters = sorted({letter for text in TEXTS for letter in text.lower() if not letter.isspace()})
    pieces = [
        "river",
        "the",
        "##s",
        "rise",
        "##n",
        "ae",
        *letters,
        *(f"##{letter}" for letter in letters if letter.isalpha()),
    ]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return {"tokenizer_class": "BertTokenizer", "do_lower_case": True}


def gpt2_files(folder: Path, special: list[str]) -> None:
    model = gpt2_model()
    vocabulary = {piece: number for number, piece in enumerate([*special, *model["vocab"]])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def roberta_files(folder: Path) -> dict[str, Any]:
    gpt2_files(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return {"tokenizer_class": "RobertaTokenizer"}


def plain_gpt2_files(folder: Path) -> dict[str, Any]:
    gpt2_files(folder, ["<|endoftext|>"])
    return {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


FILES: dict[str, Any] = {"bert": bert_files, "roberta": roberta_files, "gpt2 files": plain_gpt2_files}
KINDS = [*JSON, *FILES]
BYTE_LEVEL = ["gpt2", "llama 3", "qwen", "roberta", "gpt2 files"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def folder_of(kind: str) -> Path:
    folder = Path(mkdtemp(prefix="foreign-"))
    if kind in JSON:
        make, config = JSON[kind]
        make().save(str(folder / "tokenizer.json"))
    else:
        config = FILES[kind](folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@cache
def made(kind: str) -> ForeignTokeniser:
    return ForeignTokeniser.load(folder_of(kind))


@cache
def theirs(kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    if kind in JSON:
        return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder_of(kind) / "tokenizer.json"))
    (folder_of(kind) / "config.json").write_text(json.dumps({"model_type": kind.split()[0]}))
    return transformers.AutoTokenizer.from_pretrained(folder_of(kind))


@every_kind
@settings(max_examples=40, deadline=None)
@given(text=plain)
def test_transformers_gives_the_same_ids_and_the_same_frame(kind: str, text: str) -> None:
    tokeniser = made(kind)
    ids = tokeniser.encode(text).tolist()
    expected = theirs(kind)(text)["input_ids"]
    assert [*tokeniser.prefix_ids, *ids, *tokeniser.suffix_ids] == expected
    # Transformers may tidy spaces up; ids given back one way are the same text whoever decodes them.
    if kind in BYTE_LEVEL:
        assert tokeniser.decode(ids) == theirs(kind).decode(expected, skip_special_tokens=True)


@every_kind
@settings(max_examples=40, deadline=None)
@given(text=typed)
def test_nothing_typed_becomes_a_special_token(kind: str, text: str) -> None:
    tokeniser = made(kind)
    special = set(tokeniser.special_ids.values()) - {tokeniser.unknown_id}
    assert special
    names = "".join(tokeniser.special_ids)
    for given_text in (text, text + names, names + text + names):
        ids = tokeniser.encode(given_text).tolist()
        assert special.isdisjoint(ids)
        if tokeniser.lossless:
            assert tokeniser.decode(ids) == given_text


def test_lossless_is_what_gives_any_text_back() -> None:
    lossless = {kind for kind in KINDS if made(kind).lossless}
    assert lossless == {"gpt2", "llama 3", "roberta", "gpt2 files"}  # Qwen composes letters with their accents first
    for kind in KINDS:
        for text in ("e\u0301 naïve\r\n\t 明月 🎉 \x00", "  a  "):
            assert (made(kind).decode(made(kind).encode(text)) == text) or kind not in lossless
    assert made("qwen").decode(made("qwen").encode("e\u0301")) == "é"


@pytest.mark.parametrize("kind", [*BYTE_LEVEL, "llama 2"])
def test_tokens_as_bytes_are_the_text(kind: str) -> None:
    tokeniser = made(kind)
    pieces = tokeniser.token_bytes()
    assert pieces is not None and len(pieces) == tokeniser.vocabulary_size == len(tokeniser.token_texts())
    for text in ("the river, 明月 🎉!", "The mill"):
        found = b"".join(pieces[number] for number in tokeniser.encode(text))
        assert found.decode().removeprefix(" ") == text
    assert {pieces[number] for number in tokeniser.special_ids.values()} == {b""}


def test_tokens_that_are_no_bytes_say_so() -> None:
    assert [made(kind).token_bytes() for kind in ("t5", "words", "bert")] == [None] * 3
    assert made("bert").token_texts()[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.mark.parametrize("kind", ["gpt2", "llama 2", "t5", "words"])
def test_text_behind_other_text_keeps_its_space(kind: str) -> None:
    """What is generated is decoded alone, and stands behind the prompt as if decoded with it."""
    tokeniser = made(kind)
    ids = tokeniser.encode("The river rises in the hills,").tolist()
    assert len(ids) > 4
    whole = tokeniser.decode(ids)
    for first in range(1, len(ids)):
        assert tokeniser.decode(ids[:first]) + tokeniser.decode_after(ids[first:]) == whole
    if kind != "gpt2":
        assert any(tokeniser.decode_after(ids[n:]) != tokeniser.decode(ids[n:]) for n in range(1, len(ids)))


@every_kind
def test_a_document_in_pieces_is_the_whole_document(kind: str) -> None:
    text = ("".join(TEXTS) + "The river's 春江 bends — a mill   and\n\n" + "<s>") * 400
    tokeniser = made(kind)
    pieces = [text[start : start + 9_001] for start in range(0, len(text), 9_001)]
    found = [ids for part in [tokeniser.encode_pieces(pieces)] for ids in part]
    assert [number for ids in found for number in ids.tolist()] == tokeniser.encode(text).tolist()
    assert len(found) > 1 or kind not in BYTE_LEVEL


def test_ids_come_from_the_models_files_before_the_tokenisers() -> None:
    folder = folder_of("gpt2")
    named = ForeignTokeniser.load(folder)
    end = named.special_ids["<|end|>"]
    assert (named.begin_id, named.end_id, named.end_ids, named.padding_id, named.unknown_id) == (
        end,
        end,
        (end,),
        -1,
        -1,
    )
    ids = {"bos_token_id": 5, "eos_token_id": [7, 9], "pad_token_id": 0, "decoder_start_token_id": None}
    told = ForeignTokeniser.load(folder, ids)
    assert (told.begin_id, told.end_id, told.end_ids, told.padding_id) == (5, 7, (7, 9), 0)
    started = ForeignTokeniser.load(folder, ids | {"decoder_start_token_id": 0, "forced_bos_token_id": 5})
    assert (started.begin_id, started.forced_ids) == (0, (5,))
    assert (made("bert").begin_id, made("bert").end_id) == (2, 3)
    assert (made("t5").begin_id, made("t5").end_id, made("t5").unknown_id) == (1, 1, 2)


def test_a_configuration_may_ask_for_a_begin_token_or_refuse_it() -> None:
    tokenizer = byte_level(None)
    number = tokenizer.token_to_id("<s>")
    assert ForeignTokeniser(tokenizer, {"bos_token": "<s>"}, {}).prefix_ids == ()
    assert ForeignTokeniser(tokenizer, {"bos_token": "<s>", "add_bos_token": True}, {}).prefix_ids == (number,)
    assert ForeignTokeniser(llama_2(), {"bos_token": "<s>"}, {}).prefix_ids == (1,)
    assert ForeignTokeniser(llama_2(), {"bos_token": "<s>", "add_bos_token": False}, {}).prefix_ids == ()


def test_a_file_that_cuts_or_fills_up_does_neither_here(tmp_path: Path) -> None:
    tokenizer = byte_level(None)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "the river rises in the hills and runs to the sea"
    assert ForeignTokeniser.load(tmp_path).encode(text).tolist() == made("gpt2").encode(text).tolist()


@every_kind
def test_saved_and_loaded_it_is_the_same(kind: str, tmp_path: Path) -> None:
    ids = {"bos_token_id": 3, "eos_token_id": [2, 4], "pad_token_id": 1}
    tokeniser = ForeignTokeniser.load(folder_of(kind), ids).with_special_tokens(["<|a mark|>"])
    tokeniser.save(tmp_path)
    again = load_tokeniser(tmp_path)
    assert isinstance(again, ForeignTokeniser)
    assert again.kind == FOREIGN
    assert again.fingerprint == tokeniser.fingerprint != made(kind).fingerprint
    for name in (
        "begin_id",
        "end_ids",
        "padding_id",
        "unknown_id",
        "prefix_ids",
        "suffix_ids",
        "special_ids",
        "lossless",
    ):
        assert getattr(again, name) == getattr(tokeniser, name)
    assert again.special_ids["<|a mark|>"] == made(kind).vocabulary_size
    assert again.config_ids().items() >= ids.items()
    for text in TEXTS:
        assert again.encode(text).tolist() == made(kind).encode(text).tolist()
    with pytest.raises(UsageError, match="space inside"):
        again.with_special_tokens(["<mark>"])


def test_our_own_are_told_from_others(tmp_path: Path) -> None:
    train_tokeniser("chars", TEXTS).save(tmp_path)
    ours = load_tokeniser(tmp_path)
    assert isinstance(ours, Tokeniser) and not isinstance(ours, ForeignTokeniser)
    assert isinstance(load_tokeniser(folder_of("bert")), ForeignTokeniser)


def test_half_characters_are_refused() -> None:
    with pytest.raises(LLMBertError, match=r"U\+D83D"):
        made("gpt2").encode("a\ud83d")


def test_what_cannot_be_read_says_how_to_convert_it(tmp_path: Path) -> None:
    with pytest.raises(LLMBertError, match="no tokeniser"):
        ForeignTokeniser.load(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"\0")
    with pytest.raises(LLMBertError, match=r"spiece\.model.*AutoTokenizer.*save_pretrained") as refused:
        ForeignTokeniser.load(tmp_path)
    assert "\n" not in str(refused.value)
    gpt2_files(tmp_path, ["<|endoftext|>"])
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')  # the same two files, split differently
    with pytest.raises(LLMBertError, match="AutoTokenizer"):
        ForeignTokeniser.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    ForeignTokeniser.load(tmp_path)
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(LLMBertError, match=r"merges\.txt"):
        ForeignTokeniser.load(tmp_path)
    for damage in ("{", "[]", "{}", '{"model": 1}'):
        (tmp_path / "tokenizer.json").write_text(damage)
        with pytest.raises(LLMBertError, match=r"tokenizer\.json"):
            ForeignTokeniser.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(LLMBertError, match=r"tokenizer_config\.json"):
        load_tokeniser(tmp_path)
