"""Where import jobs are kept, and how a list of them is cut into pages."""

import base64
import binascii
import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from chalicelib.errors import BadParameter
from contract.records import JobRecord, JobStatus
from contract.times import from_iso, to_iso

_MAX_CURSOR = 8_192


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of ``submittedAt``, both inclusive; None is open."""

    since: datetime | None = None
    until: datetime | None = None


class JobStore(Protocol):
    """Import jobs by id, by status and by study. Lists come newest first."""

    def get(self, job_id: str) -> JobRecord | None:
        """The job, or None."""
        ...

    def create(self, job: JobRecord) -> bool:
        """Keep a new job; False, and nothing changed, if there is one of this id."""
        ...

    def put(self, job: JobRecord) -> bool:
        """Keep or replace a job; False, and nothing changed, if the one kept has ended."""
        ...

    def correct(self, job: JobRecord) -> bool:
        """The same for a job that may be kept as FAILED; False if it is COMPLETED."""
        ...

    def by_status(self, status: JobStatus, window: Window, limit: int) -> list[JobRecord]:
        """At most ``limit`` jobs of one status."""
        ...

    def by_study(
        self, study_instance_uid: str, status: JobStatus | None, window: Window, limit: int
    ) -> list[JobRecord]:
        """At most ``limit`` jobs of one study, of one status if given."""
        ...


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the last ``submittedAt`` on it, and the jobs given with just that time.

    The ids keep jobs of one and the same time from being lost or given twice.
    """

    last: datetime
    seen: tuple[str, ...]

    def __str__(self) -> str:
        document = json.dumps({"t": to_iso(self.last), "seen": self.seen}, separators=(",", ":"))
        return base64.urlsafe_b64encode(document.encode()).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The inverse of ``str``; raises BadParameter."""
        try:
            if len(text) > _MAX_CURSOR:
                raise ValueError("too long")
            document = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
            last, seen = from_iso(document["t"]), document["seen"]
            if not all(isinstance(job_id, str) for job_id in seen):
                raise TypeError("not a list of ids")
            return cls(last, tuple(seen))
        except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
            raise BadParameter("cursor", "not a nextCursor of this API") from None


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are asked for."""

    status: JobStatus | None = None
    study_instance_uid: str | None = None
    window: Window = Window()


def page(
    store: JobStore, query: JobQuery, limit: int, cursor: Cursor | None = None
) -> tuple[list[JobRecord], Cursor | None]:
    """At most ``limit`` jobs, newest first, and the cursor of the next page if there is one."""
    given = cursor.seen if cursor else ()
    window = replace(query.window, until=_earlier(query.window.until, cursor))
    # One more than fits tells whether there is a next page.
    jobs = _newest(store, query, window, limit + 1 + len(given))
    fresh = [
        job
        for job in jobs
        if not (cursor and job.submitted_at == cursor.last and job.job_id in given)
    ]
    shown = fresh[:limit]
    if len(fresh) <= limit:
        return shown, None
    last = shown[-1].submitted_at
    carried = given if cursor and cursor.last == last else ()
    seen = (*carried, *(job.job_id for job in shown if job.submitted_at == last))
    return shown, Cursor(last, seen)


def _earlier(until: datetime | None, cursor: Cursor | None) -> datetime | None:
    times = [time for time in (until, cursor.last if cursor else None) if time is not None]
    return min(times, default=None)


def _newest(store: JobStore, query: JobQuery, window: Window, limit: int) -> list[JobRecord]:
    if query.study_instance_uid is not None:
        return store.by_study(query.study_instance_uid, query.status, window, limit)
    # In the order of a job's life: one that moves on meanwhile is met twice, never missed.
    statuses = list(JobStatus) if query.status is None else [query.status]
    found = {
        job.job_id: job for status in statuses for job in store.by_status(status, window, limit)
    }
    return newest_first(found.values(), limit)


def newest_first(jobs: Iterable[JobRecord], limit: int) -> list[JobRecord]:
    """The ``limit`` latest submitted; job ids break ties, so that the order is total."""
    return heapq.nlargest(limit, jobs, key=lambda job: (job.submitted_at, job.job_id))
