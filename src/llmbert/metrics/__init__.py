"""Outputs and references become scores, each with a signature and an interval."""

from llmbert.metrics.likelihood import TokenNats, likelihood_scores, paired_difference, same_kind
from llmbert.metrics.signature import build_signature

__all__ = ["TokenNats", "build_signature", "likelihood_scores", "paired_difference", "same_kind"]
