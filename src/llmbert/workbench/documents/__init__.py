"""A run and other documents → which of them are odd, where they lie, and more like them."""

from llmbert.workbench.documents.anomalies import anomalies
from llmbert.workbench.documents.augment import augment
from llmbert.workbench.documents.chart import map_texts

__all__ = ["anomalies", "augment", "map_texts"]
