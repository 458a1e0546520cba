"""A compact GPT: what it predicts, natively and in torch, beside the GPT it was made of."""

from __future__ import annotations

import copy
from threading import Thread
from typing import Any

import pytest
import torch
from native_steps import same_as_in_torch, same_with_whole_weights

from llmbert.decoding import Engine, GenerationSettings, Request
from llmbert.models.compact import PIECE, CompactGPT
from llmbert.models.gpt import GPT, GPTSettings
from llmbert.nn.native import build, native_library
from llmbert.protocols import LLMBertError

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"style": "gpt2"},
    "modern": {"style": "modern"},
    "groups, a head of its own": {"heads": 4, "key_value_heads": 2, "tied": False, "head_width": 10, "width": 40},
    "no norm of queries": {"qk_norm": False, "qkv_bias": True, "out_bias": True, "rope_base": 500.0},
    "odd widths": {"style": "gpt2", "width": 26, "heads": 2, "inner": 37, "activation": "gelu"},
    "relu and a layer norm": {"activation": "relu", "norm": "layer", "inner": 17},
}
VOCABULARY = 53


def model_of(shape: dict[str, Any]) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTSettings(**{"layers": 2, "width": 32, "heads": 2, "context": 48, **shape}), VOCABULARY).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3).add_(1.0 if weight.dim() == 1 else 0.0)
    return model


def ids_of(rows: int, time: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, time), generator=torch.Generator().manual_seed(seed))


def stepped(model: GPT) -> list[torch.Tensor]:
    """Logits of steps of several sizes, by rows that join, change places, go and are taken back."""
    found = []

    def take(ids: torch.Tensor, state: Any) -> Any:
        logits, state = model.step(ids, state)
        found.append(logits)
        return state

    first = take(ids_of(1, 20), model.start(1))
    second = take(ids_of(2, 3, 1), model.start(2))
    state = take(ids_of(3, 1, 2), first.extend(second))
    state = take(ids_of(3, 4, 3), state.select(torch.tensor([2, 0, 1])))
    state = take(ids_of(3, 2, 4), state.rewind(torch.tensor([1, 3, 0])))
    state = take(ids_of(2, 5, 5), state.select(torch.tensor([1, 2])))
    take(ids_of(2, 8, 6), state)
    beam = take(ids_of(4, 3, 7), model.start(4))  # hypotheses of one length, as a search has them
    for seed in (8, 9):
        beam = take(ids_of(4, 1, seed), beam.select(torch.tensor([2, 0, 2, 1])))
    beam = take(ids_of(4, 2, 10), beam.rewind(1))
    beam = take(ids_of(6, 1, 11), beam.select(torch.tensor([3, 3, 0, 1, 2, 2])))
    beam = take(ids_of(6, 1, 12), beam.select(torch.tensor([5, 4, 3, 2, 1, 0])))
    take(ids_of(7, 1, 13), beam.extend(take(ids_of(1, 4, 14), model.start(1))))
    return found


@pytest.fixture(autouse=True)
def _without_gradients() -> Any:
    if native_library() is None:
        pytest.skip(f"nothing is native here: {build.why_not_native()}")
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_with_whole_weights_it_is_the_gpt(name: str, threads: int) -> None:
    same_with_whole_weights(model_of(SHAPES[name]), CompactGPT, stepped, threads)


@pytest.mark.parametrize("name", SHAPES)
def test_a_text_at_once_is_as_the_gpt_says_it(name: str) -> None:
    plain = model_of(SHAPES[name])
    compact = CompactGPT(copy.deepcopy(plain), "float32")
    torch.testing.assert_close(compact.logits(ids_of(2, 30)), plain.logits(ids_of(2, 30)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", SHAPES)
def test_native_and_torch_say_the_same_of_packed_weights(name: str, kind: Any) -> None:
    same_as_in_torch(CompactGPT(model_of(SHAPES[name]), kind), stepped)


@pytest.mark.parametrize("name", SHAPES)
def test_with_int8_a_text_is_the_same_to_the_bit_whatever_it_stands_beside(name: str) -> None:
    compact = CompactGPT(model_of(SHAPES[name]), "int8")
    ids = ids_of(7, 12)
    together, _ = compact.step(ids, compact.start(7))
    for row in range(7):
        state, alone = compact.start(1), []
        for size in (1, 4, 2, 5):
            at = sum(part.shape[1] for part in alone)
            logits, state = compact.step(ids[row : row + 1, at : at + size], state)
            alone.append(logits)
        assert torch.equal(torch.cat(alone, dim=1)[0], together[row])


@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_what_follows_a_prompt_is_what_follows_its_last_token(rows: int, kind: Any) -> None:
    compact = CompactGPT(model_of(SHAPES["modern"]), kind)
    ids = ids_of(rows, 30)
    expected, left = compact.step(ids, compact.start(rows))
    got, state = compact.take_in(ids, compact.start(rows))
    torch.testing.assert_close(got, expected[:, -1], rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert state.lengths.tolist() == left.lengths.tolist() == [30] * rows


@pytest.mark.parametrize(("kind", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_a_weight_takes_as_many_bytes_and_is_off_by_half_a_step(kind: Any, size: int) -> None:
    plain = model_of(SHAPES["modern"])
    compact = CompactGPT(copy.deepcopy(plain), kind)
    packed, weight = compact.head.packed, plain.head.weight
    assert packed.weight.element_size() == size
    step = {"float32": 0.0, "bfloat16": 2**-7, "int8": 1 / 127}[kind] * weight.abs().amax(1, keepdim=True)
    assert bool(((compact.head.weight - weight).abs() <= 0.5 * step + 1e-7).all())
    assert compact.embedding.packed is packed, "a tied table is there once"


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_two_threads_may_write_with_one_model(kind: Any) -> None:
    compact = CompactGPT(model_of(SHAPES["modern"]), kind)
    rows = [ids_of(2, 30, seed) for seed in (1, 2)]
    alone = [compact.step(ids, compact.start(2))[0] for ids in rows]
    found: list[Any] = [None, None]

    def write(at: int) -> None:
        with torch.inference_mode():
            for _ in range(20):
                state, parts = compact.start(2), []
                for t in range(30):
                    logits, state = compact.step(rows[at][:, t : t + 1], state)
                    parts.append(logits)
            found[at] = torch.cat(parts, dim=1)

    threads = [Thread(target=write, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, expected in zip(found, alone, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_what_fits_no_memory_is_refused() -> None:
    compact = CompactGPT(model_of(SHAPES["gpt2"]), "float32")
    plain = compact.step(ids_of(2, 3), compact.start(2))[0]
    assert torch.equal(compact.step(ids_of(2, 3).int(), compact.start(2))[0], plain)
    for ids, rows in ((torch.full((2, 1), VOCABULARY), 2), (torch.full((2, 1), -1), 2), (ids_of(3, 1), 2)):
        with pytest.raises(LLMBertError):
            compact.step(ids, compact.start(rows))
    assert compact.step(ids_of(2, 3)[:0], compact.start(0))[0].shape == (0, 3, VOCABULARY)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_what_is_no_number_stays_none(kind: Any) -> None:
    model = model_of(SHAPES["gpt2"])
    with torch.no_grad():
        model.blocks[0].feedforward.down.bias[3] = float("nan")
    logits, _ = (compact := CompactGPT(model, kind)).step(ids_of(2, 3), compact.start(2))
    assert compact.native is not None and bool(torch.isnan(logits).any(-1).all())


def test_the_engine_writes_the_same_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = model_of(SHAPES["modern"])
    compact = CompactGPT(copy.deepcopy(plain), "float32")
    steps = []
    inner = compact.native.step
    monkeypatch.setattr(compact.native, "step", lambda *given: (steps.append(given[0].shape), inner(*given))[1])
    settings = GenerationSettings(max_tokens=60, temperature=0.0)
    requests = [Request(ids_of(1, length, length)[0].tolist(), settings) for length in (2, 7, 30)]
    texts = [[h.ids for h in Engine(model, 2, 3, str, padding_id=0).run(requests)] for model in (plain, compact)]
    assert texts[0] == texts[1]
    assert len(steps) > 40 and all(rows * time <= PIECE for rows, time in steps)


def test_a_library_is_compiled_once_and_never_taken_from_a_folder_others_write_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    made = []

    def compile_(compiler: str, folder: Any, name: str) -> Any:
        made.append(folder)
        (folder / name).write_bytes(b"")
        return folder / name

    monkeypatch.setattr(build, "_compile", compile_)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    passing: list[Any] = []
    path = build._compiled("g++", passing)
    assert build._compiled("g++", passing) == path and made == [tmp_path / "llmbert"] and not passing
    (tmp_path / "llmbert").chmod(0o777)
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path))
    assert build._compiled("g++", passing).parent not in (path.parent, tmp_path)
    monkeypatch.setattr(build, "_found", build._found.__wrapped__)
    library, why = build._found()
    assert library is None and why is not None and "loaded" in why, "the file is empty"
    assert len(passing) == 1 and sorted(tmp_path.glob("llmbert-*")) == passing, "what was made for a process goes"
