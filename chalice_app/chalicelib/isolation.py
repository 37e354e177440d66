"""A loop over subjects of which each may fail, and none stops another.

What AWS or time will mend (ServiceUnavailable) is tried again, and the run raises at its end.
Everything else blocks its subject (``stores.blocked``): the error is logged, recorded for
``GET /blocked``, counted, and told as an event; the subject is skipped until its next try. If AWS
gives no answer about a subject, but about others, the subject is recorded without an event.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import TypeVar

import structlog
from botocore.exceptions import ClientError

from chalicelib.aws import error_code
from chalicelib.errors import ServiceUnavailable
from chalicelib.events.facts import blocked_event
from chalicelib.logs import describe, named
from chalicelib.stores.blocked import Blocked, BlockedStore, Work, failed_again
from chalicelib.stores.outbox import Outbox
from contract.errors import ProductError

# Of those that AWS gives no answer about, in one run.
_MOST_RECORDED = 100
_log = structlog.get_logger()

Result = TypeVar("Result")


class Isolation:
    """One run over the subjects of one kind of work. Its methods may be called in threads."""

    def __init__(
        self, work: Work, records: BlockedStore, outbox: Outbox, now: Callable[[], datetime]
    ) -> None:
        self._work = work
        self._records = records
        self._outbox = outbox
        self._now = now
        self._next_tries = records.next_tries(work)
        self._asked: set[str] = set()
        self._put_off: dict[str, ServiceUnavailable] = {}
        self._answered = False

    def is_due(self, subject: str) -> bool:
        """Whether the subject is to be tried now: it is not blocked, or its pause is over."""
        self._asked.add(subject)
        next_try = self._next_tries.get(subject)
        return next_try is None or next_try <= self._now()

    def due(self) -> list[str]:
        """The blocked subjects that are to be tried now."""
        return [subject for subject in self._next_tries if self.is_due(subject)]

    def attempt(self, subject: str, do: Callable[[], Result]) -> Result | None:
        """What ``do`` returns; None if the subject is blocked now, or AWS does not answer."""
        try:
            result = do()
        except ServiceUnavailable as error:
            self._put_off[subject] = error
            _log.warning("work_put_off", work=self._work, subject=named(subject), reason=str(error))
            return None
        except Exception as error:  # noqa: BLE001 - its neighbours must not suffer for it
            self.block(subject, error)
            return None
        self._answered = True
        return result

    def block(self, subject: str, error: Exception) -> None:
        """Record that the work on a subject failed, for a reason that time does not change."""
        # What cannot be announced is not announced: its event would fail as well.
        is_told = self._work is not Work.ANNOUNCEMENT and not isinstance(error, ServiceUnavailable)
        block(self._work, subject, error, self._records, self._outbox, self._now(), is_told=is_told)

    def succeeded(self, subject: str) -> None:
        """The work on a subject is done: if it was blocked, it is no more."""
        if subject in self._next_tries:
            self._records.remove(self._work, subject)
            _log.info("work_unblocked", work=self._work, subject=named(subject))

    def forget_others(self) -> None:
        """Remove the records of subjects that are gone; for a run that asked about all there are.

        See ``is_due``.
        """
        for subject in self._next_tries.keys() - self._asked:
            self._records.remove(self._work, subject)

    def finish(self) -> None:
        """Raises ServiceUnavailable if a subject was put off because AWS did not answer.

        If AWS has answered about others, these are recorded as blocked, so that somebody sees them
        if that lasts; in an outage, none is.
        """
        if self._answered:
            for subject, error in islice(self._put_off.items(), _MOST_RECORDED):
                self.block(subject, error)
        if self._put_off:
            raise ServiceUnavailable(f"{self._work}: {len(self._put_off)} subjects were put off")


def block(
    work: Work,
    subject: str,
    error: Exception,
    records: BlockedStore,
    outbox: Outbox,
    now: datetime,
    *,
    is_told: bool = True,
) -> None:
    """Record that the work on a subject failed, and tell it as an event. Raises nothing."""
    reason, why = explain(error)
    _log.warning("work_blocked", work=work, subject=named(subject), reason=reason, why=why)
    try:
        known = records.get(work, subject)
        failure = Blocked(work, subject, reason, why, now, now, now)
        record = failed_again(known, failure, grows=not isinstance(error, ServiceUnavailable))
        # Before the record: an event is kept once, and a record that is there tells of one.
        if known is None and is_told:
            outbox.keep(blocked_event(record))
        records.put(record)
    except Exception as another:  # noqa: BLE001 - the log has it, and the next try records it
        _log.warning("block_not_recorded", work=work, **describe(another))


def explain(error: Exception) -> tuple[str, str]:
    """An error's name, and what a record may say of it: never text that somebody else chose."""
    if isinstance(error, ProductError):
        return type(error).__name__, str(error)
    if isinstance(error, ClientError):
        return type(error).__name__, f"{error.operation_name}: {error_code(error)}"
    return type(error).__name__, describe(error)["where"]
