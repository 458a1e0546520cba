"""Evidence about models and their texts."""
