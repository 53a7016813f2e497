"""Pictures of what is kept, for people."""
