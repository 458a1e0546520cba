"""ids → logits: one file per family, and the visible dict of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from llmbert.protocols import Likelihood, UsageError


@dataclass(frozen=True)
class Family:
    """Where a family lives and what is true of it; its module is loaded when it is first used.

    counts: it is fitted by counting, not by gradients; mixes: it is made of models of other families; recurrent: it
    carries a memory from batch to batch; objectives: what it may learn by, the usual one first; further: what it learns
    by only if asked; fixed: arguments of the class that the family's name stands for; sizes: what `--size` means.
    """

    module: str
    model: str
    settings: str
    likelihood: Likelihood
    sizes: Mapping[str, Mapping[str, Any]]
    counts: bool = False
    mixes: bool = False
    recurrent: bool = False
    objectives: tuple[str, ...] = ("causal",)
    further: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def settings_class(self) -> Any:
        return getattr(import_module(self.module), self.settings)

    def model_class(self) -> Any:
        return getattr(import_module(self.module), self.model)

    def build(self, settings: Any, vocabulary_size: int) -> Any:
        """A new model with random weights (families that count are made by their own `fit`)."""
        return self.model_class()(settings, vocabulary_size, **self.fixed)


def _recurrent(cell: str) -> Family:
    return Family(
        "llmbert.models.recurrent",
        "Recurrent",
        "RecurrentSettings",
        "exact",
        {
            "tiny": {"layers": 1, "width": 128, "context": 64},
            "small": {"layers": 1, "width": 256, "context": 64},
            "medium": {"layers": 2, "width": 512, "context": 64},
            "large": {"layers": 2, "width": 1024, "context": 128},
        },
        recurrent=True,
        fixed={"family": cell},
    )


FAMILIES: dict[str, Family] = {
    "ngram": Family(
        "llmbert.models.ngram",
        "NGram",
        "NGramSettings",
        "exact",
        {"tiny": {"order": 2}, "small": {"order": 3}, "medium": {"order": 5}, "large": {"order": 7}},
        counts=True,
    ),
    "rnn": _recurrent("rnn"),
    "lstm": _recurrent("lstm"),
    "gru": _recurrent("gru"),
    "gpt": Family(
        "llmbert.models.gpt",
        "GPT",
        "GPTSettings",
        "exact",
        {
            "tiny": {"layers": 4, "width": 128, "heads": 4, "context": 64},
            "small": {"layers": 4, "width": 256, "heads": 4, "context": 128},
            "medium": {"layers": 6, "width": 384, "heads": 6, "context": 256},
            "large": {"layers": 12, "width": 768, "heads": 12, "context": 1024},
        },
        objectives=("causal", "infilling"),
    ),
    "transformer": Family(
        "llmbert.models.transformer",
        "Transformer",
        "TransformerSettings",
        "conditional",
        {
            "tiny": {"layers": 4, "width": 128, "heads": 4, "inner": 256, "context": 256},
            "small": {"layers": 3, "width": 256, "heads": 4, "inner": 1024, "context": 512},
            "medium": {"layers": 6, "width": 512, "heads": 8, "inner": 2048, "context": 512},
            "large": {"layers": 6, "width": 1024, "heads": 16, "inner": 4096, "context": 1024},
        },
        objectives=("pairs",),
        further=("denoising",),
    ),
    "t5": Family(
        "llmbert.models.t5",
        "T5",
        "T5Settings",
        "conditional",
        {
            "tiny": {"layers": 3, "width": 128, "heads": 4, "inner": 256, "context": 256},
            "small": {"layers": 4, "width": 256, "heads": 4, "inner": 512, "context": 512},
            "medium": {"layers": 6, "width": 512, "heads": 8, "inner": 1024, "context": 512},
            "large": {"layers": 12, "width": 768, "heads": 12, "inner": 2048, "context": 512},
        },
        objectives=("pairs", "denoising"),
    ),
    "mixture": Family(
        "llmbert.models.mixture",
        "Mixture",
        "MixtureSettings",
        "exact",
        {
            "tiny": {"members": "ngram order=3, gpt"},
            "small": {"members": "ngram order=5, gpt"},
            "medium": {"members": "ngram order=5, gpt, lstm"},
            "large": {"members": "ngram order=7, gpt, lstm"},
        },
        mixes=True,
    ),
    "vae": Family(
        "llmbert.models.vae",
        "VAE",
        "VAESettings",
        "bound",
        {
            "tiny": {"layers": 1, "width": 128, "latent": 16, "context": 64},
            "small": {"layers": 1, "width": 256, "latent": 32, "context": 64},
            "medium": {"layers": 1, "width": 512, "latent": 32, "context": 64},
            "large": {"layers": 2, "width": 1024, "latent": 64, "context": 128},
        },
        objectives=("elbo",),
    ),
    "gan": Family(
        "llmbert.models.gan",
        "GAN",
        "GANSettings",
        "none",
        {
            "tiny": {"layers": 1, "width": 64, "context": 32},
            "small": {"layers": 1, "width": 128, "context": 32},
            "medium": {"layers": 1, "width": 256, "context": 64},
            "large": {"layers": 2, "width": 512, "context": 64},
        },
        objectives=("adversarial",),
    ),
    "bert": Family(
        "llmbert.models.bert",
        "BERT",
        "BERTSettings",
        "pseudo",
        {
            "tiny": {"layers": 2, "width": 128, "heads": 2, "context": 128},
            "small": {"layers": 4, "width": 256, "heads": 4, "context": 128},
            "medium": {"layers": 8, "width": 512, "heads": 8, "context": 256},
            "large": {"layers": 12, "width": 768, "heads": 12, "context": 512},
        },
        objectives=("masked",),
    ),
}


def find_family(name: str) -> Family:
    """The family of that name. Raises UsageError, with the nearest name there is."""
    if name not in FAMILIES:
        raise UsageError(f"there is no family {name!r}{nearest(name, FAMILIES)}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def nearest(name: str, known: Any) -> str:
    """ ", did you mean 'x'?" for the known name most like `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
