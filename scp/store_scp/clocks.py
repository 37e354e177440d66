"""The clocks of a worker: the steady one, and AWS's time by it.

The shell around :mod:`store_scp.server_time`, where the theory is.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from store_scp.server_time import Measured, Origin, parse_date

# A burst of answers says nothing that one does not.
_PAUSE = 1.0
_NEVER = datetime.fromtimestamp(0, UTC)


def clock() -> float:
    """Seconds that also pass while the machine is suspended, unlike Linux's monotonic clock's."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def system_clock() -> float:
    """This machine's time of day, right or wrong, in seconds since 1970."""
    return time.time()


class ServerClock:
    """AWS's time; before an answer has told it, the system's.

    Any thread may read it; ``answered`` is for one thread only.
    """

    def __init__(
        self,
        system: Callable[[], float] = system_clock,
        steady: Callable[[], float] = clock,
    ) -> None:
        """``system`` and ``steady`` are this machine's clocks, in seconds."""
        self._system = system
        self._steady = steady
        self._measured = Measured()
        self._next = 0.0

    @property
    def known(self) -> bool:
        """Whether an answer with a ``Date`` has come."""
        return self._measured.origin is not None

    def steady(self) -> float:
        """The steady clock: what ``answered`` wants to know of a request's beginning."""
        return self._steady()

    def answered(self, date: str | None, asked_at: float, *, always: bool = False) -> None:
        """S3 or DynamoDB answers a request that was sent at ``asked_at`` or later.

        One answer in a second is measured; with ``always``, this one, too.
        """
        now = self._steady()
        if date is None or (now < self._next and not always):
            return
        seconds = parse_date(date)
        if seconds is None or asked_at > now:
            return
        self._measured = self._measured.after(Origin.of_answer(seconds, asked_at, now))
        # Whoever is doubted is heard again at once.
        self._next = now if self._measured.doubt else now + _PAUSE

    def seconds(self) -> float:
        """Now, in seconds since 1970."""
        origin = self._measured.origin
        return self._system() if origin is None else origin.middle + self._steady()

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def latest(self) -> datetime:
        """What now may be at the latest, in UTC."""
        origin = self._measured.origin
        if origin is None:
            return self.now()
        now = self._steady()
        return datetime.fromtimestamp(origin.aged(now).latest + now, UTC)

    def expiry_time(self) -> datetime:
        """Now, for who asks whether something has expired: nothing has while nobody knows."""
        return self.now() if self.known else _NEVER

    def offset(self) -> float | None:
        """Seconds that the system's clock is ahead of AWS's; None if that is not known."""
        return self._system() - self.seconds() if self.known else None
