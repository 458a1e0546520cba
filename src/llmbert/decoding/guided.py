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
        self._matcher = llguidance.LLMatcher

    def __call__(self, text: str) -> list[int]:
        return [int(token) for token in self._encode(text)]

    def json(self, schema: Mapping[str, Any] | None = None) -> Guided:
        """A constraint for one text: JSON of this JSON Schema, or any object. Raises UsageError where it is none."""
        try:
            grammar = self._matcher.grammar_from_json_schema(json.dumps(schema or {"type": "object"}), defaults=COMPACT)  # type: ignore[arg-type]
            matcher = self._matcher(self._tokenizer, grammar)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the schema cannot be followed: {error}") from error
        if matcher.is_error():
            raise UsageError(f"the schema cannot be followed: {matcher.get_error()}")
        return Guided(matcher, len(self.tokens))


class Guided:
    """The processor of one text under a grammar: keeps the tokens after which it can still be completed.

    Once nothing can follow, only the end token is left; a text cut at its length may end before that.
    """

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher, self._size = matcher, vocabulary_size
        self._taken: list[int] = []

    def __call__(self, logits: Tensor, context: Context) -> Tensor:
        keep = torch.zeros(logits.shape, dtype=torch.bool)
        for row in range(len(context.tokens)):
            self._follow(context.written(row))
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[: self._size]
            keep[row, : len(allowed)] = torch.from_numpy(allowed.astype(bool))
        return logits.masked_fill(~keep.to(logits.device), -torch.inf)

    def _follow(self, written: Sequence[int]) -> None:
        """Bring the matcher behind what is written; a guess that was not taken is taken back."""
        pairs = zip(self._taken, written, strict=False)
        common = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self._taken), len(written)))
        if common < len(self._taken):
            self._matcher.rollback(len(self._taken) - common)
        new = [int(token) for token in written[common:]]
        if new and not self._matcher.consume_tokens(new):
            raise LLMBertError(f"the text left its schema: {self._matcher.get_error()}")
        self._taken = [int(token) for token in written]
