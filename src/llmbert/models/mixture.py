"""A mixture: several models of one tokeniser, their probabilities combined by weights that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from llmbert.models.scoring import TOKENS_A_BATCH, sliding_windows, window_stride
from llmbert.protocols import Condition, Likelihood, Progress, State, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = 256  # tokens of context where no member says how far it reaches
LEAST = -30.0
LOGITS = 1 << 24  # of one member held at once
Way = Literal["linear", "log-linear", "gate"]


class MixtureSettings(BaseModel):
    """members: the families that are mixed; way: how (see `Mixture`), None: whichever predicts best what was kept;
    shards: into so many parts the training documents are split by their hash, and of each member there is one for each
    part, which learns from no other (SISA, Bourtoule et al. 2021), so that forgetting a document is one's work."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    members: str = "ngram,gpt"
    shards: int = Field(1, ge=1)
    way: Way | None = None
    context: int = Field(WINDOW, ge=2)  # tokens that a scored token has before it, where members reach further


class Mixture(nn.Module):
    """p(w) from p_1(w) … p_M(w); a `Stepper` and a `Scorer`.

    linear: Σ λ_m p_m(w), Σ λ = 1 (Jelinek & Mercer 1980); log-linear: Π p_m(w)^λ_m / Z (Klakow 1998); gate: linear
    with λ = softmax(A f + b) of what the members predict at this place, f: the entropy of each and the logarithm of
    its highest probability, so that whoever is sure is heard.
    """

    family = "mixture"
    likelihood: Likelihood = "exact"
    recurrent = False

    def __init__(self, settings: MixtureSettings, members: Sequence[Any]) -> None:
        super().__init__()
        assert settings.way is not None
        self.settings, self.way = settings, settings.way
        self.members = list(members)  # n-grams are no modules
        self.modules_of = nn.ModuleList(member for member in members if isinstance(member, nn.Module))
        self.vocabulary_size = int(members[0].vocabulary_size)
        count = len(members)
        self.weights = nn.Parameter(torch.full((count,), 1 / count) if self.way == "log-linear" else torch.zeros(count))
        self.gate = nn.Parameter(torch.zeros(count, 2 * count)) if self.way == "gate" else None
        self.to(next((weight.device for weight in self.modules_of.parameters()), torch.device("cpu")))

    @property
    def max_length(self) -> int | None:
        reaches = [member.max_length for member in self.members if member.max_length is not None]
        return min(reaches) if reaches else None

    @property
    def window(self) -> int:
        """Tokens of context that a scored token has at most."""
        return min(self.settings.context, self.max_length or self.settings.context)

    @property
    def scoring_signature(self) -> str:
        return f"sliding-{self.window}-{window_stride(self.window)}"

    # ---- predicting ------------------------------------------------------------------------------------------------

    def combine(self, parts: Sequence[Tensor]) -> Tensor:
        """Log-probabilities of each member, (…, V) each → those of the mixture, (…, V) float32."""
        if self.way == "log-linear":
            return log_linear(self.weights, torch.stack(list(parts)))
        shares = mixture_shares(self.weights, self.gate, None if self.gate is None else features(parts))
        return torch.stack([part + shares[..., i, None] for i, part in enumerate(parts)]).logsumexp(0)

    def parts(self, ids: Tensor) -> list[Tensor]:
        """What each member predicts of ids (B, T): log-probabilities (B, T, V) float32."""
        return [member.logits(ids).to(ids.device).log_softmax(-1) for member in self.members]

    def parts_at(self, ids: Tensor, wanted: Tensor) -> list[Tensor]:
        """`parts` (N, V) at the N places of ids (B, T) that are wanted, (B, T) bool; the others are read as context."""
        return [_logits_at(member, ids, wanted).float().log_softmax(-1) for member in self.members]

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """ids (B, T) → log-probabilities (B, T, V) float32."""
        return self.combine(self.parts(ids))

    forward = logits

    def start(self, batch: int, condition: Condition | None = None) -> MixtureState:
        return MixtureState([member.start(batch) for member in self.members])

    def step(self, ids: Tensor, state: MixtureState) -> tuple[Tensor, MixtureState]:
        """ids (B, T), state of t tokens → log-probabilities (B, T, V), state of t+T tokens."""
        parts, states = [], []
        for member, own in zip(self.members, state.states, strict=True):
            logits, own = member.step(ids, own)
            parts.append(logits.to(ids.device).log_softmax(-1))
            states.append(own)
        return self.combine(parts), MixtureState(states)

    # ---- scoring ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def token_nats(
        self, ids: NDArray[Any], starts: NDArray[np.int64], progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Nats of each token with a sliding window for all members, float32 (N,), 0 at each begin token."""
        self.eval()
        nats = np.zeros(len(ids), dtype=np.float32)
        device = self.weights.device
        most = read_together(self.vocabulary_size)
        for places, block, wanted in sliding_windows(ids, starts, self.window, most, progress):
            block, chosen = block.to(device), torch.from_numpy(wanted).to(device)
            found = self.combine(self.parts_at(block[:, :-1], chosen))
            nats[places[wanted]] = -found.gather(1, block[:, 1:][chosen][:, None])[:, 0].cpu().numpy()
        return nats


def read_together(vocabulary_size: int) -> int:
    """How many tokens of windows the members read at once: so many that their logits, and what is between the layers,
    stay small."""
    return min(TOKENS_A_BATCH, max(1, LOGITS // vocabulary_size))


def _logits_at(member: Any, ids: Tensor, wanted: Tensor) -> Tensor:
    """What a member predicts at the N places of ids (B, T) that are wanted: logits (N, V)."""
    if hasattr(member, "hidden"):
        return member.head(member.hidden(ids)[0][wanted])
    return member.logits_at(ids, wanted).to(ids.device)


def log_linear(weights: Tensor, parts: Tensor) -> Tensor:
    """log of Π p_m^λ_m / Z: weights (M,), log-probabilities (M, …, V) → (…, V).

    What a member holds for impossible counts as e^LEAST, since any power of nothing is nothing.
    """
    return torch.einsum("m,m...v->...v", weights, parts.clamp_min(LEAST)).log_softmax(-1)


def features(parts: Sequence[Tensor]) -> Tensor:
    """What a gate sees of log-probabilities (…, V) of M members: (…, 2M), each one's entropy and highest."""
    entropies = [-(part.exp() * part.clamp_min(-80)).sum(-1) for part in parts]
    return torch.stack([*entropies, *(part.amax(-1) for part in parts)], dim=-1)


def mixture_shares(weights: Tensor, gate: Tensor | None, seen: Tensor | None) -> Tensor:
    """log λ of M members: (M,), or (…, M) by what the gate sees (…, 2M)."""
    scores = weights if gate is None or seen is None else weights + seen @ gate.mT
    return scores.log_softmax(-1)


class MixtureState:
    """The states of all members of a mixture. Satisfies `State`: whatever is done to it consumes it."""

    def __init__(self, states: list[State]) -> None:
        self.states = states

    @property
    def lengths(self) -> Tensor:
        return self.states[0].lengths

    def select(self, rows: Tensor) -> MixtureState:
        return MixtureState([state.select(rows) for state in self.states])

    def extend(self, other: MixtureState) -> MixtureState:
        return MixtureState([a.extend(b) for a, b in zip(self.states, other.states, strict=True)])

    def rewind(self, tokens: int | Tensor) -> MixtureState:
        return MixtureState([state.rewind(tokens) for state in self.states])
