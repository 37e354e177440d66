"""To whom a batch belongs: what its lease allows, and when it is renewed.

Pure. A lease holds as long as two clocks allow it. By the holder's steady clock, a grant counts
from the moment *before* its request was sent. By AWS's time, it ends at the end that was written
into the record: once AWS's time may be past that, the holder does not call the batch its own, since
a steady clock may have missed time (``server_time.py``). Recovery waits a grace after the record's
end. So as long as a lease holds, no recovery has listed the batch yet: an instance that became
durable by then will be in the manifest, whoever writes it. That is what an acknowledgement needs,
and all it needs; it may be sent much later.
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
    # The lease was over by one of the clocks, and only a renewal shows whether recovery came.
    UNKNOWN = auto()
    RECOVERYS = auto()


@dataclass(frozen=True, slots=True)
class Lease:
    """One batch's lease of so many ``seconds``, as the last grant left it.

    ``until`` and ``renews_at`` are moments of the holder's steady clock: the grant's end, and when
    the next request is due. ``ends_at`` is the end in the table's record, in AWS's time (seconds
    since 1970). ``failure`` is why the last request had no answer, in a word; None once one has.
    """

    seconds: float
    until: float = -math.inf
    ends_at: float = -math.inf
    renews_at: float = -math.inf
    lost: bool = False
    failure: str | None = None

    @classmethod
    def endless(cls) -> Self:
        """What takes a lease's place where nobody recovers batches."""
        return cls(math.inf, math.inf, math.inf, math.inf)

    def standing(self, moment: float, latest: float) -> Standing:
        """Whose the batch was at ``moment``, for example when a PUT's answer had arrived.

        ``latest`` is the latest that AWS's time can have been at that moment. A renewal granted
        after the lease ran out covers the gap as well: recovery takes a batch for good, so it has
        not come before.
        """
        if self.lost:
            return Standing.RECOVERYS
        holds = moment < self.until and latest <= self.ends_at
        return Standing.OURS if holds else Standing.UNKNOWN

    def granted(self, asked_at: float, ends_at: float, now: float, latest: float) -> "Lease":
        """The table took the request that was sent just after ``asked_at``, and wrote ``ends_at``.

        ``now`` and ``latest`` (the latest that AWS's time can be) are those after its answer, which
        may have shown that the end was written by a wrong time. The lease is renewed once a third
        of it is over by either clock: at once, if too little of it is left.
        """
        until = asked_at + self.seconds
        left = min(until - now, ends_at - latest)
        due_at = now + left - self.seconds + self.seconds / _RENEWALS_PER_LEASE
        return Lease(self.seconds, until, ends_at, max(due_at, self._soonest()))

    def hurried(self, now: float) -> "Lease":
        """Somebody waits for a renewal: one that is not due yet becomes due."""
        return replace(self, renews_at=min(self.renews_at, max(now, self._soonest())))

    def denied(self) -> "Lease":
        """The record is not ours, or not OPEN, any more: it will never be again."""
        return replace(self, lost=True, failure=None)

    def unanswered(self, now: float, failure: str) -> "Lease":
        """Nobody knows whether the table took the request: what is held stays, no more is."""
        return replace(self, renews_at=now + _PAUSE, failure=failure)

    def _soonest(self) -> float:
        """When to ask again at the earliest, even if every answer contradicts the others."""
        return self.until - self.seconds + _PAUSE
