"""Files to documents, documents to shards of token ids, shards to batches."""
