"""Methods of selection by name, and the pruners that do not travel in a checkpoint."""
