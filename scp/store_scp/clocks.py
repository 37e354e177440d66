"""The clocks of a worker: the steady one, and AWS's time by it.

The shell around :mod:`store_scp.server_time`, where the theory is.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from store_scp.server_time import LARGE_OFFSET, SMALL_OFFSET, Measured, Origin, parse_date

# One answer in a second is enough, unless its Date is another.
_PAUSE = 1.0
# Without an answer for so long, one is wanted.
_LONG_SILENCE = 300.0
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
        self._date = ""
        self._next = 0.0
        self._measured_at = 0.0
        self._offset: float | None = None
        self._unconfirmed: float | None = None

    @property
    def known(self) -> bool:
        """Whether an answer with a ``Date`` has come."""
        return self._measured.origin is not None

    def steady(self) -> float:
        """The steady clock: what ``answered`` wants to know of a request's beginning."""
        return self._steady()

    def answered(self, date: str | None, asked_at: float, *, always: bool = False) -> None:
        """S3 or DynamoDB answers a request that was sent at ``asked_at`` or later.

        Each new Date is measured, and the same one again after a second; with ``always``, at once.
        """
        now = self._steady()
        if date is None or (date == self._date and now < self._next and not always):
            return
        seconds = parse_date(date)
        if seconds is None or asked_at > now:
            return
        self._measured = self._measured.after(Origin.of_answer(seconds, asked_at, now))
        self._date, self._measured_at = date, now
        # While an answer contradicts the others, every answer is measured.
        self._next = now if self._measured.doubt else now + _PAUSE
        if not self._measured.doubt:
            self._compare(self._system() - self.seconds())

    def seconds(self) -> float:
        """Now, in seconds since 1970."""
        origin = self._measured.origin
        return self._system() if origin is None else origin.middle + self._steady()

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def latest(self) -> datetime:
        """The latest that AWS's time can be now, in UTC."""
        latest = self._measured.latest(self._steady())
        return self.now() if latest is None else datetime.fromtimestamp(latest, UTC)

    def expiry_time(self) -> datetime:
        """The time that expiries are compared with.

        1970 while AWS's time is unknown, so that nothing counts as expired.
        """
        return self.now() if self.known else _NEVER

    def offset(self) -> float | None:
        """Seconds that the system's clock is ahead of AWS's, as the last answers showed it.

        A large one takes two answers that agree; None before that. Where the two clocks have moved
        apart since, either may be wrong: ``wants_answer`` says so, and the next answers decide.
        """
        return self._offset

    def wants_answer(self) -> bool:
        """Whether S3 should be asked for the time, if no request asks it anyway."""
        if self._offset is None or self._measured.doubt:
            return True
        if self._steady() - self._measured_at >= _LONG_SILENCE:
            return True
        return abs(self._system() - self.seconds() - self._offset) > SMALL_OFFSET

    def _compare(self, offset: float) -> None:
        """Note the offset as an answer shows it."""
        before, self._unconfirmed = self._unconfirmed, offset
        confirmed = before is not None and abs(offset - before) <= SMALL_OFFSET
        if confirmed or abs(offset) <= LARGE_OFFSET:
            self._offset = offset
