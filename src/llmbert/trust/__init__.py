"""A model → evidence: what it memorised, whose text it was, where a sentence came from, who wrote it."""
