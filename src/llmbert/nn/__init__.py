"""tensor → tensor: attention, recurrence, positions, norms, feed-forward layers and the key-value cache."""
