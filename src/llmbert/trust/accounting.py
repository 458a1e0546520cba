"""How much privacy noisy training leaves: ε at a δ, by Rényi differential privacy (Opacus computes it)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from llmbert.protocols import LLMBertError, UsageError

ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(12, 64), 128.0, 256.0, 512.0)


class Epsilon(NamedTuple):
    """classic: by the conversion of Mironov 2017, proposition 3; tight: by that of Balle et al. 2020, theorem 21."""

    classic: float
    tight: float


def spent(noise: float, rate: float, steps: int, delta: float) -> Epsilon:
    """ε of `steps` Gaussian mechanisms, each on a Poisson sample of the documents (Mironov et al. 2019).

    noise: the standard deviation in units of what one document can change; rate: a document's chance to be in a
    sample, 1 for all of them. Raises UsageError for figures that mean nothing.
    """
    if not (noise > 0 and 0 < rate <= 1 and steps >= 1 and 0 < delta < 1):
        raise UsageError(
            f"noise {noise:g}, rate {rate:g}, steps {steps}, delta {delta:g}: noise and steps must be above 0, "
            "rate and delta between 0 and 1"
        )
    rdp = _analysis()
    orders = np.array(ORDERS)
    spent_at = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=list(ORDERS))
    classic = float(np.min(spent_at + math.log(1 / delta) / (orders - 1)))
    tight, _ = rdp.get_privacy_spent(orders=list(ORDERS), rdp=spent_at, delta=delta)
    return Epsilon(classic, float(tight))


def _analysis() -> Any:
    try:
        from opacus.accountants.analysis import rdp
    except ImportError as error:
        raise LLMBertError("opacus keeps account of privacy and is missing; pip install 'llmbert[privacy]'") from error
    return rdp
