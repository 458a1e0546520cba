"""Training text → an index on disk → where a text stands in it word for word, and what comes near it."""

from llmbert.trust.provenance.index import TraceIndex, build_index, open_index
from llmbert.trust.provenance.neighbours import nearest_passages
from llmbert.trust.provenance.pieces import Given
from llmbert.trust.provenance.spans import letters_before, trace_text

__all__ = ["Given", "TraceIndex", "build_index", "letters_before", "nearest_passages", "open_index", "trace_text"]
