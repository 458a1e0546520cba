"""Text kept to a grammar: JSON that a schema describes, token by token, by llguidance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmbert.decoding.processors import Context
from llmbert.protocols import LLMBertError, UsageError

COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""A small model that may write any white space between two tokens of JSON writes nothing else."""


LARGEST, REMEMBERED = 16_384, 32  # characters of a schema, and schemas that are kept compiled
LIMITS = {"max_items_in_row": 500, "step_max_items": 10_000, "max_lexer_states": 50_000, "max_grammar_size": 50_000}


class Guide:
    """What a grammar must know of a tokeniser, made once for all texts.

    token_bytes: by id, the bytes each token stands for (special tokens: none); end_id: ends a text; encode: bytes to
    ids, which is asked for forced stretches only. Raises LLMBertError where llguidance is not installed.
    """

    def __init__(self, token_bytes: Sequence[bytes], end_id: int, encode: Callable[[str], Sequence[int]]) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise LLMBertError("a schema needs llguidance; install it: pip install 'llmbert[constrain]'") from error
        self.tokens, self.eos_token_id, self.bos_token_id = list(token_bytes), end_id, None
        self.special_token_ids = [token for token, piece in enumerate(token_bytes) if not piece]
        self._encode = encode
        wrapped = llguidance.TokenizerWrapper(self)
        self._tokenizer = llguidance.LLTokenizer(wrapped, n_vocab=len(token_bytes), eos_token=end_id, slices=[])
        self._llguidance = llguidance
        self._compiled: dict[str, Any] = {}

    def __call__(self, text: str) -> list[int]:
        return [int(token) for token in self._encode(text)]

    def json(self, schema: Mapping[str, Any] | None = None) -> Guided:
        """A constraint for one text: JSON of this JSON Schema, or any object. Raises UsageError where it is none.

        A schema is compiled once, however many texts follow it.
        """
        text = json.dumps(schema or {"type": "object"}, sort_keys=True)
        if len(text) > LARGEST:
            raise UsageError(f"the schema has {len(text)} characters, more than {LARGEST}; write a smaller one")
        if text not in self._compiled:
            self._compiled[text] = self._compile(text)
            while len(self._compiled) > REMEMBERED:
                del self._compiled[next(iter(self._compiled))]
        return Guided(self._compiled[text].deep_copy(), len(self.tokens))

    def _compile(self, text: str) -> Any:
        try:
            grammar = self._llguidance.LLMatcher.grammar_from_json_schema(text, defaults=COMPACT)  # type: ignore[arg-type]
            limits = self._llguidance.LLParserLimits(**LIMITS)  # type: ignore[arg-type]
            matcher = self._llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the schema cannot be followed: {_short(error)}") from error
        if matcher.is_error():
            raise UsageError(f"the schema cannot be followed: {_short(matcher.get_error())}")
        first = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        if not any(self.tokens[token] for token in np.flatnonzero(first[: len(self.tokens)])):
            raise UsageError("the schema cannot be followed: this run has no tokens that could write it")
        return matcher


def _short(error: Any) -> str:
    return " ".join(str(error).split())[:200]


class Guided:
    """The processor of one text under a grammar: keeps the tokens after which it can still be completed.

    Once nothing can follow, only the end token is left. Where the grammar gives up (it became too large, or the text
    left it) nothing is kept, which ends the text; no other text is touched. `complete`: whether what was written so
    far is whole.
    """

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher, self._size = matcher, vocabulary_size
        self._taken: list[int] = []

    @property
    def complete(self) -> bool:
        return bool(not self._matcher.is_error() and self._matcher.is_accepting())

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        keep = torch.zeros(logits.shape, dtype=torch.bool)
        for row in range(len(context.tokens)):
            if self._follow(context.written(row)):
                bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
                allowed = np.unpackbits(bits, bitorder="little")[: self._size]
                if not self._matcher.is_error():
                    keep[row, : len(allowed)] = torch.from_numpy(allowed.astype(bool))
        return logits.masked_fill(~keep.to(logits.device), -torch.inf)

    def _follow(self, written: Sequence[int]) -> bool:
        """Bring the matcher behind what is written; a guess that was not taken is taken back. False: it gave up."""
        pairs = zip(self._taken, written, strict=False)
        common = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self._taken), len(written)))
        if common < len(self._taken) and not self._matcher.rollback(len(self._taken) - common):
            return False
        self._taken = self._taken[:common]
        new = [int(token) for token in written[common:]]
        taken = self._matcher.try_consume_tokens(new) if new else 0
        self._taken += new[:taken]
        return taken == len(new) and not self._matcher.is_error()
