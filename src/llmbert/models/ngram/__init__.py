"""The n-gram family: counted, smoothed, kept in a trie by levels; ARPA files in and out."""

from llmbert.models.ngram.model import NGram, NGramSettings, NGramState

__all__ = ["NGram", "NGramSettings", "NGramState"]
