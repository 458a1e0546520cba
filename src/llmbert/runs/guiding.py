"""A run's tokeniser as a grammar wants it."""

from __future__ import annotations

from llmbert.decoding import Guide
from llmbert.protocols import UsageError
from llmbert.runs.run import Run


def guide_of(run: Run) -> Guide:
    """What keeps a run's texts to a JSON Schema.

    Raises UsageError where tokens are not pieces of text that follow each other as they are (words, whose spaces come
    between), LLMBertError where llguidance is missing.
    """
    t = run.tokeniser
    pieces = t.token_bytes()
    if pieces is None and t.kind == "chars":
        pieces = [b"" if i in t.reserved_ids else text.encode() for i, text in enumerate(t.token_texts())]
    if pieces is None:
        raise UsageError(
            f"{run.folder.name} writes {t.kind}, which a schema cannot follow; take a run whose tokens are bytes, "
            "characters or pieces of text (bpe, unigram)"
        )
    end_id = run.tokeniser.end_id
    return Guide(pieces, end_id, lambda text: t.encode(text).tolist())
