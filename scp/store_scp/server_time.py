"""What time it is at S3 and DynamoDB, from the ``Date`` of their answers.

Sans-I/O. The theory, which ``clocks.py`` puts into effect:

Two clocks of this machine are read. The *system's clock* gives the time of day; it may be wrong,
and may be set at any moment. The *steady clock* counts seconds since the machine started; nobody
sets it, and it counts on while the machine is suspended. So nothing here is reckoned from the
system's clock: the time at AWS is the steady clock's plus a constant, the *origin*, AWS's time when
the steady clock read 0.

One answer bounds the origin. Its ``Date`` is d, in whole seconds (RFC 9110 6.6.1); the request was
sent at a and the answer had arrived at b of the steady clock. At a moment t between a and b, AWS's
time was t + origin, and not before d nor after d + 1. So::

    d - b  <=  origin  <=  d + 1 - a

which is as exact as the request's round trip plus a second. Two more things widen it: ``Date`` may
be rounded, and AWS's servers may differ, for which a second is allowed at either end
(``DATE_ERROR``); and the steady clock runs fast or slow with its quartz, which moves the origin by
at most ``DRIFT`` of the time since the answer.

All answers bound the same origin, so it is in the intersection of their intervals. If the next
interval has nothing in common with that, somebody is wrong: this answer (an endpoint may lie), or
all before it (the steady clock missed time, as where a virtual machine is stopped and resumed). The
interval of such an answer is the *doubt*. Signatures, batch ids and the times in records get the
middle of the origin, which one doubt does not move; a second answer that agrees with the doubt
replaces the origin.

Leases cannot wait for that second answer. They go by the *latest* time that AWS's can be, the later
end of origin and doubt. After an answer with the Date d, the latest time is not before d (by more
than ``DATE_ERROR``), whatever the steady clock missed. A lease's end is written as the latest time
plus the lease, and the lease does not count any more once the latest time has passed the end that
was written (``leases.py``). So an object whose PUT was answered while the lease counted was there,
by S3's Date, before the record's lease was over. If the doubt was wrong, the record has too late an
end until the next renewal.

Which clocks decide about a lease, then: the holder's steady clock; AWS's time, in the record; and
the clock of the Lambda function ``recover_batches``, which is AWS's own (Lambda's machines follow
Amazon Time Sync) and is believed. The record errs by the width of the interval at most, on the late
side, and Lambda's clock by much less than a second. RECOVERY_GRACE_SECONDS (120) is a hundred times
that; most of it is for PUTs that stall.
"""

import calendar
import re
from dataclasses import dataclass, replace

# How wrong an answer's Date may be, in seconds, beyond its resolution.
DATE_ERROR = 1.0
# Of the steady clock: twice the 500 ppm by which Linux speeds or slows it to follow a server
# (adjtimex(2)). A quartz alone is ten times better.
DRIFT = 0.001

# From here on the system's clock is called wrong: half of recovery's grace, and a fifteenth of what
# S3 and DynamoDB tolerate in a signature.
LARGE_OFFSET = 60.0
# And right again from here, so that an offset at the limit is told of once.
SMALL_OFFSET = LARGE_OFFSET / 2

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Years that every calculation with them survives.
_IMF_FIXDATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) (2[01][0-9]{2}) "
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60) GMT",
    re.ASCII,
)


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of an HTTP ``Date``; None if it is none of the years 2000 to 2199.

    Only the form that servers must send, ``Sun, 06 Nov 1994 08:49:37 GMT`` (RFC 9110 5.6.7).
    """
    found = _IMF_FIXDATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, year = int(found[1]), int(found[3])
    month = _MONTHS.index(found[2]) + 1
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, int(found[4]), int(found[5]), int(found[6])))


@dataclass(frozen=True, slots=True)
class Origin:
    """AWS's time when the steady clock read 0: between two moments, in seconds since 1970.

    As it was known at ``measured_at`` of the steady clock.
    """

    earliest: float
    latest: float
    measured_at: float

    @classmethod
    def of_answer(cls, date: int, asked_at: float, answered_at: float) -> "Origin":
        """From one answer; see above. The moments are the steady clock's."""
        return cls(
            date - DATE_ERROR - answered_at,
            date + 1 + DATE_ERROR - asked_at,
            answered_at,
        )

    @property
    def middle(self) -> float:
        """The best guess."""
        return (self.earliest + self.latest) / 2

    def aged(self, now: float) -> "Origin":
        """As it is known at ``now``, without another answer since."""
        drifted = DRIFT * max(0.0, now - self.measured_at)
        return Origin(self.earliest - drifted, self.latest + drifted, max(now, self.measured_at))

    def combined(self, other: "Origin") -> "Origin | None":
        """What both allow; None if that is nothing."""
        now = max(self.measured_at, other.measured_at)
        one, two = self.aged(now), other.aged(now)
        earliest, latest = max(one.earliest, two.earliest), min(one.latest, two.latest)
        return Origin(earliest, latest, now) if earliest <= latest else None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the answers so far say. ``doubt``: what one says that contradicts all before it."""

    origin: Origin | None = None
    doubt: Origin | None = None

    def latest(self, now: float) -> float | None:
        """The latest that AWS's time can be at ``now``; None before the first answer.

        A doubt counts where it is later: a lease that is written too long costs time, one that is
        written too short costs images.
        """
        known = [each for each in (self.origin, self.doubt) if each is not None]
        return max((each.aged(now).latest + now for each in known), default=None)

    def after(self, answer: Origin) -> "Measured":
        """What they say with one more."""
        if self.origin is None:
            return Measured(answer)
        if agreed := self.origin.combined(answer):
            return Measured(agreed)
        if self.doubt and (confirmed := self.doubt.combined(answer)):
            return Measured(confirmed)
        return replace(self, doubt=answer)


@dataclass(frozen=True, slots=True)
class OffsetState:
    """Whether the system's clock is called wrong, for who tells of it once."""

    large: bool = False

    def seen(self, offset: float) -> "OffsetState":
        """The clock is so many seconds ahead (or, below 0, behind)."""
        return OffsetState(abs(offset) > (SMALL_OFFSET if self.large else LARGE_OFFSET))
