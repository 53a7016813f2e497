"""Publishing a checkpoint on the Hub."""


class Interrupted(Exception):
    """Ctrl-C in a push; it says what was published up to there, and what to do."""
