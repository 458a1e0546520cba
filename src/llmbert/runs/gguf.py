"""A GPT of a run → one GGUF file, which llama.cpp and what is built on it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmbert.models.huggingface import export_model
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs.files import PARTIAL, disk_error
from llmbert.text.tokenisers import Tokeniser

if TYPE_CHECKING:
    from llmbert.runs.run import Run

KINDS = ("f32", "f16", "bf16", "q8_0")
ARCHITECTURES = {"gpt2": "GPT2", "llama": "LLAMA", "qwen3": "QWEN3"}
"""By Hugging Face's model_type, the name of GGUF's."""


def write_gguf(run: Run, path: Path, kind: str = "f32") -> None:
    """Write a GPT with its tokeniser as a GGUF file; it appears whole or not at all.

    kind: of the matrices, f32, f16, bf16 or q8_0, which has blocks of 32 int8 with a float16 scale; all else stays f32.
    Raises UsageError for what GGUF has no architecture or no tokeniser for, LLMBertError where the package is missing
    or the disk is full.
    """
    try:
        import gguf
    except ImportError as error:
        raise LLMBertError("GGUF needs the package gguf; install it with pip install 'llmbert[gguf]'") from error
    if kind not in KINDS:
        raise UsageError(f"GGUF's weights are {', '.join(KINDS)}, not {kind!r}")
    config, tensors = export_model(run.model)
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is None:
        raise UsageError(
            f"{run.folder} is a {run.family} that GGUF has no architecture for; it has those of "
            f"{', '.join(ARCHITECTURES)}"
        )
    tokens = _tokens(run)
    known = getattr(gguf.MODEL_ARCH, architecture)
    beside = path.with_name(path.name + PARTIAL)
    writer = gguf.GGUFWriter(str(beside), gguf.MODEL_ARCH_NAMES[known])
    _describe(writer, config, run.folder.name)
    _describe_tokens(writer, config, *tokens, run.tokeniser.reserved_ids)
    names = gguf.get_tensor_name_map(known, int(config.get("num_hidden_layers") or config["n_layer"]))
    for name, tensor in tensors.items():
        there = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if there is None:
            raise UsageError(f"GGUF's {architecture} has no place for {name}")
        array = np.ascontiguousarray(_as_there(name, tensor.detach().float().cpu().numpy(), config))
        wanted = getattr(gguf.GGMLQuantizationType, kind.upper() if array.ndim > 1 and _fits(kind, array) else "F32")
        writer.add_tensor(there, gguf.quants.quantize(array, wanted), raw_dtype=wanted)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        beside.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def _fits(kind: str, array: NDArray[np.float32]) -> bool:
    """Whether a matrix can be of a kind: blocks of 32 need rows of whole blocks."""
    return kind != "q8_0" or array.shape[-1] % 32 == 0


def _as_there(name: str, array: NDArray[np.float32], config: dict[str, Any]) -> NDArray[np.float32]:
    """A tensor of Hugging Face's as llama.cpp wants it.

    GPT-2's maps are turned round. Of Llama's queries and keys the two halves of each head, which are rotated together,
    lie side by side; those of Qwen stay.
    """
    if config["model_type"] == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return array.T
    if config["model_type"] == "llama" and name.split(".")[-2] in ("q_proj", "k_proj"):
        heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
        return halves.swapaxes(1, 2).reshape(array.shape)
    return array


def _describe(writer: Any, config: dict[str, Any], name: str) -> None:
    """The shape, under GGUF's names."""
    gpt2 = config["model_type"] == "gpt2"
    activation, known = config["activation_function" if gpt2 else "hidden_act"], "gelu_new" if gpt2 else "silu"
    if activation != known:  # GGUF says nothing of it: whoever reads it computes the usual one
        raise UsageError(
            f"this model's activation is {activation}, and of a {config['model_type']} GGUF means {known}; train with "
            f"--set activation={known}"
        )
    heads = config["n_head" if gpt2 else "num_attention_heads"]
    width = config["n_embd" if gpt2 else "hidden_size"]
    writer.add_name(name)
    writer.add_context_length(config["n_positions" if gpt2 else "max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["n_layer" if gpt2 else "num_hidden_layers"])
    writer.add_head_count(heads)
    if gpt2:
        writer.add_feed_forward_length(config.get("n_inner") or 4 * width)
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    head_width = config.get("head_dim") or width // heads
    writer.add_key_length(head_width)
    writer.add_value_length(head_width)
    writer.add_rope_dimension_count(head_width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise UsageError("this model's rotary positions are stretched, which is not written to GGUF here")
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta", 10_000.0)))
    writer.add_vocab_size(config["vocab_size"])


def _tokens(run: Run) -> tuple[list[str], list[str]]:
    """The tokens of a byte-pair tokeniser, by id, and its merges. Raises UsageError for another kind."""
    tokeniser = run.tokeniser
    if not isinstance(tokeniser, Tokeniser) or tokeniser.kind != "bpe":
        raise UsageError(
            f"GGUF takes byte-pair tokenisers of ours, and {run.folder} has one of kind {tokeniser.kind}; train with "
            "--tokenizer bpe"
        )
    known = json.loads((run.folder / "tokenizer.json").read_text("utf-8"))
    texts = {number: text for text, number in known["model"]["vocab"].items()}
    texts |= {token["id"]: token["content"] for token in known["added_tokens"]}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in known["model"]["merges"]]
    return [texts[number] for number in range(tokeniser.vocabulary_size)], merges


def _describe_tokens(
    writer: Any, config: dict[str, Any], tokens: list[str], merges: list[str], special: frozenset[int]
) -> None:
    import gguf

    # Matrices may have more rows than there are tokens.
    unused = [f"[unused {number}]" for number in range(len(tokens), config["vocab_size"])]
    normal, control, none = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.UNUSED
    kinds = [control if number in special else normal for number in range(len(tokens))] + [none] * len(unused)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, *unused])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    for add, key in (
        (writer.add_pad_token_id, "pad_token_id"),
        (writer.add_bos_token_id, "bos_token_id"),
        (writer.add_eos_token_id, "eos_token_id"),
    ):
        add(config[key])
    writer.add_add_bos_token(True)
