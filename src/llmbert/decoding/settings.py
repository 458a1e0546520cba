"""What a user may ask of a generation, checked when it is built."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from llmbert.decoding.streaming import Decode
from llmbert.protocols import Condition, UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GenerationSettings:
    """How tokens are chosen from a model's distribution. Hashable, and checked when built.

    max_tokens: most tokens to write, the end token not counted;
    temperature: logits are divided by it; 0 takes the most probable token each time (greedy), and then top_k, top_p,
        min_p and typical_p play no part;
    top_k: keep the k most probable tokens (0: all); top_p: nucleus, keep the smallest set of mass >= top_p (1: all);
    min_p: keep tokens at least min_p times as probable as the most probable (0: all);
    typical_p: locally typical, keep mass >= typical_p of tokens whose surprise is nearest the entropy (1: all);
    repetition_penalty: > 1 makes tokens of the prompt and of the text so far less likely (1: off);
    frequency_penalty, presence_penalty: taken off the logit of a token each time, or once if ever, it was written
        (0: off);
    no_repeat_ngram: no sequence of n tokens occurs twice (0: off);
    beams: above 1, beam search instead of sampling; length_penalty: its exponent (see `beam_search`; 1 without one);
    stop: strings before which the text ends; seed: of this request's own random numbers;
    logprobs: this many alternatives with their log-probabilities beside each token (0: none, nor the token's own);
    allow_unknown: let the model write its unknown token.

    Raises UsageError where a value is out of range.
    """

    max_tokens: int = 200
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    logprobs: int = 0
    allow_unknown: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()))
        self._check_types()
        _whole("max_tokens", self.max_tokens, 1, "tokens to write")
        _whole("top_k", self.top_k, 0, "0 keeps every token")
        _whole("no_repeat_ngram", self.no_repeat_ngram, 0, "0 turns it off")
        _whole("beams", self.beams, 1, "1 means no beam search")
        _whole("logprobs", self.logprobs, 0, "0 turns it off")
        _whole("seed", self.seed, 0, "any whole number below 2**63")
        _within("seed", self.seed < 2**63, self.seed, "below 2**63")
        _within("temperature", 0 <= self.temperature < math.inf, self.temperature, "0 (greedy) or a positive number")
        _within("top_p", 0 < self.top_p <= 1, self.top_p, "above 0 and at most 1")
        _within("typical_p", 0 < self.typical_p <= 1, self.typical_p, "above 0 and at most 1")
        _within("min_p", 0 <= self.min_p <= 1, self.min_p, "between 0 and 1")
        # beyond these a logit may leave what float32 holds, and no distribution is left
        bearable = 0.01 <= self.repetition_penalty <= 100
        _within("repetition_penalty", bearable, self.repetition_penalty, "between 0.01 and 100 (1 turns it off)")
        for name in ("frequency_penalty", "presence_penalty"):
            _within(name, abs(getattr(self, name)) <= 100, getattr(self, name), "between -100 and 100 (0 turns it off)")
        _within("length_penalty", math.isfinite(self.length_penalty), self.length_penalty, "a finite number")
        if not all(isinstance(text, str) and text for text in self.stop):
            raise UsageError("stop holds an empty string or something that is no string; give non-empty strings.")
        self._check_beams()

    def _check_types(self) -> None:
        """Numbers only: a string from a form or a JSON body must not reach a comparison."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("stop", "allow_unknown"):
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise UsageError(f"{each.name} must be a number, not {value!r}.")

    def _check_beams(self) -> None:
        """Beam search is deterministic: settings that only sampling obeys are refused, not ignored, and so is the one
        that only a search obeys."""
        if self.beams == 1:
            if self.length_penalty != 1:
                raise UsageError("length_penalty ranks the texts of a beam search; set beams above 1 or leave it out.")
            return
        defaults = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "logprobs": 0}
        set_too = [name for name, default in defaults.items() if getattr(self, name) != default]
        if self.temperature not in (0, 1):
            set_too.insert(0, "temperature")
        if set_too:
            raise UsageError(f"beams={self.beams} searches without sampling; leave out {' and '.join(set_too)}.")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True)
class Request:
    """One text to be written: what it continues and how.

    prompt: token ids, without a begin token (the engine puts it in front); empty: from nothing;
    condition: of one row (B = 1), for families that generate from a source, a latent variable or a label;
    constraint: a processor of this text alone that rules tokens out, such as `Guided`; decode: its ids to text, where
    that depends on what it continues; None: as all others of the engine.
    """

    prompt: Sequence[int] = ()
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    condition: Condition | None = None
    constraint: Callable[[Tensor, Any], Tensor] | None = None
    decode: Decode | None = None


def check_prompt(prompt: Sequence[int], vocabulary_size: int) -> list[int]:
    """The prompt as a list of ints; UsageError where an id lies outside the vocabulary."""
    ids = [int(token) for token in prompt]
    wrong = next((token for token in ids if not 0 <= token < vocabulary_size), None)
    if wrong is not None:
        raise UsageError(
            f"The prompt holds token {wrong}, but the model knows tokens 0 to {vocabulary_size - 1}; "
            "encode the prompt with the model's own tokeniser."
        )
    return ids


def end_ids_of(end_id: int | Sequence[int]) -> tuple[int, ...]:
    """One or several end tokens as a tuple; UsageError for none."""
    ids = (int(end_id),) if isinstance(end_id, numbers.Integral) else tuple(end_id)  # type: ignore[arg-type]
    if not ids:
        raise UsageError("There is no end token; give at least one.")
    return ids


def never_written(
    begin_id: int | None, padding_id: int | None, others: Sequence[int], end_ids: Sequence[int]
) -> tuple[int, ...]:
    """The tokens no text may hold: begin, padding and `others`, unless they end texts (GPT-2 begins with the end)."""
    return tuple(token for token in (begin_id, padding_id, *others) if token is not None and token not in end_ids)


def _whole(name: str, value: float, least: int, remark: str) -> None:
    if not isinstance(value, numbers.Integral) or value < least:
        raise UsageError(f"{name} must be a whole number of at least {least} ({remark}), not {value}.")


def _within(name: str, holds: bool, value: float, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name} must be {wanted}, not {value}.")
