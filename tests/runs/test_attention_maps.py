"""Where a model looks: over the very tokens that it was trained to read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmbert.models import find_family
from llmbert.runs import Run
from llmbert.runs.attention import attention_of
from llmbert.text.tokenisers import train_tokeniser


@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_what_reads_both_ways_is_shown_with_the_end_of_the_text(family: str) -> None:
    torch.manual_seed(0)
    tokeniser, known = train_tokeniser("words", ["the cat sat"]), find_family(family)
    shape = {"layers": 1, "width": 16, "heads": 2, "context": 16} | ({"mask_id": 4} if family == "bert" else {})
    model = known.build(known.settings_class()(**shape), tokeniser.vocabulary_size).eval()
    run = Run(Path("run"), model, tokeniser, {"family": family})
    (part,) = attention_of(run, "the cat")["parts"]
    ids = run.document_ids("the cat").tolist()
    read = ids if family == "bert" else ids[:-1]
    assert part["keys"] == part["queries"] == [tokeniser.token_texts()[token] for token in read]
    assert all(len(row) == len(read) for layer in part["layers"] for head in layer["weights"] for row in head)
