"""Text VAE: an encoder, a latent variable for each text, and a decoder that writes from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.models.recurrent import Recurrent, RecurrentSettings
from llmbert.models.scoring import TOKENS_A_BATCH, cut_pieces, target_nats
from llmbert.models.transformer import Transformer, TransformerSettings
from llmbert.nn.gaussian import gaussian_kl
from llmbert.nn.recurrence import Recurrence, RecurrentState
from llmbert.protocols import Condition, Likelihood, Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOTS = 4  # what a Transformer's decoder looks at instead of a source, all made of z
DRAWS = 8  # of z for each text that is scored
DRAWN_AT_MOST = 700_000  # tokens that are scored so in all, or each once: of much text fewer draws tell as much


def draws_of(tokens: int) -> int:
    """How many draws of z a text is scored by, where so many tokens are scored together."""
    return max(1, min(DRAWS, DRAWN_AT_MOST // max(1, tokens)))


class VAESettings(BaseModel):
    """The shape of a text VAE. network: of encoder and decoder both; latent: dimensions of z; a longer text than
    `context` tokens is taken in even parts, each with a z of its own."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    network: Literal["rnn", "lstm", "gru", "transformer"] = "gru"
    layers: int = Field(1, ge=1)
    width: int = Field(256, ge=8)
    embedding_width: int | None = Field(None, ge=4)  # of recurrent networks; None: the width
    heads: int = Field(4, ge=1)  # of a Transformer, as `inner`
    inner: int | None = Field(None, ge=1)
    latent: int = Field(32, ge=1)
    context: int = Field(64, ge=2)
    tied: bool = True
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _complete(self) -> VAESettings:
        if self.network == "transformer" and (self.width % self.heads or self.width % 2):
            raise ValueError(f"width {self.width} is not an even multiple of heads {self.heads}")
        return self


class VAE(nn.Module):
    """A bound on p(x) = ∫ p(x|z) p(z) dz with a normal prior (Kingma & Welling 2014; for text Bowman et al. 2016).

    A `Stepper` under a latent (without one: under the prior's mean), a `Scorer` of a bound.
    """

    family = "vae"
    likelihood: Likelihood = "bound"
    recurrent = False
    scoring_signature = f"elbo-{DRAWS}draws-{DRAWN_AT_MOST}tokens"

    def __init__(self, settings: VAESettings, vocabulary_size: int) -> None:
        super().__init__()
        self.settings, self.vocabulary_size = settings, vocabulary_size
        kind = TransformerReader if settings.network == "transformer" else RecurrentReader
        self.inner: TransformerReader | RecurrentReader = kind(settings, vocabulary_size)
        self.posterior = nn.Linear(settings.width, 2 * settings.latent)
        # The mean tells texts apart from the start; a variance that does so too would drown them.
        nn.init.normal_(self.posterior.weight[: settings.latent].detach(), std=2 * settings.width**-0.5)
        nn.init.zeros_(self.posterior.weight[settings.latent :].detach())
        nn.init.zeros_(self.posterior.bias)

    @property
    def embedding(self) -> nn.Embedding:
        return self.inner.decoder.embedding

    @property
    def head(self) -> nn.Linear:
        return self.inner.decoder.head

    @property
    def max_length(self) -> int | None:
        return self.inner.decoder.max_length

    def decoding_parameters(self) -> Iterator[nn.Parameter]:
        """The weights of p(x|z), the embedding among them."""
        return self.inner.decoding_parameters()

    # ---- texts and their latents -----------------------------------------------------------------------------------

    def infer(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Texts (B, T), mask (B, T) true where there is a token → mean and log-variance of q(z|x), each (B, Z) float32.

        The texts are without the token they begin with.
        """
        mean, log_variance = self.posterior(self.inner.read(ids, mask)).float().chunk(2, dim=-1)
        return mean, log_variance

    def prior(self, count: int, seed: int) -> Condition:
        """Draws from p(z) = N(0, 1), as a condition of `count` rows; row i is the same whatever the count."""
        chance = (torch.Generator().manual_seed(_latent_seed(seed + i)) for i in range(count))
        rows = torch.stack([torch.randn(self.settings.latent, generator=each) for each in chance])
        return Condition(latent=rows.to(self.posterior.weight))

    # ---- writing ---------------------------------------------------------------------------------------------------

    def hidden(self, ids: Tensor, z: Tensor) -> Tensor:
        """Last hidden states (B, T, D) of ids (B, T) under z (B, Z)."""
        return self.inner.hidden(ids, z)

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) → logits (B, T, V) float32 under the condition's latent, else under the prior's mean."""
        return self.head(self.hidden(ids, self._latent(len(ids), condition))).float()

    forward = logits

    def start(self, batch: int, condition: Condition | None = None) -> Any:
        return self.inner.start(self._latent(batch, condition))

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """ids (B, T), state of t tokens → logits (B, T, V), state of t+T tokens."""
        return self.inner.decoder.step(ids, state)

    def _latent(self, batch: int, condition: Condition | None) -> Tensor:
        if condition is None or condition.latent is None:
            return self.posterior.weight.new_zeros(batch, self.settings.latent)
        return condition.latent

    # ---- scoring ---------------------------------------------------------------------------------------------------

    def token_nats(
        self, ids: NDArray[Any], starts: NDArray[np.int64], progress: Progress = silent
    ) -> NDArray[np.float32]:
        """An upper bound on the nats of each text, token by token: float32 (N,), 0 at each begin token.

        -log p(x_t | x_<t, z) on average over `draws_of` draws of z from q, and the KL to the prior on the text's first
        token: single tokens mean little, their sum over a text is the negative evidence lower bound.
        """
        nats, draws = np.zeros(len(ids), dtype=np.float32), draws_of(len(ids))
        for texts, done, total in self._texts(ids, starts):
            mean, log_variance = self.infer(texts.targets, texts.mask)
            found = torch.stack([self._nats(texts, z) for z in _draws(mean, log_variance, texts.firsts, draws)]).mean(0)
            found[:, 0] += gaussian_kl(mean, log_variance).sum(-1)
            inside = texts.mask.cpu().numpy()
            nats[(texts.firsts[:, None] + 1 + np.arange(found.shape[1]))[inside]] = found.cpu().numpy()[inside]
            progress("scoring", done, total)
        return nats

    def importance_nats(
        self,
        ids: NDArray[Any],
        starts: NDArray[np.int64],
        draws: int = 100,
        progress: Progress = silent,
        most: int | None = None,
    ) -> float:
        """A tighter upper bound on the nats of all texts together, or of the first `most`:
        -log mean_k p(x|z_k) p(z_k) / q(z_k|x), z_k from q (Burda et al. 2016, eq. 8)."""
        found = 0.0
        for texts, done, total in self._texts(ids, starts, most):
            mean, log_variance = self.infer(texts.targets, texts.mask)
            weights = []
            for z in _draws(mean, log_variance, texts.firsts, draws):
                log_prior = -0.5 * (z**2).sum(-1)
                log_posterior = -0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance).sum(-1)
                weights.append(log_prior - log_posterior - self._nats(texts, z).sum(-1))
            found += float((math.log(draws) - torch.stack(weights).double().logsumexp(0)).sum())
            progress("bounding", done, total)
        return found

    def posteriors(self, ids: NDArray[Any], starts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and log-variance of q(z|x) of every text, each float32 (texts, Z), in their order."""
        order, found = [], []
        for texts, _, _ in self._texts(ids, starts):
            order.append(texts.firsts)
            found.append(torch.stack(self.infer(texts.targets, texts.mask)).cpu().numpy())
        both = np.concatenate(found, axis=1)[:, np.argsort(np.concatenate(order))]
        return both[0], both[1]

    def _texts(
        self, ids: NDArray[Any], starts: NDArray[np.int64], most: int | None = None
    ) -> Iterator[tuple[_Texts, int, int]]:
        """The texts of some documents, or the first `most`, in batches of like lengths, each with how many are done
        with it, of how many.

        Meanwhile there are no gradients and no dropout.
        """
        was_training = self.training
        self.eval()
        firsts, sizes = cut_pieces(starts, self.settings.context)
        firsts, sizes = firsts[sizes > 0][:most], sizes[sizes > 0][:most]
        order, done = np.lexsort((firsts, -sizes)), 0
        device = self.posterior.weight.device
        try:
            with torch.inference_mode():
                while done < len(order):
                    rows = order[done : done + max(1, TOKENS_A_BATCH // int(sizes[order[done]]))]
                    done += len(rows)
                    yield _Texts.of(ids, firsts[rows], sizes[rows], device), done, len(order)
        finally:
            self.train(was_training)

    def _nats(self, texts: _Texts, z: Tensor) -> Tensor:
        """-log p(x_t | x_<t, z), (B, T) float32, 0 behind a text's end."""
        return target_nats(self, self.hidden(texts.inputs, z), texts.targets).masked_fill(~texts.mask, 0.0)


@dataclass(frozen=True)
class _Texts:
    """Some texts side by side. firsts: (B,) where each begins; inputs, targets: (B, T); mask: (B, T) true inside."""

    firsts: NDArray[np.int64]
    inputs: Tensor
    targets: Tensor
    mask: Tensor

    @classmethod
    def of(cls, ids: NDArray[Any], firsts: NDArray[np.int64], sizes: NDArray[np.int64], device: torch.device) -> _Texts:
        places = np.arange(int(sizes.max()) + 1)
        spans = np.minimum(firsts[:, None] + places, len(ids) - 1)
        block = torch.from_numpy(ids[spans].astype(np.int64)).to(device)
        mask = torch.from_numpy(places[:-1] < sizes[:, None]).to(device)
        return cls(firsts, block[:, :-1] * mask, block[:, 1:] * mask, mask)


class RecurrentReader(nn.Module):
    """Encoder and decoder of one recurrent kind; the decoder begins in a state made of z."""

    def __init__(self, s: VAESettings, vocabulary_size: int) -> None:
        super().__init__()
        shape = {"layers": s.layers, "width": s.width, "embedding_width": s.embedding_width}
        settings = RecurrentSettings(**shape, context=s.context, tied=s.tied, dropout=s.dropout)
        self.decoder = Recurrent(settings, vocabulary_size, s.network)
        self.encoder = Recurrence(s.network, s.width, s.layers, s.dropout)
        self.parts = 2 if s.network == "lstm" else 1
        self.begin = nn.Linear(s.latent, self.parts * s.layers * s.width)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The encoder's top state behind each text, (B, D)."""
        states, _ = self.encoder(self.decoder.enter(self.decoder.embedding(ids)), None)
        last = mask.sum(1).sub(1).clamp_min(0)
        return states[torch.arange(len(ids), device=ids.device), last]

    def memory(self, z: Tensor) -> tuple[Tensor, ...]:
        """z (B, Z) → the state that the decoder begins with, each part (layers, B, D)."""
        width = self.decoder.settings.width
        parts = self.begin(z).view(len(z), self.parts, -1, width).permute(1, 2, 0, 3).contiguous()
        return (parts[0].tanh(), *parts[1:])

    def hidden(self, ids: Tensor, z: Tensor) -> Tensor:
        return self.decoder.hidden(ids, memory=self.memory(z))[0]

    def start(self, z: Tensor) -> RecurrentState:
        return RecurrentState(self.memory(z))

    def decoding_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.decoder.parameters()
        yield from self.begin.parameters()


class TransformerReader(nn.Module):
    """A Transformer whose decoder looks at slots made of z instead of at a source."""

    def __init__(self, s: VAESettings, vocabulary_size: int) -> None:
        super().__init__()
        shape = {"layers": s.layers, "width": s.width, "heads": s.heads, "inner": s.inner, "dropout": s.dropout}
        tied: Any = "all" if s.tied else "none"
        self.decoder = Transformer(TransformerSettings(**shape, context=s.context, tied=tied), vocabulary_size)
        self.slots = nn.Linear(s.latent, SLOTS * s.width)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean of the encoder's states over each text, (B, D)."""
        states = self.decoder.encode(ids, mask).source
        assert states is not None
        inside = mask[..., None].to(states.dtype)
        return (states * inside).sum(1) / inside.sum(1).clamp_min(1)

    def _condition(self, z: Tensor) -> Condition:
        return Condition(source=self.slots(z).view(len(z), SLOTS, -1))

    def hidden(self, ids: Tensor, z: Tensor) -> Tensor:
        return self.decoder.hidden(ids, self._condition(z))

    def start(self, z: Tensor) -> Any:
        return self.decoder.start(len(z), self._condition(z))

    def decoding_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.decoder.decoder.parameters()  # with the embedding, also where the encoder shares it
        yield from self.decoder.head.parameters()
        yield from self.slots.parameters()


def _latent_seed(seed: int) -> int:
    """The seed of z where a text's is `seed`: tokens are drawn with that one, and torch makes its normal numbers of the
    very uniform ones, so z would foretell them."""
    return int.from_bytes(hashlib.blake2b(f"latent {seed}".encode(), digest_size=8).digest()) >> 1


def _draws(mean: Tensor, log_variance: Tensor, firsts: NDArray[np.int64], count: int) -> Iterator[Tensor]:
    """Draws of z from q, (B, Z) each; a text's own depend on where it lies alone, not on its batch."""
    chance = [np.random.default_rng((7, int(first))) for first in firsts]
    noise = np.stack([each.standard_normal((count, mean.shape[1])) for each in chance])
    for each in torch.from_numpy(noise.astype(np.float32)).to(mean.device).unbind(1):
        yield mean + each * (0.5 * log_variance).exp()
