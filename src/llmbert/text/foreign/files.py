"""A folder of tokeniser files, of whatever making → a `tokenizers.Tokenizer`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from llmbert.protocols import LLMBertError

SENTENCE_PIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm")
_AS_GPT2 = ("gpt2", "roberta", "bart", "longformer", "led", "blenderbot", "opt", "gpt_neo")
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")


def read_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`, with the names in `special_tokens_map.json` where it lacks them; {} without either."""
    return {**_object(folder / "special_tokens_map.json"), **_object(folder / "tokenizer_config.json")}


def find_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder. Raises LLMBertError, with the way to convert, where none can be read here."""
    path = folder / "tokenizer.json"
    if path.exists():
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise LLMBertError(f"{path} is damaged ({error}); copy it again") from error
    if (folder / "vocab.txt").exists():
        return _wordpiece(folder)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists() and _is_as_gpt2(folder):
        return _byte_level(folder)
    found = next((name for name in (*SENTENCE_PIECE, "vocab.json") if (folder / name).exists()), None)
    if found is None:
        raise LLMBertError(f"{folder} has no tokeniser: neither tokenizer.json nor vocab.txt; copy it whole")
    raise LLMBertError(
        f"{folder} has its tokeniser only as {found}, which cannot be read here; convert it once with Transformers: "
        f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )


def _is_as_gpt2(folder: Path) -> bool:
    """Whether vocab.json and merges.txt are used with GPT-2's way of splitting; others split differently."""
    kind = _object(folder / "config.json").get("model_type")
    name = str(read_config(folder).get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer").lower()
    return (kind or name or "gpt2") in _AS_GPT2


def _wordpiece(folder: Path) -> Tokenizer:
    """BERT's vocab.txt: one piece a line (Devlin et al. 2019)."""
    config = read_config(folder)
    lines = _text(folder / "vocab.txt").split("\n")
    vocabulary = {line.rstrip("\r"): number for number, line in enumerate(lines if lines[-1] else lines[:-1])}
    names = {role: _name(config, role, default) for role, default in _BERT_SPECIAL.items()}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=names["unk"], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if names["cls"] in vocabulary and names["sep"] in vocabulary:
        first, last = ((names[role], vocabulary[names[role]]) for role in ("cls", "sep"))
        tokenizer.post_processor = processors.BertProcessing(last, first)
    return _with_special(tokenizer, [name for name in names.values() if name in vocabulary])


_BERT_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def _byte_level(folder: Path) -> Tokenizer:
    """GPT-2's vocab.json and merges.txt (Radford et al. 2019), which RoBERTa and BART use too."""
    config = read_config(folder)
    vocabulary = _object(folder / "vocab.json")
    lines = [line.split(" ") for line in _text(folder / "merges.txt").split("\n") if line and line[:9] != "#version:"]
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(a, b) for a, b in lines]))
    except Exception as error:  # the library raises nothing narrower; a line of three words is a ValueError
        raise LLMBertError(f"{folder}: vocab.json and merges.txt do not fit together ({error})") from error
    prefixed = bool(config.get("add_prefix_space", False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
    tokenizer.decoder = decoders.ByteLevel()
    if "<s>" in vocabulary and "</s>" in vocabulary:
        ends = ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"])
        tokenizer.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=prefixed)
    named = {_name(config, role, "") for role in ("bos", "eos", "pad", "unk", "mask", "cls", "sep")}
    return _with_special(tokenizer, [name for name in (*_SPECIAL, *sorted(named)) if name in vocabulary])


def _with_special(tokenizer: Tokenizer, names: list[str]) -> Tokenizer:
    unique = dict.fromkeys(names)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in unique])
    return tokenizer


def _name(config: Mapping[str, Any], role: str, default: str) -> str:
    token = config.get(f"{role}_token") or default
    return str(token.get("content", default)) if isinstance(token, Mapping) else str(token)


def _object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is none. Raises LLMBertError where it is damaged."""
    if not path.exists():
        return {}
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise LLMBertError(f"{path} is damaged (it holds no JSON object); copy it again")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); copy it again") from error
