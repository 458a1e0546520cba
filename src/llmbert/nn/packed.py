"""Linear layers and embeddings whose weights take two bytes or one: for writing and measuring, not for learning."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

PANEL = 16  # rows
GROUP = 4  # columns of int8 weights that lie side by side
BLOCK = 64  # columns whose activations share a scale
ROWS = 1024  # packed at a time, so that nothing of the whole matrix' size is needed beside it
PackedKind = Literal["float32", "bfloat16", "int8"]


class Packed(nn.Module):
    """A matrix W (rows, columns) in few bytes, and a bias (rows,) or None.

    float32, bfloat16, or int8: each row divided by its largest magnitude, in 127 steps, with a float32 scale of its own
    (symmetric); what an int8 matrix is multiplied with is rounded too, see `rounded_activations`.
    panels: the weights lie as the native step reads them, sixteen rows at a time, column by column, and in int8 four
    columns at a time, filled up with zeros: (rows / 16, columns, 16) or (rows / 16, columns / 4, 16, 4).
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, kind: PackedKind, panels: bool = False) -> None:
        super().__init__()
        weight, scale = weight.detach(), None
        if kind == "int8":
            scale = torch.cat([rows.abs().amax(1) for rows in weight.split(ROWS)]).clamp_min(1e-30) / 127
            parts = zip(weight.split(ROWS), scale.split(ROWS), strict=True)
            weight = torch.cat([(rows / unit[:, None]).round().to(torch.int8) for rows, unit in parts])
        elif kind == "bfloat16":
            weight = weight.bfloat16()
        self.shape, self.panels = weight.shape, panels
        self.register_buffer("weight", _in_panels(weight) if panels else weight.contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def with_bias(self, bias: Tensor | None) -> Packed:
        """The same weights, in memory once, with another bias."""
        found = copy.copy(self)
        found._buffers = dict(self._buffers)
        found.bias = None if bias is None else bias.detach()
        return found

    def matrix(self) -> Tensor:
        """The weights without their scales, (rows, columns); made anew where they lie in panels."""
        if not self.panels:
            return self.weight
        rows, columns = self.shape
        panels = self.weight.permute(0, 2, 1, 3) if self.weight.dim() == 4 else self.weight.permute(0, 2, 1)
        return panels.reshape(len(self.weight) * PANEL, -1)[:rows, :columns]

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of W in float32: ids (…) → (…, columns)."""
        if self.panels:
            panel, row = ids // PANEL, ids % PANEL
            found = self.weight[panel, :, row].flatten(ids.dim())[..., : self.shape[1]].float()
        else:
            found = self.weight[ids].float()
        return found if self.scale is None else found * self.scale[ids][..., None]

    def product(self, x: Tensor) -> Tensor:
        """x Wᵀ + b: (…, columns) → (…, rows), in float32."""
        if self.scale is not None:
            x = rounded_activations(x)
        found = x @ self.matrix().to(x.dtype).T
        found = found if self.scale is None else found * self.scale
        return found if self.bias is None else found + self.bias


def rounded_activations(x: Tensor) -> Tensor:
    """x (…, columns) in whole steps, 127 up to the largest magnitude of each `BLOCK` columns: what the native step
    multiplies int8 weights with, two bytes' products being half the work of two halves' of a word."""
    columns = x.shape[-1]
    blocks = nn.functional.pad(x, (0, -columns % BLOCK)).unflatten(-1, (-1, BLOCK))
    most = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return ((blocks * (127 / most)).round() * (most / 127)).flatten(-2)[..., :columns]


def _in_panels(weight: Tensor) -> Tensor:
    rows, columns = weight.shape
    group = GROUP if weight.dtype == torch.int8 else 1
    found = weight.new_zeros(-(-rows // PANEL), -(-columns // group), PANEL, group)
    for number, part in enumerate(weight.split(ROWS)):  # whole panels but for the last
        filled = nn.functional.pad(part, (0, -columns % group, 0, -len(part) % PANEL))
        some = filled.view(-1, PANEL, filled.shape[1] // group, group).transpose(1, 2)
        found[number * ROWS // PANEL :][: len(some)] = some
    return found if group == GROUP else found[..., 0]


class PackedLinear(nn.Module):
    """nn.Linear with packed weights, of one matrix or of several whose rows stand one below the other."""

    def __init__(self, *parts: Packed) -> None:
        super().__init__()
        self._parts = nn.ModuleList(parts)

    @property
    def parts(self) -> list[Packed]:
        return list(self._parts)  # type: ignore[arg-type]

    @property
    def packed(self) -> Packed:
        """The only matrix."""
        (only,) = self.parts
        return only

    @property
    def weight(self) -> Tensor:
        """In float32, for whoever looks at it; made anew each time."""
        return torch.cat([part.rows(torch.arange(part.shape[0], device=part.weight.device)) for part in self.parts])

    @property
    def bias(self) -> Tensor | None:
        found = [part.bias for part in self.parts if part.bias is not None]
        return torch.cat(found) if found else None

    def forward(self, x: Tensor) -> Tensor:
        first, *others = [part.product(x) for part in self.parts]
        return torch.cat([first, *others], dim=-1) if others else first


class PackedEmbedding(nn.Module):
    """nn.Embedding with a packed weight."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, ids: Tensor) -> Tensor:
        return self.packed.rows(ids)
