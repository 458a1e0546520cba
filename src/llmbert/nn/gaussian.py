"""Normal distributions with independent dimensions, by mean and log-variance."""

from __future__ import annotations

from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) in nats, one for each dimension (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
