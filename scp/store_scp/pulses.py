"""Whether a process of the receiver hangs, told by its heartbeats. Pure.

What counts are the supervisor's checks, not seconds. A machine that was suspended or a container
that was paused stops the supervisor, too: however long that took, it is one check, and everybody
has three more to show that they live.
"""

from dataclasses import dataclass, replace
from typing import Self

# Between two checks.
CHECK_SECONDS = 5.0
# So many checks on end without a new heartbeat (20 s) are no pause of the garbage collector and no
# disk that is slow; a worker beats every quarter of a second, the health process every tenth.
_MISSED = 4
# Before its first heartbeat (60 s): many start at once on a CPU that is busy.
_MISSED_AT_START = 12


@dataclass(frozen=True, slots=True)
class Pulse:
    """The heartbeat of one process as it was at the last check; begin with that at its start."""

    beat_at: float
    missed: int = 0
    begun: bool = False

    def checked(self, beat_at: float) -> Self:
        """After one check more."""
        if beat_at != self.beat_at:
            return replace(self, beat_at=beat_at, missed=0, begun=True)
        return replace(self, missed=self.missed + 1)

    @property
    def stalled(self) -> bool:
        """Whether the process hangs, or is stopped."""
        return self.missed >= (_MISSED if self.begun else _MISSED_AT_START)
