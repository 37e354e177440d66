"""Records as the REST API shows them: the attributes of the tables, times in ISO 8601 UTC.

A Lambda answers with at most 6 MB. Whatever may grow is cut here, beside a count of all of it, so
that a page of the most entries stays far below that.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chalicelib.operations.journal import Entry
from chalicelib.stores.blocked import Blocked
from chalicelib.stores.items import batch_item, instance_item, job_item
from contract.records import BatchRecord, InstanceRecord, InstanceState, JobRecord
from contract.times import to_iso

Json = dict[str, Any]
# How many instances of each kind one answer about a study lists; the counts are of all.
MAX_LISTED = 100
MAX_IDS = 1_000
# How many image sets a job in a list of jobs names.
MAX_IMAGE_SETS = 100


def job_view(job: JobRecord) -> Json:
    """One import job."""
    return job_item(job) | {"imageSetCount": len(job.image_set_ids)}


def listed_job_view(job: JobRecord) -> Json:
    """One import job among others."""
    view = job_view(job)
    if job.image_set_ids:
        view["imageSetIds"] = view["imageSetIds"][:MAX_IMAGE_SETS]
    return view


def instance_view(row: InstanceRecord) -> Json:
    """One instance."""
    return instance_item(row)


def batch_view(batch: BatchRecord) -> Json:
    """One batch among others."""
    return batch_item(batch)


def repeated_batch_view(batch: BatchRecord, request: Entry | None, retry: Entry | None) -> Json:
    """One batch: for which request it was made, if for one; and why it was retried, if it was."""
    view = batch_view(batch) | request_view(request)
    if retry is None:
        return view
    asked = {"retryReason": retry.reason, "retryRequestedAt": to_iso(retry.requested_at)}
    return view | asked


def request_view(request: Entry | None) -> Json:
    """The request that a batch was made for, as a member of the batch or its instances."""
    if request is None:
        return {}
    return {
        "request": {
            "kind": request.kind,
            "reason": request.reason,
            "requestedAt": to_iso(request.requested_at),
        }
    }


def blocked_view(record: Blocked) -> Json:
    """What cannot be handled until somebody changes something."""
    return {
        "work": str(record.work),
        "subject": record.subject,
        "reason": record.reason,
        "why": record.why,
        "since": to_iso(record.since),
        "triedAt": to_iso(record.tried_at),
        "nextTryAt": to_iso(record.next_try_at),
        "tries": record.tries,
    }


def entry_view(entry: Entry) -> Json:
    """What an operator's request has become."""
    return {
        "batchId": entry.batch_id,
        "reason": entry.reason,
        "requestedAt": to_iso(entry.requested_at),
    }


@dataclass(slots=True)
class _Study:
    states: Counter[InstanceState] = field(default_factory=Counter)
    jobs: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    failed: list[Json] = field(default_factory=list)
    conflicts: list[Json] = field(default_factory=list)
    contents: dict[str, set[str]] = field(default_factory=dict)
    non_primary: int = 0

    def add(self, row: InstanceRecord) -> None:
        known = self.contents.setdefault(row.instance, set())
        is_other = bool(known) and row.content not in known
        known.add(row.content)
        self.states[row.state] += 1
        self.batches.add(row.batch_id)
        self.jobs.update([row.job_id] if row.job_id else [])
        self.non_primary += row.is_primary is False
        _list(self.failed, row, row.state is InstanceState.FAILED)
        _list(self.conflicts, row, is_other)


def _list(views: list[Json], row: InstanceRecord, wanted: bool) -> None:
    if wanted and len(views) < MAX_LISTED:
        views.append(instance_view(row))


def study_view(study_instance_uid: str, rows: Iterable[InstanceRecord]) -> Json:
    """A study: what was received of it, and how far that is."""
    study = _Study()
    for row in rows:
        study.add(row)
    states = study.states
    return {
        "studyInstanceUID": study_instance_uid,
        "receivedCount": states.total(),
        "waitingCount": states[InstanceState.RECEIVED],
        "importingCount": states[InstanceState.IMPORTING],
        "importedCount": states[InstanceState.IMPORTED],
        "failedCount": states[InstanceState.FAILED],
        "deletedCount": states[InstanceState.DELETED],
        "nonPrimaryCount": study.non_primary,
        "instanceCount": len(study.contents),
        "conflictCount": sum(len(contents) > 1 for contents in study.contents.values()),
        "jobCount": len(study.jobs),
        "batchCount": len(study.batches),
        "jobIds": sorted(study.jobs)[:MAX_IDS],
        "batchIds": sorted(study.batches)[-MAX_IDS:],
        "failed": study.failed,
        "conflicts": study.conflicts,
    }
