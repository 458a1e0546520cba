"""What guesses ahead for a run while it writes: another run that counts, or the text itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmbert.decoding import Draft, LookupDraft, NGramDraft
from llmbert.protocols import UsageError
from llmbert.text.foreign import ForeignTokeniser

LOOKUP = "lookup"


def refuse_draft(run: Any, beams: int) -> None:
    """Raise UsageError where nothing can guess ahead: gaps that are filled, or texts that are searched for."""
    if run.fills_gaps or beams > 1:
        raise UsageError("a draft guesses ahead of a text written token by token; leave it out")


def find_draft(run: Any, draft: Any) -> Draft | None:
    """A draft for a run: None, "lookup" (what followed when the last tokens last stood in the text), or an n-gram run
    or its folder; what was found once is taken as it is.

    Raises UsageError for a run of another family, or of another tokeniser than the run's.
    """
    if draft is None or isinstance(draft, LookupDraft | NGramDraft):
        return draft
    if draft == LOOKUP:
        return LookupDraft()
    if isinstance(draft, str | os.PathLike):
        from llmbert.runs.loading import load

        draft = load(Path(draft))
    if draft.family != "ngram":
        raise UsageError(f"{draft.folder} is a {draft.family}; an n-gram is what drafts, or say {LOOKUP}")
    own, theirs = run.tokeniser, draft.tokeniser
    if isinstance(own, ForeignTokeniser):
        raise UsageError(f"{run.folder} has a tokeniser that n-grams are not counted in; say {LOOKUP} instead")
    if own.fingerprint != theirs.fingerprint:
        raise UsageError(
            f"{draft.folder} has another tokeniser than {run.folder}; train it with --tokenizer {run.folder}"
        )
    never = (own.begin_id, own.padding_id, own.unknown_id)
    return NGramDraft(draft.model, draft.model.settings.order, own.begin_id, never)
