"""Tokenisers that others made, with the interface of our own."""

from llmbert.text.foreign.tokeniser import FOREIGN, ForeignTokeniser, load_tokeniser

__all__ = ["FOREIGN", "ForeignTokeniser", "load_tokeniser"]
