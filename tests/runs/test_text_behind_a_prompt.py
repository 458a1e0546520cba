"""What is written stands behind its prompt as if the two were one text, also where words hold no spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llmbert.data.infilling import INFILLING_TOKENS
from llmbert.models import FAMILIES
from llmbert.runs import Run
from llmbert.text.tokenisers import train_tokeniser
from llmbert.text.vocabulary import MASK_TOKEN

TEXT = "the river rises in the hills and runs to the sea; 春江潮水连海平 , the miller walks .\n"
SHAPE = {"layers": 1, "width": 16, "heads": 2, "context": 48}
spaced = pytest.mark.parametrize("kind", ["words", "wordpiece"])


def run_of(family: str, kind: str) -> Run:
    torch.manual_seed(0)
    names = [MASK_TOKEN] if family == "bert" else INFILLING_TOKENS
    tokeniser = train_tokeniser(kind, [TEXT] * 3, 60 if kind == "wordpiece" else None).with_special_tokens(names)
    found = FAMILIES[family]
    model = found.build(found.settings_class()(**SHAPE), tokeniser.vocabulary_size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.4)
    if family == "bert":
        model.settings = model.settings.model_copy(update={"mask_id": tokeniser.special_ids[MASK_TOKEN]})
    return Run(Path("run"), model.eval(), tokeniser, {"family": family})


def whole(run: Run, prompt: str, deltas: Any) -> str:
    ids = [token.id for delta in deltas for token in delta.tokens]
    return run.tokeniser.decode([*run.tokeniser.encode(prompt).tolist(), *ids])


@spaced
def test_a_gpt_goes_on_with_its_prompt(kind: str) -> None:
    run = run_of("gpt", kind)
    for prompt in ("the river", "the miller walks .", "潮水连海平" if kind == "wordpiece" else "春江潮水连海平", ""):
        for settings in ({"seed": 1}, {"seed": 2}, {"beams": 2}):
            deltas = list(run.write(prompt, max_tokens=8, **settings))
            text = "".join(delta.text for delta in deltas)
            assert run.tokeniser.decode(run.tokeniser.encode(prompt)) + text == whole(run, prompt, deltas)
            assert run.generate_many([prompt, "the", ""], max_tokens=8, **settings)[0] == text


@spaced
def test_what_fills_a_gap_stands_behind_what_is_before_it(kind: str) -> None:
    gpt, bert = run_of("gpt", kind), run_of("bert", kind)
    for run in (gpt, bert):
        for before in ("the river", ""):
            delta = run.write_between(before, "the sea", max_tokens=4, seed=3)
            assert before + delta.text == whole(run, before, [delta])
    if kind == "words":
        parts = ["the river", "and the", ""]
        answers = [answer for seed in range(9) for answer in gpt.fill_blanks(parts, max_tokens=3, seed=seed) if answer]
        assert answers and all(answer[0] in " \n" for answer in answers)
