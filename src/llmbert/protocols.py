"""The few types that every room may know. Loads neither torch nor pydantic.

The legend of shapes, here and everywhere: B batch, T time, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class LLMBertError(Exception):
    """A refusal the user can act on: one sentence that says what is wrong, where, and how to mend it.

    The shell prints the sentence and leaves with `exit_code` 1.
    """

    exit_code = 1


class UsageError(LLMBertError):
    """The request itself is off (an unknown name, a value out of range); the shell leaves with 2."""

    exit_code = 2


class Progress(Protocol):
    """Told how far a piece of work has come, so that a shell can draw it and a test can count it.

    `stage` names the work in a few words ("tokenising", "training"), `done` and `total` are in the stage's own
    unit (`total` None: not known), `figures` are numbers worth showing beside the bar (loss, tokens/s).
    """

    def __call__(self, stage: str, done: float, total: float | None = None, **figures: float | str) -> None: ...


def silent(stage: str, done: float, total: float | None = None, **figures: float | str) -> None:
    """The `Progress` that shows nothing."""


Likelihood = Literal["exact", "conditional", "bound", "pseudo", "none"]
"""What a family's score of a text is: its exact probability, exact given a source, a bound on it, a pseudo
likelihood, or nothing. A table never mixes two of these in one column."""


@dataclass(frozen=True)
class Condition:
    """What a generator is conditioned on; every field None means nothing.

    source: (B, T, D) an encoded source, with source_mask (B, T) true where it holds a token, and source_ids (B, T) its
    tokens, for a model that copies;
    latent: (B, D) a draw of the latent variable; label: (B,) a class index.
    """

    source: Tensor | None = None
    source_mask: Tensor | None = None
    latent: Tensor | None = None
    label: Tensor | None = None
    source_ids: Tensor | None = None


class State(Protocol):
    """What a stepper remembers of B texts. It is consumed by whatever is done to it: use the one returned.

    `lengths`: (B,) int64, tokens taken in so far, row by row.
    """

    lengths: Tensor

    def select(self, rows: Tensor) -> State:
        """The rows at indices `rows` (K,), in that order; a row may be taken twice (beams) or not at all."""
        ...

    def extend(self, other: State) -> State:
        """These rows, then the rows of `other`: requests join a running batch."""
        ...

    def rewind(self, tokens: int | Tensor) -> State:
        """Forget each row's last `tokens` tokens (a number, or (B,) one for each row).

        Raises LLMBertError where a family does not remember that far back.
        """
        ...


@runtime_checkable
class Stepper(Protocol):
    """A family that predicts the next token from those before it.

    Contract, held by a test for every family: `logits(ids)[:, t]` equals the logits after t+1 steps, to 1e-5.
    A begin token is explicit in `ids`, never implied.
    """

    vocabulary_size: int
    max_length: int | None  # longest text its positions reach, in tokens; None: any length

    def start(self, batch: int, condition: Condition | None = None) -> State:
        """The state before the first token of `batch` texts."""
        ...

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Take in `ids` (B, T) int64, T >= 1 tokens a row; return logits (B, T, V) float32 and the new state."""
        ...

    def logits(self, ids: Tensor, condition: Condition | None = None) -> Tensor:
        """Logits (B, T, V) float32: [:, t] predicts the token after `ids[:, t]`."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A family that can say how probable a given text is."""

    likelihood: Likelihood
    scoring_signature: str  # how much context a scored token has ("sliding-64-16", "carried-state", "order-5")

    def token_nats(self, ids: np.ndarray, starts: np.ndarray, progress: Progress = silent) -> np.ndarray:
        """Nats of every token of many documents: float32 (N,), 0 at each document's begin token, which is given.

        ids: (N,) documents one after another, each from its begin token to its end token;
        starts: (documents + 1,) where each begins, and N.
        """
        ...


@runtime_checkable
class Sampler(Protocol):
    """A family that writes whole texts from nothing or from a condition, without stepping (GAN, VAE, BERT)."""

    def sample(self, count: int, condition: Condition | None, seed: int) -> Sequence[np.ndarray]: ...
