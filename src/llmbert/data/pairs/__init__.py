"""Pairs of a source and a target: read, stored, and dealt out in batches of like length."""

from llmbert.data.pairs.batches import PairBatch, PairBatches
from llmbert.data.pairs.read import Pair, Portion, read_pairs
from llmbert.data.pairs.store import PairCorpus, PairShard, Reference, build_pairs, open_pairs

__all__ = [
    "Pair",
    "PairBatch",
    "PairBatches",
    "PairCorpus",
    "PairShard",
    "Portion",
    "Reference",
    "build_pairs",
    "open_pairs",
    "read_pairs",
]
