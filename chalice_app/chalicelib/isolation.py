"""A loop over subjects of which each may fail, and none stops another.

What AWS or time will mend (ServiceUnavailable) is tried again in the next run, and the run raises
at its end. Everything else blocks its subject (``stores.blocked``): it is logged, recorded for
``GET /blocked``, counted, told as an event, and skipped until its next try.
"""

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import structlog
from botocore.exceptions import ClientError

from chalicelib.aws import error_code
from chalicelib.errors import ServiceUnavailable
from chalicelib.events.facts import blocked_event
from chalicelib.logs import describe
from chalicelib.stores.blocked import Blocked, BlockedStore, Work, failed_again
from chalicelib.stores.outbox import Outbox
from contract.errors import ProductError

# Batch ids, digests and the keys of events. A study's subject is its UID, which no log may have.
_PLAIN = re.compile(r"[0-9A-Za-z:-]+", re.ASCII)
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
        self._unavailable = 0

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
            return self.attempt_once(subject, do)
        except ServiceUnavailable as error:
            self._unavailable += 1
            _log.warning(
                "work_put_off", work=self._work, subject=_for_log(subject), reason=str(error)
            )
            return None

    def attempt_once(self, subject: str, do: Callable[[], Result]) -> Result | None:
        """The same as a part of an attempt: raises ServiceUnavailable."""
        try:
            return do()
        except ServiceUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - its neighbours must not suffer for it
            self.block(subject, error)
            return None

    def block(self, subject: str, error: Exception) -> None:
        """Record that the work on a subject failed, for a reason that time does not change."""
        block(self._work, subject, error, self._records, self._outbox, self._now())

    def succeeded(self, subject: str) -> None:
        """The work on a subject is done: if it was blocked, it is no more."""
        if subject in self._next_tries:
            self._records.remove(self._work, subject)
            _log.info("work_unblocked", work=self._work, subject=_for_log(subject))

    def forget_others(self) -> None:
        """Remove the records of subjects that are gone; for a run that asked about all there are.

        See ``is_due``.
        """
        for subject in self._next_tries.keys() - self._asked:
            self._records.remove(self._work, subject)

    def finish(self) -> None:
        """Raises ServiceUnavailable if a subject was put off because AWS did not answer."""
        if self._unavailable:
            raise ServiceUnavailable(f"{self._work}: {self._unavailable} subjects were put off")


def block(
    work: Work,
    subject: str,
    error: Exception,
    records: BlockedStore,
    outbox: Outbox,
    now: datetime,
) -> None:
    """Record that the work on a subject failed, for a reason that time does not change."""
    reason, why = explain(error)
    _log.warning("work_blocked", work=work, subject=_for_log(subject), reason=reason, why=why)
    try:
        known = records.get(work, subject)
        record = failed_again(known, Blocked(work, subject, reason, why, now, now, now))
        records.put(record)
        # What cannot be announced is not announced: its event would fail as well.
        if known is None and work is not Work.ANNOUNCEMENT:
            outbox.keep(blocked_event(record))
    except ServiceUnavailable as unavailable:  # the log has it, and the next try records it
        _log.warning("block_not_recorded", work=work, reason=str(unavailable))


def explain(error: Exception) -> tuple[str, str]:
    """An error's name, and what a record may say of it: never text that somebody else chose."""
    if isinstance(error, ProductError):
        return type(error).__name__, str(error)
    if isinstance(error, ClientError):
        return type(error).__name__, f"{error.operation_name}: {error_code(error)}"
    return type(error).__name__, describe(error)["where"]


def _for_log(subject: str) -> str:
    if _PLAIN.fullmatch(subject):
        return subject
    return hashlib.sha256(subject.encode()).hexdigest()
