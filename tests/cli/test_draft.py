"""A draft from the command line: the same greedy text, and what cannot draft is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import llmbert, tiny


@pytest.mark.parametrize("family", ["gpt", "lstm", "ngram"])
@pytest.mark.parametrize("draft", ["ngram", "lookup"])
def test_a_drafted_text_is_the_same(family: str, draft: str, runs: Path) -> None:
    asked = ["generate", runs / family, "--prompt", "the river rises in the hills and", "--temperature", "0"]
    plain = llmbert(*asked, "--max-tokens", "60", "--json").json()
    by = "lookup" if draft == "lookup" else runs / draft
    assert llmbert(*asked, "--max-tokens", "60", "--draft", by, "--json").json()["tokens"] == plain["tokens"]
    drawn = llmbert("generate", runs / family, "--draft", by, "--seed", "3", "--max-tokens", "30", "--json").json()
    assert (
        drawn == llmbert("generate", runs / family, "--draft", by, "--seed", "3", "--max-tokens", "30", "--json").json()
    )


def test_what_cannot_draft_is_said(runs: Path, text: Path, tmp_path: Path) -> None:
    def refusal(*options: str | Path) -> str:
        result = llmbert("generate", runs / "gpt", *options)
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        return result.err

    assert "an n-gram is what drafts" in refusal("--draft", runs / "lstm")
    assert "leave it out" in refusal("--draft", "lookup", "--beams", "3")
    trained = llmbert("train", "--data", text, "--tokenizer", "chars", "--out", tmp_path / "chars", *tiny("ngram"))
    assert trained.code == 0, trained.err
    assert "has another tokeniser" in refusal("--draft", tmp_path / "chars")
    missing = llmbert("generate", runs / "gpt", "--draft", tmp_path / "nowhere")
    assert missing.code == 1 and "nowhere" in missing.err
