"""To whom a batch belongs: what its lease allows, and when it is renewed.

Pure. A grant counts from the moment *before* its request was sent, by the holder's own clock; the
table's record says the same moment in wall time, plus a grace that recovery waits on top of it. So
as long as a lease holds, no recovery has looked at what is in the batch yet: an instance that
became durable by then will be in the manifest, whoever writes it. That is what an acknowledgement
needs, and all it needs; it may be sent much later.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Self

# The lease is renewed after a third of it, so that two renewals may fail before it runs out.
_RENEWALS_PER_LEASE = 3
# Between two attempts at a table that does not answer. Also how long a peer's retries are refused
# after it answers again.
_PAUSE = 1.0


class Standing(Enum):
    """Whose a batch was at some moment."""

    OURS = auto()
    UNKNOWN = auto()  # the lease was over, and only a renewal can tell whether recovery came
    RECOVERYS = auto()


@dataclass(frozen=True, slots=True)
class Lease:
    """One batch's lease, in seconds of the holder's clock; ``until`` the end of the last grant.

    ``failure`` is why the last request had no answer, in a word; None once one has.
    """

    seconds: float
    until: float = -math.inf
    renews_at: float = -math.inf
    lost: bool = False
    failure: str | None = None

    @classmethod
    def endless(cls) -> Self:
        """What takes a lease's place where nobody recovers batches."""
        return cls(math.inf, math.inf, math.inf)

    def standing(self, moment: float) -> Standing:
        """Whose the batch was at ``moment``, for example when a PUT's answer had arrived.

        A renewal granted after the lease ran out covers the gap as well: recovery takes a batch
        for good, so it has not come before.
        """
        if self.lost:
            return Standing.RECOVERYS
        return Standing.OURS if moment < self.until else Standing.UNKNOWN

    def granted(self, asked_at: float) -> "Lease":
        """The table took the request that was sent just after ``asked_at``."""
        renews_at = asked_at + self.seconds / _RENEWALS_PER_LEASE
        return Lease(self.seconds, asked_at + self.seconds, renews_at)

    def denied(self) -> "Lease":
        """The record is not ours, or not OPEN, any more: it will never be again."""
        return replace(self, lost=True, failure=None)

    def unanswered(self, now: float, failure: str) -> "Lease":
        """Nobody knows whether the table took the request: what is held stays, no more is."""
        return replace(self, renews_at=now + _PAUSE, failure=failure)
