"""Which numbers a training computes in."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


def resolve_precision(precision: str, device: str) -> str:
    """bfloat16 where the processor multiplies it in hardware, else float32 (emulated, it is 100 times slower)."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_bf16_units() else "float32"


@cache
def _has_bf16_units() -> bool:
    """Whether the processor has bf16 dot products; torch's own check is true already where it can emulate them."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(unit in flags for unit in ("avx512_bf16", "amx_bf16", "bf16"))
