"""A model and its text → evidence: where what it writes comes from."""
