"""One architecture's names: how a model of ours is laid out in Hugging Face's files, and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmbert.protocols import LLMBertError

Tensors = dict[str, Tensor]
MOST_CONTEXT = 1 << 20  # tokens that computed positions are made room for


@dataclass(frozen=True)
class Name:
    """Where one weight of ours lies in their file.

    theirs: one tensor, or several whose rows ours stacks, as many of each as `rows` says; transposed: theirs is
    (inputs, outputs); skip: rows at the front of theirs that no token ever reads (RoBERTa's and BART's positions begin
    at 2), left out of ours and written as zeros; row: theirs is a matrix of one row where ours is a vector.
    """

    ours: str
    theirs: tuple[str, ...]
    rows: tuple[int, ...] = ()
    transposed: bool = False
    skip: int = 0
    row: bool = False


@dataclass(frozen=True)
class Layout:
    """One architecture of Hugging Face and the family of ours that it is.

    fits: whether a model of ours is this architecture; config: its `config.json`; settings: from `config.json` and the
    names of the tensors to the family's settings (raises LLMBertError for what cannot be read here); names: where each
    weight lies; base: the prefix that files of the bare model leave out ("bert."); needless: how names end that older
    files hold beside the weights; older: how names ended once, and how they end now.
    """

    model_type: str
    family: str
    fits: Callable[[Any], bool]
    config: Callable[[Any], dict[str, Any]]
    settings: Callable[[Mapping[str, Any], Collection[str]], Any]
    names: Callable[[Any], list[Name]]
    base: str = ""
    needless: tuple[str, ...] = ()
    older: tuple[tuple[str, str], ...] = ()

    def renewed(self, tensors: Tensors) -> Tensors:
        """The tensors of a file under today's names."""
        found = {}
        for name, tensor in tensors.items():
            for then, now in self.older:
                name = name.removesuffix(then) + now if name.endswith(then) else name
            found[name] = tensor
        return found


def linear(ours: str, theirs: str, *, bias: bool = True, transposed: bool = False) -> list[Name]:
    """The weight of a linear map or a norm and, where it has one, its bias."""
    found = [Name(f"{ours}.weight", (f"{theirs}.weight",), transposed=transposed)]
    return [*found, Name(f"{ours}.bias", (f"{theirs}.bias",))] if bias else found


def stacked(ours: str, theirs: Sequence[str], rows: Sequence[int], *, bias: bool) -> list[Name]:
    """A linear map of ours that stacks several of theirs (query, key and value; gate and up)."""
    parts = ("weight", "bias") if bias else ("weight",)
    return [Name(f"{ours}.{part}", tuple(f"{name}.{part}" for name in theirs), tuple(rows)) for part in parts]


def rename_out(state: Mapping[str, Tensor], names: Sequence[Name]) -> Tensors:
    """Our tensors under their names. Raises KeyError where a weight of ours has no name (a fault of the layout)."""
    out: Tensors = {}
    known = {name.ours: name for name in names}
    for ours, tensor in state.items():
        name = known[ours]
        for theirs, part in zip(name.theirs, tensor.split(name.rows) if name.rows else (tensor,), strict=True):
            part = torch.cat((part.new_zeros(name.skip, *part.shape[1:]), part)) if name.skip else part
            part = part[None] if name.row else part
            out[theirs] = part.T.contiguous() if name.transposed else part.contiguous()
    return out


def rename_in(
    tensors: Tensors, layout_names: Sequence[Name], shapes: Mapping[str, torch.Size], needless: tuple[str, ...]
) -> Tensors:
    """Their tensors under our names, each of the shape in `shapes`.

    Raises LLMBertError that names the tensors which are missing, of another shape or kind, or left over.
    """
    names = [name for name in layout_names if name.ours in shapes]
    missing = [theirs for name in names for theirs in name.theirs if theirs not in tensors]
    if missing:
        raise LLMBertError(f"its weights lack {_listed(missing)}, which config.json asks for")
    own = {name.ours: _taken(name, tensors, shapes[name.ours]) for name in names}
    used = {theirs for name in names for theirs in name.theirs}
    over = [name for name in tensors if name not in used and not name.endswith(needless)]
    if over:
        raise LLMBertError(f"its weights hold {_listed(over)}, for which config.json has no place")
    return own


def _taken(name: Name, tensors: Tensors, shape: torch.Size) -> Tensor:
    parts = []
    for theirs, rows in zip(name.theirs, name.rows or shape[:1] or (1,), strict=True):
        tensor = tensors[theirs]
        if not tensor.is_floating_point() and not theirs.endswith(".num_batches_tracked"):
            raise LLMBertError(f"its weight {theirs!r} is of type {tensor.dtype}, which is no weight's type")
        part = tensor.T if name.transposed and tensor.dim() == 2 else tensor
        part = part[0] if name.row and tensor.dim() == 2 and len(tensor) == 1 else part
        part = part[name.skip :] if name.skip else part
        wanted = torch.Size((rows, *shape[1:])) if shape else shape
        if part.shape != wanted:
            raise LLMBertError(f"its weight {theirs!r} has shape {tuple(tensor.shape)}, which does not fit config.json")
        parts.append(part)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def refuse(kind: str, config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise LLMBertError for a setting in `config` that is another than the only one which can be read here."""
    for key, value in wanted.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if key in config and config[key] is not None and config[key] not in allowed:
            raise LLMBertError(f"{kind} with {key} {config[key]!r} cannot be read here; {allowed[0]!r} can")


def refuse_endless(settings: Any, tensors: int) -> None:
    """Before anything is built: layers take time and memory even where they hold no weights, positions that are
    computed do where they hold none. Raises LLMBertError."""
    layers = settings.layers + (getattr(settings, "decoder_layers", None) or 0)
    if layers > tensors:
        raise LLMBertError(f"config.json states {layers} layers, but there are too few tensors for them")
    context = getattr(settings, "context", None) or 0
    computed = getattr(settings, "positions", None) == "sinusoidal" or getattr(settings, "network", "") == "transformer"
    if context > MOST_CONTEXT and computed:
        raise LLMBertError(f"config.json states {context} positions; more than {MOST_CONTEXT} are not made room for")
