"""Folders as Transformers writes them: small models of random weights, with tokenisers that are not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from llmbert.runs import write_json

transformers = pytest.importorskip("transformers")

TEXT = "the river rises in the hills and runs to the sea. 春江潮水连海平,海上明月共潮生。 " * 3
VOCABULARY = 330
SHAPE: dict[str, Any] = {"vocab_size": VOCABULARY}
DECODER: dict[str, Any] = SHAPE | {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
BART: dict[str, Any] = SHAPE | {
    "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0,
    "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None, "dropout": 0.0,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            **SHAPE, n_embd=24, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=2, pad_token_id=None
        )
    ),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**DECODER, bos_token_id=0, eos_token_id=[2, 3], pad_token_id=None)
    ),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            **DECODER, bos_token_id=None, eos_token_id=[2], pad_token_id=2, tie_word_embeddings=True
        )
    ),
    "bart": lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**BART)),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            **SHAPE, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=4, pad_token_id=1, eos_token_id=2,
            decoder_start_token_id=1, dropout_rate=0.0,
        )
    ),
}  # fmt: skip
FRAMES = {"llama": "<s> $A", "bart": "<s> $A </s>", "t5": "$A </s>"}


def tokenizer_for(kind: str) -> Tokenizer:
    """Byte-level, <s> 0, <pad> 1, </s> 2, <|eot|> 3; fewer tokens than the model has rows."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<|eot|>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=310, special_tokens=special, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    if kind in FRAMES:
        tokenizer.post_processor = processors.TemplateProcessing(
            FRAMES[kind], FRAMES[kind].replace("$A", "$A $B"), [("<s>", 0), ("</s>", 2)]
        )
    return tokenizer


def write(kind: str, folder: Path, **options: Any) -> Any:
    """A folder that Transformers wrote, with weights that make texts of some length; returns their model."""
    torch.manual_seed(7)
    theirs = MODELS[kind]().eval()
    for name, weight in theirs.named_parameters():
        if "norm" not in name and ".ln_" not in name:
            torch.nn.init.normal_(weight, std=0.4)
    head, known = theirs.get_output_embeddings().weight, tokenizer_for(kind).get_vocab()
    with torch.no_grad():
        # Whole characters only: our decoders would not write half ones, theirs would.
        bad = [number for number in range(VOCABULARY) if number > 3 and not _is_text(known, number)]
        head[bad] = 0.0
        if theirs.config.tie_word_embeddings:
            theirs.get_input_embeddings().weight[bad] = 0.0
    theirs.save_pretrained(folder, **options)
    tokenizer_for(kind).save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", names)
    return theirs


def _is_text(known: dict[str, int], number: int) -> bool:
    piece = next((piece for piece, each in known.items() if each == number), "")
    return bool(piece) and piece.replace("Ġ", "").isascii()


def write_bert(folder: Path) -> None:
    """A small BERT with a vocab.txt of letters."""
    torch.manual_seed(3)
    letters = sorted({letter for letter in TEXT.lower() if not letter.isspace()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{each}" for each in letters), "river"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=48, pad_token_id=0,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config)
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(folder)
