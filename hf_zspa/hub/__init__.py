"""Publishing a checkpoint on the Hub."""
