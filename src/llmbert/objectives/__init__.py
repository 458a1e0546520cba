"""model, batch → loss: named terms, each a (sum, count) of its own, so that any accumulation equals the full batch."""
