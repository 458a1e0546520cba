"""Where nothing can be compiled all runs in torch, and whoever asks for compact weights is told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import llmbert
from llmbert.models.compact import CompactGPT
from llmbert.models.gpt import GPT, GPTSettings
from llmbert.nn.native import build

SMALL: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "context": 16, "steps": 2, "batch": 4}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "_found", build._found.__wrapped__)
    monkeypatch.setattr("llmbert.models.compact.native_library", lambda: None)


def test_without_a_compiler_all_runs_in_torch(bare: None) -> None:
    assert build._found() == (None, "there is no C++ compiler")
    torch.manual_seed(0)
    plain = GPT(GPTSettings(layers=2, width=32, heads=2, context=48, style="gpt2"), 53).eval()
    compact = CompactGPT(copy.deepcopy(plain), "float32")
    assert compact.native is None
    ids = torch.randint(53, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = (model.step(ids, model.start(2))[0] for model in (plain, compact))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_who_asks_for_compact_weights_without_a_compiler_is_told(bare: None, prose: Path, tmp_path: Path) -> None:
    llmbert.train("gpt", prose, tmp_path / "run", settings=SMALL | {"preflight": False}, tokenizer="bytes")
    with pytest.warns(UserWarning, match="there is no C\\+\\+ compiler"):
        compact = llmbert.load(tmp_path / "run", weights="float32")
    whole = llmbert.load(tmp_path / "run")
    asked = {"max_tokens": 8, "temperature": 0.0}
    assert compact.generate("the", **asked) == whole.generate("the", **asked) != ""
