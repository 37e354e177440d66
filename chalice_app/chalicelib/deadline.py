"""When an invocation has to be over: each part of its work begins only what fits before that.

Lambda ends a function at its timeout, whatever it is doing. So a loop asks its deadline, less what
one more turn may take, before each turn; what does not fit is left where the next invocation finds
it: in the queue, in the dropbox, in the tables.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

# For Lambda's own end of an invocation: logs, traces, the answer to the event source.
_EXIT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Deadline:
    """``ends_at`` is when nothing may be running any more; the invocation began ``began_at``.

    What is made of one, began when it did.
    """

    ends_at: datetime
    began_at: datetime | None = None

    @classmethod
    def of(cls, context: object, now: datetime) -> Self:
        """What Lambda has left for the invocation, by its context.

        There is none where a handler is called by something else than Lambda: then no part has a
        limit but its own. https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
        """
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        if remaining is None:
            return cls(UNBOUNDED.ends_at)
        return cls(now + timedelta(milliseconds=remaining()) - _EXIT, now)

    def less(self, needed: timedelta) -> Self:
        """The last moment to begin what may take ``needed``.

        A function whose timeout is shorter than that begins work in its first quarter all the same:
        most of it takes less, and to begin nothing would be to stand still for ever.
        """
        last = self.ends_at - needed
        if self.began_at is not None:
            last = max(last, self.began_at + (self.ends_at - self.began_at) / 4)
        return replace(self, ends_at=last)

    def within(self, most: timedelta, began: datetime) -> Self:
        """This one, or the end of ``most`` after ``began``, whichever is earlier."""
        return replace(self, ends_at=min(self.ends_at, began + most))

    def left(self, now: datetime) -> timedelta:
        """How much time there is; none once it is over."""
        return max(self.ends_at - now, timedelta(0))

    def is_over(self, now: datetime) -> bool:
        """Whether nothing may be begun any more."""
        return now >= self.ends_at


UNBOUNDED = Deadline(datetime.max.replace(tzinfo=UTC))
