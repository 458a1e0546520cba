"""Text → its statistics: how much of what it holds, which laws it follows, and how far it is from another text."""

from llmbert.workbench.curation.statistics.verb import statistics

__all__ = ["statistics"]
