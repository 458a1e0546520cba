"""A compact Transformer: what it predicts, natively and in torch, beside the Transformer it was made of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from native_steps import same_as_in_torch, same_with_whole_weights

from llmbert.decoding import GenerationSettings, Request, beam_search, split_condition
from llmbert.models.compact import CompactTransformer
from llmbert.models.transformer import Transformer, TransformerSettings
from llmbert.nn.native import build, native_library

SHAPES: dict[str, dict[str, Any]] = {
    "pegasus": {},
    "marian": {"norm_first": False},
    "mbart": {"positions": "learned", "embedding_norm": True, "activation": "gelu"},
    "bart": {"positions": "learned", "embedding_norm": True, "norm_first": False, "scale_embedding": False},
    "nothing tied, odd widths": {"tied": "none", "width": 26, "inner": 37, "activation": "silu", "decoder_layers": 1},
    "target tied": {"tied": "target", "heads": 4},
}
VOCABULARY, SOURCE = 53, 9


def model_of(shape: dict[str, Any]) -> Transformer:
    torch.manual_seed(0)
    settings = {"layers": 2, "width": 32, "heads": 2, "context": 48, "inner": 64, **shape}
    model = Transformer(TransformerSettings(**settings), VOCABULARY).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3).add_(1.0 if weight.dim() == 1 else 0.0)
    return model


def ids_of(rows: int, time: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (rows, time), generator=torch.Generator().manual_seed(seed))


def source_of(model: Any, rows: int, padded: bool = True) -> Any:
    """Encoded sources, some shorter than others, one with padding in front."""
    mask = torch.ones(rows, SOURCE, dtype=torch.bool)
    if padded and rows > 1:
        mask[1, 4:] = mask[-1, :3] = False
    return model.encode(ids_of(rows, SOURCE, 7), mask)


def stepped(model: Any) -> list[torch.Tensor]:
    """Logits of steps of several sizes, by rows that join, change places, go and are taken back."""
    found = []

    def take(ids: torch.Tensor, state: Any) -> Any:
        logits, state = model.step(ids, state)
        found.append(logits)
        return state

    first = take(ids_of(1, 20), model.start(1, source_of(model, 1)))
    second = take(ids_of(3, 3, 1), model.start(3, source_of(model, 3)))
    state = take(ids_of(4, 1, 2), first.extend(second))
    state = take(ids_of(4, 4, 3), state.select(torch.tensor([2, 0, 1, 1])))
    state = take(ids_of(4, 2, 4), state.rewind(torch.tensor([1, 3, 0, 2])))
    take(ids_of(2, 8, 6), state.select(torch.tensor([1, 3])))
    beam = take(ids_of(4, 3, 7), model.start(4, source_of(model, 4)))  # hypotheses of one length, as a search has them
    for seed in (8, 9):
        beam = take(ids_of(4, 1, seed), beam.select(torch.tensor([2, 0, 2, 1])))
    beam = take(ids_of(4, 2, 10), beam.rewind(1))
    beam = take(ids_of(6, 1, 11), beam.select(torch.tensor([3, 3, 0, 1, 2, 2])))
    beam = take(ids_of(6, 1, 12), beam.select(torch.tensor([5, 4, 3, 2, 1, 0])))
    take(ids_of(7, 1, 13), beam.extend(take(ids_of(1, 4, 14), model.start(1, source_of(model, 1)))))
    return found


@pytest.fixture(autouse=True)
def _without_gradients() -> Any:
    if native_library() is None:
        pytest.skip(f"nothing is native here: {build.why_not_native()}")
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_with_whole_weights_it_is_the_transformer(name: str, threads: int) -> None:
    same_with_whole_weights(model_of(SHAPES[name]), CompactTransformer, stepped, threads)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", SHAPES)
def test_native_and_torch_say_the_same_of_packed_weights(name: str, kind: Any) -> None:
    same_as_in_torch(CompactTransformer(model_of(SHAPES[name]), kind), stepped)


@pytest.mark.parametrize("name", SHAPES)
def test_a_text_is_the_same_whatever_it_stands_beside(name: str) -> None:
    compact = CompactTransformer(model_of(SHAPES[name]), "int8")
    ids, sources = ids_of(7, 6), split_condition(source_of(compact, 7, padded=False))
    together, _ = compact.step(ids, compact.start(7, source_of(compact, 7, padded=False)))
    for row in range(7):
        state, alone = compact.start(1, sources[row]), []
        for size in (1, 4, 1):
            at = sum(part.shape[1] for part in alone)
            logits, state = compact.step(ids[row : row + 1, at : at + size], state)
            alone.append(logits)
        torch.testing.assert_close(torch.cat(alone, dim=1)[0], together[row], rtol=1e-5, atol=1e-5)


def test_a_source_of_nothing_but_padding_says_what_torch_says_of_it() -> None:
    model = model_of(SHAPES["bart"])
    mask = torch.ones(2, SOURCE, dtype=torch.bool)
    mask[1] = False
    logits = []
    for each in (model, CompactTransformer(copy.deepcopy(model), "float32")):
        found, _ = each.step(ids_of(2, 3), each.start(2, each.encode(ids_of(2, SOURCE, 7), mask)))
        logits.append(found)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-4)


def test_a_table_that_all_share_is_there_once() -> None:
    compact = CompactTransformer(model_of(SHAPES["marian"]), "int8")
    assert compact.head.packed.weight is compact.table.weight is compact.encoder.embedding.packed.weight
    assert compact.head.packed.bias is not None and compact.table.bias is None
    assert compact.table.weight.element_size() == 1


@pytest.mark.parametrize("many", [1, 1 << 20])
def test_a_search_with_it_finds_the_same(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmbert.decoding.beam.MANY", many)
    plain = model_of(SHAPES["pegasus"])
    compact = CompactTransformer(copy.deepcopy(plain), "float32")
    settings = GenerationSettings(max_tokens=20, temperature=0.0, beams=4)
    found = []
    for model in (plain, compact):
        requests = [Request([], settings, each) for each in split_condition(source_of(model, 6))]
        texts = beam_search(model, requests, 2, 3, str, padding_id=0, unknown_id=1)
        found.append([best.tokens for (best,) in texts])
    assert found[0] == found[1] and any(len(tokens) > 2 for tokens in found[0])


def test_all_texts_may_look_at_one_source() -> None:
    plain = model_of(SHAPES["pegasus"])
    compact = CompactTransformer(copy.deepcopy(plain), "float32")
    for got, expected in zip(
        *([model.step(ids_of(3, 2), model.start(3, source_of(model, 1)))[0]] for model in (compact, plain)), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_one_that_copies_runs_in_torch() -> None:
    compact = CompactTransformer(model_of({"pointer": True}), "int8")
    assert compact.native is None
    logits, _ = compact.step(ids_of(2, 3), compact.start(2, source_of(compact, 2)))
    assert logits.shape == (2, 3, VOCABULARY) and bool(torch.isfinite(logits).all())
