"""How much a latent variable is used: how far it leaves the prior, in which dimensions, what it knows of the text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACTIVE = 0.01  # variance over texts of a dimension's mean, above which it is in use
MOST_TEXTS = 1000  # that the mixture of all posteriors is made of
COLLAPSED = 0.1  # nats a text of mutual information, below which the decoder has nothing to go by


def latent_statistics(means: NDArray[Any], log_variances: NDArray[Any], seed: int = 0) -> dict[str, Any]:
    """Of the posteriors q(z|x) of some texts, each (texts, Z):

    kl: KL(q(z|x) ‖ N(0, 1)) in nats a text; units: Z; active_units: dimensions whose mean varies over the texts by more
    than ACTIVE (Burda et al. 2016, §5.3); mutual_information: of text and z under q in nats, at most log of the texts
    that it is measured on (Hoffman & Johnson 2016, eq. 7; estimated as in He et al. 2019, §5); texts: how many these
    are; collapsed: whether z tells next to nothing.
    """
    means, log_variances = np.asarray(means, np.float64), np.asarray(log_variances, np.float64)
    kl = 0.5 * (means**2 + np.exp(log_variances) - 1 - log_variances).sum(1)
    random = np.random.default_rng(seed)
    some = random.permutation(len(means))[:MOST_TEXTS]
    known = _mutual_information(means[some], log_variances[some], random)
    return {
        "kl": float(kl.mean()),
        "units": means.shape[1],
        "active_units": int((means.var(axis=0) > ACTIVE).sum()),
        "mutual_information": known,
        "texts": len(some),
        "collapsed": known < COLLAPSED,
    }


def _mutual_information(means: NDArray[Any], log_variances: NDArray[Any], random: np.random.Generator) -> float:
    """E log q(z|x) - E log q(z), z drawn once for each text, q(z) the even mixture of all their posteriors."""
    texts, size = means.shape
    z = means + random.standard_normal(means.shape) * np.exp(0.5 * log_variances)
    own = -0.5 * (size * (1 + math.log(2 * math.pi)) + log_variances.sum(1))
    mixed = np.empty(texts)
    for row in range(texts):
        distances = ((z[row] - means) ** 2 / np.exp(log_variances) + log_variances).sum(1)
        each = -0.5 * (distances + size * math.log(2 * math.pi))
        highest = each.max()
        mixed[row] = highest + math.log(np.exp(each - highest).mean())
    return max(0.0, float((own - mixed).mean()))
