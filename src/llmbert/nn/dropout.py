"""Dropout whose random numbers cost a quarter of torch's on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # a number between 0 and 1 is drawn from so many


def dropout(x: Tensor, share: float) -> Tensor:
    """x with each number made 0 with probability `share`, and the others divided by 1 - share (Srivastava et al. 2014).

    On a processor torch draws one number after another, a fifth of a small Transformer's step; here one draw of 64 bits
    decides four times, and the share is exact to 1/65,536. Under `torch.func` (a gradient of each document) it is
    torch's, whose draws `vmap` knows how to keep apart.
    """
    if not share:
        return x
    if x.device.type != "cpu" or share > 0.999 or torch._C._are_functorch_transforms_active():
        return nn.functional.dropout(x, share)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    drawn = bits.view(torch.int16)[: x.numel()].view(x.shape)
    kept = torch.ge(drawn, round(share * LEVELS) - LEVELS // 2, out=torch.empty_like(x, requires_grad=False))
    return x * kept.mul_(1 / (1 - share))


class Dropout(nn.Dropout):
    """`dropout` with share p while training, nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x
