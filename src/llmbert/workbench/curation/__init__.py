"""Text, and what is to be known and done of it before a run learns from it and after."""
