"""Text before a training: what it holds, and what of it should stay."""
