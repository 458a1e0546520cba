"""GGUF files, read back with the package of llama.cpp's own makers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import llmbert
from llmbert.models.huggingface import export_model
from llmbert.protocols import UsageError

gguf = pytest.importorskip("gguf")
TEXT = "The river rises in the hills.\nIt falls to the sea, and the sea takes it. 河水流向大海。\n" * 60
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"style": "gpt2"},
    "qwen3": {"style": "modern", "heads": 4, "key_value_heads": 2, "width": 32},
    "llama": {"style": "modern", "qk_norm": False, "heads": 4, "key_value_heads": 2, "tied": False},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "text.txt").write_text(TEXT, "utf-8")
    shape = {"layers": 2, "width": 32, "heads": 2, "context": 32, "steps": 2, "vocabulary_size": 300}
    return {
        name: llmbert.train("gpt", folder / "text.txt", folder / name, settings={**shape, **more, "preflight": False})
        for name, more in SHAPES.items()
    }


def read(path: Path) -> Any:
    return gguf.GGUFReader(str(path))


def values(reader: Any) -> dict[str, np.ndarray]:
    return {each.name: gguf.quants.dequantize(each.data, each.tensor_type) for each in reader.tensors}


def rotated_apart(array: np.ndarray, heads: int) -> np.ndarray:
    """Llama's rows in GGUF, put back as Hugging Face has them."""
    rows = array.reshape(heads, array.shape[0] // heads // 2, 2, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", SHAPES)
def test_every_tensor_is_there_and_is_what_it_was(name: str, kind: str, made: dict[str, Any], tmp_path: Path) -> None:
    run = made[name]
    run.write_gguf(tmp_path / "model.gguf", kind)
    reader = read(tmp_path / "model.gguf")
    config, tensors = export_model(run.model)
    assert config["model_type"] == name
    assert reader.fields["general.architecture"].contents() == name
    found = values(reader)
    assert len(found) == len(tensors)
    known = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, name.upper()), 2)
    for theirs, tensor in tensors.items():
        array = found[known.get_name(theirs, try_suffixes=(".weight", ".bias"))]
        if name == "gpt2" and array.ndim == 2 and ".h." in theirs:
            array = array.T
        if name == "llama" and ("q_proj" in theirs or "k_proj" in theirs):
            array = rotated_apart(array, 4 if "q_proj" in theirs else 2)
        expected = tensor.detach().numpy()
        step = {"f32": 0.0, "f16": 2**-10, "bf16": 2**-7, "q8_0": 1 / 127}[kind] if expected.ndim > 1 else 0.0
        assert array.shape == expected.shape
        assert np.abs(array - expected).max() <= step * np.abs(expected).max() * 0.57 + 1e-7, theirs


def test_the_tokeniser_is_the_runs(made: dict[str, Any], tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    run = made["gpt2"]
    run.write_gguf(tmp_path / "model.gguf")
    fields = read(tmp_path / "model.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert (fields["tokenizer.ggml.model"].contents(), fields["tokenizer.ggml.pre"].contents()) == ("gpt2", "gpt-2")
    assert len(tokens) == run.tokeniser.vocabulary_size == len(kinds)
    assert [i for i, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL] == [0, 1, 2, 3]
    assert fields["tokenizer.ggml.bos_token_id"].contents() == run.tokeniser.begin_id
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    rebuilt = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
    rebuilt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # what "gpt-2" names
    rebuilt.decoder = decoders.ByteLevel()
    for text in (TEXT[:300], "It's 12 o'clock,\n\n  says 河水!"):
        assert rebuilt.encode(text).ids == run.tokeniser.encode(text).tolist()


def test_the_shape_is_said(made: dict[str, Any], tmp_path: Path) -> None:
    made["qwen3"].write_gguf(tmp_path / "model.gguf")
    fields = read(tmp_path / "model.gguf").fields
    wanted = {
        "block_count": 2,
        "context_length": 32,
        "embedding_length": 32,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 8,
        "rope.freq_base": 10_000.0,
    }
    assert {key: fields[f"qwen3.{key}"].contents() for key in wanted} == wanted


@pytest.mark.parametrize("shape", [{"activation": "gelu"}, {"style": "gpt2", "activation": "relu"}])
def test_an_activation_that_gguf_says_nothing_of_is_refused(shape: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, "utf-8")
    small = {"layers": 1, "width": 16, "heads": 2, "steps": 1, "preflight": False, "context": 16}
    run = llmbert.train(
        "gpt", tmp_path / "text.txt", tmp_path / "run", settings=small | shape | {"vocabulary_size": 300}
    )
    with pytest.raises(UsageError, match="activation is"):
        run.write_gguf(tmp_path / "model.gguf")
    assert not list(tmp_path.glob("model.gguf*"))


def test_what_cannot_be_written_is_said_and_leaves_nothing(made: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    (tmp_path / "text.txt").write_text(TEXT, "utf-8")
    small = {"layers": 1, "width": 16, "steps": 1, "preflight": False, "context": 16}
    chars = llmbert.train(
        "gpt", tmp_path / "text.txt", tmp_path / "chars", tokenizer="chars", settings={**small, "heads": 2}
    )
    with pytest.raises(UsageError, match="one of kind chars"):
        chars.write_gguf(path)
    lstm = llmbert.train("lstm", tmp_path / "text.txt", tmp_path / "lstm", settings={**small, "vocabulary_size": 300})
    with pytest.raises(UsageError, match="is a lstm that GGUF has no architecture for"):
        lstm.write_gguf(path)
    with pytest.raises(UsageError, match="f32, f16, bf16, q8_0, not 'q3'"):
        made["gpt2"].write_gguf(path, "q3")
    stretched = llmbert.load(shutil.copytree(made["llama"].folder, tmp_path / "stretched"))
    scaling = type(stretched.model.settings)(rope_scaling={"factor": 2.0}).rope_scaling
    stretched.model.settings = stretched.model.settings.model_copy(update={"rope_scaling": scaling})
    with pytest.raises(UsageError, match="stretched"):
        stretched.write_gguf(path)
    assert [each for each in tmp_path.iterdir() if "gguf" in each.name] == []
    assert torch.is_tensor(made["gpt2"].model.head.weight)
