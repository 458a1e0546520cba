"""Text and what is to be known of it before, and after, a run learns from it."""
