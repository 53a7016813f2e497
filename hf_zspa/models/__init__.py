"""Models in memory that prune, of checkpoints that do not."""
