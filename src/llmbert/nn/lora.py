"""Low-rank adaptation (Hu et al. 2022): a frozen model learns through small matrices beside its linear maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from llmbert.nn.dropout import Dropout
from llmbert.nn.stacked import stacked_maps
from llmbert.protocols import LLMBertError, UsageError

OWN = ("lora_down", "lora_up")


class LoRALinear(nn.Linear):
    """y = W x + b + α/r · B A x with W and b frozen (Hu et al. 2022, eq. 3); B starts at zero, so nothing changes.

    A map that stacks several (query, key, value) has an A and a B of its own for each of its `sections`, as if they
    were apart. The weights of the linear map keep their names: `lora_down` (sections · r, inputs) and `lora_up`
    (outputs, r) stand beside them.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0, sections: Sequence[int] = ()
    ) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.sections = tuple(sections) or (linear.out_features,)
        self.rank, self.scale = rank, alpha / rank
        self.lora_dropout = Dropout(dropout)
        weight = linear.weight
        self.lora_down = nn.Parameter(weight.new_empty(len(self.sections) * rank, linear.in_features))
        self.lora_up = nn.Parameter(weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))
        self.lora_down.sections = (rank,) * len(self.sections)  # type: ignore[attr-defined]  # what Muon takes apart
        self.lora_up.sections = self.sections  # type: ignore[attr-defined]
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        low = nn.functional.linear(self.lora_dropout(input), self.lora_down)
        if len(self.sections) == 1:
            added = nn.functional.linear(low, self.lora_up)
        else:
            parts = zip(low.split(self.rank, dim=-1), self.lora_up.split(self.sections), strict=True)
            added = torch.cat([nn.functional.linear(part, up) for part, up in parts], dim=-1)
        return super().forward(input) + self.scale * added

    def difference(self) -> Tensor:
        """α/r · B A, (outputs, inputs): what the map has learned."""
        parts = zip(self.lora_up.split(self.sections), self.lora_down.split(self.rank), strict=True)
        return self.scale * torch.cat([up @ down for up, down in parts])

    def plain(self) -> nn.Linear:
        """The linear map itself, with the very same weights and without what was learned."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)


def add_lora(
    model: nn.Module, rank: int, alpha: float | None = None, targets: str = "*attention*", dropout: float = 0.0
) -> list[str]:
    """Put LoRA on the linear maps of `model` whose names match, freeze all its other weights, return those names.

    targets: patterns with * and ?, separated by commas, of whole names ("*.qkv", "blocks.0.*"); alpha None: the rank.
    The output layer `head`, whose weight losses read without calling it, and maps whose weight is another module's too
    (tied to an embedding) are passed over. Raises UsageError where nothing matches, LLMBertError where the model has
    LoRA already.
    """
    if any(isinstance(module, LoRALinear) for module in model.modules()):
        raise LLMBertError("the model has LoRA on it already; merge it or take it off first")
    patterns = [pattern.strip() for pattern in targets.split(",")]
    shared = _shared_weights(model)
    linears = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and name.rpartition(".")[2] != "head" and id(module.weight) not in shared
    }
    chosen = [name for name in linears if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        kinds = sorted({name.rpartition(".")[2] for name in linears})
        raise UsageError(f"lora_targets {targets!r} matches no linear map; their names end in {', '.join(kinds)}")
    for weight in model.parameters():
        weight.requires_grad_(False)
    sections = _stacked(model)
    for name in chosen:
        linear = linears[name]
        _put(model, name, LoRALinear(linear, rank, alpha or rank, dropout, sections.get(id(linear), ())))
    return chosen


def merge_lora(model: nn.Module) -> None:
    """Add what LoRA learned to the weights themselves and take it off: the same function, in plain linear maps."""
    for name, module in _adapted(model):
        with torch.no_grad():
            module.weight += module.difference()
        _put(model, name, module.plain())


def remove_lora(model: nn.Module) -> None:
    """Take LoRA off and forget what it learned: the model is what it was before `add_lora`, but for what is frozen."""
    for name, module in _adapted(model):
        _put(model, name, module.plain())


def lora_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What LoRA learned, by name: a small file beside a base that others have too."""
    return {name: w.detach() for name, w in model.named_parameters() if name.endswith(OWN)}


def load_lora(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take up what `lora_tensors` gave, after `add_lora` with the same rank and targets.

    Raises LLMBertError where the names or shapes are others.
    """
    own = {name: w for name, w in model.named_parameters() if name.endswith(OWN)}
    if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
        raise LLMBertError(
            "these LoRA weights are of another rank or other targets; add LoRA as it was when they were made"
        )
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(tensors[name])


def _adapted(model: nn.Module) -> list[tuple[str, LoRALinear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear)]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def _shared_weights(model: nn.Module) -> set[int]:
    """Weights that belong to more than one module."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            owners[id(weight)] = owners.get(id(weight), 0) + 1
    return {weight for weight, count in owners.items() if count > 1}


def _stacked(model: nn.Module) -> dict[int, tuple[int, ...]]:
    """The sections of each linear map that stacks several, by the map's identity."""
    return {id(layer): sections for layer, sections in stacked_maps(model)}
