"""Outputs and references become scores, each with a signature and an interval."""

from llmbert.metrics.generation import METRICS, compare_texts, score_texts
from llmbert.metrics.labels import compare_labels, compare_spans, score_labels, score_spans
from llmbert.metrics.latent import latent_statistics
from llmbert.metrics.likelihood import TokenNats, likelihood_scores, paired_difference, same_kind
from llmbert.metrics.signature import build_signature

__all__ = [
    "METRICS",
    "TokenNats",
    "build_signature",
    "compare_labels",
    "compare_spans",
    "compare_texts",
    "latent_statistics",
    "likelihood_scores",
    "paired_difference",
    "same_kind",
    "score_labels",
    "score_spans",
    "score_texts",
]
