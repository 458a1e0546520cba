"""BERT: a Transformer encoder that sees a text from both sides and predicts the tokens that are masked in it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from llmbert.nn.attention import SelfAttention
from llmbert.nn.dropout import Dropout
from llmbert.nn.feedforward import ACTIVATIONS, FeedForward
from llmbert.nn.norms import LayerNorm
from llmbert.nn.positions import document_positions
from llmbert.protocols import Likelihood, LLMBertError, Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS_A_BATCH = 8192  # of scoring


class BERTSettings(BaseModel):
    """The shape of a BERT. `style` chooses how positions count, the head's activation and the default of `types`.

    bert: positions count places, padding included (Devlin et al. 2019); opens as BERT elsewhere.
    roberta: positions count tokens that are not `padding_id`, the head has GELU whatever `activation` is, there is no
    next-sentence head (Liu et al. 2019); opens as RoBERTa elsewhere.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    style: Literal["bert", "roberta"] = "bert"
    layers: int = Field(6, ge=1)
    width: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    inner: int | None = Field(None, ge=1)  # width of the feed-forward layer; None: 4 x width
    context: int = Field(128, ge=4)  # tokens
    types: int | None = Field(None, ge=1)  # kinds of segment that tokens may belong to; None: 2 for bert, else 1
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu"
    norm_epsilon: float = Field(1e-12, gt=0.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    masked: bool = True  # a masked-LM head
    tied: bool = True  # its matrix is the embedding's
    next_sentence: bool = False  # a head that tells whether the second segment follows the first; needs a pooler
    pooler: bool = False
    mask_id: int | None = Field(None, ge=0)  # the token that stands for a masked one
    padding_id: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> BERTSettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.style == "roberta" and self.next_sentence:
            raise ValueError("style roberta has no next-sentence head; use style bert")
        self.inner = self.inner or 4 * self.width
        self.types = self.types or (2 if self.style == "bert" else 1)
        self.pooler = self.pooler or self.next_sentence
        return self


class Block(nn.Module):
    """norm(x + attention x), then norm(x + feed-forward x): the post-norm block (Vaswani et al. 2017, §3.1)."""

    def __init__(self, s: BERTSettings) -> None:
        super().__init__()
        assert s.inner
        self.attention = SelfAttention(s.width, s.heads, s.heads, s.width // s.heads, bias=True, dropout=s.dropout)
        self.attention_norm = LayerNorm(s.width, s.norm_epsilon)
        self.feedforward = FeedForward(s.width, s.inner, s.activation)
        self.feedforward_norm = LayerNorm(s.width, s.norm_epsilon)
        self.dropout = Dropout(s.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, at: Tensor | None = None) -> Tensor:
        """x (B, T, D) → (B, T, D), or (N, D) at the places `at` (N,) of the B·T."""
        mixed = self.attention(x, None, mask, causal=False)
        if at is not None:
            x, mixed = x.flatten(0, 1)[at], mixed.flatten(0, 1)[at]
        x = self.attention_norm(x + self.dropout(mixed))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class MaskedTransform(nn.Module):
    """norm(a(W x + b)): what stands between the encoder and the vocabulary's matrix."""

    def __init__(self, s: BERTSettings) -> None:
        super().__init__()
        self.activation = ACTIVATIONS["gelu" if s.style == "roberta" else s.activation]
        self.dense = nn.Linear(s.width, s.width)
        self.norm = LayerNorm(s.width, s.norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class BERT(nn.Module):
    """A bidirectional Transformer encoder (Devlin et al. 2019); a `Scorer` of pseudo-likelihood.

    scoring_passes: how often `token_nats` reads each window; None masks one token at a time, p masks every p-th token
    at once, which is cheaper and tells each token less.
    """

    family = "bert"
    likelihood: Likelihood = "pseudo"
    recurrent = False
    scoring_passes: int | None = None

    def __init__(self, settings: BERTSettings, vocabulary_size: int) -> None:
        super().__init__()
        s = settings
        assert s.types
        if s.mask_id is not None and s.mask_id >= vocabulary_size:
            raise LLMBertError(f"mask_id {s.mask_id} is outside a vocabulary of {vocabulary_size} tokens")
        self.settings, self.vocabulary_size = settings, vocabulary_size
        self.max_length: int | None = s.context
        self.embedding = nn.Embedding(vocabulary_size, s.width)
        self.position_embedding = nn.Embedding(s.context, s.width)
        self.type_embedding = nn.Embedding(s.types, s.width)
        self.embedding_norm = LayerNorm(s.width, s.norm_epsilon)
        self.dropout = Dropout(s.dropout)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.pooler = nn.Linear(s.width, s.width) if s.pooler else None
        self.transform = MaskedTransform(s) if s.masked else None
        self.head = nn.Linear(s.width, vocabulary_size) if s.masked else None
        self.next_sentence = nn.Linear(s.width, 2) if s.next_sentence else None
        self._initialise()
        if self.head is not None and s.tied:
            self.head.weight = self.embedding.weight

    def _initialise(self) -> None:
        """normal(0, 0.02) for every matrix, 0 for every bias."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    # ---- ids → states → predictions --------------------------------------------------------------------------------

    def encode(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        types: Tensor | None = None,
        segments: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """States (B, T, D) of ids (B, T), or (N, D) at the places `at` (N,) alone, each row · T + column.

        mask: (B, T) true where there is a token, None everywhere; types: (B, T) segment kinds, None all 0; segments:
        (B, T) document numbers along each row: attention and positions stop where they change.
        """
        x = self.dropout(self.embedding_norm(self._embed(ids, types, segments)))
        allowed = _allowed(mask, segments)
        for block in self.blocks[:-1]:
            x = block(x, allowed)
        return self.blocks[-1](x, allowed, at)

    def _embed(self, ids: Tensor, types: Tensor | None, segments: Tensor | None) -> Tensor:
        time, limit = ids.shape[1], self.settings.context
        places: Tensor | None = None
        if segments is not None:
            places = document_positions(segments)
        elif self.settings.style == "roberta":
            places = (ids != self.settings.padding_id).cumsum(1).sub_(1).clamp_min_(0)
        if time > limit and (places is None or int(places.max()) >= limit):
            raise LLMBertError(f"{time} tokens do not fit this model's context of {limit}; cut the text")
        if types is not None and int(types.max()) >= self.type_embedding.num_embeddings:
            raise LLMBertError(
                f"type {int(types.max())} is none of this model's {self.type_embedding.num_embeddings} token types, "
                "which count from 0; leave types out, or build the model with more"
            )
        # A slice instead of a look-up spares its gradient a scatter over the whole batch.
        position = self.position_embedding.weight[:time] if places is None else self.position_embedding(places)
        kind = self.type_embedding.weight[0] if types is None else self.type_embedding(types)
        return self.embedding(ids) + (position + kind)

    def finish(self, states: Tensor) -> Tensor:
        """States (…, D) of `encode` → what `head` turns into logits, (…, D)."""
        if self.transform is None:
            raise LLMBertError("this BERT has no masked-LM head, so it predicts no token; build one with masked=true")
        return self.transform(states)

    def hidden(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """(B, T, D), which `head` turns into logits; arguments as in `encode`."""
        return self.finish(self.encode(ids, mask, types))

    def logits(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) float32: [:, t] predicts the token at t itself, not the next; arguments as in `encode`."""
        states = self.hidden(ids, mask, types)
        assert self.head is not None
        return self.head(states).float()

    forward = logits

    def pool(self, states: Tensor) -> Tensor:
        """tanh(W x + b) of each text's first token: states (B, T, D) or (B, D) of the first tokens → (B, D)."""
        if self.pooler is None:
            raise LLMBertError("this BERT has no pooler; build it with pooler=true, or use the states of its tokens")
        return torch.tanh(self.pooler(states[:, 0] if states.dim() == 3 else states))

    def next_logits(self, pooled: Tensor) -> Tensor:
        """Pooled (B, D) → (B, 2) float32: the second segment follows the first ([:, 0]), or does not."""
        if self.next_sentence is None:
            raise LLMBertError("this BERT has no next-sentence head; build it with next_sentence=true")
        return self.next_sentence(pooled).float()

    # ---- scoring ---------------------------------------------------------------------------------------------------

    def token_nats(self, ids, starts, progress: Progress = silent):  # type: ignore[no-untyped-def]
        """Pseudo-nats of each token given all others of its window; see `pseudo_nats`."""
        return pseudo_nats(self, ids, starts, self.scoring_passes, progress)

    @property
    def scoring_signature(self) -> str:
        """How `token_nats` gives context, for a score's signature."""
        passes = "each" if self.scoring_passes is None else f"{self.scoring_passes}-passes"
        return f"masked-{self.settings.context}-{passes}"


def _allowed(mask: Tensor | None, segments: Tensor | None) -> Tensor | None:
    """(B, 1, 1 or T, T) true where a query may look; None where that is everywhere."""
    allowed = None
    if mask is not None and not bool(mask.all()):
        allowed = mask.bool()[:, None, None]
    if segments is not None:
        same = (segments[:, :, None] == segments[:, None, :])[:, None]
        allowed = same if allowed is None else same & allowed
    return allowed


@torch.inference_mode()
def pseudo_nats(
    model: BERT,
    ids: NDArray[Any],
    starts: NDArray[np.int64],
    passes: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """-log p(token | all others of its window), float32 (N,): the pseudo-log-likelihood of Salazar et al. 2020, eq. 1.

    A document's begin and end token are given, and 0, as [CLS] and [SEP] are there. passes None: each token is masked
    alone, in a reading of its own; p: every p-th token is masked at once, in p readings.

    A document longer than the context is read in windows that overlap by half, each with the begin and the end token
    around it; a token is scored in the window where it has at least a quarter of one on either side.
    Raises LLMBertError where the model has no mask token.
    """
    if model.settings.mask_id is None:
        raise LLMBertError("this BERT knows no mask token, so it scores no text; set mask_id to its tokeniser's")
    was_training = model.training
    model.eval()
    nats = np.zeros(len(ids), dtype=np.float32)
    windows = _windows(np.asarray(starts), model.settings.context - 2)
    sizes, scored = windows[:, 1], windows[:, 3] - windows[:, 2]
    readings = scored if passes is None else np.minimum(scored, passes)
    ends = np.cumsum(readings)
    total = int(ends[-1]) if len(ends) else 0
    done = 0
    while done < total:
        size = int(sizes[np.searchsorted(ends, done, side="right")])
        some = np.arange(done, min(total, done + max(1, TOKENS_A_BATCH // (size + 2))))
        of = np.searchsorted(ends, some, side="right")
        number, every = some - (ends[of] - readings[of]), readings[of]
        rows, inside = _rows(ids, windows[of])
        place = np.arange(rows.shape[1]) - 1 - windows[of, 2, None]  # 0 at the first token that is scored
        masked = (place >= 0) & (place < scored[of, None]) & (place % every[:, None] == number[:, None])
        nats[(windows[of, 0, None] + np.arange(-1, rows.shape[1] - 1))[masked]] = _masked_nats(
            model, rows, inside, masked
        )
        done += len(some)
        progress("scoring", done, total)
    model.train(was_training)
    return nats


def _masked_nats(
    model: BERT, rows: NDArray[np.int64], inside: NDArray[np.bool_], masked: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Nats of the tokens of rows (B, T) where `masked` is true, in the order of rows, when those are masked."""
    assert model.head is not None and model.settings.mask_id is not None
    device = model.embedding.weight.device
    block, where = torch.from_numpy(rows).to(device), torch.from_numpy(masked).to(device)
    at = where.flatten().nonzero()[:, 0]
    shown = block.masked_fill(where, model.settings.mask_id)
    states = model.encode(shown, torch.from_numpy(inside).to(device), at=at)
    aims = block.flatten()[at]
    step = max(1, (1 << 22) // model.vocabulary_size)
    parts = [
        nn.functional.cross_entropy(
            model.head(model.finish(states[i : i + step])).float(), aims[i : i + step], reduction="none"
        )
        for i in range(0, len(aims), step)
    ]
    return torch.cat(parts).cpu().numpy()


def _windows(starts: NDArray[np.int64], room: int) -> NDArray[np.int64]:
    """Windows over the tokens between each document's begin and end token, the longest first, (windows, 6): where the
    first token lies, tokens, the first that is scored and the one behind the last, counted within the window, and where
    the document's begin and end tokens lie. Together they score each token once."""
    found = []
    for begin, end in pairwise(starts.tolist()):
        tokens = end - begin - 2
        if tokens < 1:
            continue
        count = 1 if tokens <= room else 1 + -(-(tokens - room) // max(1, room // 2))
        last = max(0, tokens - room)
        firsts = np.minimum(max(1, room // 2) * np.arange(count), last)
        size = min(room, tokens)
        # Neighbours meet in the middle of what they share.
        cuts = np.concatenate(([0], (firsts[1:] + firsts[:-1] + size) // 2, [tokens]))
        edges = np.full((count, 2), (begin, end - 1))
        shape = np.full(count, size)
        found.append(np.column_stack((begin + 1 + firsts, shape, cuts[:-1] - firsts, cuts[1:] - firsts, edges)))
    if not found:
        return np.zeros((0, 6), dtype=np.int64)
    windows = np.concatenate(found)
    return windows[np.lexsort((windows[:, 0], -windows[:, 1]))]


def _rows(ids: NDArray[Any], windows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each window between its begin and end token, padded to the longest: ids (B, T), and true where there is one."""
    first, size, begin, end = (windows[:, column, None] for column in (0, 1, 4, 5))
    place = np.arange(-1, int(size.max()) + 1)
    spans = np.where(place < 0, begin, np.where(place < size, first + place, end))
    return ids[spans].astype(np.int64), place <= size
