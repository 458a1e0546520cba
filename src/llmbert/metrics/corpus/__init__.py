"""Counts of a corpus → what they say: laws of words, lengths, entropy, dependence, collocations, divergence."""
