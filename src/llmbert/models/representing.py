"""A text as one vector, by whatever a family has learned of whole texts."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from llmbert.models.headed import Headed, VectorHead, pool
from llmbert.protocols import UsageError


def represent(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Documents' ids (B, T), padded on the right, mask (B, T) true where there is a token → vectors (B, D) float32.

    Of a run that was taught to embed, that; of a VAE the mean of q(z|x); of a GAN what its discriminator judges by; of
    all others the mean of their last hidden states over the text: a BERT's, a GPT's, a recurrent network's, or an
    encoder's. Raises UsageError for a model
    without vectors (an n-gram, a mixture).
    """
    if hasattr(model, "posteriors"):
        return model.infer(ids[:, 1:], mask[:, 1:])[0]
    if hasattr(model, "discriminator"):
        texts = (ids * mask)[:, 1:]  # padding, which convolutions see, as it was in training
        texts = nn.functional.pad(texts, (0, max(0, model.settings.context - texts.shape[1])), value=model.padding_id)
        return model.discriminator.features(texts).float()
    if isinstance(model, Headed):
        states, heads = model.encode(ids, mask), model.heads.values()
        taught = next((head for head in heads if isinstance(head, VectorHead)), None)
        return taught(states, mask) if taught is not None else pool(states, mask, "mean").float()
    if hasattr(model, "encode"):
        states = model.encode(ids, mask)
        return pool(getattr(states, "source", states), mask, "mean").float()
    if hasattr(model, "hidden"):
        return pool(model.hidden(ids)[0], mask, "mean").float()
    raise UsageError(f"{getattr(model, 'family', 'this model')} has no vectors of texts; take a neural family for that")
