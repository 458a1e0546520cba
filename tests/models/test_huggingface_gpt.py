"""GPTs as GPT-2, Llama and Qwen3: both ways Transformers gives the same logits and the same text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbert.models.gpt import GPT, GPTSettings
from llmbert.models.huggingface import LAYOUTS, export_model, import_model
from llmbert.nn.positions import stretched_frequencies
from llmbert.protocols import LLMBertError
from llmbert.runs import FORMAT, load, save_model, write_json
from llmbert.text.tokenisers import train_tokeniser

LIMIT = 1e-4
VOCABULARY = 37
BASE: dict[str, Any] = {"layers": 2, "width": 24, "heads": 4, "context": 40}
LLAMA_3 = {"factor": 8.0, "low_turns": 1.0, "high_turns": 4.0, "original_context": 16}
GPT2_GRID: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "head of its own": {"tied": False},
    "inner 40, one head": {"inner": 40, "heads": 1},
    "gelu": {"activation": "gelu"},
    "relu, epsilon 1e-6": {"activation": "relu", "norm_epsilon": 1e-6},
    "silu, epsilon 1e-3, one layer": {"activation": "silu", "norm_epsilon": 1e-3, "layers": 1},
}
MODERN_GRID: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "grouped queries, head of its own": {"key_value_heads": 2, "tied": False},
    "one key for all, head width 10": {"key_value_heads": 1, "head_width": 10},
    "epsilon 1e-5, rope base 500000": {"norm_epsilon": 1e-5, "rope_base": 500_000.0},
    "gelu_tanh, inner 20": {"activation": "gelu_tanh", "inner": 20},
    "positions stretched as in Llama 3": {"rope_scaling": LLAMA_3, "rope_base": 100.0},
    "positions stretched evenly": {"rope_scaling": {"factor": 2.5}},
}
KINDS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "gpt2": ({"style": "gpt2"}, GPT2_GRID),
    "qwen3": ({}, MODERN_GRID | {"biases": {"qkv_bias": True, "out_bias": True}}),
    "llama": (
        {"qk_norm": False},
        MODERN_GRID
        | {
            "attention biases": {"qkv_bias": True, "out_bias": True},
            "all biases, relu": {"qkv_bias": True, "out_bias": True, "feedforward_bias": True, "activation": "relu"},
        },
    ),
}
CASES = {
    f"{kind}: {words}": (kind, BASE | common | shape)
    for kind, (common, grid) in KINDS.items()
    for words, shape in grid.items()
}


def random_model(shape: dict[str, Any]) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTSettings(**shape), VOCABULARY).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=1.0 if "norm.weight" in name else 0.0, std=0.3)
    return model


def written(model: GPT, folder: Path) -> Path:
    config, tensors = export_model(model)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def opened(folder: Path) -> Any:
    """The folder in Transformers, nothing missing and nothing left over."""
    import transformers

    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return model.eval()


def read_back(folder: Path) -> Any:
    config = json.loads((folder / "config.json").read_text())
    return import_model(config, load_file(folder / "model.safetensors"))


@torch.inference_mode()
def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of logits over odd lengths, and over rows padded on the right for Transformers."""
    worst = 0.0
    for length in (1, 7, 31):
        ids = torch.randint(0, VOCABULARY, (3, length), generator=torch.Generator().manual_seed(length))
        worst = max(worst, float((ours.logits(ids) - theirs(ids).logits).abs().max()))
    mask = torch.arange(31) < torch.tensor([31, 12, 1])[:, None]
    padded = theirs(ids, attention_mask=mask.long()).logits
    for row, size in enumerate((31, 12, 1)):
        worst = max(worst, float((ours.logits(ids[row : row + 1, :size]) - padded[row, :size]).abs().max()))
    return worst


@cache
def parity_rows() -> list[tuple[str, float, float]]:
    """For each architecture and setting: max |Δlogit| of theirs read here, and of ours read there."""
    rows = []
    for words, (kind, shape) in CASES.items():
        with TemporaryDirectory() as name:
            folder = Path(name)
            model = random_model(shape)
            theirs = opened(written(model, folder))
            assert theirs.config.model_type == kind
            out = difference(model, theirs)
            torch.manual_seed(1)
            for key, weight in theirs.named_parameters():
                torch.nn.init.normal_(weight, mean=1.0 if "norm.weight" in key or ".ln_" in key else 0.0, std=0.25)
            theirs.save_pretrained(folder / "theirs")
            rows.append((words, difference(read_back(folder / "theirs"), theirs), out))
    return rows


def test_both_ways_the_logits_are_the_same() -> None:
    pytest.importorskip("transformers")
    rows = parity_rows()
    assert len(rows) == len(CASES) >= 20
    assert {words: (read, out) for words, read, out in rows if max(read, out) > LIMIT} == {}


READ_ONLY: list[tuple[str, dict[str, Any], str]] = [
    ("Mistral", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": None}, "llama"),
    ("Mistral", {"num_key_value_heads": 4, "sliding_window": 64, "tie_word_embeddings": True}, "llama"),
    ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}, "llmbert-gpt"),
    ("Qwen2", {"num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 1e6}, "llmbert-gpt"),
]


@pytest.mark.parametrize(("name", "settings", "written_as"), READ_ONLY, ids=range(len(READ_ONLY)))
def test_kin_of_llama_are_read(name: str, settings: dict[str, Any], written_as: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for key, weight in theirs.named_parameters():
        torch.nn.init.normal_(weight, mean=1.0 if "norm.weight" in key else 0.0, std=0.3)
    theirs.save_pretrained(tmp_path)
    model = read_back(tmp_path)
    assert difference(model, theirs) < LIMIT
    assert export_model(model)[0]["model_type"] == written_as
    config = json.loads((tmp_path / "config.json").read_text()) | {"sliding_window": 32, "use_sliding_window": True}
    with pytest.raises(LLMBertError, match="sliding_window"):
        import_model(config, load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"style": "gpt2"}, "gpt2"),
        ({}, "qwen3"),
        ({"qk_norm": False}, "llama"),
        ({"qk_norm": False, "qkv_bias": True}, "llmbert-gpt"),
        ({"feedforward_bias": True}, "llmbert-gpt"),
        ({"qk_norm": False, "out_bias": True}, "llmbert-gpt"),
        ({"norm": "layer"}, "llmbert-gpt"),
        ({"style": "gpt2", "qkv_bias": False}, "llmbert-gpt"),
        ({"style": "gpt2", "norm": "rms", "qk_norm": True}, "llmbert-gpt"),
        ({"qk_norm": False, "width": 22, "head_width": 6}, "llmbert-gpt"),
        ({"style": "gpt2", "norm": "batch", "activation": "relu"}, "llmbert-gpt"),
    ],
)
def test_every_gpt_is_written_as_what_it_is_and_read_again(change: dict[str, Any], kind: str) -> None:
    """Where no architecture elsewhere has these parts, under our own names."""
    model = random_model(BASE | change)
    config, tensors = export_model(model)
    assert config["model_type"] == kind
    again = import_model(json.loads(json.dumps(config)), tensors)
    assert again.settings == model.settings
    ids = torch.randint(0, VOCABULARY, (2, 21))
    with torch.inference_mode():
        assert torch.equal(again.logits(ids), model.logits(ids))


OLD_SETTINGS: dict[str, Any] = {
    "style": "modern", "layers": 1, "width": 16, "heads": 4, "key_value_heads": 2, "head_width": 4, "inner": 48,
    "context": 32, "norm": "layer", "tied": True, "dropout": 0.0, "rope_base": 10000.0,
}  # fmt: skip


def test_runs_from_before_these_settings_are_read_as_they_were() -> None:
    """Epsilons, QK-norm, biases and activations are those that were fixed then."""
    model = random_model(OLD_SETTINGS)
    config = {"model_type": "llmbert-gpt", "vocab_size": VOCABULARY, "settings": OLD_SETTINGS}
    again = import_model(config, export_model(model)[1])
    block = again.blocks[0]
    assert (block.attention_norm.eps, again.norm.eps, block.attention.query_norm.epsilon) == (1e-5, 1e-5, 1e-6)
    assert block.attention.qkv.bias is None and block.feedforward.gate_up.bias is None
    for style, norm in (("gpt2", 1e-5), ("modern", 1e-6)):
        assert GPTSettings(style=style).norm_epsilon == norm  # type: ignore[arg-type]
    qwen3 = export_model(random_model(OLD_SETTINGS | {"norm": "rms"}))[0]
    assert (qwen3["rms_norm_eps"], qwen3["hidden_act"], qwen3["attention_bias"]) == (1e-6, "silu", False)
    assert "rope_scaling" not in qwen3


def test_stretched_positions_keep_the_fast_and_slow_the_others_down() -> None:
    frequencies = torch.logspace(0, -6, 20)
    turns = 1000 * frequencies / (2 * torch.pi)
    found = stretched_frequencies(frequencies, 8.0, 1.0, 4.0, 1000)
    assert torch.equal(found[turns > 4], frequencies[turns > 4])
    torch.testing.assert_close(found[turns < 1], frequencies[turns < 1] / 8)
    between = (turns > 1) & (turns < 4)
    assert bool(between.any())
    assert bool(((found < frequencies) & (found > frequencies / 8))[between].all())
    torch.testing.assert_close(stretched_frequencies(frequencies, 8.0, None, None, None), frequencies / 8)
    with pytest.raises(ValueError, match="high_turns"):
        GPTSettings(rope_scaling={"factor": 2.0, "low_turns": 4.0, "high_turns": 4.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"style": "gpt2"}, {}, {"qk_norm": False}])
def test_transformers_writes_the_same_text(change: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    text = "the river rises in the hills and runs to the sea. 春江潮水连海平。"
    tokeniser = train_tokeniser("chars", [text])
    tokeniser.save(tmp_path)
    torch.manual_seed(4)
    model = GPT(GPTSettings(**BASE | change), tokeniser.vocabulary_size).eval()
    for name, weight in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(weight, std=0.4)
    save_model(tmp_path, model)
    write_json(tmp_path / "run.json", {"format": FORMAT, "family": "gpt", "status": "done"})
    run = load(tmp_path)
    theirs, spelling = opened(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    lengths = set()
    for prompt in ("the river", "a", "春江", ""):
        ids = torch.tensor([[2, *spelling(prompt)["input_ids"]]])
        made = theirs.generate(ids, do_sample=False, max_new_tokens=20, suppress_tokens=[0, 1, 2], pad_token_id=0)
        written_on = spelling.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        assert run.generate(prompt, temperature=0, max_tokens=20) == written_on
        lengths.add(len(written_on))
    assert max(lengths) > 3


def test_each_layout_has_its_grid() -> None:
    ours = {name for name, layout in LAYOUTS.items() if layout.family == "gpt"}
    assert ours == {*KINDS, "mistral", "qwen2"}
