"""Linear layers and embeddings whose weights take two bytes or one: for writing and measuring, not for learning."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ROWS = 1024  # packed at a time, so that nothing of the whole matrix' size is needed beside it
PackedKind = Literal["float32", "bfloat16", "int8"]


class Packed(nn.Module):
    """A matrix W (rows, columns) in few bytes, and a bias (rows,) or None.

    float32, bfloat16, or int8: each row divided by its largest magnitude, in 127 steps, with a float32 scale of its own
    (symmetric). Activations are not rounded here, and in the native step to sixteen bits, which nobody can tell apart.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, kind: PackedKind) -> None:
        super().__init__()
        weight, scale = weight.detach(), None
        if kind == "int8":
            scale = torch.cat([rows.abs().amax(1) for rows in weight.split(ROWS)]).clamp_min(1e-30) / 127
            parts = zip(weight.split(ROWS), scale.split(ROWS), strict=True)
            weight = torch.cat([(rows / unit[:, None]).round().to(torch.int8) for rows, unit in parts])
        elif kind == "bfloat16":
            weight = weight.bfloat16()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of W in float32: ids (…) → (…, columns)."""
        found = self.weight[ids].float()
        return found if self.scale is None else found * self.scale[ids][..., None]

    def product(self, x: Tensor) -> Tensor:
        """x Wᵀ + b: (…, columns) → (…, rows), in float32."""
        found = x @ self.weight.to(x.dtype).T
        found = found if self.scale is None else found * self.scale
        return found if self.bias is None else found + self.bias


class PackedLinear(nn.Module):
    """nn.Linear with a packed weight."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.packed = packed

    @property
    def weight(self) -> Tensor:
        """In float32, for whoever looks at it; made anew each time."""
        whole = self.packed.weight.float()
        return whole if self.packed.scale is None else whole * self.packed.scale[:, None]

    @property
    def bias(self) -> Tensor | None:
        return self.packed.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.packed.product(x)


class PackedEmbedding(nn.Module):
    """nn.Embedding with a packed weight."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, ids: Tensor) -> Tensor:
        return self.packed.rows(ids)
