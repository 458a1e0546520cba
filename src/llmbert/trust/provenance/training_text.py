"""A corpus store → the text of its training documents, as it was or as its tokeniser sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmbert.data.corpus import Corpus
from llmbert.data.pairs import PairCorpus
from llmbert.data.shards import AnyTokeniser, Shard
from llmbert.protocols import LLMBertError
from llmbert.trust.provenance.pieces import Given

UNKNOWN = "\ufffd"
"""What stands in indexed text for a token that is unknown, and in no text that is looked for."""
_NOWHERE = "\ufffe"  # a code point that is no character; what is unknown in one text is not what is unknown in another
_TOKENS = 1 << 16
_SPACED = ("words", "wordpiece", "jieba")


def training_documents(store: Corpus | PairCorpus) -> Iterator[Given]:
    """The training documents of a store; of pairs their sources and their targets.

    Where the tokeniser keeps everything, the text is what stood in the files. Where it does not (words, jieba,
    unigram, wordpiece), it is what the tokeniser left of it, for that is what the run learned and what it can repeat:
    a search in the files would miss every copy whose spaces or capitals the tokeniser has changed.
    """
    if isinstance(store, PairCorpus):
        for name, shard in (("source", store.train.source), ("target", store.train.target)):
            yield from _documents(shard, store.tokeniser, f" ({name})")
        return
    yield from _documents(store.train, store.tokeniser, "")


def as_seen(text: str, tokeniser: AnyTokeniser) -> str:
    """A text as `training_documents` would give it, so that the two can be compared."""
    if tokeniser.lossless:
        return text.replace(UNKNOWN, _NOWHERE) if tokeniser.kind == "chars" else text
    return _seen(np.asarray(tokeniser.encode(text)), tokeniser).replace(UNKNOWN, _NOWHERE)


def readable(text: str) -> str:
    """A text as it is shown: what is unknown as �."""
    return text.replace(_NOWHERE, UNKNOWN)


def _documents(shard: Shard, tokeniser: AnyTokeniser, suffix: str) -> Iterator[Given]:
    table = _token_bytes(tokeniser) if tokeniser.lossless else None
    for number in range(shard.documents):
        ids = shard.document(number)
        exact = bool(tokeniser.lossless) and not bool((ids == tokeniser.unknown_id).any())
        name = shard.document_ids[number] + suffix
        parts = iter((_seen(ids, tokeniser).encode(),)) if table is None else _parts(ids, table)
        yield Given(name, _measured(parts, name, int(shard.document_bytes[number])) if exact else parts, exact)


def _measured(parts: Iterator[bytes], name: str, size: int) -> Iterator[bytes]:
    """The parts, held against what was counted when the store was built."""
    found = 0
    for part in parts:
        found += len(part)
        yield part
    if found != size:
        raise LLMBertError(f"the text of {name} is {found:,} bytes and was {size:,}; build the corpus store again")


def _parts(ids: NDArray[Any], table: list[bytes]) -> Iterator[bytes]:
    """A document's tokens as bytes, a stretch at a time."""
    for first in range(0, len(ids), _TOKENS):
        yield b"".join([table[number] for number in ids[first : first + _TOKENS].tolist()])


def _token_bytes(tokeniser: AnyTokeniser) -> list[bytes] | None:
    """What each token stands for, wherever it stands; None where that depends on its neighbours."""
    table = tokeniser.token_bytes()
    if table is None and tokeniser.kind == "chars":
        table = [text.encode() for text in tokeniser.token_texts()]
    if table is None:
        return None
    for number in tokeniser.reserved_ids:
        table[number] = b""
    if tokeniser.unknown_id >= 0:
        table[tokeniser.unknown_id] = UNKNOWN.encode()
    return table


def _seen(ids: NDArray[Any], tokeniser: AnyTokeniser) -> str:
    """Tokens as text, unknown ones as UNKNOWN."""
    cuts = np.flatnonzero(np.asarray(ids) == tokeniser.unknown_id)
    between = f" {UNKNOWN} " if tokeniser.kind in _SPACED else UNKNOWN
    return between.join(tokeniser.decode(part[k > 0 :]) for k, part in enumerate(np.split(ids, cuts)))
