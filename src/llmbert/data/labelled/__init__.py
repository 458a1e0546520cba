"""Labelled text → batches for heads: texts with a class, several, a number or a pair; words with a tag each."""

from llmbert.data.labelled.batches import LabelledBatch, LabelledBatches, MixedBatches, gather_batch
from llmbert.data.labelled.encode import LabelledRows, encode_examples, encode_texts, encode_words
from llmbert.data.labelled.examples import (
    TASKS,
    Examples,
    Task,
    check_labels,
    label_names,
    read_examples,
    split_examples,
    split_folds,
    split_labels,
)

__all__ = [
    "TASKS",
    "Examples",
    "LabelledBatch",
    "LabelledBatches",
    "LabelledRows",
    "MixedBatches",
    "Task",
    "check_labels",
    "encode_examples",
    "encode_texts",
    "encode_words",
    "gather_batch",
    "label_names",
    "read_examples",
    "split_examples",
    "split_folds",
    "split_labels",
]
