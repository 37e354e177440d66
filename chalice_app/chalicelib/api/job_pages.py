"""Import jobs as a list: newest first, page after page; all, of one status, or of one study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import dropwhile

from chalicelib.stores import Stores
from chalicelib.stores.jobs import job_id_of, list_key
from chalicelib.stores.pages import page as cut
from contract.records import JobRecord, JobStatus
from contract.times import to_iso

_EARLIEST = "0"
_LATEST = "9999-12-31T23:59:59.999999Z"
# Behind every job id: those of HealthImaging and of batches have letters, digits and dashes.
_BEHIND = "~"


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of ``submittedAt``, both inclusive; None is open."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are asked for."""

    status: JobStatus | None = None
    study_instance_uid: str | None = None
    window: Window = Window()


def page(
    stores: Stores, query: JobQuery, limit: int, cursor: str | None = None
) -> tuple[list[JobRecord], str | None]:
    """At most ``limit`` jobs, and the cursor of the next page if there is one.

    A job of several studies is in the list of each.
    """

    def fetch(keys: Sequence[str]) -> Mapping[str, JobRecord]:
        found = stores.jobs.get_many(list(dict.fromkeys(map(job_id_of, keys))))
        # A study may have been linked with a job that was then recorded with another time.
        return {list_key(job): job for job in found.values()}

    def wanted(job: JobRecord) -> bool:
        return query.status in (None, job.job_status)

    low = to_iso(query.window.since) if query.window.since else _EARLIEST
    latest = to_iso(query.window.until) if query.window.until else _LATEST
    high = min(f"{latest}#{_BEHIND}", cursor or _LATEST)
    if query.study_instance_uid is None:
        keys = stores.jobs.keys(query.status, low, high)
    else:
        keys = stores.studies.job_keys(query.study_instance_uid, low, high)
    return cut(dropwhile(lambda key: key == cursor, keys), fetch, wanted, limit)
