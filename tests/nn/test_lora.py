"""LoRA: nothing changes before it learns, it alone learns, and merged it is the same function in plain maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from llmbert.models.gpt import GPT, GPTSettings
from llmbert.nn.lora import LoRALinear, add_lora, load_lora, lora_tensors, merge_lora, remove_lora
from llmbert.protocols import LLMBertError, UsageError
from llmbert.training.optimisers import mark_sections

IDS = torch.tensor([[2, 5, 9, 7, 3], [2, 8, 8, 4, 6]])


def gpt(style: str = "gpt2", **shape: object) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTSettings(style=style, layers=2, width=16, heads=4, context=8, **shape), 30)  # type: ignore[arg-type]
    for weight in model.parameters():  # also where the modern style begins with zeros
        nn.init.normal_(weight, std=0.2)
    return model.eval()


def learn(model: nn.Module, steps: int = 25) -> None:
    trainable = [w for w in model.parameters() if w.requires_grad]
    optimiser = torch.optim.SGD(trainable, lr=0.5)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten()).backward()
        optimiser.step()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@pytest.mark.parametrize("targets", ["*attention*", "*.qkv", "*", "blocks.1.*"])
def test_put_on_learned_merged_and_taken_off(style: str, targets: str) -> None:
    model = gpt(style)
    before, names, plain = state(model), [n for n, _ in model.named_modules()], model(IDS)
    chosen = add_lora(model, rank=3, alpha=6.0, targets=targets)
    torch.testing.assert_close(model(IDS), plain)  # B is zero

    learn(model)
    learned = model(IDS)
    assert float((learned - plain).abs().max()) > 0.1
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), f"{name} moved"

    kept = lora_tensors(model)
    merge_lora(model)
    assert float((model(IDS) - learned).abs().max()) <= 1e-5
    assert [n for n, _ in model.named_modules()] == names
    assert model.state_dict().keys() == before.keys()
    changed = {n.removesuffix(".weight") for n, t in before.items() if not torch.equal(t, model.state_dict()[n])}
    assert changed == set(chosen)

    again = gpt(style)
    add_lora(again, rank=3, alpha=6.0, targets=targets)
    load_lora(again, kept)
    torch.testing.assert_close(again(IDS), learned)
    remove_lora(again)
    torch.testing.assert_close(again(IDS), plain)
    assert all(torch.equal(again.state_dict()[n], t) for n, t in before.items())


def test_only_its_weights_learn() -> None:
    model = gpt()
    add_lora(model, rank=2, targets="*.qkv")
    assert {n for n, w in model.named_parameters() if w.requires_grad} == {
        f"blocks.{i}.attention.qkv.lora_{part}" for i in range(2) for part in ("down", "up")
    }


def test_the_tied_output_layer_is_untouched() -> None:
    model = gpt()
    assert "head" not in add_lora(model, rank=2, targets="*")
    assert model.head.weight is model.embedding.weight
    merge_lora(model)
    assert model.head.weight is model.embedding.weight
    assert type(model.head) is nn.Linear


def test_a_stacked_map_is_adapted_as_if_its_parts_were_apart() -> None:
    """Query, key and value have an A and a B each: the same as LoRA on three maps."""
    torch.manual_seed(1)
    stacked = nn.Linear(8, 12)
    adapted = LoRALinear(stacked, 2, 4.0, sections=(4, 4, 4))
    nn.init.normal_(adapted.lora_up)
    x = torch.randn(5, 8)
    rows = []
    for part in range(3):
        here = slice(4 * part, 4 * part + 4)
        alone = nn.Linear(8, 4)
        alone.weight, alone.bias = nn.Parameter(stacked.weight[here]), nn.Parameter(stacked.bias[here])
        one = LoRALinear(alone, 2, 4.0)
        one.lora_down, one.lora_up = (
            nn.Parameter(adapted.lora_down[2 * part : 2 * part + 2]),
            nn.Parameter(adapted.lora_up[here]),
        )
        rows.append(one(x))
    torch.testing.assert_close(adapted(x), torch.cat(rows, dim=-1))
    torch.testing.assert_close(nn.functional.linear(x, adapted.difference()), adapted(x) - stacked(x))


def test_attention_has_a_pair_for_each_of_its_stacked_maps() -> None:
    model = gpt("modern", key_value_heads=2)
    add_lora(model, rank=2, targets="*.qkv,*.gate_up")
    assert model.blocks[0].attention.qkv.sections == (16, 8, 8)
    assert model.blocks[0].attention.qkv.lora_down.shape == (6, 16)
    assert len(model.blocks[0].feedforward.gate_up.sections) == 2


def test_a_map_that_is_as_tall_as_a_stack_is_none() -> None:
    """A feed-forward's way down from 8 to 16 has as many rows as its gate and its way up together."""
    model = gpt("modern", inner=8)
    mark_sections(model)
    down, gate_up = (getattr(model.blocks[0].feedforward, name) for name in ("down", "gate_up"))
    assert down.out_features == gate_up.out_features == 16
    assert not hasattr(down.weight, "sections") and gate_up.weight.sections == (8, 8)
    add_lora(model, rank=2, targets="*.down")
    assert model.blocks[0].feedforward.down.lora_down.shape[0] == 2


def test_alpha_over_rank_scales_what_is_learned() -> None:
    linear = nn.Linear(4, 4)
    one, two = LoRALinear(linear, 2, 2.0), LoRALinear(linear, 2, 8.0)
    nn.init.normal_(one.lora_up)
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(two.difference(), 4 * one.difference())


def test_dropout_acts_in_training_alone() -> None:
    model = gpt()
    add_lora(model, rank=2, dropout=0.5, targets="*.up")
    for name, weight in model.named_parameters():
        if "lora_up" in name:
            nn.init.normal_(weight)
    torch.testing.assert_close(model(IDS), model(IDS))
    model.train()
    assert not torch.equal(model(IDS), model(IDS))


def test_a_pattern_that_matches_nothing_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"down, out, qkv, up"):
        add_lora(gpt(), rank=2, targets="query,*.value")
    with pytest.raises(UsageError):
        add_lora(gpt(), rank=2, targets="head")


def test_lora_is_not_put_on_twice_and_other_shapes_are_refused() -> None:
    model = gpt()
    add_lora(model, rank=2)
    with pytest.raises(LLMBertError, match="already"):
        add_lora(model, rank=2)
    other = gpt()
    add_lora(other, rank=3)
    with pytest.raises(LLMBertError, match="another rank"):
        load_lora(model, lora_tensors(other))
