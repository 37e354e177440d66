"""What can go wrong in a benchmark: one row fails and says why, the others are measured."""


class BenchError(Exception):
    """A row cannot be measured."""


class PeerFailed(BenchError):
    """The peer did not start, refused, or answered with something else than success."""
