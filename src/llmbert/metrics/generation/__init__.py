"""Generated text against references: words of two texts become statistics of segments, and these a score."""

from llmbert.metrics.generation.diversity import bleu_among, pool_bleu
from llmbert.metrics.generation.texts import METRICS, Metric, compare_texts, score_texts
from llmbert.metrics.generation.words import STEMMERS, TOKENISERS, Convention, read_synonyms

__all__ = [
    "METRICS",
    "STEMMERS",
    "TOKENISERS",
    "Convention",
    "Metric",
    "bleu_among",
    "compare_texts",
    "pool_bleu",
    "read_synonyms",
    "score_texts",
]
