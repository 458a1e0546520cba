"""A GPT's weights in two bytes or one, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import llmbert

ASKED = ("--prompt", "the river rises in the hills and", "--temperature", "0", "--max-tokens", "60", "--json")


def test_with_whole_weights_the_text_is_the_same(runs: Path) -> None:
    plain = llmbert("generate", runs / "gpt", *ASKED).json()
    assert llmbert("generate", runs / "gpt", *ASKED, "--weights", "float32").json()["tokens"] == plain["tokens"]


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_in_few_bytes_perplexity_is_within_a_hundredth(kind: str, runs: Path, text: Path) -> None:
    plain = llmbert("evaluate", runs / "gpt", "--data", text, "--json").json()
    packed = llmbert("evaluate", runs / "gpt", "--data", text, "--weights", kind, "--json").json()
    assert packed["perplexity"] == pytest.approx(plain["perplexity"], rel=0.01)
    assert packed["perplexity"] != plain["perplexity"]
    assert kind in packed["signature"] and kind not in plain["signature"]
    assert len(llmbert("generate", runs / "gpt", *ASKED, "--weights", kind).json()["tokens"]) > 0


def test_what_has_no_such_weights_is_said(runs: Path) -> None:
    for run, kind, said in (("lstm", "int8", "is a lstm"), ("gpt", "int4", "float32, bfloat16, int8")):
        result = llmbert("generate", runs / run, "--weights", kind)
        assert result.code == 2 and said in result.err and result.err.count("\n") == 1, result.err


def test_what_a_run_warns_of_is_a_note(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmbert.nn.native.why_not_native", lambda: "no g++")
    result = llmbert("generate", runs / "gpt", "--weights=int8", "--max-tokens=3", "--prompt=the")
    assert result.code == 0 and result.out.startswith("the")
    assert result.err.startswith("llmbert: note: without native steps") and result.err.count("\n") == 1
